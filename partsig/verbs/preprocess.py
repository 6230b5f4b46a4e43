"""``partsig preprocess``: raw recordings in, a store out."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import joblib
import numpy as np
from tqdm import tqdm

from partsig import config as configs
from partsig.data.preprocessed import PreprocessResult
from partsig.data.signals import parallel as machines
from partsig.data.signals import store as data_store
from partsig.data.signals.filters import bandpass_resample_rows
from partsig.data.signals.kernels import resampled_length
from partsig.data.signals.lazy import OnDisk, beside, room, stretches
from partsig.data.signals.readers import (
    bids,
    edf_recordings,
    pc18_segments,
    physionet2018,
    sleep_edf,
    wfdb_records,
)
from partsig.data.signals.recordings import STAGES, ReadConfig, Recording, trimmed
from partsig.data.store import META, OK
from partsig.errors import ConfigError, DataError, DiskFullError, check_option, check_range

# Each has CHANNELS, find_records, fingerprint and read_recording.
SOURCES = {
    "physionet2018": physionet2018,
    "edf": edf_recordings,
    "sleep-edf": sleep_edf,
    "wfdb": wfdb_records,
    "bids": bids,
    "pc18-segments": pc18_segments,
}
Header = Path | pc18_segments.Segment
# Notes with these words are worth more than a line in the index.
TOLD = ("cut off", "lies beside it", "goes on for", "not scored", "missing samples", "no stages")
# The index is rewritten at most this often, and so seldom that it takes at most this share of the
# time, since it names every recording; and at the end.
INDEX_EVERY_S, INDEX_SHARE = 2.0, 0.05


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(ReadConfig):
    """What a store holds. Defaults are the paper's (section 3.4): 0.1 to 30 Hz, 100 Hz.

    ``l_freq``, ``h_freq`` and ``sfreq`` are in Hz. ``dtype`` float16 halves the store at a
    resolution of 11 bits. The other fields are
    :class:`~partsig.data.signals.recordings.ReadConfig`'s.
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


def preprocess(
    source: str = "physionet2018",
    raw: str | Path | None = None,
    store: str | Path | None = None,
    *,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    jobs: int = -1,
    scheduler: str | None = None,
    shard: str | None = None,
    merge: bool = False,
) -> PreprocessResult:
    """Write the store of a folder of raw recordings and return what it holds.

    ``raw`` and ``store`` default to ``data/raw/SOURCE`` and ``data/store/SOURCE``; ``jobs`` are
    threads (-1: one per core). The same call again continues an interrupted one and tries failed
    recordings anew, and those whose files have changed. A recording that cannot be read is skipped
    with its reason in ``index.csv``.

    Several machines that share the folders: ``scheduler`` is the address of a Dask scheduler whose
    workers do the work; or every job of an array does its ``shard`` (``3/16``), and the call with
    ``merge`` makes one index of them at the end. ``raw`` and ``store`` may be URLs that fsspec
    knows (``s3://bucket/nights``): recordings are then fetched one at a time and removed again, and
    what is written to ``data/store/NAME`` is sent as it is finished.

    Raises DataError when there is nothing to read, when no recording can be read, when the store
    was made with other settings, or when the disk is full (what was finished is kept).
    """
    from partsig.data.images.preprocessing import IMAGE_SOURCES, preprocess_images

    check_option("source", source, (*SOURCES, *IMAGE_SOURCES))
    if source in IMAGE_SOURCES:
        asked = {"--scheduler": scheduler, "--shard": shard, "--merge": merge}
        places = {"raw": raw, "store": store, "config": config, "overrides": overrides}
        return preprocess_images(source, **places, jobs=jobs, refused=asked)
    if merge and shard:
        raise ConfigError("--merge comes once, after all shards: leave out --shard.")
    if jobs == 0:
        raise ConfigError("--jobs is 0; it can be a number of threads, or -1 for one per core.")
    settings = configs.compose(PreprocessConfig, "preprocess", config, overrides)
    settings = replace(settings, channels=settings.channels or SOURCES[source].CHANNELS)
    part = machines.shard_name(shard)
    places, raw, path = machines.Places.of(
        raw or Path("data/raw") / source, store or Path("data/store") / source
    )
    reader = SOURCES[source]
    if places.raw is None:
        headers = reader.find_records(raw)
    else:
        headers = machines.find_remote(reader, places, raw)
    meta = data_store.make_meta(
        source=source,
        ch_names=settings.channels,
        sfreq=settings.sfreq,
        l_freq=settings.l_freq,
        h_freq=settings.h_freq,
        dtype=settings.dtype,
        reading=_unusual(settings),
    )
    if merge:
        rows = data_store.merge(path)
        places.send(path, [data_store.index_name()])
        places.drop_shards()
        left = [header.stem for header in headers if header.stem not in rows]
        if left:
            raise DataError(
                f"{len(left)} recordings are in no shard, the first {left[0]}: run `partsig "
                f"preprocess {source}` without --shard to add them."
            )
        return _summary(path, list(rows.values()), meta)
    known = data_store.create(path, meta, part)
    if source == "pc18-segments":
        data_store.write_split(path, pc18_segments.roles(headers))
    if part:
        first, total = map(int, part.split("-of-"))
        headers = headers[first - 1 :: total]
    work = partial(
        _process,
        source=source,
        raw=raw,
        path=path,
        places=places.for_one(),
        meta={key: value for key, value in meta.items() if key != "reading"},
    )
    people = physionet2018.read_demographics(raw)
    # What goes to another machine with a recording is of that recording, however many there are.
    task = partial(_task, work=work, settings=settings, people=people)
    rows = {name: row for name, row in known.items() if _written(path, row, places)}
    if part:
        mine = {header.stem for header in headers}
        rows = {name: row for name, row in rows.items() if name in mine}
    todo = [h for h in headers if not _same_source(reader, rows.get(h.stem), h, settings)]

    def keep() -> None:
        data_store.write_index(path, rows.values(), part)
        places.send(path, [META, data_store.index_name(part)])
        if (path / data_store.SPLIT).is_file():
            places.send(path, [data_store.SPLIT])

    # What is made again is not in the index meanwhile: its files are of two sources for a moment.
    if [rows.pop(header.stem) for header in todo if header.stem in rows]:
        keep()
    with machines.engine(jobs, scheduler) as parallel:
        _work_off(parallel, map(task, todo), len(todo), len(headers), rows, keep)
    result = _summary(path, list(rows.values()), meta)
    if source == "edf":
        told = edf_recordings.share_a_patient(headers, settings)
        result = replace(result, notes=[*result.notes, *told])
    return result


