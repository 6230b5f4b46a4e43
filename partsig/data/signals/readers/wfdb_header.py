"""Headers of WFDB records as they are found: dates in other forms, no gain, names with spaces.

wfdb refuses a header for its date. Where that is not of the form DD/MM/YYYY, it is left out of a
copy in a temporary folder that has links to the files beside the header, and that is read: when the
recording began is then not known, and said so.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from partsig.data import listing as folders
from partsig.data.foreign import read_bytes
from partsig.errors import DataError
from partsig.text import quoted

# A header is a line for each signal, and comments.
MOST_BYTES, MOST_LINES = 2**20, 10_000
TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")
EARLIEST = 1900  # year


def check_size(header: Path) -> None:
    """Raise DataError for a header of more bytes or lines than a record of signals has."""
    lines = read_bytes(header, MOST_BYTES, "header of a record").count(b"\n")
    if lines > MOST_LINES:
        raise DataError(f"{header.name}: a header of {lines:,} lines; it is damaged.")


@contextmanager
def readable(header: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a header that wfdb reads, this one or a copy of it, and notes on what was left out."""
    check_size(header)
    text = read_bytes(header, MOST_BYTES, "header of a record").decode("latin-1")
    lines = text.splitlines()
    at = next((k for k, line in enumerate(lines) if line.strip() and line[:1] != "#"), None)
    words = [] if at is None else lines[at].split()
    if not words[4:] or _is_time(words[4:]):
        yield header, []
        return
    told = " ".join(words[4:])
    lines[at] = " ".join(words[:4])
    with tempfile.TemporaryDirectory(prefix="partsig-") as place:
        copy = Path(place) / header.name
        copy.write_bytes("\n".join([*lines, ""]).encode("latin-1"))
        starts = {header.stem, *(line.split()[0].split(".")[0] for line in lines if line.split())}
        beside = {name for start in starts for name in folders.names(header.parent, start)}
        for name in beside - {header.name}:
            os.symlink((header.parent / name).resolve(), Path(place) / name)
        yield copy, [f"{quoted(told)} is no time and date (HH:MM:SS DD/MM/YYYY): no start is known"]


def _is_time(words: list[str]) -> bool:
    """Tell whether these words are a time, and a date of four digits for the year, if any."""
    if not TIME.fullmatch(words[0]) or len(words) > 2:
        return False
    try:
        return len(words) == 1 or datetime.strptime(words[1], "%d/%m/%Y").year >= EARLIEST
    except ValueError:
        return False


def uncalibrated(header: Path) -> set[int]:
    """Return the signals (by number) whose gain is 0 or not told: WFDB then means "unknown"."""
    lines = read_bytes(header, MOST_BYTES, "header of a record").decode("latin-1").splitlines()
    lines = [line for line in lines if line.strip() and line[:1] != "#"]
    gains = [[*line.split(), "", "", ""][2] for line in lines[1:]]
    numbers = (re.match(r"[0-9.eE+-]{1,30}", gain) for gain in gains)
    return {k for k, number in enumerate(numbers) if number is None or not number[0].strip("0.+-")}
