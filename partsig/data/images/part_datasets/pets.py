"""Oxford-IIIT Pet: cats and dogs of 37 breeds, each with a map of pet, background and border.

::

    PETS/ images/BREED_NUMBER.jpg
          annotations/trimaps/BREED_NUMBER.png         1 pet, 2 background, 3 border
          annotations/trainval.txt annotations/test.txt     the official split, where they are there

The breed is the name without its number; those of cats begin with a capital letter. ``trimaps`` may
lie beside ``images`` as well. Without lists a fifth of each breed is the test, by the hash of the
names. Files that begin with a dot (``._NAME.png``, of the official archive) are passed over.

Source: O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, Cats and dogs, CVPR 2012; CC BY-SA
4.0.
"""

from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.pieces import (
    Marked,
    Piece,
    check_cut,
    chosen,
    own_split,
    renumbered,
    source_of,
)
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

CLASSES = ("pet", "background", "border")
OBJECTS = {"pet": "pet", "border": "pet"}
PET, BORDER = 0, 2
CODES = {1: 0, 2: 1, 3: 2}  # of the file, and their place among the classes
LISTS = {"trainval.txt": "train", "test.txt": "test"}


def open_pets(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the pets, whole images or squares about the animal; labels are breeds.

    Raises DataError where there is no image, ConfigError for settings that do not fit.
    """
    check_cut("pets", settings, ("image", "object"), "paint", "background", "least_area")
    root = files.find_root(raw, ("images",), ("oxford-iiit-pet", "pets"))
    images = {path.stem: path for path in files.images_in(root / "images")}
    breeds = {name: name.rpartition("_")[0] for name in images}
    named = [name for name in images if breeds[name]]
    if not named:
        raise DataError(f"{root / 'images'} has no image called BREED_NUMBER.jpg; pass --raw.")
    known = sorted({breeds[name] for name in named})
    taken = set(chosen(settings.classes, known, "classes"))
    roles, notes = _roles(root, named, breeds)
    trimaps = root / "annotations" / "trimaps"
    trimaps = trimaps if trimaps.is_dir() else root / "trimaps"
    marked = Marked(
        masks={"classes": list(CLASSES), "objects": OBJECTS} if trimaps.is_dir() else None,
        boxes=trimaps.is_dir() and settings.cut == "object",
    )
    pieces = []
    for name in named:
        if breeds[name] not in taken or name not in roles:
            continue
        trimap = trimaps / f"{name}.png"
        pieces.append(
            Piece(
                name=files.printable(images[name].name),
                file=images[name],
                role=roles[name],
                label=breeds[name],
                labels=partial(_labels, trimap),
                marks=files.fingerprint(trimap),
                box_from_labels=(PET, BORDER) if settings.cut == "object" else (),
            )
        )
    classes = [breed for breed in known if breed in taken]
    return source_of("pets", pieces, settings, classes, marked, notes)


def _labels(trimap: Path, _size: tuple[int, int]) -> np.ndarray:
    codes = files.read_labels(trimap)
    return renumbered(np.where(codes, codes, 255), CODES, 255)


def _roles(
    root: Path, named: list[str], breeds: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the role of each image, and what is to be said of it."""
    roles: dict[str, str] = {}
    for file, role in LISTS.items():
        for folder in (root, root / "annotations"):
            for name in files.listed(folder / file) or ():
                if roles.setdefault(name, role) != role:
                    raise DataError(f"{file} lists {name}, which another list has too.")
    if roles:
        left_out = sum(name not in roles for name in named)
        return roles, [f"{left_out:,} images are in no list and left out"] if left_out else []
    for breed in dict.fromkeys(breeds.values()):
        roles |= own_split([name for name in named if breeds[name] == breed])
    return roles, ["no trainval.txt and test.txt: a fifth of each breed is the test"]
