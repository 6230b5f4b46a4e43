"""How classifications are scored: by kappa over units of several items, by accuracy over items."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from partsig.contracts import Examples
from partsig.metrics.agreement import (
    accuracy,
    balanced_accuracy,
    confusion,
    confusions,
    f1_per_class,
    kappa,
    macro_f1,
    or_none,
)
from partsig.metrics.calibration import reliability
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap
from partsig.seeds import Stream, rng_of

# Classes above which the five most likely count as well.
TOP_FIVE_ABOVE = 10
Score = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a classifier is chosen by: its name, and the score of truth and prediction (n,)."""

    name: str
    score: Score


def share_right(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return top-1 accuracy."""
    return float((truth == predicted).mean())


def measure_of(examples: Examples) -> Measure:
    """Return what classifiers of these examples are chosen by."""
    if not examples.grouped:
        return Measure(name="accuracy", score=share_right)

    def kappa_or_zero(truth: np.ndarray, predicted: np.ndarray) -> float:
        table = confusion(truth, predicted, len(examples.classes))
        return float(np.nan_to_num(kappa(table)))  # one class only is worth nothing

    return Measure(name="kappa", score=kappa_or_zero)


def with_interval(result: dict, key: str) -> str:
    """Return a figure with its interval as text; says so where one of them is undefined.

    >>> with_interval({"kappa": 0.4, "kappa_interval_95": [0.3, 0.5]}, "kappa")
    '0.400 [0.300, 0.500]'
    >>> with_interval({"kappa": 0.4, "kappa_interval_95": [None, None]}, "kappa")
    '0.400 [no interval]'
    """
    low, high = result[f"{key}_interval_95"]
    value = "undefined" if result[key] is None else f"{result[key]:.3f}"
    return f"{value} [no interval]" if low is None else f"{value} [{low:.3f}, {high:.3f}]"


def score_units(examples: Examples, probabilities: np.ndarray, seed: int) -> dict:
    """Return agreement pooled and by part (recording), with intervals over units (subjects).

    The keys name items, parts and units as the examples call them.
    """
    predicted, k = probabilities.argmax(1), len(examples.classes)
    item, part, unit = examples.item, examples.part, examples.unit
    _, numbers = examples.units()
    units = confusions(examples.labels, predicted, k, numbers)
    pooled = units.sum(0)
    names, numbers = examples.parts()
    each = kappa(confusions(examples.labels, predicted, k, numbers))
    valid = each[~np.isnan(each)]

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> list[float | None]:
        return [or_none(end) for end in bootstrap(units, statistic, seed=seed)]

    return {
        f"n_{unit}s": len(units),
        f"n_{part}s": len(names),
        f"n_{item}s": int(pooled.sum()),
        "kappa": or_none(float(kappa(pooled))),
        "kappa_interval_95": interval(kappa),
        f"kappa_per_{part}_mean": or_none(valid.mean() if len(valid) else np.nan),
        f"kappa_per_{part}_sd": or_none(valid.std(ddof=1) if len(valid) > 1 else np.nan),
        f"kappa_per_{part}": dict(zip(names, map(or_none, each), strict=True)),
        f"{part}s_without_kappa": int(np.isnan(each).sum()),
        "macro_f1": float(macro_f1(pooled)),
        "macro_f1_interval_95": interval(macro_f1),
        "accuracy": float(accuracy(pooled)),
        "accuracy_interval_95": interval(accuracy),
        "balanced_accuracy": float(balanced_accuracy(pooled)),
        "f1": dict(zip(examples.classes, map(or_none, f1_per_class(pooled)), strict=True)),
        "confusion": pooled.tolist(),
        "bootstrap": {"unit": unit, "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
    }


def score_items(examples: Examples, probabilities: np.ndarray, seed: int) -> dict:
    """Return accuracy with its interval, per class, and the confusion matrix; five best too."""
    truth, classes = examples.labels, examples.classes
    k, unit = len(classes), examples.unit
    table = confusion(truth, probabilities.argmax(1), k)
    right = probabilities.argmax(1) == truth
    result = {
        f"n_{unit}s": len(truth),
        "accuracy": float(right.mean()),
        "accuracy_interval_95": share_interval(right, seed),
    }
    if k > TOP_FIVE_ABOVE:
        best = np.argpartition(-probabilities, 5, axis=1)[:, :5]
        among = (best == truth[:, None]).any(1)
        result |= {
            "top5_accuracy": float(among.mean()),
            "top5_accuracy_interval_95": share_interval(among, seed),
        }
    with np.errstate(invalid="ignore"):  # a class without a test item has no accuracy
        each = np.diagonal(table) / table.sum(1)
    return result | {
        "balanced_accuracy": float(balanced_accuracy(table)),
        "macro_f1": float(macro_f1(table)),
        "accuracy_per_class": dict(zip(classes, map(or_none, each), strict=True)),
        "confusion": table.tolist(),
        "bootstrap": {"unit": unit, "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
    }


def share_interval(right: np.ndarray, seed: int) -> list[float]:
    """Return the 95 % percentile interval of a share right (n,) when items are drawn anew.

    Of n items drawn with replacement, the number right has the binomial distribution, which is
    drawn from directly.

    >>> share_interval(np.arange(100) < 80, 0)
    [0.72, 0.88]
    """
    n = len(right)
    shares = rng_of(Stream.BOOTSTRAP, seed).binomial(n, right.mean(), BOOTSTRAP_DRAWS) / n
    return np.percentile(shares, [2.5, 97.5]).tolist()


def reliabilities(examples: Examples, probabilities: np.ndarray) -> list[np.ndarray]:
    """Return the reliability table of every unit, or of all items at once."""
    if not examples.grouped:
        return [reliability(examples.labels, probabilities)]
    names, numbers = examples.units()
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(names)))
    return [
        reliability(examples.labels[mine], probabilities[mine])
        for mine in np.split(order, ends[:-1])
    ]
