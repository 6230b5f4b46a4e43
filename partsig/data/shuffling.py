"""The order in which labelled items are trained on: by (seed, pass) alone, drawn once a pass."""

import math

import numpy as np

from partsig.errors import ConfigError
from partsig.seeds import Stream, rng_of


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return numbers of ``len(labels)`` items, each class that occurs being equally likely.

    Drawn without replacement until a class is used up, then from all of it again.

    >>> labels = np.array([0, 0, 0, 0, 0, 2])
    >>> np.bincount(labels[balanced_order(labels, seed=0, epoch=0)]).tolist()
    [3, 0, 3]
    """
    rng = rng_of(Stream.BALANCED_ITEMS, seed, epoch)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    share = -(-len(labels) // len(groups))
    chosen = []
    for members in groups:
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        chosen.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(chosen))[: len(labels)]


class Shuffled:
    """Batches of the numbers 0..n-1, shuffled anew by (seed, pass); called with a step.

    A batch is a function of (seed, step) alone; the order is drawn once a pass. ``balance``: the
    labels (n,), to draw each as often (:func:`balanced_order`). ``repeats``: how often a number
    comes in a row, so that a pass, of n numbers all the same, has fewer of them. ``place``: this
    process's number, and of how many that share every batch (:meth:`share`).

    >>> batch = Shuffled(5, 2, seed=0)
    >>> sorted(np.concatenate([batch(step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4]
    >>> len(set(Shuffled(7, 7, seed=0, repeats=3)(0).tolist()))
    3
    """

    def __init__(
        self,
        n: int,
        size: int,
        seed: int,
        balance: np.ndarray | None = None,
        repeats: int = 1,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        if size < 1:
            raise ConfigError(f"batch size {size}; it must be at least 1.")
        self.n, self.size, self.seed = n, size, seed
        self.balance, self.repeats = balance, repeats
        self.place = place
        self.steps = math.ceil(n / size)  # of a pass
        least = n % size or size
        if least < place[1]:
            raise ConfigError(
                f"the last batch of a pass over {n} training items has {least}, fewer than "
                f"{place[1]} processes: pass another fit.batch_size (now {size}), or fewer of them."
            )
        self._order: tuple[int, np.ndarray] | None = None

    def order(self, number: int) -> np.ndarray:
        """Return the order (n,) of a pass."""
        if self._order is None or self._order[0] != number:
            if self.balance is None:
                drawn = rng_of(Stream.ITEMS, self.seed, number).permutation(self.n)
            else:
                drawn = balanced_order(self.balance, self.seed, number)
            self._order = number, np.repeat(drawn, self.repeats)[: self.n]
        return self._order[1]

    def share(self, n: int) -> slice:
        """Return which of n rows are this process's: sizes differ by one at most.

        >>> Shuffled(10, 5, seed=0, place=(1, 2)).share(5)
        slice(2, 5, None)
        """
        number, processes = self.place
        return slice(n * number // processes, n * (number + 1) // processes)

    def __call__(self, step: int) -> np.ndarray:
        """Return the numbers of a whole batch."""
        number, at = divmod(step, self.steps)
        return self.order(number)[at * self.size : (at + 1) * self.size]
