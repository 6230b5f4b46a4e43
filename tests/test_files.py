"""Files are whole or absent, temporary ones are their writer's own, one process writes a folder."""

import os
import signal
import stat
import subprocess
import sys

import pytest

import partsig
from partsig import files
from partsig.errors import BusyError, DataError

# Holds a folder or a part of it, says so, and waits for the end of its input.
HOLD = """
import sys
from pathlib import Path
from partsig import files
with files.locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    """A function that holds a folder, or a part of it, from another process."""
    running = []

    def hold(folder, part=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder, part],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def test_a_link_where_a_temporary_file_could_be_is_not_written_through(tmp_path):
    """Its name cannot be foreseen."""
    (tmp_path / "precious").write_text("kept")
    for token in ("", ".0000000000000000"):
        name = f".a.json.{files.HOST}.{os.getpid()}{token}.tmp"
        (tmp_path / name).symlink_to(tmp_path / "precious")
    files.write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "a.json").read_text() == "new"


def test_what_is_there_already_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 2 * n)
    place = tmp_path / f".a.json.{files.HOST}.{os.getpid()}.{'0' * 16}.tmp"
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"^cannot write .*a\.json \(File exists\)"):
        files.write_text(tmp_path / "a.json", "new")
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "a.json").symlink_to(tmp_path / "precious")
    files.write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "a.json").is_symlink()


def test_files_have_the_rights_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.json", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_long_names_can_be_written(tmp_path):
    files.write_text(tmp_path / ("n" * 250), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 250]


def test_leftovers_of_the_dead_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [f".a.npy.{files.HOST}.{dead.pid}.tmp", f".a.{files.HOST}.{dead.pid}.{'a' * 16}.tmp"]
    kept = [f".a.{files.HOST}.{os.getpid()}.{'b' * 16}.tmp", f".a.other.{dead.pid}.tmp", ".x.tmp"]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_another_process_writes_is_refused_by_its_name(tmp_path, holder):
    process = holder(tmp_path / "store")
    told = rf"store is being written by another partsig \(process {process.pid} on .*, since 20"
    with pytest.raises(BusyError, match=told), files.locked(tmp_path / "store"):
        pass
    process.communicate("")
    with files.locked(tmp_path / "store"):
        pass
    assert not (tmp_path / "store").exists()  # nothing was written there


def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path, holder):
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".lock").exists()
    with files.locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_what_a_stranger_wrote_into_a_lock_is_not_shown(tmp_path, holder):
    holder(tmp_path)
    (tmp_path / ".lock").write_text("\x1b[2Jall is well")
    told = r"another partsig \(another process\)"
    with pytest.raises(BusyError, match=told), files.locked(tmp_path):
        pass


def test_parts_are_written_side_by_side_but_not_beside_the_whole(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE_S", 0.2)
    holder(tmp_path, "1-of-3")
    with files.locked(tmp_path, "2-of-3"):
        pass
    for part in ("1-of-3", ""):
        with pytest.raises(BusyError), files.locked(tmp_path, part):
            pass
    holder(tmp_path / "other")
    with pytest.raises(BusyError), files.locked(tmp_path / "other", "1-of-3"):
        pass


def test_many_parts_may_begin_at_once(tmp_path):
    """Each looks whether the whole is held, and for that holds it for a moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path, f"{i}-of-6"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        for i in range(1, 7)
    ]  # fmt: skip
    assert [process.communicate()[0] for process in processes] == ["held\n"] * 6


def test_verbs_hold_what_they_write(tmp_path, holder, write_night, sample_store):
    """Two at once would each undo what the other does."""
    write_night(tmp_path / "raw", "tr03-0001", stages=(0, 1))
    for name in ("images", "signals", "pretrained", "tuned"):
        holder(tmp_path / name)
    tiny = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
    calls = [
        lambda: partsig.preprocess("digits", None, tmp_path / "images"),
        lambda: partsig.preprocess("physionet2018", tmp_path / "raw", tmp_path / "signals"),
        lambda: partsig.pretrain(sample_store, tmp_path / "pretrained", overrides=tiny, gpus="0"),
        lambda: partsig.finetune("scratch", sample_store, tmp_path / "tuned", subjects=12),
    ]
    for call in calls:
        with pytest.raises(BusyError, match="is being written by another partsig"):
            call()
    for name in ("images", "signals", "pretrained", "tuned"):
        assert [path.name for path in (tmp_path / name).iterdir()] == [".lock"]
