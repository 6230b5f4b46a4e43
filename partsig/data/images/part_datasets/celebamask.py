"""CelebAMask-HQ: 30,000 faces with 18 classes of parts and what is worn.

::

    CelebAMask-HQ/ CelebA-HQ-img/0.jpg                       1024 x 1024
                   CelebAMask-HQ-mask-anno/0/00000_skin.png  512 x 512, one for each part that is
                                                             there, 2,000 faces a folder
                   CelebA-HQ-to-CelebA-mapping.txt           which tells the split

A folder of ``0.jpg`` and ``0.png``, in which each pixel has the number of a class (0 background),
is read as well. Masks of single parts are painted in the order of the classes, the later over the
earlier, and are enlarged to the size of the image. The split is that of CelebA, by the number
a face has there; without the mapping a fifth is the test, by the hash of the names. Left and right
are the person's own.

Source: C.-H. Lee, Z. Liu, L. Wu, P. Luo, MaskGAN, CVPR 2020.
"""

from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.images.part_datasets import files
from partsig.data.images.part_datasets.parsing import Parsed, source_of_parsed
from partsig.data.images.part_datasets.pieces import own_split
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Source
from partsig.errors import DataError

# By code, from 1.
PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
A_FOLDER = 2000
VAL_FROM, TEST_FROM = 162_771, 182_638  # numbers in CelebA


def open_celebamask(raw: Path, settings: ImagePreprocessConfig) -> Source:
    """Return the faces of CelebAMask-HQ, or squares about their parts, whose labels these are.

    Raises DataError where there is none, ConfigError for settings that do not fit.
    """
    official = next(
        (root for root in (raw, raw / "CelebAMask-HQ") if (root / IMAGES).is_dir()), None
    )
    folder = raw if official is None else official / IMAGES
    images = [path for path in files.images_in(folder) if path.suffix.lower() == ".jpg"]
    images = sorted((path for path in images if path.stem.isdecimal()), key=lambda p: int(p.stem))
    if not images:
        raise DataError(f"{folder} has no faces (0.jpg, 1.jpg, …); pass --raw.")
    roles = None if official is None else _roles(official / MAPPING)
    notes = []
    if roles is None:
        roles = own_split([path.stem for path in images])
        notes = [f"no {MAPPING}: a fifth of the faces is the test"]
    parsed = []
    for path in images:
        if official is None:
            masks = [path.with_suffix(".png")]
        else:
            n = int(path.stem)
            below = official / MASKS / str(n // A_FOLDER)
            masks = [below / f"{n:05d}_{part}.png" for part in PARTS]
        parsed.append(
            Parsed(
                name=path.name,
                file=path,
                role=roles.get(path.stem, "train"),
                codes=partial(_codes, masks),
                marks=" ".join(map(files.fingerprint, masks)),
            )
        )
    return source_of_parsed("celebamask", parsed, PARTS, "face", settings, notes=notes)


def _roles(mapping: Path) -> dict[str, str] | None:
    """Return the role of each face by its number; None where the mapping is not there."""
    if not mapping.is_file():
        return None
    roles = {}
    for row in files.read_table(mapping, 3):
        if row[0].isdecimal():  # not the header
            there = files.number_in(row[1], mapping)
            side = "val" if VAL_FROM <= there < TEST_FROM else "train"
            roles[row[0]] = "test" if there >= TEST_FROM else side
    return roles


def _codes(masks: list[Path], size: tuple[int, int]) -> np.ndarray:
    if len(masks) == 1:
        codes = files.read_labels(masks[0])
    else:
        there = [(code, file) for code, file in enumerate(masks, 1) if file.is_file()]
        if not there:
            raise DataError("none of its parts has a mask")
        codes = np.zeros((1, 1), np.uint8)
        for code, file in there:
            mask = files.read_labels(file)
            codes = codes if codes.shape == mask.shape else np.zeros(mask.shape, np.uint8)
            codes[mask != 0] = code
    height, width = codes.shape
    if size[0] % width or size[1] % height:
        return codes  # told as of another size than the image
    return codes.repeat(size[1] // height, 0).repeat(size[0] // width, 1)
