"""Nights of features as recordings: names, stages, gaps, scaling, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals.readers import feature_nights
from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.verbs.preprocess import preprocess

REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "sleep_edf_nights"


def test_a_night_is_a_recording_with_a_sample_an_epoch(nights, tmp_path):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=3)
    result = preprocess("feature-nights", raw, tmp_path / "store", jobs=1)
    assert result.n_recordings == 4
    assert result.counts["unscored"] == 12
    store = open_store(tmp_path / "store")
    assert store.sfreq == 1 / 30
    assert store.ch_names == ("power 0", "power 1", "power 2", "power 3")
    assert store.subjects["00"] == ["00__1", "00__2"]
    assert store.meta["unit"] == "interquartile range"
    assert store.meta["filter"]["l_freq"] is None
    x, y = nights.night(1, 160)
    assert store.labels("00__1").tolist() == [-1] * 3 + y[3:].tolist()
    low, middle, high = np.quantile(x.astype(np.float64), (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose(store.signal("00__1"), ((x - middle) / (high - low)).T, atol=1e-5)


def test_scaling_can_be_left_out_and_features_chosen(nights, tmp_path):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=3)
    settings = {"normalise": "none", "channels": ("power 2", "power 0")}
    preprocess("feature-nights", raw, tmp_path / "store", jobs=1, overrides=settings)
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.signal("01__1"), nights.night(2, 160)[0][:, [2, 0]].T)
    assert store.meta["unit"] == "units of its own"


def test_missing_epochs_are_a_gap_bridged_and_never_crossed(nights, tmp_path):
    at = np.r_[0:40, 50:120, 121:171]
    raw = nights.write_nights(tmp_path / "raw", n_subjects=2, **{"01__1": {"t": 30.0 * at}})
    settings = {"normalise": "none"}
    result = preprocess("feature-nights", raw, tmp_path / "store", jobs=1, overrides=settings)
    assert any("11 epochs are missing" in note for note in result.notes)
    store = open_store(tmp_path / "store")
    assert store.recordings["01__1"]["gaps"] == "1200-1500; 3600-3630"
    stretches = store.stretches("01__1")
    assert [s for s in stretches if s[1] - s[0] > 1] == [(0, 40), (50, 120), (121, 171)]
    assert sum(stop - start for start, stop in stretches) == 171
    assert (store.labels("01__1")[40:50] == -1).all()
    x = nights.night(2, 160)[0]
    bridge = np.interp(45, [39, 50], [x[39, 0], x[40, 0]])
    assert store.signal("01__1")[0, 45] == pytest.approx(bridge, abs=1e-5)


def test_the_same_call_again_reads_what_has_changed(nights, tmp_path):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=2)
    preprocess("feature-nights", raw, tmp_path / "store", jobs=1)
    before = {r["recording"]: r["sha256"] for r in open_store(tmp_path / "store").rows}
    nights.write_nights(raw, n_subjects=2, **{"01__1": {"x": nights.night(99, 160)[0]}})
    preprocess("feature-nights", raw, tmp_path / "store", jobs=1)
    after = {r["recording"]: r["sha256"] for r in open_store(tmp_path / "store").rows}
    assert {name for name in after if after[name] != before[name]} == {"01__1"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"y": np.full(160, 7)}, "y must be the stages"),
        ({"y": np.zeros(9, int)}, "y must be the stages"),
        ({"t": np.zeros(160)}, "one after the other"),
        ({"t": 31.0 * np.arange(160)}, "one after the other"),
        ({"t": np.full(160, np.nan)}, "t must be the seconds"),
        ({"x": np.full((160, 4), np.inf)}, "not finite"),
        ({"x": np.zeros((160, 5))}, "5 features an epoch, and 4 names"),
        ({"x": np.array([b"a"] * 160)}, "x must be numbers"),
    ],
)
def test_damage_is_told_of_its_night_alone(nights, tmp_path, changed, told):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=2, **{"01__1": changed})
    result = preprocess("feature-nights", raw, tmp_path / "store", jobs=1)
    assert list(result.failed) == ["01__1"]
    assert told in result.failed["01__1"]


def test_what_is_no_file_of_nights_is_told(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="pass --raw"):
        feature_nights.find_records(tmp_path / "raw")
    (tmp_path / "raw" / "a.npz").write_bytes(b"PK no zip at all")
    with pytest.raises(DataError, match="is not a file of nights"):
        feature_nights.find_records(tmp_path / "raw")
    np.savez(tmp_path / "raw" / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="holds no night"):
        feature_nights.find_records(tmp_path / "raw")


def test_filters_are_refused(nights, tmp_path):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=2)
    with pytest.raises(ConfigError, match="neither filtered nor resampled"):
        preprocess("feature-nights", raw, tmp_path / "store", overrides={"sfreq": 100})


def test_the_real_nights_are_read():
    if not REAL.is_dir():
        pytest.skip("the real nights are not at hand (../shared/data/sleep_edf_nights)")
    found = feature_nights.find_records(REAL)
    assert len(found) == 153
    recording = feature_nights.read_recording(found[0])
    assert recording.subject == "00"
    assert recording.stages.shape == (841,)
    assert recording.parts[0].signal.shape == (30, 841)
    assert recording.ch_names[10:12] == ("Pz-Oz delta", "Pz-Oz theta")
