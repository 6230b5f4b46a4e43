"""Where parts lie: parts at keypoints, and centres of parts.

Places are shares of an image's extent along each axis (row, column; or time alone), from 0 at its
beginning to 1 at its end, for any number of axes: a cell of a map of n cells begins at i / n.
"""

from itertools import product

import numpy as np


def places_of(keypoints: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return places (n, P, 2), row and column, and visible (n, P) of a store's keypoints (n, P, 3).

    These are x, y in pixels, from the centre of the first, and seen; ``size`` is height and width.

    >>> places, visible = places_of(np.array([[[3.5, 0.5, 1], [0, 0, 0]]]), (4, 8))
    >>> places[0, 0].tolist(), visible.tolist()
    ([0.25, 0.5], [[True, False]])
    """
    keypoints = np.asarray(keypoints, np.float64)
    return (keypoints[..., 1::-1] + 0.5) / np.asarray(size, np.float64), keypoints[..., 2] > 0


def labels_at(parts: np.ndarray, places: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the part (n, P) at each place (n, P, D) of maps of labels (n, *grid), -1 unseen.

    >>> labels_at(np.array([[7, 8, 9]]), np.array([[[0.5], [0.99]]]), np.array([[1, 1]])).tolist()
    [[8, 9]]
    """
    grid = np.array(parts.shape[1:])
    cells = np.clip(np.floor(np.asarray(places) * grid), 0, grid - 1).astype(np.int64)
    of = np.arange(len(parts))[:, None]
    return np.where(visible, parts[(of, *np.moveaxis(cells, -1, 0))], -1)


def most_likely_at(maps: np.ndarray, places: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the most likely part (n, P) at each place (n, P, D) of maps (n, K, *grid), -1 unseen.

    Maps are interpolated linearly between the centres of their cells, as if they had been enlarged
    to the image; with a background (:func:`background_first`) part 0 is it.

    >>> maps = np.array([[[0.9, 0.0], [0.1, 1.0]]])
    >>> most_likely_at(maps, np.array([[[0.45], [0.6]]]), np.array([[True, True]])).tolist()
    [[0, 1]]
    """
    grid = np.array(maps.shape[2:])
    at = np.clip(np.asarray(places) * grid - 0.5, 0, grid - 1)  # (n, P, D)
    low = np.floor(at).astype(np.int64)
    rest, of = at - low, np.arange(len(maps))[:, None]
    by_cell = np.moveaxis(maps, 1, -1)  # (n, *grid, K)
    value = np.zeros((*at.shape[:2], maps.shape[1]))
    for corner in product((0, 1), repeat=len(grid)):
        weight = np.where(corner, rest, 1 - rest).prod(-1)
        cells = np.minimum(low + corner, grid - 1)
        value += weight[..., None] * by_cell[(of, *np.moveaxis(cells, -1, 0))]
    return np.where(visible, value.argmax(-1), -1)


def background_first(maps: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Return maps (n, 1 + K, *grid) of shares: the background, then parts within the foreground.

    ``maps`` (n, K, *grid) add up to 1 in each cell, ``foreground`` (n, *grid) is from 0 to 1. So
    keypoints are judged with background (``full``), as published for CUB.
    """
    within = np.asarray(foreground, np.float64)[:, None]
    return np.concatenate([1 - within, within * maps], 1)


def keypoint_tables(found: np.ndarray, n_parts: int) -> np.ndarray:
    """Return tables (n, P, K) of parts (n, P) found at keypoints; below 0 is not counted.

    The truth is the number of the keypoint.

    >>> keypoint_tables(np.array([[1, -1]]), 2).tolist()
    [[[0, 1], [0, 0]]]
    """
    return (np.asarray(found)[..., None] == np.arange(n_parts)).astype(np.int64)


def part_centres(maps: np.ndarray, foreground: np.ndarray | None = None) -> np.ndarray:
    """Return the centres of mass (n, K, D) of parts (n, K, *grid), 0 or more in each cell.

    Within the ``foreground`` (n, *grid), where there is one. The centre of a part that is nowhere
    is the middle of the image.

    >>> part_centres(np.array([[[1.0, 1, 0, 0], [0, 0, 0, 0]]])).tolist()
    [[[0.25], [0.5]]]
    """
    maps = np.asarray(maps, np.float64)
    if foreground is not None:
        maps = maps * np.asarray(foreground, np.float64)[:, None]
    grid = maps.shape[2:]
    mass = maps.sum(tuple(range(2, maps.ndim)))  # (n, K)
    centres = np.full((*mass.shape, len(grid)), 0.5)
    for axis, length in enumerate(grid):
        along = maps.sum(tuple(2 + other for other in range(len(grid)) if other != axis))
        moment = along @ ((np.arange(length) + 0.5) / length)  # (n, K)
        np.divide(moment, mass, out=centres[..., axis], where=mass > 0)
    return centres


def middle_centres(n: int, rank: int) -> np.ndarray:
    """Return the middle of each of n images as its one part, (n, 1, D): a baseline."""
    return np.full((n, 1, rank), 0.5)


def mean_centres(keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the mean of each image's visible keypoints (n, P, D) as its one part, (n, 1, D).

    A baseline that knows the truth; the middle of an image that shows none.

    >>> mean_centres(np.array([[[0.2], [0.6], [0.0]]]), np.array([[1, 1, 0]])).round(3).tolist()
    [[[0.4]]]
    """
    weight = np.asarray(visible, np.float64)[..., None]  # (n, P, 1)
    count = weight.sum(1)
    total = (weight * np.where(weight > 0, keypoints, 0)).sum(1)
    return np.divide(total, count, out=np.full(total.shape, 0.5), where=count > 0)[:, None]


def keypoint_as_centre(keypoints: np.ndarray, visible: np.ndarray, number: int) -> np.ndarray:
    """Return one keypoint of each image as its one part, (n, 1, D): "throat only", a baseline.

    Where it is not seen, :func:`mean_centres` stands in its place.
    """
    seen = np.asarray(visible, bool)[:, number, None, None]
    one = np.asarray(keypoints)[:, number : number + 1]
    return np.where(seen, one, mean_centres(keypoints, visible))
