"""The store of images: arrays of pixels, an index of where they came from, and batches of them.

::

    STORE/ meta.json         format version, modality, source, size, ch_names, classes, provenance
           index.csv         one row per image: its label (-1: none), role (train, val, test),
                             state, row (its place, counted through all arrays), source (a
                             fingerprint of its file), fingerprint (what tells it re-encoded,
                             resized or mirrored), same_as (the first image that is the same)
           images/00000.npy  (n, C, H, W) uint8, memory-mapped, 16,384 images each but the last;
                             an image that could not be read leaves its place empty

What is known of places in the images lies beside them, in arrays of the same rows, where
``meta.json`` names it::

           masks/            (n, H, W) uint8: numbers of ``masks.classes``, 255 where ignored;
                             ``masks.objects``: the class of object that each class is a part of
           keypoints/        (n, K, 3) float32: x, y, and 1 where it is seen in the stored image,
                             else 0, of each of ``keypoints.parts``; pixels of the stored image,
                             (0, 0) the centre of the first; 0, 0, 0 where nobody has marked it
           boxes/            (n, 4) float32: x, y, width, height of the object, the part of it that
                             is seen; (0, 0) is the corner of the first pixel

Where images were cut out of others, the index has one more column, ``group``: the image that each
was cut out of. A group lies on one side only, train, val or test.

A row of the index with status ``ok`` is written after the arrays that hold its image are whole, so
whatever moment a writer is killed at, what the index names can be read.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partsig.data.images import sides
from partsig.data.images.arrays import Layers, layers_of
from partsig.data.images.sides import share_of
from partsig.data.images.store_index import COLUMNS, GROUP, LATER, ROLES, read_index, write_index
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
from partsig.files import is_a_writers, remove_leftovers, write_json

LEFT_OUT = "twin"  # of an image that is on another side already
# Images per array: 50 MB of CIFAR's, 2.5 GB of 224 x 224 in colour.
PER_FILE = 16_384
CH_NAMES = {False: ("red", "green", "blue"), True: ("grey",)}
# What not every store tells; where one does and the other does not, they are not made alike.
FACTS = ("cut", "masks", "keypoints", "boxes")
# What of meta.json may change without the images being made anew.
MAY_CHANGE = ("classes", "val_share")


class Item(NamedTuple):
    """An image: relative name, number of its class (-1: none), role, fingerprint of its file.

    ``group`` names the image that it was cut out of, if it was.
    """

    name: str
    label: int
    role: str
    source: str
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The images of a folder or of some files, in their order, and how to read one.

    ``read(i)`` returns image i as (C, H, W) uint8; it raises DataError when that one is damaged,
    and may be called from several threads. ``facts`` are further ones for ``meta.json``; where
    they name what lies beside the images (masks, keypoints, boxes), ``read`` returns a tuple of the
    image and of these, in that order.
    """

    name: str
    size: tuple[int, int]
    ch_names: tuple[str, ...]
    classes: tuple[str, ...]
    items: Sequence[Item] = field(repr=False)
    read: Callable[[int], np.ndarray | tuple[np.ndarray, ...]] = field(repr=False)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


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
        **source.facts,
    }
    return with_provenance(meta)


def create(path: Path, meta: dict) -> dict[str, dict[str, str]]:
    """Start or continue a store; return the rows it already has, by image.

    What a killed writer left half-written is removed. Raises DataError, naming what differs, when
    images were stored with other settings, and when the folder is no store of images.
    """
    for folder in (path, *(path / layer.folder for layer in layers_of(meta))):
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
        wanted = {**dict.fromkeys(FACTS), **meta}
        if not made_alike(path, known, wanted, rows.values(), MAY_CHANGE):
            rows = {}
        if known.get("classes") != meta["classes"]:
            write_index(path, [])  # never old labels beside new classes, even if killed here
    elif path.exists() and not (path.is_dir() and all(map(is_a_writers, path.iterdir()))):
        raise DataError(f"{path} exists and is no store; choose another --store.")
    write_json(path / META, meta)
    return rows


