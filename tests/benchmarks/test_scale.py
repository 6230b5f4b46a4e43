"""The measurement of growth measures, keeps what it found, and tells growth from a constant."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VERBS = ("preprocess edf", "open a store", "split")


@pytest.fixture
def scale(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("scale")


def cells(seconds):
    return {
        str(n): {"n": n, "cpu_s": s, "wall_s": s, "peak_mb": n / 100, "open_files": 5}
        for n, s in seconds.items()
    }


@pytest.mark.slow
def test_two_sizes_of_three_verbs_become_a_table(tmp_path):
    results = tmp_path / "scale.json"
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--sizes", "12", "24"]
    command += ["--verbs", *VERBS, "--label", "before", "--open-files", "64"]
    command += ["--results", str(results)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(results.read_text())["before"]
    assert found["about"]["open_files"] == 64
    assert list(found["verbs"]) == list(VERBS)
    for row in found["verbs"].values():
        assert set(row) == {"sizes", "exponent", "mb_per_1000"}
        assert [cell["n"] for cell in row["sizes"].values()] == [12, 24]
        for cell in row["sizes"].values():
            assert set(cell) == {"n", "cpu_s", "wall_s", "peak_mb", "open_files"}
            assert 3 <= cell["open_files"] <= 64
    preprocessed = found["verbs"]["preprocess edf"]["sizes"]
    assert preprocessed["24"]["cpu_s"] > 0
    table = results.with_suffix(".md").read_text()
    assert all(f"| {verb} | before |" in table for verb in VERBS)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_the_exponent_leaves_a_constant_out(scale, power):
    seconds = {n: 3.0 + 1e-3 * n**power for n in (100, 1000, 3000)}
    assert scale.exponent(cells(seconds)) == pytest.approx(power, abs=0.06)


def test_what_does_not_grow_has_no_exponent(scale):
    assert scale.exponent(cells({100: 5.0, 1000: 5.02, 3000: 5.1})) is None
    assert scale.exponent(cells({100: 1.0, 1000: 10.0})) is None
    assert scale.per_thousand(cells({100: 1.0, 1100: 1.0})) == 10.0


def test_a_failure_is_a_result_and_decides_no_exponent(scale, tmp_path):
    def fail():
        raise OSError("too many")

    failed = scale.in_child(fail, tmp_path, 64, 60)
    assert failed["error"] == "OSError: too many"
    found = cells({100: 1.0, 1000: 10.0, 3000: 30.0})
    found["3000"]["error"] = failed["error"]
    assert scale.exponent(found) is None
    assert scale.text_of(found["3000"]) == "failed: 30.00 s, 30 MB, 5"


def test_a_process_may_open_so_many_files_and_no_more(scale, tmp_path):
    def open_many():
        handles = [os.open("held", os.O_CREAT) for _ in range(100)]
        return {"opened": len(handles)}

    assert scale.in_child(open_many, tmp_path, 64, 60)["error"].startswith("OSError: [Errno 24]")
    assert scale.in_child(open_many, tmp_path, 200, 60)["opened"] == 100
