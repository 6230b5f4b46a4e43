"""Calibration of probabilities: temperature, log loss, reliability, calibration error."""

import numpy as np
import scipy  # its parts are loaded where they are used

# Probabilities below this count as this much, so that a logarithm stays finite.
MIN_PROBABILITY = 1e-12
# Bins of confidence, as in Guo et al. 2017.
CONFIDENCE_BINS = 15
MAX_TEMPERATURE = 20.0


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (n, K) as a softmax of their logits divided by ``temperature``.

    Above 1 the model becomes less sure; which class is the most likely never changes.

    >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(np.maximum(probabilities, MIN_PROBABILITY)) / temperature
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class's probability, in nats."""
    right = np.take_along_axis(probabilities, np.asarray(truth)[:, None], axis=1)
    return float(-np.log(np.maximum(right, MIN_PROBABILITY)).mean())


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature at which :func:`log_loss` of these epochs is least (Guo et al. 2017).

    Within 1/20 and 20; 1 where there is nothing to fit.

    >>> sure = np.array([[0.99, 0.01]] * 4)
    >>> round(fit_temperature(np.array([0, 0, 0, 1]), sure), 2)
    4.18
    """
    if not len(truth):
        return 1.0
    fitted = scipy.optimize.minimize_scalar(
        lambda log: log_loss(truth, tempered(probabilities, np.exp(log))),
        bounds=(-np.log(MAX_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(fitted.x))


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = CONFIDENCE_BINS
) -> np.ndarray:
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
