"""References: what a channel is made of, with the values that the electrodes give."""

import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pytest

from partsig import config
from partsig.data.signals.channels import MissingChannelsError, likeliest, resolve
from partsig.data.signals.preprocessing import PreprocessConfig, filtered
from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

PLACE = Path(__file__).parents[2] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)

ELECTRODES = ("C3", "C4", "F3", "F4", "O1", "O2", "M1", "M2", "E1", "Cz", "Fz", "EMG1", "EMG2")
# What each electrode has against infinity, µV, in ten samples: any derivation is known from it.
TRUE = dict(zip(ELECTRODES, np.random.default_rng(0).normal(0, 20, (13, 10)), strict=True))
REFERENCE = np.random.default_rng(1).normal(0, 20, 10)


def value(label):
    """Return what a file's channel of this label holds, from what its electrodes have."""
    for prefix in ("EEG ", "EOG ", "EMG "):
        label = label.removeprefix(prefix)
    active, _, reference = label.replace("A1", "M1").replace("A2", "M2").partition("-")
    if reference in ("", "REF"):
        return TRUE[active] - REFERENCE
    return TRUE[active] - TRUE[reference]


def made(labels, channel, **settings):
    """Return what a channel (10,) becomes from a file's labels, and the notes."""
    found = resolve("n", labels, (channel,), ReadConfig(channels=(channel,), **settings))
    rows = np.stack([value(labels[row]) for row in found.rows])
    return (rows if found.mix is None else found.mix @ rows)[0], found.notes


@pytest.mark.parametrize(
    ("labels", "channel", "note"),
    [
        (["C4", "M1"], "C4-M1", "C4-M1 = C4 - M1"),
        (["EEG C4-REF", "EEG A1-REF"], "C4-M1", "C4-M1 = EEG C4-REF - EEG A1-REF"),
        (["C4-M2", "M1-M2"], "C4-M1", "C4-M1 = C4-M2 - M1-M2"),
        (["C4-M2", "M2-M1"], "C4-M1", "C4-M1 = C4-M2 + M2-M1"),
        (["C4-Cz", "A1-Cz", "O1-Fz"], "C4-A1", "C4-A1 = C4-Cz - A1-Cz"),
        (["M1-C4"], "C4-M1", "C4-M1 =  - M1-C4"),
        (["C4", "M1", "M2"], "C4-(M1+M2)/2", "C4-(M1+M2)/2 = C4 - 0.5 M1 - 0.5 M2"),
        (["C4", "A1", "A2"], "C4-(A1+A2)/2", "C4-(A1+A2)/2 = C4 - 0.5 A1 - 0.5 A2"),
        (["C4-M1", "C4-M2"], "C4-(M1+M2)/2", None),
        (["C4-M2", "M1-M2"], "C4-(M1+M2)/2", "C4-(M1+M2)/2 = C4-M2 - 0.5 M1-M2"),
        (["C4-M1", "M1-M2"], "C4-(M1+M2)/2", "C4-(M1+M2)/2 = C4-M1 + 0.5 M1-M2"),
    ],
)
def test_values_are_those_of_the_electrodes(labels, channel, note):
    weights = {"C4": 1.0, "M1": -1.0}
    if "+" in channel:
        weights = {"C4": 1.0, "M1": -0.5, "M2": -0.5}
    got, notes = made(labels, channel)
    np.testing.assert_allclose(got, sum(w * TRUE[e] for e, w in weights.items()), atol=1e-9)
    if note:
        assert notes == (f"derived: {' '.join(note.split())}",)


def test_an_average_is_of_all_scalp_electrodes_of_one_reference():
    labels = ["C3", "C4", "F3", "O2", "M1", "M2", "E1", "EMG1", "Cz-Fz"]
    for name in ("C4-average", "C4-AVG", "C4-car"):
        got, notes = made(labels, name)
        mean = sum(TRUE[e] for e in ("C3", "C4", "F3", "O2")) / 4
        np.testing.assert_allclose(got, TRUE["C4"] - mean, atol=1e-9)
    assert notes == ("derived: C4-car = 0.75 C4 - 0.25 C3 - 0.25 F3 - 0.25 O2",)
    found = resolve("n", ["EEG C4-AVG", "C3-AVG"], ("C4-average",), ReadConfig())
    assert found.rows == (0,)
    with pytest.raises(DataError, match=r"'C4-average' needs at least 4 .* there are C3, C4"):
        made(["C3", "C4", "M1"], "C4-average")
    # What was recorded against something else is no average, nor the reverse.
    with pytest.raises(MissingChannelsError):
        made(["C4-M1", "C3-M1"], "F4-average")
    with pytest.raises(MissingChannelsError):
        resolve("n", ["C4-AVG", "M1"], ("C4-LE",), ReadConfig())


