import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.part import Part, PartConfig
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import write_json
from partsig.modalities.signals import SIGNALS
from partsig.recipes import composition_inspection as composing
from partsig.recipes import part_inspection as inspecting
from partsig.runs import directory as runs
from partsig.runs.models import read_state
from partsig.runs.run import Run
from partsig.train import checkpoint
from partsig.verbs.inspect import inspect
from partsig.verbs.pretrain import pretrain

TINY = {
    "window_s": 5,
    "windows_per_epoch": 64,
    "encoder.width": 16,
    "encoder.depth": 2,
    "encoder.heads": 2,
    "objective.patches": 8,
    "objective.loss": "histogram",
    "optim.warmup_epochs": 1,
    "fit.epochs": 2,
    "fit.batch_size": 16,
    "split.monitor_subjects": 4,
}
FIGURES = ("reconstruction", "rebuilt", "uncertainty", "symmetry")


@pytest.fixture(scope="module")
def run(sample_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pretrain"
    return pretrain(sample_store, folder, overrides=TINY, gpus="0")


@pytest.fixture(scope="module")
def inspection(run):
    return inspect(run, n=2, device="cpu")


@pytest.mark.slow
def test_a_run_that_averaged_its_weights_is_looked_at_with_the_average(sample_store, tmp_path):
    settings = TINY | {"fit.average": 0.9}
    averaged = pretrain(sample_store, tmp_path / "run", overrides=settings, gpus="0")
    content = checkpoint.load(checkpoint.newest(averaged), "pretrain")
    used = read_state(averaged)
    assert used.keys() == content["model"].keys()
    name = "encoder.embed.weight"
    assert torch.equal(used[name], content["average"][name])
    assert not torch.equal(used[name], content["model"][name])
    assert inspect(averaged, n=1, device="cpu").metrics["role"] == "test"


class Reads(nn.Module):
    def forward(self, patches, level=None, code=None):
        return patches.flatten(3).mean(-1), None


class Says(nn.Module):
    def __init__(self, worth):
        super().__init__()
        self.worth = worth

    def forward(self, tokens, pairs):
        return (tokens[:, pairs[:, 1]] - tokens[:, pairs[:, 0]]) * self.worth


class Ramps:
    """Windows whose one channel rises by one a sample."""

    def batch(self, epoch, first, count):
        return np.broadcast_to(np.arange(500, dtype=np.float32), (count, 1, 500)).copy()


def clock(worth):
    """A model that reads the time off a ramp; ``worth`` 1 without error, 0 says nothing."""
    encoder = EncoderConfig(width=8, depth=1, heads=1)
    model = Part(PartConfig(patches=10), Encoder(encoder, 1, (100,)), (500,), (100,))
    model.encoder, model.relative = Reads(), Says(worth * np.arange(500).std() / 100)
    return model.eval()


@pytest.mark.parametrize("on_grid", [False, True])
def test_figures_of_merit_of_a_model_that_knows_and_one_that_does_not(on_grid):
    cpu = torch.device("cpu")
    knows, not_ = (
        inspecting.measure(clock(worth), Ramps(), 0, cpu, 100.0, on_grid=on_grid)
        for worth in (1.0, 0.0)
    )
    assert knows["error"] == pytest.approx(0, abs=1e-4)
    assert knows["order"] == 1
    assert knows["r2"] == pytest.approx(1, abs=1e-6)
    assert knows["antisymmetry_violation"] == pytest.approx(0, abs=1e-6)
    assert knows["disagreement"] == pytest.approx(0, abs=1e-3)
    # Two starts on 0..400 samples are 4 / 3 s apart, two different ones of five seconds 2 s.
    assert knows["error_chance"] == pytest.approx(2.0 if on_grid else 4 / 3, rel=0.02)
    assert not_["error"] == pytest.approx(not_["error_chance"])
    assert not_["r2"] == pytest.approx(0, abs=1e-9)
    assert not_["disagreement"] == pytest.approx(1, abs=1e-6)
    half = inspecting.measure(clock(0.5), Ramps(), 0, cpu, 100.0, on_grid=on_grid)
    assert half["r2"] == pytest.approx(0.75, abs=1e-5)
    assert half["disagreement"] == pytest.approx(0.5, abs=1e-3)


def test_arrays_of_a_model_that_knows():
    arrays = inspecting.arrays_of(clock(1.0), Ramps().batch(0, 0, 2), 0, torch.device("cpu"))
    np.testing.assert_allclose(
        arrays["off_grid_placed"], arrays["off_grid_positions"], rtol=0, atol=0.05
    )
    order = arrays["grid_by_all"][..., 0].argsort(1)
    assert np.take_along_axis(arrays["grid_positions"][..., 0], order, 1)[0].tolist() == [
        50.0,
        150.0,
        250.0,
        350.0,
        450.0,
    ]
    np.testing.assert_allclose(
        arrays["off_grid_ordered_predicted"], arrays["off_grid_ordered_true"], rtol=0, atol=0.05
    )
    assert arrays["uncertainty"].shape == (2, 500)
    assert np.nanmax(arrays["uncertainty"]) < 1e-3
    assert np.isfinite(arrays["uncertainty"]).mean() > 0.99


@pytest.mark.parametrize("sources", [1, 6])
def test_a_model_that_reads_the_time_composes_patches_of_any_windows(sources):
    composed = {
        worth: composing.Composer(clock(worth), Ramps(), 0, torch.device("cpu"))
        for worth in (1.0, 0.5, 0.0)
    }
    a = composed[1.0].compose(0, 3, sources)
    np.testing.assert_allclose(a["arranged"], a["positions"], rtol=0, atol=0.05)
    assert a["windows"].shape == (3, sources, 1, 500)
    assert sorted(set(a["source"].ravel())) == list(range(sources))
    assert np.bincount(a["source"][0], minlength=sources).max() <= -(-10 // sources)
    figures = {worth: composing.measured(c, sources, 100.0) for worth, c in composed.items()}
    assert figures[1.0]["error"] == pytest.approx(0, abs=1e-3)
    assert figures[1.0]["order"] == 1
    assert figures[0.5]["error"] == pytest.approx(0.5 * figures[0.5]["error_chance"], rel=1e-3)
    assert figures[0.0]["error"] == pytest.approx(figures[0.0]["error_chance"])
    # Ten starts that lie evenly on 0..400 samples are a second from their middle, on average.
    assert figures[0.0]["error_chance"] == pytest.approx(1.0, rel=0.05)


def test_a_composition_writes_what_it_says(run, tmp_path):
    found = inspect(run, what="compose", n=2, output=tmp_path / "first", device="cpu")
    names = ["composition.json", "composition.npz", "composition.png", "composition.svg"]
    assert sorted(p.name for p in found.path.iterdir()) == names
    assert [figure.name for figure in found.figures] == names[2:]
    assert json.loads((found.path / names[0]).read_text()) == found.metrics
    assert found.metrics["role"] == "test"
    for whose in ("of_several", "of_one"):  # a few steps teach nothing
        assert found.metrics[whose]["order"] == pytest.approx(0.5, abs=0.1)
    again = inspect(run, what="compose", n=2, output=tmp_path / "again", device="cpu")
    assert again.metrics == found.metrics
    with np.load(found.path / names[1]) as a, np.load(again.path / names[1]) as b:
        assert a["windows"].shape == (2, 6, 3, 500)
        # What was taken where: a source's own samples, between those of its own window.
        assert (a["positions"] >= 50).all()
        assert (a["positions"] <= 450).all()
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])


