"""What is written of a staging, read by those who will read it: MNE, edfio, EDFlib, YASA, pandas.

The tests of the EDF+ files are named after the standard's sections.
"""

import dataclasses
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import edfio
import mne
import mne_bids
import numpy as np
import pandas as pd
import pyedflib
import pytest
import yasa

import partsig
from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.readers import bids, edf_recordings
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.psg import open_psg
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import ConfigError, DataError
from partsig.sleep.exports.documents import write_json
from partsig.sleep.exports.edf import write_edf, write_review
from partsig.sleep.exports.objects import to_annotations, to_yasa
from partsig.sleep.exports.paths import file_stem
from partsig.sleep.exports.tables import write_bids, write_csv
from partsig.sleep.exports.writing import write_all
from partsig.sleep.staging import Staging, Suspect

START = datetime(2020, 2, 1, 22, 30, 5)
CODES = (0, 1, 2, -1, 3, 4)
TEXTS = ["Sleep stage " + stage for stage in ("W", "N1", "N2", "?", "N3", "R")]
REVIEW = (
    Suspect(epoch=4, score=2.5, reasons=("low confidence (0.41)", "N3 straight after REM")),
    Suspect(epoch=1, score=1.0, reasons=("artefact in C4-M1: 600 µV",)),
)


def make(codes=CODES, **changes):
    """Return a staging of these codes, with probabilities that fit them."""
    codes = np.array(codes, np.int8)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(5), len(codes)) * 0.4
    shares[np.arange(len(codes)), codes] += 0.6
    shares[codes < 0] = np.nan
    given = {
        "name": "night1",
        "ch_names": ("C3-M2", "C4-M1"),
        "start": START,
        "start_s": 0.0,
        "duration_s": 30.0 * len(codes) + 7,
        "stages": codes,
        "unusable": tuple("flat in C3-M2 and C4-M1" if c < 0 else "" for c in codes),
        "probabilities": shares,
        "scored": None,
        "review": REVIEW if len(codes) > 4 else (),
        "quality": {name: np.where(codes < 0, 1, 0).astype(np.int8) for name in ("C3-M2", "C4-M1")},
        "oddity": np.linspace(0, 1, 30 * len(codes) + 7, dtype=np.float32),
        "notes": ("resampled from 256 Hz",),
        "stager": {"run": "runs/part 10", "temperature": np.float64(1.25), "subjects": ("a", "b")},
        "signal": np.zeros((2, 100), np.float32),
        "sfreq": 100.0,
    }
    return Staging(**given | changes)


LONG = make(np.resize(CODES, 3000))
CASES = {
    "plain": make(),
    "grid of its own": make(start_s=10.01),
    "part of a second": make(start=START.replace(microsecond=250_000), start_s=10.01),
    "microseconds": make(start=START.replace(microsecond=123_457), start_s=0.007),
    "before midnight": make(start=datetime(2019, 12, 31, 23, 59, 0)),
    "no start": make(start=None, start_s=10.01),
    "longer than a day": dataclasses.replace(LONG, review=(REVIEW[1],)),
}
each_case = pytest.mark.parametrize("staging", CASES.values(), ids=CASES)


def texts_of(staging):
    return [dict(zip(CODES, TEXTS, strict=True))[code] for code in staging.stages.tolist()]


@each_case
def test_all_formats_agree(staging, tmp_path):
    paths = write_all(staging, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "night1_events.json",
        "night1_events.tsv",
        "night1_hypnogram.csv",
        "night1_hypnogram.edf",
        "night1_review.edf",
        "night1_staging.json",
    ]
    names = [{-1: "unscored"}.get(code) or STAGES[code] for code in staging.stages]
    table = pd.read_csv(paths["csv"])
    events = pd.read_csv(paths["bids"], sep="\t")
    held = json.loads(paths["json"].read_text("utf-8"))
    marks = mne.read_annotations(paths["edf"])
    assert table["stage"].tolist() == names
    assert events["trial_type"].tolist() == names
    assert [name or "unscored" for name in held["stages"]] == names
    assert marks.description.tolist() == texts_of(staging)
    onsets = staging.start_s + 30.0 * np.arange(len(names))
    np.testing.assert_allclose(table["onset_s"], onsets, atol=1e-6)
    np.testing.assert_allclose(events["onset"], onsets, atol=1e-6)
    np.testing.assert_allclose(marks.onset, onsets, atol=1e-6)
    np.testing.assert_allclose(
        held["start_s"] + held["epoch_s"] * np.arange(held["n_epochs"]), onsets, atol=1e-6
    )
    columns = [f"p_{name}" for name in STAGES]
    shares = np.array(held["probabilities"], float)
    np.testing.assert_allclose(shares, staging.probabilities, atol=5e-7)
    np.testing.assert_array_equal(table[columns], shares)
    np.testing.assert_array_equal(events[columns], shares)
    assert np.abs(np.nansum(shares, 1) - (staging.stages >= 0)).max() < 1e-5
    ranks = {s.epoch: rank for rank, s in enumerate(staging.review, 1)}
    assert table["review_rank"].dropna().to_dict() == ranks
    assert events["review_rank"].dropna().to_dict() == ranks
    assert {entry["epoch"]: entry["rank"] for entry in held["review"]} == ranks


