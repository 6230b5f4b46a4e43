import numpy as np
import pytest

from partsig.metrics.agreement import kappa
from partsig.metrics.resampling import bootstrap


def test_the_bootstrap_draws_subjects_not_epochs():
    rng = np.random.default_rng(0)
    right, wrong = np.eye(2) * 50, np.ones((2, 2)) * 25
    tables = [right if i % 2 else wrong for i in range(12)]
    low, high = bootstrap(tables, kappa, draws=4000, seed=1)
    again = bootstrap(tables, kappa, draws=4000, seed=1)
    assert (low, high) == again
    values = []
    for _ in range(4000):
        chosen = rng.integers(12, size=12)
        values.append(kappa(sum(tables[i] for i in chosen)))
    expected = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, atol=0.05)
    # As if epochs were independent the interval would be several times narrower.
    assert high - low > 0.4


def test_one_subject_has_no_interval():
    assert np.isnan(bootstrap([np.eye(2)], kappa)).all()


@pytest.mark.parametrize("table", [np.diag([4, 0]), np.zeros((2, 2))])
def test_a_statistic_that_is_never_defined_has_no_interval(table):
    assert np.isnan(bootstrap([table, table], kappa)).all()
