"""EDF and BDF files, judged by edfio and MNE; damage by what the standard says."""

from datetime import datetime

import edfio
import mne
import numpy as np
import pytest

from partsig.data.signals.readers import edf_recordings, psg
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.edf_marks import find_gaps, read_marks
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

RNG = np.random.default_rng(4)


def signal(seconds, sfreq, label, unit="uV", amplitude=40.0, **options):
    t = np.arange(int(seconds * sfreq)) / sfreq
    wave = np.sin(2 * np.pi * 3 * t + RNG.random()) + RNG.normal(size=len(t)) / 40
    data = amplitude * wave
    options = {"physical_range": (-500 * amplitude / 40, 500 * amplitude / 40)} | options
    return edfio.EdfSignal(data, sfreq, label=label, physical_dimension=unit, **options)


def write(path, signals, annotations=(), start=datetime(2020, 2, 1, 22, 30, 5), **options):
    edf = edfio.Edf(
        signals,
        recording=edfio.Recording(startdate=start.date()),
        starttime=start.time(),
        annotations=[edfio.EdfAnnotation(*a) for a in annotations],
        **options,
    )
    edf.write(path)
    return path


def patch(path, at, text):
    data = bytearray(path.read_bytes())
    data[at : at + len(text)] = text
    path.write_bytes(bytes(data))


@pytest.fixture
def night(tmp_path):
    """Ninety seconds at three rates, EDF+ with stages."""
    channels = [
        signal(90, 256, "EEG C4-A1"),
        signal(90, 128, "EOG left", amplitude=100),
        signal(90, 10, "SpO2", unit="%"),
    ]
    stages = [(0.0, 30.0, "Sleep stage W"), (30.0, 60.0, "Sleep stage N2"), (44.0, None, "Arousal")]
    return write(tmp_path / "n1.edf", channels, stages)


def test_samples_labels_and_marks_equal_edfio(night):
    ours, theirs = open_edf(night), edfio.read_edf(night)
    assert ours.labels == tuple(s.label for s in theirs.signals)
    assert ours.sfreqs == (256.0, 128.0, 10.0)
    assert ours.units == ("uV", "uV", "%")
    assert ours.start == datetime(2020, 2, 1, 22, 30, 5)
    assert ours.duration_s == 90
    for i, other in enumerate(theirs.signals):
        values = (ours.samples(i) - ours.offset[i]) * ours.scale[i]
        np.testing.assert_allclose(values, other.data, rtol=1e-9, atol=1e-9)
        assert ours.samples(i).dtype == np.int16
    marks, onsets = read_marks(ours)
    assert [(m.onset, m.duration, m.text) for m in marks] == [
        (0.0, 30.0, "Sleep stage W"),
        (30.0, 60.0, "Sleep stage N2"),
        (44.0, None, "Arousal"),
    ]
    assert onsets[-1] == 90 - ours.record_s
    assert find_gaps(ours, onsets) == []


def test_the_real_file_equals_mne(real_psg):
    path = real_psg
    file = psg.open_psg(path)
    raw = mne.io.read_raw_edf(path, verbose="error")
    assert file.labels == tuple(raw.ch_names)
    assert set(file.sfreqs) == {256.0}
    assert file.duration_s == raw.n_times / 256
    for i in (0, 5, len(file.labels) - 1):
        values = (file.samples(i)[:] - file.offset[i]) * file.scale[i]
        expected = raw.get_data(picks=[i])[0] * 1e6
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-3)


def test_bdf_equals_edfio(tmp_path):
    t = np.arange(2048) / 512
    data = 3e4 + 50 * np.sin(2 * np.pi * 7 * t)  # an offset no 16-bit file could carry
    channel = edfio.BdfSignal(data, 512, label="Cz", physical_dimension="uV")
    edfio.Bdf([channel]).write(tmp_path / "a.bdf")
    ours = open_edf(tmp_path / "a.bdf")
    assert ours.samples(0).dtype == np.int32
    assert ours.samples(0).min() < 0 < ours.samples(0).max()
    values = (ours.samples(0) - ours.offset[0]) * ours.scale[0]
    np.testing.assert_allclose(values, edfio.read_bdf(tmp_path / "a.bdf").signals[0].data)
    np.testing.assert_allclose(values, data, atol=1e-4)


