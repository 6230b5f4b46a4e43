"""Another person's hypnograms of a store's recordings, on the store's epochs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from partsig.data.guard import guarded
from partsig.data.signals.hypnograms.alignment import to_epochs
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.data.signals.readers.edf_recordings import find_hypnogram
from partsig.data.signals.store import Store
from partsig.errors import ConfigError, DataError

# Starts that differ by less are one.
SAME_S = 0.5


def parse(scorers: Iterable[str]) -> dict[str, Path]:
    """Return folders by name from ``NAME=FOLDER`` texts; raise ConfigError for any other.

    >>> len(parse(["anna=scores/anna", "b=scores/b"]))
    2
    """
    folders: dict[str, Path] = {}
    for text in scorers:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"--scorer is {text!r}; it is NAME=FOLDER, such as anna=scores/anna.")
        if name in folders:
            raise ConfigError(f"--scorer {name} is given twice; give each scorer a name of theirs.")
        folders[name] = Path(folder)
    return folders


def read_scorer(
    scorer: str, folder: Path, store: Store, recordings: Iterable[str], settings: HypnogramConfig
) -> dict[str, np.ndarray]:
    """Return stages (E,) int8 by recording, -1 unscored, one for each epoch of the store.

    Files are found by the recording's name, as those beside an EDF recording are. Raises DataError
    when the folder or a recording's file is missing, and when a file cannot be laid on the epochs.
    """
    names = list(recordings)
    files = find_files(scorer, folder, names, settings)
    missing = [name for name in names if name not in files]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"--scorer {scorer}: {folder} has no hypnogram of {', '.join(missing[:3])}{more}; each "
            f"of the {len(names)} recordings of this report needs one."
        )
    with _told_of(scorer):
        return {
            name: _on_epochs(name, read_hypnogram(file, settings), store, settings)
            for name, file in files.items()
        }


def find_files(
    scorer: str, folder: Path, recordings: Iterable[str], settings: HypnogramConfig
) -> dict[str, Path]:
    """Return a scorer's file of each recording that has one.

    Raises DataError when the folder is missing, and when several files could be one recording's.
    """
    if not folder.is_dir():
        raise DataError(f"--scorer {scorer}: there is no folder {folder}.")
    with _told_of(scorer):
        files = {name: find_hypnogram(folder / f"{name}.edf", settings) for name in recordings}
    return {name: file for name, file in files.items() if file is not None}


@contextmanager
def _told_of(scorer: str) -> Iterator[None]:
    """Name the scorer in the errors of their files."""
    try:
        with guarded("a hypnogram"):
            yield
    except DataError as error:
        raise DataError(f"--scorer {scorer}: {error}") from None


def _on_epochs(
    name: str, hypnogram: Hypnogram, store: Store, settings: HypnogramConfig
) -> np.ndarray:
    row = store.recordings[name]
    start_s, n = float(row["start_s"] or 0.0), row["n_epochs"]
    stated = settings.offset_s
    stated = stated.get(name) if isinstance(stated, Mapping) else stated
    if stated is None:
        stated = _offset(name, hypnogram, start_s, row["n_samples"] / store.sfreq, n)
    stages, begin, _ = to_epochs(name, hypnogram, stated - start_s, n * EPOCH_S)
    shift = begin if begin < EPOCH_S / 2 else begin - EPOCH_S
    if abs(shift) > SAME_S:
        raise DataError(
            f"{name}: the epochs of {hypnogram.place} begin {begin:g} s after the store's; "
            "both must be scored on the same 30-s epochs."
        )
    if shift:
        stages, _, _ = to_epochs(name, hypnogram, stated - start_s - shift, n * EPOCH_S)
    return stages


def _offset(
    place: str, hypnogram: Hypnogram, start_s: float, length_s: float, n_epochs: int
) -> float:
    """Return the time (s) of the hypnogram's zero in the recording.

    The store does not keep the recording's clock, so what does not count from the recording's start
    must be as long as the recording, or hold one stage for every epoch of the store.
    """
    durations = np.nan_to_num(hypnogram.durations, nan=0.0)
    end = float((hypnogram.onsets + durations).max(initial=0.0))
    from_start = hypnogram.from_zero or hypnogram.from_header
    if hypnogram.in_signal or (from_start and end <= start_s + length_s + EPOCH_S):
        return 0.0
    if abs(end - n_epochs * EPOCH_S) < SAME_S:
        return start_s
    if abs(end - (start_s + length_s)) < EPOCH_S:
        return 0.0
    raise DataError(
        f"{place}: {hypnogram.place} has {end / EPOCH_S:g} epochs, the store {n_epochs} (from "
        f"{start_s:g} s into the recording); pass hypnograms of these recordings with a stage for "
        "every epoch, or with onsets in seconds from the recording's start."
    )
