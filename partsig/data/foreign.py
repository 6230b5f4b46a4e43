"""Recordings, stages and images that others have made: none is read beyond its bounds.

What is no regular file (:mod:`partsig.regular`) is refused in a sentence, a DataError.
"""

import os
from pathlib import Path
from typing import BinaryIO

from partsig import regular
from partsig.errors import DataError
from partsig.text import shown


def check_regular(path: str | os.PathLike) -> os.stat_result:
    """Return what is known of a file; raise DataError unless it is there and a regular one."""
    try:
        return regular.check(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading bytes; raise DataError where it is none, or cannot be."""
    try:
        return regular.open_bytes(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_bytes(path: str | os.PathLike, most: int, what: str) -> bytes:
    """Return a regular file's bytes; raise DataError where there are more than ``most``.

    ``what`` is what it should be, for the message.
    """
    name = os.path.basename(os.fspath(path))
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise DataError(f"{name} has {size:,} bytes, more than any {what} ({most:,}).")
            return file.read(size)
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike, error: Exception) -> DataError:
    name = os.path.basename(os.fspath(path))
    if isinstance(error, regular.IrregularError):
        return DataError(f"{name} is {error.kind}, not a regular file; only such are read.")
    return DataError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error}).")


def name_of(path: Path) -> str:
    """Return a recording's name as it can be shown and written: the file's, without its ending."""
    return shown(path.stem)
