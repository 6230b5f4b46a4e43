"""The rivals of PART against their equations, for one, two and three axes."""

import dataclasses
import importlib.util
import math
from pathlib import Path

import pytest
import torch

from partsig.core import geometry
from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.masking import kept, shuffled, take
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.decoder import DecoderConfig
from partsig.core.objectives.droppos import DropPos, DropPosConfig
from partsig.core.objectives.mae import Mae, MaeConfig
from partsig.core.objectives.mp3 import Mp3, Mp3Config
from partsig.core.objectives.part import Part
from partsig.core.objectives.part_masked import PartMasked, PartMaskedConfig
from partsig.core.objectives.relative_positioning import (
    RelativePositioning,
    RelativePositioningConfig,
)
from partsig.errors import ConfigError

ORACLE = Path(__file__).parents[1] / "oracles" / "rivals_oracle.py"
spec = importlib.util.spec_from_file_location("rivals_oracle", ORACLE)
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

WINDOWS = {1: ((60,), (5,)), 2: ((12, 16), (4, 4)), 3: ((8, 8, 8), (4, 4, 2))}
COUNTS = {1: (12,), 2: (3, 4), 3: (2, 2, 4)}
ranks = pytest.mark.parametrize("rank", WINDOWS)
SMALL = EncoderConfig(width=24, depth=2, heads=4, drop_path=0.0)
DECODER = {"decoder": DecoderConfig(width=12, depth=1, heads=2)}


def build(cls, config, rank, shape=SMALL):
    torch.manual_seed(0)
    window, patch = WINDOWS[rank]
    model = cls(config, Encoder(shape, 3, patch), window, patch).double()
    for parameter in model.parameters():  # far from the small start, so that everything matters
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch(rank, n=3):
    x = torch.randn(n, 3, *WINDOWS[rank][0], generator=draw(5), dtype=torch.float64)
    return instance_normalise(x)[0]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def same(model, loss, expected):
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    wanted = torch.autograd.grad(expected, model.parameters(), allow_unused=True)
    found = torch.autograd.grad(loss, model.parameters(), allow_unused=True)
    names = [name for name, _ in model.named_parameters()]
    for name, a, b in zip(names, found, wanted, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)


def grid_index(rank):
    return [tuple(map(float, at)) for at in torch.ones(COUNTS[rank]).nonzero().tolist()]


@ranks
@pytest.mark.parametrize("mode", ["patch", "channel", "raw"])
def test_mae_is_its_equation_forward_and_gradient(rank, mode):
    model = build(Mae, MaeConfig(mask_ratio=0.75, target=mode, **DECODER), rank)
    x = batch(rank)
    order = shuffled(len(x), len(model.code), draw(3))
    found = model(x, draw(3))
    same(model, found["loss"], oracle.mae_loss(model, x, order, mode))
    assert model.n_kept == int(len(model.code) * 0.25)
    if mode == "patch":  # each target has variance 1: chance is 1 but for the unbiased divisor
        values = 3 * math.prod(WINDOWS[rank][1])
        assert found["chance"].item() == pytest.approx((values - 1) / values, abs=1e-4)


@ranks
def test_maes_masked_patches_are_not_seen(rank):
    model = build(Mae, MaeConfig(**DECODER), rank).eval()
    patches = crop_grid(batch(rank), model.patch)
    level = torch.zeros(3, 3)
    order = shuffled(3, len(model.code), draw(1))
    other = patches.clone()
    window = torch.arange(3)[:, None]
    other[window, order[:, model.n_kept :]] = 7.0
    torch.testing.assert_close(
        model.reconstruct(model.encoder, patches, level, order),
        model.reconstruct(model.encoder, other, level, order),
    )


@ranks
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75])
def test_mp3_is_its_equation_forward_and_gradient(rank, ratio):
    model = build(Mp3, Mp3Config(mask_ratio=ratio), rank)
    x = batch(rank)
    order = shuffled(len(x), model.n_patches, draw(3))
    same(model, model(x, draw(3))["loss"], oracle.mp3_loss(model, x, order))


@ranks
def test_mp3_knows_nothing_of_the_order_of_the_grid(rank):
    model = build(Mp3, Mp3Config(), rank).eval()
    patches = crop_grid(batch(rank), model.patch)
    keys = shuffled(3, model.n_patches, draw(1))[:, : model.n_keys]
    order = torch.randperm(model.n_patches, generator=draw(2))
    straight = model.predict(patches, None, keys)
    moved = model.predict(patches[:, order], None, order.argsort()[keys])
    torch.testing.assert_close(moved, straight[:, order])


