"""A store and a staging scale by the same epochs: both leave out what is flat or missing."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import partsig
from partsig.contracts import Labels
from partsig.data.signals.bands import band_powers
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import gaps_within
from partsig.recipes.epoch_features import feature_network
from partsig.runs.epoch_features import read_recipe
from partsig.sleep import stager as staging
from partsig.sleep.epoch_features import EpochFeatures
from partsig.sleep.settings import StageConfig

place = Path(__file__).parents[1] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)
edf_bytes = raw_nights.edf_bytes

CHANNELS, CPU = raw_nights.CHANNELS, torch.device("cpu")
STORES = {"plain": {}, "half": {"dtype": "float16"}, "scaled": {"normalise": "recording"}}
STORES["half, scaled"] = STORES["half"] | STORES["scaled"]
CASES = {
    "gap": {"seconds": 600, "missing": (190, 290)},
    "left on, scored late": {"rate": 128, "seconds": 617, "flat": (300, 480), "begin": 7},
    "an electrode lost, and a gap": {
        "rate": 128, "seconds": 617, "flat": (300, 480), "of": [1], "missing": (100, 131),
        "begin": 11,
    },
    "epochs of 10 s": {"rate": 200, "seconds": 333, "flat": (200, 290), "epoch_s": 10},
    "epochs of 5 s at 50 Hz": {
        "rate": 128, "seconds": 333, "flat": (200, 290), "epoch_s": 5, "begin": 3,
        "own": {"sfreq": 50, "h_freq": 20},
    },
    "an epoch more than stages": {"seconds": 480, "flat": (240, 390), "record_s": 0.99999},
}  # fmt: skip


def write(
    path, *, rate=100, seconds, flat=None, of=(0, 1, 2), missing=None, begin=0, epoch_s=30,
    record_s=1.0, own=None,
):  # fmt: skip
    """Write waves that wax and wane, zeros for ``flat`` seconds of some channels, and stages."""
    rng, times = np.random.default_rng(0), np.arange(seconds * rate) / rate
    kept = np.ones(seconds, bool)
    if missing is not None:
        kept[slice(*missing)] = False
    signals = []
    for c, name in enumerate(CHANNELS):
        wave = (25 + 15 * np.sin(times / 50 + c)) * np.sin(2 * np.pi * (3 + c) * times)
        wave += 10 * rng.normal(size=len(times))
        if flat is not None and c in of:
            wave[flat[0] * rate : flat[1] * rate] = 0
        counts = np.round(wave * 32767 / 500).astype("<i2").reshape(-1, rate)[kept].reshape(-1)
        signals.append(edf_bytes.signal(name, rate, 0) | {"data": counts})
    marks = [
        (begin + float(epoch_s * e), float(epoch_s), f"Sleep stage {raw_nights.NAMES[e // 3 % 5]}")
        for e in range((seconds - begin) // epoch_s)
        if kept[begin + epoch_s * e]
    ]
    path.parent.mkdir(parents=True)
    kind = "EDF+C" if missing is None else "EDF+D"
    onsets = np.flatnonzero(kept).tolist()
    edf_bytes.write_edf(path, signals, kind=kind, onsets=onsets, annotations=marks)
    written = bytearray(path.read_bytes())
    written[244:252] = f"{record_s:<8g}".encode()
    path.write_bytes(written)


class Run:
    """What is asked of a run on features, which needs not be trained for this."""

    def __init__(self, recipe, epoch_s):
        self.facts, self.config, self.path = {"filter": recipe.filter}, {}, "run"
        self.samples_per_unit, self.labels = 1 / epoch_s, Labels(classes=(), unit_s=epoch_s)


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        pytest.param("half", marks=pytest.mark.slow),
        pytest.param("scaled", marks=pytest.mark.slow),
        "half, scaled",
    ],
)
@pytest.mark.parametrize("case", CASES)
def test_features_of_a_raw_recording_are_those_of_the_store(case, kind, tmp_path):
    asked = CASES[case]
    epoch_s = asked.get("epoch_s", 30)
    write(tmp_path / "raw" / "s.edf", **asked)
    own = {"channels": list(CHANNELS), "epoch_s": epoch_s} | STORES[kind] | asked.get("own", {})
    partsig.preprocess("edf", tmp_path / "raw", tmp_path / "store", overrides=own, jobs=1)
    partsig.embed(
        None, tmp_path / "store", as_store=True, features_of="bands", output=tmp_path / "bands",
        device="cpu",
    )  # fmt: skip
    stored = open_store(tmp_path / "bands")
    recipe = read_recipe(tmp_path / "bands")
    network = feature_network(None, None, 0, partial(band_powers, sfreq=recipe.sfreq), CPU)
    features = EpochFeatures(recipe=recipe, network=network, device=CPU)
    stager = staging.LoadedStager(
        model=None, run=Run(recipe, epoch_s), facts={"ch_names": list(CHANNELS)}, device=CPU,
        features=features,
    )  # fmt: skip
    recording = staging.read(tmp_path / "raw" / "s.edf", stager, StageConfig())
    signal = staging._filtered(recording, staging._settings(stager, StageConfig()))
    end = recording.start_s + signal.shape[1] / recipe.sfreq
    gaps = gaps_within(recording.gaps, recording.start_s, end)
    found = features.of_signal(signal, gaps, len(recording.stages))
    expected = stored.signal("s")
    n = expected.shape[1]
    assert n == stored.recordings["s"]["n_epochs"]
    np.testing.assert_allclose(found[:, :n], expected, atol=1e-5)
    # By hand: what is neither flat nor missing, a second on each side, sets the scale.
    onsets = recording.start_s + epoch_s * np.arange(n)
    usable = np.ones(n, bool)
    for begin, stop in (asked.get("flat", (0, 0)), asked.get("missing", (0, 0))):
        usable &= (onsets + epoch_s < begin - 1) | (onsets > stop + 1)
    lost = [name for name in stored.ch_names if name.startswith(CHANNELS[1])]
    own = expected[[stored.ch_names.index(name) for name in lost]][:, usable]
    low, high = np.quantile(own, (0.25, 0.75), axis=1)
    assert 0.5 < np.median(high - low) < 2
