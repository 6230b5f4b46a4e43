"""Runs of folds are pooled: every subject is judged by the run that has not seen it."""

import csv
import json

import numpy as np
import pytest
from partsig.cli import app
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune

pytestmark = pytest.mark.slow

BANDS = {"model": "logistic"}


def link(store, folder, test=(), val=()):
    """Return a store of the same recordings with a split of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("meta.json", "index.csv", "signals", "labels"):
        if not (folder / name).exists():
            (folder / name).symlink_to(store / name)
    rows = [f"{name},test" for name in test] + [f"{name},val" for name in val]
    (folder / "split.csv").write_text("\n".join(["subject,role", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def folds(sample_store, tmp_path_factory):
    """Three runs on one store, tested on subjects of their own; and the store."""
    folder = tmp_path_factory.mktemp("folds")
    subjects = sorted(open_store(sample_store).labelled_subjects)
    runs = []
    for number in range(3):
        test = subjects[number::3][:8]
        store = link(sample_store, folder / "store", test, subjects[(number + 1) % 3 :: 3][8:13])
        run = folder / f"fold{number}"
        runs.append(finetune("scratch", store, run, subjects=10, overrides=BANDS, device="cpu"))
    return runs, folder / "store"


def rows_of(folder):
    with open(folder / "predictions.csv", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def together(folds):
    runs, store = folds
    return evaluate(runs, output=store.parent / "pooled", device="cpu")


def test_the_pooled_kappa_is_that_of_all_answers(together, folds):
    runs, _ = folds
    rows = rows_of(together.path)
    assert rows == [row for run in runs for row in rows_of(run / "evaluation")]
    truth, given = ([row[key] for row in rows] for key in ("truth", "prediction"))
    assert together.metrics["kappa"] == pytest.approx(cohen_kappa_score(truth, given))
    assert together.metrics["n_subjects"] == 24
    low, high = together.metrics["kappa_interval_95"]
    assert low < together.metrics["kappa"] < high
    assert together.metrics == json.loads((together.path / "metrics.json").read_text())
    assert together.metrics["runs"] == [run.name for run in runs]  # no paths
    widths = [np.diff(one.metrics["kappa_interval_95"])[0] for one in together.each]
    assert high - low < min(widths), "three times as many subjects"
    assert [figure.name for figure in together.figures] == ["confusion.png"]


def test_each_is_what_it_is_alone(together, folds):
    runs, _ = folds
    for run, one in zip(runs, together.each, strict=True):
        alone = evaluate(run, device="cpu", figures=False)
        assert alone.path == one.path
        assert alone.metrics["kappa"] == one.metrics["kappa"]
        assert any(line.startswith(f"{run}: kappa") for line in together.summary)


def test_runs_with_test_subjects_in_common_are_to_be_compared(folds, tmp_path):
    runs, store = folds
    other = finetune(
        "scratch", store, tmp_path / "run", subjects=10, overrides=BANDS, seed=1, device="cpu"
    )
    with pytest.raises(ConfigError, match=r"8 test subjects \(.*, …\) are those of several"):
        evaluate([*runs, other], device="cpu")


def test_runs_on_two_stores_are_not_pooled(folds, sample_store, tmp_path):
    runs, _ = folds
    subjects = sorted(open_store(sample_store).labelled_subjects)
    elsewhere = link(sample_store, tmp_path / "other", subjects[8:12])
    run = finetune(
        "scratch", elsewhere, tmp_path / "run", subjects=10, overrides=BANDS, device="cpu"
    )
    with pytest.raises(DataError, match=r"only runs on one store are pooled"):
        evaluate([runs[0], run], device="cpu")


def test_the_command_says_each_and_all(folds, tmp_path, monkeypatch):
    runs, _ = folds
    monkeypatch.chdir(tmp_path)
    options = [word for run in runs for word in ("--run", str(run))]
    done = CliRunner().invoke(app, ["evaluate", *options, "--no-figures"])
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.startswith(f"{run}: kappa") for run, line in zip(runs, lines, strict=False)]
    assert lines[3] == "3 runs, each on its own:"
    assert lines[4].startswith("24 subjects")
    assert lines[-1] == "evaluation: runs/pooled-fold0-and-2-more"
    command = ["evaluate", "--run", str(runs[0]), "--output", "x", "--no-figures"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-2] == "evaluation: x"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("sp00-0016,tests", r"has the role 'tests'; .* can be test, val, train"),
        ("nobody,test", r"names no subject of the store as test \(nobody, …\); index\.csv"),
    ],
)
def test_a_split_that_means_nothing_is_refused(sample_store, tmp_path, rows, message):
    store = link(sample_store, tmp_path / "store")
    (store / "split.csv").write_text(f"subject,role\n{rows}\n")
    with pytest.raises(DataError, match=message):
        finetune("scratch", store, tmp_path / "run", overrides=BANDS, device="cpu")
    assert not (tmp_path / "run").exists()
