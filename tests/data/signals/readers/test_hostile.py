"""One recording that is bad, in whatever way, is one reason: the others are read."""

import os
import re
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

from partsig.data import guard
from partsig.data.signals.readers import (
    edf_recordings,
    guarded,
    mne_process,
    pc18_segments,
    psg,
    wfdb_records,
)
from partsig.data.signals.recordings import ReadConfig
from partsig.data.signals.store import open_store
from partsig.errors import DataError
from partsig.verbs.audit import audit
from partsig.verbs.preprocess import preprocess

pytestmark = pytest.mark.slow

SETTINGS = ReadConfig(channels=("C4-M1",))
CHOSEN = {"channels": ["C4-M1"]}
VHDR = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile={data}
MarkerFile={markers}
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=1
SamplingInterval=10000
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
Ch1=C4-M1,,0.1,µV
"""
VMRK = "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=n.eeg\n"
VMRK += "[Marker Infos]\nMk1=New Segment,,1,1,0,20200101220000000000\n"
VMRK += "Mk2=Comment,Sleep stage N2,1,3000,0\n"


def wave(seconds: float = 90, sfreq: int = 100) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 30, round(seconds * sfreq))


def write_edf(path: bytes | Path) -> None:
    signal = edfio.EdfSignal(wave(), 100, label="C4-M1", physical_dimension="uV")
    inside = Path(os.fsdecode(path)).parent / "written.edf"
    edfio.Edf([signal]).write(inside)
    os.rename(inside, path)


def write_vhdr(folder: Path, name: str = "n", **files: str) -> Path:
    names = {"data": f"{name}.eeg", "markers": f"{name}.vmrk"} | files
    (folder / f"{name}.vhdr").write_text(VHDR.format(**names))
    (folder / f"{name}.vmrk").write_text(VMRK)
    (folder / f"{name}.eeg").write_bytes((10 * wave()).astype("<i2").tobytes())
    return folder / f"{name}.vhdr"


def write_fif(path: Path) -> Path:
    info = mne.create_info(["C4-M1"], 100.0, "eeg")
    mne.io.RawArray(1e-6 * wave()[None], info, verbose="error").save(path, verbose="error")
    return path


def refusal(path: Path, read=edf_recordings.read_recording, settings=SETTINGS) -> str:
    """The sentence on a recording, which is told at once."""
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        guarded.read_recording(read, path, settings)
    assert time.monotonic() - begun < 20
    told = str(caught.value)
    assert len(told) < 1500
    assert told.isprintable(), ascii(told)
    return told


@pytest.fixture
def bad_folder(tmp_path) -> Path:
    """A good night among all that can be wrong."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in (b"good.edf", b"cost$5$and$.edf", b"all\nstaged.edf", b"\x1b[2Jred.edf"):
        write_edf(os.fsencode(raw) + b"/" + name)
    write_edf(os.fsencode(raw) + b"/bytes\xff\xfe.edf")
    damaged = write_vhdr(raw, "no_orientation")
    damaged.write_text(damaged.read_text().replace("DataOrientation=MULTIPLEXED\n", ""))
    os.mkfifo(raw / "pipe.edf")
    os.mkfifo(raw / "pipe2.fif")
    (raw / "zero.edf").symlink_to("/dev/zero")
    (raw / "zero2.set").symlink_to("/dev/zero")
    (raw / "gone.edf").symlink_to(raw / "nothing")
    (raw / "noise.fif").write_bytes(np.random.default_rng(0).bytes(5000))
    (raw / "text.set").write_text("nothing of MATLAB's")
    (raw / "empty.bdf").touch()
    return raw


GOOD = {"good", "cost$5$and$", "all\\nstaged", "\\x1b[2Jred"}
BAD = {"bytes\\xff\\xfe", "no_orientation", "pipe", "pipe2", "zero", "zero2", "gone", "noise"}
BAD |= {"text", "empty"}


def test_preprocess_reads_the_others(bad_folder, tmp_path):
    begun = time.monotonic()
    done = preprocess("edf", bad_folder, tmp_path / "store", overrides=CHOSEN, jobs=2)
    assert time.monotonic() - begun < 60
    assert set(open_store(tmp_path / "store").recordings) == GOOD
    assert set(done.failed) == BAD
    reasons = done.failed
    assert "not a regular file" in reasons["pipe"]
    assert "is a device" in reasons["zero"]
    assert "dataorientation" in reasons["no_orientation"]
    assert "rename it" in reasons["bytes\\xff\\xfe"]
    # It continues: what was read is not read again.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "signals").iterdir()}
    preprocess("edf", bad_folder, tmp_path / "store", overrides=CHOSEN, jobs=2)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "signals").iterdir()} == before


