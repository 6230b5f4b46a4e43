"""What a folder in an object store, on a web server or in an archive has, as it says itself."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

import fsspec
from fsspec.implementations.tar import TarFileSystem

from partsig.data.addresses import CHAIN, shown, without_secrets
from partsig.data.remote_names import faults_of
from partsig.data.web import MOST_FILES, Web
from partsig.errors import DataError

# What a file system of fsspec's may raise that is not of this code.
FAULTS = (OSError, ValueError, LookupError, RuntimeError, EOFError, MemoryError, OverflowError)
FAULTS += (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
# What tells two contents of a file apart, as the file systems of object stores call it.
ETAGS = ("ETag", "etag", "md5Hash")
# Archives that may lie on a web server: of these only the parts are fetched that are needed.
ARCHIVES = ("zip", "tar")
# Ways to pack a member that give it back some bytes at a time; bzip2 and LZMA give all at once.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Where a file that cannot have a place here is put in the paths of recordings.
UNFIT = ".unfit"


@dataclass(frozen=True)
class Listing:
    """A remote folder: its file system, its root there, and what is told of every file by its path.

    ``sizes`` are bytes, None where nobody tells. ``unfit`` are the files whose names may be none of
    files here: by a path that they can have, below ``.unfit/``, why.
    """

    url: str = field(repr=False)
    system: fsspec.AbstractFileSystem = field(repr=False)
    root: str = field(repr=False)
    sizes: dict[str, int | None]
    etags: dict[str, str]
    unfit: dict[str, str] = field(default_factory=dict)

    @cached_property
    def by_recording(self) -> dict[str, list[str]]:
        """The files by their path without the extension: those of one recording together."""
        by_name: dict[str, list[str]] = {}
        for name in self.sizes:
            by_name.setdefault(without_suffix(name), []).append(name)
        return by_name

    @cached_property
    def _in_folders(self) -> dict[tuple[PurePosixPath, str], list[str]]:
        named: dict[tuple[PurePosixPath, str], list[str]] = {}
        for path in map(PurePosixPath, self.sizes):
            named.setdefault((path.parent, path.suffix), []).append(path.name)
        return {key: sorted(names) for key, names in named.items()}

    def beside(self, path: PurePosixPath) -> list[str]:
        """Return the names of the files in a file's folder that end as it does, sorted."""
        return self._in_folders.get((path.parent, path.suffix), [])

    def check_fit(self) -> None:
        """Raise DataError where a file has a name that may be none of a file here."""
        for reason in self.unfit.values():
            raise DataError(reason)


def without_suffix(name: str) -> str:
    place = PurePosixPath(name)
    return (place.parent / place.stem).as_posix()


def at(root: str, name: str) -> str:
    """Return where a file of a folder lies; the root of an archive has no name."""
    return f"{root}/{name}" if root else name


class _Tar(TarFileSystem):
    """An archive whose links are left out: each is looked for among all of its members."""

    def _index(self) -> None:
        self.index = {}
        for number, member in enumerate(self.tar):
            if number >= MOST_FILES:
                raise DataError("the archive has more files than can be recordings.")
            if member.islnk() or member.issym():
                continue
            about = member.get_info() | {"type": "directory" if member.isdir() else "file"}
            name = "/".join(filter(None, member.name.split("/")))
            name = f"/{name}" if member.name.startswith("/") else name
            self.index[name] = (about | {"name": name}, member.offset_data, member.name)


@lru_cache(maxsize=8)
def system_of(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
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
        file = web.open("")
        if protocol == "tar":
            archive = _Tar(fo=file, skip_instance_cache=True)
        else:
            archive = fsspec.filesystem(protocol, fo=file, skip_instance_cache=True)
        return archive, inner.strip("/")
    system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    if hasattr(system.dircache, "use_listings_cache"):
        system.dircache.use_listings_cache = False
    return system, root.rstrip("/")


@lru_cache(maxsize=8)
def listing(url: str) -> Listing:
    """List a remote folder, once until the cache is cleared.

    Raises DataError when its protocol needs a package that is missing, when nobody answers, or when
    it is a file.
    """
    fault = None
    try:
        system, root = system_of(url)
        files = system.find(root, detail=True)
        packed = getattr(getattr(system, "zip", None), "filelist", ())
        fault = _fault_of_packing(packed)
    except ImportError as error:
        fault = f"{shown(url)}: {without_secrets(error, url)}; install that package."
        raise DataError(fault) from None
    except FAULTS as error:
        fault = without_secrets(error, url) or type(error).__name__
    if fault:
        raise DataError(f"{shown(url)} cannot be listed ({fault}).")
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
    unfit = _unfit(faults_of(sizes, shown(url)), sizes)
    # A weak one may be the same for other bytes (RFC 9110, 8.8.1).
    strong = {name: tag for name, tag in etags.items() if tag and not tag.startswith("W/")}
    return Listing(url, system, root, sizes, strong, unfit)


def _unfit(faults: Mapping[str, str], sizes: dict[str, int | None]) -> dict[str, str]:
    """Take the files with faults out of ``sizes``; return these by a path of their own."""
    unfit = {}
    for name, fault in faults.items():
        del sizes[name]
        last = "".join(c if c.isprintable() and c not in '\\:"' else "_" for c in name)
        last = last.rpartition("/")[2].strip(". ") or "file"
        unfit[f"{UNFIT}/{last[:200]}"] = fault
    return unfit


def _fault_of_packing(members: Iterable[zipfile.ZipInfo]) -> str | None:
    """Return what is wrong with how an archive is packed: a part may fill the memory."""
    for member in members:
        if member.compress_type not in PACKED:
            way = zipfile.compressor_names.get(member.compress_type, "another method")
            return f"it is packed by {way}; pack it as .zip files usually are (deflate)"
    return None
