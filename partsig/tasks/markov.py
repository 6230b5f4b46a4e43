"""Rows of classes that follow one another as a Markov chain: how likely each is, and which path.

Source: Rabiner 1989, A tutorial on hidden Markov models, Proc. IEEE 77(2): section III, B
(forward-backward) and C (Viterbi).
"""

import numpy as np

LEAST = 1e-12  # a probability that is never less, so that no logarithm is endless


def transitions_of(rows: list[np.ndarray], n_classes: int) -> np.ndarray:
    """Return how likely each class (row) is followed by each (column), (K, K), of labelled rows.

    ``rows`` hold classes (N,), -1 unknown; one is added to every count (Laplace's rule).

    >>> transitions_of([np.array([0, 0, 1, -1, 0])], 2).round(2).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    counts = np.ones((n_classes, n_classes))
    for row in rows:
        before, after = row[:-1], row[1:]
        known = (before >= 0) & (after >= 0)
        np.add.at(counts, (before[known], after[known]), 1)
    return counts / counts.sum(1, keepdims=True)


def smoothed(p: np.ndarray, prior: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, K) of a row's classes, given what is seen of all of it.

    ``p`` (N, K) are those of each item alone, where classes are as likely as ``prior`` (K,) says.
    """
    seen = np.maximum(p, LEAST) / np.maximum(prior, LEAST)
    forward, backward = np.empty_like(seen), np.ones_like(seen)
    before = prior
    for i, likely in enumerate(seen):
        here = (before if i == 0 else before @ transitions) * likely
        before = forward[i] = here / here.sum()
    for i in range(len(seen) - 2, -1, -1):
        after = transitions @ (seen[i + 1] * backward[i + 1])
        backward[i] = after / after.sum()
    both = forward * backward
    return both / both.sum(1, keepdims=True)


def likeliest_path(p: np.ndarray, prior: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Return the likeliest row of classes (N,), of probabilities as :func:`smoothed` takes them.

    >>> p = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
    >>> likeliest_path(p, np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.1, 0.9]])).tolist()
    [0, 0, 0]
    """
    seen = np.log(np.maximum(p, LEAST)) - np.log(np.maximum(prior, LEAST))
    steps = np.log(np.maximum(transitions, LEAST))
    best = np.log(np.maximum(prior, LEAST)) + seen[0]
    came = np.zeros(p.shape, np.int64)
    for i in range(1, len(p)):
        every = best[:, None] + steps
        came[i] = every.argmax(0)
        best = every.max(0) + seen[i]
    path = np.empty(len(p), np.int64)
    path[-1] = best.argmax()
    for i in range(len(p) - 1, 0, -1):
        path[i - 1] = came[i, path[i]]
    return path


def decoded(p: np.ndarray, prior: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Return smoothed probabilities (N, K) whose largest is of the class on the likeliest path.

    Where that is not the likeliest class by itself, which is seldom, the two change places.
    """
    q = smoothed(p, prior, transitions)
    path, every = likeliest_path(p, prior, transitions), np.arange(len(p))
    top = q.argmax(1)
    q[every, path], q[every, top] = q[every, top], q[every, path]
    return q
