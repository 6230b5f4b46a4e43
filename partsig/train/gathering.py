"""What a model is given in place of its ``gather`` while a batch is divided, see Objective."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def gathers(model: nn.Module) -> bool:
    """Tell whether a model needs the whole batch; one that does not say so does not."""
    return getattr(model, "gather", None) is not None


class Remembered:
    """A ``gather`` that notes what it is given, (B, …) at every call, and returns that."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.calls.append(rows.detach())
        return rows


class Placed:
    """A ``gather`` that puts a part's rows among those of the whole batch, known from before.

    ``calls`` has the whole batch's rows (total, …) at every call of the forward pass to come, of
    which these, ``first`` and following, have a gradient. It is total / B times as large, since
    the loss will be weighted with this part's share of the batch: so the parts' gradients add up to
    the whole's (the chain rule, as in GradCache: Gao et al. 2021, arXiv 2101.06983, section 3.2).
    """

    def __init__(self, calls: Sequence[Tensor], first: int) -> None:
        self.calls, self.first = iter(calls), first

    def __call__(self, rows: Tensor) -> Tensor:
        whole, value = next(self.calls), rows.detach()
        own = value + (len(whole) / len(rows)) * (rows - value)
        return torch.cat([whole[: self.first], own, whole[self.first + len(rows) :]])
