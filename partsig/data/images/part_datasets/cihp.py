"""CIHP, crowd instance-level human parsing: images of several people, with LIP's classes.

::

    instance-level_human_parsing/ Training/ Images/NAME.jpg Category_ids/NAME.png
                                            Human_ids/NAME.png train_id.txt
                                  Validation/ the same, val_id.txt

A folder with ``images`` and ``labels`` is read as well; a fifth of it is the test, by the hash of
the names. Code 10 is the skin of a torso, where LIP has jumpsuits. With ``Human_ids`` (0
background, 1, 2, … the people of an image) each person can be cut out; without, images and parts
only, and the parts of one kind are cut out together. Images of ``Validation`` are the test.

Source: K. Gong et al., Instance-level human parsing via part grouping network, ECCV 2018.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.lip import PARTS as LIP
from partsig.data.images.part_datasets.parsing import Parsed, read_map, source_of_parsed
from partsig.data.images.part_datasets.pieces import own_split
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import ConfigError

PARTS = tuple("Torso-skin" if part == "Jumpsuits" else part for part in LIP)
SIDES = {"Training": ("train", "train_id.txt"), "Validation": ("test", "val_id.txt")}


def open_cihp(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the images, people or parts of CIHP; labels are parts, where these are cut out.

    Raises DataError where there is none, ConfigError for settings that do not fit.
    """
    if (raw / "images").is_dir() and (raw / "labels").is_dir():
        parsed = _flat(raw)
    else:
        below = ("instance-level_human_parsing", "CIHP")
        parsed = list(_official(files.find_root(raw, ("Training",), below)))
    if settings.cut == "object" and any(each.people is None for each in parsed):
        raise ConfigError(
            "cut=object needs the folder Human_ids, which is not there: take cut=image, or fetch "
            "it."
        )
    return source_of_parsed("cihp", parsed, PARTS, "person", settings, objects=True)


def _official(root: Path) -> Iterator[Parsed]:
    for side, (role, listing) in SIDES.items():
        folder = root / side
        if not folder.is_dir():
            continue
        names = files.listed(folder / listing)
        if names is None:
            names = [path.stem for path in files.images_in(folder / "Images")]
        people = (folder / "Human_ids").is_dir()
        for name in names:
            file = files.inside(folder / "Images", f"{name}.jpg")
            labels = folder / "Category_ids" / f"{name}.png"
            humans = folder / "Human_ids" / f"{name}.png" if people else None
            yield _parsed(f"{side}/{name}.jpg", file, role, labels, humans)


def _flat(root: Path) -> list[Parsed]:
    images = {path.stem: path for path in files.images_in(root / "images")}
    roles = own_split(list(images))
    return [
        _parsed(path.name, path, roles[name], root / "labels" / f"{name}.png")
        for name, path in images.items()
    ]


def _parsed(name: str, file: Path, role: str, labels: Path, humans: Path | None = None) -> Parsed:
    marks = files.fingerprint(labels) + (files.fingerprint(humans) if humans else "")
    return Parsed(
        name=files.printable(name),
        file=file,
        role=role,
        codes=partial(read_map, labels),
        people=None if humans is None else partial(files.read_labels, humans),
        marks=marks,
    )
