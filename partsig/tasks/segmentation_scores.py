"""How good a segmentation is: overlap and accuracy of a test set, with intervals over its units."""

from collections.abc import Iterator

import numpy as np

from partsig.contracts import MaskedExamples
from partsig.metrics.agreement import or_none
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap
from partsig.metrics.segmentation import (
    class_accuracy,
    covered,
    intersection_over_union,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)

MEASURE = "mean_iou"
BACKGROUND = "background"
FIGURES = {MEASURE: mean_iou, "mean_accuracy": mean_accuracy, "pixel_accuracy": pixel_accuracy}


def score(examples: MaskedExamples, answers: np.ndarray, seed: int) -> dict:
    """Return overlap and accuracy with intervals over units, those of each class, and chance.

    ``of_commonest`` is the mean intersection over union of the commonest class everywhere.
    """
    counts, confusion = tables(examples, answers)
    names, unit = examples.units()
    by_unit = np.zeros((len(names), *counts.shape[1:]), np.int64)
    np.add.at(by_unit, unit, counts)
    pooled, truth = by_unit.sum(0), by_unit.sum(0)[:, 1]
    places = answers.size
    result: dict[str, object] = {
        f"n_{examples.unit}s": len(names),
        f"n_{examples.item}s": len(examples),
    }
    for key, figure in FIGURES.items():
        ends = bootstrap(list(by_unit), figure, seed=seed)
        result[key] = or_none(float(figure(pooled)))
        result[f"{key}_interval_95"] = [or_none(end) for end in ends]
    of_class = {
        "iou": intersection_over_union(pooled),
        "class_accuracy": class_accuracy(pooled),
        "share": truth / max(int(truth.sum()), 1),
    }
    for key, values in of_class.items():
        told = map(or_none, values.tolist())
        result[key] = dict(zip(examples.classes, told, strict=True))
    occur = int((truth > 0).sum())
    return result | {
        "of_commonest": float(of_class["share"].max() / occur) if occur else None,
        "no_label": 1 - int(truth.sum()) / max(places, 1),
        "background": "a class" if BACKGROUND in examples.classes else "not counted",
        "confusion": confusion.tolist(),
        "bootstrap": {
            "unit": examples.unit, "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95,
        },
    }  # fmt: skip


def tables(examples: MaskedExamples, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (n, K, 3) of every item, and the confusion matrix (K, K) of all.

    ``answers`` are classes (n, *L); counts as :func:`~partsig.metrics.segmentation.covered` has
    them.
    """
    n_classes = len(examples.classes)
    counts = np.zeros((len(examples), n_classes, 3), np.int64)
    confusion = np.zeros((n_classes, n_classes), np.int64)
    for numbers in parts_of(len(examples), 256):
        for i, truth in zip(numbers, examples.masks_of(numbers), strict=True):
            table = pixel_confusion(truth, answers[i], n_classes)
            counts[i], confusion = covered(table), confusion + table
    return counts, confusion


def parts_of(n: int, size: int) -> Iterator[np.ndarray]:
    """Yield the numbers from 0 to n - 1, ``size`` at a time."""
    return (np.arange(first, min(first + size, n)) for first in range(0, n, size))
