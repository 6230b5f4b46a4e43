"""Stages among other events: which marks are stages, and how much of the night has other labels.

A scorer's file holds both. A mark that lies within a stage, and is shorter than stages are, is an
event, whatever it is called ("Movement" for 3 s, "REM" for an eye movement). What is neither a
stage nor an event by its label is counted: it may be a stage in words that nobody listed.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from partsig import commands
from partsig.data.signals.hypnograms.codes import BARE, is_ignored, is_prefixed
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED
from partsig.data.signals.hypnograms.times import stepwise
from partsig.errors import DataError
from partsig.text import LONGEST_VALUE, quoted

# Labels of what is scored, done or seen in a night beside its stages, unless they speak of sleep.
EVENT = re.compile(
    r"\blights?[ _-]?o(n|ff|ut)|arous|apn[eo]|hypop|\brera|\bresp|desat|satur|spo2|snor|breath|"
    r"flow|"
    r"effort|spindle|k.?complex|delta|alpha|theta|artefact|artifact|movement|\blegs?\b|limb|\bplm|"
    r"\blm\b|brux|\beyes?\b|blink|cough|swallow|talk|position|supine|prone|\bleft\b|\bright\b|"
    r"upright|\bback\b|lying|impedance|calib|biocal|montage|\bgain|filter|video|camera|record|"
    r"\bstart|\bstop|\bend\b|\bbegin|pause|boundary|new segment|\bbad\b|\bbad_|\bedge|trigger|"
    r"stimul|comment|\bnote\b|marker|\bevent|seizure|spike|heart|cardi|\becg|\bpulse|bathroom|"
    r"toilet|technician|\btech\b|patient|\bcpap|\bmask\b|\bsync",
    re.IGNORECASE,
)
OF_SLEEP = re.compile(
    r"sleep|stage|wake|\bn?rem\b|schlaf|stadium|sommeil|sue[nñ]o|sonno|slaap|sono", re.IGNORECASE
)
# Words for being awake, which alone may stand for a stage.
WAKE = re.compile(r"wach|veil|vigil|despiert|svegli|wakker|vaken|acordad|bdeni", re.IGNORECASE)
# More of the scored time with labels that are not understood is refused.
MOST_UNKNOWN = 0.01
TOLERANCE_S = 0.5
MOST_WORDS = 3  # of a label; more are a comment
NAMED, LONGEST = 6, 200  # labels that a sentence names, characters of one that are looked at


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A label at a time (s), for a duration (s; NaN: not told), and its stage, None for none."""

    onset: float
    duration: float
    label: str
    code: int | None


def stages_among(
    place: str,
    rows: Sequence[Labelled],
    settings: HypnogramConfig,
    start: object = None,
    in_signal: bool = False,
) -> Hypnogram:
    """Return the hypnogram of stages among events, in any order, with notes on other labels.

    Raises DataError where more than 1 % of the scored time has labels that are not understood, and
    what :func:`~.hypnogram.make_hypnogram` raises.
    """
    rows = sorted((r for r in rows if not is_ignored(r.label, settings)), key=lambda r: r.onset)
    known = [row for row in rows if row.code is not None]
    known = _with_steps(_without_inner(known))
    changes = bool(known) and all(math.isnan(row.duration) for row in known if row.code >= 0)
    if changes and any(is_prefixed(row.label) for row in known):
        # Where "Stage N2" holds until the next, a "REM" alone may be an eye movement.
        bare = [row for row in known if row.code >= 0 and not is_prefixed(row.label)]
        known = [row for row in known if row.code < 0 or is_prefixed(row.label)]
        rows = sorted([*rows, *(replace(row, code=None) for row in bare)], key=lambda r: r.onset)
    others = [row for row in rows if row.code is None and not _is_event(row.label)]
    if changes and others:  # a stage holds until whatever may be another
        at = {row.onset for row in known}
        ends = [replace(r, code=UNSCORED, duration=math.nan) for r in others if r.onset not in at]
        known = sorted([*known, *ends], key=lambda row: row.onset)
    notes = _account(place, known, others, changes)
    hypnogram = make_hypnogram(
        place,
        [row.onset for row in known],
        [row.duration for row in known],
        [row.code for row in known],
        start,
        in_signal,
    )
    return replace(hypnogram, notes=tuple(notes))


def _is_event(label: str) -> bool:
    """Tell whether a label is of no stage by its words; numbers alone are triggers."""
    if BARE.fullmatch(label.strip()) or not label.strip():
        return True
    short = label[:LONGEST]
    return EVENT.search(short) is not None and OF_SLEEP.search(short) is None


