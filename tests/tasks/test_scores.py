"""Scores of a task on any signal: their keys are what the examples call their items."""

from types import SimpleNamespace

import numpy as np
import pytest

from partsig.metrics.agreement import confusion, kappa
from partsig.tasks.classification_scores import score_units

TRUTH = np.array([0, 1, 0, 1, 1, 0, 1, 0, 0, 0])
GIVEN = np.array([0, 1, 1, 1, 0, 0, 1, 0, 0, 0])
STRIP = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])


class Beats:
    """Heartbeats on three strips of two patients."""

    grouped, item, part, unit = True, "beat", "strip", "patient"
    labels, classes = TRUTH, ("sinus", "ectopic")

    def units(self):
        return ["ann", "bob"], (STRIP > 0).astype(int)

    def parts(self):
        return ["a-1", "b-1", "b-2"], STRIP


def test_another_signals_keys_are_in_its_own_words():
    scores = score_units(Beats(), np.eye(2)[GIVEN], seed=0)
    assert (scores["n_patients"], scores["n_strips"], scores["n_beats"]) == (2, 3, 10)
    each = [float(kappa(confusion(TRUTH[s == STRIP], GIVEN[s == STRIP], 2))) for s in (0, 1)]
    assert scores["kappa_per_strip"] == {
        "a-1": pytest.approx(each[0]), "b-1": pytest.approx(each[1]), "b-2": None
    }  # fmt: skip
    assert scores["kappa_per_strip_mean"] == pytest.approx(np.mean(each))
    assert scores["kappa_per_strip_sd"] == pytest.approx(np.std(each, ddof=1))
    assert scores["strips_without_kappa"] == 1  # all its beats are sinus, and called so
    assert scores["bootstrap"]["unit"] == "patient"
    assert not [key for key in scores if "epoch" in key or "recording" in key or "subject" in key]


def test_sleeps_keys_are_those_that_reports_read():
    words = {"item": "epoch", "part": "recording", "unit": "subject"}
    night = SimpleNamespace(
        **words, labels=TRUTH, classes=Beats.classes, units=Beats().units, parts=Beats().parts
    )
    assert list(score_units(night, np.eye(2)[GIVEN], seed=0)) == [
        *("n_subjects", "n_recordings", "n_epochs", "kappa", "kappa_interval_95"),
        *("kappa_per_recording_mean", "kappa_per_recording_sd", "kappa_per_recording"),
        *("recordings_without_kappa", "macro_f1", "macro_f1_interval_95", "accuracy"),
        *("accuracy_interval_95", "balanced_accuracy", "f1", "confusion", "bootstrap"),
    ]
