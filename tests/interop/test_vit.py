"""One encoder under the names of timm and torchvision gives the same features."""

import numpy as np
import pytest
import timm
import torch
from torchvision.models import VisionTransformer

from partsig.core.crop import crop_grid
from partsig.core.geometry import grid
from partsig.core.normalise import instance_normalise
from partsig.core.position import sincos
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.errors import CheckpointError, ConfigError
from partsig.interop import from_timm, to_timm, to_torchvision
from partsig.runs.models import load_encoder
from partsig.verbs.pretrain import pretrain

SMALL = {
    "size": 16,
    "patch_px": 4,
    "encoder.width": 32,
    "encoder.depth": 2,
    "encoder.heads": 4,
    "fit.epochs": 1,
    "fit.batch_size": 8,
    "objective.patches": 16,
    "optim.warmup_epochs": 0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a store of 40 random images in colour."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(256, size=(40, 3, 16, 16), dtype=np.uint8)
    items = [images.Item(f"train/{i:02d}", -1, "train", "made") for i in range(40)]
    source = images.Source(
        name="images",
        size=(16, 16),
        ch_names=("red", "green", "blue"),
        classes=(),
        items=items,
        read=lambda i: pixels[i],
    )
    store = folder / "store"
    meta = images.make_meta(source, 0.1)
    images.create(store, meta)
    arrays.write_arrays(store, 0, arrays.layers_of(meta), 40, enumerate(pixels[:, None]), True)
    images.write_index(store, [images.index_row(item, i) for i, item in enumerate(items)])
    return pretrain(store, folder / "run", modality="image", overrides=SMALL, gpus="0")


@pytest.fixture(scope="module")
def batch():
    x = torch.randint(256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(1)).float()
    return instance_normalise(x)[0]


def ours(run, batch):
    encoder = load_encoder(run).encoder
    with torch.inference_mode():
        return encoder.eval()(crop_grid(batch, (4, 4)))


def test_timms_features_are_ours(run, batch):
    tokens, cls = ours(run, batch)
    model = to_timm(run).eval()
    with torch.inference_mode():
        found = model.forward_features(batch)
    torch.testing.assert_close(found[:, 0], cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 1:], tokens, atol=1e-5, rtol=0)
    assert tokens.std() > 0.1


def test_position_codes_of_a_pretraining_are_taken_along(run, batch, tmp_path):
    """MAE's encoder has seen nothing without them."""
    settings = {key: value for key, value in SMALL.items() if key != "objective.patches"}
    settings |= {"objective.name": "mae", "objective.decoder.width": 16}
    settings |= {"objective.decoder.heads": 2}
    store = load_encoder(run).run.store
    mae = pretrain(store, tmp_path / "mae", modality="image", overrides=settings, gpus="0")
    encoder = load_encoder(mae).encoder
    centres, sizes = grid((16, 16), (4, 4))
    with torch.inference_mode():
        tokens, cls = encoder.eval()(
            crop_grid(batch, (4, 4)), None, sincos(centres / sizes - 0.5, 32)
        )
        found = to_timm(mae).eval().forward_features(batch)
        torch.testing.assert_close(found[:, 1:], tokens, atol=1e-5, rtol=0)
        model = to_torchvision(mae).eval()
        model.heads = torch.nn.Identity()
        torch.testing.assert_close(model(batch), cls, atol=1e-5, rtol=0)


def test_the_mean_of_the_tokens_is_timms_pooled_features(run, batch):
    with torch.inference_mode():
        found = to_timm(run, global_pool="avg").eval()(batch)
    torch.testing.assert_close(found, ours(run, batch)[0].mean(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options", [{"reg_tokens": 2}, {"fc_norm": True}, {"init_values": 0.1}, {"depth": 5}]
)
def test_options_that_need_other_weights_are_refused(run, options):
    with pytest.raises(ConfigError, match="a ViT that has other weights than the run"):
        to_timm(run, global_pool="avg", **options)


def test_a_model_of_timms_factory_takes_our_weights(run, batch):
    names = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **names)
    model.load_state_dict(to_timm(run).state_dict())
    with torch.inference_mode():
        found = model.eval().forward_features(batch)
    torch.testing.assert_close(found[:, 0], ours(run, batch)[1], atol=1e-5, rtol=0)


def test_torchvisions_features_are_ours(run, batch):
    model = to_torchvision(run, num_classes=3).eval()
    assert isinstance(model, VisionTransformer)
    model.heads = torch.nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(model(batch), ours(run, batch)[1], atol=1e-5, rtol=0)


def test_there_and_back_is_the_same_encoder(run):
    encoder = load_encoder(run).encoder
    again = from_timm(to_timm(run, num_classes=7))
    assert again.config.heads == encoder.config.heads
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_a_vit_of_another_build_is_refused():
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, init_values=1e-5, reg_tokens=2
    )
    with pytest.raises(ConfigError, match=r"this ViT has .*reg_token.* a plain one"):
        from_timm(model)


def test_options_that_timm_refuses_are_told(run):
    with pytest.raises(ConfigError, match="timm makes no ViT with these options"):
        to_timm(run, class_token=False)


def test_what_computes_otherwise_is_not_taken_over():
    relu = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, act_layer=torch.nn.ReLU)
    with pytest.raises(ConfigError, match=r"has ReLU\(\) in its blocks; one with GELU"):
        from_timm(relu)
    with pytest.raises(ConfigError, match="ResNet is no ViT of timm"):
        from_timm(timm.create_model("resnet10t"))


def test_a_run_on_signals_is_refused(sample_store, tmp_path):
    settings = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    settings |= {"fit.batch_size": 8, "windows_per_epoch": 8, "optim.warmup_epochs": 0}
    path = pretrain(sample_store, tmp_path / "run", overrides=settings, gpus="0")
    with pytest.raises(CheckpointError, match="was pretrained on signals"):
        to_timm(path)


def test_a_run_whose_patches_see_themselves_alone_is_refused(run, tmp_path):
    store = load_encoder(run).run.store
    settings = SMALL | {"encoder.attention": "patch", "fit.epochs": 1}
    settings |= {"objective.name": "relative-positioning", "objective.far": 3.0}
    alone = pretrain(store, tmp_path / "run", modality="image", overrides=settings, gpus="0")
    for other in (to_timm, to_torchvision):
        with pytest.raises(CheckpointError, match=r"with encoder\.attention=patch; in other ViTs"):
            other(alone)


def test_images_of_another_size_are_given_interpolated_codes(batch, tmp_path, run):
    """As timm itself does it with a model of the first size."""
    settings = SMALL | {"objective.positions": "sincos"}
    store = run.parent / "store"
    other = pretrain(store, tmp_path / "run", modality="image", overrides=settings, gpus="0")
    large = to_timm(other, img_size=24).eval()
    theirs = to_timm(other).eval()
    theirs.set_input_size(img_size=24)
    torch.testing.assert_close(large.pos_embed, theirs.pos_embed)
    x = torch.nn.functional.interpolate(batch, 24)
    with torch.inference_mode():
        torch.testing.assert_close(large.forward_features(x), theirs.forward_features(x))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"act_layer": torch.nn.ReLU}, "ReLU"), ({"num_heads": 2}, "of other heads than the run's 4")],
)
def test_options_that_make_other_features_of_the_same_weights_are_refused(run, options, named):
    with pytest.raises(ConfigError, match=named):
        to_timm(run, **options)