@dataclass(frozen=True, eq=False)
class ImageStore:
    """A store of images opened for reading; N are the images that could be read.

    ``labels`` (N,) int64, -1 without a label; ``roles`` (N,) train, val, test or twin; ``names``
    (N,); ``rows`` (N,) int64, their places counted through all arrays; ``groups`` (N,) the images
    that they were cut out of, empty where they are whole ones.
    """

    path: Path
    meta: dict
    labels: np.ndarray = field(repr=False)
    roles: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    rows: np.ndarray = field(repr=False)
    groups: tuple[str, ...] = field(default=(), repr=False)

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

    def n_groups(self, index: np.ndarray) -> int:
        """Return of how many images these (n,) are, where they were cut out of some; else 0."""
        return len({self.groups[i] for i in index}) if self.groups else 0

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
        return self._read("images", index)

    def masks(self, index: np.ndarray) -> np.ndarray:
        """Return by pixel the number of a class of ``mask_classes``, (b, H, W) uint8; 255: ignored.

        Raises DataError where the store has no masks, or as :meth:`batch` does.
        """
        return self._read("masks", index)

    def keypoints(self, index: np.ndarray) -> np.ndarray:
        """Return x, y and whether it is seen (1, else 0) of each part, (b, K, 3) float32.

        Pixels from the centre of the first one. Raises DataError as :meth:`masks` does.
        """
        return self._read("keypoints", index)

    def boxes(self, index: np.ndarray) -> np.ndarray:
        """Return x, y, width, height (b, 4) float32 of the object, pixels from the image's corner.

        Raises DataError as :meth:`masks` does.
        """
        return self._read("boxes", index)

    def _read(self, folder: str, index: np.ndarray) -> np.ndarray:
        return self._layers.read(folder, *np.divmod(self.rows[index], PER_FILE))

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of the classes of the masks by number; empty where there are no masks."""
        return tuple((self.meta.get("masks") or {}).get("classes", ()))

    @property
    def mask_objects(self) -> dict[str, str]:
        """The class of object that a class of the masks is a part of, by its name."""
        return dict((self.meta.get("masks") or {}).get("objects", {}))

    @property
    def keypoint_parts(self) -> tuple[str, ...]:
        """Names of the keypoints by number; empty where there are none."""
        return tuple((self.meta.get("keypoints") or {}).get("parts", ()))

    @cached_property
    def _layers(self) -> Layers:
        files, places = np.divmod(self.rows, PER_FILE)
        needed = np.zeros(int(files.max()) + 1, np.int64)  # images, by array
        np.maximum.at(needed, files, places + 1)
        return Layers(self.path, layers_of(self.meta), needed)

    def __getstate__(self) -> dict:
        # Without its maps: a copy in another process makes its own.
        return {key: value for key, value in self.__dict__.items() if key != "_layers"}


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
    cut = any(row[GROUP] for row in rows)
    groups = tuple(row[GROUP] or row["image"] for row in rows) if cut else ()
    together = sides.together(names, groups, [row["same_as"] for row in rows])
    if "val" not in roles:
        train = np.flatnonzero(roles == "train")
        roles = roles.astype("<U5")
        firsts = (together[i] for i in train)  # what is the same, or of one image, stays together
        roles[train[share_of(firsts, meta["val_share"])]] = "val"
    return ImageStore(
        path, meta, labels, sides.apart(roles, together, ROLES, LEFT_OUT), names, places, groups
    )


def index_row(item: Item, row: int, reason: str | None = None) -> dict[str, object]:
    """Return the row of an image in the index; with a ``reason``, that of one that failed."""
    state = (OK, "", row) if reason is None else (FAILED, reason, "")
    row = dict(zip(COLUMNS, (*item[:3], *state, item.source), strict=True))
    return row | dict.fromkeys(LATER, "") | ({GROUP: item.group} if item.group else {})
