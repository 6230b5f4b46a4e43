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

SLOW = {"sfreq": 0.5, "l_freq": None, "h_freq": None}


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
    own = {"features_of": "bands", "as_store": True}
    with pytest.raises(
        ConfigError, match=r"bands are of no run: leave out --run, and pass --store"
    ):
        partsig.embed(tmp_path / "run", store, **own)
    with pytest.raises(ConfigError, match=r"leave them out, or pass --features run or both"):
        partsig.embed(None, store, components=4, **own)
    target = tmp_path / "bands"
    partsig.embed(None, store, as_store=True, features_of="bands", output=target)
    # Of features the features are these; of signals too slow for any band there are none.
    again = tmp_path / "again"
    partsig.embed(None, target, as_store=True, features_of="bands", output=again)
    assert open_store(again).ch_names == open_store(target).ch_names
    slow = tmp_path / "slow"
    partsig.preprocess("physionet2018", store.parent / "raw", slow, jobs=1, overrides=SLOW)
    with pytest.raises(ConfigError, match="none of the bands"):
        partsig.embed(None, slow, as_store=True, features_of="bands", output=tmp_path / "none")
    with pytest.raises(ConfigError, match="pass --store"):
        partsig.embed(None, as_store=True, features_of="bands")


@pytest.fixture(scope="module")
def nights(store):
    """Return a store of features, and a run on it with patches of three epochs."""
    target = store.parent / "bands-of-nights"
    partsig.embed(None, store, as_store=True, features_of="bands", output=target)
    settings = {
        "window_s": 270, "patch_s": 90, "objective.patches": 3, "encoder.width": 16,
        "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1, "fit.batch_size": 2,
        "windows_per_epoch": 2, "optim.warmup_epochs": 1,
    }  # fmt: skip
    return target, partsig.pretrain(target, store.parent / "night-run", overrides=settings)


def test_an_encoder_of_several_epochs_gives_each_its_token_beside_the_stores_own(nights, tmp_path):
    source, night_run = nights
    target = tmp_path / "both"
    done = partsig.embed(night_run, as_store=True, features_of="both", output=target, device="cpu")
    assert (done.width, done.pool) == (16 + 66, "token")
    made, own = open_store(target), open_store(source)
    assert made.ch_names[16:] == own.ch_names
    for name in own.recordings:
        expected = np.array(own.signal(name))
        scale_robustly(expected)
        np.testing.assert_allclose(made.signal(name)[16:], expected, atol=1e-4)
        assert np.ptp(made.signal(name)[:16], axis=1).min() > 0
    told = json.loads((target / "meta.json").read_text())["reading"]["features"]
    assert told["pool"] == "token"
    assert told["subjects_pretraining"]


def test_components_are_of_recordings_that_the_run_has_seen(nights, tmp_path):
    source, night_run = nights
    target = tmp_path / "few"
    done = partsig.embed(night_run, as_store=True, components=2, output=target, device="cpu")
    assert done.width == 2
    told = json.loads((target / "meta.json").read_text())["reading"]["features"]
    assert told["components"] == 2
    assert 0 < told["explained_share"] <= 1
    assert len(told["subjects_pretraining"]) < len(open_store(source).subjects)
    # The same axes whatever else the store holds: the unseen recordings have no part in them.
    every = open_store(target)
    seen = [
        n for n, row in every.recordings.items() if row["subject"] in told["subjects_pretraining"]
    ]
    again = tmp_path / "seen"
    partsig.embed(
        night_run, as_store=True, components=2, output=again, recordings=seen, device="cpu"
    )
    for name in seen:
        np.testing.assert_allclose(open_store(again).signal(name), every.signal(name), atol=1e-4)


def test_components_and_pools_that_cannot_be_are_refused_in_a_sentence(nights, run, tmp_path):
    _, night_run = nights
    with pytest.raises(ConfigError, match="for --as-store: add that"):
        partsig.embed(run, components=2)
    with pytest.raises(ConfigError, match="--components 99: 16 features of"):
        partsig.embed(night_run, as_store=True, components=99, output=tmp_path / "a")
    with pytest.raises(ConfigError, match="one token, and nothing to pool"):
        partsig.embed(night_run, as_store=True, pool="cls", output=tmp_path / "b")
    with pytest.raises(ConfigError, match=r"have its tokens amid .* by `partsig embed --as-store`"):
        partsig.embed(night_run, output=tmp_path / "c.npz")
    assert not list(tmp_path.iterdir())


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


def test_what_a_recording_alone_does_not_tell_is_not_kept_as_if_it_did(store):
    """Components, and tokens amid the epochs around: staging could not make them."""
    opened = open_store(store)
    given = {"bands": 1, "names": ("a",)}
    assert signal_features.recipe_for(opened, ["a"], given, None) is not None
    for more in ({"components": 8}, {"pool": "token"}):
        assert signal_features.recipe_for(opened, ["a"], given | more, None) is None
