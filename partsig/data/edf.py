"""EDF, EDF+ and BDF files, memory-mapped: only the channels that are asked for are ever read.

Formats: https://www.edfplus.info/specs/ (EDF 1992, EDF+ 2003) and BioSemi's 24-bit BDF. Real files
break the standard in known ways, and are read as long as what is meant is not in doubt: a record
count of -1, labels beyond ASCII, a comma as the decimal point, an unknown start. mne and edfio read
the same samples (tests hold all three together); neither maps a file of several rates without
copying or resampling it.
"""

import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

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
# Onsets of records may differ by so much (s) from where they should be before it is a gap.
JITTER_S = 1e-3


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

    @property
    def duration_s(self) -> float:
        """Seconds of signal, gaps not counted."""
        return len(self.records) * self.record_s

    def samples(self, index: int) -> np.ndarray:
        """Return a signal's samples (T,) as they were digitised, int16 or int32."""
        first = self.first[index]
        held = self.records[:, first : first + self.n_samples[index] * self.width]
        return _integers(held, self.width).reshape(-1)


def _integers(held: np.ndarray, width: int) -> np.ndarray:
    if width == 2:
        return np.ascontiguousarray(held).view("<i2")
    raw = np.ascontiguousarray(held).reshape(len(held), -1, 3)
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
                raise DataError(f"{path.name}: {len(head)} bytes are no EDF file.")
            n_signals = _whole(path, "number of signals", head[252:256], 0, MOST_SIGNALS)
            body = handle.read(n_signals * PER_SIGNAL)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
    width = _width(path, head)
    if len(body) < n_signals * PER_SIGNAL:
        raise DataError(f"{path.name}: the file ends inside its header.")
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
    held = (size - offset) // frame
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
    if signals and not (0 < record_s < math.inf):
        raise DataError(f"{path.name}: a record lasts {record_s:g} s; the header is damaged.")
    scaled = [_scale(path, labels[i], {k: v[i] for k, v in fields.items()}) for i in signals]
    if count:
        records = np.memmap(path, np.uint8, "r", offset, (count, frame))
    else:
        records = np.zeros((0, frame), np.uint8)
    return Edf(
        path=path,
        start=_start(head),
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
        discontinuous=reserved[:5] in ("EDF+D", "BDF+D"),
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
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path.name}: {what} is {text!r}, not a number.")
    return value


def _whole(path: Path, what: str, field: bytes, low: int, high: int) -> int:
    value = _number(path, what, field)
    if value != int(value) or not low <= value <= high:
        raise DataError(f"{path.name}: {what} is {_text(field)!r}; the header is damaged.")
    return int(value)


def _scale(path: Path, label: str, fields: dict) -> tuple[float, float, tuple[int, int]]:
    """Return scale and offset of ``value = (sample - offset) * scale``, and the sample's range."""
    low, high, least, most = (
        _number(path, f"{kind} range of {label!r}", fields[f"{kind}_{end}"])
        for kind in ("digital", "physical")
        for end in ("min", "max")
    )
    if high <= low or most == least:
        raise DataError(
            f"{path.name}: channel {label!r} maps samples {low:g} to {high:g} on values "
            f"{least:g} to {most:g}; the header is damaged."
        )
    scale = (most - least) / (high - low)
    return scale, low - least / scale, (int(low), int(high))


def _start(head: bytes) -> datetime | None:
    """Return the start, or None where it is not told. EDF+ writes the true date beside it."""
    date, time = _text(head[168:176]), _text(head[176:184])
    words = _text(head[88:168]).split()
    try:
        clock = datetime.strptime(time.replace(":", "."), "%H.%M.%S").time()
        if len(words) > 1 and words[0] == "Startdate" and words[1] != "X":
            return datetime.combine(datetime.strptime(words[1], "%d-%b-%Y"), clock)
        day, month, year = (int(part) for part in date.replace("/", ".").split("."))
        return datetime.combine(datetime(year + (1900 if year >= 85 else 2000), month, day), clock)
    except ValueError:
        return None


def read_marks(edf: Edf) -> tuple[list[Mark], list[float]]:
    """Return the annotations of an EDF+ file, in time order, and the onset (s) of each record.

    Both count from the first record. Onsets are where they should be (k times a record's duration)
    for files that are not EDF+. Raises DataError when an annotation signal is damaged.
    """
    onsets = [k * edf.record_s for k in range(len(edf.records))]
    if not edf.texts:
        return [], onsets
    marks: list[Mark] = []
    for number, (first, n_bytes) in enumerate(edf.texts):
        held = np.asarray(edf.records[:, first : first + n_bytes])
        for k, row in enumerate(held):
            for place, entry in enumerate(row.tobytes().split(b"\0")):
                if not entry:
                    continue
                onset, duration, texts = _entry(edf.path, entry)
                if number == 0 and place == 0:
                    onsets[k] = onset
                marks += [
                    Mark(onset=onset, duration=duration, text=_text(text)) for text in texts if text
                ]
    if not onsets:
        return [], []
    zero = onsets[0]
    moved = [Mark(onset=m.onset - zero, duration=m.duration, text=m.text) for m in marks]
    return sorted(moved, key=lambda m: m.onset), [onset - zero for onset in onsets]


def _entry(path: Path, entry: bytes) -> tuple[float, float | None, list[bytes]]:
    """Return onset, duration and texts of one time-stamped annotation list (EDF+, 2.2.2)."""
    head, *texts = entry.split(b"\x14")
    onset, _, duration = head.partition(b"\x15")
    if onset[:1] not in (b"+", b"-") or not texts:
        raise DataError(f"{path.name}: a damaged annotation ({entry[:40]!r}).")
    seconds = _number(path, "the onset of an annotation", onset)
    length = _number(path, "the duration of an annotation", duration) if duration else None
    return seconds, length, texts


def find_gaps(edf: Edf, onsets: list[float]) -> list[tuple[float, float]]:
    """Return the (start, stop) in seconds of what is missing between records.

    Raises DataError when records overlap or lie out of order.
    """
    gaps = []
    for before, after in itertools.pairwise(onsets):
        missing = after - before - edf.record_s
        if missing < -JITTER_S:
            raise DataError(
                f"{edf.path.name}: the record at {after:g} s begins before the one at {before:g} s "
                "ends."
            )
        if missing > JITTER_S:
            gaps.append((before + edf.record_s, after))
    return gaps
