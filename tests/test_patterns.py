"""No pattern takes time with the square of what it is given."""

import ast
import pkgutil
import re
import time
from importlib import import_module
from pathlib import Path

import pytest

import partsig
from partsig.data.signals import channels
from partsig.data.signals.hypnograms.codes import RK, stage_code
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers.edf_header import plain_number
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

N, MOST_S = 10**6, 3.0
# Many texts of so many characters, of which the square would be seconds.
SHORTER = 10**4
# Files of others reach these rooms.
ROOMS = ("data", "sleep")
# What makes one of the patterns begin, go on for long, and fail at the end.
STARTS = ("", "+", "EEG", "EOG", "Stage", "Sleep", "<?xml", "(ab", "ab", "sub-", "-s", "0" * 40)
RUNS = (
    "0",
    "1",
    "a",
    "A",
    "f",
    "-",
    " ",
    "_",
    ".",
    "\n",
    "\t",
    "\r",
    "(",
    ")",
    "<",
    "*",
    "é",
    "\0",
)
RUNS += ("- ", "EOG", "<?xml", "a1", "0.", "-s1", "SLEEP ", "(ab", "'", "` ", ":a", "1e", "ab)")
ENDS = ("", "x", "\n")


def compiled() -> dict[str, re.Pattern]:
    """Return every pattern that a module of the package holds, alone or among others."""
    found = {}

    def look(name: str, value: object) -> None:
        if isinstance(value, re.Pattern):
            found[name] = value
        elif isinstance(value, dict):
            look(name, tuple(value.values()))
        elif isinstance(value, tuple | list | frozenset | set):
            for number, item in enumerate(value):
                look(f"{name}[{number}]", item)

    for module in pkgutil.walk_packages(partsig.__path__, "partsig."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(import_module(module.name)).items():
            look(f"{module.name}.{name}", value)
    return found


def inline() -> dict[str, re.Pattern]:
    """Return the patterns that are written where they are used, where files of others are read."""
    found = {}
    root = Path(partsig.__file__).parent
    files = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                place = f"{path.relative_to(root)}:{node.lineno}"
                found[place] = re.compile(node.args[0].value)
    return found


def each_once() -> dict[str, re.Pattern]:
    """Return every pattern once, by its first place."""
    found = {}
    for name, pattern in (compiled() | inline()).items():
        found.setdefault((pattern.pattern, pattern.flags), name)
    return {name: re.compile(*pattern) for pattern, name in found.items()}


PATTERNS = each_once()
LONG = 300  # characters of a pattern from which it takes many seconds, however linear it is


def test_patterns_are_found():
    names = " ".join(PATTERNS)
    for name in ("edf_header.NUMBER", "channels.REFERENCE", "channels.PARTS", "edf_marks.ONSET"):
        assert name in names
    assert len(PATTERNS) > 25


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if len(pattern.pattern) > LONG else [])
        for name, pattern in PATTERNS.items()
    ],
)
def test_a_million_characters_take_no_longer_than_they_are_long(name):
    pattern = PATTERNS[name]
    binary = isinstance(pattern.pattern, bytes)
    kept = pattern.pattern.decode("latin-1") if binary else pattern.pattern
    # With the runs that the pattern may go on with at full length.
    likely = [run for run in RUNS if run in kept or pattern.search(encoded(run, binary))][:3]
    texts = [run * (N // len(run)) + "x" for run in {*likely, "-", "1"}]
    texts += [
        start + run * (SHORTER // len(run)) + end
        for start in STARTS
        for run in RUNS
        for end in ENDS
    ]
    for text in texts:
        given = encoded(text, binary)
        begun = time.process_time()  # of this process alone, whatever else the machine does
        for way in (pattern.fullmatch, pattern.match, pattern.search):
            way(given)
        took = time.process_time() - begun
        assert took < (MOST_S if len(text) > N // 2 else 0.3), (
            f"{text[:50]!r} … {text[-5:]!r}: {took:.1f} s"
        )


def encoded(text: str, binary: bool) -> str | bytes:
    """Return a text as a pattern takes it."""
    return text.encode("latin-1") if binary else text


def test_labels_and_numbers_of_any_length_are_looked_at_at_once():
    begun = time.perf_counter()
    for text in (
        "-" * N,
        " -" * N,
        "(" * N,
        "EEG " + "-" * N + "x",
        "EOG" * N,
        "1" * N,
        "SLEEP" * N,
    ):
        channels.plain_name(text)
        channels.nearest("E1-M2", [text])
        assert channels.nearest(text[:1000], ["C4"]) == ""
        assert stage_code(text, RK, {}) is None
        assert not plain_number(text) > 0
        with pytest.raises(DataError) as caught:
            channels.resolve("night", [text], ("C4-M1",), ReadConfig())
        assert len(str(caught.value)) < 2000
    assert time.perf_counter() - begun < MOST_S


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "1" * N),
        ("a.txt", "W\n" * (N // 10)),
        ("a.txt", "-" * N),
        ("a.csv", f"onset,duration,stage\n{'1' * N},30,W\n"),
        ("a.csv", f"onset,duration,stage\n0,{'1' * N},W\n"),
        ("a.csv", f"onset,duration,stage\n0,30,{'Sleep stage ' * 10**5}\n"),
        ("a.csv", f"time,stage\n{'1' * N}:00,W\n"),
        ("a.csv", ",".join(["x"] * 10**5) + "\n"),
        ("a.csv", 'onset,stage\n"' + "0" * N),
        ("a.xml", "<?xml" * (N // 5)),
        ("a.xml", "<a>" * (N // 3)),
        ("a.xml", "<a>" * (N // 7) + "</a>" * (N // 7)),
        ("a.xml", "<" * N),
        ("a.xml", f"<a b='{'x' * N}'/>"),
    ],
)
def test_long_hypnograms_are_told_in_short(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    begun = time.perf_counter()
    try:
        read_hypnogram(tmp_path / name, HypnogramConfig())
    except DataError as error:
        told = str(error)
    else:
        assert text.startswith("W\n")  # a month of wake
        told = ""
    assert len(told) < 1500
    assert told.isprintable()
    assert time.perf_counter() - begun < 10
