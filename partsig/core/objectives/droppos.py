"""DropPos: reconstruct dropped positions (Wang et al. 2023, arXiv 2309.03576)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder
from partsig.core.geometry import grid_index
from partsig.core.masking import kept, shuffled, take
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.decoder import Decoder
from partsig.core.objectives.settings import DropPosConfig
from partsig.core.position import sincos
from partsig.core.whole import Gather, alone
from partsig.errors import ConfigError


class DropPos(nn.Module):
    """Visible grid patches, most without their position, for windows (B, C, *L) of any rank, raw.

    The order is: patches are masked; of the visible ones, positions are dropped and replaced by a
    learned token; the encoder and a decoder without positions say for each where it lay among
    *all* patches of the grid. *Differs from the paper*: [CLS] is last and has no code.
    """

    def __init__(
        self, config: DropPosConfig, encoder: Encoder, window: Sequence[int], patch: Sequence[int]
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.patch = config, encoder, tuple(patch)
        index = grid_index(window, patch)
        n, width = len(index), encoder.config.width
        self.n_seen = kept(n, config.mask_ratio, "objective.mask_ratio")
        # int() of what keeps its position, as in the published code: 7 seen, 1 kept, 6 dropped.
        self.n_told = int(self.n_seen * (1 - config.position_ratio) + 1e-9)
        if self.n_told == self.n_seen:
            raise ConfigError(
                f"objective.position_ratio {config.position_ratio} drops none of {self.n_seen}."
            )
        self.register_buffer("code", sincos(index, width), persistent=False)
        squared = (index.unsqueeze(1) - index).square().sum(-1)  # (N, N)
        self.register_buffer("squared", squared, persistent=False)
        self.position_token = nn.Parameter(torch.empty(width))
        self.decoder = Decoder(config.decoder, width, n)
        nn.init.normal_(self.position_token, std=0.02)
        self.gather: Gather | None = alone if config.temperature else None

    def smoothed(self, sigma: float) -> Tensor:
        """Return target distributions (N, N) over all positions: exp(-distance² / sigma²)."""
        if sigma <= 0:
            return torch.eye(len(self.squared), device=self.squared.device)
        weight = torch.exp(-self.squared / sigma**2)
        return weight / weight.sum(-1, keepdim=True)

    @torch.no_grad()
    def weights(self, patches: Tensor, level: Tensor) -> Tensor:
        """Return how much each patch (B, N, C, *p) matters, (B, N): its likeness to [CLS].

        From a pass of the present encoder over all patches with all positions, as at evaluation.
        """
        if self.config.temperature == 0:
            return torch.full(patches.shape[:2], 1 / patches.shape[1], device=patches.device)
        training = self.encoder.training
        self.encoder.eval()
        tokens, cls = self.encoder(patches, level, self.code)
        self.encoder.train(training)
        likeness = F.cosine_similarity(widened(tokens), widened(cls).unsqueeze(1), dim=-1)
        return (likeness / self.config.temperature).softmax(-1)

    def predict(self, patches: Tensor, level: Tensor, seen: Tensor) -> Tensor:
        """Return logits (B, K, positions) of the patches ``seen`` (B, K).

        The first ``n_told`` of them come with their positions.
        """
        code = take(self.code.expand(len(seen), -1, -1), seen)  # (B, K, E)
        told = torch.arange(seen.shape[1], device=seen.device) < self.n_told
        code = torch.where(told[:, None], code, self.position_token)
        tokens, cls = self.encoder(take(patches, seen), level, code)
        tokens = self.decoder.enter(torch.cat([tokens, cls.unsqueeze(1)], dim=1))
        return self.decoder(tokens)[:, :-1]

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
        """Return the weighted cross-entropy (chance at sigma 0: ln N) and the accuracy, as scalars.

        ``generator`` and ``share`` as in :class:`~partsig.core.objectives.part.Part`; ``progress``
        is the share of the training that is over, for the smoothing. The weights sum to 1 over the
        visible patches of a window, and the loss is their mean over patches without position of
        the whole batch, also where it is divided.
        """
        x, level = instance_normalise(x)
        first, total = share or (0, len(x))
        order = shuffled(total, len(self.code), generator)[first : first + len(x)].to(x.device)
        seen = order[:, : self.n_seen]
        patches = crop_grid(x, self.patch)
        logits = widened(self.predict(patches, level, seen))[:, self.n_told :]
        truth = seen[:, self.n_told :]
        soft = self.smoothed(self.config.sigma * (1 - progress))[truth]  # (B, K', N)
        nats = -(soft * logits.log_softmax(-1)).sum(-1)
        weight = take(self.weights(patches, level), seen)
        weight = (weight / weight.sum(-1, keepdim=True))[:, self.n_told :]
        each = weight.sum(-1)  # (B,): what the told patches have is missing
        each = each if self.gather is None else self.gather(each)
        return {
            "loss": (weight * nats).sum() / (each.mean() * len(x)),
            "accuracy": (logits.detach().argmax(-1) == truth).float().mean(),
            "chance_accuracy": torch.full((), 1 / len(self.code), device=x.device),
        }