def test_electrodes_near_the_ears_are_no_mastoids():
    for labels in (["C4", "T9", "T10"], ["C4-T9"], ["C4", "TP9"]):
        with pytest.raises(MissingChannelsError):
            made(labels, "C4-M1")


def test_two_ways_are_a_question_whose_answer_is_right():
    labels = ["C4", "M1", "M1"]
    with pytest.raises(DataError, match=r"2 ways, from 'C4' and 'M1#1' or 'C4' and 'M1#2'") as two:
        made(labels, "C4-M1")
    answer = next(word for word in shlex.split(str(two.value)) if word.startswith("aliases="))
    chosen = config.compose(ReadConfig, "audit", None, [answer])
    found = resolve("n", labels, ("C4-M1",), chosen)
    assert (found.rows, found.mix.tolist()) == ((0, 1), [[1, -1]])
    found = resolve("n", labels, ("C4-M1",), ReadConfig(aliases={"C4-M1": ("C4-M1#2",)}))
    assert found.rows == (0, 2)


@pytest.mark.parametrize(
    ("channel", "labels", "likely"),
    [
        ("Chin1-Chin2", ["EMG1", "EMG2"], "EMG1-EMG2"),
        ("Chin1-Chin2", ["Chin L", "Chin R", "EEG C4"], "Chin L-Chin R"),
        ("Chin1-Chin2", ["EMG Left Leg", "EMG Right Leg", "EMG chin"], "EMG chin"),
        ("Chin1-Chin2", ["EMG Left Leg", "EMG Right Leg"], ""),
        ("Chin1-Chin2", ["EMG1-EMG2", "EMG3"], "EMG1-EMG2"),
        ("E1-M2", ["EOG Left", "EOG Right", "M1", "M2"], "EOG Left-M1"),
        ("E1-M2", ["EOG Left", "EOG Right"], "EOG Left"),
        ("C4-M1", ["C4", "A2"], "C4-A2"),
        ("C4-M1", ["EEG C4-A2", "A2"], "EEG C4-A2"),
        ("C4-M1", ["C4"], "C4"),
    ],
)
def test_half_of_a_pair_is_never_proposed_for_the_pair(channel, labels, likely):
    assert likeliest(channel, labels) == likely
    with pytest.raises(MissingChannelsError) as missing:
        resolve("n", labels, (channel,), ReadConfig())
    answer = next(word for word in shlex.split(str(missing.value)) if word.startswith("aliases="))
    if likely:  # what is proposed is accepted, as it would be typed
        chosen = config.compose(ReadConfig, "audit", None, [answer])
        found = resolve("n", labels, (channel,), chosen)
        ends = likely.split("-") if likely not in labels else [likely]
        assert [labels[row] for row in found.rows] == ends


def test_an_alias_may_be_a_difference():
    got, notes = made(["EMG1", "EMG2"], "Chin1-Chin2", aliases={"Chin1-Chin2": ("EMG1-EMG2",)})
    np.testing.assert_allclose(got, TRUE["EMG1"] - TRUE["EMG2"])
    assert notes == ("derived: Chin1-Chin2 = EMG1 - EMG2",)
    labels = ["EMG-1", "EMG-2"]  # labels with dashes of their own
    settings = ReadConfig(aliases={"Chin1-Chin2": ("EMG-1-EMG-2",)})
    assert resolve("n", labels, ("Chin1-Chin2",), settings).rows == (0, 1)


def test_a_derivation_of_two_rates_is_that_of_the_waves(tmp_path):
    signals = []
    for label, rate, hz in (("C4", 256, 7.3), ("M1", 128, 11.1), ("M2", 200, 4.7)):
        t = np.arange(60 * rate) / rate
        one = edf_bytes.signal(label, rate, 60)
        one["data"] = np.round(np.sin(2 * np.pi * hz * t) * 50 / 500 * 32767).astype("<i2")
        signals.append(one)
    path = edf_bytes.write_edf(tmp_path / "n.edf", signals)
    channels = ("C4-(M1+M2)/2", "C4-M1")
    settings = PreprocessConfig(channels=channels)
    recording = edf_recordings.read_recording(path, settings)
    got = filtered(recording, settings)
    t = np.arange(6000) / 100
    c4, m1, m2 = (50 * np.sin(2 * np.pi * hz * t) for hz in (7.3, 11.1, 4.7))
    inner = slice(2000, 4000)
    np.testing.assert_allclose(got[0, inner], (c4 - (m1 + m2) / 2)[inner], atol=0.5)
    np.testing.assert_allclose(got[1, inner], (c4 - m1)[inner], atol=0.5)
    assert recording.notes == ("derived: C4-(M1+M2)/2 = C4 - 0.5 M1 - 0.5 M2, C4-M1 = C4 - M1",)
