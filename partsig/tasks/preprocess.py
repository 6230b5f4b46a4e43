"""``partsig preprocess``: raw recordings in, a store out."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import joblib
import numpy as np
from tqdm import tqdm

from partsig import config as configs
from partsig.data import (
    bids,
    edf_nights,
    pc18_segments,
    physionet2018,
    sleep_edf,
    store,
    wfdb_records,
)
from partsig.data.filters import bandpass_resample
from partsig.data.recordings import STAGES, ReadConfig, Recording, trimmed
from partsig.errors import ConfigError, DataError, DiskFullError, check_option, check_range

# Each has CHANNELS, find_records, fingerprint and read_recording.
SOURCES = {
    "physionet2018": physionet2018,
    "edf": edf_nights,
    "sleep-edf": sleep_edf,
    "wfdb": wfdb_records,
    "bids": bids,
    "pc18-segments": pc18_segments,
}
Header = Path | pc18_segments.Segment
# The index is rewritten at most this often, and at the end.
INDEX_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(ReadConfig):
    """What a store holds. Defaults are the paper's (section 3.4): 0.1 to 30 Hz, 100 Hz.

    ``l_freq``, ``h_freq`` and ``sfreq`` are in Hz. ``dtype`` float16 halves the store at a
    resolution of 11 bits. The other fields are :class:`~partsig.data.recordings.ReadConfig`'s.
    """

    l_freq: float | None = 0.1
    h_freq: float | None = 30.0
    sfreq: float = 100.0
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sfreq", self.sfreq, 1.0, 10_000.0)
        for name, value in (("l_freq", self.l_freq), ("h_freq", self.h_freq)):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value!r} Hz; it must be above 0, or null for none.")
        if None not in (self.l_freq, self.h_freq) and self.l_freq >= self.h_freq:
            raise ConfigError(f"l_freq ({self.l_freq} Hz) must be below h_freq ({self.h_freq} Hz).")


@dataclass(frozen=True, kw_only=True)
class PreprocessResult:
    """Where the store is, its counts per stage, and what could not be read."""

    path: Path
    n_recordings: int
    counts: dict[str, int]
    failed: dict[str, str]
    notes: list[str]


def preprocess(
    source: str = "physionet2018",
    raw: str | Path | None = None,
    store: str | Path | None = None,
    *,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    jobs: int = -1,
) -> PreprocessResult:
    """Write the store of a folder of raw recordings and return what it holds.

    ``raw`` and ``store`` default to ``data/raw/SOURCE`` and ``data/store/SOURCE``; ``jobs`` are
    threads (-1: one per core). The same call again continues an interrupted one and tries failed
    recordings anew, and those whose files have changed. A recording that cannot be read is skipped
    with its reason in ``index.csv``.

    Raises DataError when there is nothing to read, when no recording can be read, when the store
    was made with other settings, or when the disk is full (what was finished is kept).
    """
    check_option("source", source, SOURCES)
    if jobs == 0:
        raise ConfigError("--jobs is 0; it can be a number of threads, or -1 for one per core.")
    settings = configs.compose(PreprocessConfig, "preprocess", config, overrides)
    raw = Path(raw or Path("data/raw") / source)
    path = Path(store or Path("data/store") / source)
    return _run(source, raw, path, settings, jobs)


def _run(
    source: str, raw: Path, path: Path, settings: PreprocessConfig, jobs: int
) -> PreprocessResult:
    reader = SOURCES[source]
    settings = replace(settings, channels=settings.channels or reader.CHANNELS)
    headers = reader.find_records(raw)
    demographics = physionet2018.read_demographics(raw)
    meta = store.make_meta(
        source=source,
        ch_names=settings.channels,
        sfreq=settings.sfreq,
        l_freq=settings.l_freq,
        h_freq=settings.h_freq,
        dtype=settings.dtype,
        reading=_unusual(settings),
    )
    known = store.create(path, meta)
    rows = {name: row for name, row in known.items() if _written(path, row)}
    todo = [h for h in headers if not _same_source(reader, rows.get(h.stem), h, settings)]
    if source == "pc18-segments":
        store.write_split(path, pc18_segments.roles(headers))
    work = partial(
        _process, reader=reader, path=path, meta=meta, settings=settings, demographics=demographics
    )
    # Threads: the transforms, the hashing and the writing leave the interpreter alone, and nothing
    # has to be started or imported anew.
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
    written = time.monotonic()
    try:
        with tqdm(
            total=len(headers),
            initial=len(headers) - len(todo),
            unit="recording",
            desc="preprocess",
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        ) as bar:
            for row in parallel(joblib.delayed(work)(header) for header in todo):
                rows[row["recording"]] = row
                bar.update()
                if time.monotonic() - written > INDEX_EVERY_S:
                    store.write_index(path, rows.values())
                    written = time.monotonic()
    finally:
        store.write_index(path, rows.values())
    return _summary(path, list(rows.values()), meta)


def _written(path: Path, row: dict) -> bool:
    return row["status"] == store.OK and all(
        (path / kind / f"{row['recording']}.npy").is_file() for kind in ("signals", "labels")
    )


def _same_source(
    reader: ModuleType, row: dict | None, header: Header, settings: PreprocessConfig
) -> bool:
    """Tell whether a finished recording still has the header and the stages it was made from."""
    if row is None:
        return False
    try:
        return row["source"] == reader.fingerprint(header, settings)
    except DataError:  # its hypnogram is gone, say: reading it again tells
        return False


def _unusual(settings: PreprocessConfig) -> dict[str, object]:
    """Return the settings that decide what is read of a file, where they are not the usual ones."""
    now, usual = (configs.to_dict(s) for s in (settings, PreprocessConfig()))
    keys = ("aliases", "missing", "unit", "subject", "trim_wake_min", "hypnogram")
    return {key: now[key] for key in keys if now[key] != usual[key]}


def _process(
    header: Header,
    reader: ModuleType,
    path: Path,
    meta: dict,
    settings: PreprocessConfig,
    demographics: Mapping[str, tuple[str, str]],
) -> dict[str, object]:
    """Read, filter and write one recording; return its index row, also when it is damaged."""
    try:
        recording = reader.read_recording(header, settings)
        age, sex = demographics.get(recording.name, (recording.age, recording.sex))
        recording = replace(recording, age=age, sex=sex)
        if settings.trim_wake_min is not None:
            recording = trimmed(recording, settings.trim_wake_min)
        signal = filtered(recording, settings)
        return store.write_recording(path, meta, recording, signal)
    except DiskFullError:
        raise
    except (DataError, ConfigError, OSError) as error:
        return store.failed_row(header.stem, header.stem, str(error))


def filtered(recording: Recording, settings: PreprocessConfig) -> np.ndarray:
    """Return the channels (C, T) of a recording in µV, band-passed and at the new rate.

    Everything is filtered before it is cut: derivations are taken and the ends left out after.
    """
    rows = [
        bandpass_resample(
            part.signal,
            part.sfreq,
            settings.sfreq,
            l_freq=settings.l_freq,
            h_freq=settings.h_freq,
            picks=part.picks,
            scale=part.scale,
            offset=part.offset,
            reflect="even" if recording.excerpt else "odd",
        )
        for part in recording.parts
    ]
    shortest = min(part.shape[1] for part in rows)
    signal = rows[0] if len(rows) == 1 else np.concatenate([part[:, :shortest] for part in rows])
    if recording.mix is not None:
        signal = recording.mix.astype(signal.dtype) @ signal
    start = round(recording.start_s * settings.sfreq)
    stop = None if recording.stop_s is None else round(recording.stop_s * settings.sfreq)
    return signal[:, start:stop]


def _summary(path: Path, rows: list[dict], meta: dict) -> PreprocessResult:
    good = [row for row in rows if row["status"] == store.OK]
    failed = {row["recording"]: row["reason"] for row in rows if row["status"] != store.OK}
    if not good:
        first = next(iter(failed.values()))
        raise DataError(f"none of the {len(rows)} recordings could be read; the first: {first}")
    counts = {key: sum(row[key] for row in good) for key in (*STAGES, "unscored")}
    labelled = [row for row in good if row["n_epochs"] > row["unscored"]]
    notes = [
        f"{len(good)} recordings, {len(labelled)} of them scored, "
        f"{sum(row['n_samples'] for row in good) / meta['sfreq'] / 3600:.1f} h in {path}"
    ]
    names = [row["recording"] for row in labelled]
    if meta["source"] == "physionet2018" and physionet2018.is_training_set(names):
        notes += physionet2018.check_published(counts)
    return PreprocessResult(
        path=path, n_recordings=len(good), counts=counts, failed=failed, notes=notes
    )
