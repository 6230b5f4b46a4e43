"""Recordings as an audit sees them, from a store or from raw files, one channel at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from partsig.data.foreign import name_of
from partsig.data.guard import guarded
from partsig.data.signals import landmarks, peaks
from partsig.data.signals.hypnograms.alignment import trimmed
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED, in_half_minutes, is_sleep
from partsig.data.signals.lazy import Row, beside, forget, stretches
from partsig.data.signals.quality import Quality, is_eeg, measure
from partsig.data.signals.recordings import Recording, Rows
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.store_index import read_index
from partsig.data.signals.store_writing import FLOAT16_MAX
from partsig.data.store import OK
from partsig.data.twins import grouped
from partsig.errors import ConfigError, DataError, DiskFullError
from partsig.sleep.audit.selection import Selected
from partsig.sleep.clipping import find_clipped

# Samples of a channel up to which it is held in memory: 36 h at 256 Hz, 168 MB with its marks.
HELD = 2**25


@dataclass(frozen=True, kw_only=True)
class MeasuredRecording:
    """What is known of one recording: (E,) stages, seconds of signal, what was measured of it.

    ``measured`` has the channels' qualities, ``refused`` why a channel could not be measured,
    ``notes`` what the reader said, ``reason`` why the recording could not be read at all;
    ``listed`` names a file's channels where all were looked at, ``unread`` says why one could not
    be read;
    ``fingerprint`` (k, 2) is what tells it under another name.
    """

    name: str
    subject: str = ""
    ch_names: tuple[str, ...] = ()
    duration_s: float = 0.0
    stages: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    measured: Mapping[str, Quality] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    listed: str = ""
    unread: Mapping[str, str] = field(default_factory=dict)
    fingerprint: np.ndarray = field(default_factory=lambda: landmarks.sketch([]))

    @property
    def n_whole(self) -> int:
        """Whole epochs of signal."""
        return int(self.duration_s / EPOCH_S + 1e-6)

    @property
    def lead_in_s(self) -> float | None:
        """Seconds before the first scored epoch; None where nothing is scored."""
        scored = np.flatnonzero(self.stages != UNSCORED)
        return float(scored[0] * EPOCH_S) if len(scored) else None

    @property
    def tail_s(self) -> float:
        """Seconds beyond the last whole epoch."""
        return max(0.0, self.duration_s - self.n_whole * EPOCH_S)

    @property
    def unscored_share(self) -> float | None:
        """Share of the epochs that have no stage."""
        return float((self.stages == UNSCORED).mean()) if len(self.stages) else None


def of_store(path: Path) -> tuple[partial, list[str], list[MeasuredRecording]]:
    """Return what reads a store's recordings, their names, and those that never were readable."""
    store = open_store(path)
    failed = [
        MeasuredRecording(name=row["recording"], subject=row["subject"], reason=row["reason"])
        for row in read_index(path)
        if row["status"] != OK
    ]
    return partial(_read_stored, store=store), list(store.recordings), failed


def _read_stored(name: str, store: Store) -> MeasuredRecording:
    row = store.recordings[name]
    try:
        with guarded(name):
            return _measured_of(name, row, store)
    except DataError as error:
        return MeasuredRecording(name=name, subject=row["subject"], reason=str(error))


def _measured_of(name: str, row: Mapping[str, Any], store: Store) -> MeasuredRecording:
    signal = store.signal(name)
    limit = int(FLOAT16_MAX)
    n = len(store.ch_names)
    rows = Rows(
        labels=store.ch_names,
        signal=signal,
        sfreq=store.sfreq,
        picks=tuple(range(n)),
        scale=(1.0,) * n,
        offset=(0.0,) * n,
        limits=((-limit, limit),) * n if store.meta["dtype"] == "float16" else None,
    )
    measured = _measured(
        Recording(
            name=name,
            subject=row["subject"],
            ch_names=store.ch_names,
            parts=(rows,),
            stages=_stages_of(store, name),
            source=row["source"],
            filled=tuple(row["filled"].split("; ")) if row["filled"] else (),
            notes=tuple(row["notes"].split("; ")) if row["notes"] else (),
        ),
        microvolts=store.meta["unit"] == "µV",
    )
    forget(signal)  # the next ones need the room
    return measured


