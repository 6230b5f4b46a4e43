"""Folders are listed once and not once a recording, and found is what ``glob`` finds."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from partsig.data import listing as folders
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import bids, edf_recordings, sleep_edf, wfdb_records
from partsig.errors import DataError

NAMES = (
    *(
        "night1.edf",
        "night1.csv",
        "night1.CSV",
        "night10.csv",
        "Night1.csv",
        "night1",
        "night1.d.x",
    ),
    *(
        ".night1.csv",
        "night[1].csv",
        "night[1].edf",
        "night?.csv",
        "night-1.csv",
        "räw.csv",
        "a b.c",
    ),
    *("scores/night1.csv", "scores/night1.v2.csv", "scores/deep/night1.csv", "other/night1.csv"),
)
PATTERNS = (
    *("night1.csv", "night1.*", "night1*", "*.csv", "*", "N*", "night[1].csv", "night[[]1].csv"),
    *(
        "night?.csv",
        "*night1*",
        "[!n]*",
        "none.csv",
        "none*",
        "scores",
        "./night1.csv",
        "ni[gx]ht1*",
    ),
    *("scores/night1.csv", "scores/night1*", "*/night1.csv", "**/night1.csv", "../x/night1.*"),
    *("none/*.csv", "night1.csv/*", "scores/../night1.csv", "scores/*", "scores/", "*/", "**"),
)


@pytest.fixture
def tree(tmp_path):
    for name in NAMES:
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "x" / "night1.gone").symlink_to("nowhere")
    return tmp_path / "x"


def settle(*paths):
    for path in paths:
        os.utime(path, (10**9, 10**9))


@pytest.fixture
def scans(monkeypatch):
    """How often a folder was listed so far, by any of the ways that there are."""
    counted = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real: counted.append(a) or real(*a))
    return counted


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_glob_finds(pattern, tree):
    expected = sorted(tree.glob(pattern))
    assert folders.matching(tree, pattern) == expected
    settle(tree)
    assert [folders.matching(tree, pattern) for _ in range(2)] == [expected] * 2
    assert folders.matching(tree / "none", pattern) == sorted((tree / "none").glob(pattern))


def test_a_pattern_that_glob_refuses_is_refused_alike(tree):
    for pattern in ("", "/abs/*", "a**"):
        with pytest.raises((ValueError, NotImplementedError)) as ours:
            folders.matching(tree, pattern)
        with pytest.raises(ours.type):
            list(tree.glob(pattern))


def test_names_that_begin_so(tree):
    found = [name for name in sorted(os.listdir(tree)) if name.startswith("night1")]
    assert folders.names(tree, "night1") == found
    assert len(found) == 7
    assert folders.names(tree, "z") == folders.names(tree / "none") == []


def test_a_file_that_is_added_or_removed_is_seen_at_once(tree):
    settle(tree)
    assert folders.names(tree, "new") == []
    (tree / "new.csv").write_text("")
    assert folders.names(tree, "new") == ["new.csv"]
    settle(tree)
    assert folders.names(tree, "new") == ["new.csv"]
    (tree / "new.csv").unlink()
    assert folders.names(tree, "new") == []


def test_a_folder_that_was_changed_a_moment_ago_is_listed_again(tree, scans):
    """A second change may have the same time: clocks of file systems tick slowly."""
    for _ in range(3):
        folders.names(tree)
    assert len(scans) == 3
    settle(tree)
    for _ in range(3):
        folders.names(tree)
    assert len(scans) == 4


def test_no_list_is_kept_for_long(tree, scans, monkeypatch):
    """There are file systems that do not keep the time of a folder's change."""
    settle(tree)
    folders.names(tree)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + folders.KEPT_S + 1)
    folders.names(tree)
    assert len(scans) == 2


