"""``partsig stage``: recordings as people have them, to hypnograms that agree with ``evaluate``."""

import csv
import json
import shutil
from datetime import datetime

import edfio
import mne
import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

import partsig
from partsig.data.mapped import FileMap
from partsig.data.sample import CHANNELS, write_records
from partsig.data.signals import lazy
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.data.signals.readers import psg
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.metrics.agreement import kappa
from partsig.runs import directory as runs
from partsig.sleep import review
from partsig.sleep import stager as staging
from partsig.sleep.audit import measure as nights
from partsig.sleep.stager import load
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.stage import stage, stage_all

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
SHORT = {"optim.warmup_epochs": 1, "fit.epochs": 4, "fit.batch_size": 32, "optim.lr": 5e-2}


@pytest.fixture(scope="module")
def raw_records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    return {path.stem: path for path in write_records(folder)}


@pytest.fixture(scope="module")
def run(sample_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "scratch"
    return finetune(
        "scratch", sample_store, path, subjects=20, overrides=TINY | SHORT, device="cpu"
    )


@pytest.fixture(scope="module")
def stager(run):
    return load(run, "cpu")


@pytest.fixture(scope="module")
def tested(run, sample_store):
    """Name and predictions of a test subject's recording, by ``evaluate``."""
    found = evaluate(run, device="cpu", figures=False)
    with open(found.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    name = rows[0]["recording"]
    return name, [row for row in rows if row["recording"] == name]


def as_edf(path, header, stages=(), silent=None, labels=CHANNELS):
    """Write a record of the challenge's layout as EDF+; ``silent`` seconds of it as zeros."""
    import wfdb

    record = wfdb.rdrecord(str(header.with_suffix("")))
    signal = record.p_signal.T.copy()
    if silent is not None:
        at = slice(*(round(s * record.fs) for s in silent))
        signal[:, at] = 0
    reach = max(abs(signal).max(), 1)
    edfio.Edf(
        [
            edfio.EdfSignal(
                row, record.fs, label=label, physical_dimension="uV", physical_range=(-reach, reach)
            )
            for row, label in zip(signal, labels, strict=True)
        ],
        recording=edfio.Recording(startdate=datetime(2021, 5, 4).date()),
        starttime=datetime(2021, 5, 4, 22, 47, 30).time(),
        annotations=[
            edfio.EdfAnnotation(30.0 * e, 30.0, f"Sleep stage {stage}")
            for e, stage in enumerate(stages)
        ],
    ).write(path)
    return path


def test_a_raw_record_is_staged_as_evaluate_stages_the_store(raw_records, stager, tested):
    name, rows = tested
    found = stage(raw_records[name], stager)
    assert found.name == name
    for row in rows:
        e = int(row["epoch"])
        assert found.names[e] == row["prediction"]
        p = [float(row[f"p_{s}"]) for s in STAGES]
        np.testing.assert_allclose(found.probabilities[e], p, atol=2e-5)
        assert STAGES[found.scored[e]] == row["truth"]
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)


def test_an_edf_file_and_an_mne_raw_are_staged_alike(raw_records, stager, tested, tmp_path):
    path = as_edf(tmp_path / "a.edf", raw_records[tested[0]])
    from_file = stage(path, stager)
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    from_raw = stage(raw, stager)
    assert from_raw.name == "a"
    assert from_raw.start == from_file.start == datetime(2021, 5, 4, 22, 47, 30)
    np.testing.assert_allclose(from_raw.probabilities, from_file.probabilities, atol=1e-4)
    assert from_file.scored is None


def test_the_runs_filter_is_applied_before_anything_is_cut(raw_records, stager, sample_store):
    name = next(iter(raw_records))
    found = stage(raw_records[name], stager)
    stored = open_store(sample_store).signal(name)
    assert found.signal.shape == stored.shape
    np.testing.assert_allclose(found.signal, stored, atol=1e-3)


def test_what_cannot_be_used_is_marked_and_never_wake(raw_records, stager, tested, tmp_path):
    path = as_edf(tmp_path / "b.edf", raw_records[tested[0]], silent=(30, 60))
    found = stage(path, stager, output=tmp_path / "out")
    assert found.stages[1] == UNSCORED
    assert np.isnan(found.probabilities[1]).all()
    assert found.unusable[1] == f"artefact: {', '.join(CHANNELS)} flat"
    assert [e for e, why in enumerate(found.unusable) if why] == [1]
    assert 1 not in [suspect.epoch for suspect in found.review]
    with open(tmp_path / "out" / "b_hypnogram.csv", newline="") as handle:
        row = list(csv.DictReader(handle))[1]
    assert row["stage"] == "unscored"
    marks = mne.read_annotations(tmp_path / "out" / "b_hypnogram.edf")
    assert marks.description[1] == "Sleep stage ?"


def test_one_dead_channel_of_three_adds_doubt_and_a_reason(raw_records, stager, tmp_path):
    name = max(raw_records, key=lambda key: raw_records[key].stat().st_size)
    raw = mne.io.read_raw_edf(
        as_edf(tmp_path / "c.edf", raw_records[name]), preload=True, verbose="error"
    )
    whole = stage(raw, stager)
    raw._data[0, : round(30 * raw.info["sfreq"])] = 0
    found = stage(raw, stager)
    assert found.unusable[0] == ""
    (suspect,) = (s for s in found.review if s.epoch == 0)
    assert any("O2-M1 flat" in reason for reason in suspect.reasons)
    confidence = found.confidence[0]
    prior = stager.run.calibration["prior"][found.stages[0]]
    assert suspect.score == pytest.approx(1 - (2 / 3 * confidence + prior / 3))
    assert stage(raw, stager, overrides={"good_share": 1.0}).stages[0] == UNSCORED
    assert whole.unusable[0] == ""


def test_stages_in_the_file_stand_beside_and_decide_the_grid(raw_records, stager, tested, tmp_path):
    path = as_edf(tmp_path / "d.edf", raw_records[tested[0]], stages=["N2", "R", "?"])
    found = stage(path, stager)
    assert found.scored[:3].tolist() == [2, 4, UNSCORED]
    assert stage(path, stager, overrides={"scored": False}).scored is None


def test_stages_that_contradict_are_told_with_the_way_around_them(raw_records, stager, tmp_path):
    path = as_edf(tmp_path / "d.edf", raw_records[next(iter(raw_records))], stages=["N2", "R"])
    (tmp_path / "d.csv").write_text("onset,duration,stage\n0,60,W\n30,30,N2\n")
    with pytest.raises(DataError, match=r"two stages at 30 s.*Without its stages: --set scored=f"):
        stage(path, stager)
    assert stage(path, stager, overrides={"scored": False}).scored is None


def test_a_fraction_of_a_second_is_in_the_clock_of_what_is_written(raw_records, run, tmp_path):
    path = as_edf(tmp_path / "d.edf", raw_records[next(iter(raw_records))])
    edf = edfio.read_edf(path)
    edf.starttime = edf.starttime.replace(microsecond=500_000)
    edf.write(path)
    found = stage_all([path], run, output=tmp_path / "out", device="cpu")
    with open(found.files["d"]["csv"], newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["clock_time"] for row in rows[:2]] == [
        "2021-05-04 22:47:30.500000",
        "2021-05-04 22:48:00.500000",
    ]


def test_channels_that_do_not_fit_are_refused_with_the_aliases(raw_records, stager, tmp_path):
    name = next(iter(raw_records))
    path = as_edf(tmp_path / "e.edf", raw_records[name], labels=("EEG Oz", "EOG Left", "EMG"))
    with pytest.raises(DataError) as caught:
        stage(path, stager)
    message = str(caught.value)
    assert "needs O2-M1, E1-M2, Chin1-Chin2" in message
    wanted = "aliases={O2-M1: [NAME], E1-M2: [EOG Left], Chin1-Chin2: [EMG]}"
    assert f"--set '{wanted}'" in message
    given = wanted.replace("NAME", "EEG Oz")
    assert stage(path, stager, overrides=[given]).n_epochs > 0


def test_a_rate_that_is_too_low_and_a_recording_too_short_are_told(raw_records, stager, tmp_path):
    raw = mne.io.read_raw_edf(
        as_edf(tmp_path / "f.edf", raw_records[next(iter(raw_records))]), verbose="error"
    )
    short = raw.copy().crop(0, 20, include_tmax=False).load_data(verbose="error")
    with pytest.raises(DataError, match=r"hold no whole epoch of 30 s"):
        stage(short, stager)
    slow = raw.copy().load_data(verbose="error").resample(50, verbose="error")
    with pytest.raises(DataError, match=r"^f: .* at 50 Hz; .* more than 60 Hz: export"):
        stage(slow, stager)  # a DataError, so that the other recordings of a batch are staged


def test_a_cropped_raw_keeps_its_clock_and_its_stages(raw_records, stager, tmp_path):
    header = raw_records[next(iter(raw_records))]
    path = as_edf(tmp_path / "c.edf", header, ["W", "N1", "N2", "N3", "R", "W", "N1"])
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    whole = stage(raw, stager)
    for dated in (True, False):
        if not dated:
            raw.set_meas_date(None)
        cut = raw.copy().crop(45, 180, include_tmax=False)
        found = stage(cut, stager)
        assert found.start == (datetime(2021, 5, 4, 22, 48, 15) if dated else None)
        assert (found.start_s, found.n_epochs) == (15, 4)
        assert found.scored.tolist() == [2, 3, 4, 0]
        assert found.scored.tolist() == whole.scored[2:6].tolist()


def test_brainvision_comments_are_stages():
    raw = mne.io.RawArray(np.zeros((1, 9000)), mne.create_info(["C4"], 100, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([0, 30], 30, ["Comment/Sleep stage N2", "Comment/N3"]))
    assert [mark.text for mark in psg.from_raw(raw, "a").marks] == ["Sleep stage N2", "N3"]


def test_what_is_neither_a_file_nor_a_raw_is_told(stager):
    with pytest.raises(DataError, match=r"a file's path or an mne.io.Raw, not ndarray"):
        stage(np.zeros((3, 9000)), stager)


def test_samples_that_are_no_numbers_are_told_with_the_recordings_name(raw_records, stager):
    raw = mne.io.RawArray(
        np.full((3, 9000), np.nan), mne.create_info(list(CHANNELS), 100, "eeg"), verbose="error"
    )
    with pytest.raises(DataError, match=r"^raw: .* not finite numbers; replace them first"):
        stage(raw, stager)


@pytest.mark.parametrize("name", ["a.fif", "a.set", "a.vhdr"])
def test_a_damaged_file_is_told_and_keeps_no_other_from_being_staged(name, run, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    found = stage_all([tmp_path / name], run, output=tmp_path / "out", device="cpu")
    assert found.failed["a"].startswith(f"{name} cannot be read by MNE (")


@pytest.mark.parametrize("setting", ["missing=Fill", "unit=pV"])
def test_a_setting_that_is_none_is_refused_and_not_taken_for_another(setting, run, tmp_path):
    with pytest.raises(ConfigError, match=f"{setting.partition('=')[0]}: input should be"):
        stage_all([tmp_path], run, overrides=[setting])


def test_a_pattern_that_finds_nothing_is_told(raw_records, stager, tmp_path):
    path = as_edf(tmp_path / "n1.edf", raw_records[next(iter(raw_records))])
    found = stage(path, stager, overrides=["hypnogram.pattern={name}.scores"])
    assert found.notes[-1] == "no n1.scores beside it, and no stages inside"
    # Another recording, or its scores, are not taken for this one's.
    (tmp_path / "n10.csv").write_text("onset,stage\n0,W\n")
    as_edf(tmp_path / "n1-2.edf", raw_records[next(iter(raw_records))])
    assert stage(path, stager).notes == ()


def test_folders_hold_every_kind_and_what_is_given_twice_counts_once(raw_records, run, tmp_path):
    folder, (first, second) = tmp_path / "nights", sorted(raw_records)[:2]
    folder.mkdir()
    for suffix in (".hea", ".mat"):
        shutil.copy(raw_records[first].with_suffix(suffix), folder)
    path = as_edf(folder / "b.edf", raw_records[second])
    found = stage_all([folder, path, path], run, output=tmp_path / "out", device="cpu")
    assert sorted(found.files) == ["b", first]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"no recordings in .*none: .*\.edf, .*, \.hea\."):
        stage_all([tmp_path / "none"], run)


def test_two_recordings_do_not_overwrite_each_other(raw_records, run, tmp_path):
    header = raw_records[next(iter(raw_records))]
    for one, other in (("n:1", "n_1"), ("sub-1_eeg", "sub-1_psg")):  # BIDS drops the last part
        paths = [as_edf(tmp_path / f"{name}.edf", header) for name in (one, other)]
        with pytest.raises(DataError, match=r"would both be written to .*; rename one"):
            stage_all(paths, run, output=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_picture_of_somebody_elses_is_kept(raw_records, run, tmp_path):
    path = as_edf(tmp_path / "p.edf", raw_records[next(iter(raw_records))])
    out = tmp_path / "out"
    out.mkdir()
    (out / "p_staging.png").write_bytes(b"mine")
    found = stage_all([path], run, output=out, device="cpu")
    assert "p_staging.png is there already and is not partsig's" in found.failed["p"]
    assert [file.name for file in out.iterdir()] == ["p_staging.png"]
    assert (out / "p_staging.png").read_bytes() == b"mine"
    with pytest.raises(DataError, match=r"p.edf is no folder that can be written to"):
        stage_all([path], run, output=path)


def test_several_are_staged_one_is_told_and_nothing_is_done_twice(raw_records, run, tmp_path):
    names = sorted(raw_records)[:2]
    folder = tmp_path / "nights"
    folder.mkdir()
    for name in names:
        as_edf(folder / f"{name}.edf", raw_records[name])
    (folder / "broken.edf").write_bytes(b"0       " + b"x" * 300)
    words = ["stage", str(folder), "--run", str(run), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 2
    assert "failed broken: " in done.stderr
    assert "1 of 3 recordings could not be staged" in done.stderr
    for name in names:
        assert f"{name}: " in done.stdout
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(files) == 16
    assert f"{names[0]}_staging.svg" in files
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / f"{names[1]}_staging.png").unlink()
    (folder / "broken.edf").unlink()
    again = stage_all([folder], run, output=tmp_path / "out", device="cpu")
    assert again.summaries[names[0]] == "staged before"
    assert again.summaries[names[1]] != "staged before"
    for path, stamp in before.items():
        assert (path.stat().st_mtime_ns == stamp) == (names[0] in path.name)
    more = stage_all(
        [folder], run, output=tmp_path / "out", overrides={"review_share": 0.5}, device="cpu"
    )
    assert more.summaries[names[0]] != "staged before"


def test_hypnograms_are_not_written_among_recordings(raw_records, run, tmp_path):
    path = as_edf(tmp_path / "g.edf", raw_records[next(iter(raw_records))])
    with pytest.raises(DataError, match="hypnograms in it would be taken for a scorer's"):
        stage_all([path], run, output=tmp_path, device="cpu")


def test_what_is_no_recording_or_no_run_is_one_sentence(run, tmp_path):
    with pytest.raises(DataError, match="no recording nowhere"):
        stage("nowhere.edf", run)
    with pytest.raises(CheckpointError, match="no run at"):
        stage("nowhere.edf", tmp_path / "none")
    old = tmp_path / "old"
    shutil.copytree(run, old)
    record = runs.read(old)
    del record["calibration"]
    (old / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="an older partsig, which did not keep its calib"):
        load(old)


def test_the_json_tells_everything(raw_records, stager, tested, tmp_path):
    found = stage(raw_records[tested[0]], stager, output=tmp_path)
    told = json.loads((tmp_path / f"{tested[0]}_staging.json").read_text())
    assert told["stager"]["run"] == stager.facts["run"]
    assert told["stager"]["temperature"] == stager.run.calibration["temperature"]
    assert told["stager"]["settings"]["review_share"] == 0.1
    assert told["stages"] == found.names
    assert partsig.stage is stage


def test_the_verb_is_a_function_and_needs_nothing_but_a_recording(raw_records, run, monkeypatch):
    monkeypatch.chdir(run.parent.parent)
    monkeypatch.setattr(runs, "RUNS", run.parent)
    monkeypatch.setattr(runs.last, "__defaults__", (run.parent,))
    header = raw_records[next(iter(raw_records))]
    done = CliRunner().invoke(app, ["stage", str(header), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"run: {run}\n")
    assert done.stdout.endswith("hypnograms: hypnograms\n")


def test_the_real_recording_is_staged_and_its_files_open(real_psg, stager, tmp_path):
    aliases = {"O2-M1": ["EEG O2"], "E1-M2": ["EOG EOG1"], "Chin1-Chin2": ["EMG EMG1"]}
    found = stage(real_psg, stager, output=tmp_path, overrides={"aliases": aliases})
    assert found.n_epochs == 50
    assert (found.stages != UNSCORED).all()
    marks = mne.read_annotations(tmp_path / "psg_25min_hypnogram.edf")
    assert len(marks) == 50
    raw = mne.io.read_raw_edf(real_psg, verbose="error")
    again = stage(raw, stager, overrides={"aliases": aliases})
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-4)
    assert (tmp_path / "psg_25min_staging.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in (tmp_path / "psg_25min_staging.svg").read_bytes()


def test_the_real_sleeper_keeps_its_grid(real_sleeper, tmp_path):
    """pyDYNAM-O's segment: one channel, 84 min, scored on a grid that begins 10.01 s late."""
    data = np.loadtxt(real_sleeper / "segment_data.csv", delimiter=",")
    signal = edfio.EdfSignal(
        data, 100, label="C3", physical_dimension="uV", physical_range=(-3000, 3000)
    )
    edfio.Edf([signal]).write(tmp_path / "night.edf")
    shutil.copy(real_sleeper / "segment_stages.csv", tmp_path / "night.csv")
    write_records(tmp_path / "raw")
    store = partsig.preprocess(
        raw=tmp_path / "raw", store=tmp_path / "store", overrides={"channels": ["O2-M1"]}
    ).path
    run = finetune("scratch", store, tmp_path / "run", subjects=0, overrides={"model": "logistic"})
    own = {"5": "W", "4": "REM", "3": "N1", "2": "N2", "1": "N3"}
    settings = {"aliases": {"O2-M1": ["C3"]}, "hypnogram.stages": own}
    found = stage(
        tmp_path / "night.edf", run, output=tmp_path / "out", overrides=settings, device="cpu"
    )
    assert found.start_s == 10.01
    assert found.onsets[1] == pytest.approx(40.01)
    assert found.scored[1] == 0  # W from 40.01 s on, as its file says
    marks = mne.read_annotations(tmp_path / "out" / "night_hypnogram.edf")
    np.testing.assert_allclose(marks.onset, found.onsets, atol=1e-6)
    table = review.agreement(found)
    # Another electrode, another laboratory, and yet far from chance.
    assert table.sum() == (found.scored >= 0).sum()
    assert float(kappa(table)) > 0.2


def test_a_long_recording_is_staged_from_a_file_as_from_memory(
    raw_records, stager, tested, tmp_path, monkeypatch
):
    path = as_edf(tmp_path / "a.edf", raw_records[tested[0]], silent=(30, 60))
    usual = stage(path, stager, output=tmp_path / "usual")
    monkeypatch.setattr(staging, "HELD", 0)
    monkeypatch.setattr(nights, "HELD", 0)
    monkeypatch.delenv("TMPDIR", raising=False)
    made, usually = [], lazy.tempfile.TemporaryFile
    monkeypatch.setattr(
        lazy.tempfile, "TemporaryFile", lambda dir: made.append(dir) or usually(dir=dir)
    )
    found = stage(path, stager, output=tmp_path / "long")
    assert stage_all([path], stager, output=tmp_path / "all").failed == {}
    assert made == [str(tmp_path / "long"), str(tmp_path / "all")]
    assert isinstance(found.signal.base.base, FileMap)
    assert type(found.signal) is type(usual.signal) is np.ndarray
    np.testing.assert_array_equal(found.signal, usual.signal)
    np.testing.assert_array_equal(found.probabilities, usual.probabilities)
    assert found.review == usual.review
    for kind in (tmp_path / "usual").iterdir():
        if kind.suffix == ".svg":  # whose identifiers are drawn at random
            continue
        assert (tmp_path / "long" / kind.name).read_bytes() == kind.read_bytes()


def test_what_is_staged_already_is_told_without_reading_it(
    raw_records, stager, tested, tmp_path, monkeypatch
):
    name = tested[0]
    header = raw_records[name]
    as_edf(tmp_path / "a.edf", header, stages=("W", "N2"))
    as_edf(tmp_path / "b.edf", header)
    (tmp_path / "b.txt").write_text("W\n" * 20)
    paths = [tmp_path / "a.edf", tmp_path / "b.edf", header]
    given = {"output": tmp_path / "out", "device": "cpu"}
    first = stage_all(paths, stager, **given)
    assert not first.failed
    for path in paths:
        for scored in (True, False):
            settings = staging.StageConfig(scored=scored)
            recording = staging.read(path, stager, settings)
            assert staging.source_of(path, settings) == recording.source
            assert recording.name == path.stem
    read = []

    def refuse(path, *args):
        read.append(path)
        raise DataError("read again")

    monkeypatch.setattr(staging.psg, "open_psg", refuse)
    monkeypatch.setattr(staging.wfdb_records, "read_recording", refuse)
    again = stage_all(paths, stager, **given)
    assert set(again.summaries.values()) == {"staged before"}
    assert again.files == first.files
    assert read == []
    (tmp_path / "b.txt").write_text("N1\n" * 20)  # another hypnogram is another recording
    changed = stage_all([tmp_path / "b.edf"], stager, **given)
    assert changed.failed == {"b": "read again"}
    assert set(read) == {tmp_path / "b.edf"}  # once more, to tell whether its stages are at fault


def test_what_has_no_signal_is_told_as_that(stager, tmp_path):
    marks = [edfio.EdfAnnotation(0, 30, "Sleep stage W")]
    edfio.Edf([], annotations=marks).write(tmp_path / "hyp.edf")
    with pytest.raises(DataError, match=r"hyp\.edf holds annotations alone and no signal: name"):
        stage(tmp_path / "hyp.edf", stager)
    (tmp_path / "empty.edf").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.edf: 0 bytes are no EDF file"):
        stage(tmp_path / "empty.edf", stager)
    (tmp_path / "hyp.edf").unlink()
    slow = edfio.EdfSignal(np.full(60, 95.0), 1, label="SaO2", physical_dimension="%")
    edfio.Edf([slow]).write(tmp_path / "slow.edf")
    ends = "It has SaO2, none of which sounds like EEG, EOG or EMG: if one is all the same, pass"
    with pytest.raises(DataError, match=ends):
        stage(tmp_path / "slow.edf", stager)


def test_two_halves_of_a_pair_are_proposed_as_the_difference_and_taken_so(
    raw_records, stager, tmp_path
):
    labels = {"O2-M1": "O2-M1", "E1-M2": "E1-M2", "Chin1-Chin2": "EMG1"}
    whole = as_edf(tmp_path / "n.edf", next(iter(raw_records.values())), labels=CHANNELS)
    held = edfio.read_edf(whole)
    flat = None
    signals = []
    for one in held.signals:
        if one.label in labels:
            one.label = labels[one.label]
            signals.append(one)
            if one.label == "EMG1":
                flat = edfio.EdfSignal(
                    np.where(np.arange(len(one.data)) == 0, 1.0, 0.0),
                    one.sampling_frequency,
                    label="EMG2",
                    physical_dimension="uV",
                )
    edfio.Edf([*signals, flat]).write(tmp_path / "m.edf")
    with pytest.raises(DataError, match=r"aliases=\{Chin1-Chin2: \[EMG1-EMG2\]\}"):
        stage(tmp_path / "m.edf", stager)
    found = stage(tmp_path / "m.edf", stager, overrides={"aliases": {"Chin1-Chin2": ["EMG1-EMG2"]}})
    assert "derived: Chin1-Chin2 = EMG1 - EMG2" in found.notes
    np.testing.assert_array_equal(found.stages, stage(whole, stager).stages)
