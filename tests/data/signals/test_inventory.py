"""``contralateral``: which channels recordings have in common, made of whatever is there."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals import inventory
from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.recordings import ReadConfig
from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.verbs.audit import audit
from partsig.verbs.preprocess import preprocess

PLACE = Path(__file__).parents[2] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)

ALL = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "E2-M2")
SFREQ, SECONDS = 100, 120


def write(folder, name, labels, **fields):
    """Write channels of sines, each electrode at a frequency of its own; return their waves."""
    t = np.arange(SFREQ * SECONDS) / SFREQ
    signals, waves = [], {}
    for k, label in enumerate(labels):
        waves[label] = 60 * np.sin(2 * np.pi * (3 + 1.7 * k) * t)
        one = edf_bytes.signal(label, SFREQ, SECONDS)
        one["data"] = np.round(waves[label] / 500 * 32767).astype("<i2")
        signals.append(one | fields.get(label, {}))
    edf_bytes.write_edf(folder / f"{name}.edf", signals)
    return waves


def test_all_are_found_however_they_are_recorded():
    recorded = ["EEG F3-A2", "F4", "C3", "C4:M1", "O1", "O2A1", "E1-M2", "E2", "M1", "M2"]
    found = inventory.sources("n", recorded, ReadConfig())
    assert tuple(found) == ALL
    assert found["F4-M1"] == "F4 - M1"
    assert found["C4-M1"] == "C4:M1"
    # Nothing of the same side, nor of other electrodes behind the ear.
    assert inventory.sources("n", ["C3-M1", "C4-A2", "C4-T9", "T10", "O1"], ReadConfig()) == {}
    aliases = {"E1-M2": ("EOG left",)}
    assert tuple(inventory.sources("n", ["EOG left"], ReadConfig(aliases=aliases))) == ("E1-M2",)


def test_a_store_has_what_all_recordings_have_in_common(tmp_path):
    (tmp_path / "raw").mkdir()
    one = write(tmp_path / "raw", "a", ["C3", "C4", "A1", "A2", "EMG"])
    two = write(tmp_path / "raw", "b", ["EEG C4-A1", "EEG C3-A2", "O2-M1", "EMG"])
    (tmp_path / "raw" / "c.edf").write_bytes(b"damaged")  # does not count
    overrides = {"channels": ["contralateral", "EMG"], "l_freq": None, "h_freq": None}
    result = preprocess("edf", tmp_path / "raw", tmp_path / "s", overrides=overrides, jobs=1)
    store = open_store(tmp_path / "s")
    assert store.ch_names == ("C3-M2", "C4-M1", "EMG")
    np.testing.assert_allclose(store.signal("a")[1], one["C4"] - one["A1"], atol=0.1)
    np.testing.assert_allclose(store.signal("a")[0], one["C3"] - one["A2"], atol=0.1)
    np.testing.assert_allclose(store.signal("b")[1], two["EEG C4-A1"], atol=0.1)
    assert result.notes[:3] == [
        "contralateral: C3-M2 is C3 - A2 in 1, EEG C3-A2 in 1 of 2 recordings",
        "contralateral: C4-M1 is C4 - A1 in 1, EEG C4-A1 in 1 of 2 recordings",
        "contralateral: not in every recording and left out: O2-M1 (in 1)",
    ]
    assert "derived: C3-M2 = C3 - A2, C4-M1 = C4 - A1 (in 1 recordings)" in result.notes
    assert store.recordings["a"]["notes"].startswith("derived: C3-M2 = C3 - A2, C4-M1 = C4 - A1")
    # The same again finds everything done; with missing=fill, what only some have is kept.
    again = preprocess("edf", tmp_path / "raw", tmp_path / "s", overrides=overrides, jobs=1)
    assert again.counts == result.counts
    filled = overrides | {"missing": "fill"}
    preprocess("edf", tmp_path / "raw", tmp_path / "f", overrides=filled, jobs=1)
    store = open_store(tmp_path / "f")
    assert store.ch_names == ("C3-M2", "C4-M1", "O2-M1", "EMG")
    assert store.recordings["a"]["filled"] == "O2-M1"
    assert not store.signal("a")[2].any()


def test_where_nothing_is_in_common_it_is_said(tmp_path):
    write(tmp_path, "a", ["C3-M2"])
    write(tmp_path, "b", ["C4-M1"])
    overrides = {"channels": ["contralateral"]}
    with pytest.raises(DataError, match=r"in all 2 recordings \(C3-M2 in 1, C4-M1 in 1\): name"):
        preprocess("edf", tmp_path, tmp_path / "s", overrides=overrides, jobs=1)
    with pytest.raises(DataError, match="a: no contralateral channel is there or can be made"):
        inventory.expanded("a", ["C3", "T9"], ReadConfig(channels=("contralateral",)))
    with pytest.raises(ConfigError, match="looks into every header first, and these recordings"):
        inventory.of_all(edf_recordings, [], ReadConfig(channels=("contralateral",)), here=False)


def test_a_recording_by_itself_has_its_own(tmp_path):
    write(tmp_path, "a", ["C4", "A1", "E1-M2"])
    settings = ReadConfig(channels=("contralateral",))
    night = edf_recordings.read_recording(tmp_path / "a.edf", settings)
    assert night.ch_names == ("C4-M1", "E1-M2")
    assert night.mix.tolist() == [[1, -1, 0], [0, 0, 1]]


def test_an_audit_without_channels_measures_every_signal(tmp_path):
    labels = ["EEG Fpz-Cz", "EOG horizontal", "EMG submental", "Resp oro-nasal", "SaO2", "C4", "C4"]
    fields = {"SaO2": {"unit": "%"}}
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw", "a", labels, **fields)
    result = audit(tmp_path / "raw", source="edf", output=tmp_path / "out", jobs=1)
    assert result.recordings[0].recording.ch_names == (
        *("EEG Fpz-Cz", "EOG horizontal", "EMG submental"),
        *("C4#1", "C4#2"),
    )
    assert result.n_faulty == 0
    (line,) = result.channels
    assert "measured: EEG Fpz-Cz (uV, 100 Hz), EOG horizontal (uV, 100 Hz)" in line
    assert "not measured: Resp oro-nasal (uV, 100 Hz), SaO2 (%, 100 Hz) (in 1 of 1 rec" in line
    assert any(f.kind == "channels" for f in result.recordings[0].findings)
    # Channels that are named are those that are measured.
    named = {"channels": ["EMG submental"]}
    result = audit(tmp_path / "raw", source="edf", output=tmp_path / "o2", overrides=named, jobs=1)
    assert result.recordings[0].recording.ch_names == ("EMG submental",)
    assert result.channels == []


def test_one_channel_that_cannot_be_read_is_a_fault_and_costs_no_other(tmp_path):
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw", "a", ["C4-M1", "C3-M2"], **{"C3-M2": {"low": "5", "high": "5"}})
    write(tmp_path / "raw", "b", ["SaO2", "Flow"])
    result = audit(tmp_path / "raw", source="edf", output=tmp_path / "out", jobs=1)
    by_name = {one.recording.name: one for one in result.recordings}
    assert by_name["a"].recording.ch_names == ("C4-M1",)
    (fault,) = [f for f in by_name["a"].findings if f.level == "fault"]
    assert fault.text.startswith("Not readable: C3-M2 (a.edf: channel 'C3-M2' maps samples 5 to 5")
    assert by_name["b"].recording.reason.startswith(
        "b: no channel looks like EEG, EOG or EMG; it has SaO2 (uV, 100 Hz), Flow (uV, 100 Hz)."
    )
    assert result.n_faulty == 2