def test_audit_has_a_row_for_each(bad_folder, tmp_path):
    done = audit(bad_folder, source="edf", output=tmp_path / "audit", overrides=CHOSEN, jobs=2)
    reasons = {a.recording.name: a.recording.reason for a in done.recordings}
    assert {name for name, reason in reasons.items() if reason} == BAD
    assert set(reasons) - BAD == GOOD
    assert "\x1b" not in done.table
    assert done.page.read_text(encoding="utf-8")


def test_the_terminal_is_told_nothing_that_moves_it(bad_folder, tmp_path):
    words = ["preprocess", "edf", "--raw", str(bad_folder), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, [*words, "--set", "channels=[C4-M1]", "--jobs", "1"])
    assert done.exit_code == 2
    assert all(line.isprintable() for line in done.output.splitlines()), ascii(done.output)
    assert "skipped bytes\\xff\\xfe" in done.output


def test_a_reader_may_raise_anything(tmp_path, monkeypatch, capsys):
    """Of a plug-in or a library: it is one sentence, and the user can see where it came from."""

    class OfItsOwnKindError(BaseException):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    path = tmp_path / "night.xyz"
    path.touch()
    kinds = (MemoryError(), RecursionError("deep"), KeyError("x\x1b[2J"), OfItsOwnKindError())
    kinds += (
        AssertionError(),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "why"),
        ValueError("y" * 10**6),
    )
    for error in kinds:

        def read(path: Path, settings: ReadConfig, error: BaseException = error) -> None:
            raise error

        told = refusal(path, read)
        assert told.startswith("night cannot be read (")
        assert told.endswith("; PARTSIG_TRACEBACK=1 shows where.")
        assert len(told) < 400
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(guard.TRACEBACK, "1")
    refusal(path, read)
    assert "ValueError" in capsys.readouterr().err
    assert refusal(path, lambda path, settings: None) == "night: the reader returned no recording."
    for end in (KeyboardInterrupt, SystemExit):
        with pytest.raises(end):
            guarded.read_recording(
                lambda path, settings, end=end: (_ for _ in ()).throw(end), path, SETTINGS
            )


def test_a_deep_recursion_of_a_reader_is_a_reason(tmp_path):
    (tmp_path / "night.xyz").touch()

    def read(path: Path, settings: ReadConfig) -> None:
        read(path, settings)

    assert "RecursionError" in refusal(tmp_path / "night.xyz", read)


# What MNE parses.


def test_what_mne_reads_is_what_it_was(tmp_path):
    for path in (write_vhdr(tmp_path), write_fif(tmp_path / "n_raw.fif")):
        raw = mne.io.read_raw(path, verbose="error")
        direct, apart = psg.from_raw(raw, path.stem), psg.open_psg(path)
        for field in ("labels", "sfreqs", "units", "start", "marks", "duration_s", "gaps"):
            assert getattr(apart, field) == getattr(direct, field), field
        row = apart.samples(0)
        for start, stop in ((0, len(row)), (7, 12), (8990, 9000)):
            np.testing.assert_array_equal(row[start:stop], raw.get_data()[0, start:stop])


@pytest.mark.parametrize("which", ["data", "markers"])
@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "/dev/stdin", "."])
def test_a_header_names_regular_files_only(tmp_path, which, place):
    os.mkfifo(tmp_path / "pipe")
    path = write_vhdr(tmp_path, **{which: place})
    begun = time.monotonic()
    try:
        found = guarded.read_recording(edf_recordings.read_recording, path, SETTINGS)
    except DataError as error:
        told = str(error)
    else:  # MNE takes the markers that lie beside it
        assert which == "markers"
        assert found.stages.tolist() == [2, -1, -1]
        told = ""
    assert told.isprintable()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("absolute", [True, False])
def test_a_header_names_samples_beside_it_only(tmp_path, absolute):
    """Else any file of the reader's user could be made a signal, and passed on."""
    folder = tmp_path / "night"
    folder.mkdir()
    (tmp_path / "private.dat").write_bytes(bytes(range(250)) * 240)
    place = str(tmp_path / "private.dat") if absolute else "../private.dat"
    path = write_vhdr(folder, data=place)
    with pytest.raises(DataError, match="names samples in another folder"):
        guarded.read_recording(edf_recordings.read_recording, path, SETTINGS)


