"""Folders in object stores (``s3://bucket/nights``) through fsspec, mirrored as far as needed.

Everything else reads and maps files of this machine. So a remote folder has a local one: of raw
recordings, small files (headers, stages, tables) are fetched at the start and large ones one
recording at a time, removed afterwards; of a store, files are sent as they are finished, and
fetched where they are missing before it is read.
"""

import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import fsspec

from partsig.errors import DataError
from partsig.files import atomic

# Files up to this size (bytes) are fetched at the start: no recording is so small.
SMALL = 2**20
# The calls for which this process has fetched the small files, and who may do so now.
_pulled: set[str] = set()
_pulling = threading.Lock()


def is_url(path: str | Path) -> bool:
    """Tell whether this names a folder elsewhere.

    >>> is_url("s3://bucket/nights"), is_url("data/raw/nights")
    (True, False)
    """
    return "://" in str(path)


def mirror(url: str, kind: str) -> Path:
    """Return the local folder of a remote one, below ``data/KIND``.

    >>> mirror("s3://bucket/a/nights/", "raw").as_posix()
    'data/raw/nights'
    """
    return Path("data") / kind / PurePosixPath(url.partition("://")[2]).name


@dataclass(frozen=True)
class Listing:
    """A remote folder: its file system, its root there, and the bytes of every file by its path."""

    url: str
    system: fsspec.AbstractFileSystem
    root: str
    sizes: dict[str, int]

    @cached_property
    def by_recording(self) -> dict[str, list[str]]:
        """The files by their path without the extension: those of one recording together."""
        by_name: dict[str, list[str]] = {}
        for name in self.sizes:
            by_name.setdefault(_without_suffix(name), []).append(name)
        return by_name


def _without_suffix(name: str) -> str:
    place = PurePosixPath(name)
    return (place.parent / place.stem).as_posix()


@lru_cache(maxsize=8)
def _system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a remote folder, and the folder's root there.

    It is partsig's own and keeps no listings, as fsspec's shared ones do for as long as the process
    lasts: what is new there would not be seen, and threads that send files would forget the same
    entry at the same time, of which all but one meet a KeyError.
    """
    system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    if hasattr(system.dircache, "use_listings_cache"):
        system.dircache.use_listings_cache = False
    return system, root


@lru_cache(maxsize=8)
def listing(url: str) -> Listing:
    """List a remote folder, once until the cache is cleared.

    Raises DataError when its protocol needs a package that is missing, or nobody answers.
    """
    try:
        system, root = _system(url)
        files = system.find(root, detail=True)
    except ImportError as error:
        raise DataError(f"{url}: {error}; install that package.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{url} cannot be listed ({error}).") from error
    start = len(root.rstrip("/")) + 1
    sizes = {path[start:]: int(info["size"] or 0) for path, info in files.items()}
    return Listing(url, system, root.rstrip("/"), sizes)


def _get(there: Listing, folder: Path, name: str) -> Path:
    """Fetch one file of a listing unless it is here with the right size.

    The listing is the caller's: another thread may list the folder anew meanwhile.
    """
    target = folder / name
    if target.is_file() and target.stat().st_size == there.sizes[name]:
        return target
    with atomic(target) as temporary:
        try:
            there.system.get_file(f"{there.root}/{name}", str(temporary))
        except OSError as error:
            raise DataError(f"{there.url}: {name} cannot be fetched ({error}).") from error
    return target


def pull_small(url: str, folder: Path, call: str) -> list[str]:
    """List a remote folder anew and fetch its small files; return the names of all, sorted.

    ``call`` says for which call of a verb: see :func:`fetch`.
    """
    listing.cache_clear()
    there = listing(url)
    for name, size in there.sizes.items():
        if size <= SMALL:
            _get(there, folder, name)
    _pulled.add(call)
    return sorted(there.sizes)


def fetch(url: str, folder: Path, header: Path, call: str) -> list[Path]:
    """Fetch the large files of one recording: those named as its header is, beside it.

    A process that meets a ``call`` for the first time, being another than the one that began it and
    perhaps on another machine, lists the folder anew and fetches the small files before.
    """
    with _pulling:
        if call not in _pulled:
            pull_small(url, folder, call)
    there = listing(url)
    own = there.by_recording.get(_without_suffix(header.relative_to(folder).as_posix()), [])
    return [_get(there, folder, name) for name in own if there.sizes[name] > SMALL]


def pull(url: str, folder: Path, *, tables_only: bool = False) -> set[str]:
    """Fetch the files of a remote folder that are not here yet; return the names of all.

    Tables and settings are fetched anew, since they change; with ``tables_only`` nothing else is.
    """
    listing.cache_clear()
    there = listing(url)
    for name in there.sizes:
        table = name.endswith((".csv", ".json"))
        if table:
            (folder / name).unlink(missing_ok=True)
        if table or not tables_only:
            _get(there, folder, name)
    return set(there.sizes)


def drop(url: str, names: list[str]) -> None:
    """Remove files of a remote folder."""
    system, root = _system(url)
    for name in names:
        system.rm_file(f"{root}/{name}")


def push(url: str, folder: Path, names: list[str]) -> None:
    """Send files of a local folder.

    Raises DataError when that fails; they are whole here and are sent by the same command again.
    """
    system, root = _system(url)
    for name in names:
        try:
            system.makedirs(f"{root}/{PurePosixPath(name).parent}", exist_ok=True)
            system.put_file(str(folder / name), f"{root}/{name}")
        except OSError as error:
            raise DataError(
                f"{url}: {name} cannot be sent ({error}); it is kept in {folder}, run the same "
                "command again."
            ) from error
