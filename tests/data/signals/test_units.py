"""A wrong unit is asked about, by amplitude and resolution together; a quiet channel is not."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from partsig import config
from partsig.data.signals import units
from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import ConfigError, DataError

PLACE = Path(__file__).parents[2] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)

SFREQ, SECONDS = 100, 120


def noise(sd_uv, seed=1, low=0.0):
    """Return noise of this SD, smooth like EEG, quiet from ``low`` of its length on."""
    rng = np.random.default_rng(seed)
    x = np.convolve(rng.normal(size=SFREQ * SECONDS + 9), np.ones(10) / 10**0.5, "valid") * sd_uv
    if low:
        x[int(low * len(x)) :] = 0.0
    return x


def write(folder, values, unit, span, label="C4-M1", top=32767):
    """Write values, numbers in whatever unit, into 16 bits of ±span, under a unit's name."""
    data = np.clip(np.round(values / span * top), -top, top).astype("<i2")
    fields = {"unit": unit, "least": f"{-span:g}", "most": f"{span:g}", "low": f"{-top}"}
    fields |= {"label": label, "n": SFREQ, "data": data, "high": f"{top}"}
    return edf_bytes.write_edf(folder / "n.edf", [fields])


def read(path, **settings):
    night = edf_recordings.read_recording(path, ReadConfig(channels=("C4-M1",), **settings))
    return night.parts[0].microvolts(0), night.notes


@pytest.mark.parametrize(
    ("factor", "stated", "other"),
    [(1e-3, "uV", "mV"), (1e-6, "uV", "V"), (1e3, "mV", "uV"), (1.0, "mV", "uV"), (1.0, "V", "uV")],
)
def test_a_wrong_unit_is_a_question_whose_answer_gives_the_right_values(
    tmp_path, factor, stated, other
):
    x = noise(20.0)
    factor = {("uV", "mV"): 1e-3, ("uV", "V"): 1e-6}.get((stated, other), 1.0)  # numbers per µV
    path = write(tmp_path, x * factor, stated, 500 * factor)
    message = f"'C4-M1' usually changes by .* as numbers in {other} would, although '{stated}' is"
    with pytest.raises(DataError, match=message) as refused:
        read(path)
    answers = re.findall(r"--set '(units=\{C4-M1: (\w+)\})'", str(refused.value))
    assert [unit for _, unit in answers] == [other, stated]
    # As it would be typed, and as it is parsed from there.
    given = config.compose(ReadConfig, "audit", None, [answers[0][0]])
    values, notes = read(path, units=given.units)
    np.testing.assert_allclose(values, x, atol=0.02)
    assert not notes
    # The header's is believed where it is stated, and the doubt is told.
    values, notes = read(path, units={"C4-M1": stated})
    own = factor * units.UNITS[stated.lower()]
    np.testing.assert_allclose(values / own, x, atol=0.02)
    assert notes[0].endswith(f"which units={{C4-M1: {stated}}} states to be right")


@pytest.mark.parametrize(
    ("values", "span"),
    [
        (noise(0.4), 500.0),  # an amplifier that hears nothing but itself
        (noise(0.4), 3.0),  # and with the range that a writer chose for it
        (noise(1.0), 3200.0),  # quieter than its resolution lets see
        (noise(20.0, low=0.05), 500.0),  # off for 95 % of the night
        (np.zeros(SFREQ * SECONDS), 500.0),
        (noise(800.0), 8000.0),  # a heart
        (noise(1e-9), 1e-8),  # what rounding leaves of a flat channel
    ],
)
def test_quiet_loud_flat_and_switched_off_channels_are_stored_as_they_are(tmp_path, values, span):
    got, notes = read(write(tmp_path, values, "uV", span))
    np.testing.assert_allclose(got, values, atol=span / 32767)
    assert not notes


def test_half_of_a_night_off_with_a_trace_of_rounding_is_no_wrong_unit(tmp_path):
    values = noise(20.0, low=0.4) + noise(1e-4, seed=2)
    got, notes = read(write(tmp_path, values, "uV", 0.5 * abs(values).max() * 2 + 1))
    assert abs(got - values).max() < 0.01
    assert not notes


