"""``partsig preprocess edf`` and ``sleep-edf``, from files as people have them to a store."""

import csv
import warnings
from datetime import datetime

import edfio
import mne
import numpy as np
import pytest
import scipy.signal
import wfdb
from partsig.cli import app
from typer.testing import CliRunner

import partsig
from partsig.contracts import Labels
from partsig.data.signals.store import open_store
from partsig.data.signals.summary import summarise
from partsig.errors import ConfigError, DataError

EDF = ("preprocess", "edf")


def eeg(seconds, sfreq, seed=0):
    """One-over-f noise of SD 30 µV."""
    n = int(seconds * sfreq)
    rng = np.random.default_rng([seed, n])
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    wave = np.fft.irfft(np.exp(2j * np.pi * rng.random(len(freqs))) / np.maximum(freqs, 0.3), n)
    return wave * 30 / wave.std()


def write_edf(path, channels, stages=None, start=datetime(2020, 2, 1, 22, 30)):
    """Write {label: (data, sfreq)} in µV, with stages of 30 s as EDF+ annotations."""
    marks = [
        edfio.EdfAnnotation(30.0 * i, 30.0, f"Sleep stage {stage}")
        for i, stage in enumerate(stages or ())
    ]
    edfio.Edf(
        [
            edfio.EdfSignal(
                data, sfreq, label=label, physical_dimension="uV", physical_range=(-3000, 3000)
            )
            for label, (data, sfreq) in channels.items()
        ],
        recording=edfio.Recording(startdate=start.date()),
        starttime=start.time(),
        annotations=marks,
    ).write(path)
    return path


def preprocess(source, raw, store, **overrides):
    return partsig.preprocess(source, raw, store, overrides=overrides, jobs=1)


@pytest.mark.parametrize("sfreq", [64, 128, 200, 256, 500, 512])
def test_signals_equal_mne_at_any_rate(sfreq, tmp_path):
    stages = ["W", "N2", "N3", "R"]
    path = write_edf(tmp_path / "a.edf", {"EEG C4-A1": (eeg(120, sfreq), sfreq)}, stages)
    preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"])
    store = open_store(tmp_path / "store")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    raw.filter(0.1, 30, verbose="error")
    expected = raw.get_data()[0] * 1e6
    if sfreq > 100:
        raw.resample(100, npad=raw.n_times, verbose="error")
        expected = raw.get_data()[0] * 1e6
    else:  # MNE's upsampling wraps around; SciPy's, also by the spectrum, is the judge
        expected = scipy.signal.resample(expected, 12_000)
    found = store.signal("a")[0]
    assert found.shape == expected.shape
    inner = slice(500, -500) if sfreq < 100 else slice(None)
    tolerance = 1e-3 if sfreq < 100 else 1e-5
    assert abs(found - expected)[inner].max() / expected.std() < tolerance
    assert store.labels("a").tolist() == [0, 2, 3, 4]


def test_derivations_are_differences_of_what_mne_reads(tmp_path):
    channels = {
        "C4-REF": (eeg(60, 200, 1), 200),
        "O2-REF": (eeg(60, 200, 2), 200),
        "A1-REF": (eeg(60, 200, 3), 200),
    }
    path = write_edf(tmp_path / "a.edf", channels, ["W", "W"])
    preprocess("edf", tmp_path, tmp_path / "store", channels=["O2-M1", "C4-M1"])
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    data = raw.get_data()
    pair = mne.io.RawArray(
        np.stack([data[1] - data[2], data[0] - data[2]]),
        mne.create_info(2, 200, "eeg"),
        verbose="error",
    )
    pair.filter(0.1, 30, verbose="error").resample(100, npad=pair.n_times, verbose="error")
    found = open_store(tmp_path / "store").signal("a")
    expected = pair.get_data() * 1e6
    assert abs(found - expected).max() / expected.std() < 1e-5


def test_channels_of_several_rates_and_a_missing_one(tmp_path):
    channels = {"F3-M2": (eeg(60, 128, 4), 128), "E1-M2": (eeg(60, 256, 5), 256)}
    write_edf(tmp_path / "a.edf", channels, ["N1", "N2"])
    wanted = ["E1-M2", "C4-M1", "F3-M2"]
    with pytest.raises(DataError, match=r"channel 'C4-M1' not found; it has F3-M2, E1-M2\. Pass"):
        preprocess("edf", tmp_path, tmp_path / "store", channels=wanted)
    preprocess("edf", tmp_path, tmp_path / "filled", channels=wanted, missing="fill")
    store = open_store(tmp_path / "filled")
    signal = store.signal("a")
    assert (signal[1] == 0).all()
    for row, name in ((0, "E1-M2"), (2, "F3-M2")):
        data, sfreq = channels[name]
        t = np.arange(6000) / 100
        coarse = np.interp(t, np.arange(len(data)) / sfreq, data)
        assert np.corrcoef(signal[row], coarse)[0, 1] > 0.95
    assert store.recordings["a"]["filled"] == "C4-M1"


