import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score

from partsig.metrics.agreement import (
    accuracy,
    balanced_accuracy,
    confusion,
    confusions,
    f1_per_class,
    kappa,
    macro_f1,
)


@pytest.fixture
def stages():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=400)
    predicted = np.where(rng.random(400) < 0.6, truth, rng.integers(5, size=400))
    return truth, predicted


def test_equal_scikit_learn(stages):
    table = confusion(*stages, 5)
    assert table.sum() == 400
    assert kappa(table) == pytest.approx(cohen_kappa_score(*stages))
    assert macro_f1(table) == pytest.approx(f1_score(*stages, average="macro"))
    np.testing.assert_allclose(f1_per_class(table), f1_score(*stages, average=None))
    assert accuracy(table) == pytest.approx(accuracy_score(*stages))
    assert balanced_accuracy(table) == pytest.approx(balanced_accuracy_score(*stages))


def test_many_tables_at_once_equal_one_by_one(stages):
    truth, predicted = stages
    tables = np.stack([confusion(truth[i::4], predicted[i::4], 5) for i in range(4)])
    for measure in (kappa, macro_f1, accuracy, balanced_accuracy):
        np.testing.assert_allclose(measure(tables), [measure(table) for table in tables])


def test_the_tables_of_units_equal_those_of_each_alone(stages):
    truth, predicted = stages
    truth = np.where(np.arange(400) % 7 == 0, -1, truth)
    units = np.arange(400) ** 2 % 11
    found = confusions(truth, predicted, 5, units)
    assert found.shape == (units.max() + 1, 5, 5)
    for unit, table in enumerate(found):
        mine = units == unit
        np.testing.assert_array_equal(table, confusion(truth[mine], predicted[mine], 5))


def test_unscored_epochs_do_not_count(stages):
    truth, predicted = stages
    hidden = np.where(np.arange(400) < 100, -1, truth)
    expected = confusion(truth[100:], predicted[100:], 5)
    assert np.array_equal(confusion(hidden, predicted, 5), expected)


def test_a_stage_missing_from_a_night_does_not_break_or_count():
    table = confusion(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 5)
    assert macro_f1(table) == pytest.approx((0.8 + 2 / 3) / 2)
    assert balanced_accuracy(table) == 0.75
    assert np.isnan(f1_per_class(table)[4])


def test_one_class_only_has_no_kappa():
    assert np.isnan(kappa(np.diag([7, 0, 0])))
