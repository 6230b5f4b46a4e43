"""``partsig preprocess``: the whole verb on small folders, killed, starved and misled."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mne
import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

import partsig
from partsig.data.signals.readers import physionet2018
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import read_index, write_index
from partsig.errors import ConfigError, DataError

NAMES = ("te03-0001", "tr03-0001", "tr03-0002")


@pytest.fixture
def raw(write_night, tmp_path) -> Path:
    """Three small records: two scored in training/, one unscored in test/."""
    folder = tmp_path / "raw"
    write_night(folder / "training", "tr03-0001", stages=(-1, 0, 1, 2, 4))
    write_night(folder / "training", "tr03-0002", stages=(3, 3, 3, 2, 2), seconds=179.9)
    write_night(folder / "test", "te03-0001", stages=None)
    (folder / "age-sex.csv").write_text("Record,Sex,Age\ntr03-0001,F,61\nte03-0001,M,40\n")
    return folder


def preprocess(raw: Path, store: Path, *overrides: str, jobs: int = 1):
    return partsig.preprocess("physionet2018", raw, store, overrides=overrides, jobs=jobs)


def contents(store: Path) -> dict[str, str]:
    """Every file of a store, hidden ones too, by its hash."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


def modified(store: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (store / "signals").iterdir()}


def run(*arguments: object):
    return CliRunner().invoke(app, ["preprocess", "physionet2018", *map(str, arguments)])


def truncate(path: Path) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    return whole


# What comes out.


def test_signals_equal_mne_and_labels_the_headers(raw, tmp_path):
    result = preprocess(raw, tmp_path / "store")
    store = open_store(result.path)
    assert tuple(store.recordings) == NAMES
    assert store.ch_names == physionet2018.CHANNELS
    for name in NAMES:
        (header,) = raw.rglob(f"{name}.hea")
        record = physionet2018.read_recording(header)
        info = mne.create_info(6, 200, "eeg")
        expected = mne.io.RawArray(record.parts[0].signal[:6] * 1e-6, info, verbose="error")
        expected.filter(0.1, 30, verbose="error")
        expected.resample(100, npad=expected.n_times, verbose="error")
        difference = abs(store.signal(name) - expected.get_data() * 1e6).max(axis=1)
        assert (difference / store.signal(name).std(axis=1)).max() < 1e-5
        assert store.labels(name).tolist() == record.stages.tolist()
    assert store.labels("tr03-0001").tolist() == [-1, 0, 1, 2, 4]
    assert store.labels("te03-0001").tolist() == [-1] * 5


def test_the_result_counts_what_the_store_holds(raw, tmp_path):
    result = preprocess(raw, tmp_path / "store")
    assert result.n_recordings == 3
    assert result.counts == {"W": 1, "N1": 1, "N2": 3, "N3": 3, "REM": 1, "unscored": 6}
    assert result.failed == {}
    # 155 + 155 + 179.9 s
    assert result.notes == [f"3 recordings, 2 of them scored, 0.1 h in {result.path}"]
    rows = {row["recording"]: row for row in read_index(result.path)}
    assert (rows["tr03-0001"]["age"], rows["tr03-0001"]["sex"]) == ("61", "F")
    assert (rows["tr03-0002"]["age"], rows["tr03-0002"]["sex"]) == ("", "")
    assert [rows[name]["n_samples"] for name in NAMES] == [15_500, 15_500, 17_990]
    for name in NAMES:
        bytes_ = np.load(result.path / "signals" / f"{name}.npy").tobytes()
        assert rows[name]["sha256"] == hashlib.sha256(bytes_).hexdigest()


