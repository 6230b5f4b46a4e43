"""A run's answers as ``compare`` reads them: counts of every subject from ``predictions.csv``."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.runs.run import Run
from partsig.runs.test_results import _of_units

SLEEPERS = Run(
    path=Path("run"), facts={"kind": "finetune", "stages": list(STAGES), "split": {"test": []}}
)


def test_counts_are_scikit_learns_whatever_the_table_looks_like(tmp_path):
    rng = np.random.default_rng(0)
    subjects = np.array(["b", 'a "x", y', "ü"])[rng.integers(0, 3, 500)]
    truth, given = (np.array(STAGES)[rng.integers(0, 5, 500)] for _ in range(2))
    file = tmp_path / "predictions.csv"
    with open(file, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["prediction", "p_W", "subject", "truth"])
        for number, row in enumerate(zip(given, subjects, truth, strict=True)):
            writer.writerow([row[0], "0.5", *row[1:]])
            handle.write("\r\n" if number == 7 else "")  # an empty line is no row
    found = _of_units(file, SLEEPERS)
    assert found.units == sorted(set(subjects.tolist()))
    for name, counts in zip(found.units, found.counts, strict=True):
        mine = subjects == name
        assert counts.tolist() == confusion_matrix(truth[mine], given[mine], labels=STAGES).tolist()
    assert found.confusion.sum() == 500


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("subject,truth,prediction\na,W,W\na,W\n", "a short row"),
        ("subject,truth,prediction\na,W,N9\n", "no stage"),
        ("subject,truth\na,W\n", "a column less"),
        ("subject,truth,prediction\n", "no row"),
        ("", "nothing"),
    ],
)
def test_what_is_damaged_is_not_counted(text, what, tmp_path):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises((LookupError, ValueError)):
        _of_units(tmp_path / "predictions.csv", SLEEPERS)
