"""``encoder.attention=patch``: a setting that no weight tells, so every door has to ask for it."""

import json

import pytest

import partsig
from partsig.errors import CheckpointError, ConfigError
from partsig.interop import PartStager
from partsig.runs.models import load_encoder

SHORT = {
    "encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1,
    "fit.batch_size": 4, "windows_per_epoch": 4, "optim.warmup_epochs": 0,
    "split.monitor_subjects": 0,
}  # fmt: skip
ALONE = {
    "encoder.attention": "patch",
    "objective.name": "relative-positioning",
    "objective.near": 4.0,
}
TUNED = {"fit.epochs": 1, "fit.batch_size": 8, "optim.warmup_epochs": 0, "split.val_subjects": 2}


@pytest.fixture(scope="module")
def alone(sample_store, tmp_path_factory):
    """An encoder that was pretrained with patches that see themselves alone."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return partsig.pretrain(sample_store, run, overrides=SHORT | ALONE, gpus="0")


def tune(origin, store, run, **settings):
    own = {"subjects": 4, "device": "cpu", "overrides": TUNED | settings}
    return partsig.finetune(origin, store, run, **own)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["window", None])
def test_pretraining_does_not_go_on_with_another(alone, sample_store, tmp_path, attention):
    own = {} if attention is None else {"encoder.attention": attention}
    own |= {"objective.name": "part"}
    with pytest.raises(
        CheckpointError, match=r"another encoder \(encoder\.attention: patch, now w"
    ):
        partsig.pretrain(sample_store, tmp_path / "a", from_=alone, overrides=SHORT | own)


@pytest.mark.slow
def test_what_is_asked_of_a_brought_encoder_is_refused_though_it_is_usual(
    alone, sample_store, tmp_path
):
    with pytest.raises(ConfigError, match=r"leave out encoder\.attention: patch, now window"):
        tune(alone, sample_store, tmp_path / "a", **{"encoder.attention": "window"})
    with pytest.raises(ConfigError, match=r"leave out encoder\.width: 16, now 512"):
        tune(alone, sample_store, tmp_path / "a", **{"encoder.width": 512})


@pytest.mark.slow
def test_a_frozen_cls_that_nothing_has_trained_is_not_read(alone, sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"may have learned nothing: pass --set pool=mean"):
        tune(alone, sample_store, tmp_path / "a", train="probe")
    run = tune(alone, sample_store, tmp_path / "b", train="probe", pool="mean")
    facts = json.loads((run / "run.json").read_text())
    assert facts["config"]["encoder"]["attention"] == "patch"
    card = (partsig.export(run, tmp_path / "out").path / "README.md").read_text()
    assert "linear tokens, each attending to itself alone" in " ".join(card.split())
    whole = tune(alone, sample_store, tmp_path / "c")  # [CLS] is trained, then
    assert json.loads((whole / "run.json").read_text())["config"]["pool"] == "cls"


def test_an_encoder_without_a_run_may_have_it():
    stager = PartStager(
        n_chans=2, n_outputs=5, n_times=600, sfreq=100, width=16, heads=2, attention="patch"
    )
    assert stager.classifier.encoder.config.attention == "patch"


@pytest.mark.slow
def test_the_key_is_kept(alone):
    assert load_encoder(alone).settings.encoder.attention == "patch"
