"""A finished run whose last checkpoint, or chosen weights, are lost: refused, or made again."""

import shutil

import pytest
import torch

import partsig
from partsig.errors import CheckpointError
from partsig.interop.embedder import PartEmbedder
from partsig.runs import directory as runs
from partsig.runs.models import load_encoder, load_part, read_state
from partsig.train import checkpoint

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "optim.warmup_epochs": 0}
LONG = TINY | {"window_s": 5, "objective.patches": 5, "windows_per_epoch": 16, "fit.epochs": 3}
LONG |= {"fit.batch_size": 8, "fit.checkpoint_minutes": 0, "split.monitor_subjects": 2}
TUNE = {"optim.warmup_epochs": 0, "fit.epochs": 4, "fit.batch_size": 32, "optim.lr": 5e-2}
CPU = {"device": "cpu"}
STEPS = 6


def pretrained_at(folder, store):
    return partsig.pretrain(store, folder, overrides=LONG, gpus=0)


def tuned_at(folder, run, store, **settings):
    return partsig.finetune(run, store, folder, subjects=6, overrides=TUNE | settings, **CPU)


@pytest.fixture(scope="module")
def whole(made_once, sample_store):
    """A pretraining run and two that were fine-tuned from it, step by step and by a probe."""

    def make(folder):
        run = pretrained_at(folder / "pretrain", sample_store)
        tuned_at(folder / "tuned", run, sample_store)
        tuned_at(folder / "probe", run, sample_store, train="probe")

    return made_once("kept", make)


def lose_last(run):
    newest = checkpoint.newest(run)
    assert newest.name == "step-000000006.pt"
    newest.unlink()


def put_earlier_in_its_place(run):
    earlier, last = sorted((run / "checkpoints").iterdir())
    shutil.copy(earlier, last)


def lose_all(run):
    shutil.rmtree(run / "checkpoints")


LOSSES = pytest.mark.parametrize(
    ("lose", "told"),
    [
        (
            lose_last,
            r"trained to step 6, but its newest checkpoint, step-0+5\.pt, is of step 5:",
        ),
        (
            put_earlier_in_its_place,
            r"trained to step 6, but .* is of step 5: run the same `part",
        ),
        (lose_all, "has lost its checkpoints: run the same `partsig pretrain` command again"),
    ],
)


@LOSSES
@pytest.mark.parametrize("says", ["run.json", "metrics.jsonl"])
def test_every_reader_refuses_a_pretraining_that_lost_its_end(
    whole, sample_store, tmp_path, lose, told, says
):
    run = shutil.copytree(whole / "pretrain", tmp_path / "run")
    lose(run)
    if says == "run.json":
        (run / "metrics.jsonl").unlink()
    else:  # an older partsig did not write it
        runs.write_json(run / "run.json", {k: v for k, v in runs.read(run).items() if k != "steps"})
    readers = [
        lambda: load_encoder(run),
        lambda: load_part(run),
        lambda: read_state(run),
        lambda: tuned_at(tmp_path / "new", run, sample_store),
        lambda: partsig.pretrain(
            sample_store, tmp_path / "next", from_=run, overrides=LONG, gpus=0
        ),
        lambda: partsig.embed(run, sample_store, output=tmp_path / "e.npz", **CPU),
        lambda: partsig.export(run, tmp_path / "export"),
        lambda: partsig.inspect(run, sample_store, output=tmp_path / "i", **CPU),
        lambda: PartEmbedder(run).fit(None),
    ]
    for read in readers:
        with pytest.raises(CheckpointError, match=told):
            read()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@LOSSES
def test_the_same_pretraining_goes_on_to_the_same_end(whole, sample_store, tmp_path, lose, told):
    run = shutil.copytree(whole / "pretrain", tmp_path / "run")
    lose(run)
    assert pretrained_at(run, sample_store) == run
    assert runs.read(run)["state"] == "finished"
    assert runs.read(run)["steps"] == STEPS
    assert runs.last("pretrain", tmp_path) == run
    for name, value in read_state(whole / "pretrain").items():
        assert torch.equal(value, read_state(run)[name])
    assert len(list((run / "checkpoints").iterdir())) == 2


def spoil(run, how):
    """Take the chosen weights away, or put those of another epoch there."""
    file = run / "best.pt"
    if how == "gone":
        return file.unlink()
    content = checkpoint.load(file)
    content["best"]["epoch"] += 1 if how == "later epoch" else 0
    content["best"]["value"] -= 0.01
    content["model"] = {key: value + 1 for key, value in content["model"].items()}
    return checkpoint.save(file, content)


@pytest.mark.parametrize("kind", ["tuned", "probe"])
@pytest.mark.parametrize("how", ["gone", "later epoch", "other value"])
def test_chosen_weights_that_are_lost_are_refused_and_made_again(
    whole, sample_store, tmp_path, kind, how
):
    run = shutil.copytree(whole / kind, tmp_path / "run")
    spoil(run, how)
    readers = [
        lambda: partsig.evaluate(run, figures=False, **CPU),
        lambda: partsig.embed(run, output=tmp_path / "e.npz", **CPU),
        lambda: partsig.export(run, tmp_path / "export"),
        lambda: partsig.compare([run], output=tmp_path / "compare", **CPU),
    ]
    for read in readers:
        with pytest.raises(CheckpointError, match="run the same `partsig finetune` command again"):
            read()
    settings = {"train": "probe"} if kind == "probe" else {}
    tuned_at(run, whole / "pretrain", sample_store, **settings)
    for key in ("state", "val_kappa", "chosen_epoch", "calibration"):
        assert runs.read(run).get(key) == runs.read(whole / kind).get(key)
    mine, theirs = (checkpoint.load(path / "best.pt")["model"] for path in (run, whole / kind))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_finished_run_is_left_as_it_is(whole, sample_store, tmp_path, monkeypatch):
    """Also what it says of the versions that it was made by."""
    copies = shutil.copytree(whole, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in copies.rglob("*") if path.is_file()}
    monkeypatch.setattr(runs, "environment", lambda: {"partsig": "another"})
    pretrained_at(copies / "pretrain", sample_store)
    for path, stamp in before.items():
        assert path.stat().st_mtime_ns == stamp, path
    tuned_at(whole / "tuned", whole / "pretrain", sample_store)
    assert runs.read(whole / "tuned")["environment"]["partsig"] != "another"
