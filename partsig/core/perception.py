"""What a frozen network makes of every place of a window: maps that other losses are told in."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.frozen_encoder import LINEAR, FrozenEncoder, joined

POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class FrozenMaps(nn.Module):
    """The maps after some blocks of an encoder, on the grid of the first; nothing of it learns.

    ``taps`` are blocks from 0, none: the last map. ``widths`` tells how many features each has.
    """

    def __init__(self, encoder: FrozenEncoder, taps: Sequence[int] = ()) -> None:
        super().__init__()
        encoder.check(taps)
        self.encoder, self.taps = encoder, tuple(taps)
        last = (encoder.config.width,)
        self.widths = tuple(encoder.tap_widths[tap] for tap in self.taps) or last
        self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> "FrozenMaps":
        """Stay as in use, whatever is asked: statistics of batches are not to be learned."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, sum of widths, *grid) float32 of windows (B, C, *L), as recorded."""
        made = self.encoder.encode(x, self.taps)
        return (joined(made.maps) if self.taps else made.map).float()


def resized(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Return maps (B, C, *L) on another grid, linearly interpolated."""
    if tuple(maps.shape[2:]) == tuple(grid):
        return maps
    return F.interpolate(maps, tuple(grid), mode=LINEAR[len(grid)], align_corners=False)


def averaged(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Return maps (B, C, *L) on a grid of fewer places, each the mean of what lies in it.

    >>> averaged(torch.arange(4.0).view(1, 1, 4), (2,)).tolist()
    [[[0.5, 2.5]]]
    """
    return POOLS[len(grid)](maps, tuple(grid))


def bordering(grid: Sequence[int]) -> Tensor:
    """Return which places of a grid lie at its border, (U,) bool, the last axis first.

    >>> bordering((3, 3)).tolist()
    [True, True, True, True, False, True, True, True, True]
    """
    inner = torch.ones(tuple(grid), dtype=torch.bool)
    for axis, extent in enumerate(grid):
        inner.select(axis, 0).fill_(False)
        inner.select(axis, extent - 1).fill_(False)
    return ~inner.flatten()


def two_means(points: Tensor, rounds: int = 30) -> Tensor:
    """Return the centres (2, C) of two clusters of points (n, C): Lloyd's algorithm.

    It begins with the points on either side of the mean along the direction of most variance, so
    that nothing is drawn.
    """
    centred = points - points.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    side = centred @ vectors[:, values.argmax()] > 0
    for _ in range(rounds):
        if side.all() or not side.any():
            break
        centres = torch.stack([points[~side].mean(0), points[side].mean(0)])
        distance = torch.cdist(points, centres)
        moved = distance[:, 1] < distance[:, 0]
        if torch.equal(moved, side):
            break
        side = moved
    if side.all() or not side.any():
        return points.mean(0).expand(2, -1).clone()
    return torch.stack([points[~side].mean(0), points[side].mean(0)])