def test_brainvision_and_fif_through_mne(night, tmp_path):
    raw = mne.io.read_raw_edf(night, include=["EEG C4-A1"], verbose="error")
    raw.save(tmp_path / "f_raw.fif", verbose="error")
    settings = ReadConfig(channels=("C4-M1",))
    first = edf_recordings.read_recording(night, settings)
    other = edf_recordings.read_recording(tmp_path / "f_raw.fif", settings)
    left, right = (r.parts[0].microvolts(0) for r in (first, other))
    np.testing.assert_allclose(left, right, atol=0.01)
    assert other.stages.tolist() == first.stages.tolist() == [0, 2, 2]


def test_gaps_are_bridged_and_unscored(tmp_path):
    path = write(
        tmp_path / "d.edf",
        [signal(120, 100, "C4-M1")],
        [(0.0, 180.0, "Sleep stage N3")],
        data_record_duration=1.0,
    )
    data = path.read_bytes()
    file = open_edf(path)
    head = len(data) - file.records.size
    body = bytearray(data)
    body[192:197] = b"EDF+D"
    first, size = file.texts[0]
    for k in range(70, 120):  # 45 s are missing before record 70
        at = head + k * file.records.shape[1] + first
        entry = bytes(body[at : at + size])
        tail = entry[entry.index(b"\x14") :]
        body[at : at + size] = (f"+{k + 45}".encode() + tail)[:size].ljust(size, b"\0")
    path.write_bytes(bytes(body))
    found = edf_recordings.read_recording(path, ReadConfig(channels=("C4-M1",)))
    assert found.stages.tolist() == [3, 3, -1, -1, 3]  # the gap is 70 to 115 s
    assert found.parts[0].signal.shape == (1, 165 * 100)
    assert "1 gap of 45 s is bridged and unscored" in found.notes
    joined = found.parts[0].signal[0]
    np.testing.assert_array_equal(joined[:7000], file.samples(0)[:7000])
    np.testing.assert_array_equal(joined[11500:], file.samples(0)[7000:])
    assert abs(np.diff(joined[6999:11501].astype(int))).max() <= 2  # a straight line
    times = read_marks(open_edf(path))[1]
    assert times[70] == 115


def test_a_file_cut_off_in_the_middle_is_read_as_far_as_it_goes(night):
    data = night.read_bytes()
    file = open_edf(night)
    whole, (total, frame) = file.samples(0), file.records.shape
    del file  # a mapped file must not shrink
    night.write_bytes(data[: len(data) - 10 * frame - 5])
    again = open_edf(night)
    assert again.notes == (f"cut off: {total - 11} of {total} records are there",)
    np.testing.assert_array_equal(again.samples(0), whole[: len(again.samples(0))])
    assert len(again.samples(0)) == (total - 11) * whole.size // total


def test_a_recorder_that_was_switched_off_left_minus_one(night):
    n = len(open_edf(night).records)
    patch(night, 236, b"-1      ")
    again = open_edf(night)
    assert len(again.records) == n
    assert again.notes == (f"the header does not say how many records there are; {n} were found",)


@pytest.mark.parametrize(
    ("at", "text", "message"),
    [
        (0, b"1       ", r"n1\.edf: it does not begin as an EDF or BDF file does\."),
        (252, b"abcd", r"number of signals is 'abcd', not a number"),
        (252, b"3   ", r"the header says it has 1280 bytes; 3 signals need 1024"),
        (244, b"0       ", r"a record lasts 0 s; the header is damaged"),
        (244, b"inf     ", r"duration of a record is 'inf', not a number"),
        (236, b"1.5     ", r"number of records is '1.5'; the header is damaged"),
    ],
)
def test_damaged_headers_are_refused(night, at, text, message):
    patch(night, at, text)
    with pytest.raises(DataError, match=message):
        open_edf(night)


@pytest.mark.parametrize("size", [0, 100, 255, 256, 700])
def test_a_header_cut_off_is_refused(night, size):
    night.write_bytes(night.read_bytes()[:size])
    with pytest.raises(DataError, match=r"n1\.edf: (\d+ bytes are no EDF|the file ends inside)"):
        open_edf(night)


def test_decimal_commas_latin_labels_and_unknown_dates_are_read(night):
    n = 4
    patch(night, 256, "EEG C4-A1 é".encode("latin-1"))
    patch(night, 256 + n * (16 + 80), b"\xb5V      ")
    patch(night, 168, b"xx.yy.zz")
    patch(night, 88, b"Startdate X X X X".ljust(80))
    file = open_edf(night)
    assert file.labels[0] == "EEG C4-A1 é"
    assert file.units[0] == "µV"
    assert file.start is None
    patch(night, 244, b"0,5     ")
    assert open_edf(night).record_s == 0.5


