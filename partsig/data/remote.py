"""Folders in object stores (``s3://bucket/nights``) through fsspec, mirrored as far as needed.

Everything else reads and maps files of this machine. So a remote folder has a local one: of raw
recordings, small files (headers, stages, tables) are fetched at the start and large ones one
recording at a time, removed afterwards; of a store, files are sent as they are finished, and
fetched where they are missing or others before it is read.

Nothing that a server says is believed: names stay below the copy (:mod:`.remote_names`), a file
comes beside its place and gets its name when it has as many bytes as announced, and only what was
fetched is replaced or removed (:mod:`.copies`). A file that is here is the same as the one there
where their ETags are, or the SHA-256 that an index tells; else it is fetched anew.
"""

import shutil
import threading
from bisect import bisect
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path, PurePosixPath

import requests
from fsspec.callbacks import Callback

from partsig.data.addresses import is_url, name_of, shown, without_secrets
from partsig.data.copies import Copy, array_sha256_of
from partsig.data.remote_listing import FAULTS, Listing, at, listing, system_of, without_suffix
from partsig.data.remote_names import local_path
from partsig.data.web import TooMuchError
from partsig.errors import DataError, DiskFullError
from partsig.files import FULL, atomic

__all__ = [
    "TWICE",
    "drop",
    "fetch",
    "is_url",
    "left_out",
    "listing",
    "mirror",
    "pull",
    "pull_small",
    "push",
    "remove",
]

# Where a recording is put in the paths of all that has the name of another one.
TWICE = ".twice"
# Files up to this size (bytes) are fetched at the start: no recording is so small. Of a file whose
# size nobody tells, no more is taken.
SMALL = 2**20
# Characters that a file's name and that of a recording beside it begin with, if it is of that one.
LEAST_COMMON = 3
MOST_TOLD = 5
# Files in a row that a server is waited for in vain, after which it is taken to be gone.
MOST_IN_VAIN = 3
# The calls for which this process has fetched the small files, with what could not be fetched, and
# who may do so now.
_pulled: dict[str, dict[str, str]] = {}
_pulling = threading.Lock()


def mirror(url: str, kind: str) -> Path:
    """Return the local folder of a remote one, below ``data/KIND``; no other address has the same.

    >>> mirror("s3://bucket/a/nights/", "raw").as_posix().rpartition("-")[0]
    'data/raw/nights'
    """
    return Path("data") / kind / name_of(url)


