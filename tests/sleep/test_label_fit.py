import numpy as np
import pytest

from partsig.sleep.label_fit import best_shift, separation


def test_separation_counts_pairs():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 12, 90).astype(float)  # with ties
    values[::17] = np.nan
    first = rng.random(90) < 0.5
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a in values[first & ~np.isnan(values)]
        for b in values[~first & ~np.isnan(values)]
    ]
    assert separation(values, first, ~first) == pytest.approx(np.mean(pairs))
    assert separation(values[:30], first[:30], ~first[:30]) is None


@pytest.mark.parametrize("shift", [-20, -7, -1, 0, 1, 12])
def test_a_shifted_hypnogram_is_told_by_how_much(shift):
    rng = np.random.default_rng(1)
    true = np.repeat(rng.choice([0, 1, 2, 3, 3, 4], 60), 12).astype(np.int8)
    delta = 1.0 * (true == 3) + rng.normal(0, 0.4, len(true))
    delta[::50] = np.nan
    k, moved, unmoved = best_shift(delta, np.roll(true, -shift), 3)
    assert k == shift
    assert moved > 0.93
    assert (moved == unmoved) == (shift == 0)


def test_no_shift_is_told_of_too_few_epochs():
    assert best_shift(np.zeros(30), np.full(30, 3), 3) is None
    assert best_shift(np.zeros(90), np.full(90, 3), 3) is None
