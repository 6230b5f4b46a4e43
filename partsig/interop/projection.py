"""Projection heads as MoCo v3, DINO and iBOT have them: what they compare images by in training."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from partsig.errors import ConfigError

# Above what any of them has: a file from elsewhere must not fill the memory.
WIDEST = 1 << 18


class Projector(nn.Module):
    """A head (B, E) to (B, K); ``width`` is K."""

    width: int


class MocoHead(Projector):
    """MoCo v3's: linear layers without bias, batch norms with running statistics, ReLU between.

    The last norm has no weight (arXiv 2104.02057, section 4.1; ``moco/builder.py``).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = widths[-1]
        layers: list[nn.Module] = []
        last = len(widths) - 2
        for number, (before, after) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(before, after, bias=False))
            layers.append(nn.BatchNorm1d(after, affine=number < last))
            if number < last:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DinoHead(Projector):
    """DINO's and iBOT's: linear layers with GELU between, length 1, and the prototypes.

    (arXiv 2104.14294, section 3.2.) What is projected is the likeness to every prototype, as the
    published study of parts takes it, not the bottleneck before them.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        *inner, self.width = widths
        layers: list[nn.Module] = []
        for before, after in pairwise(inner):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_layer = nn.Linear(inner[-1], self.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


KINDS: dict[str, type[Projector]] = {"moco": MocoHead, "dino": DinoHead}


def build_projector(told: Mapping[str, Any]) -> Projector:
    """Return an untrained head of a ``kind`` and of ``widths``; raise ConfigError for none."""
    widths = list(told["widths"])
    least = {"moco": 2, "dino": 3}.get(told["kind"])
    fits = all(isinstance(width, int) and 1 <= width <= WIDEST for width in widths)
    if least is None or len(widths) < least or len(widths) > 8 or not fits:
        raise ConfigError(f"there is no projection head {told['kind']!r} of widths {widths}.")
    return KINDS[told["kind"]](widths)
