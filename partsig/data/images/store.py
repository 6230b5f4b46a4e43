"""The store of images: arrays of pixels, an index of where they came from, and batches of them.

::

    STORE/ meta.json         format version, modality, source, size, ch_names, classes, provenance
           index.csv         one row per image: its label (-1: none), role (train, val, test),
                             state, row (its place, counted through all arrays), source (a
                             fingerprint of its file), fingerprint (what tells it re-encoded,
                             resized or mirrored), same_as (the first image that is the same)
           images/00000.npy  (n, C, H, W) uint8, memory-mapped, 16,384 images each but the last;
                             an image that could not be read leaves its place empty

A row of the index with status ``ok`` is written after the array that holds its image is whole, so
whatever moment a writer is killed at, what the index names can be read.
"""

import hashlib
import io
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partsig.data.images.store_index import COLUMNS, LATER, ROLES, read_index, write_index
from partsig.data.mapped import MappedArrays, map_array
from partsig.data.store import (
    FAILED,
    FORMAT,
    INDEX,
    META,
    OK,
    made_alike,
    read_meta,
    with_provenance,
)
from partsig.errors import DataError
from partsig.files import atomic, is_a_writers, remove_leftovers, write_json

LEFT_OUT = "twin"  # of an image that is on another side already
# Images per array: 50 MB of CIFAR's, 2.5 GB of 224 x 224 in colour.
PER_FILE = 16_384
CH_NAMES = {False: ("red", "green", "blue"), True: ("grey",)}
# What of meta.json may change without the images being made anew.
MAY_CHANGE = ("classes", "val_share")


class Item(NamedTuple):
    """An image: relative name, number of its class (-1: none), role, fingerprint of its file."""

    name: str
    label: int
    role: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """The images of a folder or of some files, in their order, and how to read one.

    ``read(i)`` returns image i as (C, H, W) uint8; it raises DataError when that one is damaged,
    and may be called from several threads.
    """

    name: str
    size: tuple[int, int]
    ch_names: tuple[str, ...]
    classes: tuple[str, ...]
    items: Sequence[Item] = field(repr=False)
    read: Callable[[int], np.ndarray] = field(repr=False)
    notes: tuple[str, ...] = ()


def make_meta(source: Source, val_share: float) -> dict:
    """Return the content of ``meta.json`` for a store of these images."""
    meta = {
        "format": FORMAT,
        "modality": "image",
        "source": source.name,
        "size": list(source.size),
        "ch_names": list(source.ch_names),
        "dtype": "uint8",
        "classes": list(source.classes),
        "val_share": val_share,
    }
    return with_provenance(meta)


def create(path: Path, meta: dict) -> dict[str, dict[str, str]]:
    """Start or continue a store; return the rows it already has, by image.

    What a killed writer left half-written is removed. Raises DataError, naming what differs, when
    images were stored with other settings, and when the folder is no store of images.
    """
    for folder in (path, path / "images"):
        remove_leftovers(folder)
    rows: dict[str, dict[str, str]] = {}
    if (path / META).is_file():
        known = read_meta(path)
        if known.get("modality") != "image":
            raise DataError(
                f"{path} is a store of {known.get('modality')}, not of images; choose another "
                "--store."
            )
        if (path / INDEX).is_file():
            rows = {row["image"]: row for row in read_index(path)}
        if not made_alike(path, known, meta, rows.values(), MAY_CHANGE):
            rows = {}
        if known.get("classes") != meta["classes"]:
            write_index(path, [])  # never old labels beside new classes, even if killed here
    elif path.exists() and not (path.is_dir() and all(map(is_a_writers, path.iterdir()))):
        raise DataError(f"{path} exists and is no store; choose another --store.")
    write_json(path / META, meta)
    return rows


def array_name(number: int) -> str:
    """Return what the array of this number is called."""
    return f"{number:05d}.npy"


def array_path(path: Path, number: int) -> Path:
    """Return where the array of this number lies in a store."""
    return path / "images" / array_name(number)


def write_array(
    file: Path, shape: tuple[int, ...], images: Iterable[tuple[int, np.ndarray]], fresh: bool
) -> None:
    """Write images (C, H, W), each with its place, into an array (n, C, H, W) uint8, atomically.

    Unless ``fresh``, the other places keep what the file there holds. Written through the file
    object, not a map: on a full disk a map kills the process without a word.
    """
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    start, each = header.tell(), math.prod(shape[1:])
    with atomic(file) as temporary:
        if not fresh:
            shutil.copyfile(file, temporary)
        with open(temporary, "w+b" if fresh else "r+b") as handle:
            handle.write(header.getvalue())
            handle.truncate(start + math.prod(shape))
            for place, image in images:
                handle.seek(start + place * each)
                handle.write(np.ascontiguousarray(image, dtype=np.uint8).data)


def is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    """Tell whether the array in this file is there and has this shape."""
    try:
        array, _ = map_array(file)
    except DataError:
        return False
    return array.shape == shape and array.dtype == np.uint8


