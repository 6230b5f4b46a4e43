"""Transfer of published files: resumed downloads, held against checksums.

A file grows as ``.NAME.partsig.part`` beside its place and gets its name once its checksum is the
published one; so it is whole or absent, and a process killed at any moment goes on where it was.
"""

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import pooch
import requests

from partsig.data.addresses import below, shown, without_secrets
from partsig.data.foreign import read_bytes
from partsig.data.web import CHUNK, TooMuchError, ask, length_of, pieces, session
from partsig.errors import DataError, DiskFullError
from partsig.files import FULL

__all__ = ["CHUNK", "alone", "fetch_file", "fetch_text", "head", "resume", "session"]

# Pauses after tries that brought nothing; after one more of them the file is given up.
PAUSES_S = (1.0, 5.0, 20.0, 60.0)
BUSY = {408, 429}  # statuses below 500 that are worth another try

# New bytes after which tries are counted anew: a server that sends some and stops has no end.
LEAST_BYTES = 2**16
# No list has as much: that of 6,000 files has some 700 kB.
LIST_BYTES = 2**23
Parsed = TypeVar("Parsed")


class NotServedError(DataError):
    """The server answers, but has no such file or does not give it (4xx)."""


class UnpinnedError(DataError):
    """A list of checksums is not one that is known to be the published one."""


class _CutShortError(Exception):
    """The answer is not as long as promised, or not the asked part."""


def resume(
    url: str,
    output_file: str | Path,
    *,
    session: requests.Session,
    limit: int = LIST_BYTES,
    progress: Callable[[int], object] = lambda n_bytes: None,
    sleep: Callable[[float], object] = time.sleep,
    pauses: Sequence[float] | None = None,
) -> None:
    """Fetch what ``output_file`` lacks of ``url``.

    What is in the file is continued with a Range request; a server that ignores it sends all again.
    Lost connections, answers cut short, 408, 429 and 5xx are tried again after ``pauses``
    (s; default PAUSES_S), counted anew after 64 KiB. ``progress`` gets the bytes of each chunk.
    What has more than ``limit`` bytes, or than the server says where it says so, is cut off.

    Raises NotServedError for any other 4xx, DataError when the tries are used up, when trying again
    cannot help, when the server sends too much or to another server or the file cannot be written,
    and DiskFullError when there is no room.
    """
    path = Path(output_file)
    pauses = PAUSES_S if pauses is None else pauses
    furthest, failures = size_of(path), 0
    while True:
        try:
            with on_disk(path):
                return _try(session, url, path, limit, progress)
        except TooMuchError:
            path.unlink(missing_ok=True)
            raise
        except (_CutShortError, requests.RequestException) as error:
            reason, again = _reason(error, url)
            kind = NotServedError if isinstance(error, requests.HTTPError) else DataError
        if not again:
            raise kind(f"cannot fetch {shown(url)} ({reason}); is --mirror right?")
        failures = 1 if size_of(path) >= furthest + LEAST_BYTES else failures + 1
        furthest = max(furthest, size_of(path))
        if failures > len(pauses):
            raise DataError(
                f"cannot fetch {shown(url)} ({reason}, {failures} times in a row); run the same "
                "command again later, or try another --mirror."
            )
        sleep(pauses[failures - 1])


def _try(
    session: requests.Session,
    url: str,
    path: Path,
    limit: int,
    progress: Callable[[int], object],
) -> None:
    have = size_of(path)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with ask(session, "GET", url, headers) as answer:
        continues = answer.status_code == 206
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status_code == 416 or (continues and not begins):
            path.unlink(missing_ok=True)  # what is there is no beginning of the file: all anew
            raise _CutShortError
        answer.raise_for_status()
        promised = length_of(answer)
        if promised is None:  # an answer without an end of its own
            limit = min(limit, head(url, session) or limit)
        have = have if continues else 0
        with _open_part(path, continues) as handle:
            for chunk in pieces(answer, max(limit - have, 0)):
                handle.write(chunk)
                progress(len(chunk))
            handle.flush()
            os.fsync(handle.fileno())
    if promised is not None and size_of(path) != promised + have:
        raise _CutShortError


