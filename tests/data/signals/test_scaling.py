"""Robust scaling: medians and interquartile ranges of whole recordings, in memory and on disk."""

import numpy as np
import pytest

from partsig.data.signals.lazy import room
from partsig.data.signals.scaling import scale_robustly, spread_of
from partsig.data.signals.store import open_store
from partsig.verbs.preprocess import preprocess


@pytest.mark.parametrize("held", [None, 0])
def test_each_channel_has_median_zero_and_range_one(held):
    rng = np.random.default_rng(0)
    signal = room((3, 5000), np.float32, held=held)
    signal[:, :] = (rng.standard_normal((3, 5000)) * [[1], [50], [1e-3]] + 7).astype(np.float32)
    scale_robustly(signal)
    low, middle, high = np.quantile(np.asarray(signal).astype(float), (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(middle, 0, atol=1e-4)
    np.testing.assert_allclose(high - low, 1, rtol=1e-3)


def test_what_has_no_range_is_divided_by_its_spread():
    mostly = np.zeros(100)
    mostly[:10] = 5.0
    assert spread_of(mostly) == (0.0, pytest.approx(mostly.std()))
    assert spread_of(np.full(100, 3.0)) == (3.0, 1.0)


def test_recordings_of_signals_can_be_scaled_too(write_night, tmp_path):
    write_night(tmp_path / "raw")
    settings = {"normalise": "recording"}
    preprocess("physionet2018", tmp_path / "raw", tmp_path / "store", jobs=1, overrides=settings)
    preprocess("physionet2018", tmp_path / "raw", tmp_path / "plain", jobs=1)
    scaled, plain = open_store(tmp_path / "store"), open_store(tmp_path / "plain")
    assert scaled.meta["reading"] == {"normalise": "recording", "scaled_by": "usable epochs"}
    assert scaled.meta["unit"] == "interquartile range"
    assert "reading" not in plain.meta
    x = np.asarray(plain.signal("tr03-0001"), np.float64)
    low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=1, keepdims=True)
    np.testing.assert_allclose(scaled.signal("tr03-0001"), (x - middle) / (high - low), atol=1e-4)
