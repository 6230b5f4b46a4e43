"""PASCAL-Part: the parts of the objects of VOC 2010, by masks of every object and part.

::

    VOCdevkit_2010/ Annotations_Part/2008_000002.mat
                    VOC2010/JPEGImages/2008_000002.jpg
                    VOC2010/ImageSets/Main/train.txt val.txt

``Annotations_Part`` and ``VOC2010`` may also lie in the folder that is given. Images of ``val.txt``
are the test; without lists a fifth of all is, by the hash of the names. An annotation is a MATLAB
struct: ``anno.objects`` with ``class``, ``mask`` and ``parts``, which is an empty array of 0 x 0
where an object has none (boats, chairs, tables and sofas never have). Parts that occur several
times are numbered (``wheel_1``) and are one class here; left and right are the animal's own.

Parts overlap: the eyes lie in the head, and the head comes first in the file. Painted in order, the
later part is seen, and the eyes are; reversed, the head hides them, which is how masks were painted
for part discovery (Choudhury et al., NeurIPS 2021). Of objects that overlap the later is seen.

Part discovery took ten classes, ``classes=[discovery]``, one at a time, and objects whose box
covers more than .10 of the image in training and .20 in test (``least_area``,
``least_area_test``).

Source: X. Chen et al., Detect what you can: detecting and representing objects using holistic
models and body parts, CVPR 2014. The 193 classes of parts are those of its 16 classes of objects
that have any, without numbers, as part-aware probing counts them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partsig.contracts import IGNORED
from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.cutting import Box, box_of
from partsig.data.images.part_datasets.matlab import read_mat
from partsig.data.images.part_datasets.pieces import (
    Marked,
    Piece,
    background_of,
    check_cut,
    chosen,
    masks_of,
    own_split,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

WITHOUT_PARTS = ("boat", "chair", "sofa", "table")
_FACE = "head leye reye lear rear"
_LEGS = "lfuleg lflleg rfuleg rflleg lbuleg lblleg rbuleg rblleg tail"
_PAWS = "torso neck lfleg lfpa rfleg rfpa lbleg lbpa rbleg rbpa tail"
_CAR = (
    "frontside leftside rightside backside roofside leftmirror rightmirror fliplate bliplate door "
    "wheel headlight window"
)
_CATTLE = f"{_FACE} muzzle lhorn rhorn torso neck {_LEGS}"
PARTS = {
    "aeroplane": "body stern lwing rwing tail engine wheel",
    "bicycle": "fwheel bwheel saddle handlebar chainwheel headlight",
    "bird": "head leye reye beak torso neck lwing rwing lleg lfoot rleg rfoot tail",
    "bottle": "cap body",
    "bus": _CAR,
    "car": _CAR,
    "cat": f"{_FACE} nose {_PAWS}",
    "cow": _CATTLE,
    "dog": f"{_FACE} nose {_PAWS} muzzle",
    "horse": f"{_FACE} muzzle torso neck {_LEGS} lfho rfho lbho rbho",
    "motorbike": "fwheel bwheel handlebar saddle headlight",
    "person": (
        f"{_FACE} lebrow rebrow nose mouth hair torso neck llarm luarm lhand rlarm ruarm rhand "
        "llleg luleg lfoot rlleg ruleg rfoot"
    ),
    "pottedplant": "pot plant",
    "sheep": _CATTLE,
    "train": (
        "head hfrontside hleftside hrightside hbackside hroofside headlight coach cfrontside "
        "cleftside crightside cbackside croofside"
    ),
    "tvmonitor": "screen",
}
CLASSES = tuple(sorted({*PARTS, *WITHOUT_PARTS}))
# Those of part discovery, in the order of its table.
DISCOVERY = (
    *("sheep", "horse", "cow", "motorbike", "aeroplane", "bus", "car", "bicycle", "dog", "cat"),
)
NUMBER = re.compile(r"_\d+$")


class Object(NamedTuple):
    """An object of an image: its class, its mask (H, W) bool, and its parts by name, in order."""

    label: str
    mask: np.ndarray
    parts: list[tuple[str, np.ndarray]]


def open_pascal_part(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the images, objects or parts of PASCAL-Part; labels are classes, or parts.

    An image has a label where all of its objects are of one class. Raises DataError where there is
    no annotation, ConfigError for settings that do not fit.
    """
    check_cut("pascal-part", settings, ("image", "object", "parts"))
    if settings.classes == ("discovery",):
        settings = replace(settings, classes=DISCOVERY)
    root = files.find_root(raw, ("Annotations_Part",), ("VOCdevkit_2010", "VOCdevkit"))
    pictures = files.find_root(root, ("JPEGImages",), ("VOC2010",))
    classes = chosen(settings.classes, CLASSES, "classes")
    names = [f"{label} {part}" for label in classes for part in PARTS.get(label, "").split()]
    selected = chosen(settings.parts, names, "parts")
    annotations = sorted((root / "Annotations_Part").glob("[!.]*.mat"))
    roles, notes = _roles(pictures / "ImageSets" / "Main", [path.stem for path in annotations])
    pieces: list[Piece] = []
    for path in annotations:
        if path.stem in roles:
            whole = Piece(
                name=f"{files.printable(path.stem)}.jpg",
                file=pictures / "JPEGImages" / f"{path.stem}.jpg",
                role=roles[path.stem],
                marks=files.fingerprint(path),
            )
            try:
                objects = [each for each in read_objects(path) if each.label in classes]
            except DataError as error:
                pieces.append(whole.replaced(broken=str(error)))
                continue
            pieces += _cut(whole, path, objects, settings, (names, selected))
    if settings.cut == "parts":
        return source_of("pascal-part", pieces, settings, selected, notes=notes)
    owners = {name: name.partition(" ")[0] for name in names}
    marked = Marked(masks=masks_of(names, settings, owners), boxes=settings.cut == "object")
    return source_of("pascal-part", pieces, settings, classes, marked, notes)


