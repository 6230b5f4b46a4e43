"""Images from files: class folders, a flat folder, ImageNet's layout, a .zip of any; and digits.

A folder's top level may say the role (``train``, ``val``, ``test``) and what lies below it the
class; files that lie in no class folder have no label.
"""

import hashlib
import os
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from partsig.contracts import UNLABELLED
from partsig.data.foreign import read_bytes
from partsig.data.images import imagenet
from partsig.data.images.decoding import DAMAGED, decode, told
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import CH_NAMES, Item, Source
from partsig.errors import DataError
from partsig.text import shown

# Suffixes of files that are tried; what is in them decides the decoder.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
FOLDER_ROLES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
# Files without a suffix that are tried as images, but for these.
BESIDE = ("readme", "license", "licence", "copying", "notice", "changelog", "makefile", "index")
# Suffixes of what usually lies beside images and says something of them.
DOCUMENTS = (
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".pdf"),
    *(".py", ".sh", ".log", ".mat", ".xlsx", ".ini", ".db", ".sha1", ".sha256", ".md5"),
)
DIGITS_TEST_SHARE = 0.2
# Ways in which a member of an archive is packed that give it back some bytes at a time.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Names in folders that were looked into before, as links may lead there.
MOST_AGAIN = 200_000


def open_images_in(raw: Path, config: ImagePreprocessConfig) -> Source:
    """Return the images of a folder or a .zip; nothing is decoded yet.

    Files whose suffix says that they are no images are left out, and counted in ``notes`` unless
    they are documents; hidden ones are passed over. Folders whose names differ in their form of
    Unicode alone (composed or not, as macOS writes them) are one class.

    Raises DataError when there is none, when train, val or test lie beside other folders of images,
    or when ImageNet's validation list cannot be understood.
    """
    files = _Zip(raw) if raw.is_file() else _Folder(raw)
    prints = files.prints
    found = sorted(name for name in prints if _may_be_image(name))
    left_out = _left_out(prints)
    if not found:
        there = f" ({left_out})" if left_out else ""
        raise DataError(
            f"no images in {raw}{there}; pass --raw with a folder or a .zip of "
            f"{', '.join(SUFFIXES)}."
        )
    base = _base(found)
    inner = {name: PurePosixPath(name).relative_to(base).parts for name in found}
    tops = {parts[0] if len(parts) > 1 else "." for parts in inner.values()}
    others = {top for top in tops if top.lower() not in FOLDER_ROLES}
    with_roles = others != tops
    if with_roles and others:
        # Taken as classes, they would mix the test into the training images.
        raise DataError(
            f"{raw} holds images in {', '.join(sorted(tops - others))} and also in "
            f"{', '.join(sorted(others)[:5])}: move the others out of it, or rename a class of "
            "that name."
        )
    listed = imagenet.validation_labels(prints, files.read) if with_roles else {}
    roles, folders = {}, {}
    for name, parts in inner.items():
        roles[name] = FOLDER_ROLES[parts[0].lower()] if with_roles else "train"
        below = parts[1:] if with_roles else parts
        folders[name] = _class_of(below[0]) if len(below) > 1 else ""
        if roles[name] == "val" and not folders[name]:
            folders[name] = listed.get(PurePosixPath(name).stem, "")
        if roles[name] == "val":
            roles[name] = config.val_role
    classes = tuple(sorted(set(folders.values()) - {""}))
    numbers = {label: i for i, label in enumerate(classes)} | {"": UNLABELLED}
    size = config.size or 224
    return Source(
        name="images",
        size=(size, size),
        ch_names=CH_NAMES[config.grey],
        classes=classes,
        items=[Item(_printable(n), numbers[folders[n]], roles[n], prints[n]) for n in found],
        read=partial(_read, files, found, size, config.grey),
        notes=(*_notes(classes, roles, folders), *([left_out] if left_out else [])),
    )


