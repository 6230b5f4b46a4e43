"""A value that is not finite in a store: whoever meets it names the recording, in a sentence."""

import shutil

import numpy as np
import pytest

import partsig
from partsig.data.signals.store import open_store
from partsig.errors import DataError
from partsig.recipes.evaluation import StoreChangedWarning
from partsig.runs import directory as runs

SHORT = {"fit.epochs": 1, "optim.warmup_epochs": 0, "fit.batch_size": 32}
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def tuned(made_once, encoder_run, sample_store):
    def make(folder):
        partsig.finetune(
            encoder_run, sample_store, folder / "run", subjects=12, overrides=SHORT, **CPU
        )

    return made_once("not-finite", make) / "run"


@pytest.fixture
def damaged(tuned, sample_store, tmp_path):
    """A function that returns a store with one value of a subject of a role that is not finite."""

    def make(role, value=np.nan):
        store = shutil.copytree(sample_store, tmp_path / "store")
        name = open_store(store).subjects[runs.read(tuned)["split"][role][0]][0]
        file = store / "signals" / f"{name}.npy"
        signal = np.load(file)
        signal[0, 3100] = value
        np.save(file, signal)
        told = (
            rf"{name}\.npy holds values that are not finite, the first at sample 3,100 \(epoch 1\)"
        )
        return store, told

    return make


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("train", ["full", "probe", "knn", "probe+full"])
def test_whatever_is_trained(damaged, encoder_run, tmp_path, train, value):
    store, told = damaged("train", value)
    settings = SHORT | {"train": train}
    with pytest.raises(DataError, match=told):
        partsig.finetune(
            encoder_run, store, tmp_path / "run", subjects=12, overrides=settings, **CPU
        )


@pytest.mark.parametrize("model", ["logistic", "boosting", "chambon2018"])
def test_baselines(damaged, tmp_path, model):
    store, told = damaged("train")
    settings = SHORT | {"model": model}
    with pytest.raises(DataError, match=told):
        partsig.finetune("scratch", store, tmp_path / "run", subjects=12, overrides=settings, **CPU)


def test_validation(damaged, encoder_run, tmp_path):
    store, told = damaged("val")
    with pytest.raises(DataError, match=told):
        partsig.finetune(encoder_run, store, tmp_path / "run", subjects=12, overrides=SHORT, **CPU)


def test_evaluate_and_embed(damaged, tuned, encoder_run, tmp_path):
    store, told = damaged("test")
    run = shutil.copytree(tuned, tmp_path / "run")
    runs.write_json(run / "run.json", runs.read(run) | {"store": str(store)})
    with (
        pytest.warns(StoreChangedWarning, match=r"store was changed after"),
        pytest.raises(DataError, match=told),
    ):
        partsig.evaluate(run, figures=False, **CPU)
    for model in (run, encoder_run):
        with pytest.raises(DataError, match=told):
            partsig.embed(model, store, output=tmp_path / "e.npz", **CPU)
    assert not (tmp_path / "e.npz").exists()


def test_what_pretraining_is_measured_on(encoder_run, sample_store, tmp_path):
    facts = runs.read(encoder_run)
    monitor = sorted(set(facts["subjects_seen"]) - set(facts["subjects_trained"]))
    store = shutil.copytree(sample_store, tmp_path / "store")
    for subject in monitor:
        for name in open_store(store).subjects[subject]:
            file = store / "signals" / f"{name}.npy"
            np.save(file, np.full_like(np.load(file), np.nan))
    settings = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    settings |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
    settings |= {"window_s": 5, "objective.patches": 5, "split.monitor_subjects": 4}
    with pytest.raises(DataError, match=r"the pretext cannot be measured: 8 of its 8 .* of sp"):
        partsig.pretrain(store, tmp_path / "run", overrides=settings, gpus=0)
