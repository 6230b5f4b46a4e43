"""From patches to tokens: linear tokens, [CLS], transformer, final norm; and a classifier on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from partsig.core.transformer import Transformer, initialise
from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of the encoder. The defaults are the paper's 12.9-M one for EEG (section 3.4).

    The paper gives the number only; with 600 values per patch, MLP ratio 4 and a width that is a
    multiple of 32, depth 4 and width 512 is the one shape that has it: 12,918,784 parameters.
    """

    width: int = 512
    depth: int = 4
    heads: int = 8
    mlp_ratio: float = 4.0
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads"):
            check_range(f"encoder.{name}", getattr(self, name), 1)
        check_range("encoder.mlp_ratio", self.mlp_ratio, 0.1)
        check_range("encoder.drop_path", self.drop_path, 0.0, 0.99)
        if self.width % self.heads:
            raise ConfigError(
                f"encoder.width ({self.width}) must be a multiple of encoder.heads ({self.heads})."
            )


class Encoder(nn.Module):
    """ViT over patches (B, N, C, *p), [CLS] as the last token (as in PART's code), no positions.

    Without a position code the patch tokens are equivariant and [CLS] invariant to the order of the
    patches.
    """

    def __init__(self, config: EncoderConfig, channels: int, patch: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(channels * prod(patch), config.width)
        self.cls = nn.Parameter(torch.empty(config.width))
        self.blocks = Transformer(
            config.depth, config.width, config.heads, config.mlp_ratio, config.drop_path
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.apply(initialise)
        nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(self, patches: Tensor, code: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return patch tokens (B, N, E) and the [CLS] token (B, E).

        ``code`` is added to the tokens: (N, E) or (B, N, E), or with N + 1 entries, the last of
        which belongs to [CLS].
        """
        tokens = self.embed(patches.flatten(2))  # (B, N, E)
        cls = self.cls.expand(len(tokens), 1, -1)
        n = tokens.shape[1]
        if code is not None and code.shape[-2] == n:
            tokens = tokens + code
        tokens = torch.cat([tokens, cls.to(tokens.dtype)], dim=1)  # (B, N + 1, E)
        if code is not None and code.shape[-2] == n + 1:
            tokens = tokens + code
        tokens = self.norm(self.blocks(tokens))
        return tokens[:, :-1], tokens[:, -1]