def test_the_number_of_processes_changes_nothing(raw, tmp_path):
    preprocess(raw, tmp_path / "one")
    preprocess(raw, tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_settings_decide_what_is_stored(raw, tmp_path):
    channels = "channels=[O2-M1, C3-M2]"
    result = preprocess(raw, tmp_path / "store", channels, "sfreq=64", "dtype=float16")
    store = open_store(result.path)
    assert store.ch_names == ("O2-M1", "C3-M2")
    assert store.signal("tr03-0001").shape == (2, 155 * 64)
    assert store.signal("tr03-0001").dtype == np.float16
    # In float16 a value is kept to 11 bits.
    other = open_store(preprocess(raw, tmp_path / "full", channels, "sfreq=64").path)
    exact = other.signal("tr03-0001")
    assert (abs(store.signal("tr03-0001") - exact) <= abs(exact) * 2**-11 + 2**-25).all()


# Continuing.


def test_finished_recordings_are_not_written_again(raw, write_night, tmp_path):
    store = tmp_path / "store"
    preprocess(raw, store)
    before = modified(store)
    write_night(raw / "training", "tr03-0003")
    result = preprocess(raw, store)
    after = modified(store)
    assert result.n_recordings == 4
    assert after.pop("tr03-0003") > max(before.values())
    assert after == before


def test_a_recording_whose_file_is_gone_is_made_again(raw, tmp_path):
    store = tmp_path / "store"
    preprocess(raw, store)
    whole = contents(store)
    (store / "labels" / "tr03-0001.npy").unlink()
    preprocess(raw, store)
    assert contents(store) == whole


def test_a_failed_recording_is_tried_again(raw, tmp_path):
    store = tmp_path / "store"
    path = raw / "training" / "tr03-0001" / "tr03-0001.mat"
    whole = truncate(path)
    result = preprocess(raw, store)
    assert result.n_recordings == 2
    assert list(result.failed) == ["tr03-0001"]
    before = modified(store)
    path.write_bytes(whole)
    assert preprocess(raw, store).failed == {}
    after = modified(store)
    assert after.pop("tr03-0001") > max(before.values())
    assert after == before


def test_a_store_left_by_wrong_settings_can_be_used(raw, tmp_path):
    with pytest.raises(DataError, match="none of the 3 recordings could be read; the first: te03-"):
        preprocess(raw, tmp_path / "store", "channels=[C5-M2]")
    assert preprocess(raw, tmp_path / "store").n_recordings == 3


def test_a_cutoff_beyond_one_recordings_rate_stops_only_that_one(raw, write_night, tmp_path):
    write_night(raw / "training", "tr03-0064", sfreq=64)
    result = preprocess(raw, tmp_path / "store", "h_freq=40")
    assert result.n_recordings == 3
    assert result.failed == {
        "tr03-0064": "tr03-0064: h_freq is 40.0 Hz; at 64 Hz it must lie between 0 and 32 Hz."
    }


def wait_until(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_in_the_middle_then_completed(write_night, tmp_path):
    raw, killed, calm = tmp_path / "raw", tmp_path / "killed", tmp_path / "calm"
    n_records = 30
    for i in range(n_records):
        write_night(raw, f"tr03-{i:04d}", seconds=150.0)
    command = [sys.executable, "-m", "partsig", "preprocess", "physionet2018", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--raw", raw, "--store", killed], stderr=subprocess.DEVNULL
    )
    written = (killed / "signals").glob
    wait_until(lambda: len(list(written("tr*.npy"))) >= 5, process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 5 <= len(list(written("tr*.npy"))) < n_records
    assert preprocess(raw, killed).n_recordings == n_records
    preprocess(raw, calm)
    assert contents(killed) == contents(calm)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # too much is then an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from partsig.cli import app
app()
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_full_disk_then_completed(raw, write_night, tmp_path, jobs):
    full, calm = tmp_path / "full", tmp_path / "calm"
    write_night(raw / "training", "tr03-0009", seconds=605.0, stages=(0,) * 20)  # 1.4 MB stored
    command = ["preprocess", "physionet2018", "--jobs", str(jobs), "--raw", raw, "--store", full]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *command], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("partsig: error")]
    assert sentence == (
        f"partsig: error: no space left while writing {full / 'signals' / 'tr03-0009.npy'} (File "
        "too large): what was finished before is kept; free some space and run the same command "
        "again."
    )
    assert not list(full.rglob(".*.tmp"))
    kept = tuple(open_store(full).recordings)
    # With two processes, one may have finished a recording that no row was written for yet.
    assert kept == NAMES if jobs == 1 else set(kept) <= set(NAMES)
    before = modified(full)
    assert preprocess(raw, full).n_recordings == 4
    after = modified(full)
    assert [after[name] for name in kept] == [before[name] for name in kept]
    preprocess(raw, calm)
    assert contents(full) == contents(calm)


def test_an_index_that_lags_behind_is_caught_up(raw, tmp_path):
    store = tmp_path / "store"
    preprocess(raw, store)
    whole = contents(store)
    write_index(store, read_index(store)[:1])
    preprocess(raw, store)
    assert contents(store) == whole


# The command line.


def test_success(raw, tmp_path):
    store = tmp_path / "store"
    ended = run("--raw", raw, "--store", store, "--jobs", 1)
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        f"3 recordings, 2 of them scored, 0.1 h in {store}",
        "epochs: W 1, N1 1, N2 3, N3 3, REM 1, unscored 6",
        f"store: {store}",
        f"next: partsig pretrain --store {store}",
    ]


