"""Agreement between stages, from confusion matrices; intervals by bootstrap over subjects."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

# Probabilities below this count as this much, so that a logarithm stays finite.
LEAST = 1e-12
# Bins of confidence, as in Guo et al. 2017.
BINS = 15
MOST_TEMPERATURE = 20.0


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


def bootstrap(
    matrices: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a pooled statistic when subjects are drawn anew.

    ``matrices`` holds one confusion matrix per subject: the subject is the unit, since epochs of
    one night are not independent (Efron and Tibshirani 1993, chapter 13). nan for a
    single subject, and where the statistic is never defined.

    >>> bootstrap([np.eye(2) * 5, np.eye(2) * 9], kappa)
    (1.0, 1.0)
    """
    stacked = np.stack(matrices).astype(np.float64)  # (S, K, K)
    if len(stacked) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(stacked), np.full(len(stacked), 1 / len(stacked)), size=draws)
    values = statistic(np.tensordot(drawn.astype(np.float64), stacked, axes=1))
    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (n, K) as a softmax of their logits divided by ``temperature``.

    Above 1 the model becomes less sure; which class is the most likely never changes.

    >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST)) / temperature
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class's probability, in nats."""
    right = np.take_along_axis(probabilities, np.asarray(truth)[:, None], axis=1)
    return float(-np.log(np.maximum(right, LEAST)).mean())


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature at which :func:`log_loss` of these epochs is least (Guo et al. 2017).

    Within 1/20 and 20; 1 where there is nothing to fit.

    >>> sure = np.array([[0.99, 0.01]] * 4)
    >>> round(fit_temperature(np.array([0, 0, 0, 1]), sure), 2)
    4.18
    """
    if not len(truth):
        return 1.0
    found = minimize_scalar(
        lambda log: log_loss(truth, tempered(probabilities, np.exp(log))),
        bounds=(-np.log(MOST_TEMPERATURE), np.log(MOST_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return (bins, 3): epochs, sum of confidence and number right, by confidence from 0 to 1.

    Confidence is the probability of the most likely class. Tables of disjoint epochs add up.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    columns = [np.bincount(place, weights, minlength=bins) for weights in (None, confidence, right)]
    return np.stack(columns, axis=1).astype(np.float64)


def calibration_error(table: np.ndarray) -> np.ndarray:
    """Return the expected calibration error of reliability tables (…, bins, 3).

    The mean distance between confidence and share right over bins, weighted by their epochs
    (Naeini et al. 2015; Guo et al. 2017, eq. 3).

    >>> p = np.array([[0.9, 0.1]] * 10)
    >>> truth = np.array([0] * 7 + [1] * 3)
    >>> round(float(calibration_error(reliability(truth, p))), 3)
    0.2
    """
    gap = np.abs(table[..., 1] - table[..., 2]).sum(-1)
    return gap / np.maximum(table[..., 0].sum(-1), 1)


def or_none(value: float) -> float | None:
    """Return a number as JSON can hold it: None for nan."""
    return None if np.isnan(value) else float(value)