@each_case
@pytest.mark.parametrize("kind", ["csv", "edf", "bids"])
def test_what_was_written_is_read_again_by_partsig(kind, staging, tmp_path):
    path = write_all(staging, tmp_path)[kind]
    found = read_hypnogram(path, HypnogramConfig())
    assert found.stages.tolist() == staging.stages.tolist()
    # Without a start of its own, an EDF+ file is placed by what the user says.
    stated = {"offset_s": 0.0} if staging.start is None and kind == "edf" else {}
    settings = HypnogramConfig(**stated)
    offset, _ = find_offset("night1", found, staging.start, staging.duration_s, settings)
    stages, begin, _ = to_epochs("night1", found, offset, staging.duration_s)
    assert begin == pytest.approx(staging.start_s, abs=1e-3)
    n = len(stages)
    assert n >= staging.n_epochs - 1
    assert stages.tolist() == staging.stages[:n].tolist()


@each_case
def test_the_clock_times_of_the_table(staging, tmp_path):
    table = pd.read_csv(write_csv(staging, tmp_path), dtype={"clock_time": str})
    if staging.start is None:
        assert table["clock_time"].isna().all()
        return
    expected = [staging.start + timedelta(seconds=at) for at in staging.onsets.tolist()]
    found = pd.to_datetime(table["clock_time"], format="ISO8601")
    assert np.abs((found - pd.Series(expected)).dt.total_seconds()).max() < 2e-6
    if staging.start == START and staging.start_s == 0:
        assert table["clock_time"][1] == "2020-02-01 22:30:35"


def test_the_table_as_a_person_sees_it(tmp_path):
    shares = np.full((3, 5), np.nan)
    shares[0], shares[2] = (0.7, 0.1, 0.1, 0.05, 0.05), (0, 0.25, 0.25, 0.5, 0)
    staging = make(
        (0, -1, 3),
        start_s=10.01,
        probabilities=shares,
        scored=np.array([0, 1, -1], np.int8),
        review=(Suspect(epoch=2, score=1.0, reasons=("low confidence, 0.5", "line\nbreak")),),
    )
    assert write_csv(staging, tmp_path).read_text("utf-8").splitlines() == [
        "epoch,onset_s,duration_s,clock_time,stage,confidence,p_W,p_N1,p_N2,p_N3,p_REM,"
        "scored,unusable,review_rank,review_reasons",
        "0,10.01,30,2020-02-01 22:30:15.010000,W,0.7,0.7,0.1,0.1,0.05,0.05,W,,,",
        "1,40.01,30,2020-02-01 22:30:45.010000,unscored,,,,,,,N1,flat in C3-M2 and C4-M1,,",
        "2,70.01,30,2020-02-01 22:31:15.010000,N3,0.5,0,0.25,0.25,0.5,0,unscored,,1,"
        '"low confidence, 0.5; line break"',
    ]


# EDF+