def share_of(names: Iterable[str], share: float) -> np.ndarray:
    """Return (n,) bool: the share of images that the hash of their names alone chooses.

    >>> int(share_of([f"train/{i:05d}" for i in range(10_000)], 0.05).sum())
    478
    """
    hashes = (hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.array([int.from_bytes(h) < share * 2**64 for h in hashes], dtype=bool)


@dataclass(frozen=True, eq=False)
class ImageStore:
    """A store of images opened for reading; N are the images that could be read.

    ``labels`` (N,) int64, -1 without a label; ``roles`` (N,) train, val, test or twin; ``names``
    (N,); ``rows`` (N,) int64, their places counted through all arrays.
    """

    path: Path
    meta: dict
    labels: np.ndarray = field(repr=False)
    roles: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    rows: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channel names in the order of axis 1."""
        return tuple(self.meta["ch_names"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.meta["size"]
        return height, width

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label; empty where nothing has a label."""
        return tuple(self.meta["classes"])

    def members(self, role: str) -> np.ndarray:
        """Return the numbers (n,) int64 of the images of a role, in their order."""
        return np.flatnonzero(self.roles == role)

    def items_digest(self, index: np.ndarray) -> str:
        """Return what tells images (n,), by name, place and class, from others: 64 bits."""
        sha256 = hashlib.sha256()
        for i in index.tolist():
            label = "" if self.labels[i] < 0 else self.classes[self.labels[i]]
            sha256.update(f"{self.names[i]}\t{self.rows[i]}\t{label}\n".encode())
        return sha256.hexdigest()[:16]

    def batch(self, index: np.ndarray) -> np.ndarray:
        """Return the images of these numbers, (b, C, H, W) uint8.

        Raises DataError when an array is missing, or cut short.
        """
        file, place = np.divmod(self.rows[index], PER_FILE)
        batch = np.empty((len(file), len(self.ch_names), *self.size), dtype=np.uint8)
        for number in np.unique(file).tolist():
            here = np.flatnonzero(file == number)
            here = here[np.argsort(place[here])]  # a disk is read in its order
            batch[here] = self._arrays[array_name(number)][place[here]]
        return batch

    @cached_property
    def _arrays(self) -> MappedArrays:
        files, places = np.divmod(self.rows, PER_FILE)
        needed = np.zeros(int(files.max()) + 1, np.int64)  # images, by array
        np.maximum.at(needed, files, places + 1)
        check = partial(_check_array, expected=(len(self.ch_names), *self.size), needed=needed)
        return MappedArrays(self.path / "images", check)

    def __getstate__(self) -> dict:
        # Without its maps: a copy in another process makes its own.
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}


def _check_array(
    file: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    expected: tuple[int, ...],
    needed: np.ndarray,
) -> None:
    n = int(needed[int(file.stem)])
    if shape[1:] != expected or shape[0] < n or dtype != np.uint8:
        raise DataError(
            f"{file} has the shape {shape} in {dtype}, the index asks for at least "
            f"{(n, *expected)} in uint8: preprocess again into a new --store."
        )


def open_images(path: str | Path) -> ImageStore:
    """Open a store of images; raise DataError when it is missing, empty or of something else.

    Where its source names no validation images, a share of the training images (``val_share``, of
    the settings it was made with) chosen by the hash of their names has the role val. An image that
    is the same as one of the test has no part in training or validation, nor one of training that
    is the same as one of validation: its role is :data:`LEFT_OUT`.
    """
    path = Path(path)
    meta = read_meta(path)
    if meta.get("modality") != "image":
        raise DataError(
            f"{path} is a store of {meta.get('modality')}, and images are needed here; pass "
            "another --store."
        )
    if not (path / INDEX).is_file():
        raise DataError(f"{path} has no index.csv yet: run the same preprocess command again.")
    rows = [row for row in read_index(path) if row["status"] == OK]
    if not rows:
        raise DataError(f"{path} holds no readable image; see the reasons in its index.csv.")
    names = tuple(row["image"] for row in rows)
    labels = np.array([int(row["label"]) for row in rows])
    places = np.array([int(row["row"]) for row in rows])
    n_classes = len(meta["classes"])
    if labels.max() >= n_classes:
        raise DataError(
            f"{path / INDEX} has the label {labels.max()}, and meta.json {n_classes} classes: one "
            "of them is damaged."
        )
    roles = np.array([row["role"] for row in rows])
    if "val" not in roles:
        train = np.flatnonzero(roles == "train")
        roles = roles.astype("<U5")
        firsts = (rows[i]["same_as"] or names[i] for i in train)  # what is the same stays together
        roles[train[share_of(firsts, meta["val_share"])]] = "val"
    roles = _apart(names, roles, [row["same_as"] for row in rows])
    return ImageStore(path, meta, labels, roles, names, places)


def _apart(names: Sequence[str], roles: np.ndarray, same_as: Sequence[str]) -> np.ndarray:
    """Return the roles (N,) of images of which those that are the same are on one side only."""
    if not any(same_as):
        return roles
    firsts = [same or name for name, same in zip(names, same_as, strict=True)]
    side: dict[str, int] = {}
    for first, role in zip(firsts, roles, strict=True):
        side[first] = max(side.get(first, 0), ROLES.index(role))
    kept = [side[first] == ROLES.index(role) for first, role in zip(firsts, roles, strict=True)]
    return np.where(kept, roles, LEFT_OUT)


def index_row(item: Item, row: int, reason: str | None = None) -> dict[str, object]:
    """Return the row of an image in the index; with a ``reason``, that of one that failed."""
    state = (OK, "", row) if reason is None else (FAILED, reason, "")
    row = dict(zip(COLUMNS, (*item[:3], *state, item.source), strict=True))
    return row | dict.fromkeys(LATER, "")
