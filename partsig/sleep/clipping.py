"""Samples that are clipped: at the limits of a file, or in runs at a signal's own extremes."""

import numpy as np

from partsig.data.signals.lazy import Row, stretches

# Samples that repeat a channel's own greatest or least value: a run has RUN of them, and there are
# RUNS such runs. Of 12,472 extremes of real EEG and EOG minutes (1-µV steps, 200 Hz) none has more
# than 3 such runs.
RUN, RUNS = 3, 5


def find_clipped(signal: np.ndarray | Row, limits: tuple[float, float] | None) -> Row:
    """Return (T,) bool: samples at the limits, or in runs at the signal's own extremes.

    ``limits`` are the least and greatest value the file can hold, in the signal's unit. A constant
    signal is flat, not clipped, unless it lies at a limit. The extremes are looked for at once, and
    a stretch of the result is made when it is sliced: a recording need not be in memory.

    >>> find_clipped(np.array([0.0, 2047, 2047, 5, -1]), (-2048, 2047))[:].sum()
    np.int64(2)
    """
    rails = _own_rails(signal)

    def read(start: int, stop: int) -> np.ndarray:
        begin = max(start - RUN + 1, 0)
        held = np.asarray(signal[begin : stop + RUN - 1])
        clipped = np.zeros(len(held), bool)
        if limits is not None:
            clipped |= (held <= limits[0]) | (held >= limits[1])
        for rail in rails:
            begins = _run_begins(held == rail)
            for i in range(RUN):
                clipped[i : i + len(begins)] |= begins
        return clipped[start - begin : stop - begin]

    return Row(len(signal), np.dtype(bool), read)


def _run_begins(equal: np.ndarray) -> np.ndarray:
    """Return (n - RUN + 1,) bool: where RUN samples in a row of ``equal`` (n,) are True."""
    n = max(len(equal) - RUN + 1, 0)
    return np.logical_and.reduce([equal[i : i + n] for i in range(RUN)])


def _own_rails(signal: np.ndarray | Row) -> list[float]:
    """Return which of a signal's own extremes, the least and the greatest, it stays at in runs."""
    n_runs, extremes = [0, 0], [np.nan, np.nan]
    before = np.asarray(signal[:0])  # the last samples that were looked at: a run may begin there
    for start, stop in stretches(len(signal)):
        held = np.asarray(signal[start:stop])
        together = np.concatenate([before, held])
        for i, extreme in enumerate((np.fmin, np.fmax)):  # nan is passed over
            here = extreme.reduce(held)
            if extreme(here, extremes[i]) != extremes[i]:
                n_runs[i], extremes[i] = 0, here
            if here == extremes[i]:
                equal = together == here
                begins = _run_begins(equal)
                begins[1:] &= ~equal[: max(len(begins) - 1, 0)]  # not in the middle of one
                n_runs[i] += int(begins[1 if len(before) else 0 :].sum())
        before = together[-RUN:]
    if not extremes[0] < extremes[1]:
        return []
    return [extreme for extreme, n in zip(extremes, n_runs, strict=True) if n >= RUNS]
