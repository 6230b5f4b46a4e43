import numpy as np
import pytest
from sklearn import metrics

from partsig.metrics.calibration import (
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    tempered,
)


def draws_of(temperature, n=20_000, seed=0):
    """Return labels drawn from a model's own probabilities, and those at another temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n, 5))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > honest.cumsum(1)).sum(1)
    sharp = np.exp(temperature * logits)
    return labels, honest, sharp / sharp.sum(1, keepdims=True)


def test_the_temperature_that_made_a_model_too_sure_is_found():
    labels, honest, sharp = draws_of(2.5)
    found = fit_temperature(labels, sharp)
    assert found == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(tempered(sharp, 2.5), honest, atol=2e-5)
    assert log_loss(labels, tempered(sharp, found)) <= log_loss(labels, honest)


def test_an_honest_model_has_little_calibration_error_and_a_sharpened_one_much():
    labels, honest, sharp = draws_of(2.5)
    errors = [float(calibration_error(reliability(labels, p))) for p in (honest, sharp)]
    assert errors[0] < 0.02
    assert errors[1] > 0.1


def test_calibration_error_equals_a_loop_over_bins():
    labels, _, sharp = draws_of(1.7, n=500, seed=1)
    confidence, right = sharp.max(1), sharp.argmax(1) == labels
    expected = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    table = reliability(labels, sharp)
    assert float(calibration_error(table)) == pytest.approx(expected)
    halves = [reliability(labels[i::2], sharp[i::2]) for i in range(2)]
    np.testing.assert_allclose(sum(halves), table)


def test_log_loss_equals_scikit_learn():
    labels, honest, _ = draws_of(1.0, n=300)
    assert log_loss(labels, honest) == pytest.approx(metrics.log_loss(labels, honest))
