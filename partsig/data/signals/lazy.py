"""Recordings of any length: samples that are read when they are sliced, arrays that lie in a file.

Both stand where a NumPy array could: ``np.asarray(array[:, a:b])`` is a stretch of it, in memory.
"""

import io
import math
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from partsig.data.mapped import FileMap, Layout, unmapped
from partsig.errors import DataError, DiskFullError
from partsig.files import FULL

# Samples of a channel that are worked on at a time.
STRETCH = 2**18
# Bytes up to which an array is held in memory: a night of 20 channels at 100 Hz has 230 MB.
HELD = 2**28
# The folder that is being written to, in this thread; see :func:`beside`.
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@dataclass(frozen=True, eq=False)
class Row:
    """One channel (T,) that is read when it is sliced: ``row[a:b]`` is an array.

    ``read`` returns samples ``a`` to ``b``, which lie within 0 and ``n``. ``base`` is the memory
    map that they are read from, if they are; see :func:`forget`.
    """

    n: int
    dtype: np.dtype
    read: Callable[[int, int], np.ndarray] = field(repr=False)
    base: object = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int]:
        """The length, as an array has it."""
        return (self.n,)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: slice) -> np.ndarray:
        start, stop, step = key.indices(self.n)
        if step != 1:
            raise ValueError(f"a channel is read forwards and whole, not by steps of {step}.")
        if stop <= start:
            return np.empty(0, self.dtype)
        return self.read(start, stop).astype(self.dtype, copy=False)

    def part(self, start: int, stop: int) -> "Row":
        """Return samples ``start`` to ``stop``, not read yet."""
        n = max(stop - start, 0)
        return Row(n, self.dtype, lambda a, b: self.read(start + a, start + b), self.base)

    def remembered(self) -> "Row":
        """Return it with its last slice kept, of which others can be taken."""
        last = (0, 0, np.empty(0, self.dtype))

        def read(start: int, stop: int) -> np.ndarray:
            nonlocal last
            if not last[0] <= start <= stop <= last[1]:
                last = (start, stop, self.read(start, stop))
            return last[2][start - last[0] : stop - last[0]]

        return Row(self.n, self.dtype, read, self.base)

    def loaded(self) -> "Row":
        """Return it read, stretch by stretch."""
        held = np.empty(self.n, self.dtype)
        for start, stop in stretches(self.n):
            held[start:stop] = self[start:stop]
        return in_memory(held)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=bool(copy))


def in_memory(samples: np.ndarray) -> Row:
    """Return samples (T,) that are there as a row."""
    return Row(len(samples), samples.dtype, lambda start, stop: samples[start:stop])


class Stack:
    """Rows of one length as (C, T), of the type that holds them all; ``stack[c]`` is a row."""

    def __init__(self, rows: list[Row]) -> None:
        self.dtype = np.result_type(*(row.dtype for row in rows))
        self.rows = [Row(row.n, self.dtype, row.read, row.base) for row in rows]
        self.shape = (len(rows), rows[0].n)
        self.base = rows[0].base

    def __getitem__(self, c: int) -> Row:
        return self.rows[c]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.stack([row[:] for row in self.rows]).astype(dtype or self.dtype, copy=False)


def forget(held: object) -> None:
    """Free the memory of what was read of a memory map that is only read.

    It stays in the system's cache, and can be read again.
    """
    while held is not None and not isinstance(held, mmap.mmap | FileMap):
        if isinstance(held, np.memmap) and held.mode != "r":
            return
        held = getattr(held, "base", None)
    if isinstance(held, FileMap):
        held.forget()
    elif held is not None:
        held.madvise(mmap.MADV_DONTNEED)


