"""CUB-200-2011: birds of 200 species with 15 keypoints, a box, and votes on their outline.

::

    CUB_200_2011/ images.txt image_class_labels.txt classes.txt train_test_split.txt
                  bounding_boxes.txt parts/parts.txt parts/part_locs.txt
                  images/SPECIES/NAME.jpg
                  segmentations/SPECIES/NAME.png    where it was fetched as well

Ids count from 1, and ``images.txt`` is not in the order of names. A keypoint that is not seen is
``0.0 0.0 0``. Coordinates are taken as they are, from 0: boxes begin at 0.0. A few images are grey.
In an outline 255 is bird (all of five people said so), 0 is background, and what lies between is
ignored, or with ``disputed=background`` is background too. Species may be told by their numbers
(``classes=[CUB-001, CUB-002]``, as part discovery calls them).

Source: C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, The Caltech-UCSD Birds-200-2011
dataset, CNS-TR-2011-001, 2011.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from partsig.contracts import IGNORED
from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.cutting import Box, patch_lengths
from partsig.data.images.part_datasets.pieces import (
    Marked,
    Piece,
    check_cut,
    chosen,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

# What was published of retrieval, by id 11, 12, 9 and 14.
PUBLISHED = ("right eye", "right leg", "left wing", "tail")
OUTLINE = {"classes": ["bird", "background"], "objects": {"bird": "bird"}}
BIRD, VOTED = 0, 255


def open_cub200(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the images, birds or parts of CUB-200-2011; labels are species, or parts.

    Raises DataError where the folder is not as it should be, ConfigError for settings that do not
    fit.
    """
    check_cut("cub200", settings, ("image", "object", "parts"), "paint", "background", "least_area")
    root = files.find_root(raw, ("images.txt", "classes.txt"), ("CUB_200_2011",))
    species = dict(files.read_table(root / "classes.txt", 2))
    images = dict(files.read_table(root / "images.txt", 2))
    labels = dict(files.read_table(root / "image_class_labels.txt", 2))
    in_training = dict(files.read_table(root / "train_test_split.txt", 2))
    boxes = _boxes(root / "bounding_boxes.txt")
    parts = dict(files.read_table(root / "parts" / "parts.txt", 2))
    points = _points(root / "parts" / "part_locs.txt", parts)
    there = [species[number] for number in species if number in set(labels.values())]
    taken = set(chosen(_by_number(settings.classes, there), there, "classes"))
    selected = chosen(settings.parts or PUBLISHED, tuple(parts.values()), "parts")
    outlines, between = root / "segmentations", IGNORED if settings.disputed == "ignored" else 1
    pieces = []
    for number, name in images.items():
        label = species.get(labels.get(number, ""), "")
        if label and label not in taken:
            continue
        role = {"1": "train", "0": "test"}.get(in_training.get(number, ""), "")
        whole = Piece(
            name=files.printable(name),
            file=files.inside(root / "images", name),
            role=role or "train",
            label=label,
            box=boxes.get(number),
            keypoints=points.get(number, np.zeros((len(parts), 3))),
            broken=_missing(label, role),
        )
        if settings.cut == "parts":
            pieces += _patches(whole, tuple(parts.values()), selected, settings.patch_rule)
            continue
        outline = files.inside(outlines, name).with_suffix(".png")
        pieces.append(_with_outline(whole, outline, between) if outlines.is_dir() else whole)
    marked = Marked(
        masks=OUTLINE if outlines.is_dir() else None, keypoints=tuple(parts.values()), boxes=True
    )
    if settings.cut == "parts":
        return source_of("cub200", pieces, settings, selected)
    return source_of("cub200", pieces, settings, [s for s in there if s in taken], marked)


def _by_number(asked: Sequence[str], species: Sequence[str]) -> tuple[str, ...]:
    """Return species by their names, also those that were told by the number that begins these.

    >>> _by_number(["CUB-001", "2", "tern"], ["001.Albatross", "002.Auk"])
    ('001.Albatross', '002.Auk', 'tern')
    """
    numbers = {name.partition(".")[0].lstrip("0"): name for name in species}
    return tuple(numbers.get(name.removeprefix("CUB-").lstrip("0"), name) for name in asked)


def _missing(label: str, role: str) -> str:
    if not label:
        return "its species is not in image_class_labels.txt and classes.txt"
    return "" if role else "train_test_split.txt does not tell whether it is to be trained on"


def _boxes(file: Path) -> dict[str, Box]:
    return {
        row[0]: tuple(files.number_in(text, file) for text in row[1:])
        for row in files.read_table(file, 5)
    }


def _points(file: Path, parts: dict[str, str]) -> dict[str, np.ndarray]:
    """Return x, y and whether seen (K, 3) by image; what is not seen is all 0."""
    places = {part: place for place, part in enumerate(parts)}
    points: dict[str, np.ndarray] = {}
    for image, part, x, y, seen in files.read_table(file, 5):
        if part not in places:
            raise DataError(f"{file} has part {part}, which is not in parts.txt.")
        if files.number_in(seen, file):
            marked = points.setdefault(image, np.zeros((len(places), 3)))
            marked[places[part]] = files.number_in(x, file), files.number_in(y, file), 1
    return points


def _with_outline(whole: Piece, outline: Path, between: int) -> Piece:
    def labels(_size: tuple[int, int]) -> np.ndarray:
        votes = files.read_votes(outline)
        return np.select([votes == VOTED, votes == 0], [BIRD, 1], between).astype(np.uint8)

    return whole.replaced(labels=labels, marks=files.fingerprint(outline))


def _patches(
    whole: Piece, parts: tuple[str, ...], selected: tuple[str, ...], rule: str
) -> Iterator[Piece]:
    """Yield a square about each selected keypoint that is seen and far enough from the others."""
    if whole.broken:
        yield whole.replaced(label="", box=None, keypoints=None)
        return
    seen = {
        part: (float(x), float(y))
        for part, (x, y, visible) in zip(parts, whole.keypoints, strict=True)
        if visible and part in selected
    }
    for part, length in patch_lengths(seen, rule).items():
        yield Piece(
            name=f"{whole.name}#{part}",
            file=whole.file,
            role=whole.role,
            label=part,
            group=whole.name,
            point=(*seen[part], length),
        )