def _without_inner(rows: list[Labelled]) -> list[Labelled]:
    """Return marks without those within a stage that are shorter than half of what stages are."""
    spans = [row.duration for row in rows if row.code >= 0 and row.duration > 0]
    if not spans or 2 * len(spans) < sum(row.code >= 0 for row in rows):
        return rows
    least = float(np.median(spans)) / 2
    long = [row for row in rows if row.code >= 0 and row.duration >= least]
    onsets = np.array([row.onset for row in long])
    ends = np.maximum.accumulate([row.onset + row.duration for row in long])

    def is_inner(row: Labelled) -> bool:
        lasts = 0.0 if math.isnan(row.duration) else row.duration
        if lasts >= least:
            return False
        last = int(np.searchsorted(onsets, row.onset + TOLERANCE_S, "right")) - 1
        if last < 0 or row.onset >= ends[last] - TOLERANCE_S:
            return False
        return row.onset + lasts <= ends[last] + TOLERANCE_S

    return [row for row in rows if not is_inner(row)]


def _with_steps(rows: list[Labelled]) -> list[Labelled]:
    steps = stepwise(
        [row.onset for row in rows], [row.duration for row in rows], [row.label for row in rows]
    )
    return [replace(row, duration=step) for row, step in zip(rows, steps, strict=True)]


def _account(place: str, known: list[Labelled], others: list[Labelled], changes: bool) -> list[str]:
    """Return a sentence on labels that are not understood; raise DataError where they are many."""
    if not others:
        return []
    scored = [row for row in known if row.code >= 0]
    if changes:
        scored_s, unknown_s = _until_next(scored, known), _until_next(others, known)
    else:
        scored_s, unknown_s = [row.duration for row in scored], _uncovered(others, known)
    seconds: dict[str, list[float]] = {}
    for row, span in zip(others, unknown_s, strict=True):
        seconds.setdefault(row.label.strip(), []).append(span)
    total = math.fsum(scored_s) + math.fsum(unknown_s)
    most_first = sorted(seconds.items(), key=lambda item: -math.fsum(item[1]))
    # What stands there once, or in many words, is a comment, and may speak of the sleeper.
    lasting = {row.label.strip() for row in others if row.duration >= EPOCH_S / 2}
    labels = [item for item in most_first if _is_label(*item, item[0] in lasting)]
    parts = [
        f"{quoted(label)} ({len(spans)}, {math.fsum(spans) / (total or 1.0):.2%})"
        for label, spans in labels[:NAMED]
    ]
    parts += [f"{len(labels) - NAMED} more labels"] if len(labels) > NAMED else []
    comments = [spans for item, spans in most_first if not _is_label(item, spans, item in lasting)]
    n = sum(map(len, comments))
    share = math.fsum(map(math.fsum, comments)) / (total or 1.0)
    parts += [f"comments ({n}, {share:.2%})"] if n else []
    told = ", ".join(parts)
    if scored and math.fsum(unknown_s) > MOST_UNKNOWN * total:
        first = labels[0][0][:LONGEST_VALUE] if labels else "LABEL"
        raise DataError(
            f"{place}: labels that are not understood have {math.fsum(unknown_s) / total:.1%} of "
            f"the scored time, {told}: say what each means, with "
            f"{commands.option('hypnogram.stages', {first: 'STAGE'})} (W, N1, N2, N3, REM or "
            f"unscored), or that it is no stage, with "
            f"{commands.option('hypnogram.ignore', [first])}."
        )
    return [f"labels not understood (how many, of the scored time): {told}"]


def _is_label(label: str, spans: Sequence[float], lasts: bool) -> bool:
    """Tell whether a text may be shown: a stage's in other words, and nobody's comment.

    A word for sleep or wake, or up to three words that say that they are a stage, that stand there
    again, or for half an epoch or more.
    """
    words, short = label.split(), label[:LONGEST]
    if len(words) == 1 and (OF_SLEEP.search(short) or WAKE.search(short)):
        return True
    return len(words) <= MOST_WORDS and (len(spans) > 1 or lasts or is_prefixed(label))


def _until_next(rows: list[Labelled], known: list[Labelled]) -> list[float]:
    """Return the seconds from each mark to the next of the known ones; of the last, an epoch."""
    onsets = np.array([row.onset for row in known])
    following = np.append(onsets, np.inf)[
        np.searchsorted(onsets, [row.onset for row in rows], "right")
    ]
    lasting = [float(at - row.onset) for at, row in zip(following, rows, strict=True)]
    return [EPOCH_S if math.isinf(span) else span for span in lasting]


def _uncovered(rows: list[Labelled], known: list[Labelled]) -> list[float]:
    """Return how long each mark lasts (s) where no known one does."""
    ends, covered = [0.0], [0.0]  # seconds that are covered up to a time, in straight lines
    for row in known:
        end = row.onset + (0.0 if math.isnan(row.duration) else row.duration)
        begin = max(row.onset, ends[-1])
        if end > begin:
            ends += [begin, end]
            covered += [covered[-1], covered[-1] + end - begin]
    uncovered = []
    for row in rows:
        lasts = 0.0 if math.isnan(row.duration) else row.duration
        before, after = np.interp([row.onset, row.onset + lasts], ends, covered)
        uncovered.append(max(lasts - float(after - before), 0.0))
    return uncovered
