"""Windows of a store as batches: any offset for pretraining, scored epochs for labels."""

import math
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
import torch

from partsig.data.recordings import EPOCH_S
from partsig.data.store import Store
from partsig.errors import ConfigError, DataError


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
        """Return windows first…first+count-1 of an epoch, (count, C, window) as stored."""
        rows = self.drawn(epoch)[first : first + count]
        return np.stack([self._signals[r][:, at : at + self.window] for r, at in rows])

    @property
    def nbytes(self) -> int:
        """Bytes of the signals, as :class:`ResidentWindows` keeps them."""
        return sum(signal.nbytes for signal in self._signals)

    def suspects(self, epoch: int, first: int, count: int) -> str:
        """Name the recordings behind a batch whose loss is not finite, damaged windows first."""
        rows = self.drawn(epoch)[first : first + count]
        values = self.batch(epoch, first, count)
        broken = ~np.isfinite(values.astype(np.float64)).all(axis=(1, 2))
        if broken.any():
            recording, at = rows[broken][0]
            return (
                f": {broken.sum()} of its {count} windows hold values that are not finite, the "
                f"first at sample {at} of {self.names[recording]}"
            )
        names = list(dict.fromkeys(self.names[recording] for recording in rows[:, 0]))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f", windows of {', '.join(names[:3])}{more}, none of them damaged"


class ResidentWindows:
    """The same windows, cut on the device from signals that were loaded there once.

    Nothing is copied from the host but, once an epoch, the table of its windows.
    """

    def __init__(self, windows: RandomWindows, device: torch.device) -> None:
        self.windows, self.device = windows, device
        signals = windows._signals
        n_chans = signals[0].shape[0]
        lengths = [signal.shape[1] for signal in signals]
        self._first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        dtype = getattr(torch, signals[0].dtype.name)
        self._flat = torch.empty(n_chans, sum(lengths), dtype=dtype, device=device)
        for signal, at in zip(signals, self._first, strict=True):
            part = torch.from_numpy(np.array(signal))
            self._flat[:, at : at + signal.shape[1]] = part.to(device)
        self._table: tuple[int, torch.Tensor] | None = None

    def batch(self, epoch: int, first: int, count: int) -> torch.Tensor:
        """Return windows first…first+count-1 of an epoch, (count, C, window), on the device."""
        if self._table is None or self._table[0] != epoch:
            recording, at = self.windows.drawn(epoch).T
            starts = torch.from_numpy(self._first[recording] + at).to(self.device)
            self._table = (epoch, starts)
        starts = self._table[1][first : first + count]
        every = self._flat.unfold(1, self.windows.window, 1)  # (C, starts, window), a view
        return every[:, starts].transpose(0, 1)  # (count, C, window)


class Epochs:
    """30-s epochs of some recordings, in the order of the nights: the scored ones, or all.

    ``places`` (n) are (recording, epoch), ``stages`` (n,) their codes, ``n_epochs`` says how many a
    recording has, scored or not.
    """

    def __init__(self, store: Store, recordings: Sequence[str], scored: bool = True) -> None:
        self.n_times = round(EPOCH_S * store.sfreq)
        self._signals = {name: store.signal(name) for name in recordings}
        places = [
            (name, epoch, int(stage))
            for name in recordings
            for epoch, stage in enumerate(store.labels(name))
            if stage >= 0 or not scored
        ]
        if not places:
            raise DataError(f"no scored epoch among recordings {', '.join(recordings[:5])}.")
        self.places = [(name, epoch) for name, epoch, _ in places]
        self.stages = np.array([stage for *_, stage in places], dtype=np.int64)
        self.n_epochs = {name: store.recordings[name]["n_epochs"] for name in recordings}

    def __len__(self) -> int:
        return len(self.places)

    @property
    def recordings(self) -> list[str]:
        """Names of the recordings that have an epoch here, in order."""
        return list(dict.fromkeys(name for name, _ in self.places))

    def signal(self, recording: str) -> np.ndarray:
        """Return the whole signal (C, T) of a recording."""
        return self._signals[recording]

    def windows(self, index: Iterable[int], shift: Iterable[int] | None = None) -> np.ndarray:
        """Return epochs as windows (n, C, T) in the store's type.

        ``shift``: samples by which each window starts later than its epoch (negative: earlier); it
        stays within the recording.
        """
        shift = repeat(0) if shift is None else shift
        return np.stack([self._cut(*self.places[i], by) for i, by in zip(index, shift)])  # noqa: B905

    def _cut(self, name: str, epoch: int, by: int) -> np.ndarray:
        signal = self._signals[name]
        first = min(max(epoch * self.n_times + int(by), 0), signal.shape[1] - self.n_times)
        return signal[:, first : first + self.n_times]


def balanced_order(stages: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return numbers of ``len(stages)`` epochs, each stage that occurs being equally likely.

    Drawn without replacement until a stage is used up, then from all of it again.

    >>> stages = np.array([0, 0, 0, 0, 0, 2])
    >>> np.bincount(stages[balanced_order(stages, seed=0, epoch=0)]).tolist()
    [3, 0, 3]
    """
    rng = np.random.default_rng([seed, epoch, 32])
    groups = [np.flatnonzero(stages == stage) for stage in np.unique(stages)]
    share = -(-len(stages) // len(groups))
    chosen = []
    for members in groups:
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        chosen.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(chosen))[: len(stages)]


def shuffled_batch(
    n: int, size: int, seed: int, step: int, balance: np.ndarray | None = None
) -> np.ndarray:
    """Return the numbers of step's batch when 0..n-1 is shuffled anew by (seed, epoch).

    ``balance``: the stages (n,), to draw each as often (:func:`balanced_order`).

    >>> sorted(np.concatenate([shuffled_batch(5, 2, 0, step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4]
    """
    if size < 1:
        raise ConfigError(f"batch size {size}; it must be at least 1.")
    epoch, at = divmod(step, math.ceil(n / size))
    if balance is None:
        order = np.random.default_rng([seed, epoch, 31]).permutation(n)
    else:
        order = balanced_order(balance, seed, epoch)
    return order[at * size : (at + 1) * size]
