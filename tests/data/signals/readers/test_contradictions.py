"""Files that contradict themselves, which MNE reads all the same: refused, or told."""

import sys

import mne
import numpy as np
import pytest
import scipy.io

from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.readers.brainvision import notes_of
from partsig.data.signals.readers.mne_checks import eeglab_notes, fif_notes
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

SETTINGS = ReadConfig(channels=("C4-M1",))
SIGNAL = np.random.default_rng(0).normal(0, 30, (2, 6000)).astype("f4")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="MNE's files need forks")


def eeglab(path, *, flat=False, **changed):
    """Write an EEGLAB file; ``flat`` as newer ones are, with a variable for each field."""
    none = np.array([])
    names = changed.pop("names", ("O2-M1", "C4-M1"))
    fields = {"data": SIGNAL, "srate": 100.0, "nbchan": 2.0, "trials": 1.0, "pnts": 6000.0}
    fields |= {"chanlocs": np.array([(name,) for name in names], dtype=[("labels", "O")])}
    fields |= {"xmin": 0.0, "xmax": 59.99, "event": none, "icawinv": none, "icaweights": none}
    fields |= {"icasphere": none, "epoch": none, "etc": {}, "setname": "n", "filename": "n.set"}
    fields |= {"filepath": "", "comments": "", "ref": "common"} | changed
    scipy.io.savemat(path, fields if flat else {"EEG": fields}, appendmat=False)
    return path


@pytest.mark.parametrize("flat", [False, True])
def test_an_eeglab_file_names_as_many_channels_as_it_has_rows(tmp_path, flat):
    path = eeglab(tmp_path / "n.set", flat=flat)
    night = edf_recordings.read_recording(path, SETTINGS)
    np.testing.assert_allclose(night.parts[0].microvolts(0), SIGNAL[1], atol=1e-3)
    assert night.notes == ()
    # With one name more, MNE takes the first rows, and C4-M1 is another channel's.
    for changed in ({"names": ("X", "O2-M1", "C4-M1")}, {"data": SIGNAL.T.copy()}):
        eeglab(path, flat=flat, **changed)
        with pytest.raises(DataError, match=r"channels are named, and there are \d+ rows of sam"):
            edf_recordings.read_recording(path, SETTINGS)
    eeglab(path, flat=flat, data=SIGNAL[:, :5000])
    told = "the header tells of 6,000 samples of a channel, and 5,000 are there"
    assert eeglab_notes(str(path)) == [told]
    if not flat:  # of the others MNE refuses it itself
        assert edf_recordings.read_recording(path, SETTINGS).notes == (told,)


def test_an_eeglab_file_of_samples_is_as_long_as_the_header_says(tmp_path):
    path = eeglab(tmp_path / "n.set", data="n.fdt")
    (tmp_path / "n.fdt").write_bytes(SIGNAL.T.astype("<f4").tobytes())
    assert eeglab_notes(str(path)) == []
    (tmp_path / "n.fdt").write_bytes(SIGNAL.T.astype("<f4").tobytes()[:-8000])
    assert eeglab_notes(str(path)) == [
        "the header tells of 6,000 samples of a channel, and 5,000 are there"
    ]


def test_tags_of_a_fif_file_that_break_off_are_told(tmp_path):
    info = mne.create_info(["C4-M1", "O2-M1"], 100, "eeg")
    raw = mne.io.RawArray(1e-6 * SIGNAL, info, verbose="error")
    path = tmp_path / "n_raw.fif"
    raw.save(path, verbose="error")
    assert fif_notes(str(path)) == []
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000] + b"abc" + whole[20_000:])
    (note,) = fif_notes(str(path))
    assert note.startswith("its tags break off at byte ")
    assert note.endswith(f"of {len(whole) + 3:,}: the file is cut off or damaged")
    night = edf_recordings.read_recording(path, SETTINGS)
    assert note in night.notes
    assert night.parts[0].signal.shape[1] < 6000


def brainvision(folder, n_bytes=24_000, marks="Mk1=New Segment,,1,1,0,20200201220000000000\n"):
    head = "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=n.eeg\n"
    head += "MarkerFile=n.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
    head += "NumberOfChannels=2\nSamplingInterval=10000\n[Binary Infos]\nBinaryFormat=INT_16\n"
    head += "[Channel Infos]\nCh1=C4-M1,,0.1,µV\nCh2=O2-M1,,0.1,µV\n"
    (folder / "n.vhdr").write_text(head, encoding="utf-8")
    data = (10 * SIGNAL).round().astype("<i2").T.tobytes()
    (folder / "n.eeg").write_bytes(data[:n_bytes])
    if marks is not None:
        first = "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\n"
        (folder / "n.vmrk").write_text(f"{first}DataFile=n.eeg\n[Marker Infos]\n{marks}")
    return folder / "n.vhdr"


