"""COCO's keypoints: people with 17 of them; and what tells keypoints in the same way.

::

    COCO/ annotations/person_keypoints_train2017.json person_keypoints_val2017.json
          train2017/000000000139.jpg val2017/          (or images/train2017, images/val2017)

Keypoints are x, y and v: 0 not labelled (and 0, 0), 1 labelled but hidden, 2 visible; here 2 alone
is seen. Crowds are left out, and so is who has no keypoint, or a box without a width or a height.
Images of 2017's validation are the test. A whole image has no label and no keypoints, since it is
of several people. The published selection of parts is the nose, the right wrist and the left ankle;
distances are those to other keypoints of the same person.

Source: T.-Y. Lin et al., Microsoft COCO, ECCV 2014; cocodataset.org, format-data.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.cutting import patch_lengths
from partsig.data.images.part_datasets.pieces import (
    Marked,
    Piece,
    check_cut,
    chosen,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError, PartsigError

PUBLISHED = ("nose", "right_wrist", "left_ankle")
SIDES = (("train2017", "train"), ("val2017", "test"))
VISIBLE = 2


def open_coco_keypoints(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the images, people or parts of COCO; labels are categories, or parts.

    Raises DataError where the annotations are not as they should be, ConfigError for settings that
    do not fit.
    """
    unused = ("paint", "background", "least_area")
    check_cut("coco-keypoints", settings, ("image", "object", "parts"), *unused)
    root = files.find_root(raw, ("annotations",), ("coco", "mscoco"))
    pieces: list[Piece] = []
    parts: tuple[str, ...] = ()
    categories: dict[int, str] = {}
    n_left_out = 0
    for side, role in SIDES:
        file = root / "annotations" / f"person_keypoints_{side}.json"
        if not file.is_file():
            continue
        folder = next(
            (root / below for below in (side, f"images/{side}") if (root / below).is_dir()), None
        )
        if folder is None:
            raise DataError(f"{root} has {file.name}, and no folder {side} of its images.")
        with _checked(file):
            told = files.read_json(file)
            categories |= _categories(told)
            theirs = tuple(map(str, _with_keypoints(told)[0]["keypoints"]))
            if parts and theirs != parts:
                raise DataError(f"{file} names other keypoints than the file before.")
            parts = theirs
            taken = chosen(settings.classes, list(categories.values()), "classes")
            numbers = [number for number, name in categories.items() if name in taken]
            found, left_out = _people(told, numbers, len(parts))
            n_left_out += left_out
            selected = _selected(settings, parts)
            for image in told["images"]:
                whole = Piece(
                    name=f"{side}/{files.printable(image['file_name'])}",
                    file=files.inside(folder, image["file_name"]),
                    role=role,
                )
                mine = found.get(image["id"], [])
                pieces += _cut(whole, mine, settings, (categories, parts, selected))
    if not categories:
        raise DataError(
            f"{root / 'annotations'} has no person_keypoints_train2017.json or "
            "person_keypoints_val2017.json; pass --raw."
        )
    notes = [f"{n_left_out:,} people without a keypoint or a box, and crowds, are left out"]
    notes = notes if n_left_out and settings.cut != "image" else []
    if settings.cut == "parts":
        return source_of("coco-keypoints", pieces, settings, selected, notes=notes)
    if settings.cut == "image":
        return source_of("coco-keypoints", pieces, settings, (), notes=notes)
    marked = Marked(keypoints=parts, boxes=True)
    return source_of("coco-keypoints", pieces, settings, taken, marked, notes)


@contextmanager
def _checked(file: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, PartsigError):
            raise
        told = f"{type(error).__name__}: {error}"
        raise DataError(f"{file.name} is no annotation of COCO ({told}).") from None


def _with_keypoints(told: Mapping) -> list[Mapping]:
    found = [category for category in told["categories"] if category.get("keypoints")]
    if not found:
        raise DataError("no category of the annotations has keypoints.")
    return found


def _categories(told: Mapping) -> dict[int, str]:
    return {category["id"]: str(category["name"]) for category in _with_keypoints(told)}


def _selected(settings: ImagePreprocessConfig, parts: Sequence[str]) -> tuple[str, ...]:
    usual = tuple(part for part in PUBLISHED if part in parts) or parts
    return chosen(settings.parts or usual, parts, "parts")


def _people(
    told: Mapping, categories: Sequence[int], n_parts: int
) -> tuple[dict[int, list[Mapping]], int]:
    """Return the annotations that can be cut out by image, and how many others there are."""
    found: dict[int, list[Mapping]] = {}
    n_left_out = 0
    for each in told["annotations"]:
        if each["category_id"] not in categories:
            continue
        if len(each["keypoints"]) != 3 * n_parts:
            raise ValueError(f"{len(each['keypoints'])} numbers for {n_parts} keypoints")
        usable = not each.get("iscrowd") and any(each["keypoints"][2::3])
        if usable and each["bbox"][2] > 0 and each["bbox"][3] > 0:
            found.setdefault(each["image_id"], []).append(each)
        else:
            n_left_out += 1
    return found, n_left_out


def _cut(
    whole: Piece,
    people: Sequence[Mapping],
    settings: ImagePreprocessConfig,
    names: tuple[Mapping[int, str], Sequence[str], Sequence[str]],
) -> Iterator[Piece]:
    """Yield an image, or the people of it, or the selected ones of their parts."""
    categories, parts, selected = names
    if settings.cut == "image":
        yield whole
        return
    for each in people:
        points = np.array(each["keypoints"], np.float64).reshape(len(parts), 3)
        if not np.isfinite(points).all():
            raise ValueError("keypoints that are not finite")
        seen = points[:, 2] == VISIBLE
        here = {"name": f"{whole.name}#{int(each['id'])}", "group": whole.name}
        if settings.cut == "object":
            yield whole.replaced(
                label=categories[each["category_id"]],
                box=tuple(float(value) for value in each["bbox"][:4]),
                keypoints=np.where(points[:, 2:] > 0, np.c_[points[:, :2], seen], 0.0),
                **here,
            )
            continue
        mine = {
            part: (float(x), float(y))
            for part, (x, y, v) in zip(parts, points, strict=True)
            if v == VISIBLE and part in selected
        }
        for part, length in patch_lengths(mine, settings.patch_rule).items():
            one = here | {"name": f"{here['name']} {part}"}
            yield whole.replaced(label=part, point=(*mine[part], length), **one)
