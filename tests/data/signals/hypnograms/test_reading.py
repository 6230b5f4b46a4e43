"""Every format of hypnogram with its stages written out, and their place in a recording."""

from datetime import datetime, time

import edfio
import numpy as np
import pytest

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.codes import YASA, stage_code
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers.edf_marks import Mark
from partsig.errors import ConfigError, DataError

START = datetime(2020, 2, 1, 22, 30)


def read(tmp_path, name, text, **options):
    path = tmp_path / name
    path.write_text(text)
    return read_hypnogram(path, HypnogramConfig(**options))


def epochs(hypnogram, duration_s, start=START, **options):
    offset, _ = find_offset("n", hypnogram, start, duration_s, HypnogramConfig(**options))
    return to_epochs("n", hypnogram, offset, duration_s)


NSRR = """<?xml version="1.0" encoding="UTF-8"?><PSGAnnotation><ScoredEvents>
<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start>
<Duration>120</Duration><ClockTime>00.00.00 22.30.00</ClockTime></ScoredEvent>
<ScoredEvent><EventType>Arousals|Arousals</EventType><EventConcept>Arousal|Arousal ()</EventConcept>
<Start>40</Start><Duration>5</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Wake|0</EventConcept>
<Start>0.0</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 4 sleep|4</EventConcept>
<Start>30.0</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>REM sleep|5</EventConcept>
<Start>60.0</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Unscored|9</EventConcept>
<Start>90.0</Start><Duration>30.0</Duration></ScoredEvent>
</ScoredEvents></PSGAnnotation>"""
PROFUSION = """<?xml version="1.0"?><CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>
<SleepStage>0</SleepStage><SleepStage>4</SleepStage><SleepStage>5</SleepStage>
<SleepStage>9</SleepStage></SleepStages></CMPStudyConfig>"""
BIDS = (
    "onset\tduration\ttrial_type\n0\t30\tSleep stage W\n30\t30\tSleep stage N3\n44\t3\tArousal\n"
    "60\t30\tSleep stage R\n90\t30\tSleep stage ?\n"
)
OWN = {"5": "W", "1": "N3", "4": "REM", "0": "unscored"}
FORMATS = {
    "plain words": ("a.txt", "W\nN3\nREM\n?\n", {}),
    "plain R&K numbers": ("a.txt", "0\n4\n5\n9\n", {}),
    "one column, named": ("a.csv", "Stage\nWake\nS4\nR\nMT\n", {}),
    "YASA's numbers": ("a.csv", "Epoch,Stage\n0,0\n1,3\n2,4\n3,-2\n", {"codes": "yasa"}),
    "YASA's words": ("a.csv", "Epoch,Stage\n0,WAKE\n1,N3\n2,REM\n3,UNS\n", {}),
    "semicolons, onsets": ("a.csv", "Start;Duration;Stage\n0;30;W\n30;30;N3\n60;30;R\n", {}),
    "change points": ("a.csv", "onset,stage\n0,W\n30,N3\n60,R\n90,unscored\n", {}),
    "clock times": ("a.csv", "time,stage\n22:30:00,W\n22:30:30,N3\n22:31:00,R\n22:31:30,?\n", {}),
    "BIDS": ("a_events.tsv", BIDS, {}),
    "NSRR": ("a-nsrr.xml", NSRR, {}),
    "Profusion": ("a.xml", PROFUSION, {}),
    "own words": ("a.txt", "5\n1\n4\n0\n", {"stages": OWN}),
}


@pytest.mark.parametrize("case", FORMATS)
def test_formats_give_the_same_night(case, tmp_path):
    name, text, options = FORMATS[case]
    found = read(tmp_path, name, text, **options)
    stages, begin, notes = epochs(found, 120)
    assert stages.tolist() == [0, 3, 4, -1]
    assert begin == 0
    assert notes == []


