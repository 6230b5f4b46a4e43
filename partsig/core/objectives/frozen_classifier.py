"""A linear head on an encoder that does not learn, whoever made it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from partsig.core.encoder import check_blocks
from partsig.core.frozen_encoder import Encoded, FrozenEncoder, FrozenShape
from partsig.core.objectives.supervised import (
    NO_PROJECTION,
    PROJECTED,
    EncoderClassifier,
    LossConfig,
)
from partsig.core.transformer import initialise
from partsig.errors import ConfigError

SPECTRUM = "mean+sd+spectrum"  # the pool that needs patches of partsig's own


@dataclass(frozen=True, kw_only=True)
class FrozenClassifierConfig:
    """What a head sees of which encoder; there are no position codes besides the encoder's own."""

    encoder: FrozenShape
    pool: str = "cls"
    blocks: int = 0
    positions: str = "none"


def check_use(encoder: FrozenEncoder, pool: str, blocks: int) -> None:
    """Raise ConfigError unless an encoder gives this pool, after so many blocks (0: all)."""
    if pool == SPECTRUM:
        raise ConfigError(
            f"pool={pool} is for partsig's own encoders; of this one pass cls, mean or mean+sd."
        )
    check_blocks(blocks, encoder.config.depth)
    if pool == PROJECTED and not encoder.projected_width:
        raise ConfigError(NO_PROJECTION)
    if pool == PROJECTED and blocks not in (0, encoder.config.depth):
        raise ConfigError(f"pool={pool} is of the whole encoder: leave out blocks={blocks}.")


class FrozenClassifier(EncoderClassifier):
    """An encoder that does not learn and a linear head: what a probe, or a vote, is taken from.

    ``pool`` as for :class:`~partsig.core.objectives.settings.ClassifierConfig`; of an encoder
    without [CLS], ``cls`` is the vector that it was made to be used by. ``blocks``: what it makes
    after its first so many blocks, behind its last norm; 0 is all.
    """

    learns_by = "head"

    def __init__(
        self,
        encoder: FrozenEncoder,
        pool: str,
        n_classes: int,
        blocks: int = 0,
        loss: LossConfig | None = None,
    ) -> None:
        super().__init__(loss or LossConfig())
        check_use(encoder, pool, blocks)
        self.config = FrozenClassifierConfig(encoder=encoder.config, pool=pool, blocks=blocks)
        self.encoder = encoder.requires_grad_(False)
        self.head = nn.Linear(self.width_of(pool, blocks), n_classes)
        initialise(self.head)

    def train(self, mode: bool = True) -> "FrozenClassifier":
        """Put the head in training or evaluation; the encoder stays as it is used."""
        super().train(mode)
        self.encoder.eval()
        return self

    @property
    def depth(self) -> int:
        """How many blocks of the encoder are used."""
        return self.config.blocks or self.encoder.config.depth

    def width_of(self, pool: str, blocks: int = 0) -> int:
        """Return how many numbers a head sees of so many blocks; 0 is all that are used."""
        encoder, blocks = self.encoder, blocks or self.depth
        whole = blocks == encoder.config.depth
        if pool == PROJECTED:
            return encoder.projected_width
        width = encoder.config.width if whole else encoder.tap_widths[blocks - 1]
        if pool == "cls":
            return encoder.pooled_width if whole and not encoder.has_cls else width
        return width * (2 if pool == "mean+sd" else 1)

    def encode(self, x: Tensor, pool: str, blocks: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return tokens (B, N, E), [CLS] (B, E) or the pooled vector (B, F), and None of windows.

        Windows (B, C, *L) are given as recorded; with the pool projection what is projected (B, F)
        takes the place of [CLS]. ``blocks``: after the first so many; 0 is as many
        as the head was made for.
        """
        check_use(self.encoder, pool, blocks)
        tokens, cls, made = self._after(x, blocks or self.depth, pool == PROJECTED)
        if pool == PROJECTED:
            return tokens, made.projection, None
        if cls is None:
            cls = tokens.mean(1) if made.maps else made.pooled
        return tokens, cls, None

    def tokens(self, x: Tensor) -> Tensor:
        """Return all tokens (B, N, E) of windows (B, C, *L), [CLS] the last where it has one."""
        tokens, cls, _ = self._after(x, self.depth)
        return tokens if cls is None else torch.cat([tokens, cls.unsqueeze(1)], dim=1)

    def _after(
        self, x: Tensor, blocks: int, project: bool = False
    ) -> tuple[Tensor, Tensor | None, Encoded]:
        """Return tokens (B, N, E) and [CLS] (B, E), if it has one then, after so many blocks."""
        if blocks == self.encoder.config.depth:
            made = self.encoder.encode(x, project=project)
            return made.map.flatten(2).transpose(1, 2), made.cls, made
        made = self.encoder.encode(x, taps=(blocks - 1,), norm=True)
        beside = made.prefix[0]  # of some encoders [CLS] joins the last blocks only
        has_cls = self.encoder.has_cls and beside is not None
        return made.maps[0].flatten(2).transpose(1, 2), beside[:, 0] if has_cls else None, made

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        return super().features(x)
