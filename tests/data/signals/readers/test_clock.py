"""Where the signal begins, and where it pauses: one clock for signal, stages and exports."""

import importlib.util
from datetime import datetime, timedelta
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io

from partsig.data.signals.readers import edf_recordings, psg, wfdb_records
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

PLACE = Path(__file__).parents[3] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)
signal, write_edf = edf_bytes.signal, edf_bytes.write_edf

SETTINGS = ReadConfig(channels=("C4-M1",))
STAGES = [0, 0, 1, 2, 2, 3, 3, 4, 4, 0]  # of five minutes
NAMES = ("W", "N1", "N2", "N3", "R")
N = 30 * len(STAGES)


def clock(start: str, seconds: float) -> str:
    return (datetime.fromisoformat(f"2020-02-01 {start}") + timedelta(seconds=seconds)).isoformat()


def write_table(path: Path, onsets: list[str], head: str = "time,duration,stage") -> None:
    rows = [f"{at},30,{NAMES[s]}" for at, s in zip(onsets, STAGES, strict=True)]
    path.write_text("\n".join([head, *rows]) + "\n")


def late(tmp_path: Path, lead: float = 600.0, kind: str = "EDF+D", annotations=()) -> Path:
    """Write an EDF+ file whose first record begins ``lead`` seconds after the header's time."""
    onsets = [lead + k for k in range(N)]
    return write_edf(
        tmp_path / "n.edf",
        [signal("C4-M1", 100, N)],
        kind=kind,
        onsets=onsets,
        annotations=annotations,
    )


def test_a_first_record_that_begins_late(tmp_path):
    marks = [(600.0 + 30 * k, 30.0, f"Sleep stage {NAMES[s]}") for k, s in enumerate(STAGES)]
    inside = edf_recordings.read_recording(late(tmp_path, annotations=marks), SETTINGS)
    assert inside.stages.tolist() == STAGES
    assert inside.start == datetime(2020, 2, 1, 22, 10)


def test_stages_by_the_clock_and_by_the_header_beside_a_late_signal(tmp_path):
    path = late(tmp_path)
    times = [clock("22:10:00", 30 * k)[11:] for k in range(len(STAGES))]
    write_table(tmp_path / "n.csv", times)
    night = edf_recordings.read_recording(path, SETTINGS)
    assert (night.stages.tolist(), night.start_s) == (STAGES, 0.0)
    (tmp_path / "n.csv").unlink()
    words = ("Wake|0", "Stage 1 sleep|1", "Stage 2 sleep|2", "Stage 3 sleep|3", "REM sleep|5")
    scored = "".join(
        "<ScoredEvent><EventType>Stages|Stages</EventType>"
        f"<EventConcept>{words[s]}</EventConcept><Start>{600 + 30 * k}</Start>"
        "<Duration>30</Duration></ScoredEvent>"
        for k, s in enumerate(STAGES)
    )
    began = (
        "<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept>"
        "<Start>0</Start><Duration>900</Duration><ClockTime>00.00.00 {}</ClockTime></ScoredEvent>"
    )
    xml = "<PSGAnnotation><ScoredEvents>{}</ScoredEvents></PSGAnnotation>"
    (tmp_path / "n.xml").write_text(xml.format(began.format("22.00.00") + scored))
    assert edf_recordings.read_recording(path, SETTINGS).stages.tolist() == STAGES
    (tmp_path / "n.xml").write_text(xml.format(began.format("22.10.00") + scored))
    with pytest.raises(DataError, match=r"starts at 2020-02-01 22:00:00, n\.xml says .* 22:10:00"):
        edf_recordings.read_recording(path, SETTINGS)


@pytest.mark.parametrize(
    ("first", "stages"),
    [
        (0, STAGES),  # as long as the signal
        (600, STAGES),  # passes the signal's end, and the header's time does not
        (200, None),  # either
    ],
)
def test_seconds_beside_a_late_signal_are_proved_or_refused(tmp_path, first, stages):
    path = late(tmp_path, lead=600.0 if first != 200 else 40.0)
    rows = [(first + 30 * k, s) for k, s in enumerate(STAGES)]
    rows = rows if stages else rows[:4]
    table = "".join(f"{at},30,{NAMES[s]}\n" for at, s in rows)
    (tmp_path / "n.csv").write_text("onset,duration,stage\n" + table)
    if stages:
        assert edf_recordings.read_recording(path, SETTINGS).stages.tolist() == stages
    else:
        with pytest.raises(DataError, match=r"40 s after the time in its header.*cannot be told"):
            edf_recordings.read_recording(path, SETTINGS)


@pytest.mark.parametrize("kind", ["EDF+C", "EDF+D"])
def test_a_fraction_of_a_second_is_kept(tmp_path, kind):
    marks = [(0.7 + 30 * k, 30.0, f"Sleep stage {NAMES[s]}") for k, s in enumerate(STAGES)]
    path = late(tmp_path, 0.7, kind, marks)
    night = edf_recordings.read_recording(path, SETTINGS)
    assert night.stages.tolist() == STAGES
    assert night.start == datetime(2020, 2, 1, 22, 0, 0, 700_000)
    # A table of whole seconds means the same epochs; one with fractions says what it means.
    for part, begin in (("", 0.0), (".7", 0.0), (".2", 29.5)):
        write_table(tmp_path / "n.csv", [clock("22:00:00", 30 * k)[11:] + part for k in range(10)])
        night = edf_recordings.read_recording(path, SETTINGS)
        assert night.start_s == pytest.approx(begin)


