"""Retrieval: how high things of a query's own kind rank among all others, by average precision."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 512  # queries held against the gallery at a time
DIGITS = 6  # of a cosine; what differs in later ones is equally alike


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """What n items find as queries for those of their label, each ranking the others by likeness.

    ``precision`` (n,) float64 are the average precisions where a query is not in its own gallery,
    NaN where no other item has its label; ``with_query`` (n,) those where it is, as some published
    figures have it: it then finds itself first. ``nearest`` (n,) is the number of the other item
    that is most alike, the first of equal ones; its own where there is no other.
    """

    precision: np.ndarray
    with_query: np.ndarray
    nearest: np.ndarray


def rank(features: np.ndarray, labels: np.ndarray) -> Ranking:
    """Return what features (n, F) find by their cosine, of labels (n,), which are numbers.

    What is equally alike counts as found together, as in scikit-learn's
    ``average_precision_score``. Each query's gallery is sorted once, for all of it.

    >>> found = rank(np.array([[1.0, 0], [0.9, 0.1], [0, 1]]), np.array([0, 1, 0]))
    >>> found.nearest.tolist(), found.precision.round(2).tolist()
    ([1, 0, 1], [0.5, nan, 0.5])
    >>> found.with_query.round(2).tolist()
    [0.83, 1.0, 0.83]
    """
    labels = np.asarray(labels)
    n = len(labels)
    without, within, near = np.full(n, np.nan), np.full(n, np.nan), np.arange(n)
    for first, likeness in _likeness(np.asarray(features)):
        mine = slice(first, first + len(likeness))
        own = np.arange(n)[mine]
        order = np.argsort(-likeness, axis=1, kind="stable")
        relevant = labels[order] == labels[own, None]
        itself = order == own[:, None]
        ends = _ends(np.take_along_axis(likeness, order, 1))
        # Of the items up to where a group of equals ends: how many there are, and how many of the
        # query's label; then the same without the query itself, where that is among them.
        among = np.take_along_axis(relevant.cumsum(1), ends, 1)
        seen = np.take_along_axis(itself.cumsum(1), ends, 1)
        within[mine] = _mean(among / (ends + 1), relevant)
        left = np.maximum(ends + 1 - seen, 1)
        without[mine] = _mean((among - seen) / left, relevant & ~itself)
        if n > 1:
            near[mine] = np.where(itself[:, 0], order[:, 1], order[:, 0])
    return Ranking(precision=without, with_query=within, nearest=near)


def average_precisions(
    features: np.ndarray, labels: np.ndarray, *, with_query: bool = False
) -> np.ndarray:
    """Return the average precision (n,) float64 of each item as a query, see :func:`rank`.

    The gallery is all the others, or with ``with_query`` all of them.
    """
    found = rank(features, labels)
    return found.with_query if with_query else found.precision


def cosines(features: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the cosine (n,) float32 of features (n, F) with one (F,), as rankings have it.

    >>> cosines(np.array([[2.0, 0], [0, 3]]), np.array([1.0, 0])).tolist()
    [1.0, 0.0]
    """
    return (_unit(features) @ _unit(query[None])[0]).round(DIGITS)


def _unit(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, length, out=np.zeros_like(features, float), where=length > 0)
    return unit.astype(np.float32)


def _likeness(features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the cosines (b, n) of some items with all, and the number of their first."""
    unit = _unit(features)
    for first in range(0, len(unit), BLOCK):
        yield first, (unit[first : first + BLOCK] @ unit.T).round(DIGITS)


def _ends(ranked: np.ndarray) -> np.ndarray:
    """Return where the group of equals ends (b, n) that each place of sorted rows belongs to.

    >>> _ends(np.array([[0.9, 0.5, 0.5]])).tolist()
    [[0, 2, 2]]
    """
    n = ranked.shape[1]
    last = np.ones(ranked.shape, bool)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    return np.minimum.accumulate(np.where(last, np.arange(n), n)[:, ::-1], axis=1)[:, ::-1]


def _mean(precision: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return the mean (b,) of the precisions (b, n) of what is relevant; NaN where nothing is."""
    total = relevant.sum(1)
    summed = (precision * relevant).sum(1)
    return np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0)


def by_label(precisions: np.ndarray, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Return sums and counts (n_labels, 2) of average precisions (n,), NaN left out: they add up.

    >>> by_label(np.array([0.5, 1.0, np.nan]), np.array([0, 1, 1]), 2).tolist()
    [[0.5, 1.0], [1.0, 1.0]]
    """
    known = ~np.isnan(precisions)
    sums = np.bincount(labels[known], precisions[known], n_labels)
    return np.stack([sums, np.bincount(labels[known], minlength=n_labels)], 1)


def mean_average_precision(sums: np.ndarray) -> np.ndarray:
    """Return the mean over labels (…,) of their mean average precisions, of sums (…, K, 2).

    Labels without a query are left out; NaN where there is none at all.

    >>> float(mean_average_precision(np.array([[1.0, 2], [0.75, 1], [0, 0]])))
    0.625
    """
    each = np.divide(
        sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0
    )
    there = (sums[..., 1] > 0).sum(-1)
    return np.divide(each.sum(-1), there, out=np.full(there.shape, np.nan), where=there > 0)
