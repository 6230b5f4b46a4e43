"""EDF, EDF+ and BDF files, memory-mapped: only the channels that are asked for are ever read.

Formats: https://www.edfplus.info/specs/ (EDF 1992, EDF+ 2003) and BioSemi's 24-bit BDF. Real files
break the standard in known ways, and are read as long as what is meant is not in doubt: a record
count of -1, labels beyond ASCII, a comma as the decimal point, an unknown start. mne and edfio read
the same samples (tests hold all three together); neither maps a file of several rates without
copying or resampling it.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.signals.lazy import Row, forget, stretches
from partsig.errors import DataError

FIXED, PER_SIGNAL = 256, 256
# Header fields of all signals, one field after the other: name and width in bytes.
FIELDS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical_min": 8,
    "physical_max": 8,
    "digital_min": 8,
    "digital_max": 8,
    "prefilter": 80,
    "samples": 8,
    "reserved": 32,
}
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
# More signals or a longer record than any device writes: the header is damaged.
MOST_SIGNALS, MOST_BYTES = 4096, 2**27
# Shorter records, a longer recording and greater values than any device writes.
SHORTEST_S, LONGEST_S, MOST_VALUE = 1e-6, 366 * 86_400.0, 1e30
# Onsets of records may differ by so much (s) from where they should be before it is a gap; all
# together by no more than the second, or stages would move.
JITTER_S, DRIFT_S = 1e-3, 0.5
# The first day that the header's two digits can say, and what stands there for none.
UNTOLD = datetime(1985, 1, 1)
# Python's float also takes 1_0, nan and digits of every script.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
# A record's onset, below LONGEST_S, without an annotation.
ONSET = re.compile(rb"\+([0-9]{1,7}(?:\.[0-9]*)?)\x14\x14")
# Records whose annotations are looked at at a time.
RECORDS = 1024


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An annotation: onset and duration in seconds from the file's first sample, and a text."""

    onset: float
    duration: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Edf:
    """An open file: its header, and its samples as (records, bytes of a record)."""

    path: Path
    patient: str  # code of the local patient identification, "" where it tells none
    start: datetime | None
    labels: tuple[str, ...]  # of the signals, annotations left out
    units: tuple[str, ...]
    sfreqs: tuple[float, ...]
    scale: tuple[float, ...]  # value = (sample - offset) * scale, in the unit
    offset: tuple[float, ...]
    digital: tuple[tuple[int, int], ...]  # least and greatest sample
    n_samples: tuple[int, ...]  # per record
    first: tuple[int, ...]  # byte at which the signal starts in a record
    width: int  # bytes of a sample: 2 (EDF) or 3 (BDF)
    record_s: float
    records: np.ndarray
    notes: tuple[str, ...]
    texts: tuple[tuple[int, int], ...]  # (first byte, bytes) of the annotation signals
    discontinuous: bool
    cut: bool  # the header tells of more or fewer records than there are

    @property
    def duration_s(self) -> float:
        """Seconds of signal, gaps not counted."""
        return len(self.records) * self.record_s

    def samples(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return a signal's samples (T,), or some, as they were digitised, int16 or int32."""
        first, per_record = self.first[index], self.n_samples[index]
        start, stop, _ = slice(start, stop).indices(len(self.records) * per_record)
        records = slice(start // per_record, -(-stop // per_record))
        held = self.records[records, first : first + per_record * self.width]
        skipped = records.start * per_record
        return _integers(held, self.width).reshape(-1)[start - skipped : stop - skipped]

    def row(self, index: int) -> Row:
        """Return a signal's samples (T,), not read yet."""
        kind = np.dtype("<i2" if self.width == 2 else "<i4")
        n = len(self.records) * self.n_samples[index]
        return Row(n, kind, partial(self.samples, index), self.records)


def _integers(held: np.ndarray, width: int) -> np.ndarray:
    if width == 2:
        return np.ascontiguousarray(held).view("<i2")
    raw = np.ascontiguousarray(held).reshape(len(held), held.shape[1] // 3, 3)
    wide = np.zeros((*raw.shape[:2], 4), np.uint8)
    wide[..., 1:] = raw
    return wide.view("<i4")[..., 0] >> 8  # the sign comes down with the shift


def open_edf(path: Path) -> Edf:
    """Read the header of an EDF, EDF+ or BDF file and map its records.

    Raises DataError when the file is missing, cut off inside its header, or its header is damaged.
    Records that are cut off at the end are left out, with a note.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as handle:
            head = handle.read(FIXED)
            if len(head) < FIXED:
                raise DataError(f"{path.name}: {len(head)} bytes are no EDF file; copy it again.")
            n_signals = _whole(path, "number of signals", head[252:256], 0, MOST_SIGNALS)
            body = handle.read(n_signals * PER_SIGNAL)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
    width = _width(path, head)
    if len(body) < n_signals * PER_SIGNAL:
        raise DataError(f"{path.name}: the file ends inside its header; copy it again.")
    offset = FIXED + n_signals * PER_SIGNAL
    stated = _whole(path, "bytes of the header", head[184:192], 0, 2**31)
    if stated != offset:
        raise DataError(
            f"{path.name}: the header says it has {stated} bytes; {n_signals} signals need "
            f"{offset}."
        )
    fields = _fields(body, n_signals)
    record_s = _number(path, "duration of a record", head[244:252])
    n_samples = [_whole(path, "samples of a record", f, 0, MOST_BYTES) for f in fields["samples"]]
    ends = np.cumsum([0, *n_samples]) * width
    frame = int(ends[-1])
    if not 0 < frame <= MOST_BYTES:
        raise DataError(f"{path.name}: a record of {frame} bytes; the header is damaged.")
    notes = []
    count = _whole(path, "number of records", head[236:244], -1, 2**31)
    held, rest = divmod(size - offset, frame)
    cut = count not in (-1, held)
    if held > count != -1 and rest:
        raise DataError(
            f"{path.name}: after the last of {count} records of {frame} bytes there are "
            f"{size - offset - count * frame} bytes more, no whole number of records; the header "
            "is damaged, copy the file again."
        )
    if count == -1:
        count = held
        notes.append(f"the header does not say how many records there are; {held} were found")
    elif held < count:
        notes.append(f"cut off: {held} of {count} records are there")
    elif size - offset > count * frame:
        notes.append(f"{size - offset - count * frame} bytes after the last record are left out")
    count = min(count, held)
    labels = [_text(field) for field in fields["label"]]
    signals = [i for i, label in enumerate(labels) if label not in ANNOTATIONS and n_samples[i]]
    reserved = _text(head[192:236])
    discontinuous = reserved[:5] in ("EDF+D", "BDF+D")
    if (signals or record_s) and not SHORTEST_S <= record_s <= LONGEST_S:
        raise DataError(f"{path.name}: a record lasts {record_s:g} s; the header is damaged.")
    if record_s * count > LONGEST_S:
        raise DataError(f"{path.name}: {count} records of {record_s:g} s; the header is damaged.")
    if discontinuous and len(labels) == len(signals):
        raise DataError(
            f"{path.name}: there may be gaps between its records ({reserved[:5]}), and no "
            f"{ANNOTATIONS[0]} tell where; the header is damaged."
        )
    scaled = [_scale(path, labels[i], {k: v[i] for k, v in fields.items()}, width) for i in signals]
    start, agreed = _start(head)
    if not agreed:
        notes.append("the header gives two dates, so that its start is not known")
    if count:
        records = np.memmap(path, np.uint8, "r", offset, (count, frame))
    else:
        records = np.zeros((0, frame), np.uint8)
    return Edf(
        path=path,
        patient=_patient(head),
        start=start,
        labels=tuple(labels[i] for i in signals),
        units=tuple(_text(fields["unit"][i]) for i in signals),
        sfreqs=tuple(n_samples[i] / record_s for i in signals),
        scale=tuple(scale for scale, _, _ in scaled),
        offset=tuple(offset for _, offset, _ in scaled),
        digital=tuple(span for _, _, span in scaled),
        n_samples=tuple(n_samples[i] for i in signals),
        first=tuple(int(ends[i]) for i in signals),
        width=width,
        record_s=record_s,
        records=records,
        notes=tuple(notes),
        texts=tuple(
            (int(ends[i]), n_samples[i] * width)
            for i, label in enumerate(labels)
            if label in ANNOTATIONS
        ),
        discontinuous=discontinuous,
        cut=cut,
    )


def _width(path: Path, head: bytes) -> int:
    if head[:8] == b"\xffBIOSEMI":
        return 3
    if head[:8].strip() == b"0":
        return 2
    raise DataError(f"{path.name}: it does not begin as an EDF or BDF file does.")


def _fields(body: bytes, n: int) -> dict[str, list[bytes]]:
    found, at = {}, 0
    for name, width in FIELDS.items():
        found[name] = [body[at + i * width : at + (i + 1) * width] for i in range(n)]
        at += n * width
    return found


def _text(field: bytes) -> str:
    # The standard allows ASCII only; µ and accents are found in the wild, in Latin-1 or UTF-8.
    field = field.rstrip(b"\0 ")
    try:
        return field.decode("utf-8").strip()
    except UnicodeDecodeError:
        return field.decode("latin-1").strip()


def _number(path: Path, what: str, field: bytes) -> float:
    text = _text(field).replace(",", ".")
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise DataError(f"{path.name}: {what} is {text!r}, not a number.")
    return value


def _whole(path: Path, what: str, field: bytes, low: int, high: int) -> int:
    value = _number(path, what, field)
    if value != int(value) or not low <= value <= high:
        raise DataError(f"{path.name}: {what} is {_text(field)!r}; the header is damaged.")
    return int(value)


def _scale(
    path: Path, label: str, fields: dict[str, bytes], width: int
) -> tuple[float, float, tuple[int, int]]:
    """Return scale and offset of ``value = (sample - offset) * scale``, and the sample's range."""
    low, high, least, most = (
        _number(path, f"{kind} range of {label!r}", fields[f"{kind}_{end}"])
        for kind in ("digital", "physical")
        for end in ("min", "max")
    )
    scale = (most - least) / (high - low) if high > low else 0.0
    reach = max(abs(least), abs(most), abs(1 / scale) if scale else math.inf)
    if reach > MOST_VALUE or max(-low, high) > 2 ** (8 * width):
        raise DataError(
            f"{path.name}: channel {label!r} maps samples {low:g} to {high:g} on values "
            f"{least:g} to {most:g}; the header is damaged."
        )
    return scale, low - least / scale, (int(low), int(high))


def _patient(head: bytes) -> str:
    words = _text(head[8:88]).split()
    return "" if not words or words[0].strip("Xx_-0") == "" else words[0]


def _start(head: bytes) -> tuple[datetime | None, bool]:
    """Return the start, or None where it is not told, and whether its two dates agree.

    EDF+ writes the date a second time, with four digits for the year; that one counts where the
    other was left at its zero.
    """
    date, time = _text(head[168:176]), _text(head[176:184])
    words = _text(head[88:168]).split()
    told = words[1] if len(words) > 1 and words[0] == "Startdate" else "X"
    try:
        clock = datetime.strptime(time.replace(":", "."), "%H.%M.%S").time()
    except ValueError:
        return None, True
    short, long = _date(date.replace("/", "."), "%d.%m.%y"), _date(told.title(), "%d-%b-%Y")
    if short is not None:  # two digits are the years 1985 to 2084
        short = short.replace(year=1985 + (short.year - 1985) % 100)
    if short is None or long is None or short == UNTOLD:
        day, agreed = long or short, True
    else:
        day, agreed = long, f"{short:%d%m%y}" == f"{long:%d%m%y}"
    return (datetime.combine(day, clock) if day and agreed else None), agreed


def _date(text: str, form: str) -> datetime | None:
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return None
    return found if 1900 <= found.year < 2200 else None


def read_marks(edf: Edf) -> tuple[list[Mark], list[float]]:
    """Return the annotations of an EDF+ file, in time order, and the onset (s) of each record.

    Both count from the first sample; from the header's start where there are annotations alone.
    Onsets are where they should be (k times a record's duration) for files that are not EDF+.
    Raises DataError when an annotation signal is damaged, and when records of a file without gaps
    do not follow one another.
    """
    told: list[float | None] = [None] * len(edf.records)
    marks: list[Mark] = []
    for number in range(len(edf.texts)):
        for k, row in enumerate(_texts(edf, number)):
            bare = ONSET.fullmatch(row)
            if bare and number == 0:  # most records of a long file: their onset, and nothing else
                told[k] = float(bare[1])
                continue
            for place, entry in enumerate(row.split(b"\0")):
                if not entry and place:
                    continue
                if not entry and row:
                    raise DataError(
                        f"{edf.path.name}: the annotations of record {k} do not begin at their "
                        "first byte; the file is damaged, copy it again."
                    )
                if not entry:
                    continue
                onset, duration, texts = _entry(edf.path, entry)
                if number == 0 and place == 0 and not texts[0]:
                    told[k] = onset
                marks += [
                    Mark(onset=onset, duration=duration, text=_text(text)) for text in texts if text
                ]
    marks.sort(key=lambda m: m.onset)
    if not edf.labels or not told:
        return marks, [0.0] * len(told)
    zero = told[0] or 0.0
    moved = [Mark(onset=m.onset - zero, duration=m.duration, text=m.text) for m in marks]
    return moved, _onsets(edf, [None if onset is None else onset - zero for onset in told])


def _texts(edf: Edf, number: int) -> Iterator[bytes]:
    """Yield what each record has in one of the annotation signals, without the zeros after it."""
    first, n_bytes = edf.texts[number]
    for start, stop in stretches(len(edf.records), RECORDS):
        held = np.ascontiguousarray(edf.records[start:stop, first : first + n_bytes])
        forget(edf.records)
        yield from (row.tobytes().rstrip(b"\0") for row in held)


def _onsets(edf: Edf, told: list[float | None]) -> list[float]:
    """Return the onset of each record, told or, in a file without gaps, where it should be."""
    if edf.discontinuous and None in told:
        raise DataError(
            f"{edf.path.name}: there may be gaps between its records, and record "
            f"{told.index(None)} does not tell its onset; the file is damaged."
        )
    onsets = [k * edf.record_s if onset is None else onset for k, onset in enumerate(told)]
    for k, onset in enumerate(onsets):
        if not edf.discontinuous and abs(onset - k * edf.record_s) > DRIFT_S:
            raise DataError(
                f"{edf.path.name}: record {k} of {edf.record_s:g} s says that it begins at "
                f"{onset:g} s, in a file without gaps at {k * edf.record_s:g} s; the file is "
                "damaged, or should say EDF+D."
            )
    return onsets


def _entry(path: Path, entry: bytes) -> tuple[float, float | None, list[bytes]]:
    """Return onset, duration and texts of one time-stamped annotation list (EDF+, 2.2.2)."""
    head, *texts = entry.split(b"\x14")
    onset, told, duration = head.partition(b"\x15")
    if onset[:1] not in (b"+", b"-") or not texts or texts[-1] or b"\x15" in b"".join(texts):
        raise DataError(f"{path.name}: a damaged annotation ({entry[:40]!r}).")
    seconds = _number(path, "the onset of an annotation", onset)
    length = _number(path, "the duration of an annotation", duration) if told else None
    if abs(seconds) > LONGEST_S or not 0 <= (length or 0.0) <= LONGEST_S:
        raise DataError(
            f"{path.name}: an annotation at {seconds:g} s of {length or 0.0:g} s; the file is "
            "damaged."
        )
    return seconds, length, texts


def find_gaps(edf: Edf, onsets: list[float]) -> list[tuple[float, float]]:
    """Return the (start, stop) in seconds of what is missing between records.

    Raises DataError when records overlap or lie out of order, or when their onsets drift.
    """
    gaps, drift = [], 0.0
    slack = min(JITTER_S, edf.record_s / 2)
    for before, after in itertools.pairwise(onsets):
        missing = after - before - edf.record_s
        if missing < -slack:
            raise DataError(
                f"{edf.path.name}: the record at {after:g} s begins before the one at {before:g} s "
                "ends."
            )
        if missing > slack:
            gaps.append((before + edf.record_s, after))
        else:
            drift += missing
    if abs(drift) > DRIFT_S:
        raise DataError(
            f"{edf.path.name}: its records lie {drift:g} s from where their number and the gaps "
            f"between them put them; a record lasts {edf.record_s:g} s by the header, which is "
            "damaged."
        )
    return gaps
