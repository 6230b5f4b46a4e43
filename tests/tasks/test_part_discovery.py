"""Parts of images and signals without labels: pretrain, evaluate, inspect; what is refused."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.data.images.marked import JudgedImages, Masks
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities.image_dataset import ImageDataset
from partsig.recipes.pretext_measures import learned
from partsig.runs.models import load_encoder, load_part, read_state
from partsig.runs.perceiving import load_perceiving
from partsig.runs.run import Run
from partsig.tasks.part_discovery import FoundParts, baselines
from partsig.train.journal import read_metrics
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.inspect import inspect
from partsig.verbs.pretrain import pretrain

N, SIZE = 36, 32
SMALL = {
    "objective.name": "part-discovery", "objective.phi": "scratch", "objective.parts": 2,
    "objective.hidden": 8, "objective.turn": 20, "size": SIZE, "patch_px": 4,
    "encoder.width": 24, "encoder.depth": 1, "encoder.heads": 2,
    "optim.lr": 0.5, "optim.warmup_epochs": 0, "optim.min_lr": 0,
    "fit.batch_size": 6, "fit.epochs": 8, "fit.log_every": 1, "fit.validate_every": 8,
}  # fmt: skip


def two_coloured(rng):
    """An object of two halves, one red and one blue, on grey noise: image, mask, points, box."""
    image = rng.integers(90, 130, (3, SIZE, SIZE)).astype(np.uint8)
    mask = np.full((SIZE, SIZE), 2, np.uint8)
    top, left = rng.integers(0, SIZE - 16, 2)
    for number, colour in ((0, 0), (1, 2)):
        here = np.s_[top : top + 16, left + 8 * number : left + 8 * number + 8]
        image[(slice(None), *here)] = 20
        image[(colour, *here)] = 230
        mask[here] = number
    points = np.array([[left + 4, top + 8, 1], [left + 12, top + 8, 1]], np.float32)
    return image, mask, points, np.array([left, top, 16, 16], np.float32)


@pytest.fixture(scope="module")
def marked(made_once):
    """A store of 36 such images with masks, keypoints and boxes: 18 train, 6 val, 12 test."""

    def make(folder):
        rng = np.random.default_rng(0)
        made = [two_coloured(rng) for _ in range(N)]
        roles = ["train"] * 18 + ["val"] * 6 + ["test"] * 12
        source = images.Source(
            name="images",
            size=(SIZE, SIZE),
            ch_names=("red", "green", "blue"),
            classes=(),
            items=[images.Item(f"{role}/{i}", -1, role, "") for i, role in enumerate(roles)],
            read=lambda i: made[i],
            facts={
                "masks": {"classes": ["left", "right", "background"], "objects": {}},
                "keypoints": {"parts": ["left", "right"], "mirrored": {}},
                "boxes": {},
            },
        )
        path = folder / "store"
        meta = images.make_meta(source, 0.1)
        images.create(path, meta)
        arrays.write_arrays(path, 0, arrays.layers_of(meta), N, enumerate(made), True)
        images.write_index(path, [images.index_row(item, i) for i, item in enumerate(source.items)])

    return made_once("marked", make) / "store"


def trained(store, run, **settings):
    overrides = SMALL | {f"objective.{name}": value for name, value in settings.items()}
    return pretrain(store, run, overrides=overrides, gpus="0")


@pytest.fixture(scope="module")
def found(made_once, marked):
    """A run on it that is told the foreground by masks, with known views."""

    def make(folder):
        trained(marked, folder / "run", foreground="mask", views=2)

    return made_once("found", make) / "run"


def test_halves_of_objects_are_found_without_labels(found, tmp_path):
    """Two colours of an object are two parts, by keypoints and by pixels alike."""
    result = evaluate(found, output=tmp_path / "e", device="cpu")
    metrics = result.metrics
    for asked in ("points_fg", "places_fg"):
        assert metrics[asked]["nmi"] > 0.6
        low, high = metrics[asked]["nmi_interval_95"]
        assert low <= metrics[asked]["nmi"] <= high
        assert metrics["baselines"]["one part"][asked]["nmi"] == 0
        assert metrics["baselines"]["k-means"][asked]["nmi"] > 0.6
        low, high = metrics["baselines"]["NMF (DFF)"][asked]["nmi_interval_95"]
        assert 0 < low <= metrics["baselines"]["NMF (DFF)"][asked]["nmi"] <= high
    assert metrics["points_full"]["nmi"] > 0.6
    assert metrics["dead_parts"] == []
    assert metrics["foreground"] == "mask"
    # An untrained transformer's tokens are of either sign: those below 0 are 0 to NMF.
    assert 0.2 < metrics["baselines"]["NMF (DFF)"]["rectified_share"] < 0.8
    assert list(metrics["baselines"]) == ["one part", "grid", "k-means", "NMF (DFF)"]
    assert "rectified_share" not in metrics["baselines"]["k-means"]
    assert metrics["keypoint_regression_error"] < 20
    beside = metrics["keypoint_regression_baselines"]
    # The mean of both keypoints, 8 pixels apart along one axis, tells both.
    assert beside["mean true keypoint"] == pytest.approx(0, abs=1e-6)
    assert beside["image midpoint"] > metrics["keypoint_regression_error"]
    assert metrics["n_images"] == 12
    kept = np.load(tmp_path / "e" / "parts.npz")
    assert kept["parts"].shape == kept["foreground"].shape == (12, 8, 8)
    lines = (tmp_path / "e" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,truth,prediction,count"
    points = [line.split(",") for line in lines[1:] if line.endswith(",1")]
    assert len(points) >= 24
    assert result.follow_up == ("inspect", "--run", str(found), "--what", "parts")
    assert any("2 parts, 0 of them dead" in line for line in result.summary)
    assert any("NMF (DFF) NMI" in line for line in result.summary)
    assert any("(by the image midpoint " in line for line in result.summary)


def test_maps_that_are_nowhere_above_0_have_no_factors(marked):
    store = images.open_images(marked)
    items = JudgedImages(store, store.members("test"), SIZE, None)
    maps = np.random.default_rng(0).random((len(items), 2, 8, 8)).astype(np.float32)
    found = FoundParts(maps=maps, foreground=np.ones((len(items), 8, 8)), features=-1 - maps)
    assert list(baselines(found, found, items, 0)) == ["one part", "grid", "k-means"]


def test_a_run_says_what_it_looked_through_and_needs_nothing_else(found):
    run = Run.finished(found, "pretrain")
    assert run.facts["foreground"] == "mask"
    assert run.facts["frozen_encoder"]["builder"] == "run"
    assert len(run.facts["weights_sha256"]) == 64 or run.facts["weights_sha256"]
    logged = read_metrics(found)
    terms = {"feature", "contrast", "visual", "equivariance", "unexplained", "dead_parts"}
    assert terms <= logged[0].keys()
    assert {f"val_{name}" for name in terms} <= logged[-1].keys()
    shares = [line["unexplained"] for line in logged if "unexplained" in line]
    assert shares[-1] < shares[0]
    assert "of the variance of the maps of unseen windows" in learned(found)[0]
    model = load_perceiving(run)
    assert not any(p.requires_grad for p in model.parameters())
    assert {key.split(".")[0] for key in read_state(found)} >= {"phi", "segmenter", "mean"}


def test_parts_are_drawn(found, tmp_path):
    shown = inspect(found, what="parts", output=tmp_path / "i", n=3, device="cpu")
    assert [path.name for path in shown.figures] == ["parts.png", "parts.svg"]
    told = json.loads((tmp_path / "i" / "parts.json").read_text())
    assert len(told["items"]) == 3
    assert all(sum(one["shares"]) == pytest.approx(1, abs=1e-3) for one in told["items"])
    assert (tmp_path / "i" / "parts.png").stat().st_size > 5000


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(marked, found, tmp_path):
    """Stopped after a few steps and run again: the same weights, though views are made anew."""
    run = tmp_path / "run"
    overrides = SMALL | {"objective.foreground": "mask", "objective.views": 2}
    code = (
        "from partsig.verbs.pretrain import pretrain\n"
        f"pretrain({str(marked)!r}, {str(run)!r}, overrides={overrides!r}, gpus='0')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_text().count("\n") >= 4:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.02)
    process.wait(60)
    assert json.loads((run / "run.json").read_text())["state"] == "running"
    trained(marked, run, foreground="mask", views=2)
    mine, whole = read_state(run), read_state(found)
    assert mine.keys() == whole.keys()
    assert all(torch.equal(mine[key], whole[key]) for key in whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"foreground": "box", "contrast": "views", "warp": "both"},
        {"foreground": "none", "contrast": "l2", "weighting": "published"},
        {"name": "scops", "foreground": "mask", "views": 2},
    ],
    ids=["box", "none", "scops"],
)
def test_every_kind_is_trained_and_judged(marked, tmp_path, settings):
    short = {"fit.epochs": 1}
    overrides = SMALL | short | {f"objective.{name}": value for name, value in settings.items()}
    run = pretrain(marked, tmp_path / "run", overrides=overrides, gpus="0")
    metrics = evaluate(run, device="cpu", figures=False).metrics
    assert metrics["foreground"] == settings["foreground"]
    assert metrics["objective"] == settings.get("name", "part-discovery")
    assert 0 <= metrics["places_fg"]["nmi"] <= 1


@pytest.mark.slow
def test_masks_of_a_file_are_those_of_the_store(marked, found, tmp_path):
    """The same masks as a file give the same run."""
    store = images.open_images(marked)
    everyone = np.arange(len(store))
    masks = dict(zip(store.names, store.masks(everyone) != 2, strict=True))
    np.savez_compressed(tmp_path / "masks.npz", **masks)
    file = str(tmp_path / "masks.npz")
    run = trained(marked, tmp_path / "run", foreground="file", foreground_file=file, views=2)
    mine, whole = read_state(run), read_state(found)
    assert all(torch.equal(mine[key], whole[key]) for key in whole)
    one = Masks(tmp_path / "masks.npz")
    with pytest.raises(DataError, match="has no mask of nobody"):
        one(["nobody"], (SIZE, SIZE))
    with pytest.raises(DataError, match=r"has the shape \(32, 32\)"):
        one([store.names[0]], (16, 16))
    (tmp_path / "none.npz").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match=r"is no .npz file"):
        Masks(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fit.batch_size": 2}, "fit.batch_size is 2; .* needs 3 or more"),
        ({"augment.flip": 0.5}, "leave augment.… out"),
        ({"objective.taps": [3]}, "there is no block 3"),
        ({"objective.phi": None}, "objective.phi is not told: part-discovery looks through"),
        ({"objective.phi": "official:nothing"}, "leave encoder.… out"),
        ({"objective.phi": "packaged:efficientnet-lite0"}, "leave encoder.… out"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run_is_begun(
    marked, tmp_path, settings, told
):
    with pytest.raises((ConfigError, CheckpointError), match=told):
        pretrain(marked, tmp_path / "run", overrides=SMALL | settings, gpus="0")
    assert not (tmp_path / "run").exists()


def test_foregrounds_that_a_store_does_not_tell_are_refused(bright_images, tmp_path):
    for how in ("mask", "box"):
        with pytest.raises(ConfigError, match=f"objective.foreground={how}: .* has no"):
            trained(bright_images, tmp_path / "run", foreground=how)
    run = pretrain(bright_images, tmp_path / "r", overrides=SMALL | {"fit.epochs": 1}, gpus="0")
    with pytest.raises(DataError, match="neither keypoints nor masks"):
        evaluate(run, device="cpu")


PART = {k: v for k, v in SMALL.items() if not k.startswith("objective.")} | {
    "objective.patches": 8, "objective.focus": "object", "fit.epochs": 1, "optim.lr": 0.01,
}  # fmt: skip


def test_part_looks_at_objects_by_their_masks(marked, tmp_path):
    """The objects cover a quarter of the images; patches of the run's own data lie on them more."""
    runs = {
        share: pretrain(
            marked, tmp_path / f"{share}", overrides=PART | {"objective.focus_share": share},
            gpus="0",
        )
        for share in (0.0, 1.0)
    }  # fmt: skip
    states = [read_state(run) for run in runs.values()]
    assert not all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert read_metrics(runs[1.0])[-1]["val_loss"] > 0  # of the masks of unseen images
    covered = {}
    for share, run in runs.items():
        loaded = load_part(run)
        data = ImageDataset(images.open_images(marked)).pretraining(loaded.settings, 0)
        extras = data.train.extras(0, 0, 18)
        assert list(extras) == ["foreground"]
        mask, x = (
            torch.from_numpy(extras["foreground"]),
            torch.from_numpy(data.train.batch(0, 0, 18)),
        )
        assert mask.mean() == pytest.approx(0.25)
        generator = torch.Generator().manual_seed(0)
        draws = [
            loaded.model.sample_focused(x, torch.arange(18), 18, generator, mask)[0]
            for _ in range(20)
        ]
        at = (torch.stack(draws) - 0.5).round().long()  # the middle of each patch
        rows = torch.arange(18).view(1, 18, 1)
        covered[share] = mask[rows, at[..., 0], at[..., 1]].mean().item()
    assert covered[0.0] == pytest.approx(0.27, abs=0.04)
    assert covered[1.0] > 0.8


