"""Features of epochs as a store of their own: the same numbers, labels and subjects."""

import json
import shutil

import numpy as np
import pytest

import partsig
from partsig.data.signals import growing_index
from partsig.data.signals.bands import band_powers
from partsig.data.signals.scaling import scale_robustly
from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.modalities import signal_features
from partsig.modalities.signal_dataset import open_dataset
from partsig.runs.epoch_features import FILE, WEIGHTS, read_recipe
from partsig.train import checkpoint


@pytest.fixture(scope="module")
def store(tmp_path_factory, write_night):
    folder = tmp_path_factory.mktemp("features")
    for number in range(3):
        write_night(folder / "raw", f"tr03-{number:04d}", seconds=305.0)
    partsig.preprocess("physionet2018", folder / "raw", folder / "store", jobs=1)
    return folder / "store"


@pytest.fixture(scope="module")
def run(store):
    settings = {
        "encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1,
        "fit.batch_size": 2, "windows_per_epoch": 2, "optim.warmup_epochs": 1,
    }  # fmt: skip
    return partsig.pretrain(store, store.parent / "run", overrides=settings)


def test_band_powers_are_a_store(store, tmp_path):
    target = tmp_path / "bands"
    done = partsig.embed(None, store, as_store=True, features_of="bands", output=target)
    made, source = open_store(target), open_store(store)
    assert done.n == 30
    assert done.width == 66
    assert made.sfreq == 1 / 30
    assert made.ch_names[:2] == ("F3-M2 0.5-2 Hz", "F3-M2 2-4 Hz")
    assert made.subjects == source.subjects
    for name in source.recordings:
        assert made.labels(name).tolist() == source.labels(name).tolist()
        windows = source.signal(name)[:, :30_000].reshape(6, 10, 3000).transpose(1, 0, 2)
        expected = np.ascontiguousarray(band_powers(windows, 100.0).T, np.float32)
        scale_robustly(expected)
        np.testing.assert_allclose(made.signal(name), expected, atol=1e-4)
        key = "fingerprint"
        assert made.recordings[name][key] == source.recordings[name][key]


def test_embeddings_are_those_of_the_file_and_tell_whom_the_run_has_seen(store, run, tmp_path):
    target = tmp_path / "both"
    done = partsig.embed(run, as_store=True, features_of="both", output=target, device="cpu")
    plain = partsig.embed(run, output=tmp_path / "e.npz", device="cpu")
    assert done.width == plain.width + 66
    made = open_store(target)
    with np.load(plain.path) as content:
        mine = content["recording"] == "tr03-0001"
        expected = np.ascontiguousarray(content["embeddings"][mine].T)
    scale_robustly(expected)
    np.testing.assert_allclose(
        made.signal("tr03-0001")[: plain.width], expected, atol=1e-3, rtol=1e-3
    )
    facts = json.loads((target / "meta.json").read_text())["reading"]["features"]
    seen = json.loads((run / "run.json").read_text())["subjects_seen"]
    assert facts["subjects_pretraining"] == seen


def test_what_was_written_is_kept(store, tmp_path):
    target = tmp_path / "bands"
    asked = {"as_store": True, "features_of": "bands", "output": target}
    partsig.embed(None, store, recordings=["tr03-0001"], **asked)
    file = target / "signals" / "tr03-0001.npy"
    before = file.stat().st_mtime_ns
    partsig.embed(None, store, **asked)
    assert file.stat().st_mtime_ns == before
    assert len(open_store(target).rows) == 3


def test_the_index_is_not_written_anew_with_every_recording(store, tmp_path, monkeypatch):
    written = []
    once = signal_features.write_index
    monkeypatch.setattr(
        signal_features, "write_index", lambda *given: (written.append(given), once(*given))
    )
    monkeypatch.setattr(growing_index, "INDEX_EVERY_S", 3600.0)
    target = tmp_path / "bands"
    partsig.embed(None, store, as_store=True, features_of="bands", output=target)
    assert len(written) == 1
    assert len(open_store(target).rows) == 3


def test_what_cannot_be_is_told(store, tmp_path):
    with pytest.raises(ConfigError, match="add that"):
        partsig.embed(None, store, features_of="bands")
    with pytest.raises(ConfigError, match="--features"):
        partsig.embed(None, store, features_of="all", as_store=True)
    target = tmp_path / "bands"
    partsig.embed(None, store, as_store=True, features_of="bands", output=target)
    with pytest.raises(ConfigError, match="none of the bands"):
        partsig.embed(None, target, as_store=True, features_of="bands", output=tmp_path / "again")
    with pytest.raises(ConfigError, match="pass --store"):
        partsig.embed(None, as_store=True, features_of="bands")


def test_a_store_of_another_encoder_is_not_gone_on_with(store, run, tmp_path):
    """The same name, other weights: half of the recordings would be another's features."""
    own = tmp_path / "run"
    shutil.copytree(run, own)
    asked = {"as_store": True, "output": tmp_path / "features", "device": "cpu"}
    partsig.embed(own, store, recordings=["tr03-0001"], **asked)
    file = checkpoint.newest(own)
    content = checkpoint.load(file)
    content["model"]["encoder.cls"] += 1
    checkpoint.save(file, content)
    with pytest.raises(DataError, match="made otherwise, by another encoder"):
        partsig.embed(own, store, **asked)
    assert len(open_store(tmp_path / "features").rows) == 1


def test_a_store_that_an_older_partsig_began_is_not_said_to_be_this_encoders(store, run, tmp_path):
    target = tmp_path / "features"
    asked = {"as_store": True, "output": target, "device": "cpu"}
    partsig.embed(run, store, recordings=["tr03-0001"], **asked)
    for name in (FILE, WEIGHTS):
        (target / name).unlink()
    partsig.embed(run, store, **asked)
    assert len(open_store(target).rows) == 3
    assert read_recipe(target) is None


def test_another_stores_recipe_is_told(store, tmp_path):
    asked = {"as_store": True, "features_of": "bands"}
    partsig.embed(None, store, output=tmp_path / "bands", **asked)
    file = tmp_path / "bands" / FILE
    facts = json.loads(file.read_text())
    facts["names"][0] = "another"
    file.write_text(json.dumps(facts))
    with pytest.raises(DataError, match="tells of other features than the store holds"):
        _ = open_dataset(tmp_path / "bands").recipe