def test_what_lies_beside_a_brainvision_header_is_held_against_it(tmp_path):
    path = brainvision(tmp_path)
    assert notes_of(path) == []
    assert edf_recordings.read_recording(path, SETTINGS).notes == ()
    brainvision(tmp_path, n_bytes=20_003)
    (note,) = notes_of(path)
    assert note.startswith("3 bytes after the last whole sample of all channels are left out")
    brainvision(tmp_path, marks="Mk1=Comment,Sleep stage W,1,30")
    assert notes_of(path) == ["n.vmrk breaks off in its last marker"]
    brainvision(tmp_path, marks="Mk1=Comment,Sleep stage W,1,3000,0\nMk")
    assert notes_of(path) == ["n.vmrk breaks off in its last marker"]
    brainvision(tmp_path, marks="")
    assert notes_of(path) == []
    (tmp_path / "n.vmrk").unlink()
    brainvision(tmp_path, marks=None)
    (note,) = edf_recordings.read_recording(path, SETTINGS).notes
    assert note.startswith("the header's marker file n.vmrk is missing, and with it the start")


def test_marks_after_the_signals_end_are_told(tmp_path):
    marks = "Mk1=New Segment,,1,1,0,20200201220000000000\n"
    marks += "Mk2=Comment,Sleep stage W,1,3000,0\nMk3=Comment,Sleep stage N2,90001,3000,0\n"
    night = edf_recordings.read_recording(brainvision(tmp_path, marks=marks), SETTINGS)
    assert night.stages.tolist() == [0, -1]
    told = "MNE says: Omitted 1 annotation(s) that were outside data range."
    assert told in night.notes


def test_stages_that_last_no_epoch_are_told(tmp_path):
    marks = "Mk1=Comment,Sleep stage W,1,30,0\nMk2=Comment,Sleep stage N2,3001,30,0\n"
    night = edf_recordings.read_recording(brainvision(tmp_path, marks=marks), SETTINGS)
    assert night.stages.tolist() == [-1, -1]
    assert (
        "2 stages were found and none covers an epoch; they last 0.3 s: is that their unit?"
        in night.notes
    )


def test_units_of_what_mne_reads_are_those_of_the_file(tmp_path):
    smooth = np.stack([np.convolve(row, np.ones(10) / 10**0.5, "same") for row in SIGNAL])
    path = eeglab(tmp_path / "n.set", data=smooth)
    night = edf_recordings.read_recording(path, ReadConfig(channels=("C4-M1",), unit="uV"))
    np.testing.assert_allclose(night.parts[0].microvolts(0), smooth[1], atol=1e-3)
    for factor, unit in ((1e-3, "mV"), (1e-6, "V")):  # EEGLAB's numbers are µV
        eeglab(path, data=smooth * factor)
        answer = rf"although 'uV' is stated: which is it\? If it is {unit}, pass --set 'units="
        with pytest.raises(DataError, match=answer):
            edf_recordings.read_recording(path, SETTINGS)
        settings = ReadConfig(channels=("C4-M1",), units={"C4-M1": unit})
        night = edf_recordings.read_recording(path, settings)
        np.testing.assert_allclose(night.parts[0].microvolts(0), smooth[1], atol=1e-3)
    path = brainvision(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0.1,µV", "0.1,mV"), encoding="utf-8")
    with pytest.raises(DataError, match="although 'mV' is stated: which is it"):
        edf_recordings.read_recording(path, SETTINGS)
    settings = ReadConfig(channels=("C4-M1",), units={"C4-M1": "uV"})
    night = edf_recordings.read_recording(path, settings)
    np.testing.assert_allclose(night.parts[0].microvolts(0), SIGNAL[0], atol=0.06)


def test_a_stage_among_others_that_lasts_no_epoch_is_told(tmp_path):
    marks = "Mk1=Comment,Sleep stage W,1,3000,0\nMk2=Comment,Sleep stage N2,3001,32,0\n"
    night = edf_recordings.read_recording(brainvision(tmp_path, marks=marks), SETTINGS)
    assert night.stages.tolist() == [0, -1]
    assert "1 stages last too short to be an epoch's, and score none" in night.notes