def _reason(error: Exception, url: str) -> tuple[str, bool]:
    """Return what happened in a few words, and whether another try may help."""
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        words = "".join(c for c in error.response.reason or "" if c.isprintable())[:60]
        said = f"the server answers {status} {words}".rstrip()
        return said, status >= 500 or status in BUSY
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted", False
    if isinstance(error, requests.Timeout):
        return "no answer in time", True
    if isinstance(error, _CutShortError | requests.exceptions.ChunkedEncodingError):
        return "the connection breaks off", True
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached", True
    return f"{type(error).__name__}: {without_secrets(error, url)}", False


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 when it is absent or a link."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turn what the operating system has against ``path`` into a DataError or DiskFullError."""
    try:
        yield
    except requests.RequestException:  # an OSError too, but the server's fault
        raise
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"no space left while writing {path} ({error.strerror}): what was fetched is kept; "
                "free some space and run the same command again."
            ) from error
        raise DataError(
            f"cannot read or write {path} ({error.strerror}); choose another --raw."
        ) from error


def fetch_file(url: str, path: Path, known_hash: str, downloader: Callable) -> None:
    """Fetch ``path``, which gets its name when its ``known_hash`` ("sha1:…") is right.

    A copy with another hash is deleted and fetched once more from its first byte. Raises DataError
    when that one is wrong too, and whatever ``downloader`` (``resume``, with its session) raises.
    """
    part = part_of(path)
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not matches(part, known_hash):
            downloader(url, part)
        if not matches(part, known_hash):
            part.unlink(missing_ok=True)
            downloader(url, part)
        if not matches(part, known_hash):
            part.unlink(missing_ok=True)
            raise DataError(
                f"{shown(url)} came twice with another checksum than the published one; nothing "
                "of it was kept; try another --mirror."
            )
        os.replace(part, path)


def part_of(path: Path) -> Path:
    """Return where a file is while it is not whole."""
    return path.with_name(f".{path.name}.partsig.part")


def _open_part(path: Path, continues: bool) -> BinaryIO:
    """Open what is fetched, to go on with it or anew; never through a link, nor another's file."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    about = os.fstat(number)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(number)
        raise OSError(errno.ELOOP, "it is a link, or no regular file", str(path))
    if continues:
        os.lseek(number, 0, os.SEEK_END)
    else:
        os.ftruncate(number, 0)
    return os.fdopen(number, "wb")


def matches(path: Path, known_hash: str) -> bool:
    """Tell whether the file is there with this hash ("sha1:…")."""
    algorithm, _, digits = known_hash.partition(":")
    return path.is_file() and pooch.file_hash(str(path), algorithm) == digits


def stamp(path: Path, known_hash: str) -> list[object] | None:
    """Return what to remember of a verified file: hash, bytes, time of change in ns; None: absent.

    The same stamp later means the same file, without reading it.
    """
    if not path.is_file():
        return None
    about = path.stat()
    return [known_hash, about.st_size, about.st_mtime_ns]


def fetch_text(
    raw: Path,
    base: str,
    name: str,
    parse: Callable[[str], Parsed],
    downloader: Callable,
    pinned: str | None = None,
) -> Parsed:
    """Return ``parse`` of the text file ``name``; fetched below ``raw`` unless it is there.

    Published once and for all, it is fetched once. ``pinned`` is its SHA-256, where only the
    published one will do. Raises UnpinnedError for another one, and what ``parse`` (a DataError:
    not what it should be) and ``downloader`` raise; nothing gets the name then.
    """
    path = raw / name
    part = part_of(path)
    with on_disk(path):
        if path.is_file():
            return _parsed(path, path, parse, pinned)
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader(below(base, name), part)
        try:
            parsed = _parsed(part, path, parse, pinned)
        except DataError:
            part.unlink()
            raise
        os.replace(part, path)
    return parsed


def _parsed(file: Path, path: Path, parse: Callable[[str], Parsed], pinned: str | None) -> Parsed:
    data = read_bytes(file, LIST_BYTES, "list of files")
    if pinned is not None and not is_pinned(data, pinned):
        raise UnpinnedError(f"{path} is not the published one (another SHA-256).")
    return parse(data.decode("utf-8", errors="replace"))


def is_pinned(data: bytes, pinned: str) -> bool:
    """Tell whether this is what was published, by its SHA-256."""
    return hashlib.sha256(data).hexdigest() == pinned


def head(url: str, session: requests.Session) -> int | None:
    """Return how many bytes the server says the file has, or None if it does not say."""
    try:
        with ask(session, "HEAD", url) as answer:
            return length_of(answer) if answer.ok else None
    except (requests.RequestException, DataError):
        return None


@contextmanager
def alone(raw: Path) -> Iterator[None]:
    """Lock the folder, making it; raise DataError while another process has locked it."""
    with on_disk(raw):
        raw.mkdir(parents=True, exist_ok=True)
        folder = os.open(raw, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another `partsig download` is writing to {raw}; wait for it, or stop it."
            ) from error
        except OSError:  # some network file systems have no locks
            pass
        yield
    finally:
        os.close(folder)
