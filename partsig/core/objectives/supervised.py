"""Supervised classification of windows on the grid: fine-tuning, and training from scratch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.crop import crop_exact
from partsig.core.encoder import Encoder
from partsig.core.geometry import grid
from partsig.core.normalise import instance_normalise
from partsig.core.transformer import initialise


class Classifier(nn.Module):
    """An encoder on grid patches, fresh learned positions, a linear head on [CLS] (section 3.3).

    ``positions`` False leaves the codes out: the paper's "supervised without position embeddings".
    """

    def __init__(
        self,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
        n_classes: int,
        positions: bool = True,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.patch = tuple(patch)
        self.smoothing = smoothing
        centres, sizes = grid(window, patch)
        self.register_buffer("starts", (centres - sizes / 2).long(), persistent=False)  # (N, D)
        width = encoder.config.width
        shape = (len(centres) + 1, width)
        self.positions = nn.Parameter(torch.empty(shape)) if positions else None
        if self.positions is not None:
            nn.init.trunc_normal_(self.positions, std=0.02)
        self.head = nn.Linear(width, n_classes)
        initialise(self.head)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of windows (B, C, *L), as recorded."""
        x = instance_normalise(x)
        starts = self.starts.expand(len(x), -1, -1)
        _, cls = self.encoder(crop_exact(x, starts, self.patch), self.positions)
        return self.head(cls)

    def forward(
        self,
        x: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        share: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of labels (B,) and the accuracy. Nothing is drawn here."""
        logits = self.logits(x).float()
        return {
            "loss": F.cross_entropy(logits, labels, label_smoothing=self.smoothing),
            "accuracy": (logits.detach().argmax(-1) == labels).float().mean(),
        }
