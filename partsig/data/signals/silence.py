"""Channels that are silent: in windows that are pretrained on, by chance."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from partsig.seeds import Stream, rng_of


@dataclass
class Silenced:
    """Which channels of pretraining's windows are 0: drawn by (seed, epoch), never all of one.

    Where halves of a window are told by each other, each has channels of its own that are silent:
    what is missing would tell which belong together.
    """

    n_chans: int
    chance: float
    parts: int
    seed: int
    _table: tuple[int, np.ndarray] | None = None

    def kept(self, epoch: int, n: int) -> np.ndarray:
        """Return which channels are kept of the n windows of an epoch, (n, parts, C) bool."""
        if self._table is None or self._table[0] != epoch or len(self._table[1]) != n:
            rng = rng_of(Stream.SILENCE, self.seed, epoch)
            drawn = rng.random((n, self.parts, self.n_chans), np.float32)
            kept = (drawn >= self.chance) | (drawn == drawn.max(-1, keepdims=True))
            self._table = (epoch, kept)
        return self._table[1]

    def apply(self, batch: np.ndarray | torch.Tensor, kept: np.ndarray | torch.Tensor) -> None:
        """Set what is not ``kept`` (n, parts, C) of windows (n, C, T) to 0, in place."""
        edges = [round(i * batch.shape[-1] / self.parts) for i in range(self.parts + 1)]
        for part, (a, b) in enumerate(pairwise(edges)):
            batch[..., a:b] *= kept[:, part, :, None]
