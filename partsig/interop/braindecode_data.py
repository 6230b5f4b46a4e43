"""Stores as braindecode datasets, read from disk window by window, and the way back."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from partsig import config as configs
from partsig.data.signals import inventory
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.stages import SLEEP, UNSCORED
from partsig.data.signals.lazy import beside
from partsig.data.signals.preprocessing import PreprocessConfig, filtered
from partsig.data.signals.readers import psg
from partsig.data.signals.readers.edf_recordings import stages_of
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.store import locate
from partsig.errors import ConfigError, DataError
from partsig.interop import units
from partsig.progress import bar

if TYPE_CHECKING:
    import mne
    from braindecode.datasets import BaseConcatDataset

SOURCE = "braindecode"
ENDS = 1000  # samples at either end that tell one recording from another
NEEDED = "conversion needs braindecode: pip install 'partsig[baselines]'."


def _braindecode() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # braindecode 1.8 uses a name that MNE 1.13 deprecates, when it is imported.
            warnings.simplefilter("ignore", FutureWarning)
            from braindecode import datasets
    except ImportError:
        raise ConfigError(NEEDED) from None
    return datasets


class Scaled:
    """Volts to another unit, as a braindecode transform; a class so that it can be pickled."""

    def __init__(self, unit: str) -> None:
        self.factor = np.float32(1e6 / units.factor_of(unit))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x * self.factor


def to_braindecode(
    store: str | Path | Store,
    subjects: Iterable[str] | None = None,
    *,
    unit: str = "uV",
    unscored: bool = False,
    allow_http: bool = False,
) -> "BaseConcatDataset":
    """Return the epochs of a store as braindecode's ``EEGWindowsDataset``, one a recording.

    Windows are (C, T) float32 in ``unit``, targets index the store's classes (-1: unscored, with
    ``unscored``); the description has recording, subject, age and sex, to split by
    (``.split("subject")``). Nothing is loaded: each window is read when it is asked for. ``.raw``
    of a recording is a lazy ``mne.io.BaseRaw`` in volts, its stages among the annotations.
    ``allow_http``: the store's address may be of http:// and the like, which is not encrypted.

    Raises DataError for subjects that are not there.
    """
    datasets = _braindecode()
    import pandas as pd

    from partsig.interop.raw import StoreRaw

    opened = store if isinstance(store, Store) else open_store(locate(store, allow_http=allow_http))
    wanted = list(opened.subjects if subjects is None else subjects)
    unknown = [subject for subject in wanted if subject not in opened.subjects]
    if unknown:
        raise DataError(f"{opened.path} has no subject {', '.join(map(str, unknown[:5]))}.")
    transform = None if unit == "V" else Scaled(unit)
    n_times = round(opened.unit_s * opened.sfreq)
    found = []
    for name in opened.recordings_of(wanted):
        row, codes = opened.recordings[name], opened.labels(name)
        epochs = np.arange(len(codes)) if unscored else np.flatnonzero(codes != UNSCORED)
        if not len(epochs):
            continue
        metadata = pd.DataFrame(
            {
                "i_window_in_trial": epochs,
                "i_start_in_trial": epochs * n_times,
                "i_stop_in_trial": (epochs + 1) * n_times,
                "target": codes[epochs].astype(int),
            }
        )
        description = {key: row[key] for key in ("recording", "subject", "age", "sex")}
        raw = StoreRaw(opened, name)
        found.append(datasets.EEGWindowsDataset(raw, metadata, description, transform))
    if not found:
        raise DataError(f"{opened.path} has no scored epoch of these subjects.")
    return datasets.BaseConcatDataset(found)


def from_braindecode(
    dataset: "BaseConcatDataset",
    store: str | Path,
    *,
    overrides: Mapping[str, object] | Iterable[str] = (),
) -> Path:
    """Write a store of a braindecode dataset's recordings and return its path.

    ``RawDataset``: stages are the annotations of the raw. ``EEGWindowsDataset``: stages are the
    targets 0 to 4, -1 unscored, of 30-s windows on one grid; windows that were left out are
    unscored. Either way the *continuous* signal is filtered and resampled as ``preprocess`` does;
    ``overrides`` are its settings (``channels`` default to all EEG, EOG and EMG ones; signals that
    are band-passed already: ``l_freq=null``, ``h_freq=null``). The description's ``recording``,
    ``subject``, ``age`` and ``sex`` are used; **without a subject, it must be told**: nights of one
    sleeper would leak. The same call again continues.

    Raises DataError for datasets of cut windows (``WindowsDataset``): filtering after cutting would
    show where windows end.
    """
    datasets = _braindecode()
    settings = configs.compose(PreprocessConfig, "preprocess", None, overrides)
    path = Path(store)
    parts = dataset.datasets if isinstance(dataset, datasets.BaseConcatDataset) else [dataset]
    for part in parts:
        if not isinstance(part, datasets.RawDataset | datasets.EEGWindowsDataset):
            raise DataError(
                f"a {type(part).__name__} holds cut windows; filters need whole recordings: pass "
                "a RawDataset or an EEGWindowsDataset."
            )
    if settings.channels is None:
        settings = replace(settings, channels=_usual(parts[0].raw))
    if inventory.WORD in settings.channels:
        made = [inventory.sources(SOURCE, part.raw.ch_names, settings) for part in parts]
        settings, _ = inventory.agreed(made, settings)
    meta = make_meta(
        source=SOURCE,
        ch_names=settings.channels,
        sfreq=settings.sfreq,
        l_freq=settings.l_freq,
        h_freq=settings.h_freq,
        dtype=settings.dtype,
    )
    names = [_told(part, "recording") or f"recording-{i:04d}" for i, part in enumerate(parts)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"recordings {', '.join(sorted(twice)[:3])} are there twice; rename them.")
    rows = create_store(path, meta)
    todo = [
        (name, part, source)
        for name, part, source in zip(names, parts, map(_fingerprint, parts), strict=True)
        if name not in rows or rows[name]["source"] != source
    ]
    for name, part, source in bar(todo, unit="recording", desc="from braindecode"):
        recording = replace(_recording(name, part, settings), source=source)
        with beside(path):
            signal = filtered(recording, settings)
        rows[name] = write_recording(path, meta, recording, signal)
        write_index(path, rows.values())
    return path


def _usual(raw: "mne.io.BaseRaw") -> tuple[str, ...]:
    kinds = raw.get_channel_types()
    usual = tuple(
        name
        for name, kind in zip(raw.ch_names, kinds, strict=True)
        if kind in ("eeg", "eog", "emg")
    )
    if not usual:
        raise DataError(f"no EEG, EOG or EMG among {', '.join(raw.ch_names)}; name channels=….")
    return usual


def _told(part: object, key: str) -> str:
    """Return what a dataset's description says, "" where it says nothing."""
    value = None if part.description is None else part.description.get(key)
    return "" if value is None or value != value else str(value)


