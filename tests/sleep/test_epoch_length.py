"""Epochs of 5 s from a hypnogram to every export: the length is a setting, and told."""

import csv
import json

import edfio
import numpy as np
import pytest

import partsig
from partsig.data.signals.hypnograms.alignment import to_epochs
from partsig.data.signals.hypnograms.hypnogram import make_hypnogram
from partsig.data.signals.hypnograms.stages import in_half_minutes, is_sleep
from partsig.data.signals.quality import FLAT, find_faults
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, ConfigError
from partsig.runs.run import Run

SFREQ, N = 20, 48  # Hz, epochs of 5 s
READ = {"channels": ["C4-M1"], "sfreq": SFREQ, "h_freq": None, "hypnogram.codes": "dreams"}
READ |= {"hypnogram.epoch_s": 5, "hypnogram.pattern": "{name}.txt"}
# Numbers of DREAMS, and the stages that they are.
NUMBERS, STAGES = (5, 3, 2, 1, 4), ("W", "N1", "N2", "N3", "REM")
PROBE = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "train": "probe"}
PROBE |= {"encoder.tokens": "linear+spectrum", "pool": "mean+sd+spectrum", "split.val_subjects": 1}


def stages_of(number):
    """Stages of a recording: each lasts two epochs, so that half a minute has three of them."""
    return np.repeat(np.random.default_rng(number).integers(5, size=N // 2), 2)


def write_recordings(folder, n=6):
    folder.mkdir()
    time = np.arange(5 * SFREQ) / SFREQ
    for number in range(n):
        rng, stages = np.random.default_rng(number + 50), stages_of(number)
        rhythm = 30 * np.sin(2 * np.pi * (1 + 1.8 * stages[:, None]) * time)
        signal = (rhythm + rng.standard_normal(rhythm.shape)).reshape(-1)
        edfio.Edf([edfio.EdfSignal(signal, SFREQ, label="C4-M1", physical_dimension="uV")]).write(
            folder / f"n{number}.edf"
        )
        lines = ["[Hypnogram]", *(str(NUMBERS[stage]) for stage in stages)]
        (folder / f"n{number}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(made_once):
    def make(folder):
        write_recordings(folder / "raw")
        for epoch_s in (5, 10):
            partsig.preprocess(
                "edf", raw=folder / "raw", store=folder / f"s{epoch_s}", jobs=1,
                overrides=READ | {"epoch_s": epoch_s},
            )  # fmt: skip
        for epoch_s in (5, 10):
            partsig.finetune(
                "scratch", folder / f"s{epoch_s}", folder / f"run{epoch_s}", subjects=0,
                overrides=PROBE, device="cpu",
            )  # fmt: skip

    return made_once("epoch-length", make)


def test_an_epoch_has_the_stage_that_covers_it_whatever_its_length():
    codes = np.array([2, 2, 3, 3, 3, 0], np.int8)
    found = make_hypnogram("h", 5.0 * np.arange(6), np.full(6, 5.0), list(codes))
    for epoch_s, expected in ((5, [2, 2, 3, 3, 3, 0]), (10, [2, 3, -1]), (2.5, None), (30, [-1])):
        stages, begin, _ = to_epochs("n", found, 0.0, 30.0, (), epoch_s)
        assert begin == 0
        assert stages.tolist() == (np.repeat(codes, 2).tolist() if expected is None else expected)
    # A gap leaves those epochs without a stage that it touches.
    stages, _, _ = to_epochs("n", found, 0.0, 30.0, [(12.0, 16.0)], 5)
    assert stages.tolist() == [2, 2, -1, -1, 3, 0]


def test_a_store_says_how_long_its_epochs_are(made):
    for epoch_s in (5, 10):
        store = open_store(made / f"s{epoch_s}")
        assert is_sleep(store.label_facts)
        assert store.unit_s == epoch_s
        expected = stages_of(3)[:: epoch_s // 5]
        np.testing.assert_array_equal(store.labels("n3"), expected)


def test_stages_of_shorter_epochs_are_those_of_half_minutes_where_they_are_one():
    stages = np.array([2] * 3 + [1, 1, 2] + [4])
    assert in_half_minutes(stages, 10.0).tolist() == [2, -1]


def test_seconds_tell_the_faults_of_epochs_of_any_length():
    signal = 30 * np.random.default_rng(0).standard_normal(60 * 100)
    signal[1000:1500] = 0  # flat from 10 to 15 s
    faults = find_faults(signal, 100.0)
    assert faults.of_epochs(5.0).tolist() == [0, 0, FLAT, *[0] * 9]
    assert faults.of_epochs(0.5).tolist() == [FLAT if 20 <= e < 30 else 0 for e in range(120)]
    np.testing.assert_array_equal(faults.of_epochs(30.0), faults.epochs)


@pytest.mark.slow
@pytest.mark.parametrize("epoch_s", [5, 10])
def test_a_run_is_trained_judged_and_staged_by_on_its_own_epochs(made, epoch_s, tmp_path):
    run = made / f"run{epoch_s}"
    assert f"a label is of {epoch_s} s" in Run.read(run).summary()
    found = partsig.evaluate(run, shift=True, device="cpu", output=tmp_path / "judged")
    assert found.metrics["epoch_s"] == epoch_s
    assert found.metrics["kappa"] > 0.8
    assert f"epochs of {epoch_s} s" in found.summary
    assert found.follow_up == ("compare", str(run))
    assert len(found.metrics["epoch_shift"]["rows"]) == 6
    staged = partsig.stage(
        made / "raw" / "n0.edf", run, output=tmp_path / "staged", device="cpu",
        overrides={key: value for key, value in READ.items() if key.startswith("hypnogram")},
    )  # fmt: skip
    n = N * 5 // epoch_s
    assert (staged.epoch_s, staged.n_epochs) == (epoch_s, n)
    np.testing.assert_array_equal(staged.scored, stages_of(0)[:: epoch_s // 5])
    assert (staged.stages == staged.scored).mean() > 0.8
    with open(tmp_path / "staged" / "n0_hypnogram.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["onset_s"]) for row in rows] == [epoch_s * e for e in range(n)]
    assert {float(row["duration_s"]) for row in rows} == {epoch_s}
    told = json.loads((tmp_path / "staged" / "n0_staging.json").read_text())
    assert told["epoch_s"] == epoch_s
    marks = edfio.read_edf(tmp_path / "staged" / "n0_hypnogram.edf").annotations
    assert [(mark.onset, mark.duration) for mark in marks] == [
        (epoch_s * e, epoch_s) for e in range(n)
    ]
    with pytest.raises(CheckpointError, match=f"stages epochs of {epoch_s} s"):
        partsig.report(run, device="cpu")


@pytest.mark.slow
def test_an_audit_judges_half_minutes(made, tmp_path):
    audit = partsig.audit(made / "s5", output=tmp_path / "audit", jobs=1)
    told = json.loads((audit.path / "audit.json").read_text())
    assert len(told["recordings"]) == 6
    with pytest.raises(ConfigError, match="audit judges 30-s epochs"):
        partsig.audit(made / "raw", source="edf", overrides={"epoch_s": 5}, output=tmp_path / "a")


def test_what_is_scored_in_half_minutes_has_no_other_epochs(tmp_path):
    (tmp_path / "raw").mkdir()
    for overrides, words in (
        ({"epoch_s": 5}, "physionet2018 is scored in 30-s epochs"),
        ({"epoch_s": 0}, "epoch_s is 0"),
        ({"epoch_s": 0.125, "sfreq": 100}, "no whole number of samples"),
    ):
        with pytest.raises(ConfigError, match=words):
            partsig.preprocess(
                "physionet2018", raw=tmp_path / "raw", store=tmp_path / "s", overrides=overrides
            )
