"""Files that others have made: only regular ones are opened, and none is read beyond its bounds.

A name in a folder may be a pipe, which waits for ever, or a link to a device that never ends.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from partsig.errors import DataError
from partsig.text import shown

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | os.PathLike) -> os.stat_result:
    """Return what is known of a file; raise DataError unless it is there and a regular one."""
    name = os.path.basename(os.fspath(path))
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = next((word for is_kind, word in KINDS if is_kind(status.st_mode)), "no file")
        raise DataError(f"{name} is {kind}, not a regular file; only such are read.")
    return status


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading bytes; raise DataError where it is none, or cannot be."""
    check_regular(path)  # before it is opened: to open some devices does something
    name = os.path.basename(os.fspath(path))
    try:
        # What was put in its place meanwhile is not waited for.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise DataError(f"{name} is not a regular file; only such are read.")
    return file


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
            raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> DataError:
    return DataError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error}).")


def name_of(path: Path) -> str:
    """Return a recording's name as it can be shown and written: the file's, without its ending."""
    return shown(path.stem)
