"""Where patches lie: positions (B, N, D) and sizes (B, N, D), in samples; pairs (P, 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from partsig.errors import ConfigError


def _check(extent: Sequence[int], patch: Sequence[int]) -> None:
    if len(extent) != len(patch):
        raise ConfigError(f"a window of {len(extent)} axes cannot hold patches of {len(patch)}.")
    if any(p < 1 or p > length for p, length in zip(patch, extent, strict=True)):
        raise ConfigError(f"patches of {tuple(patch)} samples do not fit {tuple(extent)}.")


def off_grid(
    batch: int, n: int, extent: Sequence[int], patch: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return positions and sizes (B, N, D) of patches that start at any sample, with replacement.

    Starts are uniform on 0..L-p (PART, section 3.1: "randomly and freely samples patches"); the
    order of drawing is the order of the patches, so an index tells nothing about a position.
    """
    _check(extent, patch)
    starts = [
        torch.randint(length - p + 1, (batch, n), generator=generator, device=generator.device)
        for length, p in zip(extent, patch, strict=True)
    ]
    # Filled on the device, not copied to it: a copy would make the host wait.
    sizes = [torch.full((), float(p), device=generator.device) for p in patch]
    sizes = torch.stack(sizes)  # (D,)
    positions = torch.stack(starts, dim=-1) + sizes / 2  # (B, N, D)
    return positions, sizes.expand_as(positions)


def boxes(
    batch: int,
    n: int,
    extent: Sequence[int],
    smallest: Sequence[int],
    largest: Sequence[int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return positions and sizes (B, N, D) of boxes of varied size and aspect ratio (PART, eq. 5).

    Along each axis two end points are uniform on 0..L-1, given that their distance lies between
    ``smallest`` and ``largest``: as published, so that the last sample along an axis lies in no
    box. Drawn directly: distance s has weight L - s, and the lower end is uniform given s. *Differs
    from the paper*: its code draws and rejects into a table beforehand; the distribution is the
    same.
    """
    _check(extent, smallest)
    _check(extent, largest)
    lows, spans = [], []
    for length, low, high in zip(extent, smallest, largest, strict=True):
        span = torch.arange(low, min(high, length - 1) + 1, device=generator.device)
        weight = (length - span).double()
        drawn = torch.multinomial(weight, batch * n, replacement=True, generator=generator)
        size = span[drawn].view(batch, n)
        uniform = torch.rand(batch, n, generator=generator, device=generator.device)
        lows.append(torch.floor(uniform * (length - size)).clamp_(max=length - 1))
        spans.append(size)
    sizes = torch.stack(spans, dim=-1).float()  # (B, N, D)
    return torch.stack(lows, dim=-1) + sizes / 2, sizes


def grid(extent: Sequence[int], patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return positions and sizes (N, D) of the whole patches of a grid, last axis fastest.

    >>> grid((4, 6), (2, 3))[0].tolist()
    [[1.0, 1.5], [1.0, 4.5], [3.0, 1.5], [3.0, 4.5]]
    """
    _check(extent, patch)
    axes = [
        torch.arange(length // p) * float(p) + p / 2
        for length, p in zip(extent, patch, strict=True)
    ]
    # meshgrid, not cartesian_prod: the latter drops the axis when there is only one.
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)  # (N, D)
    return positions, torch.tensor(patch, dtype=torch.float32).expand_as(positions)


def grid_index(extent: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Return the numbers (N, D) of the grid's patches along each axis, in :func:`grid`'s order.

    >>> grid_index((4, 6), (2, 3)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    centres, sizes = grid(extent, patch)
    return centres / sizes - 0.5


def shuffled_grid(
    batch: int, extent: Sequence[int], patch: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return positions and sizes (B, N, D) of the grid, each window's patches in random order.

    This is PART-grid, the paper's ablation.
    """
    positions, sizes = (t.to(generator.device, non_blocking=True) for t in grid(extent, patch))
    keys = torch.rand(batch, len(positions), generator=generator, device=generator.device)
    positions = positions[keys.argsort(dim=1)]  # (B, N, D)
    return positions, sizes.expand_as(positions)


def pairs(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Return (P, 2) ordered pairs (reference, target), without replacement, self-pairs included.

    One set per step is shared by the batch, as in the paper's code. ``count`` 0 means all N².
    """
    if not 0 <= count <= n * n:
        raise ConfigError(f"{count} pairs were asked for; {n} patches have {n * n}.")
    if count in (0, n * n):
        drawn = torch.arange(n * n, device=generator.device)
    else:
        drawn = torch.randperm(n * n, generator=generator, device=generator.device)[:count]
    return torch.stack([drawn // n, drawn % n], dim=-1)
