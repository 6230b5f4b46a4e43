"""A frozen encoder from elsewhere, of signals: how loud each channel is, piece by piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from partsig.core.frozen_encoder import Encoded, FrozenEncoder
from partsig.errors import ConfigError
from partsig.runs.encoder_sources import OpenedEncoder


@dataclass(frozen=True)
class LoudnessConfig:
    """So many pieces of a window, of three channels."""

    pieces: int
    width: int = 3
    depth: int = 1


class Loudness(FrozenEncoder):
    """The logarithm of the SD of each piece."""

    rank, channels, pooled_width, tap_widths = 1, (3,), 3, (3,)

    def __init__(self, config: LoudnessConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("floor", torch.tensor(0.1))  # µV

    def encode(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        self.check(taps, project)
        pieces = x.float().tensor_split(self.config.pieces, dim=2)
        made = torch.stack([(one.std(2) + self.floor).log() for one in pieces], dim=2)
        return Encoded(pooled=made.mean(2), map=made, cls=None, maps=(made,) * len(taps))


def open_loudness(name: str, weights: Path | None) -> OpenedEncoder:
    """Return the encoder of as many pieces as ``name`` says."""
    if not name.isdigit():
        raise ConfigError(f"--from loudness:{name}: it is a number of pieces, such as loudness:6.")
    return OpenedEncoder(
        encoder=Loudness(LoudnessConfig(int(name))),
        method=f"loudness:{name}",
        facts={"builder": "loudness", "pieces": int(name), "width": 3, "depth": 1},
        licence="nobody's",
        sha256="0" * 64,
    )


def build(facts: Mapping) -> Loudness:
    """Return the encoder that a run tells of."""
    return Loudness(LoudnessConfig(int(facts["pieces"])))
