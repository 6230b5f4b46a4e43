"""Raw recordings to a store of signals: each is read, filtered and written by itself."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import joblib
import numpy as np

from partsig import config as configs
from partsig.data import guard
from partsig.data.foreign import name_of
from partsig.data.preprocessed import PreprocessRequest, PreprocessResult
from partsig.data.pseudonyms import Pseudonyms
from partsig.data.signals import inventory, parallel
from partsig.data.signals.deidentified import UNTOLD, Names, grouped_age, without_names
from partsig.data.signals.filters import bandpass_resample_rows
from partsig.data.signals.growing_index import Index
from partsig.data.signals.hypnograms.alignment import trimmed
from partsig.data.signals.hypnograms.stages import SLEEP, sleep_labels
from partsig.data.signals.kernels import resampled_length
from partsig.data.signals.lazy import OnDisk, beside, room, stretches
from partsig.data.signals.parallel import Storage
from partsig.data.signals.readers import guarded, pc18_segments
from partsig.data.signals.readers import registry as readers
from partsig.data.signals.recordings import LEAST_HZ, ReadConfig, Recording
from partsig.data.signals.scaling import SCALED_BY, USUAL_UNIT, scale_robustly
from partsig.data.signals.store_index import (
    failed_row,
    file_names,
    gaps_within,
    index_name,
    merge_shards,
)
from partsig.data.signals.store_writing import create_store, make_meta, write_recording, write_split
from partsig.data.signals.summary import summarise
from partsig.data.signals.usable import usable_epochs
from partsig.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    RangeError,
    check_jobs,
    check_range,
)
from partsig.files import locked
from partsig.text import shown

Header = Path | pc18_segments.Segment


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
    normalise: Annotated[
        Literal["none", "recording"],
        "recording: every channel less its median and over its interquartile range, those of the "
        "recording's usable epochs, in place of µV",
    ] = "none"
    group_ages_over: Annotated[
        int | None, "ages above so many years are stored as one group, 89 as 90+; null stores all"
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sfreq", self.sfreq, LEAST_HZ, 10_000.0)
        samples = self.epoch_s * self.sfreq
        if self.epoch_s != SLEEP.unit_s and abs(samples - round(samples)) > 1e-6:
            raise ConfigError(
                f"an epoch of epoch_s={self.epoch_s:g} is no whole number of samples at sfreq="
                f"{self.sfreq:g}; choose them so that it is."
            )
        if self.group_ages_over is not None:
            check_range("group_ages_over", self.group_ages_over, 0, 150)
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
    usual = getattr(reader, "Config", PreprocessConfig)
    settings = configs.compose(usual, "preprocess", request.config, request.overrides)
    if settings.epoch_s != SLEEP.unit_s and not getattr(reader, "ANY_EPOCH", False):
        raise ConfigError(
            f"epoch_s is for recordings with hypnograms of their own; {source} is scored in "
            f"{SLEEP.unit_s:g}-s epochs: leave it out."
        )
    shard = parallel.shard_name(request.shard)
    storage, raw, path = Storage.of(request.raw, request.store, allow_http=request.allow_http)
    left_out: list[str] = []
    if storage.raw is None:
        headers = guarded.find_records(reader, raw)
    else:
        headers, left_out = parallel.find_remote(reader, storage, raw)
    channels = settings.channels or guarded.usual_channels(reader, headers)
    settings = replace(settings, channels=channels)
    settings, told = inventory.of_all(reader, headers, settings, here=storage.raw is None)
    names = Names(request.pseudonyms, path)
    meta = make_meta(
        source=source,
        ch_names=settings.channels,
        sfreq=settings.sfreq,
        l_freq=settings.l_freq,
        h_freq=settings.h_freq,
        dtype=settings.dtype,
        reading=names.reading(_unusual(settings)),
        labels=sleep_labels(settings.epoch_s),
    )
    with locked(path, shard):
        if request.merge:
            result = _merge(path, storage, headers, meta, names)
            return replace(result, notes=[*told, *result.notes])
        known = create_store(path, meta, shard)
        own_split = guarded.roles(reader, headers, raw)
        if own_split is not None:
            write_split(path, names.roles(own_split))
        if shard:
            first, total = map(int, shard.split("-of-"))
            headers = headers[first - 1 :: total]
        index = Index(path=path, storage=storage, shard=shard, names=names)
        called = {name_of(header): names.recording(name_of(header)) for header in headers}
        names.keep()
        mine = set(called.values())
        for name, row in known.items():
            if index.is_written(row) and (not shard or name in mine):
                index.rows[name] = row
        todo = [
            h
            for h in headers
            if not _same_source(reader, index.rows.get(called[name_of(h)]), h, settings, names)
        ]
        index.forget(called[name_of(h)] for h in todo)
        work = RecordingWork(
            source=source,
            raw=raw,
            path=path,
            storage=storage.for_one(),
            meta={key: value for key, value in meta.items() if key != "reading"},
            pseudonyms=names.pseudonyms,
        )
        ages_and_sexes, unread = guarded.ages_and_sexes(raw)
        # What goes to another machine is of one recording, however many there are.
        tasks = (
            joblib.delayed(work)(h, _settings_of(h.stem, settings), ages_and_sexes.get(h.stem))
            for h in todo
        )
        with parallel.parallel_backend(request.jobs, request.scheduler) as backend:
            index.fill(backend(tasks), n_left=len(todo), n_total=len(headers))
    result = summarise(path, list(index.rows.values()), meta, names.said())
    overlooked = guarded.overlooked(reader, headers, settings)
    notes = [*told, *result.notes, *overlooked, *unread, *left_out]
    return replace(result, notes=notes)


def _merge(
    path: Path, storage: Storage, headers: list[Header], meta: dict, names: Names
) -> PreprocessResult:
    """Make one index of those of all shards."""
    rows = merge_shards(path)
    storage.send(path, [index_name()])
    storage.drop_shards()
    left = [name for name in map(name_of, headers) if names.recording(name) not in rows]
    if left:
        raise DataError(
            f"{len(left)} recordings are in no shard, the first {left[0]}: run `partsig "
            f"preprocess {shlex.quote(meta['source'])}` without --shard to add them."
        )
    return summarise(path, list(rows.values()), meta, names.said())


@dataclass(frozen=True, kw_only=True, eq=False)  # Dask asks for its hash
class RecordingWork:
    """The work on one recording, wherever it is done: what is the same for all of them."""

    source: str
    raw: Path
    path: Path
    storage: Storage
    meta: dict
    pseudonyms: Pseudonyms | None = None

    def __call__(
        self, header: Header, settings: PreprocessConfig, age_and_sex: tuple[str, str] | None
    ) -> dict[str, object]:
        """Read, filter and write a recording; return its index row, also when it is damaged.

        Where names are kept out of the store, what of them belongs into their table is ``told``.
        ``age_and_sex`` are those that a table beside the recordings tells, if there is one.
        """
        name = name_of(header)
        try:
            with self.storage.fetched(self.raw, header), beside(self.path), guard.guarded(name):
                read = readers.get(self.source).read_recording
                recording = guarded.read_recording(read, header, settings)
                if age_and_sex is not None:
                    age, sex = map(shown, age_and_sex)
                    recording = replace(recording, age=age, sex=sex)
                age = grouped_age(recording.age, settings.group_ages_over)
                recording = replace(recording, age=age)
                told = {"recording": recording.name, "subject": recording.subject}
                told["said"] = "; ".join(recording.notes)
                if settings.trim_wake_min is not None:
                    recording = trimmed(recording, settings.trim_wake_min, settings.epoch_s)
                signal = filtered(recording, settings)
                if settings.normalise == "recording":
                    scale_recording(recording, signal, settings)
                if self.pseudonyms is not None:
                    recording = without_names(recording, self.pseudonyms)
                row = write_recording(self.path, self.meta, recording, signal)
            self.storage.send(self.path, file_names(recording.name))
            return row if self.pseudonyms is None else row | {"told": told}
        except DiskFullError:
            raise
        except (DataError, ConfigError, OSError) as error:
            reason = shown(error)
            named = reason if name in reason else f"{name}: {reason}"
            if self.pseudonyms is None:
                return failed_row(name, name, named)
            told = {"recording": name, "subject": name, "said": named}
            name = self.pseudonyms.recording(name)
            return failed_row(name, name, UNTOLD) | {"told": told}


def _settings_of(name: str, settings: PreprocessConfig) -> PreprocessConfig:
    """Return the settings with what they say of this recording alone."""
    hypnogram = settings.hypnogram
    stated = hypnogram.offset_s
    if not isinstance(stated, Mapping):
        return settings
    own = {name: stated[name]} if name in stated else {}
    return replace(settings, hypnogram=replace(hypnogram, offset_s=own))


def _same_source(
    reader: ModuleType,
    row: dict | None,
    header: Header,
    settings: PreprocessConfig,
    names: Names,
) -> bool:
    """Tell whether a finished recording still has the header and the stages it was made from."""
    if row is None:
        return False
    if not _is_here(header):
        return True  # in an object store: what was read once is not fetched to be compared
    # None where its hypnogram is gone, say: reading it again tells.
    found = guarded.fingerprint(reader, header, settings)
    return found is not None and row["source"] == names.source(found)


def _is_here(header: Header) -> bool:
    """Tell whether a recording's file is on this machine, rather than in an object store."""
    return not isinstance(header, Path) or header.is_file()


def _unusual(settings: PreprocessConfig) -> dict[str, object]:
    """Return the settings that decide what is read of a file, where they are not the usual ones."""
    now, usual = (configs.to_dict(s) for s in (settings, PreprocessConfig()))
    keys = ("aliases", "missing", "unit", "units", "subject", "trim_wake_min", "hypnogram")
    keys += ("group_ages_over", "normalise")
    told = {key: now[key] for key in keys if now[key] != usual[key]}
    return told | (SCALED_BY if settings.normalise == "recording" else {})


def scale_recording(
    recording: Recording, signal: np.ndarray | OnDisk, settings: PreprocessConfig
) -> None:
    """Scale the filtered signal (C, T) of a recording by what is usable of it, in place."""
    end = recording.start_s + signal.shape[1] / settings.sfreq
    usable = usable_epochs(
        signal,
        ch_names=recording.ch_names,
        sfreq=settings.sfreq,
        unit_s=settings.epoch_s,
        gaps=gaps_within(recording.gaps, recording.start_s, end),
        unit=USUAL_UNIT,
    )
    scale_robustly(signal, usable, round(settings.epoch_s * settings.sfreq))


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
