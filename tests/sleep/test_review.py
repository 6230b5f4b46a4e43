"""Doubt, context and review curves against what can be counted by hand."""

import itertools
import json

import numpy as np
import pytest

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.metrics.agreement import confusion, kappa
from partsig.sleep import review


def test_the_transitions_are_those_of_the_published_nights(challenge_files):
    counts = np.zeros((5, 5), int)
    with np.load(challenge_files / "pc18_hypnograms_30s.npz") as nights:
        for key in nights.files:
            if key.endswith("/stage"):
                stages = nights[key].astype(int)
                before, after = stages[:-1], stages[1:]
                known = (before < 5) & (after < 5)
                np.add.at(counts, (before[known], after[known]), 1)
    assert counts.tolist() == review.TRANSITIONS.tolist()


def brute_force(probabilities, prior):
    """Sum over all paths of stages: what the forward-backward algorithm must give."""
    moves = review.TRANSITIONS / review.TRANSITIONS.sum(1, keepdims=True)
    start = review.TRANSITIONS.sum(1) / review.TRANSITIONS.sum()
    n, k = probabilities.shape
    found = np.zeros((n, k))
    for path in np.ndindex(*(k,) * n):
        weight = start[path[0]]
        for a, b in itertools.pairwise(path):
            weight *= moves[a, b]
        for e, stage in enumerate(path):
            if not np.isnan(probabilities[e]).any():
                weight *= probabilities[e, stage] / prior[stage]
        for e, stage in enumerate(path):
            found[e, stage] += weight
    return found / found.sum(1, keepdims=True)


def test_context_is_the_sum_over_all_paths():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=5)
    probabilities[2] = np.nan
    prior = rng.dirichlet(np.full(5, 5.0))
    found = review.in_context(probabilities, prior)
    np.testing.assert_allclose(found, brute_force(probabilities, prior), rtol=1e-10)


def test_doubt_is_one_minus_confidence_without_context_and_nan_where_nothing_is_said():
    probabilities = np.array([[0.6, 0.1, 0.1, 0.1, 0.1], [np.nan] * 5, [0.1, 0.1, 0.1, 0.1, 0.6]])
    found = review.doubts(probabilities, np.full(5, 0.2), "confidence")
    np.testing.assert_allclose(found, [0.4, np.nan, 0.4])


def test_channels_that_cannot_be_used_add_doubt():
    probabilities = np.array([[0.9, 0.1, 0.0, 0.0, 0.0]] * 2)
    prior = np.array([0.2, 0.2, 0.2, 0.2, 0.2])
    found = review.doubts(probabilities, prior, "confidence", np.array([0.0, 0.5]))
    np.testing.assert_allclose(found, [0.1, 1 - (0.5 * 0.9 + 0.5 * 0.2)])


def test_a_rem_epoch_inside_deep_sleep_has_more_doubt_in_context():
    night = np.full((9, 5), 0.05)
    night[:, STAGES.index("N3")] = 0.8
    night[4] = [0.05, 0.05, 0.05, 0.05, 0.8]
    alone, together = (
        review.doubts(night, np.full(5, 0.2), by) for by in ("confidence", "context")
    )
    assert alone[4] == pytest.approx(0.2)
    assert together[4] > 0.99
    assert (together[[0, 1, 7, 8]] < 0.05).all()


def test_the_curve_counts_what_it_says():
    truth = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4] * 2)
    predicted = truth.copy()
    predicted[[2, 5]] = [0, 3]
    doubt = np.linspace(0.5, 0.1, 20)
    doubt[[2, 5]] = [0.9, 0.8]
    subjects = np.array(["a"] * 10 + ["b"] * 10)
    found = review.curve(truth, predicted, doubt, subjects, seed=0)
    at = dict(zip(found["share"], range(len(found["share"])), strict=True))
    whole = confusion(truth, predicted, 5)
    assert found["kappa_reviewed"][0] == pytest.approx(float(kappa(whole)))
    one = predicted.copy()
    one[2] = truth[2]
    expected = float(kappa(confusion(truth, one, 5)))
    assert found["kappa_reviewed"][at[0.05]] == pytest.approx(expected)
    assert found["kappa_reviewed"][at[0.1]] == 1.0
    assert found["kappa_kept"][at[0.1]] == 1.0
    # Setting right a half at random halves the errors, and so 1 - kappa where margins are equal.
    assert found["kappa_random"][at[0.5]] == pytest.approx((1 + found["kappa_reviewed"][0]) / 2)
    assert found["kappa_reviewed_interval_95"][at[0.1]] == [1.0, 1.0]
    assert json.loads(json.dumps(found)) == found


def test_errors_are_found_by_doubt():
    doubt = np.linspace(0, 1, 60)
    assert review.find_errors(doubt, doubt > 0.5) == 1.0
    assert review.find_errors(doubt, doubt > 2) is None


def reasons(stages, share=0.0):
    """Return the reasons of the epochs of a hypnogram, each with confidence 0.8, by epoch."""
    p = np.full((len(stages), 5), 0.05)
    p[np.arange(len(stages)), [STAGES.index(stage) for stage in stages]] = 0.8
    quality = {"C3": np.zeros(len(stages), np.int8)}
    found = review.suspects(p, np.full(5, 0.2), "confidence", quality, None, share)
    return {suspect.epoch: suspect.reasons for suspect in found}


def test_rare_changes_are_told_at_both_of_their_epochs_and_usual_ones_are_not():
    usual = ["W", "N1", "N2", "N3", "N2", "REM", "N1", "N2", "W", "N2", "REM", "W", "N1", "W"]
    assert reasons(usual) == {}
    text = "improbable transition: W to REM, 0.69 % of the changes from W"
    # 158 of the 22,112 + 753 + 8 + 158 changes from wake.
    assert reasons(["W", "W", "REM", "REM"]) == {1: (text,), 2: (text,)}
    told = {(a, b) for a in STAGES for b in STAGES if reasons([a, b])}
    assert told == {("W", "N3"), ("W", "REM"), ("N1", "N3"), ("N3", "REM"), ("REM", "N3")}


def test_the_share_of_most_doubt_is_listed_with_what_else_it_could_be():
    assert reasons(["N2"] * 10, share=0.1) == {0: ("low confidence: N2 0.80, W 0.05",)}


def test_a_channel_that_is_dead_throughout_is_no_reason_to_look_at_every_epoch():
    probabilities = np.tile([0.02, 0.02, 0.92, 0.02, 0.02], (20, 1))
    dead, patchy = np.ones(20, np.int8), np.zeros(20, np.int8)
    patchy[7] = 1
    quality = {"C3": np.zeros(20, np.int8), "C4": dead, "O1": patchy}
    found = review.suspects(probabilities, np.full(5, 0.2), "confidence", quality, None, 0.0)
    assert [(s.epoch, s.reasons) for s in found] == [(7, ("artefact: O1 flat",))]
    # A third of the channels says nothing anywhere, two thirds in that epoch.
    assert found[0].score == pytest.approx(1 - (0.92 / 3 + 2 / 3 * 0.2))
