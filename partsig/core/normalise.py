"""Instance normalisation of windows, where they are cut: on the CPU or on the device."""

import torch
from torch import Tensor

# A channel whose standard deviation is below this, in the input's unit, is flat: it becomes 0 and
# is not blown up to noise. For signals in µV a hundredth is below any amplifier's resolution.
FLAT = 1e-2


def instance_normalise(x: Tensor) -> Tensor:
    """Return windows (B, C, *L) with mean 0 and SD 1 per window and channel, in float32 at least.

    PART, section 3.4: "thirty-second windows are instance normalized"; per channel is our reading.
    A flat channel becomes 0.

    >>> instance_normalise(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])).tolist()
    [[[-1.0, 1.0], [0.0, 0.0]]]
    """
    x = x if x.dtype == torch.float64 else x.float()
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    spread = centred.square().mean(axes, keepdim=True).sqrt()
    return centred * torch.where(spread > FLAT, 1 / spread, 0.0)
