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


def intersection_over_union(table: np.ndarray) -> np.ndarray:
    """Return the intersection over union (…, K) of confusion matrices (…, K, K).

    NaN for a class that is neither in the truth nor predicted.

    >>> intersection_over_union(np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]])).round(3).tolist()
    [0.667, 0.5, nan]
    """
    both = np.diagonal(table, axis1=-2, axis2=-1)
    either = table.sum(-1) + table.sum(-2) - both
    return np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)


def mean_iou(table: np.ndarray) -> np.ndarray:
    """Return the mean intersection over union (…,) of the classes that occur, over a data set."""
    return _mean_known(intersection_over_union(table))


def mean_accuracy(table: np.ndarray) -> np.ndarray:
    """Return the mean share (…,) of a class's pixels that were found, of classes in the truth."""
    truth = table.sum(-1)
    right = np.diagonal(table, axis1=-2, axis2=-1)
    return _mean_known(np.divide(right, truth, out=np.full(right.shape, np.nan), where=truth > 0))


def pixel_accuracy(table: np.ndarray) -> np.ndarray:
    """Return the share (…,) of pixels that are right; NaN where there is none."""
    right, total = np.trace(table, axis1=-2, axis2=-1), table.sum((-2, -1))
    return np.divide(right, total, out=np.full(np.shape(right), np.nan), where=total > 0)


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1)
    return np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