@ranks
@pytest.mark.parametrize("progress", [0.0, 0.6, 1.0])
def test_droppos_is_its_equation_forward_and_gradient(rank, progress):
    config = DropPosConfig(mask_ratio=0.3, position_ratio=0.6, sigma=1.5, **DECODER)
    model = build(DropPos, config, rank)
    x = batch(rank)
    order = shuffled(len(x), len(model.code), draw(3))
    expected = oracle.droppos_loss(model, x, order, 1.5 * (1 - progress), grid_index(rank))
    same(model, model(x, draw(3), progress=progress)["loss"], expected)


def test_droppos_counts_as_published_for_thirty_patches():
    encoder = Encoder(SMALL, 3, (5,))
    usual = DropPos(DropPosConfig(**DECODER), encoder, (150,), (5,))
    assert (usual.n_seen, usual.n_told) == (7, 1)
    fifth = DropPos(DropPosConfig(position_ratio=0.2, **DECODER), encoder, (150,), (5,))
    assert (fifth.n_seen, fifth.n_told) == (7, 5)


def test_droppos_smoothing_spreads_over_all_positions_and_vanishes():
    model = build(DropPos, DropPosConfig(**DECODER), 1)
    wide = model.smoothed(1.0)
    torch.testing.assert_close(wide.sum(-1), torch.ones(12, dtype=wide.dtype))
    torch.testing.assert_close(wide[5, 6] / wide[5, 5], torch.tensor(math.exp(-1)).to(wide.dtype))
    assert torch.equal(model.smoothed(0.0), torch.eye(12))


BOUNDS = {1: (2.5, 4.0), 2: (1.5, 1.8), 3: (1.2, 1.6)}
ALONE = dataclasses.replace(SMALL, attention="patch")


@ranks
@pytest.mark.parametrize("shape", [SMALL, ALONE], ids=["window", "patch"])
def test_relative_positioning_is_its_equation_forward_and_gradient(rank, shape):
    near, far = BOUNDS[rank]
    config = RelativePositioningConfig(patches=7, near=near, far=far)
    model = build(RelativePositioning, config, rank, shape)
    x = batch(rank)
    positions, sizes = geometry.off_grid(len(x), 7, *WINDOWS[rank], draw(3))
    found = model(x, draw(3))
    expected = oracle.relative_positioning_loss(model, x, (positions - sizes / 2).long())
    same(model, found["loss"], expected)
    assert 0 < found["accuracy"] < 1


