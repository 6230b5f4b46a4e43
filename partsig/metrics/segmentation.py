"""Segmentation: how far areas of a class cover each other, over a whole data set."""

import numpy as np

from partsig.contracts import IGNORED


def pixel_confusion(
    truth: np.ndarray, predicted: np.ndarray, n_classes: int, ignored: int = IGNORED
) -> np.ndarray:
    """Return the confusion matrix (K, K) int64 of labels of any shape: rows are the truth.

    Where the truth is ``ignored`` nothing is counted, whatever was predicted there.
    Raises ValueError for labels that are none of ``n_classes``.

    >>> pixel_confusion(np.array([0, 1, 255]), np.array([1, 1, 0]), 2).tolist()
    [[0, 1], [0, 1]]
    """
    counted = truth != ignored
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, found in (("truth", rows), ("prediction", columns)):
        if found.size and not 0 <= found.min() <= found.max() < n_classes:
            raise ValueError(
                f"labels of the {name} go from {found.min()} to {found.max()}; there are "
                f"{n_classes} classes."
            )
    table = np.bincount(rows * n_classes + columns, minlength=n_classes**2)
    return table.reshape(n_classes, n_classes)


def covered(table: np.ndarray) -> np.ndarray:
    """Return what all figures need of confusion matrices (…, K, K), (…, K, 3) in place of it.

    How many places of a class were found, are its own, and were called so: small also where there
    are many classes, and to be added up over images.

    >>> covered(np.array([[2, 1], [0, 1]])).tolist()
    [[2, 3, 2], [1, 1, 2]]
    """
    both = np.diagonal(table, axis1=-2, axis2=-1)
    return np.stack([both, table.sum(-1), table.sum(-2)], axis=-1)


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union (…, K) of counts (…, K, 3), see :func:`covered`.

    NaN for a class that is neither in the truth nor predicted.

    >>> table = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    >>> intersection_over_union(covered(table)).round(3).tolist()
    [0.667, 0.5, nan]
    """
    both, truth, predicted = np.moveaxis(counts, -1, 0)
    return _share(both, truth + predicted - both)


def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the share (…, K) of a class's places that were found; NaN where there is none."""
    return _share(counts[..., 0], counts[..., 1])


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Return the mean intersection over union (…,) of the classes that occur, over a data set."""
    return _mean_known(intersection_over_union(counts))


def mean_accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the mean share (…,) of a class's places that were found, of classes in the truth."""
    return _mean_known(class_accuracy(counts))


def pixel_accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the share (…,) of places that are right; NaN where there is none."""
    return _share(counts[..., 0].sum(-1), counts[..., 1].sum(-1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1)
    return np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
