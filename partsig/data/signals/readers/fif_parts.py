"""FIF recordings in several files, as they are split above 2 GB: one recording, once.

A FIF file is a list of tags: kind, type, size and place of the next (0: right after), big-endian. A
part names the one before it near its beginning, and the one after it at its end (tags 115: role, 1
or 2, and 118: file name); MNE follows the latter.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

from partsig.data.foreign import open_regular
from partsig.errors import DataError
from partsig.text import quoted

HEAD = struct.Struct(">iIii")
ROLE, NAME = 115, 118
BEFORE, AFTER = 1, 2
# Tags that are looked at: what is before the samples, and all of a file of 2 GB.
FIRST_TAGS, ALL_TAGS = 5_000, 2_000_000
LONGEST, MOST_PARTS = 1000, 1000  # bytes of a file's name, files


def _named(path: Path, role: int, most: int) -> str:
    """Return the name of the file of this role, "" where none of the first tags tells it."""
    with open_regular(path) as file:
        at, wanted = 0, False
        for _ in range(most):
            file.seek(at)
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                return ""
            kind, _, size, following = HEAD.unpack(head)
            if size < 0 or following < -1:
                return ""
            if kind == ROLE and size == 4:
                wanted = int.from_bytes(file.read(4), "big") == role
            if kind == NAME and wanted and size <= LONGEST:
                return file.read(size).decode("utf-8", "replace").replace("\\", "/").split("/")[-1]
            if following == -1 or 0 < following <= at:
                return ""
            at = following or at + HEAD.size + size
    return ""


def part_before(path: Path) -> str:
    """Return the name of the file that this one continues, "" for the first, and for any other."""
    return _named(path, BEFORE, FIRST_TAGS) if path.suffix.lower() == ".fif" else ""


def first_parts(paths: Iterable[Path]) -> list[Path]:
    """Return recordings without those files that continue another which is beside them."""
    kept = []
    for path in paths:
        try:
            before = part_before(path)
        except DataError:
            before = ""  # told where it is read
        # MNE writes into the second part of BIDS's the first one's name without its number.
        start, _, end = before.rpartition("_")
        names = [before, f"{start}_split-01_{end}"] if before else []
        if not any(path.with_name(name).is_file() for name in names):
            kept.append(path)
    return kept


def check_first(path: Path) -> None:
    """Raise DataError for a file that continues another."""
    before = part_before(path)
    if before:
        raise DataError(
            f"{path.name} continues {quoted(before)}, which is read with all its parts: name that "
            "one, and put the parts beside it under the names that they were written with."
        )


def parts_of(path: Path) -> list[Path]:
    """Return the files of a recording that begins with this one, those that are there."""
    parts = [path]
    while path.suffix.lower() == ".fif" and len(parts) < MOST_PARTS:
        after = _named(parts[-1], AFTER, ALL_TAGS)
        if not after or not path.with_name(after).is_file() or path.with_name(after) in parts:
            break
        parts.append(path.with_name(after))
    return parts
