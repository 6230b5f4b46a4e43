"""LIP, Look Into Person: crops of single people with 19 classes of parts and clothes.

::

    LIP/ TrainVal_images/train_images/NAME.jpg                val_images/
         TrainVal_parsing_annotations/train_segmentations/NAME.png    val_segmentations/
         train_id.txt val_id.txt

``train_images`` and the like may lie in ``TrainVal_images`` once more, as the archives unpack; the
lists beside them or in ``TrainVal_images``. Images of ``val_id.txt`` are the test. Left and right
are the person's own: whoever mirrors an image swaps them (``masks.mirrored`` of ``meta.json``).

Source: X. Liang, K. Gong, X. Shen, L. Lin, Look into person, TPAMI 2018.
"""

from functools import partial
from pathlib import Path

from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.parsing import Parsed, read_map, source_of_parsed
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

# By code, from 1.
PARTS = (
    *("Hat", "Hair", "Glove", "Sunglasses", "UpperClothes", "Dress", "Coat", "Socks", "Pants"),
    *("Jumpsuits", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm", "Left-leg", "Right-leg"),
    *("Left-shoe", "Right-shoe"),
)
SIDES = (("train", "train"), ("val", "test"))
IMAGES, MAPS = "TrainVal_images", "TrainVal_parsing_annotations"


def open_lip(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the people of LIP, or squares about their parts, whose labels these are.

    Raises DataError where there is none, ConfigError for settings that do not fit.
    """
    root = files.find_root(raw, (IMAGES, MAPS), ("LIP",))
    images, maps = (_deeper(root / name) for name in (IMAGES, MAPS))
    parsed = []
    for side, role in SIDES:
        folder = images / f"{side}_images"
        lists = (place / f"{side}_id.txt" for place in (root, root / IMAGES, images))
        names = next((names for names in map(files.listed, lists) if names is not None), None)
        if names is None:
            there = files.images_in(folder) if folder.is_dir() else []
            names = [path.stem for path in there]
        for name in names:
            label = files.inside(maps / f"{side}_segmentations", f"{name}.png")
            parsed.append(
                Parsed(
                    name=f"{side}/{files.printable(name)}.jpg",
                    file=files.inside(folder, f"{name}.jpg"),
                    role=role,
                    codes=partial(read_map, label),
                    marks=files.fingerprint(label),
                )
            )
    if not parsed:
        raise DataError(f"{root} has no images in {IMAGES}; pass --raw.")
    return source_of_parsed("lip", parsed, PARTS, "person", settings)


def _deeper(folder: Path) -> Path:
    again = folder / folder.name
    return again if again.is_dir() else folder
