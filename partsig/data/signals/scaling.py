"""Robust scaling of whole recordings: no labels are needed, and no other recording."""

from collections.abc import Mapping, Sequence

import numpy as np

from partsig.data.signals.lazy import OnDisk, stretches

# What values of a store are in that was not scaled, of one that was, and of features as they came.
USUAL_UNIT, SCALED_UNIT, OWN_UNIT = "µV", "interquartile range", "units of its own"
# What a store of scaled recordings tells: an earlier partsig scaled them by all of each.
SCALED_BY = {"scaled_by": "usable epochs"}
PIECE = 2**20  # samples that are changed at a time
# Samples of a channel that its median and range are taken of: a day at 100 Hz.
MOST = 2**23


def unit_of(facts: Mapping[str, str]) -> str:
    """Return what a store's, a run's or a model's signals are in; what does not tell it is in µV.

    >>> unit_of({}), unit_of({"unit": "interquartile range"})
    ('µV', 'interquartile range')
    """
    return facts.get("unit", USUAL_UNIT)


def spread_of(values: np.ndarray) -> tuple[float, float]:
    """Return the median and the interquartile range of values (T,).

    Where more than half of them are one number that range is 0, and their SD takes its place; of a
    constant it is 1.

    >>> spread_of(np.array([1.0, 2.0, 3.0, 4.0, 500.0]))
    (3.0, 2.0)
    """
    low, middle, high = np.quantile(values.astype(np.float64), (0.25, 0.5, 0.75)).tolist()
    return middle, (high - low) or float(values.std(dtype=np.float64)) or 1.0


def scale_robustly(
    signal: np.ndarray | OnDisk, usable: Sequence[np.ndarray] | None = None, n_times: int = 1
) -> None:
    """Take each channel's median from a recording (C, T), and divide by its interquartile range.

    In place; nothing is clipped. Both are of the epochs, of ``n_times`` samples, that are
    ``usable``, (E,) bool for each channel (see :mod:`partsig.data.signals.usable`); of the whole
    recording where all are, or with None. A channel of more than :data:`MOST` samples tells them by
    so many, evenly apart.
    """
    for c in range(signal.shape[0]):
        values = _values(signal, c, None if usable is None else usable[c], n_times)
        middle, spread = spread_of(values)
        for begin, end in stretches(signal.shape[1], PIECE):
            part = np.asarray(signal[c : c + 1, begin:end], np.float64)
            signal[c : c + 1, begin:end] = ((part - middle) / spread).astype(np.float32)


def _values(
    signal: np.ndarray | OnDisk, c: int, usable: np.ndarray | None, n_times: int
) -> np.ndarray:
    """Return what the median and the range of a channel are of."""
    n = signal.shape[1]
    if usable is not None and usable.all() and n - len(usable) * n_times < n_times:
        usable = None  # and what is left after the last epoch
    step = -(-n // MOST)
    taken = []
    for begin, end in stretches(n, PIECE):
        at = np.arange(-(-begin // step) * step, end, step)
        if usable is not None:
            at = at[at < len(usable) * n_times]
            at = at[usable[at // n_times]]
        taken.append(np.asarray(signal[c : c + 1, begin:end])[0][at - begin])
    return np.concatenate(taken)
