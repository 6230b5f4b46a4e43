"""How a store of signals is begun, and filled: each file whole at once, its index row after it."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from partsig.cells import as_table
from partsig.contracts import Labels, labels_of
from partsig.data.signals import landmarks
from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.data.signals.lazy import OnDisk, stretches
from partsig.data.signals.recordings import Recording
from partsig.data.signals.scaling import OWN_UNIT, SCALED_UNIT, USUAL_UNIT
from partsig.data.signals.store_index import (
    FINGERPRINT,
    GAPS,
    MERGED,
    SHARDS,
    SPLIT,
    gaps_as_text,
    index_path,
    read_index,
    read_signal_meta,
)
from partsig.data.store import FORMAT, META, OK, made_alike, with_provenance
from partsig.errors import DataError
from partsig.files import atomic, is_a_writers, remove_leftovers, write_json, write_text

PIECE = 2**20  # samples that are written at a time
FLOAT16_MAX = float(np.finfo(np.float16).max)


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
    unit = USUAL_UNIT
    if (reading or {}).get("normalise") == "recording":
        unit = SCALED_UNIT
    elif round(labels.unit_s * sfreq) == 1:  # a sample is a feature of an epoch
        unit = OWN_UNIT
    meta = {
        "format": FORMAT,
        "modality": "eeg",
        "source": source,
        "sfreq": sfreq,
        "ch_names": list(ch_names),
        "unit": unit,
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
        GAPS: gaps_as_text(
            recording.gaps,
            recording.start_s,
            recording.start_s + signal.shape[1] / meta["sfreq"],
        ),
        FINGERPRINT: landmarks.encode(landmarks.fingerprint(signal, meta["sfreq"])),
    }


def _pieces(signal: np.ndarray | OnDisk, kind: np.dtype) -> Iterator[np.ndarray]:
    """Yield an array (C, T) piece by piece, row after row, as it is stored."""
    for row in range(signal.shape[0]):
        for start, stop in stretches(signal.shape[1], PIECE):
            yield as_stored(np.asarray(signal[row : row + 1, start:stop]), kind)


def as_stored(piece: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return samples as a store of this type holds them: of float16, clipped to what it can."""
    if kind == np.float16:
        piece = np.clip(piece, -FLOAT16_MAX, FLOAT16_MAX)
    return np.ascontiguousarray(piece, kind)


def _digest(pieces: Iterable[np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for piece in pieces:
        sha256.update(piece)
    return sha256.hexdigest()


def _save(path: Path, shape: tuple[int, ...], kind: np.dtype, pieces: Iterable[np.ndarray]) -> None:
    """Write the pieces of an array, in their order, as .npy through the file object.

    numpy's own writer goes round it, and its error on a full disk does not say that it is full.
    """
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for piece in pieces:
            handle.write(piece.data)


def write_split(path: Path, roles: Mapping[str, str]) -> None:
    """Write the source's own split, {subject: "test" or "val"}, into a store."""
    write_text(path / SPLIT, as_table(("subject", "role"), sorted(roles.items())))


def create_store(path: Path, meta: dict, shard: str = "") -> dict[str, dict]:
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
    if (path / META).is_file():
        known = read_signal_meta(path)
        for part in {"", shard}:
            if index_path(path, part).is_file():
                rows |= {row["recording"]: row for row in read_index(path, part)}
        if made_alike(path, known, meta, rows.values()):
            return rows
    elif path.exists() and not (path.is_dir() and all(map(is_a_writers, path.iterdir()))):
        raise DataError(f"{path} exists and is no store; choose another --store.")
    write_json(path / META, meta)
    return {}
