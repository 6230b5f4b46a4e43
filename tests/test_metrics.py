import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score

from partsig import metrics


@pytest.fixture
def stages():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=400)
    predicted = np.where(rng.random(400) < 0.6, truth, rng.integers(5, size=400))
    return truth, predicted


def test_equal_scikit_learn(stages):
    table = metrics.confusion(*stages, 5)
    assert table.sum() == 400
    assert metrics.kappa(table) == pytest.approx(cohen_kappa_score(*stages))
    assert metrics.macro_f1(table) == pytest.approx(f1_score(*stages, average="macro"))
    np.testing.assert_allclose(metrics.f1_per_class(table), f1_score(*stages, average=None))
    assert metrics.accuracy(table) == pytest.approx(accuracy_score(*stages))
    assert metrics.balanced_accuracy(table) == pytest.approx(balanced_accuracy_score(*stages))


def test_many_tables_at_once_equal_one_by_one(stages):
    truth, predicted = stages
    tables = np.stack([metrics.confusion(truth[i::4], predicted[i::4], 5) for i in range(4)])
    for measure in (metrics.kappa, metrics.macro_f1, metrics.accuracy, metrics.balanced_accuracy):
        np.testing.assert_allclose(measure(tables), [measure(table) for table in tables])


def test_the_tables_of_units_equal_those_of_each_alone(stages):
    truth, predicted = stages
    truth = np.where(np.arange(400) % 7 == 0, -1, truth)
    units = np.arange(400) ** 2 % 11
    found = metrics.confusions(truth, predicted, 5, units)
    assert found.shape == (units.max() + 1, 5, 5)
    for unit, table in enumerate(found):
        mine = units == unit
        np.testing.assert_array_equal(table, metrics.confusion(truth[mine], predicted[mine], 5))


def test_unscored_epochs_do_not_count(stages):
    truth, predicted = stages
    hidden = np.where(np.arange(400) < 100, -1, truth)
    expected = metrics.confusion(truth[100:], predicted[100:], 5)
    assert np.array_equal(metrics.confusion(hidden, predicted, 5), expected)


def test_a_stage_missing_from_a_night_does_not_break_or_count():
    table = metrics.confusion(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 5)
    assert metrics.macro_f1(table) == pytest.approx((0.8 + 2 / 3) / 2)
    assert metrics.balanced_accuracy(table) == 0.75
    assert np.isnan(metrics.f1_per_class(table)[4])


def test_one_class_only_has_no_kappa():
    assert np.isnan(metrics.kappa(np.diag([7, 0, 0])))


def test_the_bootstrap_draws_subjects_not_epochs():
    rng = np.random.default_rng(0)
    right, wrong = np.eye(2) * 50, np.ones((2, 2)) * 25
    tables = [right if i % 2 else wrong for i in range(12)]
    low, high = metrics.bootstrap(tables, metrics.kappa, draws=4000, seed=1)
    again = metrics.bootstrap(tables, metrics.kappa, draws=4000, seed=1)
    assert (low, high) == again
    values = []
    for _ in range(4000):
        chosen = rng.integers(12, size=12)
        values.append(metrics.kappa(sum(tables[i] for i in chosen)))
    expected = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, atol=0.05)
    # As if epochs were independent the interval would be several times narrower.
    assert high - low > 0.4


def test_one_subject_has_no_interval():
    assert np.isnan(metrics.bootstrap([np.eye(2)], metrics.kappa)).all()


@pytest.mark.parametrize("table", [np.diag([4, 0]), np.zeros((2, 2))])
def test_a_statistic_that_is_never_defined_has_no_interval(table):
    assert np.isnan(metrics.bootstrap([table, table], metrics.kappa)).all()


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
    found = metrics.fit_temperature(labels, sharp)
    assert found == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(metrics.tempered(sharp, 2.5), honest, atol=2e-5)
    assert metrics.log_loss(labels, metrics.tempered(sharp, found)) <= metrics.log_loss(
        labels, honest
    )


def test_an_honest_model_has_little_calibration_error_and_a_sharpened_one_much():
    labels, honest, sharp = draws_of(2.5)
    errors = [
        float(metrics.calibration_error(metrics.reliability(labels, p))) for p in (honest, sharp)
    ]
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
    table = metrics.reliability(labels, sharp)
    assert float(metrics.calibration_error(table)) == pytest.approx(expected)
    halves = [metrics.reliability(labels[i::2], sharp[i::2]) for i in range(2)]
    np.testing.assert_allclose(sum(halves), table)


def test_log_loss_equals_scikit_learn():
    from sklearn.metrics import log_loss

    labels, honest, _ = draws_of(1.0, n=300)
    assert metrics.log_loss(labels, honest) == pytest.approx(log_loss(labels, honest))
