"""The store: continuous band-passed signals and their labels, one file each per recording.

::

    STORE/ meta.json            format version, modality, sfreq, ch_names, unit, filter, provenance
           index.csv            one row per recording: who, how long, which stages, its state;
                                start_s: where the store's first sample lies in the recording
           signals/REC.npy      (C, T) float16 or float32, µV, memory-mapped
           labels/REC.npy       (E,) int8, the class of every epoch (as long as meta.json's
                                labels say: 30 s of sleep), -1 unscored
           shards/I-of-N.csv    while several machines write: the index of each, see merge
         split.csv            where the source has a split of its own: subject, role (test or val)

A row of the index with status ``ok`` is written after both of its files are whole, so whatever
moment a writer is killed at, what the index names can be read.
"""

import csv
import hashlib
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from partsig.contracts import Labels, labels_of
from partsig.data.mapped import MappedArrays, unreadable
from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.data.signals.lazy import OnDisk, stretches
from partsig.data.signals.recordings import Recording
from partsig.data.store import (
    FAILED,
    FORMAT,
    INDEX,
    OK,
    differing_settings,
    made_otherwise,
    read_meta,
    with_provenance,
)
from partsig.errors import DataError
from partsig.files import atomic, remove_leftovers, write_json, write_text

SPLIT, SHARDS = "split.csv", "shards"
# Columns that stores of partsig 0.1 may lack.
LATER = ("start_s", "filled", "notes")
# What shards are called, all at once, from when their index is whole until they are deleted.
MERGED = ".shards.merged"
PIECE = 2**20  # samples that are written at a time
FLOAT16_MAX = float(np.finfo(np.float16).max)


def columns_of(labels: Labels) -> tuple[str, ...]:
    """Return the columns of ``index.csv``: who, how much, how often each class, which state."""
    about = ("sha256", "source", "status", "reason", *LATER)
    return ("recording", "subject", "age", "sex", *_counted(labels), *about)


def _counted(labels: Labels) -> tuple[str, ...]:
    return ("n_samples", "n_epochs", *labels.classes, "unscored")


def make_meta(
    *,
    source: str,
    ch_names: tuple[str, ...],
    sfreq: float,
    l_freq: float | None,
    h_freq: float | None,
    dtype: str,
    reading: Mapping[str, object] | None = None,
    labels: Labels = SLEEP,
) -> dict:
    """Return the content of ``meta.json`` for a store of signals.

    ``reading`` is how recordings were read where that was not the usual way.
    """
    meta = {
        "format": FORMAT,
        "modality": "eeg",
        "source": source,
        "sfreq": sfreq,
        "ch_names": list(ch_names),
        "unit": "µV",
        "dtype": dtype,
        "filter": {
            "l_freq": l_freq,
            "h_freq": h_freq,
            "method": "zero-phase FIR, Hamming, on the whole recording; FFT resampling",
        },
    }
    if reading:
        meta["reading"] = dict(reading)
    return with_provenance(meta, labels)


