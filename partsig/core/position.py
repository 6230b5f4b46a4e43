"""Position codes: geometry lives in the shape of the coordinates, not in the control flow."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
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


def resample(code: Tensor, grid: Sequence[int], new: Sequence[int]) -> Tensor:
    """Return the codes (N' + 1, E) of a grid of other lengths, by those of a grid (N + 1, E).

    For an encoder that meets windows of another extent than it was trained on: between two patches
    lies the code between theirs. Bicubic and, where there are fewer, low-passed first, as timm does
    it in 2-D; along one axis likewise; linear along three. The last code is [CLS]'s, and stays.

    >>> resample(torch.tensor([[0.0], [1.0], [2.0], [3.0], [9.0]]), (4,), (2,)).int().tolist()
    [[0], [2], [9]]
    """
    if tuple(grid) == tuple(new):
        return code
    patches = code[:-1].float().T.reshape(1, code.shape[-1], *grid)  # (1, E, *grid)
    if len(grid) > 2:
        resampled = F.interpolate(patches, tuple(new), mode="trilinear")
    else:
        rows = (1, *new) if len(new) == 1 else tuple(new)
        patches = patches.unsqueeze(2) if len(grid) == 1 else patches
        resampled = F.interpolate(patches, rows, mode="bicubic", antialias=True)
    resampled = resampled.flatten(2)[0].T.to(code.dtype)
    return torch.cat([resampled, code[-1:]])


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
