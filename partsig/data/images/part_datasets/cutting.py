"""Squares that are cut out of images, and what is marked in these, in the same geometry.

A place in an image is told in its pixels. Points (keypoints) count from the centre of the first
pixel, so that pixel i is i; boxes and squares from its corner, so that it is from i to i + 1.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from partsig.contracts import IGNORED
from partsig.data.images.decoding import as_array
from partsig.errors import DataError

# Pixels between which the size of a part told by a keypoint lies, in the published code.
LEAST, MOST = 20, 1000

Box = tuple[float, float, float, float]  # x, y, width, height


class Square(NamedTuple):
    """A square of an image, in whole pixels; it may reach beyond the image."""

    left: int
    top: int
    side: int


def middle(width: int, height: int) -> Square:
    """Return the largest square in the middle of an image.

    >>> middle(10, 7)
    Square(left=1, top=0, side=7)
    """
    side = min(width, height)
    return Square((width - side) // 2, (height - side) // 2, side)


def about_box(box: Box, width: int, height: int, margin: float) -> Square:
    """Return a square about the part of a box that lies in an image, as long as its longer side.

    ``margin`` is what is added on each side, as a share of that. Raises DataError where nothing of
    the box lies in the image.

    >>> about_box((2, 3, 4, 6), 20, 20, 0.5)
    Square(left=-2, top=0, side=12)
    """
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    if not (right > left and bottom > top):
        raise DataError(f"its box {tuple(map(float, box))} has no pixel of the image")
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
    x, y = (round((a + b - side) / 2) for a, b in ((left, right), (top, bottom)))
    return Square(x, y, side)


def about_point(x: float, y: float, length: float) -> Square:
    """Return a square of about this length, in pixels, about a keypoint.

    As the published code: the half is rounded, then each border. (Python rounds .5 to even.)

    >>> about_point(50.3, 40.0, 21.0)
    Square(left=40, top=30, side=20)
    """
    half = round(length / 2)
    return Square(round(x - half), round(y - half), 2 * half)


def patch_lengths(points: Mapping[str, tuple[float, float]], rule: str) -> dict[str, float]:
    """Return the lengths of squares about keypoints, of those that have one, by part.

    ``code`` is half the distance to the nearest other point, ``paper`` that distance; taken where
    it is over 20 and under 1000 pixels. A point in the very same place does not count.

    Source: Zhu et al., Understanding self-supervised pretraining with part-aware representation
    learning, TMLR 2024, section 4.1: "the paper"; its published code divides by two.

    >>> patch_lengths({"eye": (0, 0), "leg": (0, 50), "tail": (0, 80)}, "code")
    {'eye': 25.0}
    >>> patch_lengths({"eye": (0, 0), "leg": (0, 50), "tail": (0, 80)}, "paper")
    {'eye': 50.0, 'leg': 30.0, 'tail': 30.0}
    """
    lengths = {}
    for part, (x, y) in points.items():
        distances = [np.hypot(x - u, y - v) for u, v in points.values()]
        nearest = min((float(d) for d in distances if d > 0), default=np.inf)
        length = nearest / 2 if rule == "code" else nearest
        if LEAST < length < MOST:
            lengths[part] = length
    return lengths


def cut_image(image: Image.Image, square: Square, size: int) -> np.ndarray:
    """Return a square of an image in L or RGB as (C, size, size) uint8; black beyond the image.

    By Pillow's bicubic filter, antialiased; copied exactly where it has that size. Raises DataError
    for a square of more pixels than Pillow's limit, as one about a long and thin box can be.
    """
    left, top, side = square
    if side * side > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"the square about it has {side} pixels a side, more than Pillow's limit of "
            f"{Image.MAX_IMAGE_PIXELS:,} in all: make the image smaller"
        )
    pixels = image.crop((left, top, left + side, top + side))
    if side != size:
        pixels = pixels.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return as_array(pixels)


def cut_labels(labels: np.ndarray, square: Square, size: int) -> np.ndarray:
    """Return a square of a map of labels (H, W) as (size, size) uint8: each pixel's nearest.

    Beyond the image it is 255, ignored.

    >>> cut_labels(np.array([[0, 1], [2, 3]]), Square(0, 0, 2), 4)[1].tolist()
    [0, 0, 1, 1]
    >>> cut_labels(np.array([[0, 1], [2, 3]]), Square(-1, 0, 2), 2)[1].tolist()
    [255, 2]
    """
    height, width = labels.shape
    at = np.floor((np.arange(size) + 0.5) * square.side / size).astype(np.int64)
    rows, columns = square.top + at, square.left + at
    found = labels[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.where(inside, found, IGNORED).astype(np.uint8)


def cut_points(points: np.ndarray, square: Square, size: int) -> np.ndarray:
    """Return keypoints (K, 3) of an image, x, y and whether seen, as a square of it shows them.

    One beyond the square is not seen; one that nobody has marked, all of it 0, stays so.

    >>> cut_points(np.array([[5.0, 7.0, 1.0], [0.0, 0.0, 0.0]]), Square(4, 4, 8), 16).tolist()
    [[2.5, 6.5, 1.0], [0.0, 0.0, 0.0]]
    """
    scale = size / square.side
    cut = np.array(points, np.float64).reshape(-1, 3)
    marked = cut.any(1)
    cut[:, :2] = (cut[:, :2] + 0.5 - (square.left, square.top)) * scale - 0.5
    within = ((cut[:, :2] >= -0.5) & (cut[:, :2] < size - 0.5)).all(1)
    cut[:, 2] *= within
    return np.where(marked[:, None], cut, 0).astype(np.float32)


def cut_box(box: Box, square: Square, size: int) -> np.ndarray:
    """Return the part of a box that a square of the image shows, (4,) float32; 0 where none.

    >>> cut_box((5, 4, 2, 100), Square(4, 4, 8), 16).tolist()
    [2.0, 0.0, 4.0, 16.0]
    """
    scale, corner = size / square.side, np.array([square.left, square.top], np.float64)
    low = np.clip((np.array(box[:2], np.float64) - corner) * scale, 0, size)
    high = np.clip((np.array(box[:2], np.float64) + box[2:] - corner) * scale, 0, size)
    return np.concatenate([low, high - low]).astype(np.float32)


def box_of(mask: np.ndarray) -> Box | None:
    """Return the box of what is true in a mask (H, W); None where nothing is.

    >>> box_of(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (1, 1, 2, 1)
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def mirrored(names: Sequence[str]) -> dict[str, str]:
    """Return which of some parts is which in a mirror: left and right of each pair.

    Told by ``left`` and ``right``, or the first letter of the last word (``lear``, ``l_eye``).

    >>> mirrored(["Left-arm", "Right-arm", "cat leye"])
    {'Left-arm': 'Right-arm', 'Right-arm': 'Left-arm'}
    >>> mirrored(["cat lear", "cat rear"])
    {'cat lear': 'cat rear', 'cat rear': 'cat lear'}
    """
    pairs, known = {}, set(names)
    for name in names:
        before, gap, last = name.rpartition(" ")
        others = [
            name.replace("left", "right"),
            name.replace("Left", "Right"),
            f"{before}{gap}r{last[1:]}" if last.startswith("l") else name,
        ]
        other = next((other for other in others if other != name and other in known), None)
        if other is not None:
            pairs |= {name: other, other: name}
    return pairs