def test_units_are_checked_by_the_amplitude(tmp_path):
    write(tmp_path / "v.edf", [signal(60, 100, "C4-M1", unit="V")])
    with pytest.raises(DataError, match=r"v: channel 'C4-M1' usually changes by .*e\+07 µV within"):
        edf_recordings.read_recording(tmp_path / "v.edf", ReadConfig(channels=("C4-M1",)))
    settings = ReadConfig(channels=("C4-M1",), unit="uV")
    found = edf_recordings.read_recording(tmp_path / "v.edf", settings)
    assert 20 < found.parts[0].microvolts(0).std() < 40
    write(tmp_path / "n.edf", [signal(60, 100, "C4-M1", unit="")])
    with pytest.raises(DataError, match=r"'C4-M1' is in '', not a voltage; .* --set unit=uV"):
        edf_recordings.read_recording(tmp_path / "n.edf", ReadConfig(channels=("C4-M1",)))
    write(tmp_path / "m.edf", [signal(60, 100, "C4-M1", unit="mV", amplitude=0.04)])
    found = edf_recordings.read_recording(tmp_path / "m.edf", ReadConfig(channels=("C4-M1",)))
    assert 20 < found.parts[0].microvolts(0).std() < 40


def test_channels_of_two_rates_and_a_derivation(tmp_path):
    c4, m1 = signal(60, 256, "EEG C4-REF"), signal(60, 256, "EEG A1-REF", amplitude=10)
    slow = signal(60, 128, "O2-M1")
    path = write(tmp_path / "x.edf", [slow, m1, c4])
    settings = ReadConfig(channels=("C4-M1", "O2-M1", "F3-M2"), missing="fill")
    found = edf_recordings.read_recording(path, settings)
    assert [part.sfreq for part in found.parts] == [256.0, 128.0]
    rows = [label for part in found.parts for label in part.labels]
    assert rows == ["EEG C4-REF", "EEG A1-REF", "O2-M1"]
    assert found.mix.tolist() == [[1, -1, 0], [0, 0, 1], [0, 0, 0]]
    assert found.filled == ("F3-M2",)


def test_files_of_annotations_alone_are_no_recordings(night, tmp_path):
    edfio.Edf([], annotations=[edfio.EdfAnnotation(0, 30, "Sleep stage W")]).write(
        tmp_path / "n1_hypnogram.edf"
    )
    assert edf_recordings.find_records(tmp_path) == [night]


