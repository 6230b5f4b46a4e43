"""MAE: reconstruct masked patches from the visible ones (He et al. 2022, arXiv 2111.06377)."""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder
from partsig.core.geometry import grid_index
from partsig.core.masking import kept, shuffled, take
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.decoder import Decoder
from partsig.core.objectives.settings import MaeConfig
from partsig.core.position import sincos
from partsig.errors import ConfigError


class MaskedPatches(nn.Module):
    """What MAE has beside an encoder: who is hidden, the decoder, and how wrong it is.

    *Differs from the paper*: [CLS] is last, as everywhere here; weights start as the encoder's do
    (truncated normal), not Xavier.
    """

    def __init__(
        self, config: MaeConfig, encoder: Encoder, window: Sequence[int], patch: Sequence[int]
    ) -> None:
        super().__init__()
        self.config, self.patch = config, tuple(patch)
        index = grid_index(window, patch)
        n, width, inner = len(index), encoder.config.width, config.decoder.width
        self.n_kept = kept(n, config.mask_ratio, "objective.mask_ratio")
        if self.n_kept == n:
            raise ConfigError(
                f"objective.mask_ratio {config.mask_ratio} hides none of {n} patches."
            )
        self.register_buffer("code", sincos(index, width), persistent=False)
        # [CLS] has a place in the decoder, with no code.
        code = torch.cat([sincos(index, inner), torch.zeros(1, inner)])
        self.register_buffer("decoder_code", code, persistent=False)
        self.mask_token = nn.Parameter(torch.empty(inner))
        self.decoder = Decoder(config.decoder, width, encoder.embed.in_features)
        nn.init.normal_(self.mask_token, std=0.02)

    def reconstruct(
        self, encoder: Encoder, patches: Tensor, level: Tensor, order: Tensor
    ) -> Tensor:
        """Return reconstructions (B, N, C * prod(p)) of the grid's patches (B, N, C, *p).

        The first ``n_kept`` of each row of ``order`` (B, N) are seen by the encoder, with their
        positions; the others are mask tokens to the decoder.
        """
        seen = order[:, : self.n_kept]
        code = self.code.expand(len(order), -1, -1)
        tokens, cls = encoder(take(patches, seen), level, take(code, seen))
        tokens = self.decoder.enter(torch.cat([tokens, cls.unsqueeze(1)], dim=1))
        hidden = self.mask_token.expand(*order[:, self.n_kept :].shape, -1).to(tokens.dtype)
        drawn = torch.cat([tokens[:, :-1], hidden], dim=1)  # in the order of ``order``
        back = order.argsort(dim=1)
        full = torch.cat([take(drawn, back), tokens[:, -1:]], dim=1) + self.decoder_code
        return self.decoder(full)[:, :-1]

    def target(self, patches: Tensor) -> Tensor:
        """Return what patches (B, N, C, *p) are reconstructed as, (B, N, C * prod(p))."""
        values = patches.flatten(3)  # (B, N, C, prod(p))
        if self.config.target == "patch":
            values = values.flatten(2)
        if self.config.target != "raw":
            spread = (values.var(-1, keepdim=True) + 1e-6).sqrt()
            values = (values - values.mean(-1, keepdim=True)) / spread
        return values.reshape(*patches.shape[:2], prod(patches.shape[2:]))

    def errors(
        self,
        encoder: Encoder,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the squared error over masked patches, and its chance level, as scalars.

        ``x``, ``generator`` and ``share`` as in :class:`~partsig.core.objectives.part.Part`. Chance
        is the error of predicting the mean value everywhere.
        """
        x, level = instance_normalise(x)
        first, total = share or (0, len(x))
        order = shuffled(total, len(self.code), generator)[first : first + len(x)].to(x.device)
        patches = crop_grid(x, self.patch)
        hidden = order[:, self.n_kept :]
        truth = take(self.target(patches), hidden)
        error = take(widened(self.reconstruct(encoder, patches, level, order)), hidden) - truth
        return error.square().mean(), (truth - truth.mean()).square().mean()


class Mae(MaskedPatches):
    """Encoder of visible patches and decoder of all, for windows (B, C, *L) of any rank, raw."""

    def __init__(
        self, config: MaeConfig, encoder: Encoder, window: Sequence[int], patch: Sequence[int]
    ) -> None:
        super().__init__(config, encoder, window, patch)
        self.encoder = encoder

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        share = measures["mse"] / measures["chance"] if measures["chance"] else 1.0
        return (
            f"hidden parts of {whose} windows rebuilt with {share:.0%} of the error of a flat line"
        )

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
        """Return the squared error over masked patches, and its chance level, as scalars.

        ``generator`` and ``share`` as in :class:`~partsig.core.objectives.part.Part`; ``progress``
        is not used.
        """
        loss, chance = self.errors(self.encoder, x, generator, share)
        return {"loss": loss, "mse": loss.detach(), "chance": chance}
