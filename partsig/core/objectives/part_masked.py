"""PART and masked patches on one encoder (ours, after the outlook of arXiv 2506.03682)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from partsig.core.encoder import Encoder
from partsig.core.objectives.mae import MaskedPatches
from partsig.core.objectives.part import Part
from partsig.core.objectives.settings import MaeConfig, PartMaskedConfig


class PartMasked(Part):
    """PART's off-grid patches without positions, and MAE's on the grid with them, in every step.

    The encoder is one, its two passes are apart: neither loss sees the other's patches. What is
    told of PART is told by the same names; the masked patches' error is ``masked_mse``.
    """

    def __init__(
        self,
        config: PartMaskedConfig,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
    ) -> None:
        super().__init__(config, encoder, window, patch)
        masked = MaeConfig(mask_ratio=config.mask_ratio, decoder=config.decoder)
        self.masked = MaskedPatches(masked, encoder, window, patch)

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        share = measures["masked_mse"] / measures["masked_chance"]
        related = Part.in_words(measures, whose)
        return f"{related}; hidden patches rebuilt with {share:.0%} of the error of a flat line"

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
        foreground: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted sum of both losses and their companions, as scalars.

        Arguments as in :class:`~partsig.core.objectives.part.Part`.
        """
        told = super().forward(x, generator, share, progress, foreground)
        masked, chance = self.masked.errors(self.encoder, x, generator, share)
        return told | {
            "loss": told["loss"] + self.config.reconstruct * masked,
            "loss_related": told["loss"].detach(),
            "masked_mse": masked.detach(),
            "masked_chance": chance,
        }
