"""Position codes: geometry lives in the shape of the coordinates, not in the control flow."""

import math

import torch
from torch import Tensor, nn

from partsig.errors import ConfigError


def sincos(coordinates: Tensor, width: int) -> Tensor:
    """Return the fixed sine-cosine code (..., E) of coordinates (..., D), in patches.

    Each axis has E / 2D frequencies 10000^(-2kD/E) (Vaswani et al. 2017, section 3.5; MAE splits
    the width over the axes in the same way); coordinates need not be integers.

    >>> sincos(torch.zeros(1, 1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    rank = coordinates.shape[-1]
    if width % (2 * rank):
        raise ConfigError(f"a width of {width} does not divide over {rank} axes of sines, cosines.")
    n = width // (2 * rank)
    exponent = torch.arange(n, device=coordinates.device, dtype=torch.float32) / n
    frequencies = torch.exp(-math.log(10_000.0) * exponent)
    angle = coordinates.float().unsqueeze(-1) * frequencies  # (..., D, n)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class MaskedPositions(nn.Module):
    """Codes of continuous positions, a random share of which is replaced by a learned token."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.token, std=0.02)

    def draw(self, batch: int, n: int, generator: torch.Generator) -> Tensor:
        """Return which positions are hidden, (B, N) bool: ``round(ratio * N)`` in each row."""
        keys = torch.rand(batch, n, generator=generator, device=generator.device)
        return keys.argsort(dim=1).argsort(dim=1) < round(self.ratio * n)

    def forward(self, positions: Tensor, sizes: Tensor, hidden: Tensor) -> Tensor:
        """Return codes (B, N, E) for positions (B, N, D) in samples."""
        code = sincos(positions / sizes - 0.5, len(self.token))  # (B, N, E)
        return torch.where(hidden.unsqueeze(-1), self.token, code)
