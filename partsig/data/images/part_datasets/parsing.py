"""What data sets have in common that tell the parts of an image by one map of codes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.data.guard import guarded
from partsig.data.images.decoding import size_of
from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.cutting import box_of
from partsig.data.images.part_datasets.pieces import (
    LARGEST,
    LabelMap,
    Marked,
    Piece,
    background_of,
    check_cut,
    chosen,
    masks_of,
    renumbered,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """An image whose pixels have codes: 0 background, 1, 2, … the parts of the data set.

    ``people`` gives the number of the person that each pixel is of, from 1, 0 where it is of none;
    None: the whole image is one. ``group``: images of one group are on one side of a split.
    """

    name: str
    file: Path
    role: str
    codes: LabelMap = field(repr=False)
    people: Callable[[], np.ndarray] | None = field(default=None, repr=False)
    marks: str = ""
    group: str = ""


def source_of_parsed(
    name: str,
    images: Sequence[Parsed],
    parts: Sequence[str],
    thing: str,
    settings: ImagePreprocessConfig,
    objects: bool = False,
    notes: Sequence[str] = (),
) -> Source:
    """Return the source of these images, or of what is cut out of them.

    ``parts`` are what codes from 1 mean, all of one kind of object, ``thing``; with ``objects``
    each can be cut out. A whole image has no label. Raises ConfigError for settings that do not
    fit.
    """
    cuts = ("image", "object", "parts") if objects else ("image", "parts")
    unused = ("paint", "least_area", "classes", "patch_rule")
    check_cut(name, settings, cuts, *unused)
    selected = chosen(settings.parts, parts, "parts")
    pieces: list[Piece] = []
    for image in images:
        whole = Piece(
            name=image.name,
            file=image.file,
            role=image.role,
            marks=image.marks,
            group=image.group,
        )
        labels = partial(_labels, image, len(parts), background_of(settings, len(parts)))
        if settings.cut == "image":
            pieces.append(whole.replaced(labels=labels))
            continue
        try:
            with guarded(image.name):
                pieces += list(_cut(whole.replaced(labels=labels), image, parts, selected))
        except DataError as error:
            pieces.append(whole.replaced(broken=str(error)))
    pieces = [p for p in pieces if settings.cut == "image" or p.broken or _is_wanted(p, settings)]
    if settings.cut == "parts":
        return source_of(name, pieces, settings, selected, notes=notes)
    marked = Marked(
        masks=masks_of(parts, settings, dict.fromkeys(parts, thing)),
        boxes=settings.cut == "object",
    )
    return source_of(name, pieces, settings, (), marked, notes)


def _is_wanted(piece: Piece, settings: ImagePreprocessConfig) -> bool:
    """Tell whether a piece is what is cut out: a part has a label, a person has none."""
    return bool(piece.label) == (settings.cut == "parts")


def read_map(file: Path, _size: tuple[int, int]) -> np.ndarray:
    """Return a map of codes, whatever the image's size; DataError for a damaged one."""
    return files.read_labels(file)


def _labels(
    image: Parsed, n_parts: int, background: int, size: tuple[int, int], person: int | None = None
) -> np.ndarray:
    """Return the parts of an image as numbers of classes, or those of one person of it."""
    codes = image.codes(size)
    if person is not None and image.people is not None:
        codes = np.where(image.people() == person, codes, 0)
    numbers = {code: code - 1 for code in range(1, n_parts + 1)}
    return renumbered(codes, numbers, background)


def _cut(
    whole: Piece, image: Parsed, parts: Sequence[str], selected: Sequence[str]
) -> Iterator[Piece]:
    """Yield the people of an image, and the selected ones of their parts."""
    codes = image.codes(size_of(read_bytes(image.file, LARGEST, "image")))
    people = np.ones_like(codes) if image.people is None else image.people()
    if people.shape != codes.shape:
        raise DataError("its maps of parts and of people have not one size")
    here = {"group": image.group or whole.name}
    for person in np.unique(people[people > 0]).tolist():
        mine = people == person
        of = partial(whole.labels, person=person)
        name = f"{whole.name}#{person}"
        yield whole.replaced(name=name, box=box_of(mine), labels=of, **here)
        for code, part in enumerate(parts, 1):
            box = box_of(mine & (codes == code))
            if part in selected and box is not None:
                yield whole.replaced(name=f"{name} {part}", label=part, box=box, **here)
