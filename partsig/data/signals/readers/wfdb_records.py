"""Any WFDB records: a header ``NAME.hea``, signals in any of the formats that wfdb reads.

Stages are in ``NAME.st`` (MIT-BIH polysomnography, doi 10.13026/C23K5S: one mark per 30-s epoch,
Rechtschaffen and Kales' stage first, then events) or in ``NAME.arousal`` (challenge-2018: change
points). The signals are read by wfdb; annotations by annotations.py, which says why.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from partsig.data import listing as folders
from partsig.data.foreign import check_regular
from partsig.data.guard import describe
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.alignment import to_epochs
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED
from partsig.data.signals.inventory import WORD, Listed, expanded
from partsig.data.signals.lazy import STRETCH, Row, room, stretches
from partsig.data.signals.readers import psg, wfdb_segments
from partsig.data.signals.readers.edf_header import LONGEST_S, NO_STARTS
from partsig.data.signals.readers.edf_marks import Mark
from partsig.data.signals.readers.wfdb_annotations import read_annotations
from partsig.data.signals.readers.wfdb_checksums import Checksum
from partsig.data.signals.readers.wfdb_header import check_size, readable, uncalibrated
from partsig.data.signals.readers.wfdb_missing import BITS, bridged
from partsig.data.signals.recordings import (
    USUAL,
    ReadConfig,
    Recording,
    check_folder,
    sorted_by_name,
)
from partsig.errors import DataError

if TYPE_CHECKING:
    import wfdb

CHANNELS = ("C4-M1",)
ANY_CHANNELS = True  # recordings of any make: an audit measures what is there
ANY_EPOCH = True
# What a recording is called, where a folder cannot be looked into.
FILES = ("*.hea",)
# What wfdb raises for a damaged header or signal file, beside its own ValueError.
DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, OverflowError)
# Steps per unit are no smaller, nor greater than its inverse.
LEAST_GAIN = 1e-12
# FLAC makes EEG two to four times smaller; a flat signal of so many samples is let pass.
SAMPLES_PER_BYTE, SMALL = 100, 2**24
# Formats of which a stretch can be read by itself: not of differences, nor compressed.
FROM_THE_MIDDLE = {"80", "160", "16", "61", "212", "310", "311", "24", "32"}
# Bytes that 1, 2, … samples of a block take (WFDB signal(5)); what is compressed has no such.
BLOCKS = {"8": (1,), "80": (1,), "160": (2,), "16": (2,), "61": (2,), "24": (3,), "32": (4,)}
BLOCKS |= {"212": (2, 3), "310": (2, 4, 4), "311": (2, 3, 4)}


def find_records(raw: Path) -> list[Path]:
    """Return the headers below ``raw``, sorted by name; those of another's segments are none.

    Raises DataError when there is none.
    """
    check_folder(raw, "the records")
    records = list(raw.rglob("*.hea"))
    if not records:
        raise DataError(f"no records in {raw}: expected headers such as slp01a.hea.")
    return sorted_by_name(wfdb_segments.without_segments(records), "record")


def find_marks(header: Path) -> Path | None:
    """Return the file of a record's stages, or None."""
    for suffix in (".st", ".arousal"):
        if header.with_suffix(suffix).is_file():
            return header.with_suffix(suffix)
    return None


