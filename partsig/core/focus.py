"""Patches that lie where something is: drawn by a map of the window itself, or a mask, any rank.

Source: PART's outlook (section 6: sampling that follows what matters in an input); what the map is
made of, and the share of patches that lie anywhere, are ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from partsig.errors import ConfigError


def density(x: Tensor, patch: Sequence[int], by: str, mask: Tensor | None = None) -> Tensor:
    """Return how much lies in each possible patch of windows (B, C, *L), (B, *(L - p + 1)).

    Mean over the patch and the channels of the squared deviation from the window's mean
    (``by="amplitude"``), or of the squared step to the next sample along each axis
    (``by="change"``): events in signals, edges in images. Or, ``by="object"``, how far a ``mask``
    (B, *L), 0 to 1, covers the patch. Raises ConfigError where that is missing.
    """
    axes = tuple(range(2, x.ndim))
    x = x.float()
    if by == "object":
        if mask is None:
            raise ConfigError(
                "objective.focus=object follows masks of objects, and none are told of these "
                "windows: set it to amplitude, change, or none."
            )
        there = mask.float()
    elif by == "amplitude":
        there = (x - x.mean(axes, keepdim=True)).square().mean(1)
    else:
        there = sum(_steps(x, axis) for axis in axes).mean(1)
    for axis, p in enumerate(patch, 1):
        there = there.unfold(axis, p, 1).mean(-1)
    return there


def _steps(x: Tensor, axis: int) -> Tensor:
    """Return the squared steps to the next sample along an axis; the last one's is 0."""
    last = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.diff(x, dim=axis, append=last).square()


def starts(there: Tensor, share: float, uniform: Tensor) -> Tensor:
    """Return where patches start (R, N, D), in samples, drawn by maps (R, *S).

    Patch n of row r starts at s with probability ``(1 - share) / |S| + share · there_s / Σ there``:
    the inverse of its sum at ``uniform`` (R, N), which lies in [0, 1). A map of zeros is even.
    """
    extent = there.shape[1:]
    flat = there.flatten(1).double()
    total = flat.sum(1, keepdim=True)
    even = 1 / flat.shape[1]
    chance = torch.where(total > 0, share * flat / total.clamp(min=1e-300), share * even)
    summed = (chance + (1 - share) * even).cumsum(1)
    # What rounding leaves of 1 at the end belongs to the last start.
    at = torch.searchsorted(summed, uniform.double(), right=True).clamp(max=flat.shape[1] - 1)
    return torch.stack(torch.unravel_index(at, extent), dim=-1)


def around(there: Tensor, origin: Tensor, extent: Sequence[int]) -> Tensor:
    """Return boxes (R, *extent) of maps (R, *S) that begin at ``origin`` (R, D)."""
    every = there
    for axis, length in enumerate(extent, 1):
        every = every.unfold(axis, length, 1)
    return every[(torch.arange(len(there), device=there.device), *origin.unbind(-1))]
