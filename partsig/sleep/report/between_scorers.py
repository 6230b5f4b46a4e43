"""How far scorers of the same recordings agree, and where they do not: figures of a report.

Every figure is of the epochs that all of them scored; intervals are over subjects.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.metrics.agreement import accuracy, f1_per_class, kappa, or_none
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.places import place_name
from partsig.runs import directory as runs
from partsig.sleep.html import stretches
from partsig.sleep.report import statistics
from partsig.sleep.report.agreement import kappa_of, measure
from partsig.sleep.report.compared import Compared, ComparedRecording, by_subject
from partsig.sleep.report.measures import finite
from partsig.sleep.report.statistics import STATISTICS

LONGEST = 5  # stretches of disagreement listed per recording


@dataclass(frozen=True, kw_only=True)
class ScorerFacts:
    """One scorer: whose files, how much they scored, and how they agree with the others.

    ``with_others`` is the mean kappa of the pairs with this scorer, ``gap`` that less the mean of
    the pairs without; None of two scorers. ``statistics`` are mean, SD and number of recordings.
    """

    name: str
    folder: str | None
    n_epochs: int
    with_others: dict | None
    gap: dict | None
    statistics: dict[str, dict]


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """Two scorers: agreement, F1 by stage, and sleep statistics, second less first."""

    first: str
    second: str
    kappa: dict
    accuracy: dict
    f1: dict[str, dict]
    confusion: list[list[int]]
    bland_altman: dict[str, dict]

    @property
    def label(self) -> str:
        """Both names as text."""
        return f"{self.first} and {self.second}"

    @property
    def identical(self) -> bool:
        """Whether both give the same stage to every epoch."""
        return bool(np.trace(self.confusion) == np.sum(self.confusion))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive epochs on which scorers differ, and what each called most of them."""

    epoch: int
    onset_s: float
    n_epochs: int
    stages: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RecordingFacts:
    """One recording: kappa of all scorers and of every pair, None where it is undefined.

    ``differ`` is the share of the epochs to which not all give the same stage.
    """

    recording: str
    subject: str
    age: float | None
    sex: str | None
    n_epochs: int
    n_left_out: int
    n_stages: int
    kappa: float | None
    pairs: list[float | None]
    differ: float
    statistics: dict[str, dict[str, float]]
    stretches: list[Stretch]


@dataclass(frozen=True, kw_only=True)
class Confused:
    """Two stages that scorers tell apart differently: how often, over all pairs of scorers."""

    stages: tuple[str, str]
    n: int
    share: float


@dataclass(frozen=True, kw_only=True)
class BetweenScorers:
    """All figures of a report of scorers against each other.

    ``kappa`` is Cohen's of two scorers and Fleiss' of more (``measure`` says which), ``pair_kappa``
    the mean of all pairs' Cohen's kappa, ``unanimous`` the share of epochs to which all give one
    stage. ``n_left_out`` epochs were scored by some scorers only.
    """

    date: str
    environment: dict[str, str]
    store: str
    measure: str
    kappa: dict
    pair_kappa: dict
    unanimous: dict
    scorers: list[ScorerFacts]
    pairs: list[PairFacts]
    confused: list[Confused]
    n_subjects: int
    n_recordings: int
    n_epochs: int
    n_left_out: int
    n_short: int
    unread: list[str]
    apart: list[str]
    bootstrap: dict
    recordings: list[RecordingFacts]

    @property
    def names(self) -> list[str]:
        """The scorers' names."""
        return [scorer.name for scorer in self.scorers]

    def as_facts(self) -> dict:
        """Return everything as JSON can hold it: None for nan."""
        return finite(asdict(self))


