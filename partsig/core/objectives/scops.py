"""SCOPS: parts that are compact, move with what they are of, and stand for a vector of features.

Source: W.-C. Hung, V. Jampani, S. Liu, P. Molchanov, M.-H. Yang, J. Kautz, SCOPS: self-supervised
co-part segmentation, CVPR 2019: geometric concentration, equivariance of parts and of their
centres, semantic consistency with a learned vector for each part, and orthonormality of these.

*Differs from the paper*: the background is no part of its own, places outside of the foreground
count in no loss; features and vectors may be negative (maps at unit variance, no ReLU); the vectors
learn at the rate of all else (the published code: a thousand times that of the network).
"""

import torch
from torch import Tensor, nn

from partsig.contracts import Looks
from partsig.core.objectives import discovery_losses as losses
from partsig.core.objectives.discovery import Discovery, Views, dead
from partsig.core.objectives.discovery_settings import ScopsConfig
from partsig.core.perception import FrozenMaps
from partsig.core.warping import centres


class Scops(Discovery):
    """SCOPS's losses on the same segmenters and networks, for windows (B, C, *L) of any rank."""

    def __init__(
        self,
        config: ScopsConfig,
        phi: FrozenMaps,
        looks: Looks,
        segmenter: nn.Module | None = None,
    ) -> None:
        super().__init__(config, phi, looks, segmenter)
        width = sum(phi.widths)
        self.basis = nn.Parameter(torch.randn(config.parts, width) / width**0.5)

    def loss_of(self, x: Tensor, seen: Views, ground: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms, ``unexplained`` and how many parts are dead."""
        inside = ground.flatten(2)  # (B, 1, U)
        parts = seen.first.flatten(2).softmax(1)
        weights = parts * inside
        places = centres(seen.maps.shape[2:], parts)
        maps = self.valued(seen.maps, raw=False)
        moved = seen.warp(ground).flatten(2)
        target, made = seen.warp(seen.first).flatten(2), seen.second.flatten(2)
        inner = moved.squeeze(1)
        apart = [
            losses.part_centres(one.softmax(1) * moved, places) for one in (target.detach(), made)
        ]
        terms = {
            "concentration": losses.concentration(weights, places).mean(),
            "equivariance": losses.divergence(target.detach(), made, inner).mean(),
            "centres": (apart[0] - apart[1]).square().sum(2).mean(),
            "semantic": losses.reconstruction(maps, parts, self.basis, inside.squeeze(1)).mean(),
            "orthogonality": losses.likeness_of_parts(self.basis),
        }
        loss = sum(getattr(self.config, name) * value for name, value in terms.items())
        means = losses.descriptors(maps, weights)
        within = losses.scatter(maps, weights, means).mean()
        around = (maps.square().sum(1) * inside.squeeze(1)).sum(1)
        spread = (around / (inside.sum((1, 2)) + losses.LEAST)).mean()
        mass = self.gather(weights.detach().sum(2))
        return {
            "loss": loss,
            **{name: value.detach() for name, value in terms.items()},
            "unexplained": (within / spread.clamp(min=1e-12)).detach(),
            "dead_parts": dead(mass),
        }