def test_relative_positioning_is_even_and_learns_what_lies_near():
    """A random walk: patches of like value lie near, more often than not."""
    config = RelativePositioningConfig(patches=10, near=2.0, far=4.0)
    torch.manual_seed(0)
    model = RelativePositioning(config, Encoder(ALONE, 1, (5,)), (60,), (5,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draws, noise = draw(1), draw(2)
    accuracies = []
    for _ in range(150):
        x = torch.randn(32, 1, 60, generator=noise).cumsum(-1)
        values = model(x, draws)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        accuracies.append(values["accuracy"].item())
    assert sum(accuracies[:5]) / 5 < 0.6
    assert sum(accuracies[-20:]) / 20 > 0.68
    patches = torch.randn(2, 4, 1, 5)
    pairs = torch.tensor([[0, 1], [2, 3]])
    torch.testing.assert_close(
        model.predict(patches, None, pairs), model.predict(patches, None, pairs.flip(1))
    )


def test_a_kind_of_pair_that_is_missing_is_missing_in_chance_too():
    """Far pairs only: half of the loss and of the accuracy is 0, and so is half of chance."""
    config = RelativePositioningConfig(patches=2, near=1.0, far=1.0)
    model = build(RelativePositioning, config, 1)
    found = [model(batch(1, n=1), draw(seed)) for seed in range(12)]
    assert {values["chance_accuracy"].item() for values in found} <= {0.0, 0.25}
    for values in found:
        assert values["accuracy"] <= 2 * values["chance_accuracy"]
        assert (values["loss"] > 0) == (values["chance_accuracy"] > 0)


def test_relative_positioning_needs_a_window_that_has_both():
    with pytest.raises(ConfigError, match=r"two of a window's 6 lie 11 apart at most: none are f"):
        build(RelativePositioning, RelativePositioningConfig(patches=6, far=11.0), 1)
    with pytest.raises(ConfigError, match=r"objective\.patches is 1: there is no pair"):
        build(RelativePositioning, RelativePositioningConfig(patches=1), 1)
    with pytest.raises(ConfigError, match=r"objective\.far \(2\) must not be below .*near \(3\)"):
        RelativePositioningConfig(far=2.0)


@ranks
def test_a_patch_that_attends_to_itself_alone_knows_nothing_of_the_others(rank):
    torch.manual_seed(0)
    encoder = Encoder(ALONE, 3, WINDOWS[rank][1]).double().eval()
    patches = crop_grid(batch(rank), WINDOWS[rank][1])
    tokens, cls = encoder(patches)
    one, _ = encoder(patches[:, 2:3])
    torch.testing.assert_close(one, tokens[:, 2:3])
    other = patches.clone()
    other[:, 0] = 3.0
    moved, seen = encoder(other)
    assert torch.equal(moved[:, 1:], tokens[:, 1:])
    assert not torch.allclose(seen, cls)
    torch.testing.assert_close(encoder(patches, cls_only=True)[1], cls)
    some = torch.tensor([[3, 0]]).expand(len(patches), -1)
    seen, _ = encoder(patches, keys=some)  # who may be attended to changes nothing for the others
    torch.testing.assert_close(seen, tokens)


@ranks
def test_part_and_masked_patches_are_the_two_losses_on_one_encoder(rank):
    usual = {"patches": 5, "relative": "pairwise-mlp", "hidden": 8, "reconstruct": 2.5}
    config = PartMaskedConfig(**usual, mask_ratio=0.5, **DECODER)
    model = build(PartMasked, config, rank)
    x = batch(rank)
    draws = draw(3)
    related = Part.forward(model, x, draws)["loss"]  # the same draws, one after the other
    order = shuffled(len(x), len(model.masked.code), draws)
    masked = model.masked
    masked.encoder = model.encoder  # as the oracle of MAE wants it
    expected = related + 2.5 * oracle.mae_loss(masked, x, order, "patch")
    del masked.encoder
    same(model, model(x, draw(3))["loss"], expected)
    assert not any(name.startswith("masked.encoder") for name in model.state_dict())


def test_mp3_needs_patches_around():
    with pytest.raises(ConfigError, match=r"encoder\.attention=patch shows none"):
        build(Mp3, Mp3Config(), 1, ALONE)


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (RelativePositioning, RelativePositioningConfig(patches=4, near=2.5, far=4.0)),
        (Mae, MaeConfig(**DECODER)),
        (Mp3, Mp3Config()),
        (DropPos, DropPosConfig(mask_ratio=0.3, temperature=0.0, **DECODER)),
    ],
)
def test_a_batch_gives_the_same_loss_however_it_is_divided(cls, config):
    model = build(cls, config, 1).eval()
    x = batch(1, n=4)
    whole = model(x, draw(9))["loss"]
    parts = [model(x[i : i + 2], draw(9), share=(i, 4))["loss"] for i in (0, 2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize(
    ("cls", "config", "message"),
    [
        (Mae, MaeConfig(mask_ratio=0.95, **DECODER), "mask_ratio 0.95 leaves none of 12 patches"),
        (Mae, MaeConfig(mask_ratio=0.01, **DECODER), None),
        (DropPos, DropPosConfig(position_ratio=0.01, **DECODER), None),
    ],
)
def test_impossible_shares_are_refused(cls, config, message):
    if message is None and cls is Mae:  # 1 % of 12 still hides one: int() rounds what is kept down
        assert build(cls, config, 1).n_kept == 11
        return
    if message is None:
        assert build(cls, config, 1).n_told == 2
        return
    with pytest.raises(ConfigError, match=message):
        build(cls, config, 1)


def test_decoder_heads_must_divide_its_width():
    with pytest.raises(ConfigError, match=r"decoder\.width \(10\) must be a multiple"):
        DecoderConfig(width=10, heads=4)


def test_taking_and_restoring_an_order():
    x = torch.arange(24.0).view(2, 4, 3)
    order = shuffled(2, 4, draw())
    assert torch.equal(take(take(x, order), order.argsort(1)), x)
    assert kept(30, 0.8, "ratio") == 6
    assert sorted(order[0].tolist()) == [0, 1, 2, 3]


@ranks
def test_grid_patches_are_cut_in_the_order_of_the_grid(rank):
    x = batch(rank)
    assert torch.equal(crop_grid(x, WINDOWS[rank][1]), oracle.grid_patches(x, WINDOWS[rank][1]))