def test_lines_that_end_otherwise_and_other_encodings(tmp_path):
    for data in (
        b"W\r\nN3\r\nR\r\n?\r\n",
        "W\nN3\nR\n?\n".encode("utf-16"),
        b"\xef\xbb\xbfW\nN3\nR\n?",
    ):
        (tmp_path / "h.txt").write_bytes(data)
        found = read_hypnogram(tmp_path / "h.txt", HypnogramConfig())
        assert found.stages.tolist() == [0, 3, 4, -1]


def test_past_midnight(tmp_path):
    text = "time,stage\n23:59:30,N2\n00:00:00,N2\n00:00:30,N3\n"
    stages, _, _ = epochs(read(tmp_path, "a.csv", text), 120, start=datetime(2020, 1, 1, 23, 59, 0))
    assert stages.tolist() == [-1, 2, 2, 3]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.txt",
            "0\n1\n4\n2\n",
            r"0, 1, 2, 4 mean different stages by rk and yasa .*codes=rk",
        ),
        ("a.txt", "W\nN2\nbanana\n", r"a\.txt: 'banana' is no stage that is known; say what it"),
        ("a.txt", "", r"a\.txt: the hypnogram is empty"),
        ("a.csv", "x,y\n1,2\n", r"no column of stages among x, y; expected one called stage"),
        ("a.csv", "onset,stage\nabc,W\n", r"'abc' is no number of seconds"),
        ("a.csv", "onset,stage\n25:61,W\n", r"'25:61' is neither seconds nor a time such as"),
        ("a.csv", "onset,stage\n0,W\n30\n", r"some rows are shorter than the first"),
        ("a.xml", "<a><b></a>", r"a\.xml is no readable XML"),
        ("a.xml", "<a/>", r"no sleep stages are in this XML"),
    ],
)
def test_what_cannot_be_told_is_refused(name, text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "Epoch,Stage\n0,W\n2,N2\n", r"epoch 2 follows epoch 0: a row is missing"),
        ("a.txt", "W\n\nN2\n", r"an empty line among the stages: write \? where an epoch"),
        ("a.txt", "# by AB\nW\n#1\nN2\n", r"'#1' is no stage that is known"),
        ("a.txt", "9" * 400, r"is no stage that is known"),
        (
            "a.csv",
            "onse,duration,stage\n0,60,W\n60,30,N2\n",
            r"a duration of 60 s and no column of",
        ),
        ("a.csv", "onset,stage\n0,W\n60,N1\n30,N2\n", r"hold until the next onset, and onsets go"),
        ("a.csv", "onset,stage\n0,W\n3,0,N2\n", r"some rows are longer than the first"),
        ("a.csv", 'onset,stage,by\n0,W,"A\n30,N2,A"\n', r"is no readable table"),
        ("a.csv", "onset,duration,stage\n0,,W\n", r"a stage lasts nothing; mend the file"),
        ("a.csv", "onset,duration,stage\n0,-1,W\n", r"a stage lasts -1; mend the file"),
        ("a.csv", "onset,duration,stage\n0,30,W\n30,n/a,N2\n", r"1 stages have no duration and 1"),
        ("a.csv", "onset,duration,stage\n0,1e308,W\n", r"'1e308' is no number of seconds"),
        ("a.csv", "onset,stage\n1_0,W\n", r"'1_0' is no number of seconds"),
        ("a.csv", "time,stage\n22:31:00,W\n21:31:30,N2\n", r"21:31:30 does not follow 22:31:00"),
        (
            "a.csv",
            "time,stage\n22:31:00,W\n02:31:30,N2\n22:32:00,N2\n",
            r"22:32:00 does not follow",
        ),
        ("a.csv", "time,stage\n22:31:00+01:00,W\n", r"is neither seconds nor a time such as"),
        (
            "a.csv",
            "time,stage\n2020-02-01 22:30:00,W\n22:31:00,N2\n",
            r"some onsets have a date and some have none",
        ),
        ("a.xml", NSRR.replace("<Duration>30.0</Duration>", ""), r"a stage lasts nothing; mend"),
        ("a.xml", NSRR.replace("sleep|4", "sleep|1"), r"'Stage 4 sleep\|1' is no stage that is"),
        (
            "a.xml",
            NSRR.replace("<PSG", '<!DOCTYPE a [<!ENTITY b "c">]><PSG', 1),
            r"the XML has definitions of its own; expected none",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(name, text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, text)


def test_an_encoding_that_is_not_the_files_is_passed_over(tmp_path):
    text = NSRR.replace("UTF-8", "bogus")
    assert epochs(read(tmp_path, "a.xml", text), 120)[0].tolist() == [0, 3, 4, -1]


def test_a_hypnogram_in_edf_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "h.edf"
    stages = [edfio.EdfAnnotation(30 * k, 30, "Sleep stage W") for k in range(4)]
    edfio.Edf([], annotations=stages).write(path)
    assert len(read_hypnogram(path, HypnogramConfig()).stages) == 4
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"h\.edf: cut off: 0 of 1 records.*copy the hypnogram again"
    ):
        read_hypnogram(path, HypnogramConfig())


