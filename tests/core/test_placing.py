import math
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from partsig.core import placing
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.part import Part, PartConfig
from partsig.errors import ConfigError

WINDOWS = {1: ((40,), (5,)), 2: ((12, 16), (4, 4)), 3: ((8, 8, 8), (2, 4, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)
SMALL = EncoderConfig(width=24, depth=2, heads=4, drop_path=0.0)


def part(rank, **options):
    torch.manual_seed(0)
    window, patch = WINDOWS[rank]
    encoder = Encoder(SMALL, 3, patch)
    model = Part(PartConfig(**{"patches": 8} | options), encoder, window, patch).double().eval()
    for parameter in model.relative.parameters():
        # Larger than at the start, so that predictions differ from pair to pair.
        nn.init.normal_(parameter, std=0.3)
    return model


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def windows(rank, n=3):
    return torch.randn(n, 3, *WINDOWS[rank][0], generator=draw(5), dtype=torch.float64)


class Reads(nn.Module):
    """Tokens that are the patch's mean of every channel."""

    def forward(self, patches, level=None, code=None):
        return patches.flatten(3).mean(-1), None


class Says(nn.Module):
    """A shift of ``worth`` times the difference of two tokens, plus ``own`` times the target."""

    def __init__(self, worth, own=0.0):
        super().__init__()
        self.worth, self.own = worth, own

    def forward(self, tokens, pairs):
        reference, target_ = tokens[:, pairs[:, 0]], tokens[:, pairs[:, 1]]
        return (target_ - reference) * self.worth + target_ * self.own


def ramps(rank, n=3):
    """Windows (n, D, *L) whose channel d is the coordinate along axis d; and its spread there."""
    extent = WINDOWS[rank][0]
    axes = [torch.arange(length, dtype=torch.float64) + 0.5 for length in extent]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(n, rank, *extent)
    return x, instance_normalise(x)[1][0].exp()


def handmade(rank, worth=1.0, own=0.0):
    """A PART that reads coordinates off ramps; ``worth`` 1 places exactly, 0 says nothing."""
    model = part(rank)
    model.encoder = Reads()
    model.relative = Says(worth * ramps(rank)[1] / torch.tensor(WINDOWS[rank][1]), own)
    return model


@ranks
def test_an_exact_model_places_everything_and_its_references_agree(rank):
    model = handmade(rank)
    positions, sizes = model.sample(3, draw())
    found = placing.place(model, ramps(rank)[0], positions, sizes)
    torch.testing.assert_close(found.shift, found.true.double(), atol=1e-5, rtol=0)
    assert found.true[1, 2, 5].tolist() == (positions[1, 5] - positions[1, 2]).tolist()
    expected = positions.unsqueeze(1).expand_as(found.where).double()
    torch.testing.assert_close(found.where, expected, atol=1e-5, rtol=0)
    assert placing.disagreement(found).abs().max() < 1e-5
    assert placing.asymmetry(found.shift).abs().max() < 1e-9
    assert found.surprise.abs().max() < 1e-9
    reference = torch.tensor([0, 3, 7])
    at = placing.placed(found, reference)
    torch.testing.assert_close(at, positions.double(), atol=1e-5, rtol=0)


@ranks
@pytest.mark.parametrize("own", [0.0, 2.0])
def test_references_that_say_nothing_of_themselves_disagree_by_one(rank, own):
    """A shift of zero, or one that depends on the target alone, leaves the references' spread."""
    model = handmade(rank, worth=0.0, own=own)
    found = placing.place(model, ramps(rank)[0], *model.sample(3, draw()))
    torch.testing.assert_close(
        placing.disagreement(found).double(), torch.ones(3, 8, dtype=torch.float64)
    )
    # However references are weighted.
    weight = torch.rand(3, 8, 8, generator=draw(1), dtype=torch.float64)
    torch.testing.assert_close(
        placing.disagreement(found, weight).double(), torch.ones(3, 8, dtype=torch.float64)
    )


@ranks
def test_half_the_way_is_half_the_disagreement(rank):
    model = handmade(rank, worth=0.5)
    found = placing.place(model, ramps(rank)[0], *model.sample(3, draw()))
    assert placing.disagreement(found).numpy() == pytest.approx(0.5, abs=1e-5)


def loops(model, x, positions, sizes, loss):
    """Shift, spread and surprise of every pair, one pair at a time."""
    normal, level = instance_normalise(x)
    tokens, _ = model.encoder(model.crop(normal, positions, sizes), level)
    batch, n, rank = positions.shape
    shift, spread = (torch.zeros(batch, n, n, rank, dtype=torch.float64) for _ in range(2))
    surprise = torch.zeros(batch, n, n, dtype=torch.float64)
    for b in range(batch):
        for i in range(n):
            for j in range(n):
                out = model.relative(tokens, torch.tensor([[i, j]]))[b, 0]
                for d in range(rank):
                    width = sizes[b, i, d].item()
                    true = (positions[b, j, d] - positions[b, i, d]).item() / width
                    if loss == "mse":
                        mean, scale = out[d].item(), 0.0
                        nats = (mean - true) ** 2
                    elif loss == "laplace":
                        mean = out[d].item()
                        scale = math.exp(-1 + 6 * math.tanh((out[rank + d].item() + 1) / 6))
                        nats = abs(mean - true) / scale + math.log(2 * scale)
                    else:
                        k = len(out) // rank
                        share = out[d * k : (d + 1) * k].softmax(0)
                        centres = [c - k // 2 for c in range(k)]
                        mean = sum(p.item() * c for p, c in zip(share, centres, strict=True))
                        scale = math.sqrt(
                            sum(
                                p.item() * (c - mean) ** 2
                                for p, c in zip(share, centres, strict=True)
                            )
                        )
                        nats = -sum(
                            max(0.0, 1 - abs(true - c)) * math.log(p.item())
                            for p, c in zip(share, centres, strict=True)
                        )
                    shift[b, i, j, d], spread[b, i, j, d] = mean * width, scale * width
                    surprise[b, i, j] += nats / rank
    return shift, spread, surprise


def disagree(positions, shift, spread, reach):
    """Disagreement of every target from the definition, with loops."""
    batch, n, rank = positions.shape
    found = torch.full((batch, n), math.nan, dtype=torch.float64)
    for b in range(batch):
        for j in range(n):
            weights, said, own = [], [], []
            for i in range(n):
                apart = (positions[b, j] - positions[b, i]).abs()
                if i == j or any(apart[d] > reach[d] for d in range(rank)):
                    continue
                sharp = 1.0
                if spread is not None:
                    sharp = 1 / max(sum(s.item() ** 2 for s in spread[b, i, j]), 0.25)
                weights.append(sharp)
                said.append((positions[b, i] + shift[b, i, j]).tolist())
                own.append(positions[b, i].tolist())
            if len(weights) < 2:
                continue
            top = bottom = 0.0
            for d in range(rank):
                for values, which in ((said, "top"), (own, "bottom")):
                    centre = sum(w * v[d] for w, v in zip(weights, values, strict=True))
                    centre /= sum(weights)
                    part_ = sum(
                        w * (v[d] - centre) ** 2 for w, v in zip(weights, values, strict=True)
                    )
                    if which == "top":
                        top += part_
                    else:
                        bottom += part_
            if bottom > 0:
                found[b, j] = math.sqrt(top / bottom)
    return found


@ranks
@pytest.mark.parametrize("loss", get_args(get_type_hints(PartConfig)["loss"]))
@pytest.mark.parametrize("span", [0.0, 1.5])
def test_all_numbers_equal_those_of_the_definitions(rank, loss, span):
    model = part(rank, loss=loss, span=span, relative="pairwise-mlp", hidden=16)
    x = windows(rank, 2)
    positions, sizes = placing.evenly(part(rank), 2, draw(3))  # over the whole window
    found = placing.place(model, x, positions, sizes)
    shift, spread, surprise = loops(model, x, positions, sizes, loss)
    torch.testing.assert_close(found.shift, shift)
    # Positions are float32, so true translations are exact to that only.
    torch.testing.assert_close(found.surprise, surprise, rtol=1e-6, atol=1e-5)
    if loss == "mse":
        assert found.spread is None
        spread = None
    else:
        torch.testing.assert_close(found.spread, spread)
    window, patch = WINDOWS[rank]
    within = [min(round(span * p), w) if span else w for p, w in zip(patch, window, strict=True)]
    reach = [w - p for w, p in zip(within, patch, strict=True)]
    expected = disagree(positions, shift, spread, reach)
    torch.testing.assert_close(
        placing.disagreement(found).double(), expected, equal_nan=True, rtol=1e-6, atol=1e-6
    )


def test_one_reference_is_no_agreement():
    model = part(1, patches=3, span=1.0 + 4 / 5)
    positions = torch.tensor([[[2.5], [4.5], [30.5]]])
    sizes = torch.full_like(positions, 5.0)
    found = placing.place(model, windows(1, 1), positions, sizes)
    assert found.near[0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert placing.disagreement(found).isnan().all()


@ranks
def test_unrelated_translations_violate_antisymmetry_by_one(rank):
    shift = torch.randn(4, 40, 40, rank, generator=draw())
    assert placing.asymmetry(shift).numpy() == pytest.approx(1.0, abs=0.15)
    assert placing.asymmetry(torch.zeros(1, 3, 3, rank)).tolist() == [0.0]


@ranks
def test_placing_by_one_reference_leaves_it_where_it_is(rank):
    model = part(rank)
    positions, sizes = model.sample(3, draw())
    found = placing.place(model, windows(rank), positions, sizes)
    at = placing.placed(found, torch.tensor([4, 0, 7]))
    assert at[0, 4].tolist() == positions[0, 4].tolist()
    torch.testing.assert_close(at[0, 2], positions[0, 4] + found.shift[0, 4, 2])


@ranks
def test_ordered_matrices_rise_along_their_axis(rank):
    model = part(rank)
    positions, sizes = model.sample(3, draw())
    found = placing.place(model, windows(rank), positions, sizes)
    for axis in range(rank):
        matrix = placing.in_order(found.true[..., axis], positions, axis)
        assert (matrix.diff(dim=2) >= 0).all()
        assert (matrix.diff(dim=1) <= 0).all()
        total = found.true[..., axis].square().sum().item()
        assert matrix.square().sum().item() == pytest.approx(total)


@ranks
def test_what_was_normalised_already_is_not_normalised_again(rank):
    model, x = part(rank), windows(rank)
    positions, sizes = model.sample(3, draw())
    raw = placing.place(model, x, positions, sizes)
    normal, level = instance_normalise(x)
    given = placing.place(model, normal, positions, sizes, level)
    torch.testing.assert_close(given.shift, raw.shift)


@ranks
@pytest.mark.parametrize("options", [{}, {"span": 1.5}, {"span": 1.5, "stretches": 2}])
def test_even_draws_lie_where_trained_ones_lie(rank, options):
    model = part(rank, **options)
    positions, sizes = placing.evenly(model, 2000, draw())
    low, high = positions - sizes / 2, positions + sizes / 2
    assert torch.equal(low, low.round())
    assert low.amin((0, 1)).tolist() == [0.0] * rank
    assert high.amax((0, 1)).tolist() == [float(length) for length in model.window]
    own, _ = model.sample(2000, draw(1))
    torch.testing.assert_close(positions.mean((0, 1)), own.mean((0, 1)), rtol=0.02, atol=0)
    torch.testing.assert_close(positions.std((0, 1)), own.std((0, 1)), rtol=0.05, atol=0)
    each = 8 // model.config.stretches
    for values in (positions, own):
        spans = values.view(-1, each, rank)
        reach = torch.tensor([w - p for w, p in zip(model.within, model.patch, strict=True)])
        assert (spans.amax(1) - spans.amin(1) <= reach).all()


def test_even_draws_leave_smaller_gaps_than_random_ones():
    model = Part(PartConfig(patches=10), Encoder(SMALL, 3, (100,)), (500,), (100,))
    gaps = [
        draws[0][..., 0].sort(1).values.diff(dim=1).amax(1).mean().item()
        for draws in (placing.evenly(model, 500, draw()), model.sample(500, draw()))
    ]
    # Ten uniform points on 400 samples leave a largest inner gap of about 400 / 11 * (H(9)) = 103.
    assert gaps[1] == pytest.approx(103, rel=0.05)
    assert gaps[0] < 70


def test_grids_and_boxes_are_drawn_as_in_training():
    for sampling in ("grid", "sizes"):
        model = part(2, sampling=sampling)
        both = placing.evenly(model, 3, draw()), model.sample(3, draw())
        assert torch.equal(both[0][0], both[1][0])
        assert torch.equal(both[0][1], both[1][1])


def test_a_model_that_is_told_positions_is_refused():
    model = part(1, positions="sincos")
    with pytest.raises(ConfigError, match=r"objective\.positions=sincos"):
        placing.place(model, windows(1), *model.sample(3, draw()))


@ranks
def test_patches_of_several_windows_are_related_as_those_of_one(rank):
    model = part(rank)
    x = windows(rank)
    positions, sizes = model.sample(3, draw())
    x, level = instance_normalise(x)
    of_one = placing.place(model, x, positions, sizes, level)
    cut = model.crop(x, positions, sizes)
    torch.testing.assert_close(
        placing.relate(model, cut, positions, sizes, level).shift, of_one.shift
    )
    mixed = cut.clone()
    mixed[0, 1] = cut[1, 1]  # a patch of another window is one of another token
    moved = placing.relate(model, mixed, positions, sizes, level).shift[0] - of_one.shift[0]
    assert moved[1].abs().max() > 1e-6


def placed_at(shift, spread=None):
    n = shift.shape[1]
    return placing.Placing(
        positions=torch.zeros(len(shift), n, shift.shape[-1]),
        sizes=torch.ones(len(shift), n, shift.shape[-1]),
        shift=shift,
        spread=spread,
        surprise=torch.zeros(shift.shape[:3]),
        near=torch.ones(shift.shape[:3], dtype=torch.bool),
    )


@ranks
def test_an_arrangement_explains_the_translations_as_well_as_any_can(rank):
    places = torch.randn(2, 7, rank, generator=draw(), dtype=torch.float64)
    exact = places.unsqueeze(1) - places.unsqueeze(2)
    found = placing.arranged(placed_at(exact))
    torch.testing.assert_close(found, places - places.mean(1, keepdim=True))
    # Least squares, by a general solver, each translation weighted by its sharpness.
    shift = exact + torch.randn(exact.shape, generator=draw(1), dtype=torch.float64)
    spread = 1 + torch.rand(exact.shape, generator=draw(2), dtype=torch.float64)
    found = placing.arranged(placed_at(shift, spread))
    weight = 1 / spread.square().sum(-1)
    for b in range(2):
        rows, right = [], []
        for i in range(7):
            for j in range(7):
                if i != j:
                    row = torch.zeros(7, dtype=torch.float64)
                    row[j], row[i] = 1, -1
                    rows.append(row * weight[b, i, j].sqrt())
                    right.append(shift[b, i, j] * weight[b, i, j].sqrt())
        rows.append(torch.ones(7, dtype=torch.float64))
        right.append(torch.zeros(rank, dtype=torch.float64))
        best = torch.linalg.lstsq(torch.stack(rows), torch.stack(right)).solution
        torch.testing.assert_close(found[b], best)
