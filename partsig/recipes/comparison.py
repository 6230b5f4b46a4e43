"""Runs held side by side: scores, intervals and paired gains by method and budget; the table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsig.cells import as_table
from partsig.config import differences
from partsig.metrics.agreement import macro_f1
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.runs.test_results import EvaluatedRun, PrimaryMetric
from partsig.seeds import Stream, rng_of
from partsig.train.settings import SPEED_KEYS

# How often each unit is drawn, kept for so many units at once: 64 MB, whatever the test set.
AT_ONCE = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method at a budget: its score (kappa, accuracy) over its runs, and what it gains.

    ``score`` and ``sd`` are mean and SD over the runs (draws of labels × pretraining seeds);
    ``interval`` is the 95 % interval of the mean when test subjects (or images) are drawn anew.
    ``gain`` is the mean paired difference to the reference method on the same draws, ``gain_sd``
    its SD over the draws, ``gain_interval`` its interval over test subjects; None for the reference
    itself, and where no draw is shared. ``other_encoder`` says how its encoder differs from the
    reference's: the difference of one that was pretrained and one that was not would then be no
    gain of pretraining, and is not told. ``other_labels``: so many draws of both are of other
    subjects, and not among the pairs. ``n_train`` are the labels that were learned from.
    """

    method: str
    budget: int
    n_runs: int
    n_draws: int
    n_train: int
    score: float
    sd: float | None
    interval: tuple[float, float]
    macro_f1: float
    gain: float | None = None
    gain_sd: float | None = None
    gain_interval: tuple[float, float] | None = None
    other_encoder: str = ""
    other_labels: int = 0


def compare_rows(
    results: Sequence[EvaluatedRun], metric: PrimaryMetric, reference: str, seed: int
) -> list[Row]:
    """Return a row for every method and budget; gains are on the method ``reference``."""
    methods = list(dict.fromkeys(item.method for item in results))
    scores = [
        _Scored(run=item, own=float(metric.score(item.counts.sum(0))), drawn=metric.score(sums))
        for item, sums in zip(results, resampled(results, seed), strict=True)
    ]
    cells: dict[tuple[str, int], list[_Scored]] = {}
    for item in scores:
        cells.setdefault((item.run.method, item.run.budget), []).append(item)
    order = sorted(cells, key=lambda cell: (cell[1] or 10**9, methods.index(cell[0])))
    return [
        _row(cells[cell], cells.get((reference, cell[1])) if cell[0] != reference else None)
        for cell in order
    ]


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A run's score, and what it is in every bootstrap sample, (draws,)."""

    run: EvaluatedRun
    own: float
    drawn: np.ndarray


