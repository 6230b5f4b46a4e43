"""Raw recordings to a store of signals: each is read, filtered and written by itself."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import joblib
import numpy as np

from partsig import config as configs
from partsig.contracts import labels_of
from partsig.data import twins
from partsig.data.preprocessed import PreprocessRequest, PreprocessResult
from partsig.data.signals import parallel
from partsig.data.signals.filters import bandpass_resample_rows
from partsig.data.signals.hypnograms.alignment import trimmed
from partsig.data.signals.kernels import resampled_length
from partsig.data.signals.landmarks import find_twins
from partsig.data.signals.lazy import OnDisk, beside, room, stretches
from partsig.data.signals.parallel import Storage
from partsig.data.signals.readers import pc18_segments, physionet2018
from partsig.data.signals.readers import registry as readers
from partsig.data.signals.recordings import ReadConfig, Recording
from partsig.data.signals.store_index import (
    FINGERPRINT,
    SPLIT,
    failed_row,
    file_names,
    index_name,
    merge_shards,
    write_index,
)
from partsig.data.signals.store_writing import create_store, make_meta, write_recording, write_split
from partsig.data.store import META, OK
from partsig.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    RangeError,
    check_jobs,
    check_range,
)
from partsig.files import locked
from partsig.progress import bar

Header = Path | pc18_segments.Segment
# Notes with these words are worth more than a line in the index.
NOTE_KEYWORDS = ("cut off", "lies beside it", "goes on for", "not scored", "missing samples")
NOTE_KEYWORDS += ("no stages",)
# The index is rewritten at most this often, and so seldom that it takes at most this share of the
# time, since it names every recording; and at the end.
INDEX_EVERY_S, INDEX_SHARE = 2.0, 0.05


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(ReadConfig):
    """What a store holds. Defaults are the paper's (section 3.4): 0.1 to 30 Hz, 100 Hz.

    The other fields are :class:`~partsig.data.signals.recordings.ReadConfig`'s.
    """

    l_freq: Annotated[float | None, "lower edge of the band-pass in Hz; null is none"] = 0.1
    h_freq: Annotated[float | None, "upper edge of the band-pass in Hz; null is none"] = 30.0
    sfreq: Annotated[float, "sampling rate of the store in Hz"] = 100.0
    dtype: Annotated[
        Literal["float32", "float16"],
        "numbers the samples are stored as; float16 halves the store at a resolution of 11 bits",
    ] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sfreq", self.sfreq, 1.0, 10_000.0)
        for name, value in (("l_freq", self.l_freq), ("h_freq", self.h_freq)):
            if value is not None and not 0 < value < float("inf"):
                told = f"{name} is {value!r} Hz; it must be above 0, or null for none."
                raise RangeError(told, name, low=0.0, above=True)
        if None not in (self.l_freq, self.h_freq) and self.l_freq >= self.h_freq:
            raise ConfigError(f"l_freq ({self.l_freq} Hz) must be below h_freq ({self.h_freq} Hz).")


def preprocess_signals(request: PreprocessRequest) -> PreprocessResult:
    """Write the store of a folder of raw recordings; see :func:`partsig.preprocess`."""
    source, reader = request.source, readers.get(request.source)
    if request.merge and request.shard:
        raise ConfigError("--merge comes once, after all shards: leave out --shard.")
    check_jobs(request.jobs)
    settings = configs.compose(PreprocessConfig, "preprocess", request.config, request.overrides)
    settings = replace(settings, channels=settings.channels or reader.CHANNELS)
    shard = parallel.shard_name(request.shard)
    storage, raw, path = Storage.of(request.raw, request.store, allow_http=request.allow_http)
    if storage.raw is None:
        headers = reader.find_records(raw)
    else:
        headers = parallel.find_remote(reader, storage, raw)
    meta = make_meta(
        source=source,
        ch_names=settings.channels,
        sfreq=settings.sfreq,
        l_freq=settings.l_freq,
        h_freq=settings.h_freq,
        dtype=settings.dtype,
        reading=_unusual(settings),
    )
    with locked(path, shard):
        if request.merge:
            return _merge(path, storage, headers, meta)
        known = create_store(path, meta, shard)
        if hasattr(reader, "roles"):
            write_split(path, reader.roles(headers))
        if shard:
            first, total = map(int, shard.split("-of-"))
            headers = headers[first - 1 :: total]
        index = Index(path=path, storage=storage, shard=shard)
        mine = {header.stem for header in headers}
        for name, row in known.items():
            if index.is_written(row) and (not shard or name in mine):
                index.rows[name] = row
        todo = [h for h in headers if not _same_source(reader, index.rows.get(h.stem), h, settings)]
        index.forget(header.stem for header in todo)
        work = RecordingWork(
            source=source,
            raw=raw,
            path=path,
            storage=storage.for_one(),
            meta={key: value for key, value in meta.items() if key != "reading"},
        )
        ages_and_sexes = physionet2018.read_demographics(raw)
        # What goes to another machine is of one recording, however many there are.
        tasks = (
            joblib.delayed(work)(h, _settings_of(h.stem, settings), ages_and_sexes.get(h.stem))
            for h in todo
        )
        with parallel.parallel_backend(request.jobs, request.scheduler) as backend:
            index.fill(backend(tasks), n_left=len(todo), n_total=len(headers))
    result = _summary(path, list(index.rows.values()), meta)
    if hasattr(reader, "overlooked"):
        result = replace(result, notes=[*result.notes, *reader.overlooked(headers, settings)])
    return result


def _merge(path: Path, storage: Storage, headers: list[Header], meta: dict) -> PreprocessResult:
    """Make one index of those of all shards."""
    rows = merge_shards(path)
    storage.send(path, [index_name()])
    storage.drop_shards()
    left = [header.stem for header in headers if header.stem not in rows]
    if left:
        raise DataError(
            f"{len(left)} recordings are in no shard, the first {left[0]}: run `partsig "
            f"preprocess {meta['source']}` without --shard to add them."
        )
    return _summary(path, list(rows.values()), meta)


@dataclass(frozen=True, kw_only=True)
class Index:
    """The rows of a store's index, or of a shard's, while it is filled."""

    path: Path
    storage: Storage
    shard: str
    rows: dict[str, dict] = field(default_factory=dict)

    def is_written(self, row: Mapping[str, object]) -> bool:
        """Tell whether a recording was read, and its files are there."""
        names = file_names(row["recording"])
        return row["status"] == OK and all(self.storage.has(self.path, n) for n in names)

    def forget(self, names: Iterable[str]) -> None:
        """Leave out what is made again: its files are of two sources for a moment."""
        if [self.rows.pop(name) for name in names if name in self.rows]:
            self.keep()

    def keep(self) -> None:
        """Write the index, and send it to where the store belongs."""
        write_index(self.path, self.rows.values(), self.shard)
        self.storage.send(self.path, [META, index_name(self.shard)])
        if (self.path / SPLIT).is_file():
            self.storage.send(self.path, [SPLIT])

    def fill(self, rows: Iterable[dict], *, n_left: int, n_total: int) -> None:
        """Take rows as they are finished, and keep the index now and then and at the end."""
        written, took = time.monotonic(), 0.0
        try:
            with bar(
                unit="recording", desc="preprocess", total=n_total, initial=n_total - n_left
            ) as finished:
                for row in rows:
                    self.rows[row["recording"]] = row
                    finished.update()
                    begun = time.monotonic()
                    if begun - written > max(INDEX_EVERY_S, took / INDEX_SHARE):
                        self.keep()
                        written = time.monotonic()
                        took = written - begun
        finally:
            self.keep()


@dataclass(frozen=True, kw_only=True, eq=False)  # Dask asks for its hash
class RecordingWork:
    """The work on one recording, wherever it is done: what is the same for all of them."""

    source: str
    raw: Path
    path: Path
    storage: Storage
    meta: dict

    def __call__(
        self, header: Header, settings: PreprocessConfig, age_and_sex: tuple[str, str] | None
    ) -> dict[str, object]:
        """Read, filter and write a recording; return its index row, also when it is damaged.

        ``age_and_sex`` are those that a table beside the recordings tells, if there is one.
        """
        try:
            with self.storage.fetched(self.raw, header), beside(self.path):
                recording = readers.get(self.source).read_recording(header, settings)
                if age_and_sex is not None:
                    recording = replace(recording, age=age_and_sex[0], sex=age_and_sex[1])
                if settings.trim_wake_min is not None:
                    recording = trimmed(recording, settings.trim_wake_min)
                signal = filtered(recording, settings)
            row = write_recording(self.path, self.meta, recording, signal)
            self.storage.send(self.path, file_names(recording.name))
            return row
        except DiskFullError:
            raise
        except (DataError, ConfigError, OSError) as error:
            reason = str(error)
            named = reason if header.stem in reason else f"{header.stem}: {reason}"
            return failed_row(header.stem, header.stem, named)


def _settings_of(name: str, settings: PreprocessConfig) -> PreprocessConfig:
    """Return the settings with what they say of this recording alone."""
    hypnogram = settings.hypnogram
    stated = hypnogram.offset_s
    if not isinstance(stated, Mapping):
        return settings
    own = {name: stated[name]} if name in stated else {}
    return replace(settings, hypnogram=replace(hypnogram, offset_s=own))


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
    counts = {key: sum(row[key] for row in good) for key in (*labels_of(meta).classes, "unscored")}
    labelled = [row for row in good if row["n_epochs"] > row["unscored"]]
    notes = [
        f"{len(good)} recordings, {len(labelled)} of them scored, "
        f"{sum(row['n_samples'] for row in good) / meta['sfreq'] / 3600:.1f} h in {path}"
    ]
    odd = [row for row in good if any(word in row["notes"] for word in NOTE_KEYWORDS)]
    notes += [f"{row['recording']}: {row['notes']}" for row in odd[:5]]
    if len(odd) > 5:
        notes.append(f"{len(odd) - 5} more recordings have such notes, see index.csv")
    notes += twins.told(find_twins(good), *twins.TWICE)
    without = sum(not row.get(FINGERPRINT) for row in good)
    if without:
        notes.append(
            f"{without} recordings were stored without a fingerprint, by which one is known under "
            "another name; `partsig audit` of the store looks for them"
        )
    names = [row["recording"] for row in labelled]
    if meta["source"] == "physionet2018" and physionet2018.is_training_set(names):
        notes += physionet2018.check_published(counts)
    return PreprocessResult(
        path=path, n_recordings=len(good), counts=counts, failed=failed, notes=notes
    )