def _work_off(
    parallel: joblib.Parallel,
    tasks: Iterable[tuple],
    left: int,
    total: int,
    rows: dict[str, dict],
    keep: Callable[[], None],
) -> None:
    """Do what is left, put its rows among ``rows``, and keep them now and then and at the end."""
    written, took = time.monotonic(), 0.0
    try:
        with tqdm(
            total=total,
            initial=total - left,
            unit="recording",
            desc="preprocess",
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        ) as bar:
            for row in parallel(tasks):
                rows[row["recording"]] = row
                bar.update()
                begun = time.monotonic()
                if begun - written > max(INDEX_EVERY_S, took / INDEX_SHARE):
                    keep()
                    written = time.monotonic()
                    took = written - begun
    finally:
        keep()


def _task(
    header: Header,
    work: Callable[..., dict],
    settings: PreprocessConfig,
    people: Mapping[str, tuple[str, str]],
) -> tuple:
    """Return the work on one recording as joblib takes it, with what concerns this one alone."""
    name, hypnogram = header.stem, settings.hypnogram
    stated = hypnogram.offset_s
    if isinstance(stated, Mapping):
        own = {name: stated[name]} if name in stated else {}
        settings = replace(settings, hypnogram=replace(hypnogram, offset_s=own))
    return joblib.delayed(work)(header, settings=settings, person=people.get(name))


def _written(path: Path, row: dict, places: machines.Places) -> bool:
    names = data_store.file_names(row["recording"])
    return row["status"] == OK and all(places.has(path, n) for n in names)


def _same_source(
    reader: ModuleType, row: dict | None, header: Header, settings: PreprocessConfig
) -> bool:
    """Tell whether a finished recording still has the header and the stages it was made from."""
    if row is None:
        return False
    if not _is_here(header):
        return True  # in an object store: what was read once is not fetched to be compared
    try:
        return row["source"] == reader.fingerprint(header, settings)
    except DataError:  # its hypnogram is gone, say: reading it again tells
        return False


def _is_here(header: Header) -> bool:
    """Tell whether a recording's file is on this machine, rather than in an object store."""
    return not isinstance(header, Path) or header.is_file()


