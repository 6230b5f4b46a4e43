"""DeepFashion, In-shop clothes with parsing: people on white, what they wear by colour.

::

    In-shop Clothes Retrieval Benchmark/
        Anno/segmentation/DeepFashion_segmentation_train.json ..._query.json ..._gallery.json
        Anno/segmentation/img_highres/WOMEN/Dresses/id_00000002/02_1_front.jpg
        Anno/segmentation/img_highres/WOMEN/Dresses/id_00000002/02_1_front_segment.png

It may lie in ``DeepFashion/`` or be the folder that is given; photographs may lie in
``Img/img_highres`` as well. Of the lists only ``images[].file_name`` is read. ``query`` and
``gallery`` together are the test. Photographs of one item show the same clothes, mostly on one
person: they are a group.

A pixel's class is its colour. There are 16 colours and black is background; published are 15 names
for them in an order that fits no order of the colours, so that no colour is given a name here:
classes are called as X11 calls the colour. Agreement of parts (NMI, ARI) does not ask for names.
Pixels of any other colour are ignored; a map mostly of such is refused.

With ``cut=object`` the whole photograph is put into a square of its longer side, as published for
the test (``margin=0``, ``size=256``); ``cut=image`` is the middle of it, without head and feet.

Source: Z. Liu, P. Luo, S. Qiu, X. Wang, X. Tang, DeepFashion, CVPR 2016. What is read, and of which
files, as Choudhury et al. (NeurIPS 2021) say they read it.
"""

from functools import partial
from pathlib import Path

import numpy as np

from partsig.contracts import IGNORED
from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.parsing import Parsed, source_of_parsed
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

# By code, from 1; black is 0, the background.
COLOURS = {
    "dark green": (0, 100, 0),
    "dodger blue 4": (16, 78, 139),
    "lime green": (50, 205, 50),
    "steel blue": (70, 130, 180),
    "aquamarine": (127, 255, 212),
    "light green": (144, 238, 144),
    "light grey": (211, 211, 211),
    "gainsboro": (220, 220, 220),
    "wheat": (245, 222, 179),
    "antique white": (250, 235, 215),
    "red": (255, 0, 0),
    "dark orange": (255, 140, 0),
    "lemon chiffon": (255, 250, 205),
    "snow": (255, 250, 250),
    "yellow": (255, 255, 0),
}
PARTS = tuple(COLOURS)
BENCHMARK = "In-shop Clothes Retrieval Benchmark"
LISTS = {"train": "train", "query": "test", "gallery": "test"}
PHOTOGRAPHS = ("img_highres", "img")  # what names in the lists may begin with
MOST_UNKNOWN = 0.5  # of a map's pixels


def open_deepfashion(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the photographs, or squares about what is worn, whose labels these are.

    Raises DataError where there is none, ConfigError for settings that do not fit.
    """
    below = (BENCHMARK, f"DeepFashion/{BENCHMARK}")
    root = files.find_root(raw, ("Anno/segmentation",), below)
    annotations = root / "Anno" / "segmentation"
    parsed, lists = [], []
    for side, role in LISTS.items():
        file = annotations / f"DeepFashion_segmentation_{side}.json"
        if not file.is_file():
            continue
        lists.append(side)
        for name in _listed(file):
            parsed.append(_parsed(root, name, role))
    if not parsed:
        raise DataError(
            f"{annotations} has no photograph listed in DeepFashion_segmentation_"
            f"{{{','.join(LISTS)}}}.json; pass --raw."
        )
    missing = [side for side in LISTS if side not in lists]
    notes = [f"no list of {' and '.join(missing)}"] if missing else []
    return source_of_parsed("deepfashion", parsed, PARTS, "person", settings, True, notes)


def _listed(file: Path) -> list[str]:
    told = files.read_json(file)
    try:
        names = [image["file_name"] for image in told["images"]]
    except (TypeError, KeyError):
        raise DataError(f"{file.name} has no list of images with file_name.") from None
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{file.name} has a file_name that is no text.")
    return names


def _parsed(root: Path, name: str, role: str) -> Parsed:
    first, _, rest = name.partition("/")
    own = rest if first in PHOTOGRAPHS and rest else name
    beside = files.inside(root / "Anno" / "segmentation" / "img_highres", own)
    photograph = beside if beside.is_file() else files.inside(root / "Img" / "img_highres", own)
    labels = beside.with_name(f"{beside.stem}_segment.png")
    return Parsed(
        name=files.printable(own),
        file=photograph if photograph.is_file() else beside,
        role=role,
        codes=partial(_codes, labels),
        marks=files.fingerprint(labels),
        group=files.printable(own.rpartition("/")[0]),
    )


def _codes(file: Path, _size: tuple[int, int]) -> np.ndarray:
    """Return the codes (H, W) of a map in colours, 255 where a colour is none of the 16."""
    pixels = files.read_labels(file, colours=True).astype(np.uint32)
    packed = pixels @ np.array([65536, 256, 1], np.uint32)
    codes = np.where(packed == 0, 0, IGNORED).astype(np.uint8)
    for code, (red, green, blue) in enumerate(COLOURS.values(), 1):
        codes[packed == 65536 * red + 256 * green + blue] = code
    unknown = float((codes == IGNORED).mean())
    if unknown > MOST_UNKNOWN:
        raise DataError(f"{file.name} has {unknown:.0%} of its pixels in none of the 16 colours")
    return codes
