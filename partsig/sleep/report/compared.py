"""Scorings of the same recordings, laid on a store's epochs: what scorers are compared on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from partsig.data.signals.hypnograms.stages import SLEEP, STAGES, UNSCORED
from partsig.data.signals.store import Store
from partsig.errors import ConfigError, DataError
from partsig.metrics.agreement import confusion
from partsig.sleep.report.agreement import age_of
from partsig.sleep.report.scorers import find_files, read_scorer
from partsig.sleep.settings import ReportConfig

# What a store's own labels are called among the scorers.
STORE = "store"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRecording:
    """One recording by every scorer: (E,) int8 stages on the store's epochs, -1 unscored."""

    name: str
    subject: str
    start_s: float  # from the recording's first sample to epoch 0
    age: float | None
    sex: str
    stages: Mapping[str, np.ndarray]

    @cached_property
    def common(self) -> np.ndarray:
        """Which epochs (E,) have a stage by every scorer; they alone count."""
        return np.all([stages != UNSCORED for stages in self.stages.values()], axis=0)

    @cached_property
    def n_left_out(self) -> int:
        """Number of epochs that some scored, but not all."""
        some = np.any([stages != UNSCORED for stages in self.stages.values()], axis=0)
        return int((some & ~self.common).sum())

    @cached_property
    def counted(self) -> dict[str, np.ndarray]:
        """Stages by scorer, unscored wherever anybody left an epoch unscored."""
        return {
            name: np.where(self.common, stages, UNSCORED) for name, stages in self.stages.items()
        }

    @cached_property
    def differ(self) -> np.ndarray:
        """Share of the pairs of scorers (E,) that differ; 0 where an epoch does not count."""
        pairs = combinations(self.counted.values(), 2)
        return np.mean([a != b for a, b in pairs], axis=0)

    @cached_property
    def tables(self) -> np.ndarray:
        """Confusion matrices (P, K, K) of every pair of scorers, rows the first one's stages."""
        pairs = combinations(self.counted.values(), 2)
        return np.stack([confusion(a, b, len(STAGES)) for a, b in pairs])


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Recordings with epochs that every scorer scored, and what was left out.

    ``folders`` has every scorer's folder, None for the store's own labels. ``unread`` are the
    store's recordings of which no folder has a file, ``apart`` those without a common epoch.
    """

    store: Path
    folders: dict[str, Path | None]
    recordings: list[ComparedRecording]
    unread: list[str]
    apart: list[str]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair of scorers, in the order of the recordings' tables."""
        return list(combinations(self.folders, 2))


def gather(store: Store, folders: Mapping[str, Path], settings: ReportConfig) -> Compared:
    """Return what these scorers, and the store's own labels if it has any, are compared on.

    A recording counts when a folder has a file of it; then all need one. Raises ConfigError when
    fewer than two scorings are there, and DataError when files are missing or do not fit.
    """
    if store.label_facts != SLEEP:
        raise DataError(
            f"{store.path} has the classes {', '.join(store.classes)}; hypnograms need a store of "
            f"{SLEEP.unit_s:g}-s epochs of {', '.join(SLEEP.classes)}."
        )
    if STORE in folders:
        raise ConfigError(
            f"--scorer {STORE} has the name of the store's own labels; give this scorer another."
        )
    found = [
        find_files(scorer, place, store.recordings, settings.hypnogram, store)
        for scorer, place in folders.items()
    ]
    names = [name for name in store.recordings if any(name in files for files in found)]
    scored = store.recordings
    labelled = any(scored[name]["n_epochs"] > scored[name]["unscored"] for name in names)
    own = settings.store_labels and (labelled or not names)
    if not folders or len(folders) + own < 2:
        raise ConfigError(
            "without a run, scorers are held against each other: pass --scorer NAME=FOLDER twice "
            f"or more, or once where {store.path} has stages of these recordings itself (and "
            "store_labels is not false)."
        )
    if not names:
        examples = ", ".join(list(store.recordings)[:3])
        raise DataError(
            f"no scorer's folder has a hypnogram of a recording of {store.path}; files are called "
            f"as its recordings are ({examples}, …): pass another --store, or --set "
            "hypnogram.pattern=…."
        )
    scorings = {
        scorer: read_scorer(scorer, place, store, names, settings.hypnogram)
        for scorer, place in folders.items()
    }
    if own:
        scorings[STORE] = {name: store.labels(name) for name in names}
    recordings = [_compared(scored[name], scorings) for name in names]
    kept = [recording for recording in recordings if recording.common.any()]
    if not kept:
        mend = "; --set store_labels=false leaves the store's out" if own else ""
        raise DataError(f"no epoch has a stage by each of {', '.join(scorings)}{mend}.")
    return Compared(
        store=store.path,
        folders={scorer: folders.get(scorer) for scorer in scorings},
        recordings=kept,
        unread=[name for name in store.recordings if name not in set(names)],
        apart=[recording.name for recording in recordings if not recording.common.any()],
    )


def _compared(row: Mapping, scorings: Mapping[str, Mapping[str, np.ndarray]]) -> ComparedRecording:
    name = row["recording"]
    return ComparedRecording(
        name=name,
        subject=row["subject"],
        start_s=float(row["start_s"] or 0.0),
        age=age_of(row),
        sex=str(row["sex"] or ""),
        stages={scorer: scoring[name] for scorer, scoring in scorings.items()},
    )


def by_subject(recordings: Sequence[ComparedRecording]) -> list[np.ndarray]:
    """Return every subject's confusion matrices (P, K, K), summed over recordings."""
    units: dict[str, np.ndarray] = {}
    for recording in recordings:
        units[recording.subject] = units.get(recording.subject, 0) + recording.tables
    return list(units.values())