def test_a_parser_may_not_write_nor_start_anything(tmp_path):
    """In the process that parses, with its limits set, nothing but reading is left."""
    code = """
import os, socket, subprocess, sys
from partsig.data.signals.readers import mne_child
mne_child._limit(2**30, 20)
sys.addaudithook(mne_child._guard)
for act in (
    lambda: open("written", "w"),
    lambda: os.open("written", os.O_CREAT | os.O_WRONLY),
    lambda: open("pipe", "rb"),
    lambda: open("/dev/zero", "rb"),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: os.remove("kept"),
    lambda: os.rename("kept", "lost"),
):
    try:
        act()
    except PermissionError:
        continue
    raise SystemExit("allowed")
print(open("kept").read())
bytes(2**31)
"""
    (tmp_path / "kept").write_text("kept")
    os.mkfifo(tmp_path / "pipe")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "kept\n", done.stderr
    assert done.stderr.rstrip().endswith("MemoryError")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "pipe"]


def test_memory_and_time_of_a_parser_are_limited(tmp_path, monkeypatch):
    path = write_vhdr(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("NumberOfChannels=1", "NumberOfChannels=400000000"))
    told = refusal(path)
    assert told.startswith("n.vhdr takes more memory to be parsed by MNE than a reader may have")
    path.write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(mne_process, "SECONDS", 0.001)
        assert re.match(r"n\.vhdr: MNE took more than 0 s to read it; export it", refusal(path))
    assert guarded.read_recording(edf_recordings.read_recording, path, SETTINGS).name == "n"


def test_a_server_that_was_killed_is_started_again(tmp_path):
    path = write_vhdr(tmp_path)
    psg.open_psg(path)
    server = mne_process._server
    server.process.kill()
    server.process.wait()
    assert psg.open_psg(path).labels == ("C4-M1",)
    assert mne_process._server is not server


def test_a_reader_ends_with_its_recording(tmp_path):
    path = write_vhdr(tmp_path)
    file = psg.open_psg(path)
    server = mne_process._server.process.pid

    def readers() -> str:
        return Path(f"/proc/{server}/task/{server}/children").read_text()

    before = set(readers().split())
    assert file.samples(0)[:5].shape == (5,)
    assert before
    del file
    deadline = time.monotonic() + 10
    while before & set(readers().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(before & set(readers().split())) < len(before)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [1]},
        {"units": []},
        {"units": [1]},
        {"notes": [1]},
        {"labels": "C4"},
        {"sfreq": "100"},
        {"sfreq": 0},
        {"sfreq": -1.0},
        {"n_times": 10**12},
        {"n_times": float("nan")},
        {"n_times": 10**9},
        {"marks": [[0, 1]]},
        {"marks": [[0, float("inf"), "x"]]},
        {"start": "yesterday"},
        {"files": ["/dev/zero"]},
        {"files": None},
    ],
)
def test_what_a_parser_says_is_checked(tmp_path, change):
    path = write_vhdr(tmp_path)
    answer = {
        "labels": ["C4-M1"],
        "units": ["V"],
        "sfreq": 100.0,
        "n_times": 9000,
        "start": None,
        "marks": [],
    }
    answer |= {"files": [str(path), str(path.with_suffix(".eeg"))]}
    good = mne_process._checked(path, answer, _Nothing(), 2**20, 1.0)
    assert good.n_times == 9000
    with pytest.raises(DataError, match=r"makes no sense|header is dam|file is dam|another folder"):
        mne_process._checked(path, answer | change, _Nothing(), 2**20, 1.0)


class _Nothing:
    """A socket that nobody is at the other end of."""

    def close(self) -> None:
        pass


# What headers claim.


def wfdb_record(folder: Path, *lines: str, samples: int = 9000) -> Path:
    (folder / "n.dat").write_bytes(wave()[:samples].astype("<i2").tobytes())
    (folder / "n.hea").write_text("\n".join(lines) + "\n")
    return folder / "n.hea"


SIGNAL = "n.dat {} 1/uV 16 0 0 0 0 C4-M1"


