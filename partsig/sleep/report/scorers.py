"""Another person's hypnograms of a store's recordings, on the store's epochs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from partsig import commands
from partsig.data.guard import guarded
from partsig.data.signals.hypnograms.alignment import placed, to_epochs
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.scorers import consensus
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.data.signals.readers.beside import find_scorings
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
    files = find_files(scorer, folder, names, settings, store)
    missing = [name for name in names if name not in files]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"--scorer {scorer}: {folder} has no hypnogram of {', '.join(missing[:3])}{more}; each "
            f"of the {len(names)} recordings of this report needs one."
        )
    with _told_of(scorer):
        return {
            name: _on_epochs(name, _placed(name, beside, store, settings), store)
            for name, beside in files.items()
        }


def find_files(
    scorer: str, folder: Path, recordings: Iterable[str], settings: HypnogramConfig, store: Store
) -> dict[str, dict[str, Path]]:
    """Return a scorer's file of each recording that has one; several for a consensus, by scorer.

    Raises DataError when the folder is missing, and when several files could be one recording's.
    """
    if not folder.is_dir():
        raise DataError(f"--scorer {scorer}: there is no folder {folder}.")
    with _told_of(scorer):
        files = {
            name: find_scorings(
                folder / f"{name}.edf", settings, str(store.recordings[name]["subject"])
            )
            for name in recordings
        }
    return {name: beside for name, beside in files.items() if beside}


@contextmanager
def _told_of(scorer: str) -> Iterator[None]:
    """Name the scorer in the errors of their files."""
    try:
        with guarded("a hypnogram"):
            yield
    except DataError as error:
        raise DataError(f"--scorer {scorer}: {error}") from None


def _placed(
    name: str, beside: Mapping[str, Path], store: Store, settings: HypnogramConfig
) -> Hypnogram:
    """Return the hypnogram of a recording's file, or the consensus of several, where it lies."""
    row = store.recordings[name]
    start_s, n = float(row["start_s"] or 0.0), row["n_epochs"]
    stated = settings.offset_s
    stated = stated.get(name) if isinstance(stated, Mapping) else stated
    # Whose they are, the names of several files say.
    inside = settings if list(beside) == [""] else replace(settings, scorer="")
    held = {}
    for who, file in beside.items():
        hypnogram = read_hypnogram(file, inside)
        offset_s = stated
        if offset_s is None:
            offset_s = _offset(name, hypnogram, start_s, row["n_samples"] / store.sfreq, n)
        held[who] = placed(hypnogram, offset_s)
    if len(held) > 1:
        return consensus(f"{len(held)} files", held)
    return next(iter(held.values()))


def _on_epochs(name: str, hypnogram: Hypnogram, store: Store) -> np.ndarray:
    """Return the stages of a hypnogram that lies in its place, one for each epoch of the store."""
    row = store.recordings[name]
    start_s, n = float(row["start_s"] or 0.0), row["n_epochs"]
    stages, begin, _ = to_epochs(name, hypnogram, -start_s, n * EPOCH_S)
    shift = begin if begin < EPOCH_S / 2 else begin - EPOCH_S
    if abs(shift) > SAME_S:
        raise DataError(
            f"{name}: the epochs of {hypnogram.place} begin {begin:g} s after the store's; "
            "both must be scored on the same 30-s epochs."
        )
    if shift:
        stages, _, _ = to_epochs(name, hypnogram, -start_s - shift, n * EPOCH_S)
    return stages


def _offset(
    place: str, hypnogram: Hypnogram, start_s: float, length_s: float, n_epochs: int
) -> float:
    """Return the time (s) of the hypnogram's zero in the recording.

    The store does not keep the recording's clock, nor how long after the time in its header the
    first sample lies; so what does not count from the recording's start must be as long as the
    recording, or hold one stage for every epoch of the store.
    """
    durations = np.nan_to_num(hypnogram.durations, nan=0.0)
    end = float((hypnogram.onsets + durations).max(initial=0.0))
    if hypnogram.in_signal:
        return 0.0
    if hypnogram.from_zero and end <= start_s + length_s + EPOCH_S:
        return 0.0
    if hypnogram.from_header:
        if abs(end - (start_s + length_s)) < EPOCH_S:  # a late first sample would make it longer
            return 0.0
        raise DataError(
            f"{place}: the seconds of {hypnogram.place} count from the time in the recording's "
            f"header and end at {end:g} s, the store's at {start_s + length_s:g} s, and no store "
            "keeps how long after that time the first sample lies (0 s but for an EDF+ file that "
            "was cut at its start): state it, with "
            f"{commands.option('hypnogram.offset_s', {place: 'MINUS_SECONDS'})}."
        )
    if abs(end - n_epochs * EPOCH_S) < SAME_S:
        return start_s
    if abs(end - (start_s + length_s)) < EPOCH_S:
        return 0.0
    raise DataError(
        f"{place}: {hypnogram.place} has {end / EPOCH_S:g} epochs, the store {n_epochs} (from "
        f"{start_s:g} s into the recording); pass hypnograms of these recordings with a stage for "
        "every epoch, or with onsets in seconds from the recording's start."
    )
