"""Recordings in pieces: where a recorder paused, for how long, and samples at their true times.

A file may hold its pieces one after the other, and tell of the pauses between them: BrainVision by
``New Segment`` markers, EEGLAB by ``boundary`` events whose duration is what was cut out, MNE by
``EDGE boundary`` where recordings were joined. EDF+D tells the onset of each record.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.data.signals.lazy import Row
from partsig.data.signals.readers.edf_header import NO_STARTS
from partsig.data.signals.readers.edf_marks import Mark

# Recorders' clocks and their sampling differ by so much (s) without a pause.
DRIFT_S = 0.5
# Marker files have a line for each marker.
MOST_BYTES = 2**26
NEW_SEGMENT = re.compile(r"Mk[0-9]+=New Segment,([^,\n]*),([0-9]{1,15}),([^\n]*)")
MARKER_FILE = re.compile(r"^MarkerFile=([^\r\n]+)", re.MULTILINE)
WRITTEN = re.compile(r"[0-9]{20}")  # the year, …, the second, the microsecond


@dataclass(frozen=True, kw_only=True)
class Join:
    """Where one piece of a recording follows another.

    ``first`` is the sample of the file that the piece begins with; ``missing_s`` are the seconds
    between the two, None where nothing tells them.
    """

    first: int
    missing_s: float | None


def joins_among(marks: Sequence[Mark], sfreq: float, n_times: int) -> list[Join]:
    """Return the joins that are told among a file's annotations.

    >>> marks = [Mark(onset=60.0, duration=2.5, text="boundary")]
    >>> joins_among(marks, 100.0, 9000)
    [Join(first=6000, missing_s=2.5)]
    """
    joins: dict[int, Join] = {}
    for mark in marks:
        word = mark.text.strip().lower()
        told = mark.duration if word == "boundary" and mark.duration else None
        if word in ("boundary", "edge boundary", "bad boundary") or word.startswith("new segment/"):
            first = int(np.ceil(mark.onset * sfreq - 1e-6))
            if 0 < first < n_times:
                joins.setdefault(first, Join(first=first, missing_s=told))
    return [joins[first] for first in sorted(joins)]


def read_brainvision(
    header: Path, sfreq: float, n_times: int
) -> tuple[datetime | None, list[Join]]:
    """Return when a BrainVision recording begins, and its joins, by its marker file.

    Each ``New Segment`` marker has a position, counted from 1, and its date and time. Raises
    DataError where a file cannot be read.
    """
    named = MARKER_FILE.search(_text(header))
    if named is None:
        return None, []
    name = named[1].strip().replace("$b", header.stem).replace("\\", "/")
    path = header.parent / name
    if not path.exists():
        return None, []
    pieces: dict[int, datetime | None] = {}
    for _, position, rest in NEW_SEGMENT.findall(_text(path)):
        first = max(int(position) - 1, 0)
        if first < n_times:
            pieces.setdefault(first, _date(rest))
    if not pieces:
        return None, []
    known = sorted(pieces)
    start = pieces[known[0]] if known[0] == 0 else None
    joins = []
    for before, after in itertools.pairwise(known):
        missing = None
        if pieces[before] is not None and pieces[after] is not None:
            lasted = (pieces[after] - pieces[before]).total_seconds()
            missing = lasted - (after - before) / sfreq
            # A clock that was set back tells nothing.
            missing = None if missing < -DRIFT_S else max(missing, 0.0)
        joins.append(Join(first=after, missing_s=missing))
    return start, joins


def _text(path: Path) -> str:
    return read_bytes(path, MOST_BYTES, "header or marker file").decode("utf-8", "replace")


def _date(rest: str) -> datetime | None:
    """Return the date and time at the end of a marker's line; None for none, and for zeros."""
    text = rest.rsplit(",", 1)[-1].strip()
    if not WRITTEN.fullmatch(text):
        return None
    try:
        at = datetime.strptime(text[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return None if at in NO_STARTS else at + timedelta(microseconds=int(text[14:]))


def gaps_of(joins: Sequence[Join], sfreq: float) -> list[tuple[float, float]]:
    """Return the (start, stop) of each pause in true time (s); of no length where none is told."""
    gaps, missing = [], 0.0
    for join in joins:
        begin = join.first / sfreq + missing
        missing += join.missing_s or 0.0
        gaps.append((begin, join.first / sfreq + missing))
    return gaps


def at_true_times(marks: Sequence[Mark], joins: Sequence[Join], sfreq: float) -> list[Mark]:
    """Return annotations, counted in the file's samples, at their true times."""
    borders = np.array([join.first / sfreq for join in joins])
    missing = np.cumsum([0.0, *(join.missing_s or 0.0 for join in joins)])
    moved = []
    for mark in marks:
        onset = mark.onset + float(missing[np.searchsorted(borders, mark.onset + 1e-6, "right")])
        span = mark.duration
        if span:
            end = mark.onset + span
            span = end + float(missing[np.searchsorted(borders, end - 1e-6, "left")]) - onset
        moved.append(replace(mark, onset=onset, duration=span))
    return moved


def spread(row: Row, joins: Sequence[Join], sfreq: float) -> Row:
    """Return a channel's samples at their true times, straight lines over the pauses."""
    held = np.array([0, *(join.first for join in joins)], np.int64)
    missing = np.cumsum([0.0, *(join.missing_s or 0.0 for join in joins)])
    return bridged(row, held, held + np.round(missing * sfreq).astype(np.int64))


def bridged(row: Row, held: np.ndarray, starts: np.ndarray) -> Row:
    """Return samples at their times, straight lines over what is missing between pieces.

    Piece r begins at sample ``held[r]`` of the file, and at sample ``starts[r]`` in time.
    """
    ends = starts + np.diff(np.append(held, len(row)))

    def read(start: int, stop: int) -> np.ndarray:
        joined = np.zeros(stop - start, row.dtype)
        low = max(int(np.searchsorted(starts, start, "right")) - 1, 0)
        high = int(np.searchsorted(starts, stop, "left"))  # its line may begin before the stop
        for r in range(low, min(high + 1, len(starts))):
            a, b = max(starts[r], start), min(ends[r], stop)
            if a < b:
                joined[a - start : b - start] = row[
                    held[r] + a - starts[r] : held[r] + b - starts[r]
                ]
            end = ends[r - 1] if r else starts[r]
            a, b = max(end, start), min(starts[r], stop)
            if a < b:
                before, after = (float(row[i : i + 1][0]) for i in (held[r] - 1, held[r]))
                slope = (after - before) / (starts[r] - end + 1)
                steps = np.arange(a - end + 1, b - end + 1)
                joined[a - start : b - start] = steps * slope + before
        return joined

    return Row(int(ends[-1]), row.dtype, read, row.base)