@pytest.mark.parametrize(
    "fmt", ["16", "212", "8", "516", "508", "80", "16:1000000", "16x1000000000"]
)
@pytest.mark.parametrize("rate", [100, 4000, 1_000_000])
@pytest.mark.parametrize("n_times", [10**11, 10**15, 2**63, 10**30])
def test_a_wfdb_header_that_claims_more_than_there_is(tmp_path, fmt, rate, n_times):
    path = wfdb_record(tmp_path, f"n 1 {rate} {n_times}", SIGNAL.format(fmt))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = guarded.read_recording(wfdb_records.read_recording, path, SETTINGS)
    except DataError as error:
        told = str(error)
    else:
        assert any("cut off" in note for note in found.notes)
        assert found.parts[0].signal.shape[1] <= 2 * 9000
        told = ""
    assert len(told) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_other_claims_of_a_wfdb_header(tmp_path):
    lines = ("n 1 100 9000", SIGNAL.format("16"))
    read = wfdb_records.read_recording
    for bad, told in (
        ((lines[0], SIGNAL.format("16:100000000")), "begins after the end"),
        ((lines[0], lines[1].replace("1/uV", "1e-300/uV")), "a gain of"),
        ((lines[0], *[lines[1]] * 20_000), "n.hea: a header of 20,001 lines"),
        (("#" * 2**21, *lines), "more than any header of a record"),
        (("n 1 900000 9000", lines[1]), "900000 Hz; rates from"),
    ):
        assert told in refusal(wfdb_record(tmp_path, *bad), read)
    path = wfdb_record(tmp_path, *lines)
    (tmp_path / "n.dat").unlink()
    os.mkfifo(tmp_path / "n.dat")
    assert "n.dat is a pipe" in refusal(path, read)
    (tmp_path / "n.dat").unlink()
    (tmp_path / "n.dat").symlink_to("/dev/zero")
    assert "n.dat is a device" in refusal(path, read)


@pytest.mark.parametrize("count", ["-1", "99999999", "1e7", "0"])
@pytest.mark.parametrize("record_s", ["1", "1e-6", "0.00001", "99999999", "0", "1e-300"])
@pytest.mark.parametrize("n", ["100", "99999999", "1", "0"])
def test_an_edf_header_that_claims_anything(tmp_path, count, record_s, n):
    write_edf(tmp_path / "n.edf")
    data = bytearray((tmp_path / "n.edf").read_bytes())
    at = 256 + int(data[252:256]) * 216
    for place, text in ((236, count), (244, record_s), (at, n)):
        data[place : place + 8] = text.ljust(8).encode()
    (tmp_path / "n.edf").write_bytes(bytes(data))
    try:
        found = guarded.read_recording(edf_recordings.read_recording, tmp_path / "n.edf", SETTINGS)
    except DataError as error:
        told = str(error)
    else:
        assert found.parts[0].signal.shape[1] * 2 <= len(data)
        told = ""
    assert told.isprintable()


def test_an_npz_that_claims_more_than_it_has(tmp_path):
    ones = np.arange(3)
    parts = {"x": np.zeros((3, 1, 6000), "<i2"), "y": ones, "group": ones, "segment": ones}
    parts |= {"ch_names": np.array(["C4-M1"]), "sfreq": np.array(100.0)}
    for name, change, told in (
        ("a", {"x": np.zeros((30, 1, 600_000), "<i2")}, "that would unpack to"),
        ("b", {"y": np.array(["W", "N1", "N2"])}, "whole ones"),
        ("c", {"sfreq": np.array(np.nan)}, "sampling rate"),
        ("d", {"x": np.zeros(())}, "must be numbers|must be"),
    ):
        np.savez_compressed(tmp_path / f"{name}.npz", **parts | change)
        with pytest.raises(DataError, match=told):
            pc18_segments.find_records(tmp_path)
        (tmp_path / f"{name}.npz").unlink()
    np.savez(tmp_path / "n.npz", **parts)
    assert len(pc18_segments.find_records(tmp_path)) == 3
    with zipfile.ZipFile(tmp_path / "n.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    claim = members["x.npy"].replace(b"(3, 1, 6000), }      ", b"(3, 1, 6000000000), }")
    assert len(claim) == len(members["x.npy"])
    assert claim != members["x.npy"]
    with zipfile.ZipFile(tmp_path / "n.npz", "w") as archive:
        for name, data in (members | {"x.npy": claim}).items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match=r"n\.npz is not a file of segments"):
        pc18_segments.find_records(tmp_path)
    (tmp_path / "n.npz").unlink()
    (tmp_path / "n.npz").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is a device"):
        pc18_segments.find_records(tmp_path)
