"""Any encoder of timm, frozen: its features, maps and inputs are timm's own."""

import os
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from partsig.errors import CheckpointError, ConfigError
from partsig.interop.timm_encoder import TimmEncoder, TimmEncoderConfig, build, facts_of
from partsig.interop.timm_sources import open_timm
from partsig.interop.weights import read_weights
from partsig.runs.encoder_sources import rebuild

SMALL_VIT = {"embed_dim": 64, "depth": 3, "num_heads": 2, "img_size": 64}
MODELS = [
    ("vit_tiny_patch16_224", {"img_size": 64}),
    ("tf_efficientnet_lite0", {}),
    ("convnext_atto", {}),
    ("beit_base_patch16_224", SMALL_VIT),
    ("beitv2_base_patch16_224", SMALL_VIT | {"global_pool": "token"}),
    ("deit_tiny_distilled_patch16_224", SMALL_VIT),
    ("vit_small_patch14_reg4_dinov2", SMALL_VIT | {"img_size": 70}),
    ("eva02_tiny_patch14_224", {"img_size": 70, "depth": 2}),
    ("samvit_base_patch16_224", SMALL_VIT),
    ("resnet10t", {}),
    ("mobilenetv3_small_050", {}),
]
NAMES = [name for name, _ in MODELS]


def config_of(name, arguments, **changed):
    told = timm.get_pretrained_cfg(name)
    config = TimmEncoderConfig(
        model=name,
        arguments=arguments,
        size=arguments.get("img_size", 64),
        mean=tuple(told.mean),
        std=tuple(told.std),
        interpolation="bicubic",
    )
    return replace(config, **changed)


def made(name, arguments, **changed):
    """An encoder drawn at random, and timm's own model with the same weights."""
    torch.manual_seed(0)
    encoder = TimmEncoder(config_of(name, arguments, **changed)).eval()
    for module in encoder.modules():  # as if trained: else one batch norm is like another
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    theirs = timm.create_model(name, num_classes=0, **arguments).eval()
    theirs.load_state_dict(encoder.model.state_dict())
    return encoder, theirs


def pictures(size, n=2, channels=3):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(256, size=(n, channels, size, size)).astype(np.uint8))


@pytest.mark.parametrize(("name", "arguments"), MODELS, ids=NAMES)
@torch.inference_mode()
def test_features_are_timms_own(name, arguments):
    encoder, theirs = made(name, arguments)
    told = timm.get_pretrained_cfg(name)
    size = arguments.get("img_size", 64)
    change = timm.data.create_transform(
        (3, size, size), mean=told.mean, std=told.std, crop_pct=1.0, interpolation="bicubic"
    )
    x = pictures(size)
    wanted = torch.stack([change(Image.fromarray(one.permute(1, 2, 0).numpy())) for one in x])
    torch.testing.assert_close(encoder.prepared(x), wanted, atol=1e-6, rtol=1e-6)
    depth, exact = encoder.config.depth, {"atol": 1e-5, "rtol": 1e-5}
    last = depth - 1
    found = encoder.encode(x, taps=(last, 0))
    features = theirs.forward_features(wanted)
    torch.testing.assert_close(
        found.pooled, theirs.forward_head(features, pre_logits=True), **exact
    )
    assert found.pooled.shape == (2, encoder.pooled_width)
    torch.testing.assert_close(encoder(x), found.pooled, **exact)
    assert encoder.has_cls == hasattr(theirs, "cls_token")
    assert found.map.shape[:2] == (2, encoder.config.width)
    if encoder.has_cls:
        torch.testing.assert_close(found.cls, features[:, 0], **exact)
        patches = features[:, theirs.num_prefix_tokens :]
        torch.testing.assert_close(found.map.flatten(2).transpose(1, 2), patches, **exact)
        torch.testing.assert_close(found.mean, patches.mean(1), **exact)
    elif features.shape == found.map.shape:
        torch.testing.assert_close(found.map, features, **exact)
    options = {"return_prefix_tokens": True} if encoder.has_cls else {}
    for tap, one, beside in zip((last, 0), found.maps, found.prefix, strict=True):
        (expected,) = theirs.forward_intermediates(
            wanted, indices=[tap], intermediates_only=True, output_fmt="NCHW", **options
        )
        if encoder.has_cls:
            expected, prefix = expected
            torch.testing.assert_close(beside, prefix, **exact)
        else:
            assert beside is None
        torch.testing.assert_close(one, expected, **exact)
        assert one.shape[1] == encoder.tap_widths[tap]


@torch.inference_mode()
def test_normed_maps_of_the_last_block_are_the_last_map():
    encoder, _ = made("vit_tiny_patch16_224", {"img_size": 64})
    found = encoder.encode(pictures(64), taps=(11,), norm=True)
    torch.testing.assert_close(found.maps[0], found.map)
    torch.testing.assert_close(found.prefix[0][:, 0], found.cls)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [32, 50, 200])
def test_images_of_other_sizes_are_resized_as_pillow_does_it(interpolation, size):
    """Within one of 255 levels, and that for one value in fifty at most."""
    encoder = TimmEncoder(config_of("resnet10t", {}, interpolation=interpolation))
    x = pictures(size)
    how = getattr(Image, interpolation.upper())
    expected = [
        np.array(Image.fromarray(one.permute(1, 2, 0).numpy()).resize((64, 64), how)) for one in x
    ]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.config.mean, encoder.config.std))
    found = (encoder.prepared(x) * std + mean) * 255
    off = (found - torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2)).abs()
    assert off.max() < 1.01
    assert (off > 0.5).float().mean() < 0.02


