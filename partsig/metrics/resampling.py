"""Intervals by bootstrap over units: subjects, or images."""

from collections.abc import Callable, Sequence

import numpy as np

from partsig.seeds import Stream, rng_of

# Bootstrap samples behind every interval that is reported.
BOOTSTRAP_DRAWS = 2000


def bootstrap(
    matrices: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a pooled statistic when subjects are drawn anew.

    ``matrices`` holds one confusion matrix per subject: the subject is the unit, since epochs of
    one night are not independent (Efron and Tibshirani 1993, chapter 13). nan for a
    single subject, and where the statistic is never defined.

    >>> from partsig.metrics.agreement import kappa
    >>> bootstrap([np.eye(2) * 5, np.eye(2) * 9], kappa)
    (1.0, 1.0)
    """
    stacked = np.stack(matrices).astype(np.float64)  # (S, K, K)
    if len(stacked) < 2:
        return float("nan"), float("nan")
    rng = rng_of(Stream.BOOTSTRAP, seed)
    drawn = rng.multinomial(len(stacked), np.full(len(stacked), 1 / len(stacked)), size=draws)
    values = statistic(np.tensordot(drawn.astype(np.float64), stacked, axes=1))
    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
