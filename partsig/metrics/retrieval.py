"""Retrieval: how high things of a query's own kind rank among all others, by average precision."""

from collections.abc import Iterator

import numpy as np

BLOCK = 512  # queries held against the gallery at a time
DIGITS = 6  # of a cosine; what differs in later ones is equally alike


def average_precisions(
    features: np.ndarray, labels: np.ndarray, *, with_query: bool = False
) -> np.ndarray:
    """Return the average precision (n,) float64 of each item as a query for those of its label.

    ``features`` (n, F) are compared by their cosine; ``labels`` (n,) are numbers. The gallery is
    all the others, or with ``with_query`` all of them, as some published figures have it: the
    query then finds itself first. What is equally alike counts as found together, as in
    scikit-learn's ``average_precision_score``. NaN for a query whose label no item of the gallery
    has.
    """
    labels = np.asarray(labels)
    n = len(labels)
    found = np.full(n, np.nan)
    for first, likeness in _likeness(np.asarray(features)):
        own = np.arange(len(likeness))
        relevant = labels[None] == labels[first : first + len(likeness), None]  # (b, n)
        if not with_query:
            likeness[own, first + own] = -np.inf
            relevant[own, first + own] = False  # last, and not asked for: as if it were not there
        found[first : first + len(likeness)] = _precisions(likeness, relevant)
    return found


def nearest(features: np.ndarray) -> np.ndarray:
    """Return the number (n,) of the item that is most alike each of features (n, F), itself apart.

    >>> nearest(np.array([[1.0, 0], [0.9, 0.1], [0, 1]])).tolist()
    [1, 0, 1]
    """
    found = np.zeros(len(features), np.int64)
    for first, likeness in _likeness(np.asarray(features)):
        own = np.arange(len(likeness))
        likeness[own, first + own] = -np.inf
        found[first : first + len(likeness)] = likeness.argmax(1)
    return found


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


def _precisions(likeness: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return the average precision (b,) of rankings (b, n); NaN where nothing is relevant.

    >>> _precisions(np.array([[0.9, 0.5, 0.5]]), np.array([[True, False, True]])).round(3).tolist()
    [0.833]
    """
    order = np.argsort(-likeness, axis=1, kind="stable")
    ranked = np.take_along_axis(likeness, order, 1)
    relevant = np.take_along_axis(relevant, order, 1)
    n = likeness.shape[1]
    last = np.ones_like(relevant)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    # Where the group of equals ends that each place belongs to.
    ends = np.minimum.accumulate(np.where(last, np.arange(n), n)[:, ::-1], axis=1)[:, ::-1]
    precision = relevant.cumsum(1) / np.arange(1, n + 1)
    total = relevant.sum(1)
    summed = (np.take_along_axis(precision, ends, 1) * relevant).sum(1)
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