def _unusual(settings: PreprocessConfig) -> dict[str, object]:
    """Return the settings that decide what is read of a file, where they are not the usual ones."""
    now, usual = (configs.to_dict(s) for s in (settings, PreprocessConfig()))
    keys = ("aliases", "missing", "unit", "subject", "trim_wake_min", "hypnogram")
    return {key: now[key] for key in keys if now[key] != usual[key]}


def _process(
    header: Header,
    source: str,
    raw: Path,
    path: Path,
    places: machines.Places,
    meta: dict,
    settings: PreprocessConfig,
    person: tuple[str, str] | None,
) -> dict[str, object]:
    """Read, filter and write one recording; return its index row, also when it is damaged.

    ``person`` is age and sex, where a table beside the recordings tells them.
    """
    try:
        with places.fetched(raw, header), beside(path):
            recording = SOURCES[source].read_recording(header, settings)
            if person is not None:
                recording = replace(recording, age=person[0], sex=person[1])
            if settings.trim_wake_min is not None:
                recording = trimmed(recording, settings.trim_wake_min)
            signal = filtered(recording, settings)
        row = data_store.write_recording(path, meta, recording, signal)
        places.send(path, data_store.file_names(recording.name))
        return row
    except DiskFullError:
        raise
    except (DataError, ConfigError, OSError) as error:
        reason = str(error)
        named = reason if header.stem in reason else f"{header.stem}: {reason}"
        return data_store.failed_row(header.stem, header.stem, named)


def filtered(
    recording: Recording, settings: PreprocessConfig, held: int | None = None
) -> np.ndarray | OnDisk:
    """Return the channels (C, T) of a recording in µV, float32, band-passed and at the new rate.

    Everything is filtered before it is cut: derivations are taken and the ends left out after. What
    has over ``held`` bytes (default: 256 MiB) lies in a temporary file, read as it is sliced, so
    that no length of a recording fills the memory; where,
    :func:`partsig.data.signals.lazy.beside` says.
    """
    lengths = [
        resampled_length(part.signal.shape[1], part.sfreq, settings.sfreq)
        for part in recording.parts
    ]
    n_rows = sum(len(part.picks) for part in recording.parts)
    n_chans = n_rows if recording.mix is None else len(recording.mix)
    signal = room((max(n_rows, n_chans), max(lengths)), np.float32, held=held)
    first = 0
    for part, length in zip(recording.parts, lengths, strict=True):
        bandpass_resample_rows(
            part,
            settings.sfreq,
            l_freq=settings.l_freq,
            h_freq=settings.h_freq,
            reflect="even" if recording.excerpt else "odd",
            out=signal[first : first + len(part.picks), :length],
        )
        first += len(part.picks)
    signal = signal[:, : min(lengths)]
    if recording.mix is not None:  # channels take the place of the rows that they are made of
        mix = recording.mix.astype(np.float32)
        for begin, end in stretches(signal.shape[1]):
            signal[:n_chans, begin:end] = mix @ np.asarray(signal[:n_rows, begin:end])
    start = round(recording.start_s * settings.sfreq)
    stop = None if recording.stop_s is None else round(recording.stop_s * settings.sfreq)
    return signal[:n_chans, start:stop]


def _summary(path: Path, rows: list[dict], meta: dict) -> PreprocessResult:
    good = [row for row in rows if row["status"] == OK]
    failed = {row["recording"]: row["reason"] for row in rows if row["status"] != OK}
    if not good:
        first = next(iter(failed.values()))
        raise DataError(f"none of the {len(rows)} recordings could be read; the first: {first}")
    counts = {key: sum(row[key] for row in good) for key in (*STAGES, "unscored")}
    labelled = [row for row in good if row["n_epochs"] > row["unscored"]]
    notes = [
        f"{len(good)} recordings, {len(labelled)} of them scored, "
        f"{sum(row['n_samples'] for row in good) / meta['sfreq'] / 3600:.1f} h in {path}"
    ]
    odd = [row for row in good if any(word in row["notes"] for word in TOLD)]
    notes += [f"{row['recording']}: {row['notes']}" for row in odd[:5]]
    if len(odd) > 5:
        notes.append(f"{len(odd) - 5} more recordings have such notes, see index.csv")
    names = [row["recording"] for row in labelled]
    if meta["source"] == "physionet2018" and physionet2018.is_training_set(names):
        notes += physionet2018.check_published(counts)
    return PreprocessResult(
        path=path, n_recordings=len(good), counts=counts, failed=failed, notes=notes
    )
