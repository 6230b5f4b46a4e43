"""``partsig stage`` on recordings of which some are bad: each is one reason."""

import os
import shutil

import pytest
from partsig.cli import app
from typer.testing import CliRunner

from partsig.data.sample import write_records
from partsig.sleep.stager import load
from partsig.verbs.stage import stage_all


@pytest.fixture
def folder(tmp_path):
    """Four good recordings under odd names, and what is none."""
    (first, *_) = write_records(tmp_path / "records")
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("good", "cost$5$and$", "all\nstaged", "\x1b[2Jred"):
        text = first.read_text().replace(first.stem, "data")
        (raw / f"{name}.hea").write_text(text)
    for end in ("mat", "arousal"):
        source = first.with_suffix(f".{end}")
        if source.is_file():
            shutil.copy(source, raw / f"data.{end}")
    shutil.copy(raw / "good.hea", os.fsencode(raw) + b"/bytes\xff.hea")
    (raw / "damaged.vhdr").write_text("Brain Vision Data Exchange Header File Version 1.0\n[x]\n")
    (raw / "damaged2.hea").write_text("damaged2 1 100 100000000000\nx.dat 516 1/uV 16 0 0 0 0 C4\n")
    os.mkfifo(raw / "pipe.edf")
    (raw / "zero.fif").symlink_to("/dev/zero")
    return raw


GOOD = {"good", "cost$5$and$", "all\\nstaged", "\\x1b[2Jred"}
BAD = {"bytes\\xff", "damaged", "damaged2", "pipe", "zero"}


@pytest.mark.slow
def test_the_others_are_staged(folder, stager_run, tmp_path):
    stager = load(stager_run, "cpu")
    done = stage_all([folder], stager, output=tmp_path / "out")
    assert set(done.files) == GOOD, done.failed
    assert set(done.failed) == BAD
    assert all(reason.isprintable() and len(reason) < 1500 for reason in done.failed.values())
    assert all(path.is_file() for files in done.files.values() for path in files.values())
    again = stage_all([folder], stager, output=tmp_path / "out")
    assert set(again.summaries.values()) == {"staged before"}
    # Named one by one, too.
    pipe = stage_all([folder / "pipe.edf", folder / "good.hea"], stager, output=tmp_path / "two")
    assert (set(pipe.files), set(pipe.failed)) == ({"good"}, {"pipe"})


@pytest.mark.slow
def test_the_terminal_is_told_nothing_that_moves_it(folder, stager_run, tmp_path):
    words = ["stage", str(folder), "--run", str(stager_run), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 2
    assert all(line.isprintable() for line in done.output.splitlines()), ascii(done.output)
    assert "failed bytes\\xff" in done.output
