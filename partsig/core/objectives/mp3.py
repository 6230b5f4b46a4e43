"""MP3: say where on the grid each patch lies (Zhai et al. 2022, arXiv 2207.07611)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder
from partsig.core.geometry import grid
from partsig.core.masking import kept, shuffled
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.settings import Mp3Config
from partsig.core.transformer import initialise
from partsig.errors import ConfigError


class Mp3(nn.Module):
    """Classification of every grid patch's position, for windows (B, C, *L) of any rank, raw.

    No position code anywhere. All patches are queries; keys and values are a random subset and
    [CLS], the same subset in every layer. All patches, context or not, are in the loss.
    """

    def __init__(
        self, config: Mp3Config, encoder: Encoder, window: Sequence[int], patch: Sequence[int]
    ) -> None:
        super().__init__()
        if encoder.config.attention == "patch":
            raise ConfigError(
                "objective=mp3 learns from the patches around; encoder.attention=patch shows none. "
                "Set encoder.attention=window."
            )
        self.config, self.encoder, self.patch = config, encoder, tuple(patch)
        self.n_patches = len(grid(window, patch)[0])
        self.n_keys = kept(self.n_patches, config.mask_ratio, "objective.mask_ratio")
        self.head = nn.Linear(encoder.config.width, self.n_patches)
        initialise(self.head)

    def predict(self, patches: Tensor, level: Tensor, keys: Tensor) -> Tensor:
        """Return logits (B, N, positions) of patches (B, N, C, *p); only ``keys`` are context."""
        tokens, _ = self.encoder(patches, level, keys=keys)
        return self.head(tokens)

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        right, chance = measures["accuracy"], measures["chance_accuracy"]
        return f"place right of {right:.0%} of the patches of {whose} windows (chance {chance:.0%})"

    def compilable(self) -> list[nn.Module]:
        """Return what is worth compiling."""
        return [self.encoder.blocks]

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
    ) -> dict[str, Tensor]:
        """Return the cross-entropy over positions (chance: ln N) and the accuracy, as scalars.

        ``generator`` and ``share`` as in :class:`~partsig.core.objectives.part.Part`; ``progress``
        is not used. Patches stay in the order of the grid: without a position code the network
        cannot know it.
        """
        x, level = instance_normalise(x)
        first, total = share or (0, len(x))
        order = shuffled(total, self.n_patches, generator)[first : first + len(x)].to(x.device)
        logits = self.predict(crop_grid(x, self.patch), level, order[:, : self.n_keys])
        truth = torch.arange(self.n_patches, device=x.device).expand(len(x), -1)
        return {
            "loss": F.cross_entropy(widened(logits).flatten(0, 1), truth.flatten()),
            "accuracy": (logits.detach().argmax(-1) == truth).float().mean(),
            "chance_accuracy": torch.full((), 1 / self.n_patches, device=x.device),
        }