def test_hypnograms_beside_the_recordings(tmp_path):
    for name, text in (("a", "W\nN1\nN2\n"), ("b", "onset,stage\n0,W\n30,N1\n60,N2\n")):
        write_edf(tmp_path / f"{name}.edf", {"C4-M1": (eeg(90, 128), 128)})
        (tmp_path / f"{name}.csv").write_text(text)
    write_edf(tmp_path / "c.edf", {"C4-M1": (eeg(90, 128), 128)})
    (tmp_path / "scores").mkdir()
    result = preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"])
    store = open_store(result.path)
    assert store.labels("a").tolist() == store.labels("b").tolist() == [0, 1, 2]
    assert store.labels("c").tolist() == [-1, -1, -1]  # unscored, never wake
    (tmp_path / "a.txt").write_text("W\nW\nW\n")
    again = preprocess("edf", tmp_path, tmp_path / "two", channels=["C4-M1"])
    assert again.failed["a"].startswith("a: its stages may be in a.csv or a.txt; say which")
    stated = {"hypnogram.pattern": "{name}.csv"}
    found = preprocess("edf", tmp_path, tmp_path / "three", channels=["C4-M1"], **stated)
    store = open_store(found.path)
    assert store.labels("a").tolist() == [0, 1, 2]
    assert store.recordings["a"]["notes"].startswith("stages from a.csv, placed by its length")
    assert store.labels("c").tolist() == [-1, -1, -1]
    assert "c: no c.csv beside it, and no stages inside" in found.notes
    (tmp_path / "c.scores.csv").write_text("W\nN1\nN2\n")
    found = preprocess("edf", tmp_path, tmp_path / "four", channels=["C4-M1"])
    told = (
        "c: no stages were found, but c.scores.csv lies beside it: pass --set 'hypnogram.pattern="
    )
    assert any(note.startswith(told) for note in found.notes)
    pattern = ["channels=[C4-M1]", "hypnogram.pattern={name}.scores.csv"]
    found = partsig.preprocess("edf", tmp_path, tmp_path / "five", overrides=pattern, jobs=1)
    assert open_store(found.path).labels("c").tolist() == [0, 1, 2]


def test_a_changed_hypnogram_is_read_again(tmp_path):
    write_edf(tmp_path / "a.edf", {"C4-M1": (eeg(90, 128), 128)})
    (tmp_path / "a.csv").write_text("W\nN1\nN2\n")
    preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"])
    (tmp_path / "a.csv").write_text("W\nN3\nN2\n")
    preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"])
    assert open_store(tmp_path / "store").labels("a").tolist() == [0, 3, 2]


def test_other_reading_in_the_same_store_is_refused(tmp_path):
    write_edf(tmp_path / "a.edf", {"C4-M1": (eeg(90, 128), 128)}, ["W", "N1", "N2"])
    preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"])
    with pytest.raises(DataError, match=r"was made with other settings: reading None \(now \{'tr"):
        preprocess("edf", tmp_path, tmp_path / "store", channels=["C4-M1"], trim_wake_min=0)


def test_nights_of_one_sleeper_are_one_subject(tmp_path):
    for name in ("P07_n1", "P07_n2", "P08_n1"):
        write_edf(tmp_path / f"{name}.edf", {"C4-M1": (eeg(60, 128), 128)}, ["W", "N2"])
    settings = {"channels": ["C4-M1"], "subject": r"^(P\d+)_"}
    preprocess("edf", tmp_path, tmp_path / "store", **settings)
    subjects = open_store(tmp_path / "store").subjects
    assert subjects == {"P07": ["P07_n1", "P07_n2"], "P08": ["P08_n1"]}
    both = {"P07_n1": "c17", "P07_n2": "c17", "P08_n1": "c18"}
    for name, code in both.items():
        path = tmp_path / f"{name}.edf"
        data = bytearray(path.read_bytes())
        data[8:88] = f"{code} X X X".encode().ljust(80)
        path.write_bytes(bytes(data))
    told = [
        note
        for given in (settings, {"channels": ["C4-M1"]})
        for note in preprocess("edf", tmp_path, tmp_path / f"c{len(given)}", **given).notes
        if "one patient code" in note
    ]
    assert len(told) == 1
    assert told[0].startswith("P07_n1 and P07_n2 have one patient code and count as 2 subjects")
    for given, error, message in (
        ("(", ConfigError, r"subject is '\(', no regular expression"),
        ("P..", ConfigError, r"subject is 'P\.\.'; it needs a group"),
        ("(Q..)", DataError, r"P07_n1: no subject is found in this name by '\(Q\.\.\)'"),
    ):
        with pytest.raises(error, match=message):
            preprocess("edf", tmp_path, tmp_path / "x", channels=["C4-M1"], subject=given)


