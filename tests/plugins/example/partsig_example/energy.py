"""An objective: how much louder or quieter is each hidden patch than its window?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder
from partsig.core.normalise import instance_normalise
from partsig.errors import check_range


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """How loud hidden patches are."""

    name: Literal["energy"] = "energy"
    hidden: Annotated[float, "share of the patches whose samples are silenced"] = 0.5

    def __post_init__(self) -> None:
        check_range("objective.hidden", self.hidden, 0.0, 0.9)


class Energy(nn.Module):
    """Regression of the log energy of grid patches, for windows (B, C, *L) of any rank."""

    Config = EnergyConfig

    def __init__(
        self,
        config: EnergyConfig,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.patch = config, encoder, tuple(patch)
        self.head = nn.Linear(encoder.config.width, 1)

    def compilable(self) -> list[nn.Module]:
        """Return the modules worth compiling."""
        return [self.encoder.blocks]

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
    ) -> dict[str, Tensor]:
        """Return the squared error of hidden patches, and that of their mean, as scalars."""
        x, level = instance_normalise(x)
        patches = crop_grid(x, self.patch)  # (B, N, C, *p)
        energy = patches.flatten(2).square().mean(-1).add(1e-6).log()
        energy = energy - energy.mean(1, keepdim=True)
        first, total = share or (0, len(x))
        drawn = torch.rand(total, energy.shape[1], generator=generator, device=generator.device)
        every = (drawn < self.config.hidden).to(x.device)
        hidden = every[first : first + len(x)]
        shown = patches * ~hidden.view(*hidden.shape, *(1,) * (patches.ndim - 2))
        tokens, _ = self.encoder(shown, level)
        wrong = (self.head(tokens).squeeze(-1) - energy).square()
        # Of the whole batch, so that its parts' losses average to its own.
        n = every.sum().clamp(min=1) * (len(x) / total)
        return {
            "loss": (wrong * hidden).sum() / n,
            "mse": (wrong * hidden).sum().detach() / n,
            "chance": (energy.square() * hidden).sum() / n,
        }
