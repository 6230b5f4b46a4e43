"""Another signal, three classes, 2-s units: the verbs for sleep work on it without knowing it."""

import csv
import json

import numpy as np
import pytest

import partsig
from partsig.contracts import Labels
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.runs.run import Run

SFREQ, UNIT_S, N_UNITS, N_SUBJECTS = 50.0, 2.0, 40, 16
MOVES = Labels(classes=("still", "sway", "step"), unit_s=UNIT_S)
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.batch_size": 32}
PRETRAIN = TINY | {
    "window_s": 2.0,
    "patch_s": 0.2,
    "objective.patches": 8,
    "fit.epochs": 1,
    "windows_per_epoch": 64,
    "optim.warmup_epochs": 0,
    "split.monitor_subjects": 2,
}
FINETUNE = {
    "fit.epochs": 8,
    "fit.batch_size": 32,
    "optim.lr": 2e-2,
    "optim.warmup_epochs": 1,
    "split.val_subjects": 3,
}
CPU = {"device": "cpu"}


def walk(subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an accelerometer's axes (2, T) and the class (E,) of every two seconds."""
    rng = np.random.default_rng(subject)
    classes = rng.integers(-1, 3, N_UNITS)
    time = np.arange(round(UNIT_S * SFREQ)) / SFREQ
    hertz = np.array([0.0, 1.0, 6.0])
    waves = [np.sin(2 * np.pi * hertz[k] * time + rng.uniform(0, 6)) for k in classes]
    signal = 50 * np.concatenate(waves) * (np.repeat(classes, len(time)) > 0)
    return signal + rng.normal(scale=10, size=(2, signal.size)), classes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("moves") / "store"
    meta = make_meta(
        source="accelerometer",
        ch_names=("hip", "wrist"),
        sfreq=SFREQ,
        l_freq=None,
        h_freq=None,
        dtype="float32",
        labels=MOVES,
    )
    create_store(path, meta)
    rows = []
    for subject in range(N_SUBJECTS):
        signal, classes = walk(subject)
        recording = Recording(
            name=f"walk-{subject:02d}",
            subject=f"p{subject:02d}",
            ch_names=("hip", "wrist"),
            parts=(),
            stages=classes.astype(np.int8),
            source=str(subject),
        )
        rows.append(write_recording(path, meta, recording, signal.astype(np.float32)))
    write_index(path, rows)
    return path


@pytest.fixture(scope="module")
def pretrained(store):
    return partsig.pretrain(store, store.parent / "pretrain", overrides=PRETRAIN, gpus="0")


@pytest.fixture(scope="module")
def tuned(pretrained, store):
    run = store.parent / "tuned"
    return partsig.finetune(pretrained, None, run, subjects=0, overrides=FINETUNE, **CPU)


def test_it_is_learned_and_judged_by_its_own_classes(tuned, store):
    run = Run.read(tuned)
    assert (run.task, run.labels) == ("classification", MOVES)
    found = partsig.evaluate(tuned, **CPU)
    assert found.metrics["kappa"] > 0.8  # by the frequency alone it is easy
    assert list(found.metrics["f1"]) == ["still", "sway", "step"]
    assert [path.name for path in found.figures] == ["confusion.png", "reliability.png"]
    with open(found.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["truth"] for row in rows} == set(MOVES.classes)
    for row in rows:
        subject = int(row["subject"].removeprefix("p"))
        number = int(row["epoch"])
        assert MOVES.classes[walk(subject)[1][number]] == row["truth"]
        assert float(row["onset_s"]) == UNIT_S * number
    assert found.metrics["n_epochs"] == len(rows)


@pytest.mark.parametrize("how", [{"train": "probe"}, {"train": "knn"}, {"model": "logistic"}])
def test_probes_neighbours_and_band_powers_take_it(how, pretrained, store, tmp_path):
    origin = "scratch" if "model" in how else pretrained
    run = tmp_path / "run"
    partsig.finetune(
        origin, store, run, subjects=5, overrides={"split.val_subjects": 3} | how, **CPU
    )
    assert Run.read(run).facts["val_kappa"] > 0.2
    assert partsig.evaluate(run, figures=False, **CPU).figures == []


def test_it_is_compared_embedded_exported_and_inspected(tuned, pretrained, store, tmp_path):
    other = tmp_path / "scratch"
    short = FINETUNE | TINY | {"fit.epochs": 2, "patch_s": 0.2}
    partsig.finetune("scratch", store, other, subjects=0, overrides=short, **CPU)
    table = partsig.compare([tuned, other], output=tmp_path / "compare", **CPU)
    assert (table.measure, table.n_units) == ("kappa", 3)
    embedded = np.load(partsig.embed(tuned, output=tmp_path / "e.npz", **CPU).path)
    assert len(embedded["embeddings"]) == N_SUBJECTS * N_UNITS
    assert set(embedded["stage"]) == {*MOVES.classes, ""}
    facts = json.loads((partsig.export(tuned, tmp_path / "x").path / "config.json").read_text())
    assert facts["classes"] == list(MOVES.classes)
    assert facts["window"] == UNIT_S * SFREQ
    seen = partsig.inspect(pretrained, n=1, output=tmp_path / "i", **CPU)
    assert seen.metrics["n_subjects"] == 3


def test_what_is_only_for_sleep_says_so(tuned, store, sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"--task sleep-staging learns from W, .* still, "):
        partsig.finetune("scratch", store, tmp_path / "r", task="sleep-staging", **CPU)
    with pytest.raises(ConfigError, match="model=yasa stages sleep"):
        partsig.finetune(
            *("scratch", store, tmp_path / "y"), subjects=5, overrides={"model": "yasa"}, **CPU
        )
    with pytest.raises(CheckpointError, match="tells still, sway, step apart; a sleep stager"):
        partsig.stage(store / "none.edf", tuned)
    with pytest.raises(CheckpointError, match="tells still, sway, step apart; a sleep stager"):
        partsig.report(tuned)
    plain = partsig.finetune(
        *("scratch", sample_store, tmp_path / "plain"),
        task="classification",
        subjects=3,
        overrides=TINY | {"train": "probe"},
        **CPU,
    )
    for verb, given in ((partsig.stage, (store / "none.edf", plain)), (partsig.report, (plain,))):
        with pytest.raises(CheckpointError, match="fine-tuned with --task classification; one"):
            verb(*given)
    with pytest.raises(DataError, match="the run was trained with ch_names"):
        partsig.evaluate(tuned, sample_store, **CPU)
    with pytest.raises(ConfigError, match="--task is 'dreams'; it can be 'classification'"):
        partsig.finetune("scratch", store, tmp_path / "d", task="dreams", **CPU)