def test_threads_share_a_listing_and_few_are_kept(tmp_path, scans):
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait(10)
        return folders.names(tmp_path)

    (tmp_path / "a").write_text("")
    settle(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [["a"]] * 8
    assert len(scans) == 1
    kept = folders.Remembered(lambda path: path.name)
    for number in range(2 * folders.MOST):
        (tmp_path / f"{number}").mkdir()
        settle(tmp_path / f"{number}")
        assert kept(tmp_path / f"{number}") == f"{number}"
    assert len(kept._kept) == folders.MOST


# Readers.

N = 200


@pytest.fixture
def many(tmp_path):
    for number in range(N):
        for ending in (".edf", ".hea", ".dat", ".mine.csv"):
            (tmp_path / f"night{number:03d}{ending}").write_text("")
        (tmp_path / f"SC{number:03d}0E0-PSG.edf").write_text("")
        (tmp_path / f"SC{number:03d}0EC-Hypnogram.edf").write_text("")
    settle(tmp_path)
    return tmp_path


def test_two_hundred_recordings_are_one_scan(many, scans):
    nights = [many / f"night{number:03d}.edf" for number in range(N)]
    usual, own = HypnogramConfig(), HypnogramConfig(pattern="{name}.m*v")
    for path in nights:
        assert edf_recordings.find_scorings(path, usual) == {}
        assert edf_recordings.find_scorings(path, own) == {"": path.with_suffix(".mine.csv")}
        assert f"{path.stem}.mine.csv lies beside it" in edf_recordings.nothing_found(path, usual)
    digests = {wfdb_records.fingerprint(path.with_suffix(".hea")) for path in nights}
    assert len(digests) == N
    for number in range(N):
        found = sleep_edf.find_hypnogram(many / f"SC{number:03d}0E0-PSG.edf")
        assert found.name == f"SC{number:03d}0EC-Hypnogram.edf"
    assert len(scans) == 1


def test_every_file_of_a_record_is_in_its_fingerprint(many):
    header = many / "night007.hea"
    before = wfdb_records.fingerprint(header)
    (many / "night007.st").write_text("x")
    after = wfdb_records.fingerprint(header)
    (many / "night007.st").unlink()
    (many / "night0071.st").write_text("x")  # another's
    assert before == wfdb_records.fingerprint(header) != after


def test_the_usual_names_are_taken_as_they_are(tmp_path):
    for name in ("n[1].edf", "n[1].csv", "n1.csv", "n*.edf", "n1_hypnogram.csv"):
        (tmp_path / name).write_text("")
    found = edf_recordings.find_scorings(tmp_path / "n[1].edf", HypnogramConfig())
    assert found == {"": tmp_path / "n[1].csv"}
    assert edf_recordings.find_scorings(tmp_path / "n*.edf", HypnogramConfig()) == {}


def test_a_folder_named_as_a_recording_lies_beside_it(tmp_path):
    (tmp_path / "night1").mkdir()
    (tmp_path / "night1.edf").write_text("")
    assert edf_recordings.nothing_found(tmp_path / "night1.edf", HypnogramConfig()) == ""
    (tmp_path / "night1_mine.csv").write_text("")
    told = edf_recordings.nothing_found(tmp_path / "night1.edf", HypnogramConfig())
    assert told.endswith("'hypnogram.pattern={name}_mine.csv'")


def test_a_table_of_participants_is_read_once(tmp_path, monkeypatch):
    lines = [f"sub-{i}\t{20 + i}\t{'MF'[i % 2]}" for i in range(9)]
    table = tmp_path / "participants.tsv"
    table.write_text("\n".join(["participant_id\tage\tsex", *lines, "sub-0\t1\tF", "sub-x\tn/a\t"]))
    settle(table)
    read = []
    real = bids._read_table
    monkeypatch.setattr(
        bids, "_table", folders.Remembered(lambda path: read.append(path) or real(path))
    )
    paths = {
        name: tmp_path / name / "eeg" / "a.edf" for name in ("sub-0", "sub-5", "sub-x", "sub-y")
    }
    found = {name: bids._participants(path, name) for name, path in paths.items()}
    assert found == {
        "sub-0": ("20", "M"),
        "sub-5": ("25", "F"),
        "sub-x": ("", ""),
        "sub-y": ("", ""),
    }
    assert len(read) == 1
    table.write_bytes(table.read_bytes() + b"\nsub-z\t\xff\tF")
    with pytest.raises(DataError, match=r"participants\.tsv is not a readable table"):
        bids._participants(tmp_path / "sub-z" / "a.edf", "sub-z")
