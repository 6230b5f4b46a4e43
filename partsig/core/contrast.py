"""Two views of one thing should be alike, and unlike all others."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.transformer import initialise

TEMPERATURE = 0.1  # SimCLR's (Chen et al. 2020, table 5)
OUTPUTS = 64


class Projection(nn.Module):
    """From a summary (B, E) to what is compared (B, 64): one hidden layer, as in SimCLR."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, OUTPUTS)
        )
        self.apply(initialise)
        for layer in (self.layers[0], self.layers[2]):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, summary: Tensor) -> Tensor:
        return self.layers(summary)


def info_nce(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric InfoNCE loss (nats) of views (B, F), and how often the match is found.

    Row i of ``first`` belongs to row i of ``second``; the other rows are the negatives (van den
    Oord et al. 2018, eq. 4, both ways as in CLIP). Chance is log B.

    >>> far = 100 * torch.eye(4)
    >>> [round(v.item(), 3) for v in info_nce(far, far)]
    [0.0, 1.0]
    """
    likeness = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / TEMPERATURE  # (B, B)
    truth = torch.arange(len(first), device=first.device)
    nats = (F.cross_entropy(likeness, truth) + F.cross_entropy(likeness.T, truth)) / 2
    return nats, (likeness.detach().argmax(1) == truth).float().mean()