def fingerprint(header: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a record's header, signal files and stages."""
    others = [p for p in folders.matching(header.parent, f"{header.stem}.*") if p != header]
    others += wfdb_segments.files_of(header)
    return psg.fingerprint(
        header, *(p for p in others if p.is_file() and not p.name.endswith(".tmp"))
    )


def read_recording(header: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one record: chosen channels read, stages aligned, nothing filtered.

    Samples that were not digitised are bridged by straight lines, and frames that are cut off at
    the end are left out, both with a note. Raises DataError for anything damaged or missing.
    """
    name = header.stem
    if WORD in (settings.channels or ()):
        settings = expanded(name, [one.label for one in list_channels(header)], settings)
    channels = settings.channels or CHANNELS
    with readable(header) as (place, left_out):
        if wfdb_segments.is_master(place):
            head = _header(place)
            opened = partial(_open, settings=settings)
            file = wfdb_segments.open_master(
                place, float(head.fs), channels, settings, _labels, opened
            )
            chosen = resolve(name, file.labels, channels, settings)
        else:
            head = _checked(place)
            file = _open(place, channels, settings)
            # Two signals of one name are told apart by where they stand in the header alone.
            chosen = resolve(name, head.sig_name, channels, settings)
            chosen = replace(chosen, rows=tuple(range(len(chosen.rows))))
        start = head.base_datetime
        file = replace(file, start=None if start in NO_STARTS else start)
        sfreq, notes = float(head.fs), [*left_out, *file.notes]
    parts, chosen = psg.read_rows(file, chosen, settings)
    notes += chosen.notes
    n = int(file.duration_s / settings.epoch_s + 1e-9)
    stages, start_s = np.full(n, UNSCORED, np.int8), 0.0
    scored = find_marks(header)
    if scored is not None:
        marks = _marks(scored, sfreq)
        hypnogram = from_marks(scored.name, marks, settings.hypnogram)
        placed = name, hypnogram, 0.0, file.duration_s, list(file.gaps)
        stages, start_s, more = to_epochs(*placed, settings.epoch_s)
        notes += [*hypnogram.notes, *more]
    return Recording(
        name=name,
        subject=settings.subject_of(name),
        ch_names=tuple(channels),
        parts=parts,
        mix=chosen.mix,
        filled=chosen.filled,
        stages=stages,
        start_s=start_s,
        source=fingerprint(header),
        notes=tuple(notes),
        start=file.start,
        gaps=file.gaps,
    )


def _header(header: Path) -> "wfdb.Record":
    # Imported here, since pandas comes with it, 70 MB: only where there is such a record.
    import wfdb

    try:
        head = wfdb.rdheader(str(header.with_suffix("")))
    except DAMAGE as error:
        raise DataError(f"{header.name}: not a WFDB header ({describe(error)}).") from error
    if not head.fs:
        raise DataError(f"{header.name}: the header names no rate.")
    return head


def list_channels(header: Path) -> list[Listed]:
    """Return what a record's header says of its channels; of segments, those of all together."""
    with readable(header) as (place, _):
        paths = [place]
        if wfdb_segments.is_master(place):
            named = dict.fromkeys(part for part, _ in wfdb_segments.segments_of(place))
            paths = [place.with_name(f"{n}.hea") for n in named if n != wfdb_segments.MISSING]
        listed: list[Listed] = []
        for path in paths:
            check_size(path)
            head = _header(path)
            names, units = head.sig_name or (), head.units or ()
            each = head.samps_per_frame or [1] * len(names)
            here = zip(names, units, each, strict=True)
            listed += [Listed(name or "", unit, head.fs * (n or 1)) for name, unit, n in here]
    return listed if len(paths) == 1 else list(dict.fromkeys(listed))


def _labels(header: Path) -> tuple[str, ...]:
    check_size(header)
    return tuple(label or "" for label in _header(header).sig_name or ())


def _checked(header: Path) -> "wfdb.Record":
    """Return a record's header; raise DataError where it claims what no record has."""
    head = _header(header)
    lacking = {
        "no signals": not head.n_sig,
        "no number of samples": not head.sig_len,
        "a signal without a description": not head.sig_name or None in head.sig_name,
    }
    if any(lacking.values()):
        what = next(what for what, lacks in lacking.items() if lacks)
        raise DataError(f"{header.name}: the header has {what}; complete it (WFDB header(5)).")
    if not 0 < head.sig_len / head.fs <= LONGEST_S:
        raise DataError(
            f"{header.name}: {head.sig_len} samples at {head.fs:g} Hz; the header is damaged."
        )
    if any(abs(delay or 0) > head.sig_len for delay in head.skew or ()):
        raise DataError(f"{header.name}: a signal begins after the end; the header is damaged.")
    return head


def _open(header: Path, channels: Sequence[str], settings: ReadConfig) -> psg.Psg:
    """Return a record of one segment, with those signals alone that these channels are made of."""
    name, head = header.stem, _checked(header)
    rows = resolve(name, head.sig_name, channels, settings).rows
    for row in rows:  # others may have what they like
        if not LEAST_GAIN <= abs(head.adc_gain[row]) <= 1 / LEAST_GAIN:
            raise DataError(
                f"{header.name}: a gain of {head.adc_gain[row]} of {head.sig_name[row]!r}; the "
                "header is damaged."
            )
    n_frames, notes = _frames(header, head, rows)
    try:
        record, held = _decoded(header, head, list(rows), n_frames, verify=settings.verify)
    except DAMAGE as error:
        if "61" in {head.fmt[row] for row in rows}:
            raise DataError(
                f"{name}: wfdb does not read its format, 61: convert it to 16 (xform of WFDB)."
            ) from error
        raise DataError(f"{name}: its signals cannot be read ({describe(error)}).") from error
    except RuntimeError as error:  # of soundfile, which wfdb reads FLAC with
        reason = str(error).rstrip(".")
        raise DataError(
            f"{name}: its compressed signals are cut off or damaged ({reason}); copy them again."
        ) from error
    notes += [
        f"{head.sig_name[row]} is uncalibrated (no gain in its header): {head.adc_gain[row]:g} "
        f"steps per {head.units[row]} are taken"
        for row in sorted(uncalibrated(header) & set(rows))
    ]
    whole = [bridged(row, record, c, notes) for c, row in enumerate(held)]
    return psg.Psg(
        name=name,
        start=record.base_datetime,
        labels=tuple(record.sig_name),
        units=tuple(record.units),
        sfreqs=tuple(float(head.fs) * n for n in record.samps_per_frame),
        scale=tuple(1 / gain for gain in record.adc_gain),
        offset=tuple(float(zero) for zero in record.baseline),
        limits=None,
        duration_s=n_frames / head.fs,
        marks=(),
        gaps=(),
        notes=tuple(notes),
        samples=lambda c: whole[c],
    )


def _frames(header: Path, head: "wfdb.Record", rows: Sequence[int]) -> tuple[int, list[str]]:
    """Return how many frames of the header's are there in the files of these signals, and notes.

    A compressed file does not tell by its size, nor does one that is missing.
    """
    n_frames = head.sig_len
    for file in {head.file_name[row] for row in rows}:
        members = [i for i, name in enumerate(head.file_name) if name == file]
        first, path = members[0], header.parent / file
        size = check_regular(path).st_size
        per_frame = sum((head.samps_per_frame[i] or 1) for i in members)
        if head.fmt[first] not in BLOCKS:
            most = max(SAMPLES_PER_BYTE * size, SMALL)
            if n_frames * max(per_frame, len(members)) > most:
                raise DataError(
                    f"{header.stem}: {file} has {size:,} bytes, too few for {n_frames:,} frames; "
                    "copy it again."
                )
            continue
        n_bytes = size - ((head.byte_offset or {first: 0})[first] or 0)
        block = BLOCKS[head.fmt[first]]
        whole, rest = divmod(max(n_bytes, 0), block[-1])
        there = whole * len(block) + sum(end <= rest for end in block)
        held = there // per_frame
        if held < head.sig_len:  # of a delayed signal, frames lie as much further on
            held -= max((head.skew[i] or 0) for i in members) if head.skew else 0
            n_frames = min(n_frames, held)
            if held <= 0:
                raise DataError(
                    f"{header.stem}: {file} is cut off: none of {head.sig_len} frames is there; "
                    "copy it again."
                )
    if n_frames == head.sig_len:
        return n_frames, []
    return n_frames, [f"cut off: {n_frames} of {head.sig_len} frames are there"]


def _decoded(
    header: Path, head: "wfdb.Record", channels: list[int], n_frames: int, *, verify: bool
) -> tuple["wfdb.Record", list[Row]]:
    """Return the first frame of a record, with all that is said of it, and its channels' samples.

    They are decoded once, a stretch at a time (where the format can be read from the middle), into
    memory or, where they are many, into a temporary file. To ``verify`` them, they are held against
    the header's first values and checksums.
    """
    import wfdb

    def read(start: int, stop: int) -> "wfdb.Record":
        return wfdb.rdrecord(
            str(header.with_suffix("")),
            sampfrom=start,
            sampto=stop,
            channels=channels,
            physical=False,
            smooth_frames=False,
        )

    whole = any(head.skew or ()) or not set(head.fmt) <= FROM_THE_MIDDLE
    record = read(0, n_frames if whole else 1)
    if not whole:
        read(n_frames - 1, n_frames)  # a damaged file is refused before there is room
    per_frame = [n or 1 for n in record.samps_per_frame]
    held = room((len(channels), n_frames * max(per_frame)), np.int32)
    sums = [Checksum() for _ in channels]
    for start, stop in stretches(n_frames, n_frames if whole else STRETCH):
        frames = record if whole else read(start, stop)
        for c, n in enumerate(per_frame):
            held[c : c + 1, start * n : stop * n] = frames.e_d_signal[c]
            sums[c].add(np.asarray(frames.e_d_signal[c]), BITS.get(record.fmt[c]))
    for c, row in enumerate(channels if verify and not any(head.skew or ()) else ()):
        sums[c].check(header.stem, head, row, whole=n_frames == head.sig_len)

    def row(c: int) -> Row:
        def samples(start: int, stop: int) -> np.ndarray:
            return np.asarray(held[c : c + 1, start:stop])[0]

        return Row(n_frames * per_frame[c], np.dtype(np.int64), samples)

    return record, [row(c) for c in range(len(channels))]


def _marks(path: Path, sfreq: float) -> list[Mark]:
    """Return the stages of an annotation file as marks, the first word of each text."""
    samples, texts, resolution = read_annotations(path)
    duration = EPOCH_S if path.suffix == ".st" else None
    marks = []
    for sample, text in zip(samples, texts, strict=True):
        words = text.split()
        if not words or words[0].startswith("(") or words[0].endswith(")"):
            continue
        onset = float(sample) / (resolution or sfreq)
        stage = f"stage {words[0]}" if words[0].isdigit() else words[0]
        marks.append(Mark(onset=onset, duration=duration, text=stage))
    return marks
