"""Labelled epochs as a model may meet them elsewhere: without a channel, or cut at another time."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from partsig.data.signals.windows import LabelledWindows
from partsig.errors import ConfigError, DataError

Channels = tuple[str | None, ...]


class AlteredWindows(LabelledWindows):
    """The ``plain`` epochs of a store with other ``channels``, or each cut ``later_s`` later.

    Channel c of the windows is the one that is called ``channels[c]`` in the store; None is silent:
    zeros, as channel dropout leaves them. With ``followed`` only those epochs are kept which
    another labelled one follows, with nothing missing between: the same ones whatever
    ``later_s``, from 0 to less than an epoch. Their ``labels`` are those of the epoch that covers
    most of the window (of the earlier, at exactly half); ``within`` (n,) tells where both are of
    one class, so that the window lies in a stretch of it whatever ``later_s``.
    """

    def __init__(
        self,
        plain: LabelledWindows,
        channels: Sequence[str | None] | None = None,
        later_s: float = 0.0,
        followed: bool = False,
    ) -> None:
        self.plain, self.later_s, self.followed = plain, later_s, followed
        self.__dict__ |= {name: value for name, value in vars(plain).items() if name != "plain"}
        self._channels: Channels = tuple(channels or plain.channels)
        known = self.store.ch_names
        self._row_of = [None if name is None else known.index(name) for name in self._channels]
        self.later = self._whole_samples(later_s)
        self.within = np.ones(len(plain), bool)
        if followed or later_s:
            self._keep_followed(later_s)

    def _whole_samples(self, later_s: float) -> int:
        samples = later_s * self.store.sfreq
        if not 0 <= later_s < self.store.unit_s or abs(samples - round(samples)) > 1e-6:
            raise ConfigError(
                f"epochs can be cut later by whole samples (here of {1 / self.store.sfreq:g} s), "
                f"and by less than an epoch ({self.store.unit_s:g} s), not by {later_s:g} s."
            )
        return round(samples)

    def _keep_followed(self, later_s: float) -> None:
        following = np.zeros(len(self.plain), bool)
        following[:-1] = (np.diff(self.recording) == 0) & (np.diff(self.epoch) == 1)
        for name, mine in self.plain.by_recording():
            # An epoch that ends a stretch is followed by a gap.
            last = [stop - 1 for _, stop in self.store.stretches(name)]
            following[mine] &= ~np.isin(self.epoch[mine], last)
        at = np.flatnonzero(following)
        if not len(at):
            raise DataError(
                f"no two labelled epochs of {self.store.path} follow one another, so that none can "
                "be cut at another time."
            )
        own, next_ = self.plain.labels[at], self.plain.labels[at + 1]
        self.labels = own if later_s <= self.store.unit_s / 2 else next_
        self.within = own == next_
        self.epoch = self.plain.epoch[at]
        there, self.recording = np.unique(self.plain.recording[at], return_inverse=True)
        self.names = tuple(self.plain.names[number] for number in there)
        self.counts = np.bincount(self.recording)

    @property
    def channels(self) -> Channels:
        """The store's channel that each of the windows' is, None where it is silent."""
        return self._channels

    def _like(self, plain: LabelledWindows) -> "AlteredWindows":
        return AlteredWindows(plain, self._channels, self.later_s, self.followed)

    def apart(self) -> Iterator["AlteredWindows"]:
        """Yield the epochs of each recording."""
        return (self._like(LabelledWindows(self.store, [name])) for name in self.names)

    def joined(self, others: Sequence["AlteredWindows"]) -> "AlteredWindows":
        """Return these epochs and those of other recordings of the same store."""
        return self._like(self.plain.joined([other.plain for other in others]))

    def windows(self, index: Iterable[int], shift: Iterable[int] | None = None) -> np.ndarray:
        """Return epochs as windows (n, C, T) in the store's type; see LabelledWindows."""
        index = np.fromiter(index, np.int64)
        moved = np.full(len(index), self.later)
        if shift is not None:
            moved += np.fromiter(shift, np.int64, len(index))
        return self._of_channels(super().windows(index, moved), 1)

    def signal(self, recording: str) -> np.ndarray:
        """Return the whole signal (C, T) of a recording, from where its first window begins."""
        return self._of_channels(super().signal(recording)[:, self.later :], 0)

    def stretches(self, recording: str) -> list[tuple[int, int]]:
        """Return the (first, stop) of a recording's windows between which nothing is missing.

        Cut later, the last one of each stretch would reach beyond it, and is in none.
        """
        own = super().stretches(recording)
        if not self.later:
            return own
        return [(first, stop - 1) for first, stop in own if stop - 1 > first]

    def _of_channels(self, signal: np.ndarray, axis: int) -> np.ndarray:
        if self._row_of == list(range(signal.shape[axis])):
            return signal
        there = [c for c, row in enumerate(self._row_of) if row is not None]
        rows = [row for row in self._row_of if row is not None]
        shape = (*signal.shape[:axis], len(self._row_of), *signal.shape[axis + 1 :])
        found = np.zeros(shape, signal.dtype)
        if axis == 0:
            found[there] = signal[rows]
        else:
            found[:, there] = signal[:, rows]
        return found


def altered(
    examples: LabelledWindows,
    channels: Sequence[str | None] | None = None,
    later_s: float | None = None,
) -> AlteredWindows:
    """Return epochs altered; of those that are already, what is not said stays as it is.

    With a ``later_s``, 0 too, only those are kept that another one follows.
    """
    if not isinstance(examples, AlteredWindows):
        return AlteredWindows(examples, channels, later_s or 0.0, later_s is not None)
    return AlteredWindows(
        examples.plain,
        examples.channels if channels is None else channels,
        examples.later_s if later_s is None else later_s,
        examples.followed or later_s is not None,
    )