def test_a_coarse_resolution_is_no_wrong_unit(tmp_path):
    # Steps of 50 µV: told. Steps of 10 mV, as of a range of 300 V: refused, and the range is named.
    _, notes = read(write(tmp_path, noise(40.0), "uV", 5e3, top=100))
    assert "its resolution is too coarse for what it holds" in notes[0]
    assert "would" not in notes[0]
    path = write(tmp_path, noise(8e3), "uV", 1e6, top=100)
    with pytest.raises(DataError, match=r"resolution is too coarse.*export it again with a range"):
        read(path)
    assert read(path, units={"C4-M1": "uV"})[1]


def test_units_of_single_channels_are_found_by_their_labels(tmp_path):
    path = write(tmp_path, noise(0.02), "", 0.5, label="EEG C4-A1")
    with pytest.raises(DataError, match=r"not a voltage; .*units=\{EEG C4-A1: uV\}.* unit=uV for"):
        read(path)
    for name in ("EEG C4-A1", "C4-M1"):
        values, _ = read(path, units={name: "mV"}, unit="uV")
        np.testing.assert_allclose(values, noise(20.0), atol=0.02)
    _, notes = read(path, units={"C4-M1": "mV", "O2-M1": "uV"})
    assert notes == ("units names O2-M1, which was not read here",)
    with pytest.raises(ConfigError, match="units"):
        config.compose(ReadConfig, "audit", None, ["units={C4-M1: inches}"])


def test_several_channels_of_one_mistake_are_one_question(tmp_path):
    signals = []
    for seed, label in enumerate(("C4-M1", "O2-M1", "EMG", "C3-M2")):
        span = 0.5 if label != "EMG" else 500.0
        data = np.round(noise(20.0, seed) / 500 * 32767).astype("<i2")
        fields = {"least": f"{-span:g}", "most": f"{span:g}", "low": "-32767", "high": "32767"}
        signals.append({"label": label, "unit": "uV", "n": SFREQ, "data": data} | fields)
    path = edf_bytes.write_edf(tmp_path / "n.edf", signals)
    channels = ("C4-M1", "O2-M1", "EMG", "C3-M2")
    with pytest.raises(DataError, match=r"\(so do 'O2-M1', 'C3-M2'\), alth") as refused:
        edf_recordings.read_recording(path, ReadConfig(channels=channels))
    answer = re.search(r"'(units=\{[^}]*: mV\})'", str(refused.value))[1]
    given = config.compose(
        ReadConfig, "audit", None, [answer, "channels=[C4-M1, O2-M1, EMG, C3-M2]"]
    )
    night = edf_recordings.read_recording(path, given)
    for c in range(4):
        assert 18 < night.parts[0].microvolts(c).std() < 22


def test_a_derivation_of_two_units_is_converted(tmp_path):
    c4, m1 = noise(20.0, 1), noise(20.0, 2)
    signals = []
    for label, x, unit, factor in (("C4", c4, "mV", 1e-3), ("M1", m1, "uV", 1.0)):
        data = np.round(x / 200 * 32767).astype("<i2")
        span = {"least": f"{-200 * factor:g}", "most": f"{200 * factor:g}"}
        signals.append(
            {"label": label, "unit": unit, "n": SFREQ, "data": data}
            | span
            | {"low": "-32767", "high": "32767"}
        )
    path = edf_bytes.write_edf(tmp_path / "n.edf", signals)
    night = edf_recordings.read_recording(path, ReadConfig(channels=("C4-M1",)))
    rows = np.stack([night.parts[0].microvolts(c) for c in range(2)])
    np.testing.assert_allclose((night.mix @ rows)[0], c4 - m1, atol=0.02)
    assert night.notes == ("derived: C4-M1 = C4 - M1",)


def test_the_measured_false_alarms_are_none():
    kept = Path(__file__).parents[3] / "benchmarks" / "results" / "units.json"
    sources = json.loads(kept.read_text())["sources"]
    assert sum(source["recordings"] for source in sources.values()) > 4000
    for source in sources.values():
        for name, counts in source.items():
            if isinstance(counts, dict) and name.endswith(("as it is", "off")):
                assert "refused" not in counts, name
