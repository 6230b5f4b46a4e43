"""The one network that makes features of epochs, for a store of them and for staging alike."""

from collections.abc import Callable

import numpy as np
import torch

from partsig.errors import ConfigError
from partsig.runs import features
from partsig.runs.exported import LoadedModel

Bands = Callable[[np.ndarray], np.ndarray]


def feature_network(
    loaded: LoadedModel | None,
    pool: str | None,
    blocks: int,
    bands: Bands | None,
    device: torch.device,
) -> features.FrozenNetwork:
    """Return what makes features (b, F) of epochs (b, C, T): an encoder's, band powers, or both.

    In this order. ``pool`` and ``blocks`` are the encoder's, see
    :func:`~partsig.runs.features.embed_windows`; ``bands`` makes log band powers of epochs.
    Raises ConfigError where there is neither.
    """
    takes: list[Callable[[torch.Tensor], torch.Tensor]] = []
    if loaded is not None:
        model, window = loaded.model.eval().to(device), loaded.window[-1]
        takes.append(lambda x: features.embed_windows(model, window, x, pool, blocks))
    if bands is not None:
        takes.append(lambda x: torch.from_numpy(bands(x.cpu().numpy()).astype(np.float32)))
    if not takes:
        raise ConfigError("features are of an encoder, band powers, or both: neither is given.")
    return features.FrozenNetwork(
        take=lambda x: torch.cat([take(x).float().cpu() for take in takes], dim=1)
    )
