"""Parts of signals: events in made EEG, asked by every way of asking for parts, and compared.

A second is a part: a spindle, a K-complex, alpha, or none; ten seconds are an object: wake, with
alpha, or sleep, with the others. Both stores hold the same recordings.
"""

import json

import numpy as np
import pytest

import partsig
from partsig.contracts import Labels
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.runs.run import Run

pytestmark = pytest.mark.slow  # eight runs: quick ones stand in the tests of each way

SFREQ, N_BLOCKS, BLOCK_S, N_SUBJECTS = 100.0, 6, 10, 20
EVENTS = Labels(
    classes=("none", "alpha", "spindle", "k-complex"), unit_s=1.0, level="part"
)  # fmt: skip
STATES = Labels(classes=("wake", "sleep"), unit_s=float(BLOCK_S))
CPU = {"device": "cpu"}
COMMON = {
    "patch_s": 0.25, "encoder.width": 32, "encoder.depth": 1, "encoder.heads": 2,
    "split.val_subjects": 3, "split.test_fraction": 0.3, "encoder.tokens": "linear+spectrum",
}  # fmt: skip
HEAD = {
    "train": "attentive", "fit.epochs": 15, "fit.batch_size": 64, "optim.lr": 4e-2,
    "optim.warmup_epochs": 2,
}  # fmt: skip


def wave(event, rng, time):
    """Return one second of an event, µV: its kind, a phase and a place of its own."""
    at = rng.uniform(0.4, 0.6)
    bump = np.exp(-(((time - at) / 0.2) ** 2))
    if event == "alpha":
        return 25 * np.sin(2 * np.pi * (rng.uniform(9, 11) * time + rng.uniform()))
    if event == "spindle":
        return 40 * bump * np.sin(2 * np.pi * (rng.uniform(13, 15) * time + rng.uniform()))
    if event == "k-complex":  # a sharp wave down, a slow one up
        slow, sharp = (np.exp(-(((time - at) / width) ** 2)) for width in (0.25, 0.1))
        return 120 * (slow - 2 * sharp)
    return np.zeros_like(time)


def night(subject):
    """Return EEG (2, T) µV, the event of every second, and the state of every ten."""
    rng = np.random.default_rng(subject)
    states = rng.permutation(np.arange(N_BLOCKS) % 2)
    of_state = {0: ("none", "alpha"), 1: ("none", "spindle", "k-complex")}
    events = [str(rng.choice(of_state[state])) for state in np.repeat(states, BLOCK_S)]
    time = np.arange(int(SFREQ)) / SFREQ
    signal = np.concatenate([wave(event, rng, time) for event in events])
    freqs = np.fft.rfftfreq(len(signal), 1 / SFREQ)
    noise = np.exp(2j * np.pi * rng.random((2, len(freqs)))) / np.maximum(freqs, 1.0)
    noise = np.fft.irfft(noise, len(signal))
    signal = signal + 12 * noise / noise.std()
    return signal, np.array([EVENTS.classes.index(event) for event in events]), states


def made(path, labels, which):
    meta = make_meta(
        source="made", ch_names=("C3-M2", "C4-M1"), sfreq=SFREQ, l_freq=None, h_freq=None,
        dtype="float32", labels=labels,
    )  # fmt: skip
    create_store(path, meta)
    rows = []
    for subject in range(N_SUBJECTS):
        signal, *codes = night(subject)
        recording = Recording(
            name=f"night-{subject:02d}", subject=f"p{subject:02d}", parts=(), source=str(subject),
            ch_names=meta["ch_names"], stages=codes[which].astype(np.int8),
        )  # fmt: skip
        rows.append(write_recording(path, meta, recording, signal.astype(np.float32)))
    write_index(path, rows)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    return {
        "events": made(folder / "events", EVENTS, 0),
        "states": made(folder / "states", STATES, 1),
    }


@pytest.fixture(scope="module")
def runs(stores, tmp_path_factory):
    """An encoder that was never trained and sees spectra, and one that sees none, asked."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for encoder, own in (("spectra", {}), ("waves", {"encoder.tokens": "linear"})):
        for way, (store, task, more) in {
            "state": ("states", None, {"train": "probe", "pool": "mean"}),
            "retrieval": ("events", "part-retrieval", {"pool": "mean"}),
            "linear": ("events", None, {"train": "probe", "pool": "mean"}),
            "knn": ("events", None, {"train": "knn", "pool": "mean"}),
            "attentive": ("events", None, HEAD),
        }.items():
            if encoder == "waves" and way in ("knn", "attentive"):
                continue
            path = partsig.finetune(
                "scratch", stores[store], folder / f"{encoder}-{way}", task=task, subjects=0,
                overrides=COMMON | own | more, **CPU,
            )  # fmt: skip
            partsig.evaluate(path, figures=False, **CPU)
            found[encoder, way] = path
    return found


def result(run):
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def test_events_are_found_where_a_spectrum_tells_them_apart(runs):
    found = result(runs["spectra", "retrieval"])
    assert found["split_unit"] == "subject"
    assert set(found["average_precision"]) == set(EVENTS.classes)
    assert found["mean_average_precision_interval_95"][0] > found["chance"] + 0.1


@pytest.mark.parametrize("way", ["linear", "knn", "attentive"])
def test_events_are_told_apart_by_every_probe(runs, way):
    found = result(runs["spectra", way])
    assert found["kappa_interval_95"][0] > 0.3  # 0 is chance
    assert Run.read(runs["spectra", way]).labels.level == "part"


def test_both_levels_are_compared_over_subjects(runs, tmp_path):
    named = [f"{encoder}={path}" for (encoder, _), path in runs.items()]
    found = partsig.compare(named, task="parts", against="waves", output=tmp_path / "t", **CPU)
    assert [column.title for column in found.columns] == [
        "object: linear, mean", "part: retrieval, mean", "part: linear, mean", "part: kNN, mean",
        "part: attentive",
    ]  # fmt: skip
    of_test = Run.read(runs["waves", "state"]).split["test"]
    assert all(sorted(column.names) == sorted(of_test) for column in found.columns)
    assert f"{len(of_test)} test subjects" in found.markdown
    for way, column in zip(("state", "linear"), (found.columns[0], found.columns[2]), strict=True):
        for encoder in ("spectra", "waves"):
            expected = result(runs[encoder, way])["accuracy"]
            assert column.cells[encoder].score == pytest.approx(expected)
    assert found.columns[4].cells.keys() == {"spectra"}  # the other was not asked so
    spectra = found.encoders[1]
    assert spectra.encoder == "spectra"
    # Spectra find parts that waveforms do not: a phase is of no use.
    assert spectra.differences["part: retrieval, mean"].side == "ahead"
    assert found.figure.is_file()
