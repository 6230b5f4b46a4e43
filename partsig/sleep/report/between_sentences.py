"""What a report of scorers against each other says in sentences, and what it does not tell."""

from collections.abc import Sequence

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.report.agreement import FEW
from partsig.sleep.report.between_scorers import BetweenScorers, PairFacts, ScorerFacts
from partsig.sleep.report.compared import STORE
from partsig.sleep.report.sentences import (
    HUMANS,
    HUMANS_HIGH,
    HUMANS_LOW,
    HUMANS_N1,
    count_noun,
    few_subjects,
    number,
    spread_of_recordings,
    with_interval,
)


def joined(names: Sequence[str]) -> str:
    """Return names as text.

    >>> joined(["anna", "bert", "carl"])
    'anna, bert and carl'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def brief(name: str, most: int) -> str:
    """Return a name as there is room for it, in so many characters.

    >>> brief("anna", 4), brief("annabella", 4)
    ('anna', 'ann…')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def verdict(whole: BetweenScorers) -> list[str]:
    """Return what was found, the most important first, no more than the figures bear."""
    several = len(whole.scorers) > 2
    share = with_interval(whole.unanimous, 0, 100)
    lines = [
        f"On {count_noun(whole.n_subjects)} ({count_noun(whole.n_recordings, 'recording')}, "
        f"{count_noun(whole.n_epochs, 'epoch')} that all of them scored), {joined(whole.names)} "
        f"agree with {whole.measure} {with_interval(whole.kappa)}; in brackets, here and below, "
        f"are 95 % intervals over subjects. {'All give' if several else 'Both give'} the same "
        f"stage to {share} % of the epochs."
    ]
    lines += [_left_out(whole)] if whole.n_left_out or whole.unread or whole.apart else []
    lines += _pairs(whole) if several else []
    if whole.pair_kappa["value"] is not None:
        lines.append(_elsewhere(whole, several))
    lines += [_same(pair, whole.n_epochs) for pair in whole.pairs if pair.identical]
    lines += spread_of_recordings([r.kappa for r in whole.recordings if r.n_stages > 1])
    lines += few_subjects(whole.n_subjects)
    lines += _where(whole)
    if not _excerpts(whole):
        lines += _sleep_time(whole)
    return lines


def _left_out(whole: BetweenScorers) -> str:
    parts = []
    if whole.n_left_out:
        parts.append(f"{count_noun(whole.n_left_out, 'epoch')} that some of them left unscored")
    if whole.apart:
        parts.append(
            f"{count_noun(len(whole.apart), 'recording')} without an epoch that all of them scored"
        )
    if whole.unread:
        parts.append(
            f"{count_noun(len(whole.unread), 'recording')} of the store of which no scorer's "
            "folder has a file"
        )
    return f"Left out, and counted nowhere: {joined(parts)}."


def _pairs(whole: BetweenScorers) -> list[str]:
    """Return the range of the pairs, and whether one scorer stands apart."""
    known = [pair for pair in whole.pairs if pair.kappa["value"] is not None]
    if not known:
        return []
    low = min(known, key=lambda pair: pair.kappa["value"])
    high = max(known, key=lambda pair: pair.kappa["value"])
    lines = [
        f"Pair by pair, Cohen's kappa goes from {with_interval(low.kappa)} ({low.label}) to "
        f"{with_interval(high.kappa)} ({high.label})."
    ]
    apart = [scorer for scorer in whole.scorers if scorer.gap["value"] is not None]
    if apart:
        lines.append(_apart(min(apart, key=lambda scorer: scorer.gap["value"])))
    return lines


def _apart(scorer: ScorerFacts) -> str:
    low, high = scorer.gap["interval_95"]
    if low is None:
        conclusion = "too few subjects to say more"
    elif high < 0:
        conclusion = (
            "less than the others agree with each other, though whoever is picked as the lowest "
            "looks somewhat lower than they are"
        )
    else:
        conclusion = "no difference could be shown, which does not show that there is none"
    return (
        f"{scorer.name} agrees least with the others: a mean kappa of "
        f"{with_interval(scorer.with_others)}, which differs by {with_interval(scorer.gap)} from "
        f"that of the pairs without {scorer.name}; {conclusion}."
    )


