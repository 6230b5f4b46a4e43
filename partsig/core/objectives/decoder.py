"""The light decoder that MAE and DropPos put behind the encoder and throw away afterwards."""

from torch import Tensor, nn

from partsig.core.objectives.settings import DecoderConfig
from partsig.core.transformer import Transformer, initialise


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
