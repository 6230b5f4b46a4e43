"""What cannot be read as it is: the sentence says what it is, and what to do."""

import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path

import edfio
import numpy as np
import pytest

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import bids, edf_recordings, wfdb_records
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

PLACE = Path(__file__).parents[3] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)
signal, write_edf = edf_bytes.signal, edf_bytes.write_edf

SETTINGS = ReadConfig(channels=("C4-M1",))


def test_channels_of_one_name_are_chosen_by_their_number(tmp_path):
    signals = [signal("C4-M1", 100, 60, seed) for seed in (1, 2)]
    path = write_edf(tmp_path / "n.edf", signals)
    message = r"2 channels are called 'C4-M1'; choose .*aliases=\{C4-M1: \[\"C4-M1#1\"\]\}"
    with pytest.raises(DataError, match=message):
        edf_recordings.read_recording(path, SETTINGS)
    for number in (1, 2):
        chosen = ReadConfig(channels=("C4-M1",), aliases={"C4-M1": (f"C4-M1#{number}",)})
        values = edf_recordings.read_recording(path, chosen).parts[0].microvolts(0)
        expected = signals[number - 1]["data"] * (500 / 32767)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-3)
    beyond = ReadConfig(channels=("C4-M1",), aliases={"C4-M1": ("C4-M1#3",)})
    with pytest.raises(DataError, match="2 channels are called"):
        edf_recordings.read_recording(path, beyond)


def test_a_file_of_annotations_is_no_recording(tmp_path):
    marks = [(0.0, 30.0, "Sleep stage W")]
    path = tmp_path / "h.edf"
    edfio.Edf([], annotations=[edfio.EdfAnnotation(*mark) for mark in marks]).write(path)
    with pytest.raises(DataError, match=r"h\.edf holds annotations alone and no signal"):
        edf_recordings.read_recording(path, SETTINGS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[0, 1, 2, 3]", r"0, 1, 2, 3 mean different stages by .*codes=rk"),
        ('{"a": "b"}', "JSON of 1 entries, none of them stages; expected a list of stages"),
        ("RemLogic Event Export\nPatient:\tX\n\n", "no columns of REMlogic's; expected Time"),
        ("Signal ID: Profil\n\n22:00:00,000; Wake\n", "no rate of epochs above the stages"),
        ("0,0,1,2,x,4,1,1,1\n", "stands on one line, and not all of it is a stage; one stage a"),
        ("W W N1 N2 N2 N3 N3 R\n", r"lasts 0:04:00 h, so that its place cannot be told"),
    ],
)
def test_hypnograms_of_which_something_is_missing(tmp_path, text, message):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, 60)])
    (tmp_path / "n.txt").write_text(text)
    with pytest.raises(DataError, match=rf"n\.txt.*{message}"):
        edf_recordings.read_recording(path, SETTINGS)


def test_a_file_of_a_format_that_is_not_read_is_told_of(tmp_path):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, 60)])
    (tmp_path / "n.xlsx").write_text("[]")
    told = edf_recordings.read_recording(path, SETTINGS).notes[-1]
    assert "n.xlsx lies beside it, of a format that is not read: export it as CSV" in told


def test_a_hypnogram_beside_a_recording_of_bids(tmp_path):
    folder = tmp_path / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    path = write_edf(folder / "sub-01_task-sleep_eeg.edf", [signal("C4-M1", 100, 60)])
    (folder / "sub-01_task-sleep_hypnogram.tsv").write_text(
        "onset\tduration\tstage\n0\t30\tW\n30\t30\tN2\n"
    )
    pattern = "{name}_hypnogram.tsv"
    stated = replace(SETTINGS, hypnogram=HypnogramConfig(pattern=pattern))
    for settings in (SETTINGS, stated):
        night = bids.read_recording(path, settings)
        assert night.stages.tolist() == [0, 2]
        assert "placed by its format" in night.notes[0]
    without = bids.fingerprint(path, SETTINGS)
    (folder / "sub-01_task-sleep_hypnogram.tsv").unlink()
    assert bids.fingerprint(path, SETTINGS) != without


def test_annotations_are_known_by_a_label_in_any_case(tmp_path):
    marks = [(30.0 * k, 30.0, f"Sleep stage {stage}") for k, stage in enumerate(("W", "N2"))]
    path = write_edf(
        tmp_path / "n.edf", [signal("C4-M1", 100, 60)], kind="EDF+C", annotations=marks
    )
    path.write_bytes(path.read_bytes().replace(b"EDF Annotations", b"EDF annotations"))
    assert edf_recordings.read_recording(path, SETTINGS).stages.tolist() == [0, 2]


@pytest.mark.parametrize("date", [" 1. 3.20", "01/03/20", "1.3.20"])
def test_dates_and_times_with_spaces_for_zeros_are_read(tmp_path, date):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, 60)], date=date, time="22. 5. 0")
    start = edf_recordings.read_recording(path, SETTINGS).start
    assert start.isoformat() == "2020-03-01T22:05:00"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("r 0 100 6000", "the header has no signals; complete it"),
        ("r 1 100\nr.dat 16 1/uV 16 0 0 0 0 C4-M1", "the header has no number of samples;"),
        ("r 1 100 6000\nr.dat 16", "the header has a signal without a description;"),
        ("r 1 100 30\nr.dat 61 1/uV 16 0 0 0 0 C4-M1", "does not read its format, 61: convert"),
    ],
)
def test_a_wfdb_header_says_what_it_lacks(tmp_path, header, message):
    (tmp_path / "r.hea").write_text(f"{header}\n")
    (tmp_path / "r.dat").write_bytes(np.arange(30).astype(">i2").tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb's own use of pandas
        with pytest.raises(DataError, match=message):
            wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
