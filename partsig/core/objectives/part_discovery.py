"""Part discovery: parts that are alike within, alike in all images, and move with what they are of.

Source: S. Choudhury, I. Laina, C. Rupprecht, A. Vedaldi, Unsupervised part discovery from
contrastive reconstruction, NeurIPS 2021: L = λf L_f + λc L_c + λv L_v + λe L_e. As in its published
code, the squares of L_f are summed over the batch and those of L_v averaged, all by the foreground
of each window; L_e is one divergence, of the parts of the changed window from the changed parts of
the window, which are its fixed target (the paper: both ways); appearance is CIELAB; the contrast is
of descriptors of length 1, against all other parts in all windows, the own one too (the paper: in
all others).

*Differs from the published code*: the positive is the same part of any other window of the batch,
where the code passes over one; losses are told on the grid of the maps, not at the window's full
resolution; with known views the first view is not changed in look, and the second is one of a few.
``weighting=unit`` is ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.contracts import Looks
from partsig.core.objectives import discovery_losses as losses
from partsig.core.objectives.discovery import Discovery, Views, dead
from partsig.core.objectives.discovery_settings import PartDiscoveryConfig
from partsig.core.perception import FrozenMaps


class PartDiscovery(Discovery):
    """Part discovery by contrastive reconstruction, of windows (B, C, *L) of any rank."""

    def __init__(
        self,
        config: PartDiscoveryConfig,
        phi: FrozenMaps,
        looks: Looks,
        segmenter: nn.Module | None = None,
    ) -> None:
        super().__init__(config, phi, looks, segmenter)
        self.raw = config.weighting == "published"

    def drawn(self, total: int, generator: torch.Generator) -> Tensor:
        """Return the number (total,) of each window's partner: so many places further on."""
        device = generator.device
        further = torch.randint(max(total - 1, 1), (total,), generator=generator, device=device)
        return (torch.arange(total, device=device) + 1 + further) % total

    def loss_of(self, x: Tensor, seen: Views, ground: Tensor, partner: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms, ``unexplained`` and how many parts are dead."""
        config, raw = self.config, self.raw
        grid = seen.maps.shape[2:]
        maps, inside = self.valued(seen.maps, raw), ground.flatten(2)  # (B, F, U), (B, 1, U)
        weights = seen.first.flatten(2).softmax(1) * inside  # (B, K, U)
        means = losses.descriptors(maps, weights)
        within = losses.scatter(maps, weights, means)  # (B,)
        unit = F.normalize(means, dim=2)
        rows = torch.cat([unit.flatten(1), weights.detach().sum(2)], dim=1)
        rows = self.gather(rows)
        every, mass = rows.split([unit[0].numel(), config.parts], dim=1)
        every = every.unflatten(1, unit.shape[1:])  # (N, K, F)
        target, made = seen.warp(seen.first).flatten(2), seen.second.flatten(2)
        moved = seen.warp(ground).flatten(2)  # (B, 1, U)
        terms = {
            "feature": within.mean() * (len(every) if raw else 1),
            "contrast": self._contrast(every, partner, seen, moved),
            "visual": self._visual(x, grid, weights),
            "equivariance": self._equivariance(target, made, moved.squeeze(1)),
        }
        scale = config.weights()
        loss = sum(scale[name] * value for name, value in terms.items() if scale[name])
        around = (maps - self._middle(maps)).square().sum(1) * inside.squeeze(1)
        spread = around.sum(1) / (inside.sum((1, 2)) + losses.LEAST)
        return {
            "loss": loss,
            **{name: value.detach() for name, value in terms.items()},
            "unexplained": (within.mean() / spread.mean().clamp(min=1e-12)).detach(),
            "dead_parts": dead(mass.detach()),
        }

    def _middle(self, maps: Tensor) -> Tensor:
        """Return the mean of the maps over all windows, as the losses see them."""
        middle = self.mean * self.factors if self.raw else torch.zeros_like(self.mean)
        return middle.view(1, -1, 1).to(maps.dtype)

    def _contrast(self, every: Tensor, partner: Tensor, seen: Views, moved: Tensor) -> Tensor:
        kind = self.config.contrast
        if kind == "none":
            return every.new_zeros(())
        if kind == "views":
            weights = seen.second.flatten(2).softmax(1) * moved
            maps = self.valued(seen.changed, self.raw)
            other = F.normalize(losses.descriptors(maps, weights), dim=2)
            other = self.gather(other)
        else:
            # Of a part of a batch that is looked at beforehand nothing is learned, see gathering.
            other = every[partner[: len(every)] % len(every)]
        if kind == "l2":
            return (every - other).square().sum(2).mean()
        return losses.contrast(every, other, every, self.config.temperature)

    def _visual(self, x: Tensor, grid: torch.Size, weights: Tensor) -> Tensor:
        if not self.config.weights()["visual"]:
            return weights.new_zeros(())
        look = self.appearance(x, grid, self.raw)
        return losses.scatter(look, weights, losses.descriptors(look, weights)).mean()

    def _equivariance(self, target: Tensor, made: Tensor, moved: Tensor) -> Tensor:
        if self.config.directions == "one":
            return losses.divergence(target.detach(), made, moved).mean()
        both = losses.divergence(target, made, moved) + losses.divergence(made, target, moved)
        return both.mean()
