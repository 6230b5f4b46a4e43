"""WFDB records of several segments: one recording, its missing stretches as gaps.

WFDB header(5): the first line of such a record names a number of segments after a slash, and each
further line a segment's record and length in samples; ``~`` is a stretch without any. In the
variable layout the first segment has no samples and tells all signals that any segment has.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from partsig.data import listing as folders
from partsig.data.foreign import read_bytes
from partsig.data.signals.channels import resolve
from partsig.data.signals.lazy import Row
from partsig.data.signals.readers import segments
from partsig.data.signals.readers.psg import Psg
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError
from partsig.text import quoted

MOST_BYTES = 2**20
MASTER = re.compile(r"\A\s{0,9}[^\s/]{1,100}/[0-9]{1,6}(?:\s|$)")
NAME = re.compile(r"[\w-]{1,100}")
MISSING = "~"


def _lines(header: Path) -> list[str]:
    text = read_bytes(header, MOST_BYTES, "header of a record").decode("latin-1")
    return [line for line in text.splitlines() if line.strip() and line[:1] != "#"]


def is_master(header: Path) -> bool:
    """Tell whether a header is of a record of several segments."""
    lines = _lines(header)
    return bool(lines) and MASTER.match(lines[0]) is not None


def segments_of(header: Path) -> list[tuple[str, int]]:
    """Return the name and the length (frames) of each segment; raise DataError where it is none."""
    found = []
    for line in _lines(header)[1:]:
        name, _, length = line.strip().partition(" ")
        if not length.strip().isdecimal() or not (name == MISSING or NAME.fullmatch(name)):
            raise DataError(f"{header.name}: {quoted(line)} is no segment; the header is damaged.")
        found.append((name, int(length)))
    if not found:
        raise DataError(f"{header.name}: the header names no segments; it is damaged.")
    return found


def without_segments(headers: Iterable[Path]) -> list[Path]:
    """Return headers without those of segments of a record that is there, too."""
    headers = list(headers)
    parts: set[Path] = set()
    for header in headers:
        try:
            if is_master(header):
                names = (name for name, _ in segments_of(header) if name != MISSING)
                parts |= {header.with_name(f"{name}.hea") for name in names}
        except DataError:
            continue  # told where it is read
    return [header for header in headers if header not in parts]


def files_of(header: Path) -> list[Path]:
    """Return the files of a record's segments, none for a record of one."""
    if not is_master(header):
        return []
    names = sorted({name for name, _ in segments_of(header)} - {MISSING})
    return [path for name in names for path in folders.matching(header.parent, f"{name}.*")]


def open_master(
    header: Path,
    sfreq: float,
    channels: Sequence[str],
    settings: ReadConfig,
    labels_of: Callable[[Path], Sequence[str]],
    open_one: Callable[[Path, Sequence[str]], Psg],
) -> Psg:
    """Return a record of several segments, its frames at ``sfreq`` Hz, as one.

    ``labels_of`` and ``open_one`` read a segment: its signals' names, and those that are named.
    Segments without one of the ``channels`` are gaps, as those without samples are. Raises
    DataError where segments differ in unit or rate, or none has the channels.
    """
    name, listed = header.stem, segments_of(header)
    paths = {part: header.with_name(f"{part}.hea") for part, _ in listed if part != MISSING}
    if any(is_master(path) for path in paths.values()):
        raise DataError(f"{header.name}: a segment has segments of its own; such are not read.")
    labels = {part: list(labels_of(path)) for part, path in paths.items()}
    every = list(dict.fromkeys(label for part in labels.values() for label in part))
    wanted = [every[row] for row in resolve(name, every, channels, settings).rows]
    begins = np.cumsum([0, *(length for _, length in listed)])
    pieces: list[tuple[int, Psg]] = []
    lacking = []
    for (part, length), begin in zip(listed, begins, strict=False):
        if part == MISSING or not length:
            continue
        if not set(wanted) <= set(labels[part]):
            lacking.append(part)
            continue
        file = open_one(paths[part], wanted)
        if round(file.duration_s * sfreq) != length:
            raise DataError(
                f"{name}: segment {part} has {round(file.duration_s * sfreq)} of {length} frames; "
                "copy it again."
            )
        pieces.append((int(begin), file))
    if not pieces:
        raise DataError(f"{name}: no segment has the channels {', '.join(channels)}.")
    first = pieces[0][1]
    for _, file in pieces:
        if (file.units, file.sfreqs) != (first.units, first.sfreqs):
            raise DataError(f"{name}: its segments differ in the unit or rate of a channel.")
    ends = [begin / sfreq + file.duration_s for begin, file in pieces]
    gaps = [(0.0, pieces[0][0] / sfreq)] if pieces[0][0] else []
    gaps += [
        (end, after / sfreq)
        for end, (after, _) in zip(ends[:-1], pieces[1:], strict=True)
        if after / sfreq - end > 0.5 / sfreq
    ]
    notes = [note for _, file in pieces for note in file.notes]
    if gaps:
        seconds = sum(stop - start for start, stop in gaps)
        notes.append(f"{seconds:.6g} s between its segments are bridged and unscored")
    if lacking:
        notes.append(f"{len(lacking)} segments lack a channel and are gaps, first {lacking[0]}")
    n = len(wanted)
    return replace(
        first,
        name=name,
        labels=tuple(wanted),
        scale=(1.0,) * n,
        offset=(0.0,) * n,
        duration_s=ends[-1],
        gaps=tuple(gaps),
        notes=tuple(notes),
        samples=lambda c: _joined(pieces, sfreq, c),
    )


def _joined(pieces: list[tuple[int, Psg]], sfreq: float, c: int) -> Row:
    """Return a channel of all segments in their unit, straight lines over what is missing."""
    rows = [file.samples(c) for _, file in pieces]
    per_frame = round(pieces[0][1].sfreqs[c] / sfreq)
    held = np.cumsum([0, *map(len, rows)])
    starts = np.array([begin * per_frame for begin, _ in pieces])

    def read(start: int, stop: int) -> np.ndarray:
        parts = [np.zeros(0)]
        for (low, high), row, (_, file) in zip(pairwise(held), rows, pieces, strict=True):
            a, b = max(start, low), min(stop, high)
            if a < b:
                values = np.asarray(row[a - low : b - low], float)
                parts.append((values - file.offset[c]) * file.scale[c])
        return np.concatenate(parts)

    whole = Row(int(held[-1]), np.dtype(float), read)
    return segments.bridged(whole, held[:-1], starts)
