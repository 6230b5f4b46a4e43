"""Files of a part data set: names that stay in its folder, tables, JSON, maps; all bounded."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.data.images.decoding import decode_labels, decode_levels
from partsig.errors import DataError
from partsig.text import quoted

# Bytes that are read at most: tables (CUB's largest has 8 million), COCO's JSON (450 million), maps
# of labels.
MOST_TABLE, MOST_JSON, MOST_LABELS = 2**28, 2**30, 2**26
SUFFIXES = (".jpg", ".jpeg", ".png")


def find_root(raw: Path, names: Sequence[str], below: Sequence[str] = ()) -> Path:
    """Return the folder that holds ``names``: ``raw``, or one of those ``below`` it.

    Raises DataError where none does.
    """
    for folder in (raw, *(raw / name for name in below)):
        if all((folder / name).exists() for name in names):
            return folder
    raise DataError(
        f"{raw} has no {' and '.join(names)}: pass --raw with the folder that holds it, see "
        "docs/how-to/part-datasets.md."
    )


def inside(folder: Path, name: str) -> Path:
    """Return the place of a file by its name in a list; DataError for a name that leads out.

    >>> inside(Path("a"), "b/c.jpg").as_posix()
    'a/b/c.jpg'
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or {"\\", "\0"} & set(name):
        raise DataError(f"{quoted(name)} is no name of a file in {folder}: it is not followed.")
    return folder / path


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder by their suffix, in the order of their names; no hidden ones.

    Raises DataError where it cannot be looked into.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be looked into ({error.strerror}).") from error
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def printable(name: str) -> str:
    """Return a name that can be written as UTF-8, whatever bytes the file system holds."""
    return name.encode("utf-8", "backslashreplace").decode()


def fingerprint(file: Path) -> str:
    """Return a file's size and time, by which a change is told; "" where it is not there."""
    try:
        known = file.stat()
    except (OSError, ValueError):
        return ""
    return f"{known.st_size}-{known.st_mtime_ns}"


def read_table(file: Path, columns: int) -> Iterator[list[str]]:
    """Yield the rows of a table divided by blanks; the last of so many columns may hold some.

    However its lines end. Raises DataError where a row has fewer, or the file cannot be read.
    """
    data = read_bytes(file, MOST_TABLE, "table of a data set")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text ({error}).") from None
    for number, line in enumerate(lines, 1):
        row = line.split(maxsplit=columns - 1)
        if not row or row[0].startswith("#"):
            continue
        if len(row) < columns:
            raise DataError(f"{file}, line {number} has {len(row)} columns, not {columns}.")
        yield [*row[:-1], row[-1].strip()]


def number_in(text: str, file: Path) -> float:
    """Return a finite number; raise DataError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file} has {quoted(text)} in place of a number.")
    return value


def read_json(file: Path) -> object:
    """Return what a JSON file says; DataError where it is none, or too large."""
    data = read_bytes(file, MOST_JSON, "JSON of a data set")
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} is no JSON ({type(error).__name__}: {error}).") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def read_labels(file: Path, colours: bool = False) -> np.ndarray:
    """Return a map of labels (H, W) uint8, or (H, W, 3) in colours; DataError for another."""
    labels = decode_labels(read_bytes(file, MOST_LABELS, "map of labels"))
    if colours and labels.ndim != 3:
        raise DataError(f"{file.name} is grey; its labels are told by colours")
    return labels if colours or labels.ndim == 2 else _grey(labels, file)


def read_votes(file: Path) -> np.ndarray:
    """Return an image of grey levels (H, W) uint8, however stored; its alpha tells nothing."""
    return decode_levels(read_bytes(file, MOST_LABELS, "map of votes"))


def _grey(labels: np.ndarray, file: Path) -> np.ndarray:
    """Return one channel of a map in colours whose channels are equal."""
    if (labels != labels[..., :1]).any():
        raise DataError(f"{file.name} is in colours; its labels are told by grey")
    return labels[..., 0]


def listed(file: Path) -> list[str] | None:
    """Return the first word of each line of a list of images; None where there is no file."""
    if not file.is_file():
        return None
    return [row[0] for row in read_table(file, 1) for row in [row[0].split()]]