def _fingerprint(part: object) -> str:
    """Return 16 hex digits of a dataset: what it says, its length, its ends and its stages."""
    raw, digest = part.raw, hashlib.sha256()
    about = {} if part.description is None else dict(part.description)
    digest.update(f"{about} {raw.ch_names} {raw.info['sfreq']} {raw.n_times}".encode())
    for ends in (slice(0, ENDS), slice(max(raw.n_times - ENDS, 0), raw.n_times)):
        digest.update(raw.get_data(start=ends.start, stop=min(ends.stop, raw.n_times)).tobytes())
    if hasattr(part, "crop_inds"):
        digest.update(np.asarray(part.crop_inds).tobytes() + str(list(part.y)).encode())
    else:
        told = raw.annotations
        digest.update(f"{list(told.onset)} {list(told.duration)} {list(told.description)}".encode())
    return digest.hexdigest()[:16]


def _recording(name: str, part: object, settings: PreprocessConfig) -> Recording:
    subject = _told(part, "subject")
    if not subject:
        raise DataError(
            f"{name}: the description names no subject; add it with set_description, one a person."
        )
    file = psg.from_raw(part.raw, name)
    found = resolve(name, file.labels, settings.channels, settings)
    rows, found = psg.read_rows(file, found, settings)
    if hasattr(part, "crop_inds"):
        stages, start_s = _of_windows(name, part, file.duration_s)
        notes = []
    else:
        hypnogram = from_marks(name, file.marks, settings.hypnogram)
        stages, start_s, notes = stages_of(name, file, hypnogram, False, settings)
    return Recording(
        name=name,
        subject=subject,
        ch_names=tuple(settings.channels),
        parts=rows,
        mix=found.mix,
        filled=found.filled,
        stages=stages,
        start_s=start_s,
        source="",
        notes=(*found.notes, *notes),
        age=_told(part, "age"),
        sex=_told(part, "sex"),
    )


def _of_windows(name: str, part: object, duration_s: float) -> tuple[np.ndarray, float]:
    """Return stages (E,) and the start (s) of their grid from windows and targets."""
    sfreq = part.raw.info["sfreq"]
    length = round(SLEEP.unit_s * sfreq)
    first, last = part.crop_inds[:, 1], part.crop_inds[:, 2]
    if (last - first != length).any() or len(set((first % length).tolist())) != 1:
        raise DataError(
            f"{name}: windows must last {SLEEP.unit_s:g} s, on one grid, to become scored epochs."
        )
    targets = np.asarray(part.y)
    if not np.isin(targets, [UNSCORED, *range(len(SLEEP.classes))]).all():
        allowed = ", ".join(f"{code} {stage}" for code, stage in enumerate(SLEEP.classes))
        raise DataError(
            f"{name}: targets are {', '.join(map(str, np.unique(targets)[:8]))}; they can be "
            f"{allowed}, -1 unscored."
        )
    begin = int(first[0] % length)
    stages = np.full(int((duration_s * sfreq - begin) // length), UNSCORED, np.int8)
    stages[(first - begin) // length] = targets
    return stages, begin / sfreq
