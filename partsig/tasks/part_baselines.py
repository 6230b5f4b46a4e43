"""Parts without learning: what any part discovery has to beat, of maps with any number of axes.

Each is a function of maps of training and of test, of how many parts there are, and of a seed; it
returns the part of every cell of the test's maps, (n, *grid) int64 from 0, also where there is no
foreground, which only decides what is fitted. A figure without these rows says little: keypoints
have typical places, so that a grid agrees with them by far more than chance.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from partsig.errors import DataError
from partsig.seeds import Stream, rng_of, seed_of

# Cells that are fitted at most, drawn by the seed: k-means of 400 features takes some ten seconds.
MOST_CELLS = 15_000
RESTARTS = 4  # of k-means, from other centres; the tightest is kept
# Rounds of NMF, fitting, and judging all cells: some tens suffice on maps. It stops there, settled
# or not, so that its time is bounded by the number of cells.
MOST_ROUNDS, JUDGING_ROUNDS = 1000, 200


@dataclass(frozen=True, kw_only=True, eq=False)
class PartMaps:
    """Maps (n, C, *grid) of some images or signals, and where their foregrounds are, (n, *grid).

    Without a ``foreground`` it is everything.
    """

    maps: np.ndarray
    foreground: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """The foreground (n, *grid) bool."""
        if self.foreground is None:
            return np.ones((len(self.maps), *self.maps.shape[2:]), bool)
        return np.asarray(self.foreground, bool)

    def cells(self) -> np.ndarray:
        """Return the features of all cells, (n * cells, C)."""
        return np.moveaxis(self.maps, 1, -1).reshape(-1, self.maps.shape[1])

    def labels(self, of_cells: np.ndarray) -> np.ndarray:
        """Return what cells have been given as maps (n, *grid)."""
        return np.asarray(of_cells, np.int64).reshape(len(self.maps), *self.maps.shape[2:])


Baseline = Callable[[PartMaps, PartMaps, int, int], np.ndarray]


def one_part(_train: PartMaps, test: PartMaps, _n_parts: int, _seed: int) -> np.ndarray:
    """Return part 0 everywhere: NMI and ARI of 0."""
    return test.labels(np.zeros(len(test.maps) * prod(test.maps.shape[2:])))


def grid_shape(n_parts: int, rank: int) -> tuple[int, ...]:
    """Return into how many stretches each axis is cut, the first the fewest, near to equal.

    >>> grid_shape(4, 2), grid_shape(6, 2), grid_shape(8, 3), grid_shape(5, 1)
    ((2, 2), (2, 3), (2, 2, 2), (5,))
    """
    shapes = product(range(1, n_parts + 1), repeat=rank)
    return min((s for s in shapes if prod(s) == n_parts), key=lambda s: (max(s) - min(s), s))


def grid_parts(_train: PartMaps, test: PartMaps, n_parts: int, _seed: int) -> np.ndarray:
    """Return the cells of a grid over the box of each foreground: position, and nothing else.

    Four parts of an image are 2 × 2, K parts of a signal K equal stretches. Cells beyond the box
    belong to the nearest; a foreground of nothing has the box of the whole.
    """
    grid = test.maps.shape[2:]
    shape = grid_shape(n_parts, len(grid))
    labels = np.zeros((len(test.maps), *grid), np.int64)
    for n, mask in enumerate(test.mask):
        mask = mask if mask.any() else np.ones_like(mask)
        for axis, (length, parts) in enumerate(zip(grid, shape, strict=True)):
            along = mask.any(tuple(other for other in range(len(grid)) if other != axis))
            low, high = np.flatnonzero(along)[[0, -1]]
            place = (np.arange(length) + 0.5 - low) / (high + 1 - low) * parts
            part = np.clip(np.floor(place), 0, parts - 1).astype(np.int64)
            others = [1] * len(grid)
            others[axis] = length
            labels[n] = labels[n] * parts + part.reshape(others)
    return labels


def kmeans_parts(train: PartMaps, test: PartMaps, n_parts: int, seed: int) -> np.ndarray:
    """Return clusters of k-means on features of unit variance, fitted to the training foreground.

    Mean and SD of each channel are of that foreground; scikit-learn's KMeans. Raises DataError for
    fewer cells of foreground than parts.
    """
    from sklearn.cluster import KMeans

    fitted = _fitted(train, n_parts, seed)
    mean, sd = _moments(fitted)
    model = KMeans(n_parts, n_init=RESTARTS, random_state=_state(seed))
    model.fit((fitted - mean) / sd)
    return test.labels(model.predict(((test.cells() - mean) / sd).astype(fitted.dtype)))


def factor_parts(train: PartMaps, test: PartMaps, n_parts: int, seed: int) -> np.ndarray:
    """Return the strongest of K non-negative factors of rectified features: DFF.

    Factors are fitted to the training foreground, by scikit-learn's NMF; channels are divided by
    their SD, what is below 0 is 0 (:func:`rectified_share` tells how much that is), and a factor
    counts by the length of what it adds. It begins at a singular value decomposition, or at random
    where there are more parts than channels. Raises DataError for fewer cells of foreground than
    parts, or where no feature is above 0.

    Source: E. Collins, R. Achanta, S. Süsstrunk, Deep feature factorization for concept discovery,
    ECCV 2018. *Differs from it* in that factors are of other images than those that are judged.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    fitted = _fitted(train, n_parts, seed)
    _, sd = _moments(fitted)
    positive = np.maximum(fitted / sd, 0)
    if not positive.any():
        raise DataError("no feature of the foreground is above 0: nothing can be factorised.")
    init = "nndsvda" if n_parts <= min(positive.shape) else "random"
    model = NMF(n_parts, init=init, max_iter=MOST_ROUNDS, tol=1e-3, random_state=_state(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # see MOST_ROUNDS
        model.fit(positive)
        model.set_params(max_iter=JUDGING_ROUNDS)
        share = model.transform(np.maximum(test.cells() / sd, 0).astype(positive.dtype))
    return test.labels((share * np.linalg.norm(model.components_, axis=1)).argmax(1))


def rectified_share(train: PartMaps) -> float:
    """Return the share of the training foreground's values that are below 0, 0 to 1.

    To :func:`factor_parts` they are 0: of maps after a ReLU none, of a transformer's tokens half.

    >>> rectified_share(PartMaps(maps=np.array([[[1.0, -1.0, 0.0, 3.0]]])))
    0.25
    """
    values = np.moveaxis(train.maps, 1, -1)[train.mask]
    return float((values < 0).mean()) if values.size else 0.0


BASELINES: dict[str, Baseline] = {
    "one part": one_part,
    "grid": grid_parts,
    "k-means": kmeans_parts,
    "NMF (DFF)": factor_parts,
}


def as_maps(labels: np.ndarray, n_parts: int) -> np.ndarray:
    """Return labels (n, *grid) as maps (n, K, *grid) of 0 and 1, as a discovery gives shares.

    >>> as_maps(np.array([[0, 1, 1]]), 2).tolist()
    [[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]]
    """
    numbers = np.arange(n_parts).reshape(1, n_parts, *[1] * (labels.ndim - 1))
    return (labels[:, None] == numbers).astype(np.float32)


def _fitted(train: PartMaps, n_parts: int, seed: int) -> np.ndarray:
    """Return the features (m, C) of the cells of the foreground, some of them where many."""
    cells = train.cells()[train.mask.reshape(-1)]
    if len(cells) < n_parts:
        raise DataError(f"{len(cells)} cells of foreground are no {n_parts} parts.")
    if len(cells) > MOST_CELLS:
        drawn = rng_of(Stream.PART_BASELINES, seed, 0).permutation(len(cells))[:MOST_CELLS]
        cells = cells[np.sort(drawn)]
    return np.ascontiguousarray(cells, np.float32)


def _moments(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and SD (C,) of each channel; SD 1 of one that never changes."""
    sd = cells.std(0)
    return cells.mean(0), np.where(sd > 1e-6 * np.abs(cells).max(0) + 1e-12, sd, 1.0)


def _state(seed: int) -> int:
    return seed_of(Stream.PART_BASELINES, seed, 1) % 2**32
