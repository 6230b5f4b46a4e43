"""The head of segmentation: any rank, taps of any grid, windows, what is ignored, what is kept."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import Encoded, FrozenEncoder, FrozenTransformer
from partsig.core.objectives import segmenter
from partsig.core.objectives.segmenter import (
    DenseHead,
    KeptMaps,
    Segmenter,
    brought,
    default_taps,
    judged,
    windows,
)
from partsig.core.settings import EncoderConfig
from partsig.errors import ConfigError

RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


def transformer(rank, depth=6):
    torch.manual_seed(0)
    shape = EncoderConfig(width=16, depth=depth, heads=2)
    return FrozenTransformer(Encoder(shape, 2, (4,) * rank), 2, (4,) * rank).eval()


class Pooling(FrozenEncoder):
    """Means over 2, 4 and 8 samples: maps of three grids that can be computed by hand."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.channels, self.tap_widths, self.pooled_width = rank, (1,), (1,) * 3, 1
        self.config = type("Shape", (), {"width": 1, "depth": 3})()
        self.calls = 0

    def encode(self, x, taps=(), norm=False, project=False):
        self.calls += 1
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.rank - 1]
        maps = [pool(x.float(), 2 ** (k + 1)) for k in range(3)]
        return Encoded(
            pooled=maps[-1].flatten(2).mean(2), map=maps[-1], cls=None,
            maps=tuple(maps[tap] for tap in taps), prefix=(None,) * len(taps),
        )  # fmt: skip


class Items:
    """Inputs in memory, as what is trained on."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def in_order(self, size):
        return (self.x[i : i + size] for i in range(0, len(self.x), size))


@RANKS
def test_every_place_of_any_rank_has_logits_of_every_class(rank):
    model = Segmenter(transformer(rank), n_classes=3)
    assert model.taps == (1, 2, 3, 5)
    x = torch.randn(2, 2, *(16, 8, 8)[:rank])
    assert model.logits(x).shape == (2, 3, *x.shape[2:])
    assert model.head.norm.num_features == 4 * 16


def test_a_signal_is_an_image_of_height_one():
    """The same weights on the same values; bilinear along an axis of one place changes nothing."""
    line, plane = Segmenter(Pooling(1), 3), None
    x = torch.randn(2, 1, 16)
    plane = Segmenter(_Flat(), 3)
    plane.head = line.head
    for model in (line, plane):
        model.eval()
    torch.testing.assert_close(plane.logits(x.unsqueeze(2)).squeeze(2), line.logits(x))


class _Flat(Pooling):
    def __init__(self):
        super().__init__(2)

    def encode(self, x, taps=(), norm=False, project=False):
        found = Pooling(1).encode(x.squeeze(2), taps)
        return Encoded(
            pooled=found.pooled, map=found.map.unsqueeze(2), cls=None,
            maps=tuple(one.unsqueeze(2) for one in found.maps), prefix=found.prefix,
        )  # fmt: skip


@RANKS
def test_the_head_is_batch_norm_and_a_convolution_of_extent_one(rank):
    torch.manual_seed(1)
    head = DenseHead(5, 3)
    nn.init.normal_(head.norm.weight), nn.init.normal_(head.norm.bias)
    joint = torch.randn(4, 5, *(6, 3, 2)[:rank])
    expected = torch.empty(4, 3, *joint.shape[2:])
    mean = joint.transpose(0, 1).flatten(1).mean(1)
    spread = joint.transpose(0, 1).flatten(1).std(1, unbiased=False)
    for place in np.ndindex(*joint.shape[2:]):
        at = (slice(None), slice(None), *place)
        normal = (joint[at] - mean) / (spread**2 + head.norm.eps).sqrt()
        normal = normal * head.norm.weight + head.norm.bias
        expected[at] = normal @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(joint), expected, rtol=1e-4, atol=1e-5)


def test_at_test_an_item_does_not_depend_on_the_others():
    model = Segmenter(Pooling(2), 3)
    x = torch.randn(6, 1, 16, 16)
    model(x, torch.zeros(6, 16, 16, dtype=torch.uint8))
    model.eval()
    torch.testing.assert_close(model.logits(x)[:1], model.logits(x[:1]))


@pytest.mark.parametrize(("extent", "window", "stride"), [((17,), 8, 3), ((16, 11), 8, 8)])
def test_windows_cover_every_place_and_are_of_one_size(extent, window, stride):
    seen = np.zeros(extent, int)
    for place in windows(extent, window, stride):
        seen[place] += 1
        assert [part.stop - part.start for part in place] == [min(window, n) for n in extent]
    assert seen.min() >= 1


def test_an_input_of_one_window_is_looked_at_once():
    one, whole = Segmenter(Pooling(2), 3, window=16, stride=8), Segmenter(Pooling(2), 3)
    one.load_state_dict(whole.state_dict())
    one.eval(), whole.eval()
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(one.logits(x), whole.logits(x), rtol=0, atol=0)
    assert one.encoder.calls == 1
    one.logits(torch.randn(1, 1, 16, 24))
    assert one.encoder.calls == 1 + 2


def test_windows_that_overlap_are_averaged():
    model = Segmenter(Pooling(1), 2, window=8, stride=4).eval()
    x = torch.randn(1, 1, 12)
    expected, count = torch.zeros(1, 2, 12), torch.zeros(12)
    for at in (0, 4):
        expected[..., at : at + 8] += model.logits(x[..., at : at + 8])
        count[at : at + 8] += 1
    torch.testing.assert_close(model.logits(x), expected / count)


def test_what_is_ignored_counts_nowhere():
    torch.manual_seed(2)
    logits = torch.randn(2, 3, 5, requires_grad=True)
    labels = torch.randint(0, 3, (2, 5)).to(torch.uint8)
    labels[0, :3] = 255
    told = judged(logits, labels)
    known = labels != 255
    rows = logits.transpose(1, 2)[known]
    torch.testing.assert_close(told["loss"], F.cross_entropy(rows, labels[known].long()))
    assert told["accuracy"] == (rows.argmax(1) == labels[known]).float().mean()
    told["loss"].backward()
    assert (logits.grad.transpose(1, 2)[~known] == 0).all()
    nothing = judged(logits, torch.full((2, 5), 255))
    assert nothing["loss"] == 0
    assert nothing["accuracy"] == 0


def test_the_encoder_stays_as_it_is_and_the_head_learns():
    encoder = transformer(2)
    before = copy.deepcopy(encoder.state_dict())
    model = Segmenter(encoder, 2).train()
    assert not encoder.training
    x = torch.randn(3, 2, 8, 8)
    labels = (x[:, 0] > 0).to(torch.uint8)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(30):
        told = model(x, labels)
        optimiser.zero_grad()
        told["loss"].backward()
        optimiser.step()
        losses.append(told["loss"].item())
    assert losses[-1] < losses[0]
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@RANKS
def test_it_learns_by_heart_what_the_maps_tell(rank):
    """Half of each item is high: a place's class is what the mean about it says."""
    x = torch.zeros(3, 1, *(16, 8, 8)[:rank])
    x[..., 8 if rank == 1 else 4 :] = 1
    x[1] = 1 - x[1]
    labels = x[:, 0].to(torch.uint8)
    torch.manual_seed(0)
    model = Segmenter(Pooling(rank), 2)
    optimiser = torch.optim.AdamW(model.head.parameters(), 5e-2)
    for _ in range(60):
        told = model(x, labels)
        optimiser.zero_grad()
        told["loss"].backward()
        optimiser.step()
    model.eval()
    assert (model.logits(x).argmax(1) == labels).float().mean() == 1


