"""A task of fewer classes than its store: trained, judged, compared, exported as such."""

import csv

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.interop import PartStager
from partsig.runs.run import Run
from partsig.tasks import registry
from partsig.tasks.classification import Classification
from partsig.tasks.relabelled import merged, merged_labels
from partsig.verbs.compare import compare
from partsig.verbs.embed import embed
from partsig.verbs.evaluate import evaluate
from partsig.verbs.export import export
from partsig.verbs.finetune import finetune

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
SHORT = {"fit.epochs": 2, "fit.batch_size": 32, "optim.warmup_epochs": 0, "optim.lr": 5e-2}
GROUPS = {"awake": ["W"], "asleep": ["N1", "N2", "N3", "REM"]}


class WakeOrSleep(Classification):
    name = "wake-or-sleep"

    def learned(self, labels):
        return merged_labels(labels, GROUPS)

    def relabel(self, examples):
        return merged(examples, GROUPS)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(registry.TASKS, WakeOrSleep.name, f"{__name__}:WakeOrSleep")


def tuned(store, run, **settings):
    options = {"subjects": 8, "device": "cpu", "task": WakeOrSleep.name}
    return finetune("scratch", store, run, overrides=TINY | settings, **options)


@pytest.mark.parametrize(
    "settings",
    [
        SHORT | {"balanced": True},
        {"train": "probe", "pool": "mean+sd"},
        {"train": "knn", "pool": "mean+sd"},
        SHORT | {"train": "probe+full"},
        {"model": "boosting"},
    ],
    ids=lambda settings: settings.get("train", settings.get("model", "full")),
)
def test_every_way_of_training_learns_the_merged_classes(sample_store, tmp_path, settings):
    run = tuned(sample_store, tmp_path / "run", **settings)
    assert Run.read(run).labels.classes == ("awake", "asleep")
    measured = evaluate(run, device="cpu", figures=True)
    assert np.shape(measured.metrics["confusion"]) == (2, 2)
    with open(measured.path / "predictions.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    store = open_store(sample_store)
    for row in rows:
        code = store.labels(row["recording"])[int(row["epoch"])]
        assert row["truth"] == ("awake" if store.classes[code] == "W" else "asleep")
    kappa = cohen_kappa_score([r["truth"] for r in rows], [r["prediction"] for r in rows])
    expected = measured.metrics["kappa"]
    assert (0.0 if np.isnan(kappa) else kappa) == pytest.approx(expected or 0.0)


def test_it_is_compared_embedded_and_exported(sample_store, tmp_path):
    run = tuned(sample_store, tmp_path / "run", train="probe", pool="mean+sd")
    other = tuned(sample_store, tmp_path / "other", model="logistic")
    table = compare([run, other], output=tmp_path / "table", device="cpu")
    assert len(table.rows) == 2
    assert embed(run, output=tmp_path / "e.npz", device="cpu").n > 100
    exported = export(run, tmp_path / "out")
    stager = PartStager.from_pretrained(exported.path)
    assert stager(torch.randn(4, 3, 3000)).shape == (4, 2)


def test_a_task_has_one_name(sample_store, tmp_path, monkeypatch):
    assert all(registry.get(name).name == name for name in registry.TASKS)
    monkeypatch.setitem(registry.TASKS, "awake", f"{__name__}:WakeOrSleep")
    with pytest.raises(ConfigError, match="--task awake is called 'wake-or-sleep'"):
        finetune("scratch", sample_store, tmp_path / "run", task="awake", device="cpu")


def test_what_tells_other_things_apart_is_refused(sample_store, tmp_path):
    run = tuned(sample_store, tmp_path / "run", train="probe")
    whole = finetune(
        "scratch",
        sample_store,
        tmp_path / "whole",
        subjects=8,
        overrides=TINY | {"train": "probe"},
        device="cpu",
    )
    with pytest.raises(DataError, match=r"of other classes|other things apart"):
        compare([run, whole], output=tmp_path / "table", device="cpu")
    with pytest.raises(DataError, match=r"tells awake, asleep apart; what is learned here is W, "):
        finetune(
            "scratch",
            sample_store,
            tmp_path / "student",
            subjects=8,
            teacher=run,
            overrides=TINY | SHORT,
            device="cpu",
        )
    assert not (tmp_path / "student").exists()