@each_case
def test_edf_plus_is_read_alike_by_mne_edfio_and_edflib(staging, tmp_path):
    path = write_edf(staging, tmp_path)
    marks, theirs = mne.read_annotations(path), edfio.read_edf(path)
    with pyedflib.EdfReader(str(path)) as reader:
        onsets, durations, descriptions = reader.readAnnotations()
        begin = reader.getStartdatetime()
    for found in (marks.onset, [a.onset for a in theirs.annotations], onsets):
        np.testing.assert_allclose(found, staging.onsets, atol=1e-6)
    for found in (marks.duration, [a.duration for a in theirs.annotations], durations):
        assert set(np.asarray(found).tolist()) == {30.0}
    for found in (marks.description, [a.text for a in theirs.annotations], descriptions):
        assert list(found) == texts_of(staging)
    start = datetime(1985, 1, 1) if staging.start is None else staging.start
    # pyedflib 0.1.42 gives a tenth of the part of a second: 250 ms as 25.
    assert begin.replace(microsecond=0) == start.replace(microsecond=0)
    assert theirs.starttime == start.time()
    if staging.start is not None:
        assert theirs.startdatetime == start
    told = None if staging.start is None else start.replace(microsecond=0)  # 1985: nobody set it
    assert open_edf(path).start == told


def test_edf_plus_opened_as_a_recording_by_mne_has_its_start_and_no_channel(tmp_path):
    path = write_edf(make(), tmp_path)
    with pytest.warns(RuntimeWarning) as told:
        raw = mne.io.read_raw_edf(path, verbose="warning")
    assert any("only contains annotations" in str(warning.message) for warning in told)
    assert raw.ch_names == []
    assert raw.info["meas_date"].replace(tzinfo=None) == START


def test_edf_plus_overlays_a_recording_that_mne_opened(tmp_path):
    info = mne.create_info(["C4-M1"], 100.0, "eeg")
    raw = mne.io.RawArray(np.zeros((1, 20_000)), info, verbose="error")
    raw.set_meas_date(START.replace(tzinfo=UTC))
    staging = make(start_s=10.0)
    for marks in (mne.read_annotations(write_edf(staging, tmp_path)), to_annotations(staging)):
        events, ids = mne.events_from_annotations(raw.copy().set_annotations(marks), verbose=False)
        assert events[:, 0].tolist() == [1000, 4000, 7000, 10_000, 13_000, 16_000]
        assert [{v: k for k, v in ids.items()}[code] for code in events[:, 2]] == TEXTS


def head_of(path):
    return path.read_bytes()[:512].decode("ascii")


def test_2_1_1_header_of_annotations_alone(tmp_path):
    head = head_of(write_edf(make(), tmp_path))
    assert head[:8] == "0       "
    assert head[168:184] == "01.02.2022.30.05"
    assert head[192:197] == "EDF+C"
    assert head[236:256].split() == ["1", "0", "1"]  # one record, of 0 s, one signal
    assert head[256:272] == "EDF Annotations "


def test_2_1_3_identification_in_ascii_names_the_stager_and_not_the_patient(tmp_path):
    staging = make(stager={"run": "runs/Schlaf für 10 Nächte, " + "lang " * 20})
    head = head_of(write_edf(staging, tmp_path))
    assert head[8:88].split() == ["X", "X", "X", "X"]
    words = head[88:168].split()
    assert words[:5] == ["Startdate", "01-FEB-2020", "X", f"partsig_{partsig.__version__}", "X"]
    assert words[5].startswith("Schlaf_f_r_10_N_chte,_lang_")
    assert len(words) == 6


@pytest.mark.parametrize(
    ("start", "header", "told"),
    [
        (None, "01.01.8500.00.00", "X"),
        (datetime(1985, 1, 1, 22, 30, 5), "01.01.8522.30.05", "X"),
        (datetime(1985, 1, 2, 22, 30, 5), "02.01.8522.30.05", "02-JAN-1985"),
        (datetime(1924, 5, 6, 22, 30, 5), "01.01.8522.30.05", "X"),
        (datetime(2084, 12, 31, 1, 2, 3), "31.12.8401.02.03", "31-DEC-2084"),
        (datetime(2085, 1, 1, 1, 2, 3), "01.01.8501.02.03", "X"),
    ],
)
def test_2_1_3_date_that_the_header_cannot_hold_is_anonymised(start, header, told, tmp_path):
    head = head_of(write_edf(make(start=start), tmp_path))
    assert head[168:184] == header
    assert head[88:168].split()[1] == told


