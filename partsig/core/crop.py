"""Cutting patches out of windows of any rank: (B, C, *L) -> (B, N, C, *p)."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def crop(x: Tensor, positions: Tensor, sizes: Tensor, patch: Sequence[int]) -> Tensor:
    """Return patches (B, N, C, *p) centred at ``positions`` (B, N, D), ``sizes`` (B, N, D) wide.

    Each box is resized to ``patch`` by linear interpolation along every axis; a box that has the
    size of ``patch`` and starts on a sample is copied exactly. Reads beyond the window repeat its
    edge. *Differs from the paper's code*, which cuts, then resizes: boxes larger than the patch are
    not smoothed before they are sampled (at most a factor of two there), and boxes smaller than it
    read up to a quarter of a sample beyond themselves, where the cut would repeat its edge.
    """
    rank = len(patch)
    extent = x.shape[2:]
    weights, indices = [], []  # per axis: (2, B, N, p) for the lower and the upper neighbour
    for axis in range(rank):
        # Multiplied before divided, so that a box of the patch's size falls on samples exactly.
        steps = 2 * torch.arange(patch[axis], device=x.device) + 1 - patch[axis]
        shift = sizes[..., axis, None] * steps / (2 * patch[axis])
        at = positions[..., axis, None] + shift - 0.5  # (B, N, p)
        low = at.floor()
        upper = at - low
        weights.append((1 - upper, upper))
        last = extent[axis] - 1
        indices.append((low.long().clamp(0, last), (low.long() + 1).clamp(0, last)))
    result = torch.zeros((), device=x.device, dtype=x.dtype)
    for corner in itertools.product((0, 1), repeat=rank):
        index = _outer([indices[a][side] for a, side in enumerate(corner)], extent)
        weight = _product([weights[a][side] for a, side in enumerate(corner)])
        result = result + _gather(x, index) * weight.unsqueeze(2).to(x.dtype)
    return result


def crop_exact(x: Tensor, starts: Tensor, patch: Sequence[int]) -> Tensor:
    """Return patches (B, N, C, *p) that start at the samples ``starts`` (B, N, D), as they are.

    What :func:`crop` gives for boxes of the patch's own size. Reads only what the patches hold: a
    view of every possible patch is indexed, so a patch is one contiguous run per line.
    """
    every = x
    for axis, p in enumerate(patch):
        every = every.unfold(2 + axis, p, 1)  # (B, C, *(L - p + 1), *p)
    window = torch.arange(len(x), device=x.device).unsqueeze(1)
    return every[(window, slice(None), *starts.unbind(-1))]


def crop_grid(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Return the grid's whole patches (B, N, C, *p), in the order of ``geometry.grid``."""
    rank = len(patch)
    blocks = x
    for axis, p in enumerate(patch):
        blocks = blocks.unfold(2 + axis, p, p)  # (B, C, *counts, *p)
    return blocks.flatten(2, 1 + rank).transpose(1, 2)  # (B, N, C, *p)


def _spread(values: Sequence[Tensor]) -> list[Tensor]:
    """Give per-axis (B, N, p_a) tensors the shape (B, N, 1.., p_a, 1..), one slot per axis."""
    rank = len(values)
    return [
        v.reshape(*v.shape[:2], *(v.shape[2] if a == axis else 1 for a in range(rank)))
        for axis, v in enumerate(values)
    ]


def _outer(indices: Sequence[Tensor], extent: Sequence[int]) -> Tensor:
    """Return flat sample numbers (B, N, *p) from per-axis numbers (B, N, p_a)."""
    strides = [math.prod(extent[axis + 1 :]) for axis in range(len(extent))]
    return sum(index * stride for index, stride in zip(_spread(indices), strides, strict=True))


def _product(weights: Sequence[Tensor]) -> Tensor:
    return math.prod(_spread(weights))


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Read (B, C, *L) at flat sample numbers (B, N, *p): (B, N, C, *p)."""
    flat = x.flatten(2)  # (B, C, L)
    batch, channels = flat.shape[:2]
    at = index.flatten(1)[:, None].expand(batch, channels, -1)  # (B, C, N * p)
    read = flat.gather(2, at).view(batch, channels, *index.shape[1:])
    return read.transpose(1, 2).contiguous()  # (B, N, C, *p)