def test_one_broken_record_among_good_ones(raw, tmp_path):
    truncate(raw / "training" / "tr03-0001" / "tr03-0001.mat")
    ended = run("--raw", raw, "--store", tmp_path / "store", "--jobs", 1)
    reason = "tr03-0001.mat: 30928 of 31000 samples (truncated); download it again."
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-2:] == [
        f"skipped tr03-0001: {reason.removeprefix('tr03-0001: ')}",
        "partsig: error: 1 recordings were skipped; every reason is in "
        f"{tmp_path / 'store' / 'index.csv'}.",
    ]
    assert "Traceback" not in ended.output
    with open(tmp_path / "store" / "index.csv", newline="", encoding="utf-8") as handle:
        rows = {row["recording"]: row for row in csv.DictReader(handle)}
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "te03-0001": ("ok", ""),
        "tr03-0001": ("failed", reason),
        "tr03-0002": ("ok", ""),
    }
    assert list(open_store(tmp_path / "store").recordings) == ["te03-0001", "tr03-0002"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--raw", "nowhere"], "no folder nowhere: pass --raw with the folder that holds the"),
        (["--raw", "empty"], "no records in empty: expected headers such as training/tr03-0005/"),
        ([], "no folder data/raw/physionet2018: pass --raw"),
        (["--raw", "raw", "--set", "sfrq=50"], "unknown key 'sfrq'; nearest is 'sfreq'"),
        (["--raw", "raw", "--set", "sfreq"], "--set 'sfreq': expected section.key=value."),
        (["--raw", "raw", "--set", "l_freq=30"], "l_freq (30.0 Hz) must be below h_freq (30.0 Hz)"),
        (["--raw", "raw", "--set", "h_freq=0"], "h_freq is 0.0 Hz; it must be above 0, or null"),
        (
            ["--raw", "raw", "--set", "sfreq=0.001"],
            "sfreq is 0.001; it must be between 0.0166667 and 10000.",
        ),
        (["--raw", "raw", "--set", "channels=[]"], "channels must name at least one channel"),
        (["--raw", "raw", "--set", "channels=[A, A]"], "channels must name at least one channel"),
        (["--raw", "raw", "--set", "dtype=int8"], "dtype: input should be 'float32' or 'float16'"),
        (["--raw", "raw", "--config", "none.yaml"], "no configuration file none.yaml."),
        (["--raw", "raw", "--jobs", "0"], "--jobs is 0; it can be a number of threads, or -1"),
        (["--raw", "raw", "--store", "empty/file"], "empty/file exists and is no store"),
    ],
)
def test_a_users_mistake_is_one_sentence(raw, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if "empty/file" in arguments:
        (tmp_path / "empty" / "file").write_text("x")
    before = contents(tmp_path)
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"partsig: error: {sentence}")
    assert contents(tmp_path) == before


def test_other_settings_for_a_finished_store(raw, tmp_path):
    store = tmp_path / "store"
    preprocess(raw, store)
    before = contents(store)
    ended = run("--raw", raw, "--store", store, "--set", "sfreq=64", "--set", "dtype=float16")
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert line == (
        f"partsig: error: {store} was made with other settings: sfreq 100.0 (now 64.0); dtype "
        "float32 (now float16). Choose another --store, or the same settings to continue it."
    )
    assert contents(store) == before


def test_unknown_source_in_a_process_of_its_own():
    ended = subprocess.run(
        [sys.executable, "-m", "partsig", "preprocess", "physionet2019"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "partsig: error: source is 'physionet2019'; nearest is 'physionet2018'; it can be "
        "'physionet2018', 'edf', 'sleep-edf', 'wfdb', 'bids', 'pc18-segments', 'feature-nights', "
        "'cifar10', 'cifar100', 'images', 'digits', 'cub200', 'pets', 'pascal-part', "
        "'coco-keypoints', 'ade20k-part', 'lip', 'cihp', 'celebamask', 'deepfashion'."
    ]


def test_the_function_raises_what_the_command_prints(tmp_path):
    with pytest.raises(ConfigError, match="source is 'mff'; it can be 'physionet2018'"):
        partsig.preprocess("mff", tmp_path, tmp_path / "store")
    with pytest.raises(DataError, match="no records in"):
        partsig.preprocess("physionet2018", tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_recording_whose_files_changed_is_done_again(tmp_path, write_night):
    raw, store = tmp_path / "raw", tmp_path / "store"
    for name in ("tr03-0001", "tr03-0002"):
        write_night(raw, name)
    preprocess(raw=raw, store=store, jobs=1)
    before = {path.name: path.stat().st_mtime_ns for path in (store / "labels").iterdir()}
    write_night(raw, "tr03-0002", stages=(-1, -1, 3, 3, 3))
    again = preprocess(raw=raw, store=store, jobs=1)
    after = {path.name: path.stat().st_mtime_ns for path in (store / "labels").iterdir()}
    assert after["tr03-0001.npy"] == before["tr03-0001.npy"]
    assert after["tr03-0002.npy"] > before["tr03-0002.npy"]
    assert again.counts["N3"] == 3
