"""A warm-up that is longer than the training is refused, with the number that would do."""

import pytest

from partsig.errors import ConfigError
from partsig.runs.run import Run
from partsig.train.settings import FitConfig, OptimConfig, check_warmup
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

TOLD = (
    r"^optim\.warmup_epochs \(20\) is more than fit\.epochs \(3\): the rate would never reach "
    r"optim\.lr\. Set optim\.warmup_epochs to 0\.3, a tenth of the training; it may be at most 3\.$"
)
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.batch_size": 8}
LONG = {"fit.epochs": 1, "optim.warmup_epochs": 2}


def test_it_may_be_as_long_as_the_training_and_no_longer():
    check_warmup(OptimConfig(warmup_epochs=3), FitConfig(epochs=3))
    with pytest.raises(ConfigError, match=TOLD):
        check_warmup(OptimConfig(), FitConfig(epochs=3))


def test_a_pretraining_is_not_begun_but_one_that_was_goes_on(sample_store, tmp_path):
    run = tmp_path / "run"
    settings = TINY | {"windows_per_epoch": 8, "fit.epochs": 1, "split.monitor_subjects": 0}
    with pytest.raises(ConfigError, match=r"^optim\.warmup_epochs \(20\) is more than fit\.epoch"):
        pretrain(sample_store, run, overrides=settings, gpus=0)
    assert not run.exists()
    begun = pretrain(
        sample_store, tmp_path / "other", overrides=settings | LONG, gpus=0, profile=True
    )
    assert begun.name == "other"  # a profile trains nothing


def test_a_run_that_was_begun_so_goes_on(sample_store, tmp_path):
    short = TINY | {"windows_per_epoch": 8, "fit.epochs": 1, "split.monitor_subjects": 0}
    run = tmp_path / "run"
    pretrain(sample_store, run, overrides=short | {"optim.warmup_epochs": 1}, gpus=0)
    facts = (run / "run.json").read_text().replace('"warmup_epochs": 1.0', '"warmup_epochs": 2.0')
    (run / "run.json").write_text(facts)
    assert pretrain(sample_store, run, overrides=short | LONG, gpus=0) == run


@pytest.mark.parametrize("settings", [{}, {"train": "probe+full"}, {"model": "chambon2018"}])
def test_no_network_is_tuned_so(settings, encoder_run, sample_store, tmp_path):
    origin = "scratch" if "model" in settings else encoder_run
    with pytest.raises(ConfigError, match=r"^optim\.warmup_epochs \(2\) is more than fit\.epochs"):
        finetune(origin, sample_store, tmp_path / "run", overrides=settings | LONG, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"train": "probe"}, {"model": "logistic"}])
def test_what_is_not_trained_by_steps_has_no_warm_up(settings, encoder_run, sample_store, tmp_path):
    origin = "scratch" if "model" in settings else encoder_run
    run = finetune(origin, sample_store, tmp_path / "run", overrides=settings | LONG, device="cpu")
    assert Run.read(run).facts["state"] == "finished"