def test_2_2_2_time_stamped_annotations_lists(tmp_path):
    staging = make((2, -1), start=START.replace(microsecond=123_457), start_s=10.01)
    body = write_edf(staging, tmp_path).read_bytes()[512:].rstrip(b"\0")
    assert body == (
        b"+0.123457\x14\x14\0"
        b"+10.133457\x1530\x14Sleep stage N2\x14\0"
        b"+40.133457\x1530\x14Sleep stage ?\x14"
    )


def test_2_2_2_onsets_of_a_year_have_no_digits_but_theirs(tmp_path):
    start = START.replace(microsecond=999_999)
    staging = make(np.zeros(20_000, np.int8), start=start, start_s=29.987654, review=())
    entries = write_edf(staging, tmp_path).read_bytes()[512:].rstrip(b"\0").split(b"\0")
    written = [entry[1:].split(b"\x15")[0] for entry in entries[1:]]
    assert max(len(number.partition(b".")[2]) for number in written) == 6
    assert written[-1] == b"%d.987653" % (30 * 19_999 + 30)


def test_2_2_3_texts_are_utf_8_without_control_characters(tmp_path):
    reasons = ("Arousal → Wachheit bei 120 µV", "two\nlines\x14and\x00a\x15mark")
    staging = make(review=(Suspect(epoch=2, score=1.0, reasons=reasons),))
    path = write_review(staging, tmp_path)
    expected = ["review 1: Arousal → Wachheit bei 120 µV; two lines and a mark"]
    assert mne.read_annotations(path).description.tolist() == expected
    assert [a.text for a in edfio.read_edf(path).annotations] == expected
    with pyedflib.EdfReader(str(path)) as reader:
        assert reader.readAnnotations()[2].tolist() == expected


def test_2_2_4_the_first_record_tells_the_part_of_a_second(tmp_path):
    path = write_edf(make(start=START.replace(microsecond=250_000)), tmp_path)
    assert path.read_bytes()[512:].startswith(b"+0.25\x14\x14\0+0.25\x1530\x14")


def test_review_marks_lie_on_their_epochs_in_a_file_of_their_own(tmp_path):
    staging = make(start_s=10.01)
    marks = mne.read_annotations(write_review(staging, tmp_path))
    np.testing.assert_allclose(marks.onset, [40.01, 130.01])
    assert marks.duration.tolist() == [30.0, 30.0]
    assert marks.description.tolist() == [
        "review 2: artefact in C4-M1: 600 µV",
        "review 1: low confidence (0.41); N3 straight after REM",
    ]
    assert not any(
        "review" in t for t in mne.read_annotations(write_edf(staging, tmp_path)).description
    )


def test_nothing_to_review_and_reasons_left_out(tmp_path):
    marks = mne.read_annotations(write_review(make(review=()), tmp_path))
    assert marks.description.tolist() == ["Recording starts"]
    staging = make(review=(Suspect(epoch=0, score=1.0, reasons=()),))
    marks = mne.read_annotations(write_review(staging, tmp_path))
    assert marks.description.tolist() == ["review 1"]


def test_a_recording_shorter_than_an_epoch(tmp_path):
    staging = make((), oddity=np.zeros(0), duration_s=7.0)
    paths = write_all(staging, tmp_path)
    assert len(pd.read_csv(paths["csv"])) == 0
    assert len(pd.read_csv(paths["bids"], sep="\t")) == 0
    assert json.loads(paths["json"].read_text())["stages"] == []
    for kind in ("edf", "review"):
        assert [a.text for a in edfio.read_edf(paths[kind]).annotations] == ["Recording starts"]
        with pyedflib.EdfReader(str(paths[kind])) as reader:
            assert reader.readAnnotations()[2].tolist() == ["Recording starts"]
    for kind in ("csv", "edf", "bids"):
        assert len(read_hypnogram(paths[kind], HypnogramConfig()).stages) == 0
    assert len(to_annotations(staging)) == 0
    assert to_yasa(staging).n_epochs == 0


# BIDS