def stretches(n: int, size: int = STRETCH) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) that cover ``n`` samples.

    >>> list(stretches(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, n, size):
        yield start, min(start + size, n)


@contextmanager
def beside(folder: Path | None) -> Iterator[None]:
    """Write the temporary files that this thread makes meanwhile to ``folder``.

    What is written there needs the room on that disk anyway, while the system's folder may be small
    or in memory. A ``TMPDIR`` that the user has set counts more; None leaves it at the system's.
    """
    before = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(before)


@dataclass(frozen=True, eq=False)
class OnDisk:
    """An array (C, T) in a file. Slices are views; assigned to, they are written.

    A memory map would do as much, but its pages count as memory, and where the disk is full it ends
    the process without a word. Threads may share one.
    """

    file: io.FileIO = field(repr=False)
    dtype: np.dtype
    width: int  # samples of a row in the file
    rows: range
    times: range
    folder: str
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and samples."""
        return len(self.rows), len(self.times)

    def __getitem__(self, key: slice | tuple[slice, slice]) -> "OnDisk":
        rows, times = key if isinstance(key, tuple) else (key, slice(None))
        rows, times = self.rows[rows], self.times[times]
        return replace(self, rows=rows, times=times)

    def __setitem__(self, key: slice | tuple[slice, slice], values: np.ndarray) -> None:
        part = self[key]
        whole = np.ascontiguousarray(np.broadcast_to(values, part.shape), self.dtype)
        try:
            for row, held in zip(part.rows, whole, strict=True):
                part._move(row, held, self.file.write)
        except OSError as error:
            raise _refused(self.folder, error) from error

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        read = np.empty(self.shape, self.dtype)
        for row, held in zip(self.rows, read, strict=True):
            self._move(row, held, self.file.readinto)
        return read.astype(dtype or self.dtype, copy=False)

    def _move(self, row: int, held: np.ndarray, move: Callable[[memoryview], int]) -> None:
        """Read or write a row's samples; the system may move fewer bytes than it is asked to."""
        left = memoryview(held).cast("B") if len(held) else memoryview(b"")
        with self.lock:
            self.file.seek((row * self.width + self.times.start) * self.dtype.itemsize)
            while left:
                n = move(left)
                if not n:
                    raise OSError(f"a temporary file ended {len(left)} bytes early")
                left = left[n:]

    def mapped(self) -> np.ndarray:
        """Return it as an array that is only read, mapped; the file lasts as long as that.

        It is pickled as any array is, by its values: a ``numpy.memmap`` of a file without a name
        could not be sent to another process by joblib.
        """
        shape = (self.rows.stop, self.width)
        size = math.prod(shape) * self.dtype.itemsize
        try:
            held = FileMap(self.file.fileno(), Layout(0, shape, self.dtype, size, 0))
        except OSError as error:
            raise unmapped(f"a temporary file in {self.folder}", error) from error
        return np.asarray(held)[self.rows.start :, self.times.start : self.times.stop]


def room(
    shape: tuple[int, int], dtype: type, folder: Path | None = None, held: int | None = None
) -> np.ndarray | OnDisk:
    """Return an array (C, T) to be filled: in memory, or in a file if over ``held`` bytes (HELD).

    The file lies in ``folder`` (default: ``TMPDIR`` where that is set, else what :func:`beside`
    says, else the system's for temporary files), has no name there, and is gone with the array; a
    folder that is not there is made. Raises DiskFullError, then and when
    it is filled, and DataError where no file can be written.
    """
    dtype, place = np.dtype(dtype), "the system's temporary folder (TMPDIR)"
    if shape[0] * shape[1] * dtype.itemsize <= (HELD if held is None else held):
        return np.empty(shape, dtype)
    try:
        set_by_user = os.environ.get("TMPDIR")
        place = str(folder or set_by_user or _folder.get() or tempfile.gettempdir())
        Path(place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as nameless:
            number = os.dup(nameless.fileno())
        file = io.FileIO(number, "r+", closefd=False)
        weakref.finalize(file, os.close, number)
        file.truncate(shape[0] * shape[1] * dtype.itemsize)
    except OSError as error:
        raise _refused(place, error) from error
    return OnDisk(file, dtype, shape[1], range(shape[0]), range(shape[1]), place)


def _refused(folder: str, error: OSError) -> DataError:
    if error.errno not in FULL:
        return DataError(f"cannot write a temporary file in {folder} ({error.strerror or error}).")
    return DiskFullError(
        f"no space left for a temporary file in {folder} ({error.strerror}): what was finished "
        "before is kept; free some space and run the same command again."
    )
