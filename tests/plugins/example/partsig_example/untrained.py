"""Encoders from elsewhere: untrained ones, by their width."""

from pathlib import Path

import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.errors import ConfigError
from partsig.runs.encoder_sources import ForeignEncoder


def open_untrained(
    name: str, weights: Path | None, window: tuple[int, ...], n_channels: int
) -> ForeignEncoder:
    """Return an encoder of the width that ``name`` says, of patches of 100 samples."""
    if not name.isdigit():
        raise ConfigError(f"--from untrained:{name}: it is a width, such as untrained:16.")
    torch.manual_seed(0)
    patch = (100,)
    config = EncoderConfig(width=int(name), depth=1, heads=2, drop_path=0.0)
    return ForeignEncoder(
        encoder=Encoder(config, n_channels, patch),
        patch=patch,
        n_channels=n_channels,
        code=None,
        method=f"untrained:{name}",
    )