def test_an_inspection_writes_what_it_says(run, inspection):
    assert inspection.path == run / "inspection"
    names = [f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")]
    assert [figure.name for figure in inspection.figures] == names
    assert sorted(p.name for p in inspection.path.iterdir()) == sorted(
        [*names, "arrays.npz", "metrics.json"]
    )
    for figure in inspection.figures:
        if figure.suffix == ".svg":
            assert ET.parse(figure).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads((inspection.path / "metrics.json").read_text()) == inspection.metrics
    metrics = inspection.metrics
    assert metrics["role"] == "test"
    assert metrics["n_subjects"] == len(runs.read(run)["subjects_held_out"]) == 14
    assert metrics["off_grid"]["error_chance"] == pytest.approx(4 / 3, rel=0.03)
    # A few steps teach nothing: both are near chance.
    assert metrics["off_grid"]["r2"] == pytest.approx(0, abs=0.1)
    assert metrics["off_grid"]["order"] == pytest.approx(0.5, abs=0.1)
    with np.load(inspection.path / "arrays.npz") as arrays:
        assert arrays["windows"].shape == (2, 3, 500)
        assert arrays["off_grid_where"].shape == (2, 8, 8, 1)
        assert arrays["grid_positions"].shape == (2, 5, 1)
        assert arrays["off_grid_ordered_true"].shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_the_same_inspection_gives_the_same_arrays(run, inspection, tmp_path):
    again = inspect(run, n=2, output=tmp_path / "again", device="cpu")
    other = inspect(run, n=2, seed=1, output=tmp_path / "other", device="cpu")
    first, second, third = (
        dict(np.load(i.path / "arrays.npz")) for i in (inspection, again, other)
    )
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    assert not np.array_equal(first["windows"], third["windows"])
    assert again.metrics == inspection.metrics


def test_without_test_subjects_the_monitor_is_inspected(run, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "checkpoints").symlink_to(run / "checkpoints")
    record = runs.read(run)
    write_json(copy / "run.json", record | {"subjects_held_out": []})
    found = inspect(copy, n=1, device="cpu").metrics
    assert (found["role"], found["n_subjects"]) == ("monitor", 4)
    seen = record["subjects_trained"]
    write_json(copy / "run.json", record | {"subjects_held_out": [], "subjects_seen": seen})
    with pytest.raises(DataError, match="none of the run's held-out subjects"):
        inspect(copy, device="cpu")
    other = Run(path=copy, facts=record | {"sfreq": 50.0})
    store = SIGNALS.open(Path(record["store"]))
    with pytest.raises(DataError, match=r"has sfreq 100\.0, the run was trained on 50\.0"):
        store.unseen(other, (500,), 0, 8)


def test_an_output_that_is_a_file_is_told(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"cannot write .*choose another place"):
        inspect(run, output=tmp_path / "file", device="cpu")


def test_other_runs_are_refused(sample_store, tmp_path):
    short = {k: v for k, v in TINY.items() if not k.startswith("objective")} | {"fit.epochs": 1}
    mae = pretrain(sample_store, tmp_path / "mae", config="mae", overrides=short, gpus="0")
    with pytest.raises(CheckpointError, match="pretrained with mae"):
        inspect(mae, device="cpu")
    with pytest.raises(CheckpointError, match="no run at"):
        inspect(tmp_path / "nowhere", device="cpu")
    with pytest.raises(ConfigError, match="--n is 0"):
        inspect(mae, n=0)
