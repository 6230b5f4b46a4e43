"""Lists of folders that are read once, and not once for every recording in them.

A list is kept while the folder's time of change stays the same. A change within the clock tick of
that time would not show, so a folder is believed only when it has been left alone for a while; and
since some file systems do not keep that time at all, no list is kept for long. So a file that is
added between two calls is found, as it is without a list.
"""

import fnmatch
import os
import re
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

# Times of change are told to two seconds by the coarsest file system (FAT).
SETTLED_S = 3.0
KEPT_S = 60.0
# So many lists are kept: more folders than are worked on at once.
MOST = 64
WILD = re.compile(r"[*?[]")

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """A function of a path whose values are kept until the path changes; threads may call it.

    ``read`` returns the value of a path that is there. Raises what ``read`` and ``stat`` raise.
    """

    def __init__(self, read: Callable[[Path], Value]) -> None:
        self._read = read
        self._kept: OrderedDict[Path, tuple[tuple[int, ...], float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> Value:
        """Return the value of a path."""
        with self._lock:  # who asks meanwhile needs the same answer, or the disk
            now, mark = time.time(), _mark(path)
            known, since, value = self._kept.get(path, (None, 0.0, None))
            if known == mark and 0 <= now - since < KEPT_S:
                self._kept.move_to_end(path)
                return value
            value = self._read(path)
            self._kept.pop(path, None)
            if now - mark[0] / 1e9 > SETTLED_S:
                self._kept[path] = mark, now, value
                while len(self._kept) > MOST:
                    self._kept.popitem(last=False)
            return value


def _mark(path: Path) -> tuple[int, ...]:
    """Return what changes when a path does, also if its time is put back or another is there."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns, status.st_ino, status.st_dev


_listed = Remembered(lambda folder: sorted(os.listdir(folder)))


def names(folder: Path, start: str = "") -> list[str]:
    """Return the names in a folder that begin with ``start``, sorted; none where it is not there.

    Takes as long as there are such names, however many others there are.
    """
    try:
        every = _listed(folder)
    except OSError:
        return []
    first = bisect_left(every, start)
    matches = []
    for place in range(first, len(every)):
        if not every[place].startswith(start):
            break
        matches.append(every[place])
    return matches


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return ``sorted(folder.glob(pattern))``, without a scan of the folder for every pattern.

    Only patterns whose folders hold wildcards, or ``**``, are left to ``glob``.
    """
    above, _, last = pattern.rpartition("/")
    plain = last and "**" not in last and not WILD.search(above) and not pattern.startswith("/")
    if not plain or os.name != "posix":  # elsewhere, case does not count
        return sorted(folder.glob(pattern))
    folder = folder / above
    wild = WILD.search(last)
    if not wild:
        return [folder / last] if os.path.exists(folder / last) else []
    fits = re.compile(fnmatch.translate(last)).match
    return [folder / name for name in names(folder, last[: wild.start()]) if fits(name)]
