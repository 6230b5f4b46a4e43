"""EDF, EDF+ and BDF files, memory-mapped: only the channels that are asked for are ever read.

Formats: https://www.edfplus.info/specs/ (EDF 1992, EDF+ 2003) and BioSemi's 24-bit BDF. Real files
break the standard in known ways, and are read as long as what is meant is not in doubt: a record
count of -1, labels beyond ASCII, a comma as the decimal point, an unknown start. mne and edfio read
the same samples (tests hold all three together); neither maps a file of several rates without
copying or resampling it.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.foreign import check_regular, open_regular
from partsig.data.signals.lazy import Row
from partsig.data.signals.readers.edf_header import (
    LONGEST_S,
    number_of,
    patient_of,
    sample_width,
    scale_of,
    signal_fields,
    start_of,
    text_of,
    whole_number,
)
from partsig.errors import DataError

FIXED, PER_SIGNAL = 256, 256
ANNOTATIONS = ("edf annotations", "bdf annotations")  # in whatever case
# More signals or a longer record than any device writes: the header is damaged.
MOST_SIGNALS, MOST_BYTES = 4096, 2**27
# Annotations are read record by record: seven weeks of one a second, 16 MiB of them in each.
MOST_TEXT_RECORDS, MOST_TEXT_BYTES = 2**22, 2**24
SHORTEST_S = 1e-6  # of a record; no device writes shorter ones


def holds_texts(label: str) -> bool:
    """Tell whether a signal of this label holds annotations, in the standard's case or another."""
    return label.casefold() in ANNOTATIONS


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
    faults: tuple[str, ...]  # why a signal has no scale, "" where it has one
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
    size, head, body = _read_header(path)
    n_signals = len(body) // PER_SIGNAL
    if not n_signals:
        raise DataError(f"{path.name} holds no signal, only the header of a recording.")
    width = sample_width(path, head)
    offset = FIXED + len(body)
    fields = signal_fields(body, n_signals)
    record_s = number_of(path, "duration of a record", head[244:252])
    n_samples = [
        whole_number(path, "samples of a record", f, 0, MOST_BYTES) for f in fields["samples"]
    ]
    ends = np.cumsum([0, *n_samples]) * width
    frame = int(ends[-1])
    if not 0 < frame <= MOST_BYTES:
        raise DataError(f"{path.name}: a record of {frame} bytes; the header is damaged.")
    count, cut, notes = _count_records(path, head, size - offset, frame)
    labels = [text_of(field) for field in fields["label"]]
    signals = [i for i, label in enumerate(labels) if not holds_texts(label) and n_samples[i]]
    reserved = text_of(head[192:236])
    discontinuous = reserved[:5] in ("EDF+D", "BDF+D")
    if (signals or record_s) and not SHORTEST_S <= record_s <= LONGEST_S:
        raise DataError(f"{path.name}: a record lasts {record_s:g} s; the header is damaged.")
    if record_s * count > LONGEST_S:
        raise DataError(f"{path.name}: {count} records of {record_s:g} s; the header is damaged.")
    if discontinuous and len(labels) == len(signals):
        raise DataError(
            f"{path.name}: there may be gaps between its records ({reserved[:5]}), and no "
            "annotations tell where; the header is damaged."
        )
    texts = [n_samples[i] * width for i, label in enumerate(labels) if holds_texts(label)]
    if texts and (count > MOST_TEXT_RECORDS or max(texts) > MOST_TEXT_BYTES):
        raise DataError(
            f"{path.name}: {count:,} records with annotations of {max(texts):,} bytes; the header "
            "is damaged."
        )
    scaled = [_scale(path, labels[i], {k: v[i] for k, v in fields.items()}, width) for i in signals]
    start, agreed = start_of(head)
    if not agreed:
        notes.append("the header gives two dates, so that its start is not known")
    if count:
        records = np.memmap(path, np.uint8, "r", offset, (count, frame))
    else:
        records = np.zeros((0, frame), np.uint8)
    return Edf(
        path=path,
        patient=patient_of(head),
        start=start,
        labels=tuple(labels[i] for i in signals),
        units=tuple(text_of(fields["unit"][i]) for i in signals),
        sfreqs=tuple(n_samples[i] / record_s for i in signals),
        scale=tuple(scale for scale, _, _, _ in scaled),
        offset=tuple(offset for _, offset, _, _ in scaled),
        digital=tuple(span for _, _, span, _ in scaled),
        faults=tuple(fault for _, _, _, fault in scaled),
        n_samples=tuple(n_samples[i] for i in signals),
        first=tuple(int(ends[i]) for i in signals),
        width=width,
        record_s=record_s,
        records=records,
        notes=tuple(notes),
        texts=tuple(
            (int(ends[i]), n_samples[i] * width)
            for i, label in enumerate(labels)
            if holds_texts(label)
        ),
        discontinuous=discontinuous,
        cut=cut,
    )


def _scale(
    path: Path, label: str, fields: dict[str, bytes], width: int
) -> tuple[float, float, tuple[int, int], str]:
    """Return scale, offset and range of a signal, and why it has none: others may have."""
    try:
        return (*scale_of(path, label, fields, width), "")
    except DataError as error:
        return math.nan, 0.0, (0, 0), str(error)


def _read_header(path: Path) -> tuple[int, bytes, bytes]:
    """Return the size of a file, its fixed header, and the header of its signals."""
    try:
        size = check_regular(path).st_size
        with open_regular(path) as handle:
            head = handle.read(FIXED)
            if len(head) < FIXED:
                raise DataError(f"{path.name}: {len(head)} bytes are no EDF file; copy it again.")
            n_signals = whole_number(path, "number of signals", head[252:256], 0, MOST_SIGNALS)
            body = handle.read(n_signals * PER_SIGNAL)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
    sample_width(path, head)  # is it EDF or BDF at all?
    if len(body) < n_signals * PER_SIGNAL:
        raise DataError(f"{path.name}: the file ends inside its header; copy it again.")
    offset = FIXED + n_signals * PER_SIGNAL
    stated = whole_number(path, "bytes of the header", head[184:192], 0, 2**31)
    if stated != offset:
        raise DataError(
            f"{path.name}: the header says it has {stated} bytes; {n_signals} signals need "
            f"{offset}."
        )
    return size, head, body


def _count_records(
    path: Path, head: bytes, n_bytes: int, frame: int
) -> tuple[int, bool, list[str]]:
    """Return how many records of ``frame`` bytes there are, whether the header differs, notes."""
    notes = []
    count = whole_number(path, "number of records", head[236:244], -1, 2**31)
    held, rest = divmod(n_bytes, frame)
    cut = count not in (-1, held)
    if held > count != -1 and rest:
        raise DataError(
            f"{path.name}: after the last of {count} records of {frame} bytes there are "
            f"{n_bytes - count * frame} bytes more, no whole number of records; the header "
            "is damaged, copy the file again."
        )
    if count == -1:
        count = held
        notes.append(f"the header does not say how many records there are; {held} were found")
    elif held < count:
        notes.append(f"cut off: {held} of {count} records are there")
    elif n_bytes > count * frame:
        notes.append(f"{n_bytes - count * frame} bytes after the last record are left out")
    return min(count, held), cut, notes
