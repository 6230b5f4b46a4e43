"""How labels fit a measure of the signal: does a stage stand out, are the labels shifted?"""

import numpy as np
import scipy  # its parts are loaded where they are used

from partsig.data.signals.hypnograms.stages import UNSCORED

MAX_SHIFT = 20  # epochs
ENOUGH = 20  # epochs of a stage before it is compared with another


def mean_delta(deltas: list[np.ndarray]) -> np.ndarray:
    """Return the median over channels (E,) of log delta power, nan where no channel is good."""
    stacked = np.stack(deltas)  # (C, E)
    some = np.isfinite(stacked).any(0)
    median = np.full(stacked.shape[1], np.nan)
    if some.any():
        median[some] = np.nanmedian(stacked[:, some], axis=0)
    return median


def separation(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how often a value of the ``first`` epochs exceeds one of the ``second``: 0 to 1.

    This is the area under the ROC curve, from the Mann-Whitney ranks. ``values`` (E,) with nan left
    out, ``first`` and ``second`` (E,) bool; None with fewer than 20 epochs on either side.

    >>> separation(np.arange(40.0), np.arange(40) >= 20, np.arange(40) < 20)
    1.0
    """
    known = np.isfinite(values)
    first, second = first & known, second & known
    n, m = int(first.sum()), int(second.sum())
    if min(n, m) < ENOUGH:
        return None
    ranks = scipy.stats.rankdata(values[first | second])
    above = ranks[first[first | second]].sum() - n * (n + 1) / 2
    return float(above / (n * m))


def best_shift(delta: np.ndarray, stages: np.ndarray, deep: int) -> tuple[int, float, float] | None:
    """Return how many epochs the stages must move to fit delta power best, within ±20.

    The shift k puts stage e on epoch e + k of the signal, and is best where :func:`separation` of
    stage ``deep`` from the other scored ones is greatest. Returns k and the separation at k and at
    0; None where there are too few epochs. Among equals the smallest shift is taken.

    >>> stages = np.repeat([2, 3, 2], 40)
    >>> best_shift(np.roll(stages, 7).astype(float), stages, 3)[0]
    7
    """
    if min(len(delta), len(stages)) < 2 * ENOUGH:
        return None
    separations = {}
    for k in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        moved = stages[max(0, -k) : len(stages) - max(0, k)]
        values = delta[max(0, k) : len(delta) + min(0, k)]
        share = separation(values, moved == deep, (moved != deep) & (moved != UNSCORED))
        if share is not None:
            separations[k] = share
    if 0 not in separations:
        return None
    best = max(separations, key=separations.__getitem__)
    return best, separations[best], separations[0]