def test_a_gap_that_ends_where_an_epoch_begins_spares_it():
    found = Hypnogram(
        onsets=np.zeros(1), durations=np.full(1, 150.0), stages=np.full(1, 2, np.int8)
    )
    assert to_epochs("n", found, 0.0, 150, [(60.0, 90.0)])[0].tolist() == [2, 2, -1, 2, 2]


def test_own_labels_must_be_stages():
    with pytest.raises(ConfigError, match=r"maps 'x' to 'N5'; it can be W, N1, N2, N3, REM or uns"):
        HypnogramConfig(stages={"x": "N5"})


def test_numbers_and_other_events_among_annotations_are_no_stages():
    texts = ("Sleep stage W", "3", "Lights on", "Sleep stage 4", "Sleep stage X", "Movement time")
    marks = [Mark(onset=30.0 * i, duration=30.0, text=text) for i, text in enumerate(texts)]
    found = from_marks("f", marks, HypnogramConfig())
    assert found.onsets.tolist() == [0, 90, 120, 150]
    assert found.stages.tolist() == [0, 3, -1, -1]


def test_four_is_rem_for_yasa_only():
    assert stage_code("4", YASA, {}) == 4
    assert stage_code("Sleep stage 4", YASA, {}) == 3


# Where they lie.


def marks(*rows, **options):
    on, duration, stages = zip(*rows, strict=True)
    return Hypnogram(
        onsets=np.array(on, float),
        durations=np.array(duration, float),
        stages=np.array(stages, np.int8),
        place="h.csv",
        **options,
    )


def test_the_grid_is_the_scorers():
    """As in the pyDYNAM-O segment: change points, epochs that begin at 10.01 s."""
    nan = float("nan")
    found = marks((0, nan, 4), (40.01, nan, 0), (100.01, nan, 2), in_signal=True)
    stages, begin, notes = epochs(found, 200)
    assert begin == 10.01
    assert stages.tolist() == [4, 0, 0, 2, 2, 2]
    assert notes == ["the first 10.01 s lie before the scorer's grid and are left out"]


def test_the_difference_of_the_starts_is_the_offset():
    later = marks((0, 60, 2), start=datetime(2020, 2, 1, 22, 31))
    assert epochs(later, 180)[0].tolist() == [-1, -1, 2, 2, -1, -1]
    earlier = marks((0, 30, 1), (30, 60, 2), start=datetime(2020, 2, 1, 22, 29, 30))
    assert epochs(earlier, 90)[0].tolist() == [2, 2, -1]


def test_what_is_stated_of_one_recording_wins():
    found = marks((0, 60, 2), start=datetime(2020, 2, 1, 22, 31))
    assert epochs(found, 120, offset_s={"n": 30})[0].tolist() == [-1, 2, 2, -1]
    assert epochs(found, 120, offset_s={"m": 30})[0].tolist() == [-1, -1, 2, 2]