def test_bids_events_are_read_by_mne_bids_and_by_partsig(tmp_path):
    wave = 40 * np.sin(np.arange(19_000) / 5)
    signal = edfio.EdfSignal(wave, 100, label="C4-M1", physical_dimension="uV")
    edfio.Edf([signal]).write(tmp_path / "night.edf")
    raw = mne.io.read_raw_edf(tmp_path / "night.edf", verbose="error")
    place = mne_bids.BIDSPath(subject="01", task="sleep", root=tmp_path / "tree", datatype="eeg")
    mne_bids.write_raw_bids(raw, place, verbose="error")
    recording = tmp_path / "tree" / "sub-01" / "eeg" / "sub-01_task-sleep_eeg.edf"
    folder = recording.parent
    staging = make(name="sub-01_task-sleep_eeg", start_s=10.0)
    path = write_bids(staging, folder)
    assert path == folder / "sub-01_task-sleep_events.tsv"
    assert bids.find_events(recording) == {"": path}
    found = mne_bids.read_raw_bids(place, verbose="error").annotations
    np.testing.assert_allclose(found.onset, staging.onsets)
    assert found.duration.tolist() == [30.0] * 6
    assert found.description.tolist() == ["W", "N1", "N2", "unscored", "N3", "REM"]
    night = bids.read_recording(recording, ReadConfig(channels=("C4-M1",)))
    assert night.stages.tolist() == list(CODES)
    assert night.start_s == 10.0


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("sub-01_task-sleep_eeg", "sub-01_task-sleep_events.tsv"),
        ("sub-01_ses-2_task-sleep_run-1_eeg", "sub-01_ses-2_task-sleep_run-1_events.tsv"),
        ("sub-01_task-sleep", "sub-01_task-sleep_events.tsv"),
        ("night_eeg", "night_eeg_events.tsv"),
        ("SC4001E0-PSG", "SC4001E0-PSG_events.tsv"),
    ],
)
def test_bids_names(name, events, tmp_path):
    assert write_bids(make(name=name), tmp_path).name == events


def test_bids_sidecar_describes_every_column_and_level(tmp_path):
    staging = make(scored=np.array([0, 0, 2, 2, -1, 4], np.int8))
    path = write_bids(staging, tmp_path)
    events = pd.read_csv(path, sep="\t", keep_default_na=False)
    sidecar = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert list(events.columns[:3]) == ["onset", "duration", "trial_type"]
    assert list(sidecar) == ["GeneratedBy", *events.columns]
    for column in ("trial_type", "scored"):
        assert set(events[column]) <= set(sidecar[column]["Levels"])
    assert sidecar["onset"]["Units"] == "s"
    assert sidecar["GeneratedBy"] == [
        {
            "Name": "partsig",
            "Version": partsig.__version__,
            "Stager": {"run": "runs/part 10", "temperature": 1.25, "subjects": ["a", "b"]},
        }
    ]
    # BIDS: missing values are n/a, no cell is empty.
    assert events.loc[3, "confidence"] == events.loc[3, "p_W"] == "n/a"
    assert not (events == "").any(axis=None)


# JSON


def test_json_says_everything_but_the_signal(tmp_path):
    staging = make(scored=np.array([0, 0, 2, 2, -1, 4], np.int8), oddity=np.float32([0.1, np.nan]))
    text = write_json(staging, tmp_path).read_text("utf-8")

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    shares = found.pop("probabilities")
    assert shares[3] == [None] * 5
    assert found.pop("confidence")[0] == pytest.approx(staging.probabilities[0, 0], abs=5e-7)
    assert found == {
        "partsig": partsig.__version__,
        "recording": "night1",
        "source": "",
        "ch_names": ["C3-M2", "C4-M1"],
        "channels_missing": [],
        "start": "2020-02-01T22:30:05",
        "duration_s": 187.0,
        "start_s": 0.0,
        "epoch_s": 30.0,
        "n_epochs": 6,
        "stage_names": ["W", "N1", "N2", "N3", "REM"],
        "stager": {"run": "runs/part 10", "temperature": 1.25, "subjects": ["a", "b"]},
        "notes": ["resampled from 256 Hz"],
        "stages": ["W", "N1", "N2", None, "N3", "REM"],
        "unusable": {"3": "flat in C3-M2 and C4-M1"},
        "scored": ["W", "W", "N2", "N2", None, "REM"],
        "review": [
            {
                "rank": 1,
                "epoch": 4,
                "score": 2.5,
                "reasons": ["low confidence (0.41)", "N3 straight after REM"],
            },
            {"rank": 2, "epoch": 1, "score": 1.0, "reasons": ["artefact in C4-M1: 600 µV"]},
        ],
        "quality_names": ["good", "flat", "clipped", "out of range"],
        "quality": {"C3-M2": [0, 0, 0, 1, 0, 0], "C4-M1": [0, 0, 0, 1, 0, 0]},
        "oddity_per_s": [0.1, None],
    }
    fields = {field.name for field in dataclasses.fields(Staging)} - {"signal", "sfreq"}
    assert fields - set(found) == {"name", "probabilities", "oddity"}
    assert len(text.splitlines()) == len(found) + 4  # two were popped, and two braces