def _stages_of(store: Store, name: str) -> np.ndarray:
    """Return labels; stages of epochs that divide half a minute, of half a minute each."""
    labels, epoch_s = store.labels(name), store.unit_s
    if not is_sleep(store.label_facts) or epoch_s == EPOCH_S:
        return labels
    if (EPOCH_S / epoch_s) % 1:
        raise DataError(
            f"{name}: an audit judges {EPOCH_S:g}-s epochs, which those of {epoch_s:g} s of "
            f"{store.path} do not make up."
        )
    return in_half_minutes(labels, epoch_s)


def find_twins(recordings: Sequence[MeasuredRecording]) -> list[tuple[str, str]]:
    """Return which recordings are one, whole or in part: each with the first that is the same."""
    ordered = sorted(recordings, key=lambda recording: recording.name)
    pairs = landmarks.find_pairs([recording.fingerprint for recording in ordered])
    same = grouped((ordered[i].name, ordered[j].name) for i, j in pairs)
    return [(first, name) for name, first in same.items()]


def read_raw(
    header: Path,
    read: Callable[[Path], Selected],
    trim_wake_min: float | None = None,
    folder: Path | None = None,
) -> MeasuredRecording:
    """Read and measure one raw recording; a damaged one is returned with the reason.

    Its temporary files, if it needs any, are put
    :func:`~partsig.data.signals.lazy.beside` ``folder``'s.
    """
    name = name_of(header)
    try:
        with guarded(name):
            with beside(folder):
                selected = read(header)
            recording = selected.recording
            if trim_wake_min is not None:
                recording = trimmed(recording, trim_wake_min)
            measured = _measured(recording)
            return replace(measured, listed=selected.listed, unread=selected.unread)
    except DiskFullError:
        raise  # no fault of this recording: the others would meet it too
    except (DataError, ConfigError) as error:
        return MeasuredRecording(name=name, subject=name, reason=str(error))


def duration(recording: Recording) -> float:
    """Return the seconds of a recording that are kept."""
    end = min(part.signal.shape[-1] / part.sfreq for part in recording.parts)
    end = end if recording.stop_s is None else min(end, recording.stop_s)
    return max(0.0, end - recording.start_s)


def _measured(recording: Recording, microvolts: bool = True) -> MeasuredRecording:
    """Measure a recording's channels, one after the other.

    Of what is not in µV (features of epochs, scaled signals) no amplitude, line or clipping can be
    judged: those channels are told that have no values, or one value only.
    """
    measured, refused, keys = {}, {}, []
    extent_s = len(recording.ch_names) * duration(recording)
    for c, name in enumerate(recording.ch_names):
        signal, clipped, sfreq = read_channel(recording, c)
        keys.append(peaks.keys_of(peaks.Channel(signal), sfreq, extent_s))
        if not microvolts:
            if wrong := _without_values(signal):
                refused[name] = wrong
            continue
        try:
            measured[name] = measure(signal, sfreq, clipped, is_eeg(name))
        except DataError as error:
            refused[name] = str(error)
    return MeasuredRecording(
        name=recording.name,
        subject=recording.subject,
        ch_names=recording.ch_names,
        duration_s=duration(recording),
        stages=recording.stages,
        measured=measured,
        refused=refused,
        filled=recording.filled,
        notes=recording.notes,
        fingerprint=landmarks.sketch(keys),
    )


