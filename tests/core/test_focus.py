import itertools
import math

import pytest
import torch

from partsig.core import focus
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.part import Part, PartConfig
from partsig.errors import ConfigError

WINDOWS = {1: ((40,), (5,)), 2: ((12, 16), (4, 4)), 3: ((8, 8, 8), (2, 4, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)
ways = pytest.mark.parametrize("by", ["amplitude", "change"])


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def part(rank, **options):
    torch.manual_seed(0)
    window, patch = WINDOWS[rank]
    encoder = Encoder(EncoderConfig(width=24, depth=1, heads=4, drop_path=0.0), 3, patch)
    return Part(PartConfig(**{"patches": 8} | options), encoder, window, patch)


def windows(rank, n=3):
    return torch.randn(n, 3, *WINDOWS[rank][0], generator=draw(5))


@ranks
@ways
def test_the_density_of_a_patch_is_that_of_its_samples(rank, by):
    (length, patch), x = WINDOWS[rank], windows(rank) + 4.0
    there = focus.density(x, patch, by)
    axes = tuple(range(2, x.ndim))
    if by == "amplitude":
        power = (x - x.mean(axes, keepdim=True)) ** 2
    else:
        power = torch.zeros_like(x)
        for axis in axes:
            for k in range(x.shape[axis] - 1):
                step = x.select(axis, k + 1) - x.select(axis, k)
                power.select(axis, k).add_(step**2)
    starts = [range(n - p + 1) for n, p in zip(length, patch, strict=True)]
    assert there.shape == (3, *map(len, starts))
    for at in itertools.product(*starts):
        box = tuple(slice(s, s + p) for s, p in zip(at, patch, strict=True))
        torch.testing.assert_close(
            there[(slice(None), *at)], power[(slice(None), slice(None), *box)].flatten(1).mean(1)
        )


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_starts_are_drawn_as_often_as_the_map_says(share):
    there = torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    n = 40_000
    drawn = focus.starts(there, share, torch.rand(2, n, generator=draw()))
    often = torch.zeros(2, 2, 2)
    for row, column in itertools.product(range(2), repeat=2):
        often[:, row, column] = (drawn == torch.tensor([row, column])).all(-1).float().mean(1)
    expected = (1 - share) / 4 + share * there[0] / 8
    error = 5 * math.sqrt(0.25 / n)
    torch.testing.assert_close(often[0], expected, rtol=0, atol=error)
    torch.testing.assert_close(often[1], torch.full((2, 2), 0.25), rtol=0, atol=error)
    if share == 1:
        assert often[0, 0, 0] == 0
    # The ends of the draws are starts, too.
    last = focus.starts(there, share, torch.tensor([[0.0, 1 - 2**-24]] * 2))
    assert last[:, 1].tolist() == [[1, 1], [1, 1]]


@ranks
@ways
@pytest.mark.parametrize("stretched", [False, True])
def test_patches_lie_where_something_is(rank, by, stretched):
    options = {"span": 2.0, "stretches": 4} if stretched else {}
    model = part(rank, focus=by, focus_share=1.0, **options)
    (length, patch), n = WINDOWS[rank], 64
    x = torch.zeros(n, 3, *length)
    corner = tuple(slice(0, side // 2) for side in length)
    noise = torch.randn(x[(..., *corner)].shape, generator=draw(1))
    x[(..., *corner)] = noise - noise.mean(tuple(range(2, x.ndim)), keepdim=True)
    positions, sizes = model.sample_focused(x, torch.arange(n), n, draw())
    assert positions.shape == sizes.shape == (n, 8, rank)
    low, high = positions - sizes / 2, positions + sizes / 2
    assert (low >= 0).all()
    assert (high <= torch.tensor(length)).all()
    assert (low == low.round()).all()
    inside = (low < torch.tensor([side // 2 for side in length])).all(-1)
    if not stretched:
        assert inside.all()
        return
    # A stretch is drawn anywhere; within it, patches lie where something is if there is anything.
    each = inside.view(n, 4, -1)
    assert (each.all(-1) | ~each.any(-1)).all()
    assert 0.1 < each.all(-1).float().mean() < 1
    apart = positions.view(n, 4, -1, rank)
    spread = (apart.amax(2) - apart.amin(2)) <= torch.tensor(
        [round(2 * p) - p for p in patch], dtype=torch.float32
    )
    assert spread.all()


def masks(rank, n):
    """An object over the first half of each axis, half of it certain."""
    mask = torch.zeros(n, *WINDOWS[rank][0])
    mask[(slice(None), *[slice(0, side // 2) for side in WINDOWS[rank][0]])] = 1.0
    mask[n // 2 :] *= 0.5
    return mask


def coverage(mask, positions, patch):
    """The mean of the mask in each patch (B, N), by slicing."""
    found = torch.zeros(positions.shape[:2])
    for b, n in itertools.product(*map(range, positions.shape[:2])):
        low = (positions[b, n] - torch.tensor(patch) / 2).long().tolist()
        found[b, n] = mask[(b, *[slice(s, s + p) for s, p in zip(low, patch, strict=True)])].mean()
    return found


@ranks
def test_the_density_of_an_object_is_how_far_it_covers_a_patch(rank):
    (length, patch), mask = WINDOWS[rank], masks(rank, 2)
    there = focus.density(windows(rank, 2), patch, "object", mask)
    starts = [range(n - p + 1) for n, p in zip(length, patch, strict=True)]
    for at in itertools.product(*starts):
        box = tuple(slice(s, s + p) for s, p in zip(at, patch, strict=True))
        torch.testing.assert_close(
            there[(slice(None), *at)], mask[(slice(None), *box)].flatten(1).mean(1)
        )


@ranks
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_patches_lie_on_the_object_as_much_more_as_the_share_says(rank, share):
    """In the mean they are covered by (1 - share) · mean c + share · Σ c² / Σ c, c over starts."""
    model, n = part(rank, focus="object", focus_share=share, patches=16), 400
    mask, patch = masks(rank, n), WINDOWS[rank][1]
    x = windows(rank, n)
    positions, _ = model.sample_focused(x, torch.arange(n), n, draw(), mask)
    every = focus.density(x, patch, "object", mask)[: n // 2].flatten(1)
    even = every.mean().item()
    on_it = (every.square().sum(1) / every.sum(1)).mean().item()
    assert on_it > 1.7 * even
    found = coverage(mask, positions, patch)
    assert found[: n // 2].mean().item() == pytest.approx(
        (1 - share) * even + share * on_it, abs=0.02
    )
    # A mask of half the certainty has the same places.
    assert 2 * found[n // 2 :].mean().item() == pytest.approx(
        (1 - share) * even + share * on_it, abs=0.02
    )


@ranks
def test_a_batch_with_objects_gives_the_same_loss_however_it_is_divided(rank):
    model, x, mask = part(rank, focus="object"), windows(rank, 4), masks(rank, 4)
    whole = model(x, draw(3), foreground=mask)["loss"]
    halves = [
        model(x[a : a + 2], draw(3), (a, 4), foreground=mask[a : a + 2])["loss"] for a in (0, 2)
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)
    other = model(x, draw(3), foreground=1 - mask)["loss"]
    assert not torch.equal(other, whole)
    with pytest.raises(ConfigError, match="none are told of these windows"):
        model(x, draw(3))


def test_both_halves_of_a_window_have_their_own_objects():
    """With a context a window is twice as long, and so is its mask."""
    window, patch = (80,), (5,)
    encoder = Encoder(EncoderConfig(width=24, depth=1, heads=4, drop_path=0.0), 3, patch)
    settings = PartConfig(patches=8, focus="object", focus_share=1.0, context=1.0)
    model = Part(settings, encoder, window, patch)
    mask = torch.zeros(2, 80)
    mask[:, :10] = mask[:, 70:] = 1.0
    drawn = []
    sample = model.sample_focused
    model.sample_focused = lambda *given: drawn.append(sample(*given)) or drawn[-1]
    model(torch.randn(2, 3, 80, generator=draw(1)), draw(2), foreground=mask)
    low = drawn[0][0][..., 0] - 2.5
    assert (low[:2] < 10).all()
    assert (low[2:] > 25).all()


@ranks
def test_a_batch_gives_the_same_loss_however_it_is_divided(rank):
    model, x = part(rank, focus="change"), windows(rank, 4)
    whole = model(x, draw(3))["loss"]
    halves = [model(x[a : a + 2], draw(3), (a, 4))["loss"] for a in (0, 2)]
    torch.testing.assert_close(sum(halves) / 2, whole)
    assert not torch.equal(part(rank)(x, draw(3))["loss"], whole)


def test_what_focus_does_not_go_with_is_refused():
    with pytest.raises(ConfigError, match=r"focus is for off-grid patches, not for grid"):
        PartConfig(focus="change", sampling="grid")
    with pytest.raises(ConfigError, match=r"does not go with objective\.loss_on=apart"):
        PartConfig(focus="change", loss_on="apart")
    with pytest.raises(ConfigError, match="focus_share"):
        PartConfig(focus="change", focus_share=1.5)
