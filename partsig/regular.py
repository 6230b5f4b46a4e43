"""Files that somebody else may have put in their place: only regular ones are opened for reading.

A name in a folder may be a pipe, which waits for ever, a device that never ends, or a link to one.
All that reads a run, a store or a recording opens its files here; a test keeps it so.
"""

import errno
import os
import stat
from typing import BinaryIO, TextIO

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Bytes of a text that is read as a whole: a run.json or a metrics.json of 100,000 nights has some
# tens of millions.
MOST_TEXT = 2**28


class IrregularError(OSError):
    """A name that is there is none of a regular file; ``kind`` says what it is."""

    def __init__(self, path: str | os.PathLike, kind: str) -> None:
        self.kind = kind
        super().__init__(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))

    def __str__(self) -> str:
        return self.strerror


def check(path: str | os.PathLike) -> os.stat_result:
    """Return what is known of a file; raise OSError unless it is there and a regular one."""
    status = os.stat(path)
    _refuse(path, status)
    return status


def _refuse(path: str | os.PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((word for is_kind, word in KINDS if is_kind(status.st_mode)), "no file")
        raise IrregularError(path, kind)


def open_bytes(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading bytes; raise OSError where it is none, or cannot be."""
    return os.fdopen(_open(path), "rb")


def open_text(
    path: str | os.PathLike, newline: str | None = None, errors: str | None = None
) -> TextIO:
    """Open a regular file for reading UTF-8; raise OSError where it is none, or cannot be."""
    return os.fdopen(_open(path), encoding="utf-8", newline=newline, errors=errors)


def read_text(path: str | os.PathLike, errors: str | None = None) -> str:
    """Return a regular file's UTF-8; raise OSError, also where it is longer than any of partsig's.

    Raises ValueError where it is no UTF-8, and ``errors`` do not say what to do with that.
    """
    with open_text(path, errors=errors) as handle:
        if os.fstat(handle.fileno()).st_size > MOST_TEXT:
            raise OSError(errno.EFBIG, "longer than any that partsig writes", os.fspath(path))
        return handle.read()


def _open(path: str | os.PathLike) -> int:
    check(path)  # before it is opened: to open some devices does something
    # What was put in its place meanwhile is not waited for.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC)
    try:
        _refuse(path, os.fstat(number))
    except OSError:
        os.close(number)
        raise
    return number
