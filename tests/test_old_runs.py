"""Stores and runs of an older partsig (``old_runs/``, commit e5e8458) are still good for all verbs.

Only the public verbs are used. Numbers are compared approximately: floats differ by machine.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import partsig
from partsig import seeds
from partsig.runs.run import Run

pytestmark = pytest.mark.slow

OLD = Path(__file__).parent / "old_runs"
CPU = {"device": "cpu"}
SHORT = {"fit.epochs": 2, "fit.batch_size": 16, "optim.warmup_epochs": 0}
KINDS = pytest.mark.parametrize("kind", ["signals", "images"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A copy of everything, where the test works: runs name their stores by relative paths."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def journal(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def losses(line):
    return {key: value for key, value in line.items() if key.endswith("loss")}


def settings_of(run):
    """The settings of a run as overrides: all that its run.json tells."""

    def flat(values, before=""):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{before}{key}.")
            else:
                yield before + key, value

    return dict(flat(read(Path(run, "run.json"))["config"]))


@KINDS
def test_a_fine_tuned_run_predicts_what_it_predicted(kind):
    run = Path("run", f"{kind}-tuned")
    known, measured = (
        rows(run / "evaluation" / "predictions.csv"),
        read(run / "evaluation/metrics.json"),
    )
    shutil.rmtree(run / "evaluation")
    found = partsig.evaluate(run, **CPU)
    again = rows(found.path / "predictions.csv")
    assert len(again) == len(known)
    assert again[0].keys() == known[0].keys()
    for one, other in zip(known, again, strict=True):
        for key, value in one.items():
            if key.startswith("p_") or key == "confidence":
                assert float(other[key]) == pytest.approx(float(value), abs=2e-3), key
            elif key != "prediction":
                assert other[key] == value, key
    score = "kappa" if kind == "signals" else "accuracy"
    assert measured[score] > 0.3  # it has learned, so that equal predictions say something
    assert found.metrics[score] == pytest.approx(measured[score], abs=0.05)


@KINDS
@pytest.mark.parametrize("run", ["", "-tuned"])
def test_every_epoch_or_image_is_embedded(kind, run):
    found = partsig.embed(f"run/{kind}{run}", **CPU)
    stored = [row for row in rows(f"store/{kind}/index.csv") if row["status"] == "ok"]
    n = len(stored) if kind == "images" else sum(int(row["n_epochs"]) for row in stored)
    assert found.n == n > 50
    with np.load(found.path) as arrays:
        widths = {arrays[key].shape for key in arrays.files if arrays[key].ndim == 2}
        assert (n, found.width) in widths


@KINDS
def test_a_store_goes_on_being_one(kind):
    """Pretraining from the start, by the same settings and streams, goes the same way."""
    old, run = Path("run", kind), Path("run", "again")
    options = {"modality": "image"} if kind == "images" else {}
    run.mkdir()
    record = {
        k: v for k, v in read(old / "run.json").items() if k not in ("finished", "parameters")
    }
    (run / "run.json").write_text(json.dumps(record | {"state": "running"}), encoding="utf-8")
    partsig.pretrain(f"store/{kind}", run, overrides=settings_of(old), gpus=0, **options)
    assert "streams" not in read(run / "run.json")
    for one, other in zip(journal(old), journal(run), strict=True):
        assert one["step"] == other["step"]
        assert losses(other) == pytest.approx(losses(one), rel=1e-3)


@KINDS
def test_a_new_run_draws_by_the_streams_of_today(kind):
    old = f"run/{kind}"
    options = {"modality": "image"} if kind == "images" else {}
    run = partsig.pretrain(
        f"store/{kind}", "run/new", overrides=settings_of(old), gpus=0, **options
    )
    assert read(run / "run.json")["streams"] == seeds.VERSION == 2
    assert losses(journal(run)[0]) != pytest.approx(losses(journal(Path(old))[0]), rel=1e-3)


@KINDS
def test_an_interrupted_pretraining_goes_on_to_the_same_end(kind):
    run, options = Path("run", kind), {"modality": "image"} if kind == "images" else {}
    known = journal(run)
    checkpoints = sorted((run / "checkpoints").glob("step-*.pt"))
    assert len(checkpoints) == 2
    checkpoints[-1].unlink()
    record = read(run / "run.json") | {"state": "running"}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    wanted = settings_of(run)
    assert partsig.pretrain(f"store/{kind}", run, overrides=wanted, gpus=0, **options) == run
    assert read(run / "run.json")["state"] == "finished"
    found = journal(run)
    assert [line["step"] for line in found] == [line["step"] for line in known]
    for one, other in zip(known, found, strict=True):
        assert losses(other) == pytest.approx(losses(one), rel=1e-3)
    assert sorted((run / "checkpoints").glob("step-*.pt"))[-1].name == checkpoints[-1].name


@KINDS
def test_an_interrupted_fine_tuning_goes_on_to_the_same_end(kind):
    run = Path("run", f"{kind}-tuned")
    old = read(run / "run.json")
    for file in (run / "checkpoints").glob("step-*.pt"):
        file.unlink()  # from its beginning: one checkpoint was kept, that of the end
    (run / "metrics.jsonl").unlink()
    record = {key: old[key] for key in old if not key.startswith(("val_", "calib", "chosen"))}
    write = json.dumps(record | {"state": "running"})
    (run / "run.json").write_text(write, encoding="utf-8")
    tune = {"fit.epochs": 20, "optim.lr": 0.3, "fit.batch_size": 16, "fit.log_every": 1}
    tune |= {"optim.warmup_epochs": 0, "pool": "mean+sd"}
    signals = kind == "signals"
    budget = {"subjects": 4} if signals else {"segments_per_class": 8}
    tune |= {"split.val_subjects": 2} if signals else {}
    assert partsig.finetune(f"run/{kind}", None, run, overrides=tune, **budget, **CPU) == run
    new = read(run / "run.json")
    score = "val_kappa" if signals else "val_accuracy"
    assert new["state"] == "finished"
    assert new[score] == pytest.approx(old[score], abs=0.2)  # another processor rounds otherwise
    tune["optim.lr"] = 1
    with pytest.raises(partsig.PartsigError, match="was started with another configuration"):
        partsig.finetune(f"run/{kind}", None, run, overrides=tune, **budget, **CPU)


@KINDS
def test_a_finished_run_is_left_alone_and_other_settings_are_refused(kind):
    run, options = Path("run", kind), {"modality": "image"} if kind == "images" else {}
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    wanted = settings_of(run)
    partsig.pretrain(f"store/{kind}", run, overrides=wanted, gpus=0, **options)
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    with pytest.raises(partsig.PartsigError, match=r"optim\.lr: 0\.1, now 0\.2"):
        partsig.pretrain(
            f"store/{kind}", run, overrides=wanted | {"optim.lr": 0.2}, gpus=0, **options
        )


@KINDS
def test_it_is_fine_tuned_from_and_pretrained_from(kind):
    budget = {"subjects": 4} if kind == "signals" else {"segments_per_class": 8}
    extra = {"split.val_subjects": 2} if kind == "signals" else {}
    run = partsig.finetune(f"run/{kind}", None, "run/new", overrides=SHORT | extra, **budget, **CPU)
    old, new = read(f"run/{kind}-tuned/run.json"), read(run / "run.json")
    assert new["pretraining"] == old["pretraining"]
    for key in ("split", "n_images", "ch_names"):
        assert new.get(key) == old.get(key), key
    assert Run.read(run).labels == Run.read(f"run/{kind}-tuned").labels
    options = {"modality": "image"} if kind == "images" else {}
    wanted = settings_of(f"run/{kind}")
    longer = partsig.pretrain(
        f"store/{kind}", "run/on", overrides=wanted, from_=f"run/{kind}", gpus=0, **options
    )
    fresh = partsig.pretrain(f"store/{kind}", "run/fresh", overrides=wanted, gpus=0, **options)
    assert journal(longer)[0]["loss"] < journal(fresh)[0]["loss"]


@KINDS
def test_it_is_compared_with_a_new_one(kind):
    train = {"train": "probe", "pool": "mean+sd"}
    budget = {"subjects": 4} if kind == "signals" else {"segments_per_class": 8}
    extra = {"split.val_subjects": 2} if kind == "signals" else {}
    new = partsig.finetune(f"run/{kind}", None, "run/new", overrides=train | extra, **budget, **CPU)
    found = partsig.compare([f"OLD=run/{kind}-tuned", f"NEW={new}"], output="table", **CPU)
    assert {row.method for row in found.rows} == {"OLD", "NEW"}
    measured = read(f"run/{kind}-tuned/evaluation/metrics.json")
    score = measured["kappa" if kind == "signals" else "accuracy"]
    old = next(row for row in found.rows if row.method == "OLD")
    assert old.score == pytest.approx(score, abs=0.05)


def test_an_older_fine_tuned_run_is_exported_reported_and_stages(folder):
    exported = partsig.export("run/signals-tuned", "out")
    assert exported.file.stat().st_size > 1000
    encoder = partsig.export("run/signals", "encoder")
    assert encoder.file.is_file()
    found = partsig.report("run/signals-tuned", output="report", **CPU)
    measured = read("run/signals-tuned/evaluation/metrics.json")
    text = found.page.read_text(encoding="utf-8")
    assert f"{measured['kappa']:.2f}"[1:] in text
    assert partsig.inspect("run/signals", n=1, output="look", **CPU).figures


def test_runs_on_images_are_exported_too_and_a_report_is_for_sleep():
    exported = partsig.export("run/images-tuned", "out")
    assert exported.file.stat().st_size > 1000
    with pytest.raises(partsig.PartsigError, match="classifies images"):
        partsig.report("run/images-tuned")


def test_the_old_stores_are_audited():
    found = partsig.audit("store/signals", output="audit", jobs=1)
    assert len(found.recordings) == len(rows("store/signals/index.csv"))
