"""What messages suggest is pasted into a real shell: it does what was meant, and nothing else."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from partsig.cli import options

from partsig import config as configs
from partsig.commands import option, pattern_option
from partsig.data.signals.channels import MissingChannelsError, resolve
from partsig.data.signals.hypnograms.alignment import find_offset
from partsig.data.signals.hypnograms.codes import RK, stage_code, stage_codes
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import ConfigError, DataError
from partsig.runs.test_results import EvaluatedRun, _check_apart
from partsig.text import shown
from partsig.verbs import compare

EVIL = (
    "C4-';touch x;'",
    "$(touch x)",
    "`touch x`",
    '"; touch x; "',
    "a b",
    "a\nb",
    "\x1b[2Jb",
    "!!",
)
EVIL += (
    "it's",
    "{a: b}",
    "[a",
    "# a",
    "null",
    "1e3",
    "007",
    "a: b",
    "a, b",
    "-x",
    "~",
    "*",
    "µV ñ",
)
EVIL += ("&& touch x", "> x", "| touch x", "\\", "'", "'''", "%s", "=1", "@a", "yes")


def pasted(words, tmp_path):
    """Give words to a shell as somebody pastes them; return what a program is given."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\0' {words}"], cwd=tmp_path, capture_output=True, check=True
    )
    assert list(tmp_path.iterdir()) == []  # nothing else was run
    return done.stdout.decode().split("\0")[:-1]


def set_by(words, tmp_path, kind=ReadConfig):
    """Return the settings that a suggested --set gives."""
    flag, value = pasted(words, tmp_path)
    assert flag == "--set"
    return configs.compose(kind, "preprocess", None, [value])


@pytest.mark.parametrize("label", EVIL)
def test_a_label_that_is_missing_and_its_likeliest_name(label, tmp_path):
    error = MissingChannelsError("night.edf", [label], [f"EEG {label}"])
    found = set_by(f"--set {shlex.quote(error.aliases)}", tmp_path).aliases
    assert list(found) == [label]
    error = MissingChannelsError("night.edf", ["C4-M1"], [label])
    found = set_by(f"--set {shlex.quote(error.aliases)}", tmp_path).aliases
    assert dict(found) in ({"C4-M1": ("NAME",)}, {"C4-M1": (label,)})
    after = "; else name" if error.no_signal else " if"
    assert f"--set {shlex.quote(error.aliases)}{after}" in str(error)


@pytest.mark.parametrize("label", EVIL)
def test_a_choice_among_like_labels(label, tmp_path):
    labels = (f"EEG {label}", f"EEG  {label}")
    try:
        resolve("night.edf", labels, (label,), ReadConfig())
    except MissingChannelsError:
        pytest.skip("not taken for one label")
    except DataError as error:
        words = str(error).partition("choose by ")[2].removesuffix(".")
        assert dict(set_by(words, tmp_path).aliases) == {label: (labels[0],)}
    else:
        pytest.fail("both labels are one channel")


# Numbers, also in bars or with a sign, are stages of Rechtschaffen and Kales.
@pytest.mark.parametrize("label", [label for label in EVIL if stage_code(label, RK, {}) is None])
def test_a_stage_that_is_not_known(label, tmp_path):
    with pytest.raises(DataError) as told:
        stage_codes("night.csv", [label], HypnogramConfig(), events=False)
    words = str(told.value).partition("say what it means, with ")[2].rpartition(" (or ")[0]
    assert dict(set_by(words, tmp_path).hypnogram.stages) == {label: "N2"}


@pytest.mark.parametrize("name", EVIL)
def test_where_a_recordings_stages_begin(name, tmp_path):
    hypnogram = Hypnogram(
        place="h.csv",
        onsets=np.array([0.0, 30.0]),
        durations=np.array([30.0, 30.0]),
        stages=np.array([0, 1], np.int8),
        start=None,
        from_zero=False,
    )
    with pytest.raises(DataError) as told:
        find_offset(name, hypnogram, None, 9000.0, HypnogramConfig())
    words = str(told.value).rpartition("state where it begins, with ")[2].removesuffix(".")
    assert words == option("hypnogram.offset_s", {name: "SECONDS"})
    found = set_by(words.replace("SECONDS", "30"), tmp_path).hypnogram.offset_s
    assert found == {name: 30}


@pytest.mark.parametrize(
    "tail",
    [
        *(f"_{text}.csv" for text in EVIL if "/" not in text and "\n" not in text),
        "-s[1].csv",
        "_a?b.csv",
        " # night.csv",
        "_a*.txt",
        "_{x}.csv",
    ],
)
def test_a_file_that_may_hold_stages(tail, tmp_path):
    place, raw = tmp_path / "empty", tmp_path / "raw"
    place.mkdir()
    raw.mkdir()
    (raw / f"night{tail}").write_text("W\n")
    found = set_by(pattern_option("hypnogram.pattern", tail), place).hypnogram
    assert edf_recordings.find_scorings(raw / "night.edf", found) == {"": raw / f"night{tail}"}
    told = edf_recordings.nothing_found(raw / "night.edf", HypnogramConfig())
    assert told.endswith(pattern_option("hypnogram.pattern", tail)) or not told


# In a path, what is not seen has no name that every shell knows: it is shown by its code.
SEEN = [name for name in EVIL if name.isprintable()]


@pytest.mark.parametrize("name", SEEN)
def test_a_run_whose_store_has_moved(name, tmp_path, monkeypatch):
    run, place = Path("runs") / name, tmp_path / "empty"
    place.mkdir()
    given = type("Run", (), {"facts": {"store": "/nowhere/store"}})()
    monkeypatch.setattr(compare.Run, "finished", lambda *_: given)
    with pytest.raises(DataError) as told:
        compare._evaluate_once(run, "cpu")
    command = str(told.value).partition("run `")[2].partition("` with the place")[0]
    if "`" in name:  # up to the last quotation mark
        command = str(told.value).partition("run `")[2].rpartition("` with the place")[0]
    # What is not seen in a path is shown by its code: pasted, it names nothing.
    assert pasted(command, place) == ["partsig", "evaluate", "--run", shown(run), "--store", "…"]


@pytest.mark.parametrize("name", SEEN)
def test_what_differs_between_runs(name, tmp_path):
    table = np.zeros((2, 2))
    runs = [
        EvaluatedRun(
            path=Path(f"{i}{name}"),
            method="m",
            unit="subjects",
            budget=1,
            draw=0,
            pretraining_seed=None,
            encoder={},
            pretrained=False,
            n_train=1,
            n_answers=4,
            confusion=table,
            counts=table,
        )
        for i in range(2)
    ]
    with pytest.raises(ConfigError) as told:
        _check_apart(runs)
    words = str(told.value).partition("name what differs: ")[2].removesuffix(".")
    assert pasted(words, tmp_path) == [f"LABEL=1{shown(name)}"]


@pytest.mark.parametrize("name", SEEN)
def test_the_next_command(name, tmp_path, capsys):
    options.then("partsig", "report", "--run", Path("runs") / name)
    words = capsys.readouterr().out.removeprefix("next: ").removesuffix("\n")
    assert pasted(words, tmp_path) == ["partsig", "report", "--run", str(Path("runs") / name)]
