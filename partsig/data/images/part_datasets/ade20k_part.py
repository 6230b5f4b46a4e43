"""ADE20K with parts: scenes whose objects, and the parts of these, are marked.

::

    ADE20K_2021_17_01/images/ADE/ training/GROUP/SCENE/ADE_train_00000001.jpg
                                                       ADE_train_00000001_seg.png
                                                       ADE_train_00000001_parts_1.png
                                                       ADE_train_00000001.json
                                  validation/ the same

In the maps red and green tell a class, ``R // 10 * 256 + G`` (0 none), which the JSON names; blue
tells objects of one class apart. A class here is a part of an object, ``car / wheel``: the class in
``_seg`` and the one in ``_parts_1``, the first level of parts; parts of parts are not read. The
most frequent 250 of the training images are taken, since masks have 8 bits. Images of the folder
``validation`` are the test. The label of a whole image is its scene. The masks of the square about
an object have the parts of what else is in it, too.

The 209 classes of part-aware probing are a selection whose list was not published.

Source: B. Zhou et al., Semantic understanding of scenes through the ADE20K dataset, IJCV 2019.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from partsig.contracts import IGNORED
from partsig.data.guard import guarded
from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.cutting import Box
from partsig.data.images.part_datasets.pieces import (
    Marked,
    Piece,
    background_of,
    check_cut,
    chosen,
    masks_of,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

SIDES = (("training", "train"), ("validation", "test"))
MOST_CLASSES = 250
Pair = tuple[int, int]  # the codes of an object and of its part


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the JSON of an image tells: objects that have parts, and parts, each with its box.

    A part has the number of its object among all that are marked.
    """

    objects: dict[int, tuple[int, str, Box]]  # by number: code, name, box
    parts: list[tuple[int, int, str, Box]]  # number of the object, code, name, box