def write_recording(
    path: Path, meta: dict, recording: Recording, signal: np.ndarray | OnDisk
) -> dict[str, object]:
    """Write one recording's two files and return its row for the index.

    ``signal`` (C, T) is filtered and at the store's rate. In float16, values beyond ±65,504 µV
    (no physiology reaches them) are clipped rather than made infinite.
    """
    kind = np.dtype(meta["dtype"])
    labels = labels_of(meta)
    n_whole = int(signal.shape[1] // round(labels.unit_s * meta["sfreq"]))
    stages = recording.stages[:n_whole].astype(np.int8)
    with atomic(path / "labels" / f"{recording.name}.npy") as temporary:
        _save(temporary, stages.shape, stages.dtype, [stages])
    with ThreadPoolExecutor(1) as pool:  # the disk is waited for while the hash is computed
        digest = pool.submit(_digest, _pieces(signal, kind))
        with atomic(path / "signals" / f"{recording.name}.npy") as temporary:
            _save(temporary, signal.shape, kind, _pieces(signal, kind))
    return {
        "recording": recording.name,
        "subject": recording.subject,
        "age": recording.age,
        "sex": recording.sex,
        "n_samples": signal.shape[1],
        "n_epochs": len(stages),
        **labels.count(stages),
        "sha256": digest.result(),
        "source": recording.source,
        "status": OK,
        "reason": "",
        "start_s": round(recording.start_s, 6),
        "filled": "; ".join(recording.filled),
        "notes": "; ".join(recording.notes),
    }


def _pieces(signal: np.ndarray | OnDisk, kind: np.dtype) -> Iterator[np.ndarray]:
    """Yield an array (C, T) piece by piece, row after row, as it is stored."""
    for row in range(signal.shape[0]):
        for start, stop in stretches(signal.shape[1], PIECE):
            piece = np.asarray(signal[row : row + 1, start:stop])
            if kind == np.float16:
                piece = np.clip(piece, -FLOAT16_MAX, FLOAT16_MAX)
            yield np.ascontiguousarray(piece, kind)


def _digest(pieces: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def _save(path: Path, shape: tuple[int, ...], kind: np.dtype, pieces: Iterable[np.ndarray]) -> None:
    """Write the pieces of an array, in their order, as .npy through the file object.

    numpy's own writer goes round it, and its error on a full disk does not say that it is full.
    """
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for piece in pieces:
            handle.write(piece.data)


def failed_row(recording: str, subject: str, reason: str) -> dict[str, object]:
    """Return the index row of a recording that could not be read."""
    return {"recording": recording, "subject": subject, "status": FAILED, "reason": reason}


def write_index(path: Path, rows: Iterable[dict[str, object]], shard: str = "") -> None:
    """Write ``index.csv``, or that of a shard, sorted by recording, in one atomic step."""
    labels = labels_of(read_signal_meta(path))
    empty = dict.fromkeys(columns_of(labels), "") | dict.fromkeys(_counted(labels), 0)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(empty), lineterminator="\n")
    writer.writeheader()
    writer.writerows(empty | row for row in sorted(rows, key=lambda row: str(row["recording"])))
    write_text(_index(path, shard), text.getvalue())


def write_split(path: Path, roles: Mapping[str, str]) -> None:
    """Write the source's own split, {subject: "test" or "val"}, into a store."""
    lines = [f"{subject},{roles[subject]}\n" for subject in sorted(roles)]
    write_text(path / SPLIT, "".join(["subject,role\n", *lines]))


def create(path: Path, meta: dict, shard: str = "") -> dict[str, dict]:
    """Start or continue a store; return the rows it already has, by recording.

    With ``shard`` (``2-of-8``) those of the whole store and of that shard.
    What a killed writer left half-written is removed. A store in which no recording was finished
    takes the new settings. Raises DataError, naming what differs, when one was finished with other
    settings, and when the folder is no store or cannot be written.
    """
    for folder in (path, path / "signals", path / "labels", path / SHARDS):
        remove_leftovers(folder)
    shutil.rmtree(path / MERGED, ignore_errors=True)
    rows: dict[str, dict] = {}
    if (path / "meta.json").is_file():
        found = read_signal_meta(path)
        for part in {"", shard}:
            if _index(path, part).is_file():
                rows |= {row["recording"]: row for row in read_index(path, part)}
        differing = differing_settings(found, meta)
        if differing and any(row["status"] == OK for row in rows.values()):
            raise made_otherwise(path, found, meta, differing)
        if not differing:
            return rows
    elif path.exists() and not (path.is_dir() and all(_is_leftover(p) for p in path.iterdir())):
        raise DataError(f"{path} exists and is no store; choose another --store.")
    write_json(path / "meta.json", meta)
    return {}


def _is_leftover(path: Path) -> bool:
    """Tell whether a killed writer, perhaps on another machine, left this file."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def index_name(shard: str = "") -> str:
    """Return where the index lies in a store, or that of a shard."""
    return f"{SHARDS}/{shard}.csv" if shard else INDEX


def file_names(recording: str) -> list[str]:
    """Return where a recording's files lie in a store."""
    return [f"{kind}/{recording}.npy" for kind in ("signals", "labels")]


def _index(path: Path, shard: str = "") -> Path:
    return path / index_name(shard)


def merge(path: Path) -> dict[str, dict]:
    """Make one index of those of all shards; return its rows, by recording.

    Once done, it is done: the rows of the index are returned again. Raises DataError when there are
    neither, when a shard is missing, or when they are of two divisions.
    """
    read_meta(path)
    shutil.rmtree(path / MERGED, ignore_errors=True)
    rows = {row["recording"]: row for row in read_index(path)} if _index(path).is_file() else {}
    names = sorted(file.stem for file in (path / SHARDS).glob("*-of-*.csv"))
    totals = {name.partition("-of-")[2] for name in names}
    if not names and rows:
        return rows
    if not names:
        raise DataError(f"{path} has no shards to merge: run `partsig preprocess … --shard 1/N`.")
    if len(totals) > 1:
        raise DataError(
            f"{path} has shards of several divisions ({', '.join(sorted(totals))}): delete those "
            f"of {path / SHARDS} that do not belong."
        )
    total = int(totals.pop())
    missing = [f"{i}/{total}" for i in range(1, total + 1) if f"{i}-of-{total}" not in names]
    if missing:
        raise DataError(f"{path} lacks the shards {', '.join(missing)}: run them first.")
    for name in names:
        rows |= {row["recording"]: row for row in read_index(path, name)}
    write_index(path, rows.values())
    (path / SHARDS).replace(path / MERGED)
    shutil.rmtree(path / MERGED)
    return rows


def read_signal_meta(path: Path) -> dict:
    """Return ``meta.json``; raise DataError for a store of something else than signals."""
    meta = read_meta(path)
    if "sfreq" not in meta:
        raise DataError(
            f"{path} is a store of {meta.get('modality')}s, and signals are needed here."
        )
    return meta


def read_index(path: Path, shard: str = "") -> list[dict]:
    """Return the rows of ``index.csv``, or of a shard's, with their counts as integers."""
    labels = labels_of(read_signal_meta(path))
    columns, counted = columns_of(labels), _counted(labels)
    file = _index(path, shard)
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            found = tuple(reader.fieldnames or ())
            if found not in (columns, columns[: -len(LATER)]):
                raise DataError(f"{file}: expected the columns {', '.join(columns)}.")
            return [
                dict.fromkeys(LATER, "") | row | {key: int(row[key]) for key in counted}
                for row in reader
            ]
    except (TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{file} is damaged ({error}).") from error


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
        found: dict[str, list[str]] = {}
        for row in self.rows:
            found.setdefault(row["subject"], []).append(row["recording"])
        return {subject: sorted(found[subject]) for subject in sorted(found)}

    @cached_property
    def labelled_subjects(self) -> list[str]:
        """Subjects with at least one scored epoch, sorted."""
        scored = {row["subject"] for row in self.rows if row["n_epochs"] > row["unscored"]}
        return sorted(scored)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """The source's own split: subjects by role (test, val), sorted; empty where it has none."""
        file = self.path / SPLIT
        found: dict[str, list[str]] = {}
        if file.is_file():
            with open(file, newline="", encoding="utf-8") as handle:
                for row in csv.DictReader(handle):
                    found.setdefault(row["role"], []).append(row["subject"])
        return {role: sorted(set(members) & set(self.subjects)) for role, members in found.items()}

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
    def unit_s(self) -> float:
        """Seconds of signal that a label is of."""
        return self.label_facts.unit_s

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

    def labels(self, recording: str) -> np.ndarray:
        """Return the stages (E,) int8, -1 unscored."""
        file = self.path / "labels" / f"{recording}.npy"
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise unreadable(file, error) from error
        expected = (self.recordings[recording]["n_epochs"],)
        if array.shape != expected:
            raise _misshapen(file, array.shape, expected)
        return array


def _check_signal(
    file: Path,
    shape: tuple[int, ...],
    found: np.dtype,
    *,
    n_chans: int,
    lengths: Mapping[str, int],
    dtype: np.dtype,
) -> None:
    expected = (n_chans, lengths[file.stem])
    if shape != expected:
        raise _misshapen(file, shape, expected)
    if found != dtype:
        raise DataError(f"{file} holds {found}, meta.json says {dtype}.")


def _misshapen(file: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> DataError:
    return DataError(f"{file} has the shape {shape}, the index says {expected}.")


def open_store(path: str | Path) -> Store:
    """Open a store for reading; raise DataError when it is missing, empty or of another version."""
    path = Path(path)
    meta = read_signal_meta(path)
    if not _index(path).is_file():
        raise DataError(f"{path} has no index.csv yet: run the same preprocess command again.")
    found = read_index(path)
    if not found:
        raise DataError(f"{path} holds no recording yet: run the same preprocess command again.")
    rows = tuple(row for row in found if row["status"] == OK)
    if not rows:
        raise DataError(f"{path} holds no readable recording; see the reasons in its index.csv.")
    return Store(path, meta, rows)
