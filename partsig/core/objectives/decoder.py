"""The light decoder that MAE and DropPos put behind the encoder and throw away afterwards."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from partsig.core.transformer import Transformer, initialise
from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of the decoder. Published for images: width 512, 16 heads, depth 8 (MAE), 2 (DropPos).

    Nothing is published for signals.
    """

    width: Annotated[int, "size of a token in the decoder; a multiple of its heads"] = 256
    depth: Annotated[int, "transformer blocks of the decoder; published: 8 (MAE), 2 (DropPos)"] = 2
    heads: Annotated[int, "attention heads of a block of the decoder"] = 8

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads"):
            check_range(f"objective.decoder.{name}", getattr(self, name), 1)
        if self.width % self.heads:
            raise ConfigError(
                f"objective.decoder.width ({self.width}) must be a multiple of "
                f"objective.decoder.heads ({self.heads})."
            )


class Decoder(nn.Module):
    """From the encoder's width to its own, a transformer, a norm, and a linear map to outputs."""

    def __init__(self, config: DecoderConfig, width: int, n_outputs: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, config.width)
        self.blocks = Transformer(config.depth, config.width, config.heads)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.output = nn.Linear(config.width, n_outputs)
        self.apply(initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return outputs (B, N, O) of tokens (B, N, width of the decoder) that have entered."""
        return self.output(self.norm(self.blocks(tokens)))