@torch.inference_mode()
def test_one_channel_is_three_equal_ones():
    encoder, _ = made("convnext_atto", {})
    grey = pictures(64, channels=1)
    assert encoder.channels == (3, 1)
    torch.testing.assert_close(encoder(grey), encoder(grey.expand(-1, 3, -1, -1)))


@torch.inference_mode()
def test_other_sizes_than_its_own(tmp_path):
    """Position codes are interpolated as timm does it, after the weights were read."""
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    opened = open_timm("vit_tiny_patch16_224@96", tmp_path / "weights.pth")
    theirs.set_input_size(img_size=(96, 96))
    x = opened.encoder.prepared(pictures(40))
    assert x.shape[2:] == (96, 96)
    expected = theirs.forward_features(x)[:, 0]
    torch.testing.assert_close(opened.encoder(pictures(40)), expected, atol=1e-5, rtol=1e-5)
    again = rebuild(opened.facts, 3)
    again.load_state_dict(opened.encoder.state_dict())
    torch.testing.assert_close(again.eval()(pictures(40)), expected, atol=1e-5, rtol=1e-5)


def test_whose_weights_they_are(tmp_path):
    """The licence is timm's word on a tag; the hash is the file's."""
    name = "vit_tiny_patch16_224"
    torch.save({"model": timm.create_model(name).state_dict()}, tmp_path / "weights.pth")
    opened = open_timm(f"{name}.augreg_in21k", tmp_path / "weights.pth")
    assert (opened.method, opened.licence) == (f"timm:{name}.augreg_in21k", "apache-2.0")
    assert len(opened.sha256) == 64
    assert open_timm(name, tmp_path / "weights.pth").licence is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vit_tiny_patch15_224", "timm has no such model; nearest is 'vit_tiny_patch16_224'"),
        ("vit_tiny_patch16_224.dino", "timm has no weights 'dino' for vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224@", "it is a name, or NAME@SIZE"),
        ("vit_tiny_patch16_224@0", "it is a name, or NAME@SIZE"),
        ("vit_tiny_patch16_224@100", "cannot be used at 100 pixels|cannot take 100 pixels"),
        ("crossvit_9_240", "cannot be used at 240 pixels"),
    ],
)
def test_what_cannot_be_used_is_told(text, message, tmp_path):
    file = tmp_path / "weights.pth"
    base = text.partition("@")[0].partition(".")[0]
    if base in timm.list_models(base):
        torch.save(timm.create_model(base).state_dict(), file)
    with pytest.raises(ConfigError, match=message):
        open_timm(text, file)


def test_weights_that_do_not_fit_are_told_by_their_names(tmp_path):
    state = timm.create_model("convnext_atto").state_dict()
    file = tmp_path / "weights.pth"
    del state["stem.0.bias"]
    state["stem.9.bias"] = torch.zeros(3)
    state["stem.0.weight"] = torch.zeros(40, 3, 2, 2)
    torch.save(state, file)
    told = (
        r"does not fit the encoder: it lacks stem\.0\.bias; it has besides stem\.9\.bias; it "
        r"differs in stem\.0\.weight \(40x3x2x2, not 40x3x4x4\)"
    )
    with pytest.raises(ConfigError, match=told):
        open_timm("convnext_atto", file)


def test_taps_and_heads_that_there_are_not():
    encoder, _ = made("resnet10t", {})
    with pytest.raises(ConfigError, match="there is no block 5: the encoder has 5, numbered from"):
        encoder.encode(pictures(64), taps=(0, 5))
    with pytest.raises(ConfigError, match="has no projection head"):
        encoder.encode(pictures(64), project=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "hf-hub:somebody/something"},
        {"model": "no_such_model"},
        {"arguments": {"pretrained": True}},
        {"arguments": {"embed_dim": 10**9}},
        {"arguments": {"act_layer": "gelu"}},
        {"size": 10**9},
        {"size": "large"},
        {"interpolation": "lanczos"},
        {"mean": ["a"]},
        {"mean": None},
        {"mean": []},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5], "std": [0.5, 0.5]},
        {"std": [0.5, 0.5, 0]},
        {"std": [0.5, 0.5, float("nan")]},
        {"projector": {"kind": "moco"}},
        {"projector": {"kind": "moco", "widths": [10**9, 3]}},
        {"projector": {"kind": "other", "widths": [3, 3]}},
        {"more": 3},
        {"builder": None},
    ],
    ids=str,
)
def test_facts_from_a_file_are_not_believed(changed):
    encoder, _ = made("convnext_atto", {})
    facts = facts_of(encoder)
    assert build(facts).config == encoder.config
    with pytest.raises((CheckpointError, ConfigError)):
        rebuild(facts | changed, 3)
    with pytest.raises(CheckpointError):
        rebuild("convnext_atto", 3)


def test_weights_that_are_no_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "vit.pth")
    for path, kind in ((tmp_path / "vit.pth", "a pipe"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=f"is {kind}, not a regular file; it must hold"):
            read_weights(path)