def _without_values(signal: Row) -> str | None:
    """Return why a channel (T,) says nothing; None where it does."""
    low, high = np.inf, -np.inf
    for start, stop in stretches(len(signal)):
        part = signal[start:stop]
        if not np.isfinite(part).all():
            return "it holds values that are not finite"
        low, high = min(low, part.min()), max(high, part.max())
    return None if low < high else "it has the same value throughout"


def read_channel(recording: Recording, c: int) -> tuple[Row, Row, float]:
    """Return channel ``c`` of a recording in µV (T,) float32, where it is clipped (T,), and Hz.

    A derivation is clipped where any of its rows is; rows of a lower rate are interpolated. Rows of
    up to :data:`HELD` samples are read at once, longer ones as they are sliced.
    """
    places = [(part, r) for part in recording.parts for r in range(len(part.picks))]
    weights = {c: 1.0}
    if recording.mix is not None:
        weights = {r: float(w) for r, w in enumerate(recording.mix[c]) if w} or {0: 0.0}
    sfreq = max(places[r][0].sfreq for r in weights)
    rows = []
    for r, weight in weights.items():
        part, row = places[r]
        signal = Row(part.signal.shape[1], np.dtype(np.float32), partial(part.microvolts, row))
        signal = signal.loaded() if len(signal) <= HELD else signal.remembered()
        clipped = find_clipped(signal, _limits(part, row))
        clipped = clipped.loaded() if len(signal) <= HELD else clipped
        rows.append((*_at_rate(signal, clipped, part.sfreq, sfreq), weight))

    def total(start: int, stop: int) -> np.ndarray:
        mixed = None
        for signal, _, weight in rows:
            own = signal[start:stop] if weight == 1 else signal[start:stop] * np.float32(weight)
            mixed = own if mixed is None else mixed + own
        return mixed

    def marks(start: int, stop: int) -> np.ndarray:
        return np.logical_or.reduce(
            [clipped[start:stop] & (weight != 0) for _, clipped, weight in rows]
        )

    n = min(len(signal) for signal, _, _ in rows)
    start = round(recording.start_s * sfreq)
    stop = None if recording.stop_s is None else round(recording.stop_s * sfreq)
    start, stop, _ = slice(start, stop).indices(n)
    return (
        Row(n, np.dtype(np.float32), total).part(start, stop),
        Row(n, np.dtype(bool), marks).part(start, stop),
        sfreq,
    )


def _at_rate(signal: Row, clipped: Row, own: float, sfreq: float) -> tuple[Row, Row]:
    """Return a channel at another rate, between its samples by straight lines, and its marks."""
    if own == sfreq:
        return signal, clipped
    n, n_own = int(len(signal) / own * sfreq), len(signal)

    def around(start: int, stop: int) -> tuple[np.ndarray, int, int]:
        """Return where samples lie among the channel's own, and what of these is needed."""
        at = np.arange(start, stop) * (own / sfreq)
        return at, min(int(at[0]), n_own - 1), min(int(at[-1]) + 3, n_own)

    def values(start: int, stop: int) -> np.ndarray:
        at, low, high = around(start, stop)
        return np.interp(at, np.arange(low, high), signal[low:high]).astype(np.float32)

    def marks(start: int, stop: int) -> np.ndarray:
        at, low, high = around(start, stop)
        return clipped[low:high][np.minimum(at.round().astype(int), n_own - 1) - low]

    return Row(n, signal.dtype, values), Row(n, clipped.dtype, marks)


def _limits(part: Rows, row: int) -> tuple[float, float] | None:
    """Return the least and greatest µV a row can hold, or None where nothing bounds it."""
    if part.limits is not None:
        ends = part.limits[row]
    elif np.issubdtype(part.signal.dtype, np.integer):
        kind = np.iinfo(part.signal.dtype)
        ends = (kind.min, kind.max)
    else:
        return None
    # The same arithmetic as Rows.microvolts, to the last bit.
    held = np.array(ends, np.float32) - np.float32(part.offset[row])
    least, most = sorted((held * np.float32(part.scale[row])).tolist())
    return least, most