def test_objects_that_are_not_told_are_refused(marked, bright_images, sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"objective.focus=object: .* has no masks of objects"):
        pretrain(bright_images, tmp_path / "run", overrides=PART, gpus="0")
    with pytest.raises(ConfigError, match=r"focus=object follows these: leave augment.… out"):
        pretrain(marked, tmp_path / "run", overrides=PART | {"augment.flip": 0.5}, gpus="0")
    with pytest.raises(ConfigError, match="which signals have none of"):
        pretrain(sample_store, tmp_path / "run", overrides=["objective.focus=object"], gpus="0")
    assert not (tmp_path / "run").exists()


def test_such_a_run_has_no_encoder_to_go_on_with(found, marked, bright_images, tmp_path):
    with pytest.raises(CheckpointError, match="trains no encoder"):
        load_encoder(found)
    with pytest.raises(CheckpointError, match="trains no encoder"):
        finetune(found, bright_images, tmp_path / "f", device="cpu")
    with pytest.raises(ConfigError, match=r"--from is for objectives that train an encoder"):
        pretrain(marked, tmp_path / "p", from_=found, overrides=SMALL, gpus="0")


@pytest.mark.slow
def test_a_run_of_ours_is_looked_through(marked, tmp_path):
    part = {k: v for k, v in SMALL.items() if not k.startswith("objective.")}
    part |= {"objective.patches": 6, "fit.epochs": 1}
    ours = pretrain(marked, tmp_path / "part", overrides=part, gpus="0")
    through = {k: v for k, v in SMALL.items() if not k.startswith("encoder.")}
    through |= {"objective.phi": str(ours), "fit.epochs": 1, "objective.foreground": "mask"}
    run = pretrain(marked, tmp_path / "run", overrides=through, gpus="0")
    state, own = read_state(run), read_state(ours)
    for key, value in own.items():
        if key.startswith("encoder."):
            assert torch.equal(state[f"phi.encoder.{key}"], value), key
    assert evaluate(run, device="cpu", figures=False).metrics["places_fg"]["nmi"] >= 0
    with pytest.raises(CheckpointError, match="places no patches"):
        inspect(run, device="cpu", output=tmp_path / "i")
    with pytest.raises(CheckpointError, match="discovers no parts"):
        inspect(ours, what="parts", device="cpu", output=tmp_path / "i")


