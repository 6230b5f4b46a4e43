"""What a part data set gives, item by item, and the source of images that is made of it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from partsig.contracts import IGNORED, UNLABELLED
from partsig.data.foreign import read_bytes
from partsig.data.images.decoding import decode_whole
from partsig.data.images.part_datasets import cutting
from partsig.data.images.part_datasets.files import fingerprint
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import CH_NAMES, Item, Source
from partsig.errors import ConfigError, DataError, nearest
from partsig.text import quoted

LARGEST = 8 * (Image.MAX_IMAGE_PIXELS or 0)  # bytes of an image file
BACKGROUND = "background"
SIZES = {"image": 224, "object": 224, "parts": 112}  # pixels of a side, where none is set
# Settings that one data set alone reads.
OWN_SETTINGS = {"least_area_test": "pascal-part", "disputed": "cub200"}
TEST_SHARE = 0.2  # of images, where there is no official split
# A map of labels (H, W) for an image of this width and height.
LabelMap = Callable[[tuple[int, int]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An item: a whole image, or what is cut out of one.

    ``file`` is the image; ``label`` a class's name, "" none. ``box`` is that of an object or a
    part, ``point`` a keypoint and the length of the square about it; with neither it is the whole
    image. ``labels`` gives the map of labels of the whole image, ``keypoints`` (K, 3) x, y, seen.
    ``marks`` tell whether what was marked has changed; ``broken`` is why it cannot be read.
    ``box_from_labels``: the box is that of the map of labels, where they are any of these.
    """

    name: str
    file: Path
    role: str
    label: str = ""
    group: str = ""
    box: cutting.Box | None = None
    point: tuple[float, float, float] | None = None
    labels: LabelMap | None = field(default=None, repr=False)
    keypoints: np.ndarray | None = field(default=None, repr=False)
    marks: str = ""
    broken: str = ""
    box_from_labels: tuple[int, ...] = ()

    def replaced(self, **changes: object) -> "Piece":
        """Return this piece with other values of some fields."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What a part data set marks: ``masks`` and ``keypoints`` as ``meta.json`` tells them.

    ``boxes``: whether each item has one.
    """

    masks: Mapping | None = None
    keypoints: Sequence[str] | None = None
    boxes: bool = False


NOTHING = Marked()


def source_of(
    name: str,
    pieces: Sequence[Piece],
    settings: ImagePreprocessConfig,
    classes: Sequence[str],
    marked: Marked = NOTHING,
    notes: Sequence[str] = (),
) -> Source:
    """Return the source of these pieces, cut as the settings say.

    ``classes`` are those of the labels. Raises DataError where there is no piece.
    """
    if not pieces:
        raise DataError(
            f"{name}: nothing is left to be stored by these settings (cut, classes, parts): choose "
            "others."
        )
    size = settings.size or SIZES[settings.cut]
    told: dict[str, object] = {"cut": _cut_as_told(settings)}
    if marked.masks is not None:
        told["masks"] = dict(marked.masks)
    if marked.keypoints is not None:
        parts = list(marked.keypoints)
        told["keypoints"] = {"parts": parts, "mirrored": cutting.mirrored(parts)}
    if marked.boxes:
        told["boxes"] = {}
    numbers = {label: i for i, label in enumerate(classes)} | {"": UNLABELLED}
    items = [Item(p.name, numbers[p.label], p.role, _source_of(p), p.group) for p in pieces]
    return Source(
        name=name,
        size=(size, size),
        ch_names=CH_NAMES[settings.grey],
        classes=tuple(classes),
        items=items,
        read=partial(_read, pieces, settings, size, marked),
        notes=tuple(notes),
        facts=told,
    )


def _cut_as_told(settings: ImagePreprocessConfig) -> dict[str, object]:
    """Return the settings that decide what is stored, as ``meta.json`` tells them."""
    keys = ("cut", "classes", "margin", "parts", "patch_rule", "paint", "background", "least_area")
    usual = ImagePreprocessConfig()
    own = (key for key in OWN_SETTINGS if getattr(settings, key) != getattr(usual, key))
    values = ((key, getattr(settings, key)) for key in (*keys, *own))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values}


def _source_of(piece: Piece) -> str:
    marks = hashlib.sha256(
        repr((piece.box, piece.point, piece.marks, piece.broken)).encode(errors="replace")
    )
    if piece.keypoints is not None:
        marks.update(np.ascontiguousarray(piece.keypoints, np.float64))
    return f"{fingerprint(piece.file)} {marks.hexdigest()[:16]}"


