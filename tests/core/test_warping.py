"""Known changes of place, against what they should do to maps that can be told by hand."""

import math

import pytest
import torch

from partsig.core.warping import Warp, _terms, drawn, knots, plate

RATIO = {(12,): (1.0,), (8, 8): (1.0, 1.0), (6, 12): (0.5, 1.0), (4, 4, 4): (1.0, 1.0, 1.0)}


def still(extent, n=1):
    rank = len(extent)
    return Warp(
        linear=torch.eye(rank).expand(n, -1, -1), shift=torch.zeros(n, rank), ratio=RATIO[extent]
    )


@pytest.mark.parametrize("extent", RATIO, ids=str)
def test_no_change_changes_nothing(extent):
    maps = torch.randn(1, 3, *extent, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(still(extent)(maps), maps)
    same = drawn(1, extent, torch.Generator(), turn=0.0, shift=0.0, stretch=0.0)
    torch.testing.assert_close(same(maps), maps)


def test_a_shift_is_told_in_shares_of_the_window():
    """Half a window is 1 of 2: the first half then shows what the second was, and zeros follow."""
    ramp = torch.arange(12.0).view(1, 1, 12)
    moved = Warp(linear=torch.eye(1).unsqueeze(0), shift=torch.tensor([[1.0]]), ratio=(1.0,))(ramp)
    expected = torch.tensor([6.0, 7, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(moved.flatten(), expected, atol=1e-4, rtol=0)
    generator = torch.Generator().manual_seed(0)
    away = drawn(2000, (6, 12), generator, shift=0.1).shift
    assert away[:, 1].abs().max() == pytest.approx(0.2, abs=1e-3)
    assert away[:, 0].abs().max() == pytest.approx(0.1, abs=1e-3)  # half as long an axis


def test_a_quarter_turn_of_a_square_is_a_quarter_turn():
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    turned = Warp(
        linear=torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]), shift=torch.zeros(1, 2), ratio=(1.0, 1.0)
    )(maps)
    options = [torch.rot90(maps, k, (2, 3)) for k in (1, -1)]
    assert any(torch.allclose(turned, option, atol=1e-4) for option in options)


def test_a_turn_of_a_long_window_is_no_shear():
    """Distances from the middle stay what they are, in samples along either axis."""
    generator = torch.Generator().manual_seed(1)
    warp = drawn(5, (6, 12), generator, turn=60.0)
    places = torch.tensor([[0.3, 0.4], [0.0, 0.5]])
    found = warp.sources(places).norm(dim=2)
    torch.testing.assert_close(found, places.norm(dim=1).expand(5, -1))


@pytest.mark.parametrize("extent", RATIO, ids=str)
def test_a_thin_plate_moves_its_knots_as_asked_and_bends_smoothly(extent):
    generator = torch.Generator().manual_seed(2)
    warp = drawn(2, extent, generator, bend=0.1)
    at = knots(RATIO[extent])
    asked = 0.1 * torch.randn(2, len(at), len(extent), generator=torch.Generator().manual_seed(9))
    warp = Warp(linear=warp.linear, shift=warp.shift, ratio=warp.ratio, bends=plate(at, asked))
    torch.testing.assert_close(warp.sources(at) - at, asked, atol=1e-4, rtol=0)
    # The coefficients of the spline add up to nothing, so that it is flat far away.
    spline = warp.bends[:, : len(at)]
    assert spline.sum(1).abs().max() < 1e-3
    assert (at.T @ spline).abs().max() < 1e-3
    assert _terms(at, at).shape == (len(at), len(at) + len(extent) + 1)


def test_one_axis_is_two_of_which_one_has_a_single_sample():
    line = torch.randn(1, 2, 12, generator=torch.Generator().manual_seed(3))
    warp = Warp(linear=torch.tensor([[[1.1]]]), shift=torch.tensor([[0.13]]), ratio=(1.0,))
    plane = Warp(
        linear=torch.tensor([[[1.0, 0.0], [0.0, 1.1]]]),
        shift=torch.tensor([[0.0, 0.13]]),
        ratio=(1 / 12, 1.0),
    )
    torch.testing.assert_close(warp(line), plane(line.unsqueeze(2)).squeeze(2))


def test_maps_of_another_resolution_are_changed_alike():
    """A smooth map looked at with twice the places, warped, is the warped one looked at so."""
    fine = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(1, 1, 64, 64)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    warp = drawn(1, (64, 64), torch.Generator().manual_seed(4), turn=20, shift=0.05, stretch=0.1)
    inside = (warp(torch.ones_like(coarse)) > 0.999) & (
        torch.nn.functional.avg_pool2d(warp(torch.ones_like(fine)), 2) > 0.999
    )
    other = torch.nn.functional.avg_pool2d(warp(fine), 2)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(warp(coarse)[inside], other[inside], atol=1e-3, rtol=0)


def test_what_is_drawn_lies_in_its_range():
    warp = drawn(4000, (8, 8), torch.Generator().manual_seed(5), turn=60.0, stretch=0.2)
    size = torch.linalg.det(warp.linear).sqrt()
    assert 0.8 <= size.min() < 0.81 < 1.19 < size.max() <= 1.2 + 1e-6
    angle = torch.atan2(warp.linear[:, 1, 0], warp.linear[:, 0, 0])
    assert math.radians(59) < angle.abs().max() <= math.radians(60) + 1e-6
