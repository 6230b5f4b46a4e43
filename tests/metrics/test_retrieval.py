"""Average precision against scikit-learn's, and a loop written from its definition."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from partsig.metrics import retrieval
from partsig.metrics.resampling import bootstrap


@pytest.fixture
def items():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 70)
    return rng.normal(size=(70, 5)) + labels[:, None] * [1.0, 0.5, 0, 0, 0], labels


@pytest.mark.parametrize("with_query", [False, True])
@pytest.mark.parametrize("rounded", [False, True], ids=["", "with ties"])
def test_each_query_has_scikit_learns(items, with_query, rounded, monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", 16)  # so that blocks meet
    features, labels = items
    if rounded:  # few directions, so that many are equally alike
        features = np.sign(features)[:, :3]
    found = retrieval.average_precisions(features, labels, with_query=with_query)
    likeness = cosine_similarity(features).astype(np.float32).round(6)
    for i in range(len(labels)):
        gallery = np.ones(len(labels), bool)
        gallery[i] = with_query
        expected = average_precision_score(labels[gallery] == labels[i], likeness[i, gallery])
        assert found[i] == pytest.approx(expected, abs=1e-6 if rounded else 1e-3)


def test_a_label_of_its_own_has_none_and_counts_for_nothing(items):
    features, labels = items
    labels = np.append(labels, 4)
    features = np.concatenate([features, features[:1]])
    found = retrieval.average_precisions(features, labels)
    assert np.isnan(found[-1])
    assert not np.isnan(found[:-1]).any()
    sums = retrieval.by_label(found, labels, 5)
    assert sums[4].tolist() == [0, 0]
    each = [found[labels == k].mean() for k in range(4)]
    assert retrieval.mean_average_precision(sums) == pytest.approx(np.mean(each))


def test_what_is_perfect_and_what_is_chance():
    labels = np.repeat(np.arange(4), 100)
    perfect = np.eye(4)[labels]
    assert retrieval.average_precisions(perfect, labels).tolist() == [1.0] * 400
    noise = np.random.default_rng(0).normal(size=(400, 8))
    assert retrieval.average_precisions(noise, labels).mean() == pytest.approx(0.25, abs=0.02)
    # Nothing in it at all: everything is equally alike.
    flat = retrieval.average_precisions(np.zeros((400, 8)), labels)
    np.testing.assert_allclose(flat, 99 / 399)


def test_sums_of_groups_are_drawn_anew(items):
    features, labels = items
    found = retrieval.average_precisions(features, labels)
    groups = np.arange(70) // 7
    tables = [retrieval.by_label(found[groups == g], labels[groups == g], 4) for g in range(10)]
    np.testing.assert_allclose(np.sum(tables, 0), retrieval.by_label(found, labels, 4))
    low, high = bootstrap(tables, retrieval.mean_average_precision)
    assert low < retrieval.mean_average_precision(np.sum(tables, 0)) < high
