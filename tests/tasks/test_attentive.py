"""The attentive probe as a way of training: on images and on signals, by the same commands."""

import json

import numpy as np
import pytest
import torch

import partsig
from partsig.core.objectives.supervised import Classifier
from partsig.data.images.examples import LabelledImages
from partsig.data.images.store import open_images
from partsig.errors import ConfigError
from partsig.runs import directory
from partsig.runs.models import load_encoder
from partsig.runs.run import Run
from partsig.tasks import on_features
from partsig.tasks.classification import Classification
from partsig.train import checkpoint

CPU = {"device": "cpu"}
SCRATCH = {"encoder.width": 32, "encoder.depth": 1, "encoder.heads": 2, "patch_px": 2}
SCRATCH |= {"positions": "sincos"}
HEAD = {
    "train": "attentive", "fit.epochs": 30, "optim.warmup_epochs": 2, "optim.lr": 2e-2,
    "fit.batch_size": 64,
}  # fmt: skip


def probe(digits, path, **more):
    overrides = SCRATCH | HEAD | more
    return partsig.finetune(
        "scratch", digits, path, overrides=overrides, segments_per_class=40, **CPU
    )


def weights(run):
    return checkpoint.load(run / "best.pt", "finetune")["model"]


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    return probe(digits, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def short(digits, tmp_path_factory):
    return probe(digits, tmp_path_factory.mktemp("runs") / "run", **{"fit.epochs": 3})


def test_tokens_of_a_random_encoder_tell_digits_apart(run, digits):
    found = partsig.evaluate(run, figures=False, **CPU).metrics
    assert found["accuracy"] > 0.75  # of ten; a line on the mean has .55
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["train"] == "attentive"
    assert record["chosen_epoch"] >= 1


def test_an_item_is_told_the_same_alone(run, digits):
    task, store = Classification(), open_images(digits)
    model = task.load(Run.read(run))
    some = LabelledImages(store, store.members("test")[:9], 8)
    alone = [LabelledImages(store, some.index[i : i + 1], 8) for i in range(9)]
    whole = task.predict(model, some, torch.device("cpu"))
    each = np.concatenate([task.predict(model, one, torch.device("cpu")) for one in alone])
    np.testing.assert_allclose(each, whole, atol=1e-5)


def test_each_item_is_encoded_once_and_the_same_in_a_file(short, digits, tmp_path, monkeypatch):
    counted, tokens = [], Classifier.tokens

    def counting(self, x):
        counted.append(len(x))
        return tokens(self, x)

    monkeypatch.setattr(Classifier, "tokens", counting)
    monkeypatch.setattr(on_features, "IN_MEMORY", 0)
    again = probe(digits, tmp_path / "run", **{"fit.epochs": 3})
    store = open_images(digits)
    n_val = int((store.labels[store.members("val")] >= 0).sum())
    # Training items, validation to choose the epoch by, and once more when that is calibrated.
    assert sum(counted) == 400 + 2 * n_val
    mine, theirs = (
        checkpoint.load(path / "best.pt", "finetune")["model"] for path in (short, again)
    )
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value)
    assert {file.name for file in again.iterdir()} == {file.name for file in short.iterdir()}


def test_no_room_for_the_features_is_told(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(on_features, "IN_MEMORY", 0)
    monkeypatch.setattr(on_features.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9}))
    with pytest.raises(ConfigError, match=r"400 images takes 0\.0 GB, and .* has room for"):
        probe(digits, tmp_path / "run")


def test_a_run_that_was_killed_behind_its_training_goes_on(short, digits, tmp_path, monkeypatch):
    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(directory, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            probe(digits, tmp_path / "run", **{"fit.epochs": 3})
    again = probe(digits, tmp_path / "run", **{"fit.epochs": 3})
    mine, theirs = (
        checkpoint.load(path / "best.pt", "finetune")["model"] for path in (short, again)
    )
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value)


def test_epochs_of_a_night_by_the_same_code(encoder_run, sample_store, tmp_path):
    path = partsig.finetune(
        encoder_run, sample_store, tmp_path / "run", subjects=12,
        overrides={**HEAD, "fit.epochs": 5}, **CPU,
    )  # fmt: skip
    found = partsig.evaluate(path, figures=False, **CPU).metrics
    assert len(found["f1"]) == 5
    theirs = load_encoder(encoder_run).encoder.state_dict()
    mine = weights(path)
    for name, value in theirs.items():  # the encoder is left as it is
        torch.testing.assert_close(mine[f"net.encoder.{name}"], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pool": "mean"}, "asks every token, and pools none: leave out pool=mean"),
        ({"loss.mixup": 0.2}, r"each encoded once: leave out loss\.mixup"),
    ],
)
def test_what_it_has_no_use_for_is_refused(digits, tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        probe(digits, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("train", ["probe", "knn", "attentive"])
def test_a_teacher_is_for_what_is_trained(train, encoder_run, sample_store, tmp_path):
    with pytest.raises(ConfigError, match=f"leave it out, or train={train}"):
        partsig.finetune(
            encoder_run, sample_store, tmp_path / "run", subjects=6, teacher=tmp_path,
            overrides={"train": train}, **CPU,
        )  # fmt: skip
