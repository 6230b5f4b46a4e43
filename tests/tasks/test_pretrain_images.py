"""The same verb on images: by a recipe and a store of another kind, nothing else."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import partsig
from partsig import config as configs
from partsig.core.normalise import instance_normalise
from partsig.data.images.augment import (
    AugmentConfig,
    Erasing,
    RandAugment,
    augmented,
    transform,
)
from partsig.data.images.store import open_images
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities.image_dataset import ImageDataset
from partsig.modalities.image_settings import ImageFinetuneConfig, ImagePretrainConfig
from partsig.modalities.images import IMAGES
from partsig.runs import directory as runs
from partsig.runs.models import build_objective, load_encoder
from partsig.runs.run import Run
from partsig.train.journal import read_metrics
from partsig.train.optim import learning_rate
from partsig.verbs.pretrain import pretrain

SHORT = {"fit.epochs": 12, "encoder.width": 48, "encoder.depth": 2, "optim.warmup_epochs": 1}


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    return pretrain(
        digits,
        tmp_path_factory.mktemp("runs") / "run",
        modality="image",
        config="image-tiny",
        overrides=SHORT,
        gpus="0",
    )


def test_a_run_on_images_tells_what_it_is(run):
    record = runs.read(run)
    assert record["modality"] == "image"
    assert record["size"] == [8, 8]
    assert record["ch_names"] == ["grey"]
    last = [line for line in read_metrics(run) if "val_r2" in line][-1]
    assert {"val_mse_row", "val_mse_column", "val_error_px", "val_sign"} <= set(last)
    assert last["val_error_px"] == pytest.approx(4 * last["val_error_patches"], rel=1e-4)
    both = (last["val_mse_row"] + last["val_mse_column"]) / 2
    assert last["val_mse"] == pytest.approx(both, rel=1e-4)
    assert last["val_r2"] == pytest.approx(1 - last["val_mse"] / last["val_chance"], rel=1e-4)


def test_the_pretext_is_learned_on_images_that_were_not_trained_on(run):
    last = [line for line in read_metrics(run) if "val_r2" in line][-1]
    assert last["val_r2"] > 0.05
    assert last["val_sign"] > 0.55


@pytest.mark.slow
@pytest.mark.parametrize("config", ["mae", "mp3", "droppos"])
def test_the_rivals_learn_from_images_too(digits, tmp_path, config):
    settings = SHORT | {"fit.epochs": 2, "size": 8, "patch_px": 2, "encoder.heads": 4}
    settings |= {"fit.batch_size": 128, "objective.name": config}
    path = pretrain(digits, tmp_path / "run", modality="image", overrides=settings, gpus="0")
    losses = [line["val_loss"] for line in read_metrics(path) if "val_loss" in line]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_sizes_and_aspect_ratios_have_four_outputs(digits, tmp_path):
    settings = SHORT | {"fit.epochs": 1, "objective.sampling": "sizes", "patch_px": 2}
    path = pretrain(
        digits,
        tmp_path / "run",
        modality="image",
        config="image-tiny",
        overrides=settings,
        gpus="0",
    )
    encoder = load_encoder(path).encoder
    assert encoder.embed.in_features == 4
    state = torch.load(next((path / "checkpoints").glob("*.pt")), weights_only=True)["model"]
    assert state["relative.output.weight"].shape[0] == 4


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of 40 noise images of 12 x 12."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    for number in range(40):
        file = folder / "raw" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
    settings = {"size": 12, "val_share": 0.3}
    return partsig.preprocess("images", folder / "raw", folder / "store", overrides=settings).path


@pytest.mark.parametrize("objective", ["part", "mae", "mp3", "droppos"])
def test_larger_images_are_cropped_at_the_centre_where_nothing_is_learned(
    large, tmp_path, objective
):
    pytest.importorskip("torchvision", reason="augmentations are torchvision's")
    settings = {"size": 8, "patch_px": 2, "augment.crop": "resized", "objective.name": objective}
    settings |= {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    settings |= {"fit.batch_size": 8, "optim.warmup_epochs": 0}
    path = pretrain(large, tmp_path / "run", modality="image", overrides=settings, gpus="0")
    assert np.isfinite(
        [line["val_loss"] for line in read_metrics(path) if "val_loss" in line]
    ).all()
    store = open_images(large)
    drawn = ImageDataset(store).unseen(Run.read(path), (8, 8), 0, 4).windows
    middle = store.batch(drawn.drawn(0)[:4])[:, :, 2:10, 2:10]
    np.testing.assert_array_equal(drawn.batch(0, 0, 4), middle)
    if objective == "part":
        assert partsig.inspect(path, n=1, device="cpu").metrics["n_windows"] == 256


def test_images_that_are_too_small_are_refused(digits, tmp_path):
    settings = {"size": 32, "augment.crop": "pad"}
    with pytest.raises(ConfigError, match=r"holds images of 8 x 8, and size is 32; pass .*size=8"):
        pretrain(digits, tmp_path / "r", modality="image", overrides=settings, gpus="0")


def test_an_area_alone_changes_nothing():
    assert transform(AugmentConfig(area=0.5), 8) is None


def test_inspect_draws_images_without_another_path(run):
    found = partsig.inspect(run, n=2, device="cpu")
    assert found.metrics["role"] == "test"
    assert found.metrics["n_images"] == 359
    assert found.metrics["unit"] == "px"
    assert found.metrics["off_grid"]["r2"] > 0.03
    names = [figure.name for figure in found.figures]
    assert names[::2] == ["reconstruction.png", "rebuilt.png", "uncertainty.png", "symmetry.png"]
    arrays = np.load(found.path / "arrays.npz")
    assert arrays["uncertainty"].shape == (2, 8, 8)
    assert arrays["off_grid_matrix_true"].shape == (2, 2, 16, 16)
    assert json.loads((found.path / "metrics.json").read_text()) == found.metrics


def test_augmented_images_do_not_depend_on_how_a_batch_is_cut():
    change = transform(AugmentConfig(crop="pad", flip=0.5, randaugment=5, erase=0.5), 8)
    images = torch.arange(6 * 3 * 64).view(6, 3, 8, 8).to(torch.uint8)
    whole = augmented(images, change, 1, 2)
    parts = torch.cat([augmented(images[:2], change, 1, 2), augmented(images[2:], change, 1, 2, 2)])
    assert whole.shape == (6, 3, 8, 8)
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, augmented(images, change, 1, 3))
    assert transform(AugmentConfig(), 8) is None


def test_erased_boxes_hold_noise_like_the_image():
    """So that the rest of the image is normalised as if nothing had been erased."""
    drawn = torch.Generator().manual_seed(0)
    images = 180 + 10 * torch.randn(60, 3, 32, 32, generator=drawn)
    images = images.round().clamp(0, 255).to(torch.uint8)
    found = augmented(images, Erasing(1.0), 0, 0)
    changed = (found != images).any(1, keepdim=True).expand_as(images)
    assert 0.03 < changed.float().mean() < 0.4  # boxes of 2 to 33 %
    assert found[changed].float().mean().item() == pytest.approx(180, abs=1)
    assert found[changed].float().std().item() == pytest.approx(10, abs=1)
    off = instance_normalise(found)[0] - instance_normalise(images)[0]
    assert off[~changed].abs().max() < 0.3


def test_randaugment_does_two_operations_each_half_of_the_time():
    """And it does more to an image, the greater its magnitude."""
    images = torch.randint(0, 256, (400, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    moved = {}
    for magnitude in (1.0, 9.0):
        found = augmented(images, RandAugment(magnitude), 0, 0)
        same = (found == images).flatten(1).all(1).float().mean().item()
        assert 0.25 < same < 0.5  # a quarter, and those where an operation changed nothing
        moved[magnitude] = (found.float() - images.float()).abs().mean().item()
    assert moved[9.0] > 2 * moved[1.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"modality": "eeg", "config": None}, DataError, "holds images, not signals"),
        ({"overrides": {"size": 32}}, ConfigError, "images of 8 x 8, and size is 32"),
        (
            {"overrides": {"patch_px": 3}},
            ConfigError,
            r"size is 8; it must be a multiple of patch_px \(3",
        ),
        ({"overrides": {"window_s": 3}}, ConfigError, "unknown key 'window_s'"),
        ({"modality": "eeg"}, DataError, "holds images, not signals: pass --modality image"),
        ({"config": "demo"}, ConfigError, "demo is for signals; .* holds images"),
        ({"overrides": {"augment.flip": 2}}, ConfigError, "augment.flip"),
        ({"overrides": {"augment.randaugment": 27}}, ConfigError, "must be .* 10"),
        ({"overrides": {"augment.flip": 0, "objective.context": 0.5}}, ConfigError, "views of an"),
        (
            {"overrides": {"objective.sampling": "sizes", "objective.target_scale": "unit"}},
            ConfigError,
            "leave it at patch",
        ),
    ],
)
def test_mistakes_are_told(options, error, message, digits, tmp_path):
    given = {"modality": "image", "config": "image-tiny", "run": tmp_path / "r", "gpus": "0"}
    with pytest.raises(error, match=message):
        pretrain(digits, **(given | options))


def test_signals_and_images_do_not_start_from_each_other(run, sample_store, tmp_path):
    with pytest.raises(CheckpointError, match="has modality image, this store has eeg"):
        pretrain(
            sample_store,
            tmp_path / "r",
            overrides={"encoder.width": 16, "encoder.heads": 2, "encoder.depth": 1},
            from_=run,
            gpus="0",
        )


SHAPES = {"cifar": (64, 21_313_536), "imagenet": (196, 85_647_360), "cifar-tiny": (16, 818_176)}
CONTRASTS = {
    f"{data}{part}-contrast": (data, ((size, 2 * size), (patch, patch)))
    for data, size, patch in (("cifar", 32, 4), ("imagenet", 224, 16))
    for part in ("", "-part")
}
FINETUNING = ("image-finetune", "image-segmentation", "image-tiny-finetune", "imagenet-finetune")
RIVALS = [f"{data}-{name}" for data in ("cifar", "imagenet") for name in ("mae", "mp3", "droppos")]


@pytest.mark.parametrize(
    ("config", "patches", "parameters"), [(name, *told) for name, told in SHAPES.items()]
)
def test_shipped_recipes_of_images_have_the_published_shapes(config, patches, parameters):
    """ViT-S/4 has 21.3 M parameters, ViT-B/16 85.6 M, without positions and head.

    A block has 12 E² + 13 E, the tokens 3 p² E + E, [CLS] and the last norm 3 E.
    """
    settings = configs.compose(ImagePretrainConfig, "pretrain", config)
    window, patch = settings.extents(1.0)
    model = build_objective(3, window, patch, settings, IMAGES.n_patches)
    assert model.n_patches == patches
    assert sum(p.numel() for p in model.encoder.parameters()) == parameters


def test_every_shipped_recipe_of_images_is_tried_here_or_trains_in_the_tests_of_fine_tuning():
    named = {name for name in configs.names() if name.startswith(("cifar", "image"))}
    assert named == {*RIVALS, *SHAPES, "image-tiny", *FINETUNING, *CONTRASTS}


@pytest.mark.parametrize(
    ("config", "peak"), [("image-finetune", 2.5e-4), ("imagenet-finetune", 2e-3)]
)
def test_shipped_recipes_of_fine_tuning_have_the_published_rates(config, peak):
    """From 1e-6 to the peak for the batch, and down to 1e-5, whatever the batch."""
    settings = configs.compose(ImageFinetuneConfig, "finetune", config)
    optim, fit = settings.optim, settings.fit

    def rate(epoch):
        return learning_rate(epoch, 1, fit.epochs, fit.batch_size, optim)

    assert [rate(0), rate(5), rate(fit.epochs)] == pytest.approx([1e-6, peak, 1e-5])
    assert (settings.repeats, settings.loss.mixup, settings.augment.erase) == (3, 0.8, 0.25)


@pytest.mark.parametrize("config", ["cifar", "imagenet", "cifar-mp3", "imagenet-mp3"])
def test_shipped_recipes_of_pretraining_start_and_end_with_the_published_rates(config):
    settings = configs.compose(ImagePretrainConfig, "pretrain", config)
    batch, epochs = settings.fit.batch_size, settings.fit.epochs
    ends = [learning_rate(epoch, 1, epochs, batch, settings.optim) for epoch in (0, 20, epochs)]
    assert ends == pytest.approx([1e-6, 5e-4 * batch / 512, 1e-5])


@pytest.mark.parametrize("config", CONTRASTS)
def test_shipped_contrasts_have_the_encoder_of_parts_and_a_loss_that_can_be_followed(config):
    settings = configs.compose(ImagePretrainConfig, "pretrain", config)
    data, extents = CONTRASTS[config]
    assert settings.encoder == configs.compose(ImagePretrainConfig, "pretrain", data).encoder
    assert settings.extents(1.0) == extents
    short = configs.compose(ImagePretrainConfig, "pretrain", config, {"encoder.depth": 1})
    model = build_objective(3, *short.extents(1.0), short, IMAGES.n_patches)
    x = torch.randint(0, 256, (3, 3, *extents[0]), dtype=torch.uint8)
    values = model(x, torch.Generator().manual_seed(0))
    values["loss"].backward()
    assert 0 < values["loss_context"] < 5
    assert model.encoder.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("config", RIVALS)
def test_shipped_recipes_of_the_rivals_have_the_encoder_of_parts(config):
    """Same tokens and encoder, one block of it here, and a loss that can be followed."""
    settings = configs.compose(ImagePretrainConfig, "pretrain", config)
    theirs = configs.compose(ImagePretrainConfig, "pretrain", config.partition("-")[0])
    drop = {"drop_path": theirs.encoder.drop_path}
    assert dataclasses.replace(settings.encoder, **drop) == theirs.encoder
    assert settings.extents(1.0) == theirs.extents(1.0)
    assert settings.objective.name == config.partition("-")[2]
    short = configs.compose(ImagePretrainConfig, "pretrain", config, {"encoder.depth": 1})
    model = build_objective(3, *short.extents(1.0), short, IMAGES.n_patches)
    x = torch.randint(0, 256, (2, 3, settings.size, settings.size), dtype=torch.uint8)
    values = model(x, torch.Generator().manual_seed(0))
    values["loss"].backward()
    assert torch.isfinite(values["loss"])
    assert model.encoder.embed.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_signal_to_the_whole_group_leaves_a_checkpoint(digits, tmp_path):
    """As a cluster's scheduler sends it: the processes that augment must not be lost before."""
    child, alive = start_augmented(digits, tmp_path)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))
    wait_until(lambda: not alive(), 30)


@pytest.mark.slow
def test_processes_that_augment_end_with_a_run_that_is_killed(digits, tmp_path):
    child, alive = start_augmented(digits, tmp_path)
    assert len(alive()) >= 2
    child.kill()
    child.wait()
    wait_until(lambda: not alive(), 30)


def start_augmented(digits, tmp_path):
    """Start an endless run with a process that augments; return it and what tells who is alive."""
    pytest.importorskip("torchvision", reason="augmentations are torchvision's")
    settings = ["fit.workers=1", "augment.crop=pad", "augment.randaugment=9", "fit.epochs=10000"]
    command = [sys.executable, "-m", "partsig", "pretrain", "--modality", "image", "--gpus", "0"]
    command += ["--config", "image-tiny", "--store", str(digits), "--run", str(tmp_path / "run")]
    child = subprocess.Popen(
        [*command, *(part for item in settings for part in ("--set", item))],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def alive():
        """Processes of the run's group; none where there is no /proc."""
        found = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _parent, group = file.read_text().rpartition(")")[2].split()[:3]
                found += [file.parent.name] if int(group) == child.pid and state != "Z" else []
        return found

    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.stat().st_size > 0, 90)
    return child, alive


def wait_until(condition, seconds):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)