@pytest.mark.slow
def test_parts_of_signals(sample_store, tmp_path):
    """The same class of one axis: 5-s windows, judged by stages, subjects as units."""
    small = {k: v for k, v in SMALL.items() if k not in ("size", "patch_px", "objective.turn")}
    small |= {"window_s": 5, "patch_s": 0.5, "windows_per_epoch": 24, "fit.epochs": 2}
    small |= {"split.monitor_subjects": 4, "fit.validate_every": 2, "objective.parts": 3}
    run = pretrain(sample_store, tmp_path / "run", overrides=small, gpus="0")
    result = evaluate(run, device="cpu", figures=False)
    assert result.metrics["grid"] == [10]
    assert result.metrics["split_unit"] == "subject"
    assert result.metrics["n_windows"] > result.metrics["n_subjects"] > 3
    assert 0 <= result.metrics["places_fg"]["nmi"] <= 1
    assert "places_full" not in result.metrics
    shown = inspect(run, what="parts", n=2, device="cpu", output=tmp_path / "i")
    assert shown.figures[0].stat().st_size > 5000
    with pytest.raises(ConfigError, match="foreground=mask is not told of these windows"):
        pretrain(
            sample_store,
            tmp_path / "m",
            overrides=small | {"objective.foreground": "mask"},
            gpus="0",
        )
    with pytest.raises(ConfigError, match="views=2 keeps views of items"):
        pretrain(sample_store, tmp_path / "m", overrides=small | {"objective.views": 2}, gpus="0")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_network_of_its_own_learns_the_parts_of_images(marked, tmp_path):
    """The form for a GPU: a dilated ResNet on the images, whose batch norms are in the run, too."""
    pytest.importorskip("timm")
    overrides = SMALL | {"objective.segmenter": "resnet18", "objective.foreground": "mask"}
    overrides |= {"fit.epochs": 1, "optim.lr": 0.05}
    run = pretrain(marked, tmp_path / "run", overrides=overrides, gpus="0")
    facts = Run.finished(run, "pretrain").facts
    assert facts["segmenter"]["model"] == "resnet18"
    state = read_state(run)
    assert state["segmenter.backbone.bn1.num_batches_tracked"] > 0
    metrics = evaluate(run, device="cpu", figures=False).metrics
    assert evaluate(run, device="cpu").metrics["places_fg"] == metrics["places_fg"]  # once more
    assert metrics["grid"] == [8, 8]  # that of the maps that the losses are told in
    (run / "run.json").write_text(
        (run / "run.json").read_text().replace('"model": "resnet18"', '"model": "resnet1"')
    )
    with pytest.raises(CheckpointError, match="what is told of the segmenter is damaged"):
        evaluate(run, device="cpu")