def _notes(
    classes: tuple[str, ...], roles: Mapping[str, str], folders: Mapping[str, str]
) -> tuple[str, ...]:
    notes = []
    if classes:
        few = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
        notes.append(f"{len(classes)} classes: {few}")
    for role in dict.fromkeys(roles.values()):
        without = sum(not folders[n] for n, r in roles.items() if r == role)
        if without:
            notes.append(f"{without:,} {role} images have no label: they lie in no class folder")
    only = set(folders.values()) - {folders[n] for n, role in roles.items() if role == "train"}
    if only - {""}:
        notes.append(f"no training image has the class {', '.join(sorted(only - {''})[:5])}")
    return tuple(notes)


def _left_out(names: Iterable[str]) -> str:
    """Return how many files are left out for their suffix, documents apart; "" for none.

    >>> _left_out(["a/1.heic", "a/2.HEIC", "a/3.png", "a/4.tga", "notes.txt", ".hidden.tga"])
    '3 files are left out by their suffix: 2 .heic, 1 .tga'
    """
    found = (PurePosixPath(name).suffix.lower() for name in names if not _is_hidden(name))
    suffixes = Counter(suffix for suffix in found if suffix not in ("", *SUFFIXES, *DOCUMENTS))
    if not suffixes:
        return ""
    few = [f"{count:,} {_printable(suffix)}" for suffix, count in suffixes.most_common(5)]
    more = ", …" if len(suffixes) > 5 else ""
    total = sum(suffixes.values())
    begin = "1 file is left out by its" if total == 1 else f"{total:,} files are left out by their"
    return f"{begin} suffix: {', '.join(few)}{more}"


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _class_of(folder: str) -> str:
    """Return a class's name: however a system writes its accents, the same letters are one."""
    return unicodedata.normalize("NFC", _printable(folder))


def _may_be_image(name: str) -> bool:
    """Tell whether a file's name allows an image: one without a suffix is tried.

    >>> [_may_be_image(n) for n in ("a/b.JPEG", "a/b", "a/.b.jpg", "__MACOSX/b.jpg", "a/README")]
    [True, True, False, False, False]
    """
    path = PurePosixPath(name)
    if _is_hidden(name):
        return False
    if not path.suffix:
        return path.name.lower() not in BESIDE
    return path.suffix.lower() in SUFFIXES


def _base(names: list[str]) -> PurePosixPath:
    """Return the folder in which roles or classes begin: a lone one that is no role is passed.

    >>> _base(["set/train/cat/1.png", "set/test/cat/2.png"]).as_posix()
    'set'
    """
    split = [PurePosixPath(name).parts for name in names]
    depth = 0
    while True:
        tops = {parts[depth] if len(parts) > depth + 1 else None for parts in split}
        if len(tops) > 1 or None in tops or next(iter(tops)).lower() in FOLDER_ROLES:
            return PurePosixPath(*split[0][:depth])
        depth += 1


def _printable(name: str) -> str:
    """Return a name that can be written as UTF-8, whatever bytes the file system holds."""
    return name.encode("utf-8", "backslashreplace").decode()


