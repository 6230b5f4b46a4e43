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
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.callbacks import Callback

from partsig.data.addresses import CHAIN, is_url, name_of, shown, without_secrets
from partsig.data.copies import Copy, array_sha256_of
from partsig.data.remote_names import check_names, local_path
from partsig.data.web import Web
from partsig.errors import DataError, DiskFullError
from partsig.files import FULL, atomic

__all__ = ["drop", "fetch", "is_url", "listing", "mirror", "pull", "pull_small", "push", "remove"]

# Files up to this size (bytes) are fetched at the start: no recording is so small. Of a file whose
# size nobody tells, no more is taken.
SMALL = 2**20
# What a file system of fsspec's may raise that is not of this code.
FAULTS = (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, tarfile.TarError)
# What tells two contents of a file apart, as the file systems of object stores call it.
ETAGS = ("ETag", "etag", "md5Hash")
# Archives that may lie on a web server: of these only the parts are fetched that are needed.
ARCHIVES = ("zip", "tar")
# The calls for which this process has fetched the small files, and who may do so now.
_pulled: set[str] = set()
_pulling = threading.Lock()


def mirror(url: str, kind: str) -> Path:
    """Return the local folder of a remote one, below ``data/KIND``; no other address has the same.

    >>> mirror("s3://bucket/a/nights/", "raw").as_posix().rpartition("-")[0]
    'data/raw/nights'
    """
    return Path("data") / kind / name_of(url)


@dataclass(frozen=True)
class Listing:
    """A remote folder: its file system, its root there, and what is told of every file by its path.

    ``sizes`` are bytes, None where nobody tells.
    """

    url: str = field(repr=False)
    system: fsspec.AbstractFileSystem = field(repr=False)
    root: str = field(repr=False)
    sizes: dict[str, int | None]
    etags: dict[str, str]

    @cached_property
    def by_recording(self) -> dict[str, list[str]]:
        """The files by their path without the extension: those of one recording together."""
        by_name: dict[str, list[str]] = {}
        for name in self.sizes:
            by_name.setdefault(_without_suffix(name), []).append(name)
        return by_name

    def is_large(self, name: str) -> bool:
        """Tell whether a file is known to be too large to be fetched at the start."""
        return (self.sizes[name] or 0) > SMALL


class _Limit(Callback):
    """Ends a transfer that brings more bytes than were announced."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.came = limit, 0

    def set_size(self, size: int | None) -> None:
        if size is not None and size > self.limit:
            raise DataError(f"{size:,} bytes come where {self.limit:,} should be; it was cut off")

    def relative_update(self, inc: int = 1) -> None:
        self.came += inc
        if self.came > self.limit:
            raise DataError(f"more than the announced {self.limit:,} bytes come; it was cut off")


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
    *outer, last = CHAIN.split(url)
    if last.lower().startswith(("http://", "https://")):
        web = Web(last)
        if not outer:
            return web, ""
        protocol, _, inner = outer[0].partition("://")
        if len(outer) > 1 or protocol not in ARCHIVES:
            raise ValueError("of a web server only folders, zip:// and tar:// are read")
        archive = fsspec.filesystem(protocol, fo=web.open(""), skip_instance_cache=True)
        return archive, inner.strip("/")
    system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    if hasattr(system.dircache, "use_listings_cache"):
        system.dircache.use_listings_cache = False
    return system, root.rstrip("/")


def _at(root: str, name: str) -> str:
    """Return where a file of a folder lies; the root of an archive has no name."""
    return f"{root}/{name}" if root else name


@lru_cache(maxsize=8)
def listing(url: str) -> Listing:
    """List a remote folder, once until the cache is cleared.

    Raises DataError when its protocol needs a package that is missing, when nobody answers, or when
    a name may be none of a file here.
    """
    fault = None
    try:
        system, root = _system(url)
        files = system.find(root, detail=True)
    except ImportError as error:
        fault = f"{shown(url)}: {without_secrets(error, url)}; install that package."
    except FAULTS as error:
        fault = f"{shown(url)} cannot be listed ({without_secrets(error, url)})."
    if fault:
        raise DataError(fault)
    sizes, etags, start = {}, {}, f"{root}/" if root else ""
    for path, info in files.items():
        if info.get("type") == "directory" or (path.endswith("/") and not info.get("size")):
            continue  # a folder that some object stores list as an empty file
        if path == root:
            raise DataError(f"{shown(url)} is a file, and a folder is needed.")
        # What does not lie in the folder is told with all of its path, which is refused then.
        name = path.removeprefix(start) if path.startswith(start) else f"/{path.lstrip('/')}"
        size = info.get("size")
        sizes[name] = None if size is None else int(size)
        etags[name] = next((str(info[key]) for key in ETAGS if info.get(key)), "")
    check_names(sizes, shown(url))
    # A weak one may be the same for other bytes (RFC 9110, 8.8.1).
    strong = {name: tag for name, tag in etags.items() if tag and not tag.startswith("W/")}
    return Listing(url, system, root, sizes, strong)


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
        there.system.get_file(_at(there.root, name), str(target), callback=_Limit(limit))
        came = target.stat().st_size
        if size is not None and came != size:
            fault = f"{came:,} bytes came and {size:,} were announced"
    except DataError as error:
        fault = str(error).rstrip(".")
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError(
                f"no space left while fetching {name} to {target.parent}."
            ) from None
        fault = without_secrets(error, there.url)
    if fault:
        raise DataError(f"{told} ({fault}).")


def pull_small(url: str, folder: Path, call: str) -> list[str]:
    """List a remote folder anew and fetch its small files; return the names of all, sorted.

    ``call`` says for which call of a verb: see :func:`fetch`.
    """
    listing.cache_clear()
    there = listing(url)
    Copy(url, folder).begin()
    for name in there.sizes:
        if there.sizes[name] is None:  # it may be large, and is tried again with its recording
            with suppress(DataError):
                _get(there, folder, name)
        elif not there.is_large(name):
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
    later = [name for name in own if there.is_large(name) or there.sizes[name] is None]
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
    system, root = _system(url)
    for name in names:
        fault = None
        try:
            system.rm_file(_at(root, name))
        except (*FAULTS, NotImplementedError) as error:
            fault = without_secrets(error, url)
        if fault:
            raise DataError(f"{shown(url)}: {name} cannot be removed ({fault}).")


def push(url: str, folder: Path, names: list[str]) -> None:
    """Send files of a local folder.

    Raises DataError when that fails; they are whole here and are sent by the same command again.
    """
    system, root = _system(url)
    for name in names:
        fault = None
        try:
            system.makedirs(_at(root, PurePosixPath(name).parent.as_posix()), exist_ok=True)
            system.put_file(str(folder / name), _at(root, name))
        except (*FAULTS, NotImplementedError) as error:
            fault = without_secrets(error, url)
        if fault:
            raise DataError(
                f"{shown(url)}: {name} cannot be sent ({fault}); it is kept in {folder}, run the "
                "same command again."
            )