def open_ade20k_part(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the scenes, objects or parts of ADE20K; labels are scenes, objects or parts.

    Raises DataError where there is none, ConfigError for settings that do not fit.
    """
    unused = ("paint", "least_area", "patch_rule")
    check_cut("ade20k-part", settings, ("image", "object", "parts"), *unused)
    root = files.find_root(raw, ("images/ADE",), ("ADE20K_2021_17_01",)) / "images" / "ADE"
    scenes = [
        _opened(file, root, role)
        for side, role in SIDES
        for file in sorted((root / side).rglob("ADE_*.jpg"))
    ]
    if not scenes:
        raise DataError(f"{root} has no images ADE_….jpg in training or validation; pass --raw.")
    names, codes, notes = _classes(scenes, settings)
    selected = chosen(settings.parts, names, "parts")
    pieces = [
        piece
        for whole, scene in scenes
        for piece in _cut(whole, scene, settings, (codes, selected))
    ]
    if settings.cut == "parts":
        return source_of("ade20k-part", pieces, settings, selected, notes=notes)
    owners = {name: name.partition(" / ")[0] for name in names}
    masks = masks_of(names, settings, owners) | {"mirrored": {}}  # no part has a side
    marked = Marked(masks=masks, boxes=settings.cut == "object")
    labels = sorted({piece.label for piece in pieces} - {""})
    return source_of("ade20k-part", pieces, settings, labels, marked, notes)


def _opened(file: Path, root: Path, role: str) -> tuple[Piece, Scene | None]:
    """Return an image as a piece, and what its JSON tells; None where that is damaged."""
    beside = [file.with_suffix(".json")]
    beside += [file.with_name(f"{file.stem}_{what}.png") for what in ("seg", "parts_1")]
    whole = Piece(
        name=files.printable(file.relative_to(root).as_posix()),
        file=file,
        role=role,
        label=files.printable(file.parent.name),
        marks=" ".join(map(files.fingerprint, beside)),
    )
    try:
        with guarded(beside[0].name):
            return whole, _scene(files.read_json(beside[0]))
    except DataError as error:
        return whole.replaced(broken=str(error), label=""), None


def _scene(told: Mapping) -> Scene:
    """Return what the JSON of an image tells; raises what a damaged one leads to."""
    marked = {each["id"]: each for each in told["annotation"]["object"]}
    parts = []
    for each in marked.values():
        of = each["parts"]
        if of["part_level"] == 1 and isinstance(of["ispartof"], int) and of["ispartof"] in marked:
            parts.append((of["ispartof"], int(each["name_ndx"]), str(each["name"]), _box(each)))
    objects = {
        number: (int(marked[number]["name_ndx"]), str(marked[number]["name"]), _box(marked[number]))
        for number in dict.fromkeys(part[0] for part in parts)
    }
    return Scene(objects=objects, parts=parts)


def _box(each: Mapping) -> Box:
    x, y = (np.array(each["polygon"][axis], np.float64) for axis in "xy")
    left, top = float(x.min()), float(y.min())
    return left, top, float(x.max()) + 1 - left, float(y.max()) + 1 - top


def _classes(
    scenes: Sequence[tuple[Piece, Scene | None]], settings: ImagePreprocessConfig
) -> tuple[list[str], dict[Pair, str], list[str]]:
    """Return the classes of parts, the most frequent first, their names by code, and notes."""
    counted: Counter[str] = Counter()
    codes: dict[Pair, str] = {}
    for piece, scene in scenes:
        for number, code, name, _ in scene.parts if scene else ():
            of, owner, _ = scene.objects[number]
            codes[of, code] = f"{owner} / {name}"
            counted[codes[of, code]] += piece.role == "train"
    owners = sorted({name.partition(" / ")[0] for name in counted})
    taken = chosen(settings.classes, owners, "classes")
    order = sorted(counted, key=lambda name: (-counted[name], name))
    names = [name for name in order if name.partition(" / ")[0] in taken]
    left_out = names[MOST_CLASSES:]
    notes = [f"{len(left_out)} classes of parts are left out, being rare"] if left_out else []
    names = names[:MOST_CLASSES]
    return names, {pair: name for pair, name in codes.items() if name in set(names)}, notes


def _cut(
    whole: Piece,
    scene: Scene | None,
    settings: ImagePreprocessConfig,
    classes: tuple[Mapping[Pair, str], Sequence[str]],
) -> Iterator[Piece]:
    """Yield a scene, or the objects of it that have parts of these classes, or these parts."""
    codes, selected = classes
    if scene is None:
        yield whole
        return
    numbers = {name: number for number, name in enumerate(dict.fromkeys(selected))}
    background = background_of(settings, len(numbers))
    of = {pair: numbers[name] for pair, name in codes.items() if name in numbers}
    labels = partial(_labels, whole.file, of, background)
    if settings.cut == "image":
        yield whole.replaced(labels=labels)
        return
    wanted = [part for part in scene.parts if (scene.objects[part[0]][0], part[1]) in of]
    if settings.cut == "object":
        for number in dict.fromkeys(part[0] for part in wanted):
            _, label, box = scene.objects[number]
            name = f"{whole.name}#{number}"
            yield whole.replaced(name=name, group=whole.name, label=label, box=box, labels=labels)
        return
    for k, (number, code, _, box) in enumerate(wanted):
        label = codes[scene.objects[number][0], code]
        name = f"{whole.name}#{number}.{k}"
        yield whole.replaced(name=name, group=whole.name, label=label, box=box)


def _labels(
    file: Path, numbers: Mapping[Pair, int], background: int, _size: tuple[int, int]
) -> np.ndarray:
    """Return the classes of parts by pixel (H, W): what has no part is ``background``."""
    objects, parts = (
        _codes(file.with_name(f"{file.stem}_{what}.png")) for what in ("seg", "parts_1")
    )
    if objects.shape != parts.shape:
        raise DataError("its maps of objects and of parts have not one size")
    labels = np.full(objects.shape, background, np.uint8)
    marked = parts > 0
    pairs, where = np.unique(
        np.stack([objects[marked], parts[marked]]), axis=1, return_inverse=True
    )
    found = [numbers.get((int(of), int(part)), IGNORED) for of, part in pairs.T]
    labels[marked] = np.array(found, np.uint8)[where.reshape(-1)] if found else 0
    return labels


def _codes(file: Path) -> np.ndarray:
    colours = files.read_labels(file, colours=True).astype(np.int32)
    return colours[..., 0] // 10 * 256 + colours[..., 1]