def _elsewhere(whole: BetweenScorers, several: bool) -> str:
    """Return how the pairs compare with people of other studies."""
    low, high = whole.pair_kappa["interval_95"]
    if low is None:
        place = "one subject cannot be compared with that"
    elif high < HUMANS_LOW:
        place = "these scorers stay below that"
    elif low > HUMANS_HIGH:
        place = "these scorers lie above that, as they may where recordings are easy to score"
    else:
        place = "the interval does not tell these scorers from that"
    mean = f" The mean of the pairs here is {with_interval(whole.pair_kappa)}." if several else ""
    return (
        f"Two people who score the same nights reach a kappa of {HUMANS:.2f} ({HUMANS_LOW:.2f} to "
        f"{HUMANS_HIGH:.2f}) in other studies: {place}.{mean}"
    )


def _same(pair: PairFacts, n: int) -> str:
    return (
        f"{pair.label} give the same stage to each of the {count_noun(n, 'epoch')}: two people "
        "hardly do, so see whether these are copies of one scoring."
    )


def _where(whole: BetweenScorers) -> list[str]:
    """Return the stages on which they agree least, and the two they confuse most."""
    lines = []
    f1 = {
        stage: [pair.f1[stage]["value"] for pair in whole.pairs]
        for stage in STAGES
        if all(pair.f1[stage]["value"] is not None for pair in whole.pairs)
    }
    if f1:
        stage = min(f1, key=lambda stage: np.mean(f1[stage]))
        if len(whole.pairs) == 1:
            told = f"an F1 of {with_interval(whole.pairs[0].f1[stage])}"
        else:
            mean, low, high = (number(f(f1[stage])) for f in (np.mean, min, max))
            told = f"a mean F1 of {mean} over the pairs, from {low} to {high}"
        lines.append(f"They agree least on {stage}: {told}.")
    if whole.confused:
        most = whole.confused[0]
        pairs = "" if len(whole.pairs) == 1 else ", counted over all pairs"
        lines.append(
            f"Of all differences{pairs}, {100 * most.share:.0f} % are between {most.stages[0]} and "
            f"{most.stages[1]}."
        )
    return lines


def _sleep_time(whole: BetweenScorers) -> list[str]:
    """Return how far total sleep time differs between the two scorers who differ most in it."""
    known = [pair for pair in whole.pairs if "bias" in pair.bland_altman["TST"]]
    if not known:
        return []
    pair = max(known, key=lambda pair: abs(pair.bland_altman["TST"]["bias"]))
    row = pair.bland_altman["TST"]
    most = " most" if len(whole.pairs) > 1 else ""
    return [
        f"Total sleep time differs{most} between {pair.label}: by {number(row['bias'], 0)} min on "
        f"average ({pair.second} less {pair.first}), in one recording by "
        f"{number(row['lower'], 0)} to {number(row['upper'], 0)} min (limits of agreement, which "
        "hold 19 recordings of 20)."
    ]


def _excerpts(whole: BetweenScorers) -> bool:
    """Tell whether most recordings are too short for a night."""
    return 2 * whole.n_short > whole.n_recordings


def limits(whole: BetweenScorers) -> list[str]:
    """Return what the page does not tell."""
    lines = [
        "Who is right. Agreement needs no truth: scorers of one school may share their errors, and "
        "whoever differs from the others may have seen more.",
        "How far other people agree, or these on other recordings: intervals are over the subjects "
        "of this store, and these scorers are given.",
        "Whether kappa is better here than elsewhere. It depends on how often each stage occurs: "
        "nights of healthy and of ill sleepers differ in it with the same scorers.",
        f"Much on N1: people agree on it with a kappa of {HUMANS_N1:.2f} only, and latencies hang "
        "on single epochs, often of N1.",
    ]
    if any(scorer.folder is None for scorer in whole.scorers):
        lines.append(
            f"Whether {STORE}, the labels of {whole.store}, is a scoring of its own. Where they "
            "come from one of the scorers here, or are what several agreed on, they are no second "
            "opinion, and --set store_labels=false leaves them out."
        )
    if _excerpts(whole):
        lines.append(
            "How nights differ: most of these recordings are excerpts of less than six hours."
        )
    if whole.n_subjects < FEW:
        lines.append(
            f"Whether a difference of scorers would last: {count_noun(whole.n_subjects)} may all "
            "be of one kind."
        )
    return lines
