"""Staging takes no more memory for a longer recording, with context and without."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import partsig
from partsig.data.mapped import FileMap
from partsig.data.signals import lazy
from partsig.sleep import stager as staging
from partsig.sleep.audit import measure
from partsig.sleep.stager import load

pytestmark = pytest.mark.slow
place = Path(__file__).parents[1] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)

SHORT = {
    "split.val_subjects": 2, "optim.warmup_epochs": 0, "fit.batch_size": 16, "fit.epochs": 1,
}  # fmt: skip
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
HOURS = (1, 5)


@pytest.fixture(scope="module")
def runs(made_once):
    """Stagers by name: of epochs alone, and with context on its features and band powers."""

    def make(folder):
        for number in range(6):
            raw_nights.write_night(folder / "raw" / f"s{number}.edf", number, n=10)
        store, usual = folder / "store", {"subjects": 3, "seed": 0, "device": "cpu"}
        channels = {"channels": list(raw_nights.CHANNELS)}
        partsig.preprocess("edf", folder / "raw", store, overrides=channels, jobs=1)
        own = SHORT | TINY
        partsig.finetune("scratch", store, folder / "epochs", overrides=own, **usual)
        made = partsig.embed(
            folder / "epochs", store, as_store=True, features_of="both",
            output=folder / "features", device="cpu",
        )  # fmt: skip
        own, task = SHORT | {"context.width": 8}, "night-context"
        partsig.finetune(
            "scratch", made.path, folder / "context", task=task, overrides=own, **usual
        )
        for hours in HOURS:
            raw_nights.write_night(folder / f"{hours}h.edf", 50, n=120 * hours)

    return made_once("long-nights", make)


@pytest.mark.parametrize("name", ["epochs", "context"])
def test_memory_does_not_grow_with_the_recording(runs, tmp_path, monkeypatch, name):
    """Of four hours more, whose signal has 17 MB, less than an eighth is held."""
    monkeypatch.setattr(staging, "HELD", 2**20)
    monkeypatch.setattr(lazy, "HELD", 2**20)
    monkeypatch.setattr(measure, "HELD", 2**16)
    stager = load(runs / name, "cpu")
    partsig.stage(runs / "1h.edf", stager)  # what is imported and made once
    peaks, mapped = [], []
    for hours in HOURS:
        tracemalloc.start()
        staged = partsig.stage(runs / f"{hours}h.edf", stager)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert staged.n_epochs == 120 * hours
        held = staged.signal
        while isinstance(held, np.ndarray):
            held = held.base
        assert isinstance(held, FileMap)  # it lies in a file
        mapped.append(staged.signal.nbytes)
    assert mapped[1] - mapped[0] > 17_000_000
    assert peaks[1] - peaks[0] < (mapped[1] - mapped[0]) / 8
