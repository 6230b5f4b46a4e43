"""Runs that cannot be written, and neighbours that are damaged."""

import json
import os
import shutil
import stat

import pytest

import partsig
from partsig.errors import CheckpointError, DataError
from partsig.runs import directory as runs

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
