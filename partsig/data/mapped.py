"""Arrays in .npy files, mapped into memory without keeping their files open.

An ordinary Linux allows a process 1,024 open files, fewer than a large study has nights, and
Python's maps keep theirs open (``mmap`` duplicates the descriptor, and ``numpy.memmap`` stands on
it). The operating system itself does not need the descriptor once a file is mapped.
"""

import ctypes
import errno
import math
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from partsig import regular
from partsig.errors import DataError

# Linux allows a process 65,530 maps (vm.max_map_count), of which libraries take some thousands.
MOST_MAPS = 16_384
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

Check = Callable[[Path, tuple[int, ...], np.dtype], None]


@dataclass(frozen=True)
class Layout:
    """Where an array begins in its file, its shape and type, and the file's size and time."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    size: int
    changed_ns: int


class FileMap:
    """A file's bytes in memory, read-only; arrays made of it keep it, and it goes with the last."""

    def __init__(self, number: int, layout: Layout) -> None:
        self.size = layout.size
        self.address = _libc.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_SHARED, number, 0)
        if self.address == _FAILED:
            self.address = None
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self.__array_interface__ = {
            "version": 3,
            "shape": layout.shape,
            "typestr": layout.dtype.str,
            "data": (self.address + layout.start, True),
        }

    def forget(self) -> None:
        """Free the memory of what was read; it can be read again."""
        _libc.madvise(self.address, self.size, mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        if getattr(self, "address", None) is not None:
            _libc.munmap(self.address, self.size)


class MappedArrays:
    """Arrays in the .npy files of one folder, the most recently used of which stay mapped.

    ``check(path, shape, dtype)`` is called once for every file, when it is first mapped, and raises
    what is to be said of an array that is not as expected. Several threads may ask at once.
    """

    def __init__(self, folder: Path, check: Check, most: int = MOST_MAPS) -> None:
        self._folder, self._check, self._most, self._lock = folder, check, most, Lock()
        self._mapped: OrderedDict[str, np.ndarray] = OrderedDict()
        self._layouts: dict[str, Layout] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the array of the file ``name``, read-only; it stays valid for whoever holds it.

        Raises DataError when the file is missing, is no such array, or has changed since it was
        first mapped.
        """
        with self._lock:
            array = self._mapped.get(name)
            if array is not None:
                self._mapped.move_to_end(name)
                return array
        # Not under the lock, which others wait for: two may map a file at once, and one is kept.
        path, known = self._folder / name, self._layouts.get(name)
        array, layout = map_array(path)
        if known is None:
            self._check(path, layout.shape, layout.dtype)
        elif known != layout:
            raise DataError(f"{path} was changed while it was in use: run the same command again.")
        with self._lock:
            self._layouts[name], self._mapped[name] = layout, array
            while len(self._mapped) > self._most:
                self._mapped.popitem(last=False)
        return array


def map_array(path: Path) -> tuple[np.ndarray, Layout]:
    """Return the array of a .npy file, mapped read-only, and how it lies there.

    Raises DataError where the file is missing, or no whole array of numbers in C order.
    """
    try:
        with regular.open_bytes(path) as handle:
            layout = _read_layout(path, handle)
            return np.asarray(FileMap(handle.fileno(), layout)), layout
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error


def _read_layout(path: Path, handle) -> Layout:
    version = np.lib.format.read_magic(handle)
    if version != (1, 0):
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
    start, state = handle.tell(), os.fstat(handle.fileno())
    if fortran or dtype.hasobject:
        raise unreadable(path, f"it holds {dtype}{' in Fortran order' if fortran else ''}")
    end = start + math.prod(shape) * dtype.itemsize
    if state.st_size < end:
        raise unreadable(path, f"it has {state.st_size:,} bytes, and its array ends at {end:,}")
    return Layout(start, shape, dtype, state.st_size, state.st_mtime_ns)


def unreadable(path: Path, reason: object) -> DataError:
    """Return what to say of a file of a store that cannot be read."""
    if isinstance(reason, OSError) and reason.errno in (errno.EMFILE, errno.ENFILE):
        return DataError(
            f"{path} cannot be opened ({reason.strerror}): let a process open more files, with "
            "`ulimit -n 4096`, say."
        )
    if isinstance(reason, OSError) and reason.errno == errno.ENOMEM:
        return unmapped(str(path), reason)
    if isinstance(reason, OSError) and reason.errno not in (None, errno.ENOENT):
        return DataError(f"{path} cannot be read ({reason.strerror}).")  # it may well be whole
    return DataError(f"{path} cannot be read ({reason}): run the same preprocess command again.")


def unmapped(what: str, error: OSError) -> DataError:
    """Return what to say of a whole file that the system does not map.

    ENOMEM (mmap(2)) tells of the process's address space or of the number of its maps.
    """
    if error.errno != errno.ENOMEM:
        return DataError(f"{what} cannot be mapped into memory ({error.strerror}).")
    return DataError(
        f"{what} cannot be mapped into memory ({error.strerror}): the process may have no more of "
        "it (`ulimit -v`), or has as many maps as Linux allows one (`sysctl vm.max_map_count`): "
        "raise that limit."
    )