@pytest.mark.parametrize("name", ["StartTime", "clock_time", "Uhrzeit"])
def test_a_column_of_times_is_one_whatever_it_is_called(tmp_path, name):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, N)])
    rows = [f"{k + 1},{clock('22:02:00', 30 * k)[11:]},{NAMES[STAGES[k]]}" for k in range(4)]
    (tmp_path / "n.csv").write_text("\n".join([f"No.,{name},Label", *rows]) + "\n")
    night = edf_recordings.read_recording(path, SETTINGS)
    # Rows in equal steps are epochs: the last does not last until the signal's end.
    assert night.stages.tolist() == [-1] * 4 + STAGES[:4] + [-1, -1]


def test_two_columns_of_times_are_asked_about(tmp_path):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, N)])
    rows = [f"{clock('22:00:00', 30 * k)[11:]},{clock('22:00:30', 30 * k)[11:]},W" for k in (0, 1)]
    (tmp_path / "n.csv").write_text("\n".join(["Von,Bis,Stage", *rows]) + "\n")
    with pytest.raises(DataError, match="Von, Bis are times of day; call the one at which a stage"):
        edf_recordings.read_recording(path, SETTINGS)


def write_brainvision(folder: Path, *pieces: str, n: int = N * 100) -> Path:
    """Write C4-M1 at 100 Hz; ``pieces`` are ``New Segment`` markers' ends: position,1,0,date."""
    t = np.arange(n) / 100
    (folder / "n.eeg").write_bytes(np.round(300 * np.sin(2 * np.pi * t)).astype("<i2").tobytes())
    (folder / "n.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=n.eeg\nMarkerFile=n.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        "NumberOfChannels=1\nSamplingInterval=10000\n\n[Binary Infos]\nBinaryFormat=INT_16\n\n"
        "[Channel Infos]\nCh1=C4-M1,,0.1,µV\n",
        encoding="utf-8",
    )
    marks = "".join(f"Mk{k}=New Segment,,{piece}\n" for k, piece in enumerate(pieces, 1))
    (folder / "n.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile=n.eeg\n\n[Marker Infos]\n{marks}"
    )
    return folder / "n.vhdr"


def test_a_pause_that_is_told_is_a_gap(tmp_path):
    path = write_brainvision(
        tmp_path,
        "1,1,0,20200201220000500000",
        f"{120 * 100 + 1},1,0,20200201220300500000",  # a minute after two minutes
    )
    times = [clock("22:00:00.5", 30 * k)[11:] for k in range(10)]
    write_table(tmp_path / "n.csv", times)
    night = edf_recordings.read_recording(path, SETTINGS)
    assert night.start == datetime(2020, 2, 1, 22, 0, 0, 500_000)
    assert night.gaps == ((120.0, 180.0),)
    assert night.stages.tolist() == [*STAGES[:4], -1, -1, *STAGES[6:], -1, -1]
    assert "1 gap of 60 s is bridged and unscored" in night.notes
    values = night.parts[0].microvolts(0)
    held = np.fromfile(tmp_path / "n.eeg", "<i2") / 10
    np.testing.assert_allclose(values[:12000], held[:12000], atol=1e-3)
    np.testing.assert_allclose(values[18000:], held[12000:], atol=1e-3)


@pytest.mark.parametrize("second", ["", "00000000000000000000", "20200201215900000000"])
def test_a_pause_of_unknown_length_leaves_no_clock(tmp_path, second):
    path = write_brainvision(
        tmp_path, "1,1,0,20200201220000000000", f"{100 * 100 + 1},1,0,{second}"
    )
    night = edf_recordings.read_recording(path, SETTINGS)
    assert night.start is None
    assert night.gaps == ((100.0, 100.0),)
    assert "nothing tells how long the pause at 100 s was" in night.notes[0]
    write_table(tmp_path / "n.csv", [clock("22:00:00", 30 * k)[11:] for k in range(10)])
    with pytest.raises(DataError, match=r"starts at an unknown time.*how long the pause at 100 s"):
        edf_recordings.read_recording(path, SETTINGS)


def test_the_first_piece_tells_the_start(tmp_path):
    path = write_brainvision(tmp_path, "1,1,0,0", "2001,1,0,20200201221000000000")
    assert edf_recordings.read_recording(path, SETTINGS).start is None


def test_seconds_of_a_recording_with_a_pause_are_proved_or_refused(tmp_path):
    path = write_brainvision(
        tmp_path, "1,1,0,20200201220000000000", f"{120 * 100 + 1},1,0,20200201221000000000"
    )
    write_table(tmp_path / "n.csv", [str(30 * k) for k in range(10)], "onset,duration,stage")
    with pytest.raises(DataError, match=r"480 s of it without signal.*cannot be told"):
        edf_recordings.read_recording(path, SETTINGS)
    (tmp_path / "n.csv").write_text("onset,duration,stage\n0,60,W\n600,180,N2\n")
    stages = edf_recordings.read_recording(path, SETTINGS).stages.tolist()
    assert stages == [0, 0, *[-1] * 18, *[2] * 6]