def _read(
    pieces: Sequence[Piece],
    settings: ImagePreprocessConfig,
    size: int,
    marked: Marked,
    i: int,
) -> tuple[np.ndarray, ...]:
    piece = pieces[i]
    if piece.broken:
        raise DataError(piece.broken)
    image = decode_whole(read_bytes(piece.file, LARGEST, "image"), settings.grey)
    labels = None
    if piece.labels is not None and (marked.masks is not None or piece.box_from_labels):
        labels = piece.labels(image.size)
        if labels.shape != (image.height, image.width):
            height, width = labels.shape
            raise DataError(
                f"its map of labels has {width} x {height} pixels, the image {image.width} x "
                f"{image.height}"
            )
    box = piece.box
    if piece.box_from_labels:
        box = cutting.box_of(np.isin(labels, piece.box_from_labels))
        if box is None:
            raise DataError("nothing of the object is marked in its map of labels")
    square = _square(piece, box, settings, image.size)
    arrays = [cutting.cut_image(image, square, size)]
    if marked.masks is not None:
        whole = np.full(image.size[::-1], IGNORED, np.uint8) if labels is None else labels
        arrays.append(cutting.cut_labels(whole, square, size))
    if marked.keypoints is not None:
        points = np.zeros((len(marked.keypoints), 3))
        points = points if piece.keypoints is None else piece.keypoints
        arrays.append(cutting.cut_points(points, square, size))
    if marked.boxes:
        arrays.append(cutting.cut_box(box or (0, 0, 0, 0), square, size))
    return tuple(arrays)


def _square(
    piece: Piece,
    box: cutting.Box | None,
    settings: ImagePreprocessConfig,
    extent: tuple[int, int],
) -> cutting.Square:
    if settings.cut == "image":
        return cutting.middle(*extent)
    if piece.point is not None:
        square = cutting.about_point(*piece.point)
        seen = cutting.cut_box((0, 0, *extent), square, square.side)
        if not seen[2:].all():
            raise DataError(f"its keypoint {piece.point[:2]} lies beyond the image")
        return square
    if box is None:
        raise DataError("its box is not known")
    return cutting.about_box(box, *extent, settings.margin)


def masks_of(
    parts: Sequence[str],
    settings: ImagePreprocessConfig,
    objects: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Return what ``meta.json`` tells of masks: classes, objects, and what mirrors swap.

    With ``background=class`` it is the last of them, so that parts have the same numbers.
    """
    classes = [*parts, *([BACKGROUND] if settings.background == "class" else [])]
    return {
        "classes": classes,
        "objects": dict(objects or {}),
        "mirrored": cutting.mirrored(parts),
    }


def renumbered(codes: np.ndarray, numbers: Mapping[int, int], background: int) -> np.ndarray:
    """Return a map of a data set's codes (H, W) uint8 as numbers of classes, 255 for all others.

    Code 0 is the ``background``.

    >>> renumbered(np.array([[0, 5, 9]], np.uint8), {5: 0}, 255).tolist()
    [[255, 0, 255]]
    """
    table = np.full(256, IGNORED, np.uint8)
    table[0] = background
    for code, number in numbers.items():
        table[code] = number
    return table[codes]


def background_of(settings: ImagePreprocessConfig, n_parts: int) -> int:
    """Return the number of pixels of no part in masks of so many parts."""
    return n_parts if settings.background == "class" else IGNORED


def chosen(asked: Sequence[str], known: Sequence[str], setting: str) -> tuple[str, ...]:
    """Return what was asked for, in that order, or all that is known; ConfigError for others."""
    for name in asked:
        if name not in known:
            close = nearest(name, known)
            told = f"; nearest is {quoted(close)}" if close else ""
            raise ConfigError(f"{setting} has {quoted(name)}, which is not there{told}.")
    return tuple(dict.fromkeys(asked)) or tuple(known)


def check_cut(
    name: str, settings: ImagePreprocessConfig, cuts: Sequence[str], *unused: str
) -> None:
    """Raise ConfigError for a cut, or settings that were changed, which a data set has no use for.

    ``unused`` are further settings of part data sets that this one does not read.
    """
    if settings.cut not in cuts:
        raise ConfigError(f"{name} cannot be cut to {settings.cut}; it can be {', '.join(cuts)}.")
    usual = ImagePreprocessConfig()
    of_cuts = {
        "image": ("parts", "patch_rule", "margin", "least_area", "least_area_test"),
        "object": ("parts", "patch_rule"),
        "parts": ("least_area", "least_area_test", "paint", "background", "disputed"),
    }
    others = (key for key, owner in OWN_SETTINGS.items() if owner != name)
    idle = {*unused, *of_cuts[settings.cut], *others}
    changed = sorted(key for key in idle if getattr(settings, key) != getattr(usual, key))
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} means nothing to {name} cut to {settings.cut}: leave it out."
        )


def own_split(names: Sequence[str]) -> dict[str, str]:
    """Return a role for each of some images: a fifth, by the hash of their names, are the test.

    >>> list(own_split([str(i) for i in range(1000)]).values()).count("test")
    200
    """

    def place(name: str) -> bytes:
        # Not the hash that chooses validation images: those would all lie in the test.
        return hashlib.sha256(f"test {name}".encode(errors="replace")).digest()

    tests = set(sorted(names, key=place)[: round(TEST_SHARE * len(names))])
    return {name: "test" if name in tests else "train" for name in names}
