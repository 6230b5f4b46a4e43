"""Any polysomnography file, opened but not read: EDF and BDF by partsig, the rest through MNE."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsig.data.foreign import open_regular
from partsig.data.signals import inventory, units
from partsig.data.signals.channels import Resolved
from partsig.data.signals.lazy import Row, Stack
from partsig.data.signals.readers import brainvision, fif_parts, mne_process, segments
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.edf_marks import Mark, find_gaps, first_onset, read_marks
from partsig.data.signals.readers.mne_child import describe
from partsig.data.signals.recordings import LEAST_HZ, MOST_HZ, ReadConfig, Rows
from partsig.errors import DataError
from partsig.text import quoted

if TYPE_CHECKING:
    import mne

EDF = (".edf", ".rec", ".bdf")
# BrainVision's header is the .vhdr; the .eeg and .vmrk beside it belong to it.
MNE = (".fif", ".vhdr", ".set")
# More missing signal than so much, or than so many times what there is, is no gap but two
# recordings, or a damaged onset.
MOST_GAPS_S, MOST_GAPS = 24 * 3600.0, 10
FINGERPRINT = 2**20


@dataclass(frozen=True, kw_only=True)
class Psg:
    """An open recording: what its header says, and each channel's samples, not read yet."""

    name: str
    start: datetime | None  # of the first sample
    labels: tuple[str, ...]
    units: tuple[str, ...]
    sfreqs: tuple[float, ...]
    scale: tuple[float, ...]  # value = (sample - offset) * scale, in the unit
    offset: tuple[float, ...]
    limits: tuple[tuple[int, int], ...] | None
    faults: tuple[str, ...] = ()  # why a channel cannot be read, "" where it can
    lead_s: float = 0.0  # from the time in the header to the first sample
    duration_s: float  # gaps included
    marks: tuple[Mark, ...]
    gaps: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]
    samples: Callable[[int], Row]


def open_psg(path: Path) -> Psg:
    """Open a recording by its extension.

    Raises DataError when it is damaged, of another format, or needs MNE and that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in EDF:
        return _open_edf(path)
    if suffix in MNE:
        return _open_mne(path)
    raise DataError(
        f"{path.name} is no recording by its ending; it can be {', '.join((*EDF, *MNE))}."
    )


def list_channels(path: Path) -> list[inventory.Listed]:
    """Return what a recording's header says of its channels; raises what open_psg does."""
    return inventory.of(open_psg(path))


def _open_edf(path: Path) -> Psg:
    file = open_edf(path)
    if not file.labels:
        raise DataError(
            f"{path.name} holds annotations alone and no signal: name the recording that they are "
            "of."
        )
    marks, onsets = read_marks(file)
    gaps = find_gaps(file, onsets) if file.discontinuous else []
    missing = _missing(path.name, gaps, file.duration_s, "records")
    notes = [*file.notes, *_told(gaps)]
    if file.cut and not all(mark.duration for mark in marks):
        marks = [mark for mark in marks if mark.duration]
        notes.append("annotations without a duration are left out: what ends them may be missing")

    # Cropping leaves a mark of no duration at the very end, of a stage that is cut off.
    duration_s = file.duration_s + missing
    marks = [mark for mark in marks if mark.duration or mark.onset < duration_s]

    def samples(index: int) -> Row:
        row = file.row(index)
        if not gaps:
            return row
        return segments.bridged(row, *_runs(onsets, file.n_samples[index], file.record_s))

    start, lead_s = file.start, first_onset(file)
    return Psg(
        name=path.stem,
        start=None if start is None else start + timedelta(seconds=lead_s),
        lead_s=lead_s,
        labels=file.labels,
        units=file.units,
        sfreqs=file.sfreqs,
        scale=file.scale,
        offset=file.offset,
        limits=file.digital,
        faults=file.faults,
        duration_s=duration_s,
        marks=tuple(marks),
        gaps=tuple(gaps),
        notes=tuple(notes),
        samples=samples,
    )


