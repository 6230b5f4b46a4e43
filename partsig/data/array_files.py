"""Arrays in .npy files, read by place: few files are open at a time, however many there are.

A memory map keeps its file open for as long as it lives, and an ordinary Linux allows a process
1,024 open files: fewer than a large study has nights.
"""

import errno
import math
import os
import resource
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from partsig.errors import DataError

# Of the files that a process may have open, the share that one store keeps open; and no more than
# MOST, where hardly anything limits them.
SHARE, MOST = 0.25, 4096


def most_open() -> int:
    """Return how many files a store may keep open in this process."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if limit == resource.RLIM_INFINITY else max(min(int(SHARE * limit), MOST), 1)


@dataclass(frozen=True)
class Layout:
    """Where an array begins in its file, its shape and type, and the file's size and time."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    version: tuple[int, int]


class _Handle:
    """An open file; it is closed when nobody reads from it any more."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class ArrayFiles:
    """C-contiguous arrays in .npy files of one folder, the most recently used of which stay open.

    ``check(path, shape, dtype)`` is called when a file is first opened, and raises what is to be
    said of an array that is not as expected. Several threads may read at once.
    """

    def __init__(
        self, folder: Path, check: Callable[[Path, tuple[int, ...], np.dtype], None]
    ) -> None:
        self._folder, self._check = folder, check
        self._most, self._lock = most_open(), Lock()
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._layouts: dict[str, Layout] = {}

    def read(self, name: str, first: int, out: np.ndarray) -> None:
        """Fill ``out`` with the values from number ``first`` on, as the array lies in ``name``.

        ``out`` is C-contiguous and of the array's type. Raises DataError when the file is missing,
        is no such array, is shorter than it says, or has changed since it was first read.
        """
        try:
            handle, layout = self._opened(name)
            at = layout.start + first * layout.dtype.itemsize
            got, n = _read_at(handle.number, memoryview(out).cast("B"), at), out.nbytes
        except OSError as error:
            raise unreadable(self._folder / name, error) from error
        if got < n:
            raise unreadable(self._folder / name, f"it ends after {at + got:,} bytes")

    def _opened(self, name: str) -> tuple[_Handle, Layout]:
        with self._lock:
            handle = self._open.get(name)
            if handle is not None:
                self._open.move_to_end(name)
                return handle, self._layouts[name]
        # Not under the lock, which others wait for: two may open a file at once, and one is kept.
        path = self._folder / name
        handle = _Handle(path)
        known = self._layouts.get(name)
        if known is None:
            known = read_layout(path, handle.number)
            self._check(path, known.shape, known.dtype)
        elif known.version != _version(handle.number):
            raise DataError(f"{path} was changed while it was in use: run the same command again.")
        with self._lock:
            self._layouts[name], self._open[name] = known, handle
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return handle, known


def _read_at(number: int, wanted: memoryview, at: int) -> int:
    """Read into ``wanted`` from byte ``at`` of a file on; return how many bytes there were."""
    got = os.preadv(number, [wanted], at)
    while 0 < got < len(wanted):  # the system may give a large piece in parts
        more = os.preadv(number, [wanted[got:]], at + got)
        if not more:
            break
        got += more
    return got


def _version(number: int) -> tuple[int, int]:
    """Return size and time of change of an open file."""
    state = os.fstat(number)
    return state.st_size, state.st_mtime_ns


def read_layout(path: Path, number: int) -> Layout:
    """Return the layout of an open .npy file.

    Raises DataError where it is no whole array of numbers in C order.
    """
    try:
        with open(os.dup(number), "rb") as handle:
            version = np.lib.format.read_magic(handle)
            if version != (1, 0):
                raise ValueError(f"version {version} of the format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
            start = handle.tell()
    except (ValueError, EOFError) as error:
        raise unreadable(path, error) from error
    if fortran or dtype.hasobject:
        raise unreadable(path, f"it holds {dtype}{' in Fortran order' if fortran else ''}")
    size, changed = _version(number)
    n_bytes = math.prod(shape) * dtype.itemsize
    if size < start + n_bytes:
        raise unreadable(path, f"it has {size:,} bytes, and its array takes {start + n_bytes:,}")
    return Layout(start, shape, dtype, (size, changed))


def unreadable(path: Path, reason: object) -> DataError:
    """Return what to say of a file of a store that cannot be read."""
    if isinstance(reason, OSError) and reason.errno in (errno.EMFILE, errno.ENFILE):
        return DataError(
            f"{path} cannot be opened ({reason.strerror}): let a process open more files, with "
            "`ulimit -n 4096`, say."
        )
    return DataError(f"{path} cannot be read ({reason}): run the same preprocess command again.")