class _Folder:
    """The files below a folder: ``prints`` {relative name: size and time}, ``read`` their bytes."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"no folder or .zip of images at {root}; pass --raw.")
        self.root = root
        self.prints = dict(self._walk(str(root)))

    def _walk(self, root: str) -> Iterator[tuple[str, str]]:
        """Yield the files; links are followed, but none to a folder that holds them.

        Raises DataError where links lead to the same folders again and again: those of ten folders
        to one another give millions of ways.
        """
        waiting = [(root, "", frozenset())]
        seen, again = set(), 0
        while waiting:
            folder, prefix, above = waiting.pop()
            try:
                here, entries = os.stat(folder), os.scandir(folder)
            except OSError as error:
                raise DataError(
                    f"{folder} cannot be looked into ({error.strerror}): let its owner open it."
                ) from error
            place = here.st_dev, here.st_ino
            if place in above:
                entries.close()
                continue
            met = place in seen
            seen.add(place)
            again += met
            with entries:
                for entry in entries:
                    again += met
                    if again > MOST_AGAIN:
                        raise DataError(
                            f"links below {root} lead to the same folders again and again, "
                            f"{shown(prefix, 80)} being one; give a folder without them."
                        )
                    try:
                        known = entry.stat()
                    except OSError:  # a link to nothing: reading it tells
                        yield prefix + entry.name, ""
                        continue
                    if stat.S_ISDIR(known.st_mode):
                        below = f"{prefix}{entry.name}/"
                        waiting.append((entry.path, below, above | {place}))
                    elif stat.S_ISREG(known.st_mode):
                        yield prefix + entry.name, f"{known.st_size}-{known.st_mtime_ns}"

    def read(self, name: str) -> bytes:
        path = self.root / name
        _refuse_long(path.stat().st_size)
        return read_bytes(path, 8 * Image.MAX_IMAGE_PIXELS, "image that is accepted")


class _Zip:
    """The members of a .zip, read where they lie: ``prints`` {name: checksum}, ``read``."""

    def __init__(self, path: Path) -> None:
        try:
            self.archive = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is no readable .zip ({error}); download it again.") from error
        named = {_in_zip(member.filename): member for member in self.archive.infolist()}
        self._members = {name: m for name, m in named.items() if not name.endswith("/")}
        self.prints = {name: f"{m.CRC:08x}-{m.file_size}" for name, m in self._members.items()}

    def read(self, name: str) -> bytes:
        member = self._members[name]
        _refuse_long(member.file_size)
        if member.compress_type not in PACKED:  # others give all of it at once, however much
            raise DataError("it is packed by another way than deflate; pack it again")
        # So many bytes and no more: what a member says of its size need not be so.
        with self.archive.open(member) as file:
            return file.read(member.file_size)


def _in_zip(name: str) -> str:
    """Return a member's name as the format has it, however Windows has written it.

    >>> _in_zip("train\\\\cat\\\\1.png")
    'train/cat/1.png'
    """
    return name.replace("\\", "/").lstrip("/")


def _refuse_long(n_bytes: int) -> None:
    # The largest image that is accepted has fewer, even uncompressed with four 16-bit channels.
    if n_bytes > 8 * Image.MAX_IMAGE_PIXELS:
        raise DataError(f"it has {n_bytes:,} bytes, more than any image that is accepted")


def _read(files: _Folder | _Zip, names: list[str], size: int, grey: bool, i: int) -> np.ndarray:
    try:
        return decode(files.read(names[i]), size, grey)
    except DAMAGED as error:
        raise DataError(f"it cannot be read ({told(error)})") from error


def open_digits() -> Source:
    """Return scikit-learn's 1,797 handwritten digits, (1, 8, 8), 0 to 16 as 0 to 255.

    The hash of their names chooses a fifth of every class as test images.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998,
    doi:10.24432/C50P49 (its test set, which is what scikit-learn ships).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * 15.9375).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    names = [f"digits/{i:04d}" for i in range(len(pixels))]
    roles = ["train"] * len(names)
    for label in range(10):
        members = [i for i, target in enumerate(digits.target) if target == label]
        # Not the hash that chooses validation images: those would all lie in the test.
        members.sort(key=lambda i: hashlib.sha256(f"test {names[i]}".encode()).digest())
        for i in members[: round(DIGITS_TEST_SHARE * len(members))]:
            roles[i] = "test"
    return Source(
        name="digits",
        size=(8, 8),
        ch_names=CH_NAMES[True],
        classes=tuple(map(str, digits.target_names)),
        items=[Item(*told, "") for told in zip(names, map(int, digits.target), roles, strict=True)],
        read=pixels.__getitem__,
    )