def sleep_edf(folder, start=datetime(1989, 4, 24, 16, 13), hypnogram_start=None):
    """Write one night as Sleep-EDF has it: much wake, R&K stages in a file of their own."""
    folder.mkdir(exist_ok=True)
    seconds = 30 * 200
    channels = {
        "EEG Fpz-Cz": (eeg(seconds, 100, 1), 100),
        "EEG Pz-Oz": (eeg(seconds, 100, 2), 100),
        "EOG horizontal": (eeg(seconds, 100, 3), 100),
    }
    write_edf(folder / "SC4001E0-PSG.edf", channels, start=start)
    runs = [("W", 100), ("1", 5), ("2", 10), ("3", 4), ("4", 6), ("Movement time", 1), ("R", 14)]
    runs += [("W", 60), ("?", 90)]
    at, marks = 0, []
    for stage, n in runs:
        text = stage if len(stage) > 2 else f"Sleep stage {stage}"
        marks.append(edfio.EdfAnnotation(30.0 * at, 30.0 * n, text))
        at += n
    start = hypnogram_start or start
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=start.date()),
        starttime=start.time(),
        annotations=marks,
    ).write(folder / "SC4001EC-Hypnogram.edf")
    return [0] * 100 + [1] * 5 + [2] * 10 + [3] * 10 + [-1] + [4] * 14 + [0] * 60