def test_what_eeglab_cut_out_is_a_gap(tmp_path):
    info = mne.create_info(["C4-M1"], 100.0, "eeg")
    data = np.sin(np.arange(9000) / 16)[None] * 4e-5
    raw = mne.io.RawArray(data, info, verbose="error")
    raw.set_annotations(
        mne.Annotations([0, 60, 60], [60, 30, 30], ["Sleep stage W", "boundary", "Sleep stage N2"])
    )
    night = edf_recordings.night_of(psg.from_raw(raw, "n"), "n", {}, SETTINGS, (), "", needed=False)
    assert night.stages.tolist() == [0, 0, -1, 2]
    assert night.gaps == ((60.0, 90.0),)


def test_recordings_that_mne_joined_have_no_clock_after_the_first(tmp_path):
    info = mne.create_info(["C4-M1"], 100.0, "eeg")
    data = np.sin(np.arange(4500) / 16)[None] * 4e-5
    parts = [mne.io.RawArray(data, info, verbose="error") for _ in range(2)]
    for part in parts:
        part.set_meas_date(1_580_594_400)
    raw = mne.concatenate_raws(parts, verbose="error")
    file = psg.from_raw(raw, "n")
    assert (file.start, file.gaps) == (None, ((45.0, 45.0),))


def test_a_file_of_eeglab_with_a_boundary(tmp_path):
    events = np.array(
        [("boundary", 3000.5, 1000.0)], [("type", "O"), ("latency", "O"), ("duration", "O")]
    )
    eeg = {
        "setname": "n",
        "nbchan": 1.0,
        "pnts": 9000.0,
        "trials": 1.0,
        "srate": 100.0,
        "xmin": 0.0,
        "xmax": 89.99,
        "data": (np.sin(np.arange(9000) / 16)[None] * 40).astype(np.float32),
        "chanlocs": np.array([("C4-M1",)], [("labels", "O")]),
        "event": events,
        "icawinv": np.zeros((0, 0)),
        "icaweights": np.zeros((0, 0)),
        "icasphere": np.zeros((0, 0)),
        "epoch": np.zeros((0, 0)),
    }
    scipy.io.savemat(tmp_path / "n.set", {"EEG": eeg}, oned_as="row")
    night = edf_recordings.read_recording(tmp_path / "n.set", SETTINGS)
    assert night.gaps == ((30.0, 40.0),)
    assert night.parts[0].signal.shape == (1, 10_000)


@pytest.mark.parametrize(
    ("date", "at", "start"),
    [
        ("01.01.85", "00.00.00", None),
        ("01.01.85", "22.00.00", datetime(1985, 1, 1, 22)),  # a time of day without its date
        ("01.02.20", "00.00.00", datetime(2020, 2, 1)),
    ],
)
def test_a_clock_that_nobody_set_tells_no_time(tmp_path, date, at, start):
    path = write_edf(tmp_path / "n.edf", [signal("C4-M1", 100, 60)], date=date, time=at)
    assert edf_recordings.read_recording(path, SETTINGS).start == start


def test_the_first_second_of_1970_is_no_start():
    info = mne.create_info(["C4-M1"], 100.0, "eeg")
    raw = mne.io.RawArray(np.ones((1, 6000)), info, verbose="error").set_meas_date(0)
    assert psg.from_raw(raw.crop(30.0), "n").start is None
    assert psg.from_raw(raw.copy().set_meas_date(86_400), "n").start is not None


@pytest.mark.parametrize(
    ("told", "start"),
    [
        ("22:00:00 01/02/2020", datetime(2020, 2, 1, 22)),
        ("22:00:00 01/02/89", None),
        ("2006", None),
        ("05-May-2020 09:49:17", None),
        ("00:00:00 01/01/1970", None),
        ("22:00:00 31/02/2020", None),
    ],
)
def test_dates_in_wfdb_headers(tmp_path, told, start):
    samples = np.round(np.random.default_rng(0).normal(size=6000) * 300).astype("<i2")
    (tmp_path / "r.dat").write_bytes(samples.tobytes())
    line = "r.dat 16 10/uV 16 0 0 0 0 EEG (C4-A1)"
    (tmp_path / "r.hea").write_text(f"r 1 100 6000 {told}\n{line}\n")
    night = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
    assert night.start == start
    assert bool(night.notes) == (start is None and "1970" not in told)
    np.testing.assert_allclose(night.parts[0].microvolts(0), samples / 10, atol=1e-4)
    (tmp_path / "r.hea").write_text(f"r 1 100 6000 {told}\n{line.replace('10/uV', '0/uV')}\n")
    notes = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS).notes
    assert "EEG (C4-A1) is uncalibrated (no gain in its header): 200 steps per uV" in notes[-1]