def test_what_is_stated_of_all_does_not_move_what_is_proved():
    assert epochs(marks((0, 60, 2)), 120, offset_s=30)[0].tolist() == [-1, 2, 2, -1]
    inside = marks((0, 60, 2), in_signal=True)
    assert epochs(inside, 120, offset_s=0.5)[0].tolist() == [2, 2, -1, -1]
    message = (
        r"offset_s says that h\.csv begins 30 s after .* but by its format it is 0 s \(the "
        r"recording starts at 2020-02-01 22:30:00, .*\{n: 30\}'"
    )
    with pytest.raises(DataError, match=message):
        epochs(inside, 120, offset_s=30)
    later = marks((0, 60, 2), start=datetime(2020, 2, 1, 22, 31))
    with pytest.raises(DataError, match=r"by the start times of both it is 60 s .* 22:31:00\)"):
        epochs(later, 120, offset_s=30)


def test_seconds_in_a_table_must_not_pass_the_end(tmp_path):
    text = "onset,duration,stage\n" + "".join(f"{30 * i},30,N2\n" for i in range(8))
    found = read(tmp_path, "a.csv", text)
    stages, _, notes = epochs(found, 360)
    assert stages.tolist() == [2] * 8 + [-1] * 4
    assert notes == ["the last 120 s are not scored"]
    with pytest.raises(DataError, match=r"lasts 0:02:00 h, a\.csv .* lasts 0:04:00 h, so that its"):
        epochs(found, 120)


@pytest.mark.parametrize(
    ("hypnogram", "start", "message"),
    [
        (
            marks((0, 30, 2), start=datetime(1985, 1, 1, 22, 30)),
            START,
            r"starts at 2020-02-01 22:30:00, h\.csv at 1985-01-01 22:30:00, more than a day apart",
        ),
        (
            marks((0, 30, 2), in_signal=True, start=time(22, 40)),
            START,
            r"starts at 2020-02-01 22:30:00, h\.csv says 2020-02-01 22:40:00, although",
        ),
        (
            marks((0, 60, 2)),
            START,
            r"lasts 0:05:00 h, h\.csv starts at an unknown time and lasts 0:01",
        ),
        (
            marks((0, 60, 2), start=time(22, 40)),
            None,
            r"starts at an unknown time and lasts 0:05:00",
        ),
        (marks((900, 30, 2), in_signal=True), START, r"stages of h\.csv lie outside the recording"),
        (marks((0, 30, -1), in_signal=True), START, r"h\.csv holds no sleep stage"),
        (marks((0, 90, 2), (30, 30, 3), in_signal=True), START, r"has two stages at 30 s"),
    ],
)
def test_ambiguous_places_are_refused_with_both_times(hypnogram, start, message):
    with pytest.raises(DataError, match=message):
        epochs(hypnogram, 300, start=start)


def test_epochs_of_20_s_keep_what_one_stage_covers():
    rows = [(20 * i, 20, stage) for i, stage in enumerate((0, 0, 0, 2, 2, 2, 3, 2, 2))]
    stages, begin, notes = epochs(marks(*rows, in_signal=True), 180)
    assert begin == 0
    assert stages.tolist() == [0, 0, 2, 2, -1, 2]
    assert notes == ["1 epochs that no single stage covers are unscored"]


def test_rounded_onsets_hold_and_hypnograms_that_go_on_are_told():
    found = marks((0.3, 30, 1), (30.2, 29.6, 2), (60, 600, 3), in_signal=True)
    stages, begin, notes = epochs(found, 120.2)
    assert begin in (0.0, 0.2, 0.3)
    assert stages.tolist() == [1, 2, 3, 3][: len(stages)]
    assert any("goes on for" in note for note in notes)


def test_a_gap_unscores_what_it_touches():
    found = marks((0, 300, 2), in_signal=True)
    stages, _, _ = to_epochs("n", found, 0.0, 300, [(70, 115)])
    assert stages.tolist() == [2, 2, -1, -1, 2, 2, 2, 2, 2, 2]
