"""Files that are either whole or absent."""

import csv
import errno
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path

from partsig.errors import DataError, DiskFullError

# Whose temporary files are whose: a store may be written from several machines at once.
HOST = re.sub(r"\W", "-", platform.node()) or "here"
# What the operating system says when a disk, a quota or a file-size limit is exhausted.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on leaving without an error it becomes ``path``.

    A process killed at any moment leaves either the old file or the new one. A full disk becomes
    a DiskFullError, and the partial file is removed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"no space left while writing {path} ({error.strerror}): what was finished before "
                "is kept; free some space and run the same command again."
            ) from error
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {path} ({error.strerror}); choose another place.")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in ``folder`` whose writer, on this machine, is no more."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        host, pid = path.name.split(".")[-3:-1]
        if host == HOST and pid.isdigit() and not _alive(int(pid)):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield these columns, two or more, of every row of a CSV table, one row at a time.

    Raises LookupError where a column, or a row's end, is missing.
    """
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle)
        place = {name: number for number, name in enumerate(next(reader, ()))}
        # In C: a night has a thousand rows.
        yield from map(itemgetter(*(place[name] for name in columns)), filter(None, reader))