def test_maps_are_made_once_and_are_those_of_the_items():
    x = np.random.default_rng(0).normal(size=(5, 1, 16)).astype(np.float32)
    encoder = Pooling(1)
    model = Segmenter(encoder, 2)
    model.look_at(Items(x))
    item = torch.tensor([3, 1])
    labels = torch.zeros(2, 16, dtype=torch.uint8)
    kept = model(torch.from_numpy(x[[3, 1]]), labels, item=item)
    assert encoder.calls == 1
    assert model(torch.from_numpy(x[[3, 1]]), labels, item=item)["loss"] == kept["loss"]
    assert encoder.calls == 1
    anew = Segmenter(Pooling(1), 2)
    anew.load_state_dict(model.state_dict())
    torch.testing.assert_close(anew(torch.from_numpy(x[[3, 1]]), labels)["loss"], kept["loss"])
    twin = copy.deepcopy(model)
    assert twin.kept.maps is None
    twin(torch.from_numpy(x[:1]), labels[:1], item=torch.tensor([0]))
    assert twin.kept.maps is None  # a copy is made to be measured, and keeps nothing


def test_too_many_are_made_anew(monkeypatch):
    x = np.zeros((5, 1, 16), np.float32)
    kept, encoder = KeptMaps(Items(x), most=100), Pooling(1)
    make = Segmenter(encoder, 2).maps
    assert kept.of(torch.tensor([0]), make, torch.device("cpu")) is None
    assert kept.of(torch.tensor([0]), make, torch.device("cpu")) is None
    assert encoder.calls == 1  # it was asked once what there would be
    assert segmenter.MOST_KEPT > 100


def test_taps_are_after_thirds_and_halves_and_can_be_chosen():
    assert [default_taps(n) for n in (12, 24, 2)] == [(3, 5, 7, 11), (7, 11, 15, 23), (0, 1)]
    assert Segmenter(Pooling(1), 2, taps=(2,)).head.norm.num_features == 1
    with pytest.raises(ConfigError, match="there is no block 3"):
        Segmenter(Pooling(1), 2, taps=(3,))


def test_maps_are_brought_linearly():
    found = brought(torch.tensor([[[0.0, 1.0]]]), (4,))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))