def _missing(
    name: str, gaps: Sequence[tuple[float, float]], duration_s: float, pieces: str = "pieces"
) -> float:
    """Return the seconds that gaps last in all; raise DataError where there is hardly more."""
    missing = sum(stop - start for start, stop in gaps)
    if missing > min(MOST_GAPS_S, MOST_GAPS * duration_s):
        raise DataError(
            f"{name}: {missing / 3600:.2g} h are missing between its {pieces}; cut it into "
            "the recordings it holds."
        )
    return missing


def _told(gaps: Sequence[tuple[float, float]]) -> list[str]:
    """Return a sentence on gaps, where there are any."""
    spans = [stop - start for start, stop in gaps if stop > start]
    if not spans:
        return []
    one = f"1 gap of {spans[0]:.6g} s is"
    told = one if len(spans) == 1 else f"{len(spans)} gaps of {sum(spans):.6g} s in all are"
    return [f"{told} bridged and unscored"]


def _runs(
    onsets: Sequence[float], per_record: int, record_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs of records that follow one another begin, in the file and in time."""
    at = np.round(np.asarray(onsets) * (per_record / record_s)).astype(np.int64)
    first = np.append(0, np.flatnonzero(np.diff(at) != per_record) + 1)
    return first * per_record, at[first]


def _open_mne(path: Path) -> Psg:
    fif_parts.check_first(path)
    file = mne_process.open_mne(path)
    told = {
        "labels": file.labels,
        "units": file.units,
        "sfreq": file.sfreq,
        "n_times": file.n_times,
    }
    told |= {"start": file.start, "marks": file.marks, "notes": file.notes}
    joins = None
    if path.suffix.lower() == ".vhdr":  # MNE keeps no pause, and any piece's date for the first's
        told["start"], joins = segments.read_brainvision(path, file.sfreq, file.n_times)
        told["notes"] += tuple(brainvision.notes_of(path))
    return _in_volts(path.stem, told, file.read, joins)


def from_raw(raw: "mne.io.BaseRaw", name: str) -> Psg:
    """Return an ``mne.io.Raw`` as an open recording: volts, one rate, its annotations as marks."""
    told = describe(raw)
    start = told["start"] and datetime.fromisoformat(told["start"])

    def read(picks: list[int], start: int, stop: int) -> np.ndarray:
        return raw.get_data(picks=picks, start=start, stop=stop, verbose="error")

    return _in_volts(name, told | {"start": start}, read)


def _in_volts(
    name: str,
    told: Mapping[str, Any],
    read: Callable[[list[int], int, int], np.ndarray],
    joins: list[segments.Join] | None = None,
) -> Psg:
    """Return what was told of a recording, of which ``read`` returns channels (C, T) in volts.

    ``joins`` are those of its pieces; None: what its annotations tell of them.
    """
    n_times, sfreq, start = told["n_times"], told["sfreq"], told["start"]
    marks = [Mark(onset=onset, duration=span, text=text) for onset, span, text in told["marks"]]
    # Cropping leaves a mark of no duration at the very end, of a stage that is cut off.
    marks = [mark for mark in marks if mark.onset < n_times / sfreq]
    n = len(told["labels"])
    # What is said of units is of the file's numbers, which are not those that MNE gives.
    named = tuple(unit if unit.lower() in units.UNITS else "V" for unit in told["units"])
    if joins is None:
        joins = segments.joins_among(marks, sfreq, n_times)
    gaps = segments.gaps_of(joins, sfreq)
    missing = _missing(name, gaps, n_times / sfreq)
    notes = [*told.get("notes", ()), *_told(gaps)]
    unknown = [gap for gap, join in zip(gaps, joins, strict=True) if join.missing_s is None]
    if unknown:  # after a pause of unknown length, no clock holds
        start = None
        notes.append(
            f"recorded in pieces, and nothing tells how long the pause at {unknown[0][0]:.6g} s "
            "was, so that no time of day is known"
        )

    # MNE reads all channels to get one: those asked for are read together, a stretch at a time.
    chosen: list[int] = []
    last: dict[tuple[int, int], dict[int, np.ndarray]] = {}

    def samples(index: int) -> Row:
        chosen.append(index)

        def row(start: int, stop: int) -> np.ndarray:
            if index not in last.get((start, stop), {}):
                last.clear()
                picks = sorted(set(chosen))
                last[start, stop] = dict(zip(picks, read(picks, start, stop), strict=True))
            return last[start, stop][index]

        whole = Row(n_times, np.dtype(float), row)
        return segments.spread(whole, joins, sfreq) if missing else whole

    return Psg(
        name=name,
        start=start,
        labels=tuple(told["labels"]),
        units=named,
        sfreqs=(sfreq,) * n,
        scale=tuple(1e6 / units.UNITS[unit.lower()] for unit in named),
        offset=(0.0,) * n,
        limits=None,
        duration_s=n_times / sfreq + missing,
        marks=tuple(segments.at_true_times(marks, joins, sfreq)),
        gaps=tuple(gaps),
        notes=tuple(notes),
        samples=samples,
    )


def read_rows(
    psg: Psg, resolved: Resolved, settings: ReadConfig
) -> tuple[tuple[Rows, ...], Resolved]:
    """Return the chosen channels by sampling rate, not read yet, and the choice in that order.

    Units are the settings', else the header's; the choice's notes have what is doubtful of them.
    Raises DataError for a channel that is no voltage, or whose amplitude shows that its unit is
    wrong.
    """
    stated, factors = {}, {}
    for row in resolved.rows:
        if psg.faults and psg.faults[row]:
            raise DataError(psg.faults[row])
        label = psg.labels[row]
        stated[row] = units.stated(settings, label, psg.units[row])
        factors[row] = units.factor_of(psg.name, label, stated[row][0])
    by_rate: dict[float, list[int]] = {}
    for row in resolved.rows:
        by_rate.setdefault(psg.sfreqs[row], []).append(row)
    parts, notes = [], units.unknown(settings.units, psg.labels)
    for sfreq, members in by_rate.items():
        if not LEAST_HZ <= sfreq <= MOST_HZ:
            raise DataError(
                f"{psg.name}: channel {quoted(psg.labels[members[0]])} at {sfreq:g} Hz; rates from "
                f"{LEAST_HZ:.2g} to {MOST_HZ:,.0f} Hz are read."
            )
        part = Rows(
            labels=tuple(psg.labels[row] for row in members),
            signal=Stack([psg.samples(row) for row in members]),
            sfreq=sfreq,
            picks=tuple(range(len(members))),
            scale=tuple(psg.scale[row] * factors[row] for row in members),
            offset=tuple(psg.offset[row] for row in members),
            limits=None if psg.limits is None else tuple(psg.limits[row] for row in members),
        )
        notes += units.check_amplitude(psg.name, part, [stated[row] for row in members], psg.gaps)
        parts.append(part)
    order = [row for members in by_rate.values() for row in members]
    mix = resolved.mix
    if len(parts) > 1:
        mix = np.eye(len(resolved.rows)) if mix is None else mix
        mix = mix[:, [resolved.rows.index(row) for row in order]]
    chosen = replace(resolved, rows=tuple(order), mix=mix, notes=(*resolved.notes, *notes))
    return tuple(parts), chosen


def fingerprint(*paths: Path) -> str:
    """Return 16 hex digits of files: their size, and the first and the last MiB of each.

    A recording in several files is all of them.
    """
    digest = hashlib.sha256()
    for path in [part for first in paths for part in fif_parts.parts_of(first)]:
        try:
            with open_regular(path) as handle:
                digest.update(handle.read(FINGERPRINT))
                size = handle.seek(0, os.SEEK_END)
                handle.seek(max(size - FINGERPRINT, 0))
                digest.update(handle.read())
        except OSError as error:
            raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
        digest.update(os.fsencode(f"{path.name} {size}"))
    return digest.hexdigest()[:16]
