import math

import pytest
import torch

from partsig.core.contrast import Projection, info_nce
from partsig.core.encoder import Encoder, EncoderConfig, log_spectrum
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.part import Part, PartConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig, LossConfig
from partsig.errors import ConfigError

WINDOWS = {1: ((80,), (5,)), 2: ((12, 32), (4, 4)), 3: ((8, 8, 16), (2, 4, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)


def encoder(patch, **options):
    torch.manual_seed(0)
    shape = {"width": 24, "depth": 2, "heads": 4, "drop_path": 0.0}
    return Encoder(EncoderConfig(**shape | options), 3, patch)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_info_nce_is_its_equation():
    a, b = torch.randn(2, 5, 7, dtype=torch.float64, generator=draw())
    found, _ = info_nce(a, b)
    total = 0.0
    for i in range(5):
        for x, y in ((a, b), (b, a)):
            near = [
                math.exp((x[i] @ y[j] / (x[i].norm() * y[j].norm())).item() / 0.1) for j in range(5)
            ]
            total -= math.log(near[i] / sum(near))
    assert found.item() == pytest.approx(total / 10, rel=1e-12)


def test_views_that_say_nothing_are_at_chance():
    same = torch.ones(8, 4)
    assert info_nce(same, same)[0].item() == pytest.approx(math.log(8))
    assert Projection(16)(torch.randn(3, 16)).shape == (3, 64)


@ranks
def test_context_compares_the_halves_of_one_window(rank):
    """Each half is related by itself, and what is compared are the two halves of a row."""
    window, patch = WINDOWS[rank]
    config = PartConfig(patches=6, context=2.0, relate=0.5)
    model = Part(config, encoder(patch), window, patch).eval()
    assert model.window == (*window[:-1], window[-1] // 2)
    x = torch.randn(4, 3, *window, generator=draw(1))
    found = model(x, draw(2))
    expected = 0.5 * found["loss_pairs"] + 2.0 * found["loss_context"]
    torch.testing.assert_close(found["loss"].detach(), expected)
    alone = Part(PartConfig(patches=6), model.encoder, model.window, patch).eval()
    alone.relative = model.relative
    both = torch.cat(x.chunk(2, dim=-1))
    torch.testing.assert_close(alone(both, draw(2))["loss"].detach(), found["loss_pairs"])
    swapped = torch.cat([both[4:], both[:4]], dim=-1)
    again = model(swapped, draw(2))["loss_context"]
    assert not torch.equal(again, found["loss_context"])  # other patches, the same comparison


@ranks
def test_patches_of_a_span_lie_together_anywhere(rank):
    window, patch = WINDOWS[rank]
    model = Part(PartConfig(patches=9, span=1.5), encoder(patch), window, patch)
    positions, sizes = model.sample(400, draw())
    low = (positions - sizes / 2).amin(1)
    high = (positions + sizes / 2).amax(1)
    assert (high - low <= torch.tensor([round(1.5 * p) for p in patch])).all()
    assert (low >= 0).all()
    assert (high <= torch.tensor(window)).all()
    for axis, length in enumerate(window):  # over the batch, the whole window is visited
        assert low[:, axis].min() == 0
        assert high[:, axis].max() == length
    x = torch.randn(2, 3, *window)
    assert model(x, draw())["loss"].isfinite()


@ranks
def test_stretches_lie_anywhere_and_pairs_stay_within_one(rank):
    window, patch = WINDOWS[rank]
    config = PartConfig(patches=12, span=1.5, stretches=3, loss="histogram")
    model = Part(config, encoder(patch), window, patch)
    positions, sizes = model.sample(400, draw())
    assert positions.shape == (400, 12, rank)
    wide = torch.tensor([round(1.5 * p) for p in patch])
    low, high = positions - sizes / 2, positions + sizes / 2
    for k in range(3):
        mine = slice(4 * k, 4 * k + 4)
        assert (high[:, mine].amax(1) - low[:, mine].amin(1) <= wide).all()
    assert (high.amax(1) - low.amin(1) > wide).any()
    pairs = model.draw_pairs(draw())
    assert len(set(map(tuple, pairs.tolist()))) == 3 * 16
    assert (pairs[:, 0] // 4 == pairs[:, 1] // 4).all()
    # Half a patch is the furthest: the histogram has three bins an axis.
    assert model.predict(model.crop(torch.randn(2, 3, *window), positions[:2], sizes[:2]), pairs)[
        0
    ].shape == (48, 3 * rank)
    assert model(torch.randn(2, 3, *window), draw())["loss"].isfinite()


@ranks
def test_loss_on_pairs_that_do_not_overlap(rank):
    window, patch = WINDOWS[rank]
    model = Part(PartConfig(patches=6, loss_on="apart"), encoder(patch), window, patch).eval()
    x = torch.randn(3, 3, *window, generator=draw(1))
    found = model(x, draw(4))["loss"]
    positions, sizes = model.sample(3, draw(4))
    patches = model.crop(instance_normalise(x)[0], positions, sizes)
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    predicted = model.predict(patches, pairs)
    kept = []
    for b in range(3):
        for number, (i, j) in enumerate(pairs.tolist()):
            shift = (positions[b, j] - positions[b, i]) / sizes[b, i]
            if (shift.abs() >= 1).any():
                kept.append((predicted[b, number] - shift).square().mean())
    torch.testing.assert_close(found, torch.stack(kept).mean())


def test_contradictory_objectives_are_refused():
    with pytest.raises(ConfigError, match="are all 0: nothing to learn"):
        PartConfig(relate=0.0)
    with pytest.raises(ConfigError, match="span is for off-grid patches, not for grid"):
        PartConfig(span=5, sampling="grid")
    with pytest.raises(ConfigError, match=r"objective\.span is 0\.5; it must be at least 1"):
        PartConfig(span=0.5)
    with pytest.raises(ConfigError, match=r"stretches=3 needs .* \(here 10\) to be a multiple"):
        PartConfig(span=5, stretches=3, patches=10)


@ranks
def test_spectra_are_numpys(rank):
    import numpy as np

    _, patch = WINDOWS[rank]
    patches = torch.randn(2, 4, 3, *patch, dtype=torch.float64, generator=draw())
    level = torch.randn(2, 3, dtype=torch.float64, generator=draw(1))
    found = log_spectrum(patches, level)
    x = patches.numpy()
    for axis, p in enumerate(patch):
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(p) / p) if p > 1 else np.ones(1)
        x = x * taper.reshape(p, *(1,) * (rank - 1 - axis))
    power = np.abs(np.fft.fftn(x, axes=range(3, 3 + rank))) ** 2
    power = power[..., : patch[-1] // 2 + 1]
    expected = (np.log(power + 1e-2) + 2 * level.numpy().reshape(2, 1, 3, *(1,) * rank)) / 3
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_spectral_tokens_know_the_level_and_linear_ones_do_not():
    for tokens, knows in (("linear", False), ("linear+spectrum", True)):
        model = Classifier(ClassifierConfig(), encoder((5,), tokens=tokens), (40,), (5,), 4).eval()
        x = torch.randn(2, 3, 40, generator=draw()) * 20
        same = torch.allclose(model.logits(x), model.logits(3 * x), atol=1e-5)
        assert same is not knows


def test_mixup_and_channel_dropout_act_in_training_only():
    torch.manual_seed(1)
    loss = LossConfig(smoothing=0.0, mixup=0.4, channel_dropout=0.5)
    model = Classifier(ClassifierConfig(pool="mean"), encoder((5,)), (40,), (5,), 4, loss)
    x, labels = torch.randn(6, 3, 40, generator=draw()), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = torch.nn.functional.cross_entropy(model.eval().logits(x), labels)
    torch.testing.assert_close(model(x, labels)["loss"], plain)
    model.train()
    torch.manual_seed(5)
    first = model(x, labels)["loss"]
    torch.manual_seed(5)
    assert torch.equal(model(x, labels)["loss"], first)
    assert not torch.allclose(first, plain)
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    torch.manual_seed(5)
    torch.testing.assert_close(model(x, one_hot)["loss"], first)


def test_pooling_shapes_and_layers_above():
    for pool, width in (("cls", 24), ("mean", 24), ("mean+sd", 48), ("mean+sd+spectrum", 57)):
        model = Classifier(ClassifierConfig(pool=pool), encoder((5,)), (40,), (5,), 4)
        assert model.features(torch.randn(2, 3, 40)).shape == (2, width)
    above = {name: model.distance_from_head(name) for name, _ in model.named_parameters()}
    assert above["head.weight"] == above["encoder.norm.weight"] == 0
    assert above["encoder.blocks.1.mlp.0.weight"] == 1
    assert above["encoder.blocks.0.norm1.bias"] == 2
    assert above["encoder.embed.weight"] == above["positions"] == above["encoder.cls"] == 3


def test_sincos_positions_start_as_the_fixed_code():
    from partsig.core.position import sincos

    model = Classifier(ClassifierConfig(positions="sincos"), encoder((5,)), (40,), (5,), 4)
    expected = sincos(torch.arange(8.0).unsqueeze(1), 24)
    torch.testing.assert_close(model.positions[:-1].detach(), expected)
    assert (model.positions[-1] == 0).all()
