"""The store: continuous band-passed signals and their labels, one file each per recording.

::

    STORE/ meta.json            format version, modality, sfreq, ch_names, unit, filter, provenance
           index.csv            one row per recording: who, how long, which stages, its state;
                                start_s: where the store's first sample lies in the recording;
                                fingerprint: what tells it under another name (landmarks.py);
                                gaps: stretches without signal, bridged (s, from there)
           signals/REC.npy      (C, T) float16 or float32, µV, memory-mapped
           labels/REC.npy       (E,) int8, the class of every epoch (as long as meta.json's
                                labels say: 30 s of sleep), -1 unscored
           shards/I-of-N.csv    while several machines write: the index of each
         split.csv            where the source has a split of its own: subject, role (test or val)

A row of the index with status ``ok`` is written after both of its files are whole, so whatever
moment a writer is killed at, what the index names can be read. Here a store is read;
:mod:`~partsig.data.signals.store_writing` writes it, and
:mod:`~partsig.data.signals.store_index` reads and writes its index.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from partsig import regular
from partsig.cells import read_rows
from partsig.contracts import UNLABELLED, Labels, labels_of
from partsig.data.copies import array_sha256_of
from partsig.data.mapped import MappedArrays, map_array, unreadable
from partsig.data.signals.landmarks import find_twins
from partsig.data.signals.scaling import unit_of
from partsig.data.signals.store_index import (
    GAPS,
    SPLIT,
    gaps_of_text,
    index_path,
    read_index,
    read_signal_meta,
    unbroken,
)
from partsig.data.store import OK
from partsig.data.twins import grouped
from partsig.errors import DataError

# What a subject may be in a store's own split; who trains need not be named.
ROLES = ("test", "val", "train")


@dataclass(frozen=True)
class Store:
    """A store opened for reading; of its signals only what is asked for is read."""

    path: Path
    meta: dict
    rows: tuple[dict, ...] = field(repr=False)  # status ok only

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.meta["sfreq"])

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channel names in the order of the signals' rows."""
        return tuple(self.meta["ch_names"])

    @cached_property
    def recordings(self) -> dict[str, dict]:
        """The index rows by recording name."""
        return {row["recording"]: row for row in self.rows}

    @cached_property
    def subjects(self) -> dict[str, list[str]]:
        """Recording names by subject, both sorted."""
        recordings: dict[str, list[str]] = {}
        for row in self.rows:
            recordings.setdefault(row["subject"], []).append(row["recording"])
        return {subject: sorted(recordings[subject]) for subject in sorted(recordings)}

    @cached_property
    def twins(self) -> dict[str, str]:
        """Whom a subject counts as, where a recording of theirs is there under another name."""
        subjects = {row["recording"]: row["subject"] for row in self.rows}
        pairs = ((subjects[one], subjects[other]) for one, other in find_twins(self.rows))
        return grouped(pairs)

    @cached_property
    def labelled_subjects(self) -> list[str]:
        """Subjects with at least one scored epoch, sorted."""
        scored = {row["subject"] for row in self.rows if row["n_epochs"] > row["unscored"]}
        return sorted(scored)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """The source's own split: subjects by role (test, val), sorted; empty where it has none."""
        file = self.path / SPLIT
        members: dict[str, set[str]] = {}
        if file.is_file():
            try:
                with regular.open_text(file, newline="") as handle:
                    for row in read_rows(handle):
                        role, subject = (row.get(key) or "" for key in ("role", "subject"))
                        members.setdefault(role, set()).add(subject)
            except (OSError, csv.Error) as error:
                raise DataError(f"{file} is damaged ({error}).") from error
        for role, names in members.items():
            if role not in ROLES:
                raise DataError(
                    f"{file} has the role {role!r}; its columns are subject and role, and a role "
                    f"can be {', '.join(ROLES)}."
                )
            if not names & set(self.subjects):
                raise DataError(
                    f"{file} names no subject of the store as {role} ({min(names)}, …); index.csv "
                    "has their names."
                )
        return {role: sorted(names & set(self.subjects)) for role, names in members.items()}

    def recordings_of(self, subjects: Iterable[str]) -> list[str]:
        """Return the recordings of these subjects, in their order."""
        return [name for subject in subjects for name in self.subjects[subject]]

    @cached_property
    def label_facts(self) -> Labels:
        """What its labels are."""
        return labels_of(self.meta)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label."""
        return self.label_facts.classes

    @property
    def unit(self) -> str:
        """What its values are in: µV, or what they were scaled by."""
        return unit_of(self.meta)

    @property
    def unit_s(self) -> float:
        """Seconds of signal that a label is of."""
        return self.label_facts.unit_s

    def stretches(self, recording: str) -> list[tuple[int, int]]:
        """Return the (first, stop) of a recording's epochs between which nothing is missing.

        All epochs are in one of them; one that a gap touches is alone.
        """
        row = self.recordings[recording]
        return unbroken(gaps_of_text(row[GAPS]), row["n_epochs"], self.unit_s)

    def classes_of(self, recording: str) -> set[int]:
        """Return the classes that occur in a recording's labels."""
        row = self.recordings[recording]
        return {k for k, name in enumerate(self.classes) if row[name] > 0}

    @property
    def dtype(self) -> np.dtype:
        """Type of the signals' samples."""
        return np.dtype(self.meta["dtype"])

    def signal(self, recording: str) -> np.ndarray:
        """Return the signal (C, T) in µV, mapped into memory and read-only; no file stays open."""
        return self._signals[f"{recording}.npy"]

    def check_signals(self, recordings: Iterable[str]) -> None:
        """Raise DataError unless the signals of these recordings are there in their full length."""
        for name in recordings:
            file = self.path / "signals" / f"{name}.npy"
            try:
                size = file.stat().st_size
            except OSError as error:
                raise unreadable(file, error) from error
            n_bytes = len(self.ch_names) * self.recordings[name]["n_samples"] * self.dtype.itemsize
            if size <= n_bytes:
                raise unreadable(file, f"{size:,} bytes, too few for its {n_bytes:,} of signal")

    @cached_property
    def _signals(self) -> MappedArrays:
        lengths = {name: row["n_samples"] for name, row in self.recordings.items()}
        check = partial(
            _check_signal, n_chans=len(self.ch_names), lengths=lengths, dtype=self.dtype
        )
        return MappedArrays(self.path / "signals", check)

    def __getstate__(self) -> dict:
        # Without its maps: a copy in another process makes its own.
        return {key: value for key, value in self.__dict__.items() if key != "_signals"}

    def item_digests(self, recordings: Iterable[str]) -> dict[str, str]:
        """Return what tells each recording's signal and labels from others of its name: 48 bits.

        Those without a label are left out, those whose labels cannot be read have an empty one.
        """
        digests = {}
        for name in recordings:
            row = self.recordings[name]
            if row["n_epochs"] == row["unscored"]:
                continue
            try:
                both = row["sha256"].encode() + self.labels(name).tobytes()
                digests[name] = hashlib.sha256(both).hexdigest()[:12]
            except DataError:  # whoever needs them says what is wrong with them
                digests[name] = ""
        return digests

    def altered(self, recordings: Iterable[str]) -> list[str]:
        """Return the recordings whose samples are no longer those that the index tells."""

        def is_altered(name: str) -> bool:
            told = self.recordings[name]["sha256"]
            return bool(told) and array_sha256_of(self.path / "signals" / f"{name}.npy") != told

        names = list(recordings)
        with ThreadPoolExecutor() as pool:  # hashing lets other threads work
            told = pool.map(is_altered, names)
            return [name for name, is_so in zip(names, told, strict=True) if is_so]

    def labels(self, recording: str) -> np.ndarray:
        """Return the stages (E,) int8, -1 unscored."""
        file = self.path / "labels" / f"{recording}.npy"
        mapped, layout = map_array(file)
        expected = (self.recordings[recording]["n_epochs"],)
        if layout.shape != expected:
            raise _misshapen(file, layout.shape, expected)
        array = np.array(mapped)
        if layout.dtype != np.int8 or (len(array) and not self._are_labels(array)):
            raise DataError(
                f"{file} holds other labels than -1 to {len(self.classes) - 1} in int8: it is "
                "damaged."
            )
        return array

    def _are_labels(self, array: np.ndarray) -> bool:
        return array.min() >= UNLABELLED and array.max() < len(self.classes)


def _check_signal(
    file: Path,
    shape: tuple[int, ...],
    stored: np.dtype,
    *,
    n_chans: int,
    lengths: Mapping[str, int],
    dtype: np.dtype,
) -> None:
    expected = (n_chans, lengths[file.stem])
    if shape != expected:
        raise _misshapen(file, shape, expected)
    if stored != dtype:
        raise DataError(f"{file} holds {stored}, meta.json says {dtype}.")


def _misshapen(file: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> DataError:
    return DataError(f"{file} has the shape {shape}, the index says {expected}.")


def open_store(path: str | Path) -> Store:
    """Open a store for reading; raise DataError when it is missing, empty or of another version."""
    path = Path(path)
    meta = read_signal_meta(path)
    if not index_path(path).is_file():
        raise DataError(f"{path} has no index.csv yet: run the same preprocess command again.")
    listed = read_index(path)
    if not listed:
        raise DataError(f"{path} holds no recording yet: run the same preprocess command again.")
    rows = tuple(row for row in listed if row["status"] == OK)
    if not rows:
        raise DataError(f"{path} holds no readable recording; see the reasons in its index.csv.")
    return Store(path, meta, rows)
