import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from partsig.core import geometry, target
from partsig.core.crop import crop, crop_exact
from partsig.errors import ConfigError

ORACLE = Path(__file__).parents[1] / "oracles" / "part_oracle.py"
WINDOWS = {1: ((40,), (6,)), 2: ((12, 16), (4, 6)), 3: ((8, 6, 10), (2, 3, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)


@pytest.fixture(scope="module")
def oracle():
    spec = importlib.util.spec_from_file_location("part_oracle", ORACLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(extent, axis):
    """A window whose sample i along one axis has the value of its centre, i + 1/2."""
    shape = [1] * len(extent)
    shape[axis] = extent[axis]
    line = torch.arange(extent[axis], dtype=torch.float64) + 0.5
    return line.view(shape).expand(*extent)


@ranks
def test_a_ramps_patch_averages_to_its_own_position(rank):
    extent, patch = WINDOWS[rank]
    x = torch.stack([ramp(extent, axis) for axis in range(rank)]).expand(3, -1, *extent)
    positions, sizes = geometry.off_grid(3, 50, extent, patch, draw())
    starts = (positions - sizes / 2).long()
    for patches in (crop(x, positions, sizes, patch), crop_exact(x, starts, patch)):
        assert patches.shape == (3, 50, rank, *patch)
        torch.testing.assert_close(patches.flatten(3).mean(-1), positions.double())


@ranks
def test_resized_boxes_average_to_their_positions_away_from_the_edge(rank):
    extent, patch = WINDOWS[rank]
    x = torch.stack([ramp(extent, axis) for axis in range(rank)]).expand(3, -1, *extent)
    low, high = [max(p // 2, 1) for p in patch], [min(2 * p, 5) for p in patch]
    positions, sizes = geometry.boxes(3, 50, extent, low, high, draw())
    inside = (positions - sizes / 2 >= 1) & (positions + sizes / 2 <= torch.tensor(extent) - 1)
    inside = inside.all(-1)
    means = crop(x, positions, sizes, patch).flatten(3).mean(-1)
    assert inside.sum() > 10
    torch.testing.assert_close(means[inside], positions[inside].double())


@ranks
def test_crop_equals_slicing(rank):
    extent, patch = WINDOWS[rank]
    x = torch.randn(2, 3, *extent, dtype=torch.float64, generator=draw(1))
    positions, sizes = geometry.off_grid(2, 9, extent, patch, draw())
    starts = (positions - sizes / 2).long()
    patches = crop_exact(x, starts, patch)
    for b in range(2):
        for n in range(9):
            where = tuple(
                slice(s, s + p) for s, p in zip(starts[b, n].tolist(), patch, strict=True)
            )
            assert torch.equal(patches[b, n], x[b][(slice(None), *where)])
    torch.testing.assert_close(crop(x, positions, sizes, patch), patches)


def test_one_axis_equals_two_of_height_one():
    x = torch.randn(2, 3, 40, generator=draw(1))
    positions, sizes = geometry.off_grid(2, 7, (40,), (6,), draw())
    tall = torch.full_like(positions, 0.5)
    both = torch.cat([tall, positions], -1), torch.cat([torch.ones_like(sizes), sizes], -1)
    flat = crop(x, positions, sizes, (6,))
    assert torch.equal(crop(x.unsqueeze(2), *both, (1, 6)).squeeze(3), flat)
    assert torch.equal(geometry.grid((1, 40), (1, 6))[0][:, 1:], geometry.grid((40,), (6,))[0])


@ranks
def test_off_grid_starts_are_uniform_integers_within_the_window(rank):
    extent, patch = WINDOWS[rank]
    positions, sizes = geometry.off_grid(400, 50, extent, patch, draw())
    starts = positions - sizes / 2
    assert torch.equal(starts, starts.round())
    for axis in range(rank):
        counts = torch.bincount(starts[..., axis].flatten().long())
        assert len(counts) == extent[axis] - patch[axis] + 1
        expected = 20_000 / len(counts)
        assert ((counts - expected).abs() < 6 * expected**0.5).all()


def test_boxes_have_the_distribution_of_the_published_rejection_sampler(oracle):
    extent, low, high, draws = 20, 3, 9, 40_000
    positions, sizes = geometry.boxes(1, draws, (extent,), (low,), (high,), draw())
    starts = (positions - sizes / 2).long()
    ours = np.zeros((extent, extent))
    np.add.at(ours, (starts.flatten(), (starts + sizes.long()).flatten()), 1)
    theirs = np.zeros((extent, extent))
    for a, b in oracle.boxes_by_rejection(draws, extent, low, high, np.random.default_rng(0)):
        theirs[a, b] += 1
    assert ((ours > 0) == (theirs > 0)).all()
    there = theirs > 0
    spread = np.sqrt(ours[there] + theirs[there])
    assert (np.abs(ours - theirs)[there] < 5 * spread).all()


def test_the_grid_covers_the_window_without_overlap():
    for extent, patch in WINDOWS.values():
        positions, sizes = geometry.grid(extent, patch)
        assert len(positions) == np.prod([n // p for n, p in zip(extent, patch, strict=True)])
        cover = torch.zeros(extent)
        for at, size in zip(positions, sizes, strict=True):
            low = (at - size / 2).long().tolist()
            where = tuple(slice(a, a + p) for a, p in zip(low, patch, strict=True))
            cover[where] += 1
        assert cover.max() == 1
    assert len(geometry.grid((3000,), (100,))[0]) == 30


def test_a_shuffled_grid_holds_every_position_once_in_an_order_of_its_own():
    positions, _ = geometry.shuffled_grid(5, (40,), (4,), draw())
    assert torch.equal(positions.sort(1).values, geometry.grid((40,), (4,))[0].expand(5, -1, -1))
    assert not torch.equal(positions[0], positions[1])


def test_pairs_are_ordered_without_replacement_and_hold_self_pairs():
    drawn = geometry.pairs(7, 20, draw())
    assert drawn.shape == (20, 2)
    assert len({tuple(pair) for pair in drawn.tolist()}) == 20
    everything = geometry.pairs(7, 0, draw()).tolist()
    assert everything == [[i, j] for i in range(7) for j in range(7)]
    with pytest.raises(ConfigError, match="50 pairs were asked for; 7 patches have 49"):
        geometry.pairs(7, 50, draw())


@pytest.mark.parametrize("ratios", [False, True])
@ranks
def test_translation_equals_its_equation(rank, ratios, oracle):
    extent, patch = WINDOWS[rank]
    low = [max(p // 2, 1) for p in patch]
    positions, sizes = geometry.boxes(2, 6, extent, low, patch, draw())
    pairs = geometry.pairs(6, 20, draw(1))
    ours = target.translation(positions, sizes, pairs, ratios)
    assert ours.shape == (2, 20, 2 * rank if ratios else rank)
    torch.testing.assert_close(ours, oracle.translation(positions, sizes, pairs, ratios))


@ranks
def test_translation_is_antisymmetric_for_equal_sizes_only(rank):
    extent, patch = WINDOWS[rank]
    pairs = geometry.pairs(6, 0, draw())
    equal = geometry.off_grid(2, 6, extent, patch, draw())
    forth = target.translation(*equal, pairs)
    assert torch.equal(forth, -target.translation(*equal, pairs.flip(1)))
    assert (forth[:, pairs[:, 0] == pairs[:, 1]] == 0).all()
    varied = geometry.boxes(2, 6, extent, [1] * rank, patch, draw())
    assert not torch.equal(
        target.translation(*varied, pairs), -target.translation(*varied, pairs.flip(1))
    )


@pytest.mark.parametrize(
    ("extent", "patch", "n"), [((3000,), (100,), 40), ((32, 32), (4, 4), 64), ((24, 40), (4, 5), 9)]
)
def test_chance_is_the_error_of_predicting_zero(extent, patch, n):
    pairs = geometry.pairs(n, 0, draw())
    positions, sizes = geometry.off_grid(4000, n, extent, patch, draw())
    measured = target.translation(positions, sizes, pairs).square().mean().item()
    assert target.chance_mse(extent, patch, n) == pytest.approx(measured, rel=0.01)


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"patches of \(50,\) samples do not fit \(40,\)"):
        geometry.off_grid(1, 2, (40,), (50,), draw())