def test_no_recordings_and_two_of_one_name(night, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no recordings in .*empty: expected files that end in"):
        edf_recordings.find_records(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no folder .*nowhere: pass --raw"):
        edf_recordings.find_records(tmp_path / "nowhere")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "n1.EDF").write_bytes(night.read_bytes())
    with pytest.raises(DataError, match=r"recording n1 is there twice: .*; keep one"):
        edf_recordings.find_records(tmp_path)


def change(path, old, new):
    """Replace ``old``, once, by something as long."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new.ljust(len(old), b"\0"), 1))


N2 = b"+30\x1560\x14Sleep stage N2\x14\0"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"90      1       ", b"45      2       ", r"record 1 of 2 s says that it begins at 1 s"),
        (b"90      1       ", b"90      1e300   ", r"a record lasts 1e\+300 s; the header is dam"),
        (b"90      1       ", b"90      1e6     ", r"90 records of 1e\+06 s; the header is dama"),
        (b"90      1       ", b"90      1_0     ", r"duration of a record is '1_0', not a number"),
        (b"+7\x14\x14", b"+9\x14\x14", r"record 7 of 1 s says that it begins at 9 s, in a file"),
        (b"+7\x14\x14", b"\0\0\x14\x14", r"of record 7 do not begin at their first byte"),
        (b"256     128     ", b"256     28      ", r"after the last of 90 records of 618 by"),
        (N2, N2.replace(b"\x14\0", b"xy"), r"a damaged annotation"),
        (b"\x14\x14\0" + N2, b"\x14\x14x" + N2, r"a damaged annotation"),
        (N2, N2.replace(b"\x1560", b""), r"1 stages have no duration and 1 have one"),
        (N2, N2.replace(b"60", b"-1"), r"an annotation at 30 s of -1 s; the file is damaged"),
        (N2, N2.replace(b"30", b"1e300"), r"a damaged annotation|an annotation at 1e\+300 s"),
        (N2, N2.replace(b"30", b"0."), r"two stages at 0 s"),
    ],
)
def test_what_contradicts_itself_is_refused(night, old, new, message):
    change(night, old, new)
    with pytest.raises(DataError, match=message):
        edf_recordings.read_recording(night, ReadConfig(channels=("C4-M1",)))


def test_bytes_that_are_no_record_after_the_last(night):
    patch(night, 236, b"10      ")
    assert open_edf(night).notes[0].endswith("bytes after the last record are left out")
    night.write_bytes(night.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"after the last of 10 records of \d+ bytes there are"):
        open_edf(night)


def test_gaps_that_nothing_tells_are_refused(night):
    patch(night, 192, b"EDF+D")
    assert edf_recordings.read_recording(night, ReadConfig(channels=("C4-M1",))).stages[1] == 2
    whole = night.read_bytes()
    change(night, b"+7\x14\x14", b"")
    with pytest.raises(DataError, match=r"record 7 does not tell its onset"):
        psg.open_psg(night)
    night.write_bytes(whole)
    change(night, b"+89\x14\x14", b"+9e3\x14\x14")
    with pytest.raises(DataError, match=r"2\.5 h are missing between its records"):
        psg.open_psg(night)
    night.write_bytes(whole)
    change(night, b"EDF Annotations ", b"EDF Annotation  ")
    with pytest.raises(
        DataError, match=r"there may be gaps between its records \(EDF\+D\), and no"
    ):
        psg.open_psg(night)


def test_a_clock_that_drifts_is_refused(night):
    patch(night, 192, b"EDF+D")
    file = open_edf(night)
    assert find_gaps(file, [1.0009 * k for k in range(90)]) == []
    with pytest.raises(DataError, match=r"lie 0\.9 s from where their number"):
        find_gaps(file, [1.0009 * k for k in range(1001)])


def test_stages_without_a_duration_of_a_file_that_is_cut_off(tmp_path):
    stages = [(0.0, None, "Sleep stage W"), (60.0, None, "Sleep stage N2")]
    path = write(tmp_path / "c.edf", [signal(90, 100, "C4-M1")], stages)
    settings = ReadConfig(channels=("C4-M1",))
    assert edf_recordings.read_recording(path, settings).stages.tolist() == [0, 0, 2]
    path.write_bytes(path.read_bytes()[:-1])
    found = edf_recordings.read_recording(path, settings)
    assert (found.stages == -1).all()
    assert found.notes[1].startswith("annotations without a duration are left out")


def test_two_dates_that_disagree_tell_no_start(night):
    assert open_edf(night).start == datetime(2020, 2, 1, 22, 30, 5)
    patch(night, 168, b"01.01.85")  # left at its zero
    assert open_edf(night).start == datetime(2020, 2, 1, 22, 30, 5)
    patch(night, 168, b"02.02.20")
    assert open_edf(night).start is None
    assert open_edf(night).notes == ("the header gives two dates, so that its start is not known",)
    patch(night, 98, b"01-FEB-0001")
    assert open_edf(night).start == datetime(2020, 2, 2, 22, 30, 5)


def test_a_scale_that_is_none_is_refused(night):
    n = 4
    physical = 256 + n * (16 + 80 + 8)
    for low, high in ((b"0       ", b"1e-320  "), (b"-1e308  ", b"1e308   ")):
        patch(night, physical, low)
        patch(night, physical + n * 8, high)
        with pytest.raises(DataError, match=r"channel 'EEG C4-A1' maps samples -32768 to 32767 on"):
            edf_recordings.read_recording(night, ReadConfig(channels=("C4-M1",)))


def test_a_bdf_without_records_has_no_samples(tmp_path):
    wave = np.sin(np.arange(512.0))
    channel = edfio.BdfSignal(wave, 512, label="Cz", physical_dimension="uV")
    edfio.Bdf([channel]).write(tmp_path / "a.bdf")
    data = (tmp_path / "a.bdf").read_bytes()
    (tmp_path / "b.bdf").write_bytes(data[: len(data) - 600])
    with pytest.raises(DataError, match=r"b: there are no samples in it"):
        edf_recordings.read_recording(tmp_path / "b.bdf", ReadConfig(channels=("Cz",)))
