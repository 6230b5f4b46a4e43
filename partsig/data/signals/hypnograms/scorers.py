"""Several scorers of one recording: the one who is asked for, or what most of them say.

The consensus is that of the Dreem Open Datasets (Guillot et al. 2020, doi
10.1109/TNSRE.2020.3011181): at every time the stage that most scorers gave, "not scored" being one
of the answers. Where several have as many votes, it is the answer of the most agreeing scorer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from partsig import commands
from partsig.data.signals.hypnograms.alignment import spans_of
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import CONSENSUS, HypnogramConfig
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.data.signals.readers.edf_header import LONGEST_S
from partsig.errors import DataError
from partsig.text import shown

# Of two, each difference is a tie: there is no majority.
LEAST = 3
SHOWN = 8  # scorers that a sentence names
# Ends of stages that differ by less (s) are one.
SAME_S = 1e-6

Scoring = TypeVar("Scoring")


@dataclass(frozen=True, kw_only=True)
class Majority:
    """What most of S scorers say at K times.

    ``agreement`` (S,) is how far each agrees with the others, 0 to 1; ``tied`` (K,) bool is where
    several answers had most votes, ``unanimous`` (K,) where all gave one.
    """

    stages: np.ndarray
    agreement: np.ndarray
    tied: np.ndarray
    unanimous: np.ndarray


def majority(stages: np.ndarray, weights: np.ndarray | None = None) -> Majority:
    """Return the consensus of ``stages`` (S, K) int8, -1 unscored, at times of these ``weights``.

    A scorer's agreement is the mean over time of the votes that others gave the scorer's answer, as
    a share of those that the others' most frequent answer has (*soft agreement*). It is of this
    recording alone; of equally agreeing scorers the first counts.

    *Differs from the authors' code*: where votes are tied, that takes the most agreeing scorer's
    answer even if nobody else gave it; here, that of the most agreeing of those whose answer is
    among the tied.

    >>> majority(np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [4, 2, 3]], np.int8)).stages.tolist()
    [0, 1, 3]
    """
    weights = np.ones(stages.shape[1]) if weights is None else weights
    votes = np.zeros((len(STAGES) + 1, stages.shape[1]), int)  # (K + 1, times), unscored first
    at = np.arange(stages.shape[1])
    for row in stages:
        votes[row + 1, at] += 1
    agreement = np.zeros(len(stages))
    total = weights.sum() or 1.0
    for s, row in enumerate(stages):
        others = votes.copy()
        others[row + 1, at] -= 1
        agreement[s] = (weights * others[row + 1, at] / np.maximum(others.max(0), 1)).sum() / total
    most = votes.max(0)
    leading = votes == most
    found = np.full(stages.shape[1], UNSCORED, np.int8)
    for row in stages[np.argsort(-agreement, kind="stable")][::-1]:  # the most agreeing has the
        here = leading[row + 1, at]  # last word
        found[here] = row[here]
    return Majority(
        stages=found,
        agreement=agreement,
        tied=leading.sum(0) > 1,
        unanimous=most == len(stages),
    )


def choose(
    place: str, scorings: Mapping[str, Scoring], settings: HypnogramConfig
) -> dict[str, Scoring]:
    """Return the scorings that are asked for: one, or all of them for a consensus.

    A scorer without a name, "", is all there is in most files. Raises DataError where several are
    there and nobody said which, where the one asked for is not, and where a consensus is asked for
    and fewer than three are there.
    """
    wanted, names = settings.scorer, list(scorings)
    if not wanted:
        if len(names) == 1:
            return dict(scorings)
        consensus = f", or {CONSENSUS}" if len(names) >= LEAST else ""
        raise DataError(
            f"{place}: the stages of {len(names)} scorers, {_listed(names)}: say whose, with "
            f"{commands.text_option('hypnogram.scorer', names[0])} (or another's name{consensus})."
        )
    if names == [""]:
        raise DataError(
            f"{place} does not tell whose its stages are, and hypnogram.scorer asks for {wanted}: "
            "leave that out for this recording."
        )
    if wanted == CONSENSUS:
        if len(names) < LEAST:
            raise DataError(
                f"{place}: a consensus is of {LEAST} scorers or more, and there is only "
                f"{_listed(names)}: say whose stages, with "
                f"{commands.text_option('hypnogram.scorer', names[0])}."
            )
        return dict(scorings)
    same = [name for name in names if name.casefold() == wanted.casefold()]
    exact = [wanted] if wanted in scorings else same
    if len(exact) != 1:
        raise DataError(
            f"{place}: no stages by {shown(wanted, 80)}; there are those of {_listed(names)}."
        )
    return {exact[0]: scorings[exact[0]]}


def settle(place: str, scorings: Mapping[str, Hypnogram], settings: HypnogramConfig) -> Hypnogram:
    """Return the one hypnogram that is asked for, of scorings that count from one zero.

    Raises what :func:`choose` and :func:`consensus` raise.
    """
    chosen = choose(place, scorings, settings)
    if len(chosen) > 1:
        return consensus(place, chosen)
    name, hypnogram = next(iter(chosen.items()))
    if len(scorings) == 1:
        return hypnogram
    others = [other for other in scorings if other != name]
    told = f"the stages of {shown(name, 80)}; not used: those of {_listed(others)}"
    return replace(hypnogram, notes=(told, *hypnogram.notes))


def consensus(place: str, scorings: Mapping[str, Hypnogram]) -> Hypnogram:
    """Return what most scorers say, of hypnograms that count from one zero.

    The vote is taken between all times at which anybody's stage changes, so that neither a grid nor
    an epoch's length is needed. Raises DataError where a scorer gives two stages to one time.
    """
    held = [_pieces(place, name, hypnogram) for name, hypnogram in scorings.items()]
    edges = np.unique(np.concatenate([np.ravel(spans) for pieces in held for spans in pieces[:2]]))
    edges = edges[np.append(True, np.diff(edges) > SAME_S)] if len(edges) else edges
    begins, ends = edges[:-1], edges[1:]
    stages = np.stack([_stages_at((begins + ends) / 2, *pieces) for pieces in held])
    spans = ends - begins
    known = ends < LONGEST_S  # the last may hold until a recording's end that nobody knows yet
    counted = spans * known * (stages != UNSCORED).any(0)
    voted = majority(stages, counted)
    first = next(iter(scorings.values()))
    durations = np.where(known, spans, np.nan)
    notes = [note for hypnogram in scorings.values() for note in hypnogram.notes]
    return replace(
        first,
        onsets=begins,
        durations=durations,
        stages=voted.stages,
        place=place,
        notes=(_in_words(list(scorings), voted, counted), *dict.fromkeys(notes)),
    )


def _pieces(
    place: str, name: str, hypnogram: Hypnogram
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (start, stop) (n, 2) s of scored stretches and of unscored ones, and stages (n,)."""
    whose = replace(hypnogram, place=f"{hypnogram.place} (by {shown(name, 80)})")
    scored, unscored = spans_of(place, whose, 0.0, LONGEST_S)
    spans = np.array([span[:2] for span in scored], float).reshape(-1, 2)
    # Half a second of overlap is rounding, and the later stage begins where it says.
    spans[:-1, 1] = np.minimum(spans[:-1, 1], spans[1:, 0])
    codes = np.array([code for *_, code in scored], np.int8)
    return spans, np.array(unscored, float).reshape(-1, 2), codes