# Objects


def test_yasa_has_stages_clock_and_probabilities():
    staging = make(start_s=10.0)
    found = to_yasa(staging)
    assert found.hypno.tolist() == ["WAKE", "N1", "N2", "UNS", "N3", "REM"]
    assert found.hypno.index[0] == pd.Timestamp("2020-02-01 22:30:15")
    assert found.scorer == "partsig"
    assert found.proba["UNS"].tolist() == [0, 0, 0, 1, 0, 0]
    used = staging.stages >= 0
    shares = found.proba[["WAKE", "N1", "N2", "N3", "REM"]].to_numpy()
    np.testing.assert_array_equal(shares[used], staging.probabilities[used])
    statistics = found.sleep_statistics()
    assert statistics["TIB"] == 3.0
    assert statistics["WAKE"] == 0.5
    assert statistics["N2"] == 0.5


def test_yasa_compares_with_the_scorer():
    staging = make((0, 1, 2, 2, 3, 4), scored=np.array([0, 1, 2, 1, 3, 4], np.int8))
    agreement = to_yasa(staging, scored=True).evaluate(to_yasa(staging))
    assert agreement.get_agreement()["accuracy"] == pytest.approx(500 / 6)  # per cent
    with pytest.raises(DataError, match="night1: no stages came with this recording"):
        to_yasa(make(), scored=True)


@pytest.mark.parametrize(("convert", "package"), [(to_annotations, "mne"), (to_yasa, "yasa")])
def test_a_package_that_is_not_installed_is_named(convert, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'partsig\[{package}\]'"):
        convert(make())


# Names, and files that are there already


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("tr03-0005", "tr03-0005"),
        ("Schläfer 3 夜", "Schläfer 3 夜"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\\b:c\n", "a_b_c_"),
        ("..", "recording"),
        ("", "recording"),
    ],
)
def test_files_lie_in_the_folder_whatever_a_raw_is_called(name, stem, tmp_path):
    folder = tmp_path / "out"
    paths = write_all(make(name=name), folder)
    assert file_stem(name) == stem
    assert {path.parent for path in paths.values()} == {folder}
    assert paths["csv"].name == f"{stem}_hypnogram.csv"
    assert list(tmp_path.iterdir()) == [folder]
    assert len(list(folder.iterdir())) == 6
    assert json.loads(paths["json"].read_text("utf-8"))["recording"] == name


def test_a_name_as_long_as_a_file_can_have(tmp_path):
    paths = write_all(make(name="夜" * 80), tmp_path)
    assert all(path.is_file() for path in paths.values())
    assert paths["csv"].name == "夜" * 53 + "_hypnogram.csv"


