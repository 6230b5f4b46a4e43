"""The record of what every verb gives is the same twice, and tells when one is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEPS = ("preprocess wfdb", "preprocess image", "refused: unknown source", "help: export")


def golden(what, file):
    command = [sys.executable, str(BENCHMARKS / "golden.py"), what, str(file)]
    command += [word for step in STEPS for word in ("--step", step)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_recorded_twice_nothing_differs_and_one_that_was_changed_does(tmp_path):
    file = tmp_path / "golden.json"
    done = golden("record", file)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["steps"]
    assert list(found) == list(STEPS)
    made = found["preprocess wfdb"]["files"]
    assert made["store/wfdb/signals/slp00.npy"].startswith("float32 [2, 15000] ")
    assert len(made["store/wfdb/index.csv"]) == 1 + 4
    assert found["preprocess image"]["returned"]["counts"]["train"] == 60
    assert found["refused: unknown source"]["code"] == 2
    assert found["refused: unknown source"]["errors"][0].startswith("partsig: error: source is")

    done = golden("compare", file)
    assert (done.returncode, done.stdout) == (0, "4 steps, 0 differences\n"), done.stderr
    before = made["store/wfdb/signals/slp00.npy"]
    changed = before[:-1] + ("0" if before[-1] != "0" else "1")
    file.write_text(file.read_text().replace(before, changed))
    done = golden("compare", file)
    assert done.returncode == 1
    place = "preprocess wfdb / files / store/wfdb/signals/slp00.npy"
    assert f'{place}: was "{changed}", now "{before}"' in done.stdout
    assert done.stdout.endswith("4 steps, 1 differences\n")


@pytest.mark.parametrize("name", ["x.npy", "x.pt", "x.safetensors", "x.json", "x.csv", "x.html"])
def test_a_changed_byte_is_found(script, tmp_path, name):
    import torch
    from safetensors.numpy import save_file

    look, path = script("golden_look").look, tmp_path / name
    x = np.arange(600, dtype=np.float32)
    texts = {"x.json": '{"kappa": 0.25}', "x.csv": "a,b\n" * 500 + "1,2\n", "x.html": "<p>1.25</p>"}

    def write(x):
        if name in texts:
            path.write_text(texts[name])
        elif name == "x.npy":
            np.save(path, x)
        elif name == "x.pt":
            torch.save({"model": {"w": torch.from_numpy(x)}, "step": 3}, path)
        else:
            save_file({"w": x}, path)

    write(x)
    before = look(path, {})
    assert look(path, {}) == before
    x.view(np.uint8)[1201] ^= 1
    texts = {key: text.replace("2", "3") for key, text in texts.items()}
    write(x)
    assert look(path, {}) != before


def test_what_may_differ_is_masked_and_nothing_else(script):
    look = script("golden_look")
    text = "2026-11-27T08:14:06+00:00 torch 2.14.1, kappa .25 in /w/run on 2022-01-01, 128 windows"
    assert look.masked(text, {"/w": "<work>"}) == (
        "<time> torch <version>, kappa .25 in <work>/run on 2022-01-01, 128 windows"
    )
    found = {"date": "today", "loss": 0.5, "x": {"windows_per_s": 3.0, "lr": np.float64(0.1)}}
    assert look.told(found, {}) == {
        "date": "<masked>",
        "loss": 0.5,
        "x": {"windows_per_s": "<masked>", "lr": 0.1},
    }


def test_steps_come_after_what_they_need(script):
    golden, steps = script("golden"), script("golden_steps").STEPS
    order = golden.in_order(steps)
    assert sorted(order) == sorted(steps)
    assert all(order.index(need) < order.index(n) for n in steps for need in steps[n].needs)
    verbs = {step.verb for step in steps.values()}
    assert verbs >= {*script("golden_refusals").VERBS}
    assert os.environ.get("COLUMNS") != "100"  # importing it changes nothing