def resampled(evaluated: Sequence[EvaluatedRun], seed: int) -> list[np.ndarray]:
    """Return each run's counts (draws, *K) summed over the test units of every bootstrap sample.

    The samples are the same for every run.
    """
    n = len(evaluated[0].counts)
    rng = rng_of(Stream.BOOTSTRAP, seed)
    even = np.full(n, 1 / n)
    drawn: list[list[np.ndarray]] = [[] for _ in evaluated]
    each = max(AT_ONCE // n, 1)
    for first in range(0, BOOTSTRAP_DRAWS, each):
        times = rng.multinomial(n, even, size=min(each, BOOTSTRAP_DRAWS - first)).astype(float)
        for sums, item in zip(drawn, evaluated, strict=True):
            sums.append(np.tensordot(times, item.counts, axes=1))
    return [np.concatenate(sums) for sums in drawn]


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of what came of the bootstrap samples, (draws,)."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _by_draw(members: Sequence[_Scored]) -> dict[int, list[_Scored]]:
    by_draw: dict[int, list[_Scored]] = {}
    for item in members:
        by_draw.setdefault(item.run.draw, []).append(item)
    return by_draw


def _means(members: Sequence[_Scored]) -> tuple[float, np.ndarray]:
    """Return the mean score, and its mean in every bootstrap sample."""
    return float(np.mean([m.own for m in members])), np.mean([m.drawn for m in members], axis=0)


def _row(members: list[_Scored], reference: list[_Scored] | None) -> Row:
    own, drawn = _means(members)
    gain: dict = {}
    by_draw, other = _by_draw(members), _by_draw(reference or [])
    both = sorted(set(by_draw) & set(other))
    shared = [draw for draw in both if _same_labels(by_draw[draw] + other[draw])]
    unlike = _unlike(members, reference or [])
    pretrained = {item.run.pretrained for item in (*members, *(reference or []))}
    if shared and not (unlike and len(pretrained) > 1):
        # Every draw of labels counts once, however many pretraining seeds it was met with.
        pairs = [(_means(by_draw[draw]), _means(other[draw])) for draw in shared]
        each = np.array([mine[0] - theirs[0] for mine, theirs in pairs])
        between = np.mean([mine[1] - theirs[1] for mine, theirs in pairs], axis=0)
        gain = {
            "gain": float(each.mean()),
            "gain_sd": _sd(each),
            "gain_interval": interval(between),
        }
    first = members[0].run
    return Row(
        method=first.method,
        budget=first.budget,
        n_runs=len(members),
        n_draws=len(by_draw),
        n_train=round(float(np.mean([item.run.n_train for item in members]))),
        score=own,
        sd=_sd(np.array([item.own for item in members])),
        interval=interval(drawn),
        macro_f1=float(np.mean([macro_f1(item.run.confusion) for item in members])),
        other_encoder=unlike,
        other_labels=len(both) - len(shared),
        **gain,
    )


def _same_labels(members: Sequence[_Scored]) -> bool:
    """Tell whether these have learned from the labels of the same subjects."""
    return len({item.run.labelled for item in members}) == 1


def _unlike(members: Sequence[_Scored], reference: Sequence[_Scored]) -> str:
    """Return how a method's encoder differs from the reference's; nothing where it does not."""
    told: dict[str, None] = {}
    for theirs in reference:
        for mine in members:
            if mine.run.encoder is not None and theirs.run.encoder is not None:
                told |= dict.fromkeys(differences(theirs.run.encoder, mine.run.encoder))
    return "; ".join(line.replace(", now ", ", here ") for line in told)


def other_settings(results: Sequence[EvaluatedRun], of: str = "") -> str:
    """Return in which settings, of speed apart, runs differ that stand in one row; else nothing.

    ``of``: what is said of where they stand, in place of the budget.
    """
    rows: dict[tuple[str, int], dict[str, None]] = {}
    first: dict[tuple[str, int], EvaluatedRun] = {}
    for item in results:
        row = item.method, item.budget
        lines = differences(first.setdefault(row, item).settings, item.settings)
        told = rows.setdefault(row, {})
        told |= {line.replace(", now ", " and "): None for line in lines if _is_told(line)}
    return "".join(
        f"\n\nThe runs of {method} ({of or budget or 'all'}) differ in more than their seeds "
        f"({'; '.join(told)}): their mean is of several methods. Name what differs, as "
        "LABEL=DIRECTORY."
        for (method, budget), told in rows.items()
        if told
    )


def _is_told(line: str) -> bool:
    """Return whether a difference of settings is one of what is learned, and not of speed."""
    return line.partition(":")[0] not in SPEED_KEYS


def as_markdown(
    rows: list[Row],
    reference: str,
    metric: PrimaryMetric,
    unit: str,
    n_units: int,
    n_answers: int,
    seed: int,
) -> str:
    name, units, answers = metric.name, metric.units, metric.answers
    lines = [
        f"| labels ({unit}) | method | runs | {name}, mean ± SD | 95 % over {units} | macro-F1 | "
        f"gain on {reference} ± SD over seeds | 95 % over {units} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sd = "" if row.sd is None else f" ± {row.sd:.3f}"
        gain = between = ""
        if row.gain is not None:
            gain = f"{row.gain:+.3f}" + ("" if row.gain_sd is None else f" ± {row.gain_sd:.3f}")
            low, high = row.gain_interval
            between = f"{low:+.3f} to {high:+.3f}"
        elif row.other_encoder:
            gain = "another encoder"
        low, high = row.interval
        own = f"{low:.3f} to {high:.3f}"
        if n_units < 2:
            own, between = "no interval", between and "no interval"
        lines.append(
            f"| {row.budget or 'all'} ({row.n_train:,} {answers}) | {row.method} | {row.n_runs} "
            f"| {row.score:.3f}{sd} | {own} | {row.macro_f1:.3f} | {gain} | "
            f"{between} |"
        )
    tested = f"{n_answers:,} {answers}"
    if answers != units:
        tested += f" of {n_units} {units if n_units != 1 else units.removesuffix('s')}"
    lines += [
        "",
        f"Test: {tested}, the same for every row. {name[0].upper() + name[1:]} is pooled over the "
        f"test {answers} of a run; mean ± SD over runs, which differ in their seeds: of the draw "
        f"of the labels, where not all are used, of what is trained, of the pretraining. "
        f"Intervals: bootstrap over test {units} ({BOOTSTRAP_DRAWS:,} samples, seed {seed}), the "
        f"same samples for every run, of the mean over runs. Gains are paired: the same seed, and "
        f"so the same labels; the same test {units}.",
    ]
    lines += [
        f"\n{row.method} ({row.budget or 'all'}) and {reference} learned from other {units} in "
        f"{row.other_labels} of the draws that both have: these are no pairs, and in no gain."
        for row in rows
        if row.other_labels
    ]
    lines += [
        f"\n{row.method} ({row.budget or 'all'}) has another encoder than {reference} "
        f"({row.other_encoder})"
        + (
            ": their difference is no gain of pretraining."
            if row.gain is not None
            else ", and their difference is no gain of pretraining: it is not told. What it is "
            "measured on is `partsig finetune --from scratch --like RUN`."
        )
        for row in rows
        if row.other_encoder
    ]
    return "\n".join(lines)


def as_csv(rows: list[Row], measure: str) -> str:
    plain = ["method", "budget", "n_runs", "n_draws", "n_train", "score", "sd", "macro_f1"]
    ends = ["low", "high", "gain", "gain_sd", "gain_low", "gain_high"]
    names = [*plain, *ends, "other_encoder"]
    columns = [measure if name == "score" else name for name in names]
    table = []
    for row in rows:
        values = [getattr(row, name) for name in plain] + [*row.interval, row.gain, row.gain_sd]
        values += [*(row.gain_interval or (None, None)), row.other_encoder]
        table.append(
            [f"{v:.5f}" if isinstance(v, float) else "" if v is None else v for v in values]
        )
    return as_table(columns, table)