def test_sleep_edf(tmp_path):
    stages = sleep_edf(tmp_path / "raw")
    preprocess("sleep-edf", tmp_path / "raw", tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.ch_names == ("EEG Fpz-Cz", "EEG Pz-Oz")
    assert store.subjects == {"SC400": ["SC4001E0-PSG"]}
    assert store.labels("SC4001E0-PSG").tolist() == stages
    assert "goes on for" in store.recordings["SC4001E0-PSG"]["notes"]
    preprocess("sleep-edf", tmp_path / "raw", tmp_path / "trimmed", trim_wake_min=30)
    cut = open_store(tmp_path / "trimmed")
    assert cut.labels("SC4001E0-PSG").tolist() == stages[40:]
    whole, kept = (s.signal("SC4001E0-PSG") for s in (store, cut))
    assert kept.shape[1] == 160 * 3000
    np.testing.assert_array_equal(kept, whole[:, 40 * 3000 :])  # filtered before it was cut
    assert float(cut.recordings["SC4001E0-PSG"]["start_s"]) == 1200


def test_a_night_that_is_there_twice_is_told(tmp_path):
    sleep_edf(tmp_path / "a")
    sleep_edf(tmp_path / "b")
    with pytest.raises(DataError, match=r"recording SC4001E0-PSG is there twice: .*; keep one"):
        preprocess("sleep-edf", tmp_path, tmp_path / "store")


def test_sleep_edf_whose_files_begin_at_two_times(tmp_path):
    shift = datetime(1989, 4, 24, 16, 23)
    stages = sleep_edf(tmp_path / "raw", hypnogram_start=shift)
    preprocess("sleep-edf", tmp_path / "raw", tmp_path / "store")
    found = open_store(tmp_path / "store").labels("SC4001E0-PSG").tolist()
    assert found == ([-1] * 20 + stages)[:200]
    sleep_edf(tmp_path / "odd", hypnogram_start=datetime(2001, 1, 1))
    with pytest.raises(DataError, match=r"1989-04-24 16:13:00, SC4001EC.* at 2001-01-01 00:00:00"):
        preprocess("sleep-edf", tmp_path / "odd", tmp_path / "store2")


def test_the_real_recording(real_psg, tmp_path):
    wanted = "channels=[F3, F4, C3, C4, O1, O2]"
    found = CliRunner().invoke(
        app,
        [*EDF, "--raw", str(real_psg.parent), "--store", str(tmp_path / "s"), "--set", wanted],
    )
    assert found.exit_code == 0, found.output
    store = open_store(tmp_path / "s")
    raw = mne.io.read_raw_edf(real_psg, preload=True, verbose="error")
    raw.pick(raw.ch_names[:6]).filter(0.1, 30, verbose="error")
    assert raw.ch_names == [f"EEG {name}" for name in ("F3", "F4", "C3", "C4", "O1", "O2")]
    raw.resample(100, npad=raw.n_times, verbose="error")
    expected = raw.get_data() * 1e6
    difference = abs(store.signal("psg_25min") - expected).max(axis=1) / expected.std(axis=1)
    assert difference.max() < 1e-5
    assert set(store.labels("psg_25min").tolist()) == {-1}


def test_the_real_sleeper_keeps_its_grid(real_sleeper, tmp_path):
    """Its epochs begin at 10.01 s; 5 W, 4 REM, 3 N1, 2 N2, 1 N3."""
    data = np.loadtxt(real_sleeper / "segment_data.csv", delimiter=",")
    write_edf(tmp_path / "night.edf", {"C3": (data, 100)})
    text = (real_sleeper / "segment_stages.csv").read_text()
    (tmp_path / "night.csv").write_text(text)
    own = {"5": "W", "4": "REM", "3": "N1", "2": "N2", "1": "N3"}
    settings = {"channels": ["C3"], "hypnogram.stages": own}
    preprocess("edf", tmp_path, tmp_path / "store", **settings)
    store = open_store(tmp_path / "store")
    assert float(store.recordings["night"]["start_s"]) == 10.01
    codes = {"5": 0, "4": 4, "3": 1, "2": 2, "1": 3}
    rows = [(float(r["Time"]), codes[r["Stage"]]) for r in csv.DictReader(text.splitlines())]
    stages = store.labels("night")
    for k, stage in enumerate(stages):
        middle = 10.01 + 30 * k + 15
        assert stage == [code for at, code in rows if at <= middle][-1]
    delta = abs(np.fft.rfft(store.signal("night")[0][: len(stages) * 3000].reshape(-1, 3000)))
    power = np.log((delta[:, 15:120] ** 2).sum(1))  # 0.5 to 4 Hz
    assert power[stages == 3].mean() > power[stages == 4].mean() + 1  # two epochs are wake


def test_the_command_tells_what_was_skipped(tmp_path):
    write_edf(tmp_path / "good.edf", {"C4-M1": (eeg(60, 128), 128)}, ["W", "N2"])
    (tmp_path / "bad.edf").write_bytes(b"0       " + b"x" * 400)
    found = CliRunner().invoke(
        app,
        [*EDF, "--raw", str(tmp_path), "--store", str(tmp_path / "s"), "--set", "channels=[C4-M1]"],
    )
    assert found.exit_code == 2
    assert "skipped bad: bad.edf: number of signals is 'xxxx', not a number" in found.output


# WFDB and BIDS.


def slp_record(folder, stages, fs=250, fmt="212"):
    """A record as MIT-BIH's polysomnographic database has it, its annotations by wfdb."""
    n = len(stages) * 30 * fs
    signals = np.stack([eeg(n / fs, fs, 7), eeg(n / fs, fs, 8)], axis=1)
    at = np.arange(len(stages)) * 30 * fs
    at[0] = 1  # as there; wfdb drops a mark at sample 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb's writers' own use of pandas
        wfdb.wrsamp(
            "slp01a",
            fs=fs,
            units=["mV", "mV"],
            sig_name=["ECG", "EEG (C4-A1)"],
            p_signal=signals / 1000,
            fmt=[fmt, fmt],
            adc_gain=[5000.0, 5000.0],
            baseline=[0, 0],
            write_dir=str(folder),
        )
        wfdb.wrann(
            "slp01a", "st", at, symbol=['"'] * len(at), aux_note=stages, write_dir=str(folder)
        )
    return signals[:, 1]


def test_mit_bih_records(tmp_path):
    stages = ["W", "1", "2 HA", "3", "4 LA", "R", "MT", "2 X"]
    wave = slp_record(tmp_path, stages)
    preprocess("wfdb", tmp_path, tmp_path / "store", sfreq=125)
    store = open_store(tmp_path / "store")
    assert store.labels("slp01a").tolist() == [0, 1, 2, 3, 3, 4, -1, 2]
    found = store.signal("slp01a")[0]
    expected = mne.filter.filter_data(wave, 250, 0.1, 30, verbose="error")[::2]
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    assert 0.5 < found.std() / wave.std() < 1.1


def test_a_missing_mark_does_not_stretch_the_stage_before(tmp_path):
    slp_record(tmp_path, ["2", "2", "", "R"])
    preprocess("wfdb", tmp_path, tmp_path / "store", sfreq=125)
    assert open_store(tmp_path / "store").labels("slp01a").tolist() == [2, 2, -1, 4]


def test_samples_that_were_not_digitised_are_bridged(tmp_path):
    slp_record(tmp_path, ["2", "2"], fmt="16")
    path = tmp_path / "slp01a.dat"
    data = np.fromfile(path, "<i2").reshape(-1, 2)
    data[1000:1500, 1] = -32768
    data.tofile(path)
    preprocess("wfdb", tmp_path, tmp_path / "store", sfreq=125, verify=False)
    store = open_store(tmp_path / "store")
    assert abs(store.signal("slp01a")).max() < 300
    assert "500 missing samples of EEG (C4-A1) are bridged" in store.recordings["slp01a"]["notes"]


def test_a_bids_tree(tmp_path):
    for subject, stages in (("01", "W\nN2"), ("02", "N3\nR")):
        folder = tmp_path / "tree" / f"sub-{subject}" / "eeg"
        folder.mkdir(parents=True)
        name = f"sub-{subject}_task-sleep"
        write_edf(folder / f"{name}_eeg.edf", {"C4-M1": (eeg(60, 128), 128)})
        rows = [f"{30 * i}\t30\tSleep stage {s}" for i, s in enumerate(stages.split())]
        rows.insert(1, "12\t3\tarousal")
        text = "\n".join(["onset\tduration\ttrial_type", *rows])
        (folder / f"{name}_events.tsv").write_text(text)
    (tmp_path / "tree" / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t34\tF\nsub-02\tn/a\tM\n"
    )
    (tmp_path / "tree" / "dataset_description.json").write_text(
        '{"Name": "x", "BIDSVersion": "1.9.0"}'
    )
    preprocess("bids", tmp_path / "tree", tmp_path / "store", channels=["C4-M1"])
    store = open_store(tmp_path / "store")
    assert store.subjects == {
        "sub-01": ["sub-01_task-sleep_eeg"],
        "sub-02": ["sub-02_task-sleep_eeg"],
    }
    assert store.labels("sub-01_task-sleep_eeg").tolist() == [0, 2]
    assert store.labels("sub-02_task-sleep_eeg").tolist() == [3, 4]
    ages = [(row["age"], row["sex"]) for row in store.rows]
    assert ages == [("34", "F"), ("", "M")]


def test_what_was_written_is_counted_by_the_classes_of_the_store():
    rows = [
        {"recording": name, "status": "ok", "notes": "", "n_samples": 3600, "n_epochs": 3}
        | {"still": still, "step": 1, "unscored": 2 - still}
        for name, still in (("a", 2), ("b", 0))
    ]
    labels = Labels(classes=("still", "step"), unit_s=2.0)
    meta = {"labels": labels.as_facts(), "sfreq": 1.0, "source": "edf"}
    done = summarise("store", rows, meta)
    assert done.counts == {"still": 2, "step": 2, "unscored": 2}
    assert done.notes[0] == "2 recordings, 2 of them scored, 2.0 h in store"


def test_hypnogram_settings_that_found_no_stage_are_told(tmp_path):
    """As with DREAMS' files, which are not called after the recordings alone."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_edf(raw / "excerpt1.edf", {"EEG": (eeg(90, 128), 128)})
    (raw / "Hypnogram_excerpt1.txt").write_text("\n".join(["[hypnogram]", *["5"] * 18]) + "\n")
    own = {"channels": ["EEG"], "hypnogram.codes": "dreams", "hypnogram.epoch_s": 5}
    told = partsig.preprocess("edf", raw, tmp_path / "a", overrides=own, jobs=1)
    assert any("hypnogram.pattern says what their files are called" in n for n in told.notes)
    own["hypnogram.pattern"] = "Hypnogram_{name}.txt"
    found = partsig.preprocess("edf", raw, tmp_path / "b", overrides=own, jobs=1)
    assert found.counts["W"] == 3
    assert not any("hypnogram.pattern" in note for note in found.notes)
    bare = partsig.preprocess("edf", raw, tmp_path / "c", overrides={"channels": ["EEG"]}, jobs=1)
    assert not any("hypnogram.pattern" in note for note in bare.notes)
