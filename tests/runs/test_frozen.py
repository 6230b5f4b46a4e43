"""What is taken of frozen encoders, of runs and of elsewhere, on the examples of a store."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from partsig.contracts import Dataset
from partsig.core.frozen_encoder import FrozenTransformer
from partsig.data.store import read_meta
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import registry
from partsig.modalities.image_dataset import open_dataset
from partsig.recipes.loading import load_model
from partsig.runs import features
from partsig.runs.encoder_sources import parse
from partsig.runs.frozen import open_frozen

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), file)
    return file


@pytest.fixture(scope="module")
def dataset(bright_images) -> Dataset:
    return open_dataset(bright_images)


@pytest.fixture(scope="module")
def vit(weights, dataset):
    return open_frozen(parse("timm:vit_tiny_patch16_224@64", weights), dataset)


@pytest.fixture(scope="module")
def examples(dataset):
    from partsig.data.images.examples import LabelledImages

    return LabelledImages(dataset.store, np.arange(10), 32)


def taken(encoder, examples, *what, **options):
    network = features.taken_of(encoder, what, **options)
    return np.concatenate(list(network.features(examples, CPU)))


@torch.inference_mode()
def test_vectors_maps_and_tokens_of_examples(vit, examples):
    x = torch.from_numpy(next(examples.in_order(10)))
    made = vit.encode(x, taps=(3, 11))
    exact = {"atol": 1e-5}
    np.testing.assert_allclose(taken(vit, examples, "pooled"), made.pooled, **exact)
    both = torch.cat([made.cls, made.mean], dim=1)
    np.testing.assert_allclose(taken(vit, examples, "cls", "mean"), both, **exact)
    assert taken(vit, examples, "map").shape == (10, 192, 4, 4)
    maps = taken(vit, examples, "map", taps=(3, 11))
    np.testing.assert_allclose(maps, torch.cat(made.maps, dim=1), **exact)
    prefix = taken(vit, examples, "prefix", taps=(3, 11))
    np.testing.assert_allclose(prefix, torch.cat(made.prefix, dim=2), **exact)
    normed = taken(vit, examples, "map", taps=(11,), norm=True)
    np.testing.assert_allclose(normed, made.map, **exact)


@pytest.mark.parametrize(
    ("what", "options", "told"),
    [
        (("colour",), {}, "what is taken of an encoder is 'colour'"),
        ((), {}, "nothing cannot be taken together"),
        (("map", "cls"), {}, "map and cls cannot be taken together"),
        (("cls",), {"taps": (1,)}, "cls is of the whole encoder; taps are for map, prefix"),
        (("prefix",), {}, "pass taps"),
        (("map",), {"taps": (12,)}, "there is no block 12"),
        (("projection",), {}, "no projection head"),
    ],
)
def test_what_cannot_be_taken_is_told_at_once(what, options, told, vit):
    with pytest.raises(ConfigError, match=told):
        features.taken_of(vit, what, **options)


def test_no_cls_is_told(dataset, examples, tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    net = open_frozen(parse("timm:resnet10t@64", tmp_path / "weights.pth"), dataset)
    with pytest.raises(ConfigError, match=r"has no \[CLS\]"):
        features.taken_of(net, ("cls",))
    with pytest.raises(ConfigError, match="no tokens besides those of its map"):
        taken(net, examples, "prefix", taps=(1,))
    joined = taken(net, examples, "map", taps=(1, 4))
    assert joined.shape == (10, 64 + 512, 16, 16)


def test_they_are_kept_apart_and_found_again(vit, examples, tmp_path, monkeypatch):
    """By what is taken of them, too: maps are not taken for vectors of the same encoder."""
    monkeypatch.setattr(features, "KEPT_FROM", 5)
    first = taken(vit, examples, "cls", folder=tmp_path)
    maps = taken(vit, examples, "map", taps=(3,), folder=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    monkeypatch.setattr(type(vit), "encode", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(taken(vit, examples, "cls", folder=tmp_path), first)
    np.testing.assert_array_equal(taken(vit, examples, "map", taps=(3,), folder=tmp_path), maps)


@torch.inference_mode()
def test_a_run_is_tapped_by_the_same_door(encoder_run, sample_store):
    opened = registry.of(read_meta(sample_store)).open(sample_store)
    encoder = open_frozen(parse(encoder_run), opened)
    assert isinstance(encoder, FrozenTransformer)
    x = torch.randn(4, 3, 500) * 30
    loaded = load_model(encoder_run).model.eval()
    tokens, cls, _ = loaded.encode(x, "mean")
    made = encoder.encode(x, taps=(0,), norm=True)
    torch.testing.assert_close(made.map.transpose(1, 2), tokens)
    torch.testing.assert_close(made.maps[0], made.map)
    torch.testing.assert_close(made.cls, cls)


def test_what_does_not_fit_is_told(weights, dataset, sample_store, encoder_run, tmp_path):
    signals = registry.of(read_meta(sample_store)).open(sample_store)
    name = parse("timm:vit_tiny_patch16_224@64", weights)
    with pytest.raises(ConfigError, match="takes images; the store holds signals"):
        open_frozen(name, signals)
    with pytest.raises(ConfigError, match="--from scratch has no weights"):
        open_frozen(parse("scratch"), dataset)
    with pytest.raises(CheckpointError):
        open_frozen(parse(encoder_run), dataset)
    with pytest.raises(CheckpointError):
        open_frozen(parse(Path("nowhere")), dataset)