def read_objects(path: Path) -> list[Object]:
    """Return the objects of an annotation, in the order of the file; DataError for a damaged one.

    Parts have no numbers.
    """
    told = read_mat(path)
    objects = []
    try:
        for entry in told["anno"][0]["objects"]:
            mask = _mask(entry["mask"])
            parts = []
            for part in entry["parts"]:  # of none it is an empty array
                found = _mask(part["mask"])
                if found.shape != mask.shape:
                    raise DataError(f"{path.name} has a part of another size than its object")
                parts.append((NUMBER.sub("", _text(part["part_name"])), found))
            objects.append(Object(_text(entry["class"]), mask, parts))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path.name} is no annotation of PASCAL-Part ({type(error).__name__}: {error})"
        ) from None
    return objects


@lru_cache(maxsize=16)  # of some threads: the objects of an image follow one another
def _kept(path: Path, _fingerprint: str) -> list[Object]:
    return read_objects(path)


def _mask(value: object) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise ValueError("a mask that is no matrix")
    return value.astype(bool)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a name that is no text")
    return value


def _cut(
    whole: Piece,
    path: Path,
    objects: Sequence[Object],
    settings: ImagePreprocessConfig,
    parts: tuple[Sequence[str], Sequence[str]],
) -> Iterator[Piece]:
    """Yield the pieces of an image: itself, its objects, or the selected ones of its parts."""
    names, selected = parts
    labels = partial(_painted, path, names, settings)
    if settings.cut == "image":
        of = {each.label for each in objects}
        if of:
            yield whole.replaced(label=of.pop() if len(of) == 1 else "", labels=labels)
        return
    for k, each in enumerate(objects):
        here = {"group": whole.name}
        if settings.cut == "object":
            box = box_of(each.mask)
            if box is not None and _large_enough(box, each.mask, _least(whole, settings)):
                name, of = f"{whole.name}#{k} {each.label}", partial(labels, chosen_object=k)
                yield whole.replaced(name=name, label=each.label, box=box, labels=of, **here)
            continue
        for i, (part, mask) in enumerate(each.parts):
            label, box = f"{each.label} {part}", box_of(mask)
            if label in selected and box is not None:
                name = f"{whole.name}#{k}.{i} {label}"
                yield whole.replaced(name=name, label=label, box=box, **here)


def _least(whole: Piece, settings: ImagePreprocessConfig) -> float:
    """Return the share of its image that an object's box must cover, by the image's role."""
    own = settings.least_area_test if whole.role == "test" else None
    return settings.least_area if own is None else own


def _large_enough(box: Box, mask: np.ndarray, least: float) -> bool:
    return box[2] * box[3] >= least * mask.size


def _painted(
    path: Path,
    names: Sequence[str],
    settings: ImagePreprocessConfig,
    size: tuple[int, int],
    chosen_object: int | None = None,
) -> np.ndarray:
    """Return the parts of all objects that were chosen, or of one of them, as numbers (H, W)."""
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.full(size[::-1], background_of(settings, len(names)), np.uint8)
    classes = settings.classes or CLASSES
    known = _kept(path, files.fingerprint(path))
    objects = [each for each in known if each.label in classes]
    for k, each in enumerate(objects):
        if chosen_object not in (None, k):
            continue
        if each.mask.shape != labels.shape:
            return np.zeros(each.mask.shape, np.uint8)  # told as of another size than the image
        labels[each.mask] = IGNORED  # of the object, and of no part
        order = each.parts if settings.paint == "in_order" else reversed(each.parts)
        for part, mask in order:
            number = numbers.get(f"{each.label} {part}")
            if number is not None:
                labels[mask] = number
    return labels


def _roles(lists: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    roles: dict[str, str] = {}
    for file, role in (("train.txt", "train"), ("val.txt", "test")):
        for name in files.listed(lists / file) or ():
            roles[name] = role
    if not roles:
        return own_split(names), ["no ImageSets/Main: a fifth of the images is the test"]
    left_out = sum(name not in roles for name in names)
    return roles, [f"{left_out:,} images are in no list and left out"] if left_out else []