class _Limit(Callback):
    """Ends a transfer that brings more bytes than were announced."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.came = limit, 0

    def set_size(self, size: int | None) -> None:
        if size is not None and size > self.limit:
            raise TooMuchError(
                f"{size:,} bytes come where {self.limit:,} should be; it was cut off"
            )

    def relative_update(self, inc: int = 1) -> None:
        self.came += inc
        if self.came > self.limit:
            raise TooMuchError(f"more than the announced {self.limit:,} bytes come; it was cut off")


def _get(
    there: Listing, folder: Path, name: str, array: str | None = None, replace: bool = False
) -> Path:
    """Fetch one file of a listing unless the same is here.

    The listing is the caller's: another thread may list the folder anew meanwhile. ``array`` is the
    SHA-256 that an index tells of the numbers in it; ``replace``: whether a file that was not
    fetched gives way, as in the copy of a store, which is written here as well.
    """
    copy, url = Copy(there.url, folder), there.url
    target = local_path(folder, name, shown(url))
    size, etag = there.sizes[name], there.etags.get(name)
    known = copy.known(name)
    if known and etag and known.get("etag") == etag and known.get("array_sha256") == array:
        return target
    if array and target.is_file() and array_sha256_of(target) == array:
        copy.note(name, etag=etag, array=array)
        return target
    with atomic(target) as temporary:
        _transfer(there, name, temporary, SMALL if size is None else size)
        if array and array_sha256_of(temporary) != array:
            raise DataError(
                f"{shown(url)}: {name} is not what its index.csv says (another SHA-256): the store "
                "is damaged, or just being written."
            )
        if not (replace or copy.is_ours(name)):
            raise DataError(
                f"{target} was not fetched from {shown(url)} and is not replaced: move it away."
            )
    copy.note(name, etag=etag, array=array)
    return target


def _transfer(there: Listing, name: str, target: Path, limit: int) -> None:
    """Fetch a file to a temporary place; DataError unless it has the bytes that were announced."""
    size, told = there.sizes[name], f"{shown(there.url)}: {name} cannot be fetched"
    target.parent.mkdir(parents=True, exist_ok=True)
    if size and size > shutil.disk_usage(target.parent).free:
        raise DataError(f"{told} (it is said to have {size:,} bytes, more than there is room for).")
    fault = None
    try:
        there.system.get_file(at(there.root, name), str(target), callback=_Limit(limit))
        came = target.stat().st_size
        if size is not None and came != size:
            fault = f"{came:,} bytes came and {size:,} were announced"
    except TooMuchError as error:
        raise TooMuchError(f"{told} ({str(error).rstrip('.')}).") from None
    except DataError as error:
        fault = str(error).rstrip(".")
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError(
                f"no space left while fetching {name} to {target.parent}."
            ) from None
        fault = without_secrets(error, there.url) or type(error).__name__
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            raise _InVainError(f"{told} ({fault}).") from None
    if fault:
        raise DataError(f"{told} ({fault}).")


class _InVainError(DataError):
    """Nobody answers."""


def pull_small(url: str, folder: Path, call: str) -> list[str]:
    """List a remote folder anew and fetch its small files; return the names of all, sorted.

    ``call`` says for which call of a verb: see :func:`fetch`. What cannot be fetched is told by
    :func:`fetch` of the recording that it belongs to, and by :func:`left_out`. Those whose names
    may be none of files here are named below ``.unfit/``. Raises DataError where nobody answers.
    """
    listing.cache_clear()
    there = listing(url)
    Copy(url, folder).begin()
    failed: dict[str, str] = {}
    in_vain = 0
    for name in there.sizes:
        if is_large(there, name):
            continue
        try:
            _get(there, folder, name)
            in_vain = 0
        except DiskFullError:
            raise
        except DataError as error:
            in_vain = in_vain + 1 if isinstance(error, _InVainError) else 0
            if in_vain == MOST_IN_VAIN:
                raise
            # Of no size and large, it comes with its recording, if it is of one.
            if there.sizes[name] is not None or not isinstance(error, TooMuchError):
                failed[name] = str(error)
    _pulled[call] = failed
    return sorted([*there.sizes, *there.unfit])


def left_out(url: str, call: str, headers: list[str]) -> list[str]:
    """Return sentences on small files that could not be fetched, and belong to no recording."""
    there = listing(url)
    told = [
        reason
        for name, reason in _pulled.get(call, {}).items()
        if not any(_belongs(name, header, there) for header in headers)
    ]
    more = len(told) - MOST_TOLD
    return told[:MOST_TOLD] + [f"{more} more files could not be fetched"] * (more > 0)


def _belongs(name: str, header: str, there: Listing) -> bool:
    """Tell whether a file is of a recording: named as it is, or nearest to it in its folder."""
    if without_suffix(name) == without_suffix(header):
        return True
    place, own = PurePosixPath(name), PurePosixPath(header)
    if place.parent != own.parent:
        return False
    # Of sorted names those beside a name begin as it does, as far as any does.
    beside = there.beside(own)
    at = bisect(beside, place.name)
    best = max((_common(place.name, other) for other in beside[max(at - 1, 0) : at + 1]), default=0)
    return _common(place.name, own.name) == best >= LEAST_COMMON


def _common(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def is_large(there: Listing, name: str) -> bool:
    """Tell whether a file is known to be too large to be fetched at the start."""
    return (there.sizes[name] or 0) > SMALL


def fetch(url: str, folder: Path, header: Path, call: str) -> list[Path]:
    """Fetch the large files of one recording: those named as its header is, beside it.

    A process that meets a ``call`` for the first time, being another than the one that began it and
    perhaps on another machine, lists the folder anew and fetches the small files before. Raises
    DataError where a file of the recording cannot be had.
    """
    with _pulling:
        if call not in _pulled:
            pull_small(url, folder, call)
    there, name = listing(url), header.relative_to(folder).as_posix()
    if name in there.unfit:
        raise DataError(there.unfit[name])
    if header.parent.name == TWICE:
        raise DataError(
            f"{shown(url)} has several recordings {header.stem}; rename all but one of them."
        )
    for other, reason in _pulled[call].items():
        if _belongs(other, name, there):
            raise DataError(reason)
    own = there.by_recording.get(without_suffix(name), [])
    later = [name for name in own if is_large(there, name) or there.sizes[name] is None]
    done: list[Path] = []
    try:
        for name in later:
            done.append(_get(there, folder, name))
    except DataError:
        remove(url, folder, done)
        raise
    return done


def remove(url: str, folder: Path, files: list[Path]) -> None:
    """Delete files that were fetched to the copy of a remote folder, and no others."""
    for file in files:
        Copy(url, folder).remove(file.relative_to(folder).as_posix())


def pull(
    url: str,
    folder: Path,
    *,
    tables_only: bool = False,
    arrays: Callable[[Path], Mapping[str, str]] | None = None,
) -> set[str]:
    """Fetch the files of a remote store that are not here yet; return the names of all.

    Tables and settings are fetched anew, since they change; with ``tables_only`` nothing else is.
    ``arrays`` returns of the folder, when it has its tables, the SHA-256 that they tell of the
    numbers in a file, by its name.
    """
    listing.cache_clear()
    there = listing(url)
    there.check_fit()
    Copy(url, folder).begin()
    tables = {name: None for name in there.sizes if name.endswith((".csv", ".json"))}
    for name in tables:
        _get(there, folder, name, replace=True)
    if not tables_only:
        told = {} if arrays is None else arrays(folder)
        for name in there.sizes:
            if name not in tables:
                _get(there, folder, name, told.get(name), replace=True)
    return set(there.sizes)


def drop(url: str, names: list[str]) -> None:
    """Remove files of a remote folder; raises DataError when that fails."""
    system, root = system_of(url)
    for name in names:
        fault = None
        try:
            system.rm_file(at(root, name))
        except (*FAULTS, NotImplementedError) as error:
            fault = without_secrets(error, url)
        if fault:
            raise DataError(f"{shown(url)}: {name} cannot be removed ({fault}).")


def push(url: str, folder: Path, names: list[str]) -> None:
    """Send files of a local folder.

    Raises DataError when that fails; they are whole here and are sent by the same command again.
    """
    system, root = system_of(url)
    for name in names:
        fault = None
        try:
            system.makedirs(at(root, PurePosixPath(name).parent.as_posix()), exist_ok=True)
            system.put_file(str(folder / name), at(root, name))
        except (*FAULTS, NotImplementedError) as error:
            fault = without_secrets(error, url)
        if fault:
            raise DataError(
                f"{shown(url)}: {name} cannot be sent ({fault}); it is kept in {folder}, run the "
                "same command again."
            )
