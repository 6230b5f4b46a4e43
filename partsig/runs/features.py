"""What an encoder makes of windows: the one place where frozen features are computed."""

import torch
from torch import Tensor

from partsig.core.crop import crop_grid
from partsig.core.encoder import log_spectrum
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.supervised import Classifier, pooled, pooled_width
from partsig.errors import ConfigError
from partsig.runs.exported import POOLS, LoadedModel


def check_pool(pool: str | None, loaded: LoadedModel) -> str:
    """Return the pool that is meant; None and ``auto`` are the model's own."""
    if pool in (None, "auto"):
        return loaded.pool
    if pool not in POOLS:
        raise ConfigError(f"pool is {pool!r}; it can be auto, {', '.join(POOLS)}.")
    return pool


def width_of(model: Classifier, pool: str) -> int:
    """Return how many numbers :func:`embed_windows` gives."""
    return pooled_width(model.encoder, model.patch, pool)


def starts(n_times: int, window: int) -> list[int]:
    """Return where windows begin that cover ``n_times`` samples, as few as will do.

    >>> starts(3000, 500), starts(3000, 3000), starts(3000, 700)
    ([0, 500, 1000, 1500, 2000, 2500], [0], [0, 575, 1150, 1725, 2300])
    """
    n = -(-n_times // window)
    return [round(i * (n_times - window) / max(n - 1, 1)) for i in range(n)]


def embed_windows(model: Classifier, window: int, x: Tensor, pool: str, blocks: int = 0) -> Tensor:
    """Return embeddings (B, F) of windows (B, C, *L), the last axis at least ``window`` long.

    Longer signals are encoded in the windows of :func:`starts`, each normalised by itself as in
    training; patch tokens of all are pooled together, [CLS] tokens are averaged. ``blocks``: what
    the encoder makes of them after its first so many blocks; 0 is all.
    """
    first = starts(x.shape[-1], window)
    pieces = torch.stack([x[..., at : at + window] for at in first], dim=1)  # (B, n, C, *window)
    normal, level = instance_normalise(pieces.flatten(0, 1))
    patches = crop_grid(normal, model.patch)
    tokens, cls = model.encoder(patches, level, model.positions, blocks=blocks)
    together = (-1, len(first))
    spectrum = None
    if pool == "mean+sd+spectrum":
        spectrum = log_spectrum(patches, level).mean(1).unflatten(0, together).mean(1).flatten(1)
    cls = cls.unflatten(0, together).mean(1)
    return pooled(pool, tokens.unflatten(0, together).flatten(1, 2), cls, spectrum)
