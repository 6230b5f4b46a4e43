"""Which patches are hidden: random orders of the grid, and reading and restoring by them."""

import torch
from torch import Tensor

from partsig.errors import ConfigError


def shuffled(batch: int, n: int, generator: torch.Generator) -> Tensor:
    """Return (B, N) random orders of 0..N-1, every row its own."""
    return torch.rand(batch, n, generator=generator, device=generator.device).argsort(dim=1)


def kept(n: int, ratio: float, what: str) -> int:
    """Return how many of ``n`` are left when this share is hidden: ``int(n (1 - ratio))``.

    Raises ConfigError when none would be left.

    >>> kept(30, 0.75, "objective.mask_ratio")
    7
    """
    count = int(n * (1 - ratio) + 1e-9)  # 1 - 0.8 is a little less than 0.2
    if count < 1:
        raise ConfigError(f"{what} {ratio} leaves none of {n} patches; lower it.")
    return count


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows ``index`` (B, K) of x (B, N, …): (B, K, …)."""
    tail = x.shape[2:]
    at = index.view(*index.shape, *(1,) * len(tail)).expand(-1, -1, *tail)
    return x.gather(1, at)
