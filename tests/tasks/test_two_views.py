"""The contrast on images: two views of each, found among those of a batch."""

import dataclasses

import numpy as np
import pytest
import torch

import partsig
from partsig.core.contrast import info_nce
from partsig.core.normalise import instance_normalise
from partsig.data.images.augment import AugmentConfig, Augmented, TwoViews
from partsig.errors import ConfigError
from partsig.interop import to_timm
from partsig.modalities.image_settings import ImagePretrainConfig
from partsig.modalities.images import IMAGES
from partsig.runs import directory as runs
from partsig.runs.models import build_objective, load_encoder
from partsig.train.journal import read_metrics
from partsig.verbs.pretrain import pretrain

VIEWS = {"augment.crop": "pad"}
SHORT = VIEWS | {
    "fit.epochs": 10, "encoder.width": 48, "encoder.depth": 2, "optim.warmup_epochs": 1,
    "windows_per_epoch": 320, "fit.batch_size": 64,
    "objective.context": 1.0, "objective.pairs": 0.1,
}  # fmt: skip
CHANGES = AugmentConfig(crop="resized", flip=0.5, jitter=0.4, hue=0.1, grey=0.2, blur=0.5)


def contrast(store, path, **more):
    return pretrain(
        store, path, modality="image", config="image-tiny", overrides=SHORT | more, gpus="0"
    )


@pytest.fixture(scope="module")
def run(made_once, digits):
    alone = {"objective.relate": 0.0, "objective.sampling": "grid", "objective.positions": "sincos"}
    alone |= {"objective.position_mask": 0.0}
    return made_once("two-views", lambda f: contrast(digits, f / "run", **alone)) / "run"


class Pictures:
    """Images of noise, three colours."""

    per_epoch = 6

    def batch(self, epoch, first, count):
        rng = np.random.default_rng(5)
        return rng.integers(0, 256, (6, 3, 24, 24), dtype=np.uint8)[first : first + count]


def test_views_are_side_by_side_and_do_not_depend_on_how_a_batch_is_cut():
    views = TwoViews(Pictures(), CHANGES, 16, seed=3)
    whole = views.batch(2, 0, 6)
    assert whole.shape == (6, 3, 16, 32)
    np.testing.assert_array_equal(whole[2:5], views.batch(2, 2, 3))
    left, right = whole[..., :16], whole[..., 16:]
    assert (left != right).any((1, 2, 3)).all()
    # The first is the one that there is without a second; another pass has others.
    np.testing.assert_array_equal(left, Augmented(Pictures(), CHANGES, 16, seed=3).batch(2, 0, 6))
    assert (views.batch(3, 0, 6) != whole).any()


def test_colours_are_taken_away_and_images_blurred():
    def changed(**settings):
        return Augmented(Pictures(), AugmentConfig(**settings), 24, seed=0).batch(0, 0, 6)

    grey = changed(grey=1.0)
    np.testing.assert_array_equal(grey[:, 0], grey[:, 2])
    plain, blurred = Pictures().batch(0, 0, 6).astype(float), changed(blur=1.0).astype(float)
    assert blurred.std() < plain.std()
    turned = changed(hue=0.5)
    assert (turned != plain).any()
    luma = [0.299, 0.587, 0.114]
    assert np.ptp(np.tensordot(luma, turned.astype(float), (0, 1))) > 100  # no image is lost


def test_the_loss_is_info_nce_of_the_views_projections(digits):
    settings = dataclasses.replace(
        ImagePretrainConfig(
            size=8, patch_px=4, augment=AugmentConfig(crop="resized", area=0.5),
            encoder=dataclasses.replace(ImagePretrainConfig().encoder, width=16, depth=1, heads=2),
        ),
    )  # fmt: skip
    objective = dataclasses.replace(
        settings.objective, sampling="grid", positions="sincos", position_mask=0.0,
        context=1.0, relate=0.0,
    )  # fmt: skip
    settings = dataclasses.replace(settings, objective=objective)
    assert settings.extents(1.0) == ((8, 16), (4, 4))
    torch.manual_seed(0)
    model = build_objective(1, (8, 16), (4, 4), settings, IMAGES.n_patches).eval()
    assert model.window == (8, 8)
    x = torch.randint(0, 256, (5, 1, 8, 16), dtype=torch.uint8)
    found = model(x, torch.Generator().manual_seed(1))
    # By hand: positions are known, so the order in which patches are given changes nothing.
    seen = torch.cat([x[..., :8], x[..., 8:]]).float()
    seen, _ = instance_normalise(seen)
    patches = seen.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3).permute(0, 2, 1, 3, 4)
    corner = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]) * 4.0 + 2
    where = corner.expand(10, -1, -1)
    code = model.positions(where, torch.full_like(where, 4.0), torch.zeros(10, 4, dtype=bool))
    tokens, _ = model.encoder(patches, None, code)
    first, second = model.project(tokens.mean(1)).chunk(2)
    loss, matched = info_nce(first, second)
    torch.testing.assert_close(found["loss"], loss)
    torch.testing.assert_close(found["context_accuracy"], matched)


@pytest.mark.slow
def test_the_other_view_is_found_on_images_that_were_not_trained_on(run, capsys):
    record = runs.read(run)
    assert record["config"]["objective"]["context"] == 1.0
    lines = [line for line in read_metrics(run) if "val_context_accuracy" in line]
    # Of the images that are held out, 64 at a time, one is right by chance.
    assert lines[-1]["val_context_accuracy"] > 0.1
    assert lines[-1]["val_loss_context"] < lines[0]["val_loss_context"]


@pytest.mark.slow
def test_its_encoder_is_used_as_any_other(run, digits, tmp_path):
    settings = load_encoder(run).settings
    assert settings.positions == "sincos"
    probe = {"train": "probe", "pool": "mean"}
    tuned = partsig.finetune(run, digits, tmp_path / "probe", overrides=probe, device="cpu")
    found = partsig.evaluate(tuned, figures=False, device="cpu")
    assert found.metrics["accuracy"] > 0.5  # chance .1
    assert to_timm(run).patch_embed.img_size == (8, 8)
    partsig.embed(run, digits, output=tmp_path / "e.npz", device="cpu")
    assert np.load(tmp_path / "e.npz")["embeddings"].shape[1] == 2 * 48


def test_beside_part_both_losses_are_learned(digits, tmp_path):
    path = contrast(digits, tmp_path / "run", **{"fit.epochs": 1, "objective.pairs": 1.0})
    line = [line for line in read_metrics(path) if "val_loss" in line][-1]
    expected = line["val_loss_pairs"] + line["val_loss_context"]
    assert line["val_loss"] == pytest.approx(expected, rel=1e-4)
    assert 0 <= line["val_sign"] <= 1


def test_views_that_nothing_makes_differ_are_refused(digits, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing makes them differ: pass --set augment\.crop"):
        contrast(digits, tmp_path / "run", **{"augment.crop": "none"})
    assert not (tmp_path / "run").exists()
