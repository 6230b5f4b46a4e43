"""Folders in object stores (``s3://bucket/nights``) through fsspec, mirrored as far as needed.

Everything else reads and maps files of this machine. So a remote folder has a local one: of raw
recordings, small files (headers, stages, tables) are fetched at the start and large ones one
recording at a time, removed afterwards; of a store, files are sent as they are finished, and
fetched where they are missing before it is read.
"""

from functools import lru_cache
from pathlib import Path, PurePosixPath

import fsspec

from partsig.errors import DataError
from partsig.files import atomic

# Files up to this size (bytes) are fetched at the start: no recording is so small.
SMALL = 2**20


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


@lru_cache(maxsize=8)
def listing(url: str) -> tuple[fsspec.AbstractFileSystem, str, dict[str, int]]:
    """Return the file system, the root and {relative path: bytes} of a remote folder.

    Raises DataError when its protocol needs a package that is missing, or nobody answers.
    """
    try:
        system, root = fsspec.core.url_to_fs(url)
        found = system.find(root, detail=True)
    except ImportError as error:
        raise DataError(f"{url}: {error}; install that package.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{url} cannot be listed ({error}).") from error
    start = len(root.rstrip("/")) + 1
    sizes = {path[start:]: int(info["size"] or 0) for path, info in found.items()}
    return system, root.rstrip("/"), sizes


def _get(url: str, folder: Path, name: str) -> Path:
    """Fetch one file unless it is there with the right size."""
    system, root, sizes = listing(url)
    target = folder / name
    if target.is_file() and target.stat().st_size == sizes[name]:
        return target
    with atomic(target) as temporary:
        try:
            system.get_file(f"{root}/{name}", str(temporary))
        except OSError as error:
            raise DataError(f"{url}: {name} cannot be fetched ({error}).") from error
    return target


def pull_small(url: str, folder: Path) -> list[str]:
    """Fetch the small files of a remote folder; return the names of all its files, sorted."""
    sizes = listing(url)[2]
    for name, size in sizes.items():
        if size <= SMALL:
            _get(url, folder, name)
    return sorted(sizes)


def fetch(url: str, folder: Path, header: Path) -> list[Path]:
    """Fetch the large files of one recording: those named as its header is, beside it."""
    pull_small(url, folder)  # on another machine than the one that began
    place = header.relative_to(folder)
    sizes = listing(url)[2]
    same = [
        name
        for name in sizes
        if PurePosixPath(name).parent == PurePosixPath(place.parent.as_posix())
        and PurePosixPath(name).stem == place.stem
        and sizes[name] > SMALL
    ]
    return [_get(url, folder, name) for name in same]


def pull(url: str, folder: Path, *, tables_only: bool = False) -> set[str]:
    """Fetch the files of a remote folder that are not here yet; return the names of all.

    Tables and settings are fetched anew, since they change; with ``tables_only`` nothing else is.
    """
    listing.cache_clear()
    names = set(listing(url)[2])
    for name in names:
        table = name.endswith((".csv", ".json"))
        if table:
            (folder / name).unlink(missing_ok=True)
        if table or not tables_only:
            _get(url, folder, name)
    return names


def drop(url: str, names: list[str]) -> None:
    """Remove files of a remote folder."""
    system, root = fsspec.core.url_to_fs(url)
    for name in names:
        system.rm_file(f"{root}/{name}")


def push(url: str, folder: Path, names: list[str]) -> None:
    """Send files of a local folder.

    Raises DataError when that fails; they are whole here and are sent by the same command again.
    """
    system, root = fsspec.core.url_to_fs(url)
    for name in names:
        try:
            system.makedirs(f"{root}/{PurePosixPath(name).parent}", exist_ok=True)
            system.put_file(str(folder / name), f"{root}/{name}")
        except OSError as error:
            raise DataError(
                f"{url}: {name} cannot be sent ({error}); it is kept in {folder}, run the same "
                "command again."
            ) from error