def test_files_of_an_earlier_staging_are_replaced(tmp_path):
    write_all(make(scored=np.zeros(6, np.int8)), tmp_path)
    paths = write_all(make((4,)), tmp_path)
    assert pd.read_csv(paths["csv"])["stage"].tolist() == ["REM"]
    assert mne.read_annotations(paths["edf"]).description.tolist() == ["Sleep stage R"]
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
    "file",
    [
        *("night1_hypnogram.csv", "night1_hypnogram.edf", "night1_events.tsv"),
        *("night1_events.json", "night1_review.edf", "night1_staging.json"),
    ],
)
def test_the_files_of_others_are_kept(file, tmp_path):
    path = tmp_path / file
    if path.suffix == ".edf":  # a scorer's hypnogram, as edfio writes it
        marks = [edfio.EdfAnnotation(0.0, 30.0, "Sleep stage W")]
        edfio.Edf([], annotations=marks).write(path)
    else:
        path.write_text("onset,stage\n0,W\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"{file} is there already and is not partsig's"):
        write_all(make(), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


SPEAKS = {
    "night1_staging.json": '{"made with": "partsig", "stages": ["W"]}',
    "night1_events.json": '{"GeneratedBy": [{"Name": "mine"}], "tool": "partsig"}',
    "night1_hypnogram.csv": "my,notes\n1,of,review_rank,all\n",
    "night1_events.tsv": "my\tnotes\n1\treview_rank\t2\n",
    "night1_hypnogram.edf": "0       my notes on partsig_files: partsig_0.2" + " " * 300,
}


@pytest.mark.parametrize("file", SPEAKS)
def test_files_that_speak_of_partsig_are_kept(file, tmp_path):
    (tmp_path / file).write_text(SPEAKS[file])
    with pytest.raises(DataError, match=rf"{file} is there already and is not partsig's"):
        write_all(make(), tmp_path)
    assert (tmp_path / file).read_text() == SPEAKS[file]


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*; choose another place"):
        write_all(make(), tmp_path / "out")


# Real recordings


def stage_by_hand(path: Path, start_s: float) -> Staging:
    night = open_psg(path)
    codes = np.resize(CODES, int((night.duration_s - start_s) // 30))
    return make(
        codes, name=night.name, start=night.start, start_s=start_s, duration_s=night.duration_s
    )


@pytest.mark.parametrize("start_s", [0.0, 10.25])
def test_a_real_recording_and_its_hypnogram_lie_upon_each_other(real_psg, start_s, tmp_path):
    staging = stage_by_hand(real_psg, start_s)
    raw = mne.io.read_raw_edf(real_psg, verbose="error")
    assert (staging.start or datetime(1985, 1, 1)) == raw.info["meas_date"].replace(tzinfo=None)
    for path in (write_edf(staging, tmp_path), None):
        marks = to_annotations(staging) if path is None else mne.read_annotations(path)
        laid = raw.copy().set_annotations(marks)
        assert len(laid.annotations) == staging.n_epochs  # none lies outside the signal
        events, ids = mne.events_from_annotations(laid, verbose=False)
        sfreq = raw.info["sfreq"]
        expected = np.round((start_s + 30 * np.arange(staging.n_epochs)) * sfreq)
        assert (events[:, 0] - raw.first_samp).tolist() == expected.tolist()
        texts = {code: text for text, code in ids.items()}
        assert [texts[code] for code in events[:, 2]] == texts_of(staging)
    assert "Startdate X" in head_of(real_psg)  # a night without a date stays one
    assert head_of(tmp_path / "psg_25min_hypnogram.edf")[168:184] == head_of(real_psg)[168:184]
    assert "Startdate X" in head_of(tmp_path / "psg_25min_hypnogram.edf")


@pytest.mark.parametrize("kind", ["csv", "edf"])
def test_partsig_reads_a_real_recording_with_the_stages_it_wrote(real_psg, kind, tmp_path):
    staging = stage_by_hand(real_psg, 10.25)
    beside = write_all(staging, tmp_path)[kind]
    channels = open_psg(real_psg).labels[:1]
    night = edf_recordings.read_night(
        real_psg, {"": beside}, ReadConfig(channels=channels), edf_recordings.CHANNELS
    )
    assert night.start_s == 10.25
    assert night.stages.tolist() == staging.stages.tolist()


def test_real_stages_survive_the_way_through_every_reader(real_sleeper, tmp_path):
    own = {"5": "W", "4": "REM", "3": "N1", "2": "N2", "1": "N3"}
    given = read_hypnogram(real_sleeper / "segment_stages.csv", HypnogramConfig(stages=own))
    codes, begin, _ = to_epochs("segment", given, 0.0, 5040.0)
    assert begin == 10.01
    assert len(set(codes.tolist())) >= 4
    staging = make(codes, name="segment", start_s=begin, duration_s=5040.0)
    paths = write_all(staging, tmp_path)
    for kind in ("csv", "edf", "bids"):
        found = read_hypnogram(paths[kind], HypnogramConfig())
        offset, _ = find_offset("segment", found, START, 5040.0, HypnogramConfig())
        again, start_s, _ = to_epochs("segment", found, offset, 5040.0)
        assert start_s == begin
        assert again.tolist() == codes.tolist()
    marks = mne.read_annotations(paths["edf"])
    words = [text.removeprefix("Sleep stage ").replace("?", "UNS") for text in marks.description]
    assert yasa.Hypnogram(words).hypno.tolist() == to_yasa(staging).hypno.tolist()
