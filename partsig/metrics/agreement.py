"""Agreement of labels, from confusion matrices: kappa, F1, accuracy."""

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return (K, K) counts, rows true and columns predicted; truth below 0 is left out.

    >>> confusion(np.array([0, 1, -1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 0]]
    """
    truth, predicted = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    scored = truth >= 0
    flat = truth[scored] * n_classes + predicted[scored]
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusions(
    truth: np.ndarray, predicted: np.ndarray, n_classes: int, units: np.ndarray
) -> np.ndarray:
    """Return (U, K, K): the confusion matrix of every unit, ``units`` (n,) being numbers from 0.

    >>> confusions(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, np.array([0, 0, 1])).tolist()
    [[[1, 0], [1, 0]], [[0, 0], [0, 1]]]
    """
    cells = n_classes**2
    truth, units = np.asarray(truth, np.int64), np.asarray(units, np.int64)
    scored = truth >= 0
    flat = units[scored] * cells + truth[scored] * n_classes + np.asarray(predicted)[scored]
    n_units = int(units.max(initial=-1)) + 1
    return np.bincount(flat, minlength=n_units * cells).reshape(-1, n_classes, n_classes)


def kappa(matrix: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of confusion matrices (…, K, K), unweighted.

    Where both raters use one and the same class only, chance agreement is 1 and kappa is undefined:
    nan.

    >>> round(float(kappa(np.array([[20, 5], [10, 15]]))), 6)
    0.4
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    total = matrix.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(matrix, axis1=-2, axis2=-1) / total
        expected = (matrix.sum(-1) * matrix.sum(-2)).sum(-1) / total**2
        return np.where(expected < 1.0, (observed - expected) / (1 - expected), np.nan)


def kappa_in_words(matrix: np.ndarray) -> str:
    """Return Cohen's kappa of a confusion matrix (K, K), or that there is none.

    >>> kappa_in_words(np.array([[20, 5], [10, 15]])), kappa_in_words(np.array([[9, 0], [0, 0]]))
    ('kappa 0.40', 'kappa undefined (one class only)')
    """
    if not np.asarray(matrix).sum():
        return "kappa undefined (nothing to compare)"
    value = float(kappa(matrix))
    return "kappa undefined (one class only)" if np.isnan(value) else f"kappa {value:.2f}"


def f1_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return F1 (…, K); nan for a class that is neither there nor predicted.

    >>> f1_per_class(np.array([[2, 0], [2, 0]])).tolist()
    [0.6666666666666666, 0.0]
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    either = matrix.sum(-1) + matrix.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(either > 0, 2 * right / either, np.nan)


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that are there or predicted."""
    f1 = f1_per_class(matrix)
    there = ~np.isnan(f1)
    return np.where(there, f1, 0.0).sum(-1) / np.maximum(there.sum(-1), 1)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share of epochs on the diagonal."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the mean recall over the classes that are there."""
    matrix = np.asarray(matrix, dtype=np.float64)
    there = matrix.sum(-1) > 0
    recall = np.diagonal(matrix, axis1=-2, axis2=-1) / np.maximum(matrix.sum(-1), 1)
    return np.where(there, recall, 0.0).sum(-1) / np.maximum(there.sum(-1), 1)


def or_none(value: float) -> float | None:
    """Return a number as JSON can hold it: None for nan."""
    return None if np.isnan(value) else float(value)
