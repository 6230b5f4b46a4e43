"""Encoders of partsig's own as they are: what is tapped, for one, two and three axes."""

import pytest
import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.frozen_encoder import FrozenTransformer, joined
from partsig.core.geometry import grid_index
from partsig.core.objectives.frozen_classifier import FrozenClassifier
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.errors import ConfigError

PATCHES = {1: (5,), 2: (3, 2), 3: (2, 2, 3)}
COUNTS = (2, 3, 4)


def made(rank, positions="sincos", **options):
    torch.manual_seed(0)
    config = EncoderConfig(width=12, depth=3, heads=2, drop_path=0.0)
    encoder = Encoder(config, 2, PATCHES[rank]).eval()
    window = tuple(p * n for p, n in zip(PATCHES[rank], COUNTS, strict=False))
    x = torch.randn(4, 2, *window)
    return FrozenTransformer(encoder, 2, PATCHES[rank], positions, **options).eval(), x


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("positions", ["sincos", "none"])
@torch.inference_mode()
def test_it_makes_what_a_classifier_sees(rank, positions):
    frozen, x = made(rank, positions)
    settings = ClassifierConfig(positions=positions, pool="cls")
    head = Classifier(settings, frozen.encoder, x.shape[2:], frozen.patch, 2).eval()
    found = frozen.encode(x, taps=(2, 0), norm=True)
    for tap, one, beside in zip((2, 0), found.maps, found.prefix, strict=True):
        tokens, cls, _ = head.encode(x, "mean", tap + 1)
        torch.testing.assert_close(one.flatten(2).transpose(1, 2), tokens)
        torch.testing.assert_close(beside[:, 0], cls)
        assert one.shape == (4, 12, *COUNTS[:rank])
    torch.testing.assert_close(found.map, found.maps[0])
    torch.testing.assert_close(found.pooled, head.features(x))
    torch.testing.assert_close(found.mean, found.map.flatten(2).mean(2))


@pytest.mark.parametrize("rank", [1, 2, 3])
@torch.inference_mode()
def test_a_patch_lies_at_its_place_of_the_map(rank):
    """Of a patch that differs, the tokens before any block differ there alone."""
    frozen, x = made(rank)
    index = tuple(n - 1 for n in COUNTS[:rank])
    place = grid_index(x.shape[2:], frozen.patch).tolist().index(list(map(float, index)))
    tokens = torch.arange(24.0)[: len(grid_index(x.shape[2:], frozen.patch))]
    from partsig.core.frozen_encoder import on_grid

    found = on_grid(tokens.view(1, -1, 1), COUNTS[:rank])
    assert found[0, 0][index] == place


@torch.inference_mode()
def test_codes_of_its_own():
    frozen, x = made(1, "none")
    code = torch.randn(3, 12)
    own, _ = made(1, "none", code=code)
    assert not torch.allclose(own.encode(x).map, frozen.encode(x).map)
    assert "code" in own.state_dict()


@pytest.mark.parametrize("pool", ["cls", "mean", "mean+sd"])
@pytest.mark.parametrize("blocks", [0, 1, 3])
@torch.inference_mode()
def test_a_head_on_it_sees_what_one_on_the_encoder_sees(pool, blocks):
    frozen, x = made(1)
    head = FrozenClassifier(frozen, pool, 3, blocks)
    settings = ClassifierConfig(positions="sincos", pool=pool)
    ours = Classifier(settings, frozen.encoder, x.shape[2:], frozen.patch, 3).eval()
    tokens, cls, spectrum = ours.encode(x, pool if blocks == 0 else "mean", blocks)
    from partsig.core.objectives.supervised import pooled

    torch.testing.assert_close(head.features(x), pooled(pool, tokens, cls, spectrum))
    assert head.features(x).shape[1] == head.width_of(pool) == head.head.in_features
    assert head.depth == (blocks or 3)
    assert not head.train().encoder.training
    assert not any(p.requires_grad for p in head.encoder.parameters())


def test_mistakes_are_told():
    frozen, x = made(1)
    with pytest.raises(ConfigError, match="there is no block 3: the encoder has 3"):
        frozen.encode(x, taps=(3,))
    with pytest.raises(ConfigError, match="no projection head"):
        frozen.encode(x, project=True)
    with pytest.raises(ConfigError, match="is for partsig's own encoders"):
        FrozenClassifier(frozen, "mean+sd+spectrum", 2)
    with pytest.raises(ConfigError, match="blocks is 4; the encoder has 3"):
        FrozenClassifier(frozen, "mean", 2, 4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_maps_of_other_grids_are_joined_linearly(rank):
    first, ramp = torch.zeros(1, 2, *(8,) * rank), torch.arange(4.0)
    second = ramp.view(1, 1, *(1,) * (rank - 1), 4).expand(1, 1, *(4,) * rank)
    found = joined([first, second])
    assert found.shape == (1, 3, *(8,) * rank)
    row = found[0, 2].reshape(-1, 8)[0]
    # Centres of halves of a patch: a quarter of a patch from its own; level beyond the ends.
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    torch.testing.assert_close(row, torch.tensor(expected))
