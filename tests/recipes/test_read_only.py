"""Runs that cannot be written, and neighbours that are damaged."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

import partsig
from partsig.errors import CheckpointError, DataError
from partsig.runs import directory as runs
from partsig.runs.kept import held

CPU = {"device": "cpu"}


def as_it_is(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_one_run_is_evaluated_elsewhere(stager_run, tmp_path):
    run = shutil.copytree(stager_run, tmp_path / "run")
    before = as_it_is(run)
    if os.getuid():  # nobody is refused who is root
        for path in (run, *run.rglob("*")):
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        with pytest.raises(DataError, match="choose another place"):
            partsig.evaluate(run, figures=False, **CPU)
    found = partsig.evaluate(run, output=tmp_path / "own", **CPU)
    assert found.path == tmp_path / "own"
    assert as_it_is(run) == before
    assert json.loads((found.path / "metrics.json").read_text()) == found.metrics
    assert (found.path / "predictions.csv").is_file()
    assert {figure.parent for figure in found.figures} == {found.path}
    again = partsig.evaluate(run, output=tmp_path / "own", figures=False, **CPU)
    assert again.metrics["kappa"] == found.metrics["kappa"]


def test_a_folder_of_something_else_is_kept(stager_run, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match="is there already and is not partsig's: it is kept"):
        partsig.evaluate(stager_run, output=tmp_path / "own", figures=False, **CPU)
    assert (tmp_path / "own" / "metrics.json").read_text() == "{}"


@pytest.fixture
def read_only(monkeypatch):
    """A function after which a folder is to be read only; who is root is refused nowhere else."""
    folders = []
    real = os.access

    def access(path, mode, **options):
        refused = any(Path(path).absolute().is_relative_to(folder) for folder in folders)
        return not (refused and mode & os.W_OK) and real(path, mode, **options)

    monkeypatch.setattr(os, "access", access)
    return folders.append


def test_of_several_runs_those_to_be_read_are_not_written_to(
    stager_run, sample_store, tmp_path, read_only, monkeypatch
):
    """Folds of somebody else's: what is said of each goes below the folder of all."""
    monkeypatch.chdir(tmp_path)
    folds = []
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 8))):
        run = shutil.copytree(stager_run, tmp_path / name / "fold")
        facts = json.loads((run / "run.json").read_text())
        split = facts["split"]
        del facts["items"], facts["index_sha256"]
        facts["split"] = split | {"test": split["test"][part]}
        (run / "run.json").write_text(json.dumps(facts))
        folds.append(run)
    read_only(tmp_path / "a")
    before = as_it_is(folds[0])
    found = partsig.evaluate(folds, output="all", figures=False, **CPU)
    assert as_it_is(folds[0]) == before
    assert found.each[0].path == Path("all/fold")
    assert found.each[1].path == folds[1] / "evaluation"
    assert (Path("all") / "metrics.json").is_file()
    read_only(tmp_path / "all")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "predictions.csv").write_text("mine")
    monkeypatch.setattr("partsig.verbs.evaluate.judge", lambda *_: pytest.fail("it was judged"))
    for run in (folds[1], folds):
        with pytest.raises(DataError, match="cannot write into all; choose another place"):
            partsig.evaluate(run, output="all", figures=False, **CPU)
        with pytest.raises(DataError, match="is there already and is not partsig's"):
            partsig.evaluate(run, output="mine", figures=False, **CPU)


def test_a_finished_run_that_is_to_be_read_is_as_it_is(
    stager_run, encoder_run, sample_store, tmp_path, read_only, monkeypatch
):
    run = shutil.copytree(stager_run, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    before = as_it_is(run)
    read_only(run)
    monkeypatch.setattr("partsig.runs.kept.locked", lambda *_: pytest.fail("it was locked"))
    with held(run):
        assert as_it_is(run) == before
    short = {"optim.warmup_epochs": 1, "fit.epochs": 6, "fit.batch_size": 32, "optim.lr": 5e-2}
    partsig.finetune(facts["from"], facts["store"], run, subjects=12, overrides=short, **CPU)
    assert as_it_is(run) == before


DAMAGED = ["", "{", "[]", '{"kind": "finetune"}', '{"state": "finished"}', "\x00\xff", "null"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_neighbour_stops_nobody(
    stager_run, encoder_run, sample_store, tmp_path, monkeypatch, capsys, text
):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(stager_run, tmp_path / "runs" / "good")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text(text, encoding="latin-1")
    assert runs.last("finetune") == run.relative_to(tmp_path)
    assert "passed over runs/bad: " in capsys.readouterr().err
    if text == "{":
        assert (
            partsig.evaluate(figures=False, **CPU).path == run.relative_to(tmp_path) / "evaluation"
        )
        assert partsig.evaluate("runs/good", figures=False, **CPU).metrics["n_epochs"] > 0
        partsig.compare(["runs/good"], **CPU)
        partsig.embed("runs/good", **CPU)
        partsig.export("runs/good")
        settings = {"train": "probe"}
        partsig.finetune(encoder_run, sample_store, subjects=3, overrides=settings, **CPU)
        with pytest.raises(CheckpointError, match=r"bad/run\.json is damaged"):
            partsig.evaluate("runs/bad", **CPU)
