"""Relative positioning: are patches near or far (Banville et al. 2021, arXiv 2007.16104)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core import geometry, target
from partsig.core.crop import crop_exact
from partsig.core.encoder import Encoder
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.settings import RelativePositioningConfig
from partsig.core.transformer import initialise
from partsig.core.whole import mean_where
from partsig.errors import ConfigError


class RelativePositioning(nn.Module):
    """Logistic regression on |h_i - h_j|, for windows (B, C, *L) of any rank, raw.

    h are the tokens of off-grid patches. A pair is near where the distance between its middles is
    at most ``near`` patches, far where it is more than ``far``; no other is in the loss, in which
    both kinds weigh the same. *Differs from the paper*: all pairs of a window's patches are looked
    at; those that overlap are left out, which windows cut from a recording one after the other
    never do; tokens know the patches around them unless ``encoder.attention`` is patch; and what is
    normalised is the window that holds the patches, not each of them.
    """

    def __init__(
        self,
        config: RelativePositioningConfig,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
    ) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        self.window, self.patch = tuple(window), tuple(patch)
        self.n_patches = config.patches or len(geometry.grid(window, patch)[0])
        sides = ((length - p) / p for length, p in zip(window, patch, strict=True))
        farthest = sum(side**2 for side in sides) ** 0.5
        if self.n_patches < 2:
            raise ConfigError("objective.patches is 1: there is no pair. Set it to 2 or more.")
        if farthest <= config.far:
            raise ConfigError(
                f"objective.far is {config.far:g} patches, and two of a window's {self.n_patches} "
                f"lie {farthest:.3g} apart at most: none are far. Set objective.far lower, or take "
                "longer windows."
            )
        self.head = nn.Linear(encoder.config.width, 1)
        initialise(self.head)

    def predict(self, patches: Tensor, level: Tensor | None, pairs: Tensor) -> Tensor:
        """Return the logit (B, P) of near for pairs (P, 2) of patches (B, N, C, *p)."""
        tokens, _ = self.encoder(patches, level)
        one, other = (widened(tokens)[:, ends] for ends in pairs.unbind(1))
        return self.head((one - other).abs()).squeeze(-1)

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        right, chance = measures["accuracy"], measures["chance_accuracy"]
        return f"near and far told apart in {right:.0%} of {whose} pairs (chance {chance:.0%})"

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
        """Return the cross-entropy (chance: ln 2) and the accuracy, near and far weighing the same.

        ``generator`` and ``share`` as in :class:`~partsig.core.objectives.part.Part`; ``progress``
        is not used. Where a batch has no near or no far pair at all, that half of them is 0, and
        chance is half of what it is otherwise.
        """
        x, level = instance_normalise(x)
        first, total = share or (0, len(x))
        positions, sizes = geometry.off_grid(
            total, self.n_patches, self.window, self.patch, generator
        )
        positions, sizes = positions.to(x.device), sizes.to(x.device)
        pairs = torch.triu_indices(self.n_patches, self.n_patches, 1, device=x.device).T
        near, far = self._kinds(target.translation(positions, sizes, pairs))  # of the whole batch
        mine = slice(first, first + len(x))
        starts = (positions - sizes / 2)[mine].round().long()
        logits = self.predict(crop_exact(x, starts, self.patch), level, pairs)
        loss = accuracy = chance = torch.zeros((), device=x.device)
        for kind, truth in ((near, 1.0), (far, 0.0)):
            nats = F.binary_cross_entropy_with_logits(
                logits, torch.full_like(logits, truth), reduction="none"
            )
            right = ((logits.detach() > 0) == bool(truth)).to(logits.dtype)
            loss = loss + mean_where(nats, kind[mine], kind) / 2
            accuracy = accuracy + mean_where(right, kind[mine], kind) / 2
            chance = chance + kind.any() / 4
        return {"loss": loss, "accuracy": accuracy, "chance_accuracy": chance}

    def _kinds(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which pairs of translations (B, P, D) are near and which far, each (B, P)."""
        distance = shift.square().sum(-1).sqrt()
        near = (distance <= self.config.near) & target.apart(shift)
        return near, distance > self.config.far
