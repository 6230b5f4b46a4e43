"""Annotations of EDF+ files, the onsets of their records, and the gaps between these."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig.data.signals.lazy import forget, stretches
from partsig.data.signals.readers.edf import Edf
from partsig.data.signals.readers.edf_header import LONGEST_S, number_of, text_of
from partsig.errors import DataError

# Onsets of records may differ by so much (s) from where they should be before it is a gap; all
# together by no more than the second, or stages would move.
JITTER_S, DRIFT_S = 1e-3, 0.5
# A record's onset, below LONGEST_S, without an annotation.
ONSET = re.compile(rb"\+([0-9]{1,7}(?:\.[0-9]*)?)\x14\x14")
# Records whose annotations are looked at at a time.
RECORDS, BYTES = 1024, 2**24
# More annotations than any recording has.
MOST_MARKS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An annotation: onset and duration in seconds from the file's first sample, and a text."""

    onset: float
    duration: float | None
    text: str


def read_marks(edf: Edf) -> tuple[list[Mark], Sequence[float]]:
    """Return the annotations of an EDF+ file, in time order, and the onset (s) of each record.

    Both count from the first sample; from the header's start where there are annotations alone.
    Onsets are where they should be (k times a record's duration) for files that are not EDF+.
    Raises DataError when an annotation signal is damaged, and when records of a file without gaps
    do not follow one another.
    """
    if not edf.texts:  # nothing tells, and nothing is missing
        return [], np.arange(len(edf.records)) * edf.record_s
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
                if len(marks) > MOST_MARKS:
                    raise DataError(
                        f"{edf.path.name}: more than {MOST_MARKS:,} annotations; the file is "
                        "damaged."
                    )
                marks += [
                    Mark(onset=onset, duration=duration, text=text_of(text))
                    for text in texts
                    if text
                ]
    marks.sort(key=lambda m: m.onset)
    if not edf.labels or not told:
        return marks, [onset or 0.0 for onset in told]
    zero = told[0] or 0.0
    moved = [Mark(onset=m.onset - zero, duration=m.duration, text=m.text) for m in marks]
    return moved, _onsets(edf, [None if onset is None else onset - zero for onset in told])


def first_onset(edf: Edf) -> float:
    """Return the seconds from the time in the header to the first sample.

    EDF+ has a fraction of a second there; a file of which the first records were left out, more.
    """
    if not (edf.texts and edf.labels and len(edf.records)):
        return 0.0
    entry = next(_texts(edf, 0), b"").partition(b"\0")[0]
    onset, _, texts = entry.partition(b"\x14")
    if not entry or texts[:1] not in (b"", b"\x14"):
        return 0.0
    return number_of(edf.path, "the onset of the first record", onset)


def _texts(edf: Edf, number: int) -> Iterator[bytes]:
    """Yield what each record has in one of the annotation signals, without the zeros after it."""
    first, n_bytes = edf.texts[number]
    at_a_time = max(min(RECORDS, BYTES // max(n_bytes, 1)), 1)
    for start, stop in stretches(len(edf.records), at_a_time):
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
    seconds = number_of(path, "the onset of an annotation", onset)
    length = number_of(path, "the duration of an annotation", duration) if told else None
    if abs(seconds) > LONGEST_S or not 0 <= (length or 0.0) <= LONGEST_S:
        raise DataError(
            f"{path.name}: an annotation at {seconds:g} s of {length or 0.0:g} s; the file is "
            "damaged."
        )
    return seconds, length, texts


def find_gaps(edf: Edf, onsets: Sequence[float]) -> list[tuple[float, float]]:
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
