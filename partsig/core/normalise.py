"""Instance normalisation of windows, where they are cut: on the CPU or on the device."""

import torch
from torch import Tensor

# A channel whose standard deviation is below this, in the input's unit, is flat: it becomes 0 and
# is not blown up to noise. For signals in µV a hundredth is below any amplifier's resolution.
FLAT = 1e-2


def widened(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if that is what it has."""
    return x if x.dtype == torch.float64 else x.float()


def instance_normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return windows (B, C, *L) with mean 0 and SD 1 per window and channel, and their level.

    PART, section 3.4: "thirty-second windows are instance normalized"; per channel is our reading.
    In float32 at least. A flat channel becomes 0. The level (B, C) is what is lost by it: the
    natural logarithm of the SD in the input's unit, at least log 0.01.

    >>> normal, level = instance_normalise(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]]))
    >>> normal.tolist(), [round(v, 2) for v in level[0].tolist()]
    ([[[-1.0, 1.0], [0.0, 0.0]]], [0.0, -4.61])
    """
    x = widened(x)
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    spread = centred.square().mean(axes, keepdim=True).sqrt()
    normal = centred * torch.where(spread > FLAT, 1 / spread, 0.0)
    return normal, spread.clamp(min=FLAT).log().flatten(1)
