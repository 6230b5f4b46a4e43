"""Windows of signals, back to back, with their labels from moment to moment."""

import numpy as np

from partsig.data.signals.store import Store
from partsig.errors import DataError

STEP_S = 0.1  # between two moments that have a label
MOST = 2000  # windows that are looked at; of more, some at equal distances


class JudgedSignals:
    """Windows of some subjects' recordings, one after the other: what parts are judged by.

    A moment has the label of the epoch that it lies in.
    """

    item, unit = "window", "subject"
    point_names: tuple[str, ...] = ()

    def __init__(self, store: Store, subjects: list[str], window: int) -> None:
        self.store, self.window = store, window
        self._places = [
            (name, first)
            for name in store.recordings_of(subjects)
            for first in range(0, store.recordings[name]["n_samples"] - window + 1, window)
        ]
        if not self._places:
            raise DataError(
                f"no recording of {', '.join(subjects[:3])} in {store.path} is as long as a window "
                f"({window / store.sfreq:g} s)."
            )
        step = -(-len(self._places) // MOST)
        self._places = self._places[::step]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def classes(self) -> tuple[str, ...]:
        """What moments are labelled as."""
        return self.store.classes

    @property
    def names(self) -> list[str]:
        """Recording and onset of each window."""
        return [f"{name} {first / self.store.sfreq:g} s" for name, first in self._places]

    def units(self) -> tuple[list[str], np.ndarray]:
        """Return the subjects, and each window's number among them (n,)."""
        own = [self.store.recordings[name]["subject"] for name, _ in self._places]
        own = [self.store.twins.get(subject, subject) for subject in own]
        numbers = {subject: number for number, subject in enumerate(dict.fromkeys(own))}
        return list(numbers), np.array([numbers[subject] for subject in own], np.int64)

    def inputs(self, rows: slice) -> np.ndarray:
        """Return windows (b, C, T) in the store's type."""
        cut = [
            self.store.signal(name)[:, first : first + self.window]
            for name, first in self._places[rows]
        ]
        return np.stack(cut)

    def foreground(self, rows: slice) -> None:
        """Return nothing: no moment is told to be background."""

    def labels(self, rows: slice) -> np.ndarray:
        """Return the class of every moment, (b, moments) int16, -2 where none is scored."""
        sfreq, n_times = self.store.sfreq, self.store.unit_s * self.store.sfreq
        moments = max(round(self.window / sfreq / STEP_S), 1)
        middle = (np.arange(moments) + 0.5) / moments * self.window
        found = np.full((len(self._places[rows]), moments), -2, np.int16)
        for out, (name, first) in zip(found, self._places[rows], strict=True):
            labels = self.store.labels(name)
            epoch = ((first + middle) / n_times).astype(np.int64)
            there = epoch < len(labels)
            out[there] = np.where(labels[epoch[there]] < 0, -2, labels[epoch[there]])
        return found

    def points(self, rows: slice) -> None:
        """Return nothing: no points are marked in signals."""

    def scale(self, rows: slice) -> np.ndarray:
        """Return the length of a window, (b,) samples."""
        return np.full(len(self._places[rows]), float(self.window))
