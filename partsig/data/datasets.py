"""Windows of a store as batches: any offset for pretraining, scored epochs for labels."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from partsig.data.recordings import EPOCH_S
from partsig.data.store import Store
from partsig.errors import ConfigError, DataError

# A channel that varies by less than this (µV, SD) is flat; it is not blown up to noise.
FLAT_UV = 1e-2


def normalise(windows: np.ndarray) -> np.ndarray:
    """Return windows (…, T) with mean 0 and SD 1 each, float32; a flat channel becomes 0.

    The paper's instance normalisation, read as per window and channel.

    >>> normalise(np.array([[1.0, 3.0], [5.0, 5.0]])).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    windows = np.asarray(windows, dtype=np.float32)
    centred = windows - windows.mean(axis=-1, keepdims=True)
    spread = centred.std(axis=-1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > FLAT_UV)


class RandomWindows:
    """Windows at any offset of the continuous signals of some subjects.

    An epoch is ``per_epoch`` windows (0: as many as the signal is long), every valid start of every
    recording being equally likely. Which windows those are depends on (seed, epoch) alone.
    """

    def __init__(
        self, store: Store, subjects: Iterable[str], window: int, seed: int, per_epoch: int = 0
    ) -> None:
        names = [name for subject in subjects for name in store.subjects[subject]]
        lengths = {name: store.recordings[name]["n_samples"] for name in names}
        self.names = [name for name in names if lengths[name] >= window]
        if not self.names:
            raise DataError(
                f"no recording of {store.path} is as long as a window "
                f"({window / store.sfreq:g} s); shorten window_s or add recordings."
            )
        self.window, self.seed = window, seed
        self._signals = [store.signal(name) for name in self.names]
        starts = np.array([lengths[name] - window + 1 for name in self.names])
        self._ends = np.cumsum(starts)
        self.per_epoch = per_epoch or math.ceil(sum(lengths[n] for n in self.names) / window)
        self._table: tuple[int, np.ndarray] | None = None

    def drawn(self, epoch: int) -> np.ndarray:
        """Return the windows of an epoch as (per_epoch, 2): recording number and first sample."""
        if self._table is None or self._table[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 30])
            at = rng.integers(self._ends[-1], size=self.per_epoch)
            recording = np.searchsorted(self._ends, at, side="right")
            first = at - np.concatenate([[0], self._ends[:-1]])[recording]
            self._table = (epoch, np.stack([recording, first], axis=1))
        return self._table[1]

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, window) normalised float32."""
        rows = self.drawn(epoch)[first : first + count]
        cut = np.stack([self._signals[r][:, at : at + self.window] for r, at in rows])
        return normalise(cut)


class ScoredEpochs:
    """The scored 30-s epochs of some subjects, in the order of the nights."""

    def __init__(self, store: Store, subjects: Sequence[str]) -> None:
        names = [name for subject in subjects for name in store.subjects[subject]]
        self.n_times = round(EPOCH_S * store.sfreq)
        self._signals = {name: store.signal(name) for name in names}
        places = [
            (name, int(epoch), int(stage))
            for name in names
            for epoch, stage in enumerate(store.labels(name))
            if stage >= 0
        ]
        if not places:
            raise DataError(f"no scored epoch among subjects {', '.join(subjects[:5])}.")
        self.places = [(name, epoch) for name, epoch, _ in places]
        self.stages = np.array([stage for *_, stage in places], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def windows(self, index: Iterable[int]) -> np.ndarray:
        """Return epochs as windows (n, C, T), normalised float32."""
        return normalise(np.stack([self._cut(*self.places[i]) for i in index]))

    def _cut(self, name: str, epoch: int) -> np.ndarray:
        return self._signals[name][:, epoch * self.n_times : (epoch + 1) * self.n_times]


def shuffled_batch(n: int, size: int, seed: int, step: int) -> np.ndarray:
    """Return the numbers of step's batch when 0..n-1 is shuffled anew by (seed, epoch).

    >>> sorted(np.concatenate([shuffled_batch(5, 2, 0, step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4]
    """
    if size < 1:
        raise ConfigError(f"batch size {size}; it must be at least 1.")
    epoch, at = divmod(step, math.ceil(n / size))
    order = np.random.default_rng([seed, epoch, 31]).permutation(n)
    return order[at * size : (at + 1) * size]
