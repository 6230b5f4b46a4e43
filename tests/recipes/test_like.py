"""From scratch, with the encoder of a run; and what ``compare`` says of encoders that differ."""

import json
import shutil

import numpy as np
import pytest

import partsig
from partsig.errors import ConfigError
from partsig.runs import directory as runs
from partsig.train import checkpoint

SHORT = {"fit.epochs": 1, "optim.warmup_epochs": 0, "fit.batch_size": 32}
CPU = {"device": "cpu"}


def tune(store, run, from_, like=None, subjects=6, **settings):
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return partsig.finetune(
        from_, store, run, like=like, subjects=subjects, overrides=SHORT | settings, **CPU
    )


def shape(run):
    config = runs.read(run)["config"]
    weights = checkpoint.load(run / "best.pt")["model"]
    keys = ("encoder", "patch_s", "positions", "pool")
    return {key: config[key] for key in keys}, {k: tuple(v.shape) for k, v in weights.items()}


@pytest.fixture(scope="module")
def tuned(made_once, encoder_run, sample_store):
    """From the pretrained run, from scratch like it and like what was tuned, and from scratch."""

    def make(folder):
        pretrained = tune(sample_store, folder / "pretrained", encoder_run)
        tune(sample_store, folder / "like", "scratch", encoder_run)
        tune(sample_store, folder / "like-tuned", "scratch", pretrained)
        small = {"encoder__width": 8, "encoder__depth": 1, "encoder__heads": 1}
        tune(sample_store, folder / "scratch", "scratch", **small)

    return made_once("like", make)


@pytest.mark.parametrize("name", ["like", "like-tuned"])
def test_all_but_the_weights_is_that_of_the_run(tuned, encoder_run, name):
    assert shape(tuned / name) == shape(tuned / "pretrained")
    assert shape(tuned / name)[0]["encoder"]["tokens"] == "linear+spectrum"
    record = runs.read(tuned / name)
    assert record["from"] == "scratch"
    assert record["like"] == str(encoder_run if name == "like" else tuned / "pretrained")
    assert record["pretraining"] is None
    assert record["pretraining_subjects"] == []
    begun = checkpoint.load(encoder_run / "checkpoints" / "step-000000002.pt")["model"]
    ended = checkpoint.load(tuned / name / "best.pt")["model"]
    key = "encoder.embed.weight"
    assert (begun[key] - ended[key]).abs().mean() > 0.01  # its own draws


def test_first_blocks_and_other_settings(encoder_run, sample_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tune(None, None, "scratch", encoder_run, blocks=1)  # its store is the run's
    assert run.name == "finetune-scratch-like-pretrain-n6-s0"
    assert runs.read(run)["config"]["encoder"]["depth"] == 1
    with pytest.raises(ConfigError, match=r"blocks is 3; .* 1"):
        tune(sample_store, tmp_path / "x", "scratch", encoder_run, blocks=3)
    with pytest.raises(ConfigError, match=r"^the encoder comes from --like .*width: 16, now 24"):
        tune(sample_store, tmp_path / "x", "scratch", encoder_run, encoder__width=24)
    with pytest.raises(ConfigError, match=r"^--like is for --from scratch, and for model=encoder"):
        tune(sample_store, tmp_path / "x", encoder_run, encoder_run)
    with pytest.raises(ConfigError, match=r"^--like is for --from scratch, and for model=encoder"):
        tune(sample_store, tmp_path / "x", "scratch", encoder_run, model="logistic")
    assert not (tmp_path / "x").exists()


def test_a_gain_is_told_where_the_encoder_is_the_same(tuned, tmp_path):
    named = [f"scratch={tuned / 'like'}", f"part={tuned / 'pretrained'}"]
    found = partsig.compare(named, output=tmp_path, **CPU)
    rows = {row.method: row for row in found.rows}
    assert rows["part"].other_encoder == ""
    assert rows["part"].gain == pytest.approx(rows["part"].score - rows["scratch"].score)
    assert "another encoder" not in found.markdown


@pytest.mark.parametrize("against", ["scratch", "part"])
def test_no_gain_of_pretraining_is_told_of_another_encoder(tuned, tmp_path, against):
    named = [f"scratch={tuned / 'scratch'}", f"part={tuned / 'pretrained'}"]
    found = partsig.compare(named, against=against, output=tmp_path, **CPU)
    row = next(row for row in found.rows if row.method != against)
    assert (row.gain, row.gain_interval) == (None, None)
    assert "tokens: linear" in row.other_encoder
    assert "width: " in row.other_encoder
    assert "| another encoder |" in found.markdown
    assert f"{row.method} (6) has another encoder than {against} (width: " in found.markdown
    assert "partsig finetune --from scratch --like RUN" in found.markdown
    assert row.other_encoder in (tmp_path / "compare.csv").read_text()


def test_two_pretrained_encoders_are_compared_and_said_to_differ(tuned, tmp_path):
    other = shutil.copytree(tuned / "scratch", tmp_path / "other")
    record = runs.read(other) | {"from": "runs/pretrain-other-s0"}
    (other / "run.json").write_text(json.dumps(record))
    named = [f"part={tuned / 'pretrained'}", f"other={other}"]
    found = partsig.compare(named, output=tmp_path / "compare", **CPU)
    assert found.rows[1].gain is not None
    assert "other (6) has another encoder than part (" in found.markdown
    assert "): their difference is no gain of pretraining." in found.markdown


def test_one_class_to_learn_from_is_refused_whatever_is_trained(
    encoder_run, sample_store, tmp_path
):
    store = shutil.copytree(sample_store, tmp_path / "store")
    for file in (store / "labels").iterdir():
        labels = np.load(file)
        np.save(file, np.where(labels >= 0, 2, labels).astype(np.int8))
    for settings in ({}, {"train": "probe"}, {"train": "knn"}, {"train": "probe+full"}):
        with pytest.raises(
            ConfigError, match=r"^one class only among the training labels; noth.*N2"
        ):
            tune(store, tmp_path / "run", encoder_run, **settings)
    for model in ("logistic", "boosting", "chambon2018"):
        with pytest.raises(ConfigError, match=r"^one class only among the training labels"):
            tune(store, tmp_path / "run", "scratch", model=model)
    assert not (tmp_path / "run").exists()