def overall(tables: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of one pair of scorers, Fleiss' of the pairs (…, P, K, K) of several.

    Where all score every epoch, Fleiss' observed agreement is the mean of the pairs', and chance is
    that of the stages' shares over all scorers (Fleiss 1971, doi 10.1037/h0031619): Cohen's
    formula on the sum of all pairs' tables, each counted both ways round.

    >>> pairs = np.array([[[4, 0], [0, 4]], [[3, 1], [1, 3]], [[3, 1], [1, 3]]])
    >>> round(float(overall(pairs)), 4)
    0.6667
    """
    if tables.shape[-3] == 1:
        return kappa(tables[..., 0, :, :])
    pooled = tables.sum(-3)
    return kappa(pooled + np.swapaxes(pooled, -1, -2))


def compare(compared: Compared, seed: int) -> BetweenScorers:
    """Return every figure on scorers of the same recordings."""
    recordings, pairs = compared.recordings, compared.pairs
    units = by_subject(recordings)
    stats = {
        scorer: {r.name: statistics.sleep_statistics(r.counted[scorer]) for r in recordings}
        for scorer in compared.folders
    }
    subjects = {recording.name: recording.subject for recording in recordings}
    rows = [_recording(recording, stats) for recording in recordings]
    rows.sort(key=lambda row: (row.kappa is None, row.kappa, row.recording))
    return BetweenScorers(
        date=runs.now(),
        environment=runs.environment(),
        store=place_name(compared.store),
        measure="Cohen's kappa" if len(pairs) == 1 else "Fleiss' kappa",
        kappa=measure(units, overall, seed),
        pair_kappa=measure(units, lambda t: kappa(t).mean(-1), seed),
        unanimous=measure(_unanimous(recordings), lambda t: t[..., 0] / t[..., 1], seed),
        scorers=[_scorer(name, compared, units, stats[name], seed) for name in compared.folders],
        pairs=[
            _pair(pair, [unit[k : k + 1] for unit in units], stats, subjects, seed)
            for k, pair in enumerate(pairs)
        ],
        confused=_confused(np.sum(units, axis=(0, 1))),
        n_subjects=len(units),
        n_recordings=len(recordings),
        n_epochs=sum(row.n_epochs for row in rows),
        n_left_out=sum(row.n_left_out for row in rows),
        n_short=sum(row.n_epochs * EPOCH_S < 3600 * statistics.NIGHT_H for row in rows),
        unread=compared.unread,
        apart=compared.apart,
        bootstrap={"unit": "subject", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
        recordings=rows,
    )


def _unanimous(recordings: Sequence[ComparedRecording]) -> list[np.ndarray]:
    """Return per subject (2,): epochs to which all give one stage, and all epochs that count."""
    units: dict[str, np.ndarray] = {}
    for recording in recordings:
        n, differing = int(recording.common.sum()), int((recording.differ > 0).sum())
        units[recording.subject] = units.get(recording.subject, 0) + np.array([n - differing, n])
    return list(units.values())


def _scorer(
    name: str, compared: Compared, units: list[np.ndarray], stats: dict[str, dict], seed: int
) -> ScorerFacts:
    with_one = np.array([name in pair for pair in compared.pairs])
    several = not with_one.all()
    folder = compared.folders[name]
    values = {key: np.array([row[key] for row in stats.values()]) for key in STATISTICS}
    return ScorerFacts(
        name=name,
        folder=None if folder is None else place_name(folder),
        n_epochs=sum(int((r.stages[name] != UNSCORED).sum()) for r in compared.recordings),
        with_others=measure(units, lambda t: kappa(t[..., with_one, :, :]).mean(-1), seed)
        if several
        else None,
        gap=measure(units, lambda t: _gap(kappa(t), with_one), seed) if several else None,
        statistics={key: _spread(column) for key, column in values.items()},
    )


def _gap(kappas: np.ndarray, with_one: np.ndarray) -> np.ndarray:
    """Return the mean of the pairs (…, P) with a scorer less that of the pairs without."""
    return kappas[..., with_one].mean(-1) - kappas[..., ~with_one].mean(-1)


def _spread(values: np.ndarray) -> dict:
    known = values[np.isfinite(values)]
    return {
        "mean": float(known.mean()) if len(known) else None,
        "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
        "n": len(known),
    }


def _pair(
    pair: tuple[str, str],
    units: list[np.ndarray],
    stats: dict[str, dict[str, dict]],
    subjects: dict[str, str],
    seed: int,
) -> PairFacts:
    """Return what two scorers' tables (1, K, K) by subject tell."""
    first, second = pair
    return PairFacts(
        first=first,
        second=second,
        kappa=measure(units, kappa_of(0), seed),
        accuracy=measure(units, lambda t: accuracy(t[..., 0, :, :]), seed),
        f1={
            stage: measure(units, lambda t, k=k: f1_per_class(t[..., 0, :, :])[..., k], seed)
            for k, stage in enumerate(STAGES)
        },
        confusion=np.sum(units, axis=0)[0].tolist(),
        bland_altman=statistics.bland_altman(stats[first], stats[second], subjects),
    )


def _confused(table: np.ndarray) -> list[Confused]:
    """Return how often each two stages were confused in a table (K, K), the most often first."""
    both = table + table.T
    whole = int(both[np.triu_indices(len(STAGES), 1)].sum())
    rows = [
        Confused(stages=(STAGES[i], STAGES[j]), n=int(both[i, j]), share=float(both[i, j] / whole))
        for i, j in combinations(range(len(STAGES)), 2)
        if both[i, j]
    ]
    return sorted(rows, key=lambda row: -row.n)


def _recording(recording: ComparedRecording, stats: dict[str, dict[str, dict]]) -> RecordingFacts:
    n = int(recording.common.sum())
    given = np.unique(np.stack(list(recording.counted.values()))[:, recording.common])
    return RecordingFacts(
        recording=recording.name,
        subject=recording.subject,
        age=recording.age,
        sex=recording.sex or None,
        n_epochs=n,
        n_left_out=recording.n_left_out,
        n_stages=len(given),
        kappa=or_none(overall(recording.tables)),
        pairs=[or_none(value) for value in kappa(recording.tables)],
        differ=float((recording.differ > 0).sum() / n),
        statistics={scorer: rows[recording.name] for scorer, rows in stats.items()},
        stretches=_stretches(recording),
    )


def _stretches(recording: ComparedRecording) -> list[Stretch]:
    """Return the longest stretches of epochs on which not all agree, the longest first."""
    found = [(n, start) for differs, start, n in stretches(recording.differ > 0) if differs]
    return [
        Stretch(
            epoch=start,
            onset_s=recording.start_s + EPOCH_S * start,
            n_epochs=n,
            stages={
                scorer: STAGES[np.bincount(stages[start : start + n]).argmax()]
                for scorer, stages in recording.counted.items()
            },
        )
        for n, start in sorted(found, key=lambda item: (-item[0], item[1]))[:LONGEST]
    ]
