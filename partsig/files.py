"""Files that are either whole or absent, and folders that one process writes at a time."""

import errno
import json
import math
import os
import platform
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from filelock import FileLock, Timeout

from partsig import regular
from partsig.cells import read_table
from partsig.errors import BusyError, DataError, DiskFullError

# Whose temporary files are whose: a store may be written from several machines at once.
HOST = re.sub(r"\W", "-", platform.node()) or "here"
# What the operating system says when a disk, a quota or a file-size limit is exhausted.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Files of writers: those that hold a folder, and those that are not whole yet.
LOCK = ".lock"
TEMPORARY = re.compile(r"\.(?P<host>[\w-]+)\.(?P<pid>\d{1,10})(\.[0-9a-f]{16})?\.tmp\Z")
HEAD = 16_384  # bytes in which a file shows who wrote it
# What shows that a file was written here, and may be replaced.
Mark = bytes | Callable[[object], bool]
PATIENCE_S = 5  # for those who, like this one, only look whether a lock is held
HOLDER = re.compile(r"process \d{1,10} on [\w-]{1,80}, since [\d:T+-]{1,30}")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on leaving without an error it becomes ``path``.

    A process killed at any moment leaves either the old file or the new one. A full disk becomes
    a DiskFullError, and the partial file is removed. The temporary file is this call's own: its
    name cannot be foreseen, and nothing that is there already, a link neither, is written through.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error
    token = secrets.token_hex(8)
    temporary = path.with_name(f".{path.name[:32]}.{HOST}.{os.getpid()}.{token}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less the umask
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def appended(path: Path) -> Iterator[None]:
    """Tell in one sentence that a file which grows cannot be written: DiskFullError, DataError."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> DataError:
    if error.errno in FULL:
        return DiskFullError(
            f"no space left while writing {path} ({error.strerror}): what was finished before "
            "is kept; free some space and run the same command again."
        )
    return _refused(path, error)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {path} ({error.strerror}); choose another place.")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in ``folder`` whose writer, on this machine, is no more."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        found = TEMPORARY.search(path.name)
        if found and found["host"] == HOST and not _alive(int(found["pid"])):
            path.unlink(missing_ok=True)


def is_a_writers(path: Path) -> bool:
    """Tell whether a file is what a writer, perhaps a killed one, leaves: no content of a folder.

    >>> [is_a_writers(Path(name)) for name in (".lock", ".a.npy.here.7.tmp", "a.npy")]
    [True, True, False]
    """
    return path.name.startswith(".") and (path.name.startswith(LOCK) or path.suffix == ".tmp")


@contextmanager
def locked(folder: Path, part: str = "") -> Iterator[None]:
    """Write a folder alone: another process that comes meanwhile is refused in one sentence.

    With ``part`` only that part of it, beside the writers of other parts; without, all of it. The
    operating system holds the lock, so that of a killed process is gone with it. A folder that is
    not there is made, and removed again if nothing was written. What is there and is no folder is
    left to the caller to refuse. Raises BusyError where another process writes the same.
    """
    if folder.exists() and not folder.is_dir():
        yield
        return
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = _hold(folder, folder / (f"{LOCK}-{part}" if part else LOCK))
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        others = [folder / LOCK] if part else sorted(folder.glob(f"{LOCK}-*"))
        for other in others:
            _release(_hold(folder, other, PATIENCE_S))  # nobody else's
        yield
    finally:
        _release(own)
        if new:
            with suppress(OSError):
                folder.rmdir()


def _hold(folder: Path, path: Path, patience: float = 0) -> FileLock:
    lock = FileLock(path, is_singleton=False, thread_local=False)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        with suppress(OSError), regular.open_text(path, errors="replace") as handle:
            holder = HOLDER.match(handle.read(200))
            if holder is not None:
                raise BusyError(_busy(folder, holder[0])) from None
        raise BusyError(_busy(folder, "another process")) from None
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):
        path.write_text(f"process {os.getpid()} on {HOST}, since {since}\n", encoding="ascii")
    return lock


def _busy(folder: Path, holder: str) -> str:
    return (
        f"{folder} is being written by another partsig ({holder}); wait until it is done, or stop "
        "it, and run this command again."
    )


def _release(lock: FileLock) -> None:
    # While it is held: who waits for the file that goes with it looks again.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def can_be_written(folder: Path) -> bool:
    """Tell whether files can be made in a folder, or it be made where it is not there."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def check_no_link(folder: Path) -> None:
    """Raise DataError for a folder in a run or a store that is a link: it leads out of there."""
    if folder.is_symlink():
        raise DataError(
            f"{folder} is a link; partsig writes and deletes in folders of its own only: remove it."
        )


def check_replaceable(path: Path, mark: Mark, sign: Path | None = None) -> None:
    """Raise DataError where another's file has this name: what partsig did not write is kept.

    A file is partsig's where it has the ``mark``, or ``sign`` has it, a file that is written before
    it: bytes where the format has them (:func:`_marked_part`), or what is true of its JSON.
    """
    if os.path.lexists(path) and not _has(sign or path, mark):
        raise DataError(
            f"{path} is there already and is not partsig's: it is kept; choose another place."
        )


def has_keys(*names: str) -> Callable[[object], bool]:
    """Return what tells whether JSON is an object with these keys, ``partsig`` being a version.

    >>> has_keys("partsig", "n")({"partsig": "0.2", "n": 3}), has_keys("n")(["n"])
    (True, False)
    """
    return lambda found: (
        isinstance(found, dict)
        and found.keys() >= set(names)
        and isinstance(found.get("partsig", ""), str)
    )


def _has(file: Path, mark: Mark) -> bool:
    try:
        if callable(mark):
            return mark(read_json(file))
        with regular.open_bytes(file) as handle:
            return mark in _marked_part(file.suffix, handle.read(HEAD))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _marked_part(suffix: str, head: bytes) -> bytes:
    """Return where in the first bytes of a file of a format its writer can be told.

    The names of a table's columns, the recording of an EDF header, the head of a page, what
    stands before a card.

    >>> _marked_part(".csv", b"a,b,c\\nx,b,y\\n"), _marked_part(".md", b"# Notes\\n\\na\\n")
    (b'a,b,c', b'')
    """
    if suffix in (".csv", ".tsv"):
        return head.partition(b"\n")[0].rstrip(b"\r")
    if suffix == ".edf":
        return head[88:168]
    if suffix == ".html":
        return head[:256]
    if suffix == ".md":
        return head[4:].partition(b"\n---\n")[0] + b"\n" if head.startswith(b"---\n") else b""
    return head


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> object:
    """Return what a JSON file says, which somebody else may have written.

    Raises ValueError where it is none, is nested without end, or has numbers that are not finite or
    texts that no file name could be; OSError where it is no regular file or cannot be read.
    """
    text = regular.read_text(path)
    try:
        found = json.loads(text, parse_constant=_no, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested without end") from None
    return found


def _no(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield these columns, two or more, of every row of a CSV table, one row at a time.

    Raises LookupError where a column, or a row's end, is missing.
    """
    with regular.open_text(path, newline="") as handle:
        rows = read_table(handle)
        place = {name: number for number, name in enumerate(next(rows, ()))}
        # In C: a night has a thousand rows.
        yield from map(itemgetter(*(place[name] for name in columns)), rows)
