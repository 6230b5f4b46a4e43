"""Signals that were scaled recording by recording: staged as they were trained, never mixed up."""

import csv

import numpy as np
import pytest

import partsig
from partsig.data.sample import CHANNELS, write_records
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.interop.embedder import PartEmbedder
from partsig.runs.run import Run

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1,
        "fit.batch_size": 8, "windows_per_epoch": 8, "optim.warmup_epochs": 1}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaled")
    write_records(folder / "raw")
    for name in ("recording", "none"):
        settings = {"channels": list(CHANNELS), "normalise": name}
        partsig.preprocess(
            "physionet2018", folder / "raw", folder / name, jobs=1, overrides=settings
        )
    return folder


@pytest.fixture(scope="module")
def run(place):
    own = {"model": "logistic"}  # band powers know the level of a signal
    return partsig.finetune("scratch", place / "recording", place / "run", overrides=own)


def test_a_raw_recording_is_staged_as_the_store_is_evaluated(place, run):
    assert Run.read(run).facts["unit"] == "interquartile range"
    found = partsig.evaluate(run, figures=False)
    with open(found.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    name = rows[0]["recording"]
    staged = partsig.stage(place / "raw" / "training" / name / f"{name}.hea", run)
    mine = [row for row in rows if row["recording"] == name]
    expected = np.array(
        [[float(value) for key, value in row.items() if key[:2] == "p_"] for row in mine]
    )
    epochs = [int(row["epoch"]) for row in mine]
    np.testing.assert_allclose(staged.probabilities[epochs], expected, atol=2e-4)
    assert np.abs(staged.signal).max() > 20  # what is looked at is in µV


def test_stores_of_another_unit_are_refused(place, run, tmp_path):
    with pytest.raises(DataError, match=r"unit interquartile range; .* has µV"):
        partsig.evaluate(run, place / "none", figures=False)
    pretrained = partsig.pretrain(place / "none", tmp_path / "part", overrides=TINY, gpus="0")
    with pytest.raises(CheckpointError, match="in interquartile range: preprocess both"):
        partsig.finetune(pretrained, place / "recording", tmp_path / "tuned")


def test_windows_alone_are_not_embedded_by_an_encoder_of_scaled_recordings(place, tmp_path):
    pretrained = partsig.pretrain(place / "recording", tmp_path / "part", overrides=TINY, gpus="0")
    windows = np.zeros((2, len(CHANNELS), 3000), np.float32)
    with pytest.raises(ConfigError, match="each scaled by itself"):
        PartEmbedder(run=pretrained).fit(windows)
    card = (partsig.export(pretrained, tmp_path / "out").path / "README.md").read_text()
    card = " ".join(card.split())
    assert "; each channel of a recording less its median, over its interquartile range;" in card
    assert "; microvolts;" not in card
    assert "In volts instead" not in card
    assert "A recording that is not scaled by itself is another signal" in card
    assert "in interquartile range" in card
