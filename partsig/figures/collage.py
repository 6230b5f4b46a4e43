"""Pictures that are put together of boxes of other pictures."""

from collections.abc import Sequence

import numpy as np


def picture(pixels: np.ndarray) -> np.ndarray:
    """Return an image (C, H, W) of 0 to 255 as matplotlib wants it, one channel as grey."""
    shown = np.moveaxis(pixels, 0, -1) / 255
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown[..., :3]


def cut(shown: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the box of a picture (H, W, 3) that begins at (row, column), of a size in pixels."""
    (row, column), (h, w) = begin.round().astype(int), size.round().astype(int)
    return shown[row : row + h, column : column + w]


def collage(cuts: Sequence[np.ndarray], at: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a picture (H, W, 3) of ``cuts`` that begin ``at`` (N, 2), averaged; nan elsewhere."""
    total, count = np.zeros((*shape, 3)), np.zeros((*shape, 1))
    for part, (row, column) in zip(cuts, at.round().astype(int), strict=True):
        h, w = part.shape[:2]
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + h, shape[0]), min(column + w, shape[1])
        if top >= bottom or left >= right:
            continue
        total[top:bottom, left:right] += part[
            top - row : bottom - row, left - column : right - column
        ]
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
