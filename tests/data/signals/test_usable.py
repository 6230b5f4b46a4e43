"""Which epochs speak for a recording: a pause, or a recorder left on, must not set its scale."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import partsig
from partsig.data.signals import scaling
from partsig.data.signals.scaling import SCALED_UNIT, USUAL_UNIT, scale_robustly
from partsig.data.signals.store import open_store
from partsig.data.signals.usable import usable_epochs

place = Path(__file__).parents[2] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)

NAMES, SFREQ, EPOCHS = ("C3-M2", "C4-M1", "E1-M2"), 100, 30
EPOCH = 30 * SFREQ


@pytest.fixture
def signal():
    """Noise of 20 µV: three channels, thirty epochs."""
    return np.random.default_rng(0).normal(0, 20, (3, EPOCHS * EPOCH)).astype(np.float32)


def found(signal, unit=USUAL_UNIT, sfreq=SFREQ, **own):
    return usable_epochs(
        signal, ch_names=NAMES[: len(signal)], sfreq=sfreq, unit_s=30.0, unit=unit, **own
    )


def test_of_a_whole_recording_all_are(signal):
    assert found(signal).shape == (4, EPOCHS)
    assert found(signal).all()


@pytest.mark.parametrize("unit", [USUAL_UNIT, SCALED_UNIT])
def test_what_is_flat_or_missing_is_not(signal, unit):
    scale = 27 if unit == SCALED_UNIT else 1
    signal[:, 20 * EPOCH :] = 0.1 * signal[:, 20 * EPOCH :].clip(-1, 1)  # a recorder left on
    rows = found(signal / np.float32(scale), unit, gaps=[(60.0, 120.0), (150.0, 150.0)])
    expected = np.ones(EPOCHS, bool)
    expected[20:] = expected[2:4] = False
    np.testing.assert_array_equal(rows, np.tile(expected, (4, 1)))


def test_what_no_head_makes_is_not(signal):
    """Mains on an electrode that came off; in interquartile ranges nothing is too large."""
    signal[:, 15 * EPOCH :] *= 100
    assert found(signal).sum(1).tolist() == [15] * 4
    assert found(signal / 27, SCALED_UNIT).all()


def test_a_channel_that_is_lost_is_its_own_matter(signal):
    signal[0, 10 * EPOCH :] = 0
    rows = found(signal)
    assert rows.sum(1).tolist() == [10, EPOCHS, EPOCHS, EPOCHS]  # two of three are enough
    signal[0] = 0  # from beginning to end, as one that was filled
    rows = found(signal, gaps=[(0.0, 30.0)])
    assert rows.sum(1).tolist() == [EPOCHS - 1] * 4


def test_where_little_is_usable_all_that_is_there_speaks(signal):
    signal[:, 2 * EPOCH :] = 0
    assert found(signal, gaps=[(0.0, 30.0)]).sum(1).tolist() == [EPOCHS - 1] * 4
    assert found(signal, gaps=[(0.0, 900.0)]).all()  # nothing is


@pytest.mark.parametrize("junk", [0.0, 0.05, 0.3, 200.0, 2000.0])
def test_what_is_not_the_sleeper_may_be_most_of_it(signal, junk):
    """An amplitude that would be an EEG's in another unit does not make that unit the right one."""
    rng = np.random.default_rng(1)
    signal[:, 12 * EPOCH :] = rng.normal(0, junk, (3, 18 * EPOCH))
    rows = found(signal)
    np.testing.assert_array_equal(rows, np.tile(np.arange(EPOCHS) < 12, (4, 1)))


def test_a_wrong_unit_is_no_fault_of_one_epoch(signal):
    signal[:, 20 * EPOCH :] = 0
    assert found(signal * np.float32(1e-6)).sum(1).tolist() == [20] * 4


def test_what_cannot_be_judged_is_usable_where_it_is_there(signal):
    features = signal[:, :EPOCHS]
    assert found(features, sfreq=1 / 30, gaps=[(0.0, 60.0)]).sum(1).tolist() == [28] * 4
    assert found(signal[:, :EPOCH]).shape == (4, 1)
    assert found(signal[:, : EPOCH - 1]).shape == (4, 0)
    short = usable_epochs(
        signal[:, : 12 * SFREQ], ch_names=NAMES, sfreq=SFREQ, unit_s=5.0, unit=USUAL_UNIT
    )
    assert short.shape == (4, 2)
    assert short.all()


def test_of_long_recordings_the_scale_is_taken_of_some(signal, monkeypatch):
    """By so many samples that memory does not grow with them; the same wherever it is read."""
    signal[:, 20 * EPOCH :] = 0
    usable, expected = found(signal), signal.copy()
    monkeypatch.setattr(scaling, "MOST", 7_000)
    monkeypatch.setattr(scaling, "PIECE", 10_001)
    step = -(-EPOCHS * EPOCH // 7_000)
    scale_robustly(signal, usable, EPOCH)
    for c in range(3):
        some = expected[c, : 20 * EPOCH : step].astype(float)
        low, middle, high = np.quantile(some, (0.25, 0.5, 0.75))
        wanted = (expected[c] - middle) / (high - low)
        np.testing.assert_allclose(signal[c], wanted, atol=1e-5)


def test_only_what_is_usable_sets_the_scale(signal):
    alone = signal[:, : 20 * EPOCH].copy()
    signal[:, 20 * EPOCH :] = 0
    scale_robustly(signal, found(signal), EPOCH)
    scale_robustly(alone)
    np.testing.assert_array_equal(signal[:, : 20 * EPOCH], alone)
    low, middle, high = np.quantile(alone, (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(high - low, 1, rtol=1e-4)
    np.testing.assert_allclose(middle, 0, atol=1e-4)


def test_a_night_of_features_is_scaled_as_if_its_gap_was_not(tmp_path, nights):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=1, n=40)
    at = np.r_[0:20, 60:80]
    gap = nights.write_nights(tmp_path / "gap", n_subjects=1, n=40, **{"00__1": {"t": 30.0 * at}})
    stores = []
    for folder in (raw, gap):
        partsig.preprocess("feature-nights", folder, folder.parent / f"{folder.name}-s", jobs=1)
        stores.append(open_store(folder.parent / f"{folder.name}-s"))
    whole, bridged = (store.signal("00__1") for store in stores)
    assert bridged.shape[1] == 80
    np.testing.assert_allclose(bridged[:, at], whole, atol=1e-6)


def test_signals_are_scaled_by_what_is_there(tmp_path):
    raw_nights.write_night(tmp_path / "raw" / "s.edf", 0, gap=raw_nights.GAP)
    own = {"channels": list(NAMES), "normalise": "recording"}
    partsig.preprocess("edf", tmp_path / "raw", tmp_path / "store", overrides=own, jobs=1)
    signal = open_store(tmp_path / "store").signal("s")
    there = np.ones(raw_nights.EPOCHS, bool)
    there[slice(*raw_nights.GAP)] = False
    known = signal.reshape(3, -1, EPOCH)[:, there].reshape(3, -1).astype(float)
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(high - low, 1, rtol=1e-4)
    np.testing.assert_allclose(middle, 0, atol=1e-4)