def _stages_at(
    at: np.ndarray, spans: np.ndarray, unscored: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Return the stage (K,) at each time (K,) s; what is said to be unscored wins."""
    last = np.searchsorted(spans[:, 0], at, "right") - 1
    inside = (last >= 0) & (at < spans[last, 1]) if len(spans) else np.zeros(len(at), bool)
    stages = np.full(len(at), UNSCORED, np.int8)
    stages[inside] = codes[last[inside]]
    for start, stop in unscored:
        stages[(at > start) & (at < stop)] = UNSCORED
    return stages


def _in_words(names: Sequence[str], voted: Majority, weights: np.ndarray) -> str:
    total = float(weights.sum()) or 1.0
    order = np.argsort(-voted.agreement, kind="stable")
    ranked = ", ".join(f"{shown(names[s], 80)} {voted.agreement[s]:.3f}" for s in order[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    alike, tied = (
        float((weights * there).sum()) / total for there in (voted.unanimous, voted.tied)
    )
    return (
        f"consensus of {len(names)} scorers, the majority: all agree for {alike:.1%} of the scored "
        f"time, {tied:.1%} had a tie, which the more agreeing scorer decided (agreement with the "
        f"others: {ranked}{more})"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown(name, 80) for name in names[:SHOWN]) + more
