"""Chains of classes, against enumeration of every path."""

from itertools import product

import numpy as np
import pytest

from partsig.tasks.markov import decoded, likeliest_path, smoothed, transitions_of


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=5)
    return p, rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), size=3)


def weights(p, prior, transitions):
    """Return the weight of every path of classes."""
    seen = p / prior
    every = {}
    for path in product(range(3), repeat=len(p)):
        weight = prior[path[0]] * seen[0, path[0]]
        for i in range(1, len(p)):
            weight *= transitions[path[i - 1], path[i]] * seen[i, path[i]]
        every[path] = weight
    return every


def test_smoothed_and_likeliest_are_those_of_all_paths(case):
    every = weights(*case)
    expected = np.zeros((5, 3))
    for path, weight in every.items():
        expected[np.arange(5), list(path)] += weight
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(smoothed(*case), expected, atol=1e-12)
    assert tuple(likeliest_path(*case)) == max(every, key=every.get)


def test_decoded_probabilities_agree_with_the_path(case):
    q = decoded(*case)
    assert q.argmax(1).tolist() == likeliest_path(*case).tolist()
    np.testing.assert_allclose(q.sum(1), 1)


def test_a_single_item_is_as_it_was(case):
    p, prior, transitions = case
    np.testing.assert_allclose(smoothed(p[:1], prior, transitions), p[:1])


def test_transitions_skip_what_is_unknown():
    rows = [np.array([0, 1, -1, 1, 1]), np.array([1])]
    np.testing.assert_allclose(transitions_of(rows, 2), [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
