"""Classification: one class for every labelled item, judged by kappa or accuracy.

Where several items belong to one unit (epochs to a subject), kappa is the score, and intervals are
bootstraps over units; where every item is its own (images), accuracy, and items are drawn anew.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partsig import config as configs
from partsig import registries
from partsig.contracts import Examples, Labels
from partsig.core.encoder import Encoder
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    SupervisedModule,
)
from partsig.errors import ConfigError
from partsig.files import atomic
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
from partsig.metrics.calibration import calibration_error, log_loss, reliability
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap
from partsig.modalities import registry
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks.frozen import InputShape

# Classes above which the five most likely count as well, and up to which every probability is told.
TOP_FIVE_ABOVE, MOST_COLUMNS = 10, 100


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a classifier is chosen by: its name, and the score of truth and prediction (n,)."""

    name: str
    score: frozen.Score


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


class Classification:
    """One class for every item."""

    name = "classification"
    target = "class"
    # What an item and its truth are called in figures.
    words: Mapping[str, str] = {"predicted": "predicted class", "truth": "true class"}

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are not of what this task learns from."""
        if labels.target != self.target:
            raise ConfigError(
                f"--task {self.name} learns from labels of {self.target}; the store's are of "
                f"{labels.target}."
            )

    def build(
        self, encoder: Encoder, settings: FinetuneRecipe, shape: InputShape, modality: str
    ) -> SupervisedModule:
        """Return the untrained module; the caller seeds torch."""
        if settings.model != "encoder":
            places = registry.get(modality).baselines
            kind = registries.load("model", settings.model, places)
            return kind(settings.model, shape, settings.loss)
        net = Classifier(
            ClassifierConfig(positions=settings.positions, pool=settings.pool),
            encoder,
            window=shape.window,
            patch=shape.patch,
            n_classes=len(shape.classes),
            loss=settings.loss,
        )
        if settings.train == "knn":
            n_classes = len(shape.classes)
            return frozen.Neighbours(net, shape.n_train, settings.neighbours, n_classes)
        return net

    def load(self, run: Run) -> SupervisedModule:
        """Return the classifier of a finished run at its chosen epoch."""
        settings = settings_of(run)
        shape = shape_of(run, settings)
        encoder = Encoder(settings.encoder, len(shape.ch_names), shape.patch)
        model = self.build(encoder, settings, shape, run.modality)
        frozen.load_best(run.path, model)
        return model

    def predict(
        self, model: SupervisedModule, examples: Examples, device: torch.device
    ) -> np.ndarray:
        """Return class probabilities (n, K), not calibrated."""
        return frozen.predict_examples(model, examples, device)

    def watch(
        self, model: SupervisedModule, val: Examples, device: torch.device
    ) -> Callable[[int], dict[str, float]]:
        """Return what measures the model on validation at the end of an epoch."""
        measure = measure_of(val)

        def watched(_epoch: int) -> dict[str, float]:
            p = self.predict(model, val, device)
            score = measure.score(val.labels, p.argmax(1))
            if val.grouped:
                table = confusion(val.labels, p.argmax(1), len(val.classes))
                return {"val_kappa": score, "val_macro_f1": float(macro_f1(table))}
            return {"val_accuracy": score, "val_log_loss": log_loss(val.labels, p)}

        return watched

    def calibrate(
        self, probabilities: np.ndarray, train: Examples, val: Examples, balanced: bool
    ) -> dict[str, object]:
        """Return the temperature that suits validation best, and what it mends."""
        _, calibration = frozen.calibrate(val.labels, probabilities)
        return calibration | {f"n_{val.item}s": len(val)}

    def score(self, examples: Examples, probabilities: np.ndarray, seed: int) -> dict:
        """Return every figure of agreement, pooled and apart, with intervals."""
        score = score_units if examples.grouped else score_items
        return score(examples, probabilities, seed)

    def calibration(
        self, examples: Examples, probabilities: np.ndarray, uncalibrated: np.ndarray, seed: int
    ) -> dict:
        """Return the expected calibration error, its table, and what it was before."""
        tables = _reliabilities(examples, probabilities)
        result: dict[str, object] = {"ece": float(calibration_error(sum(tables)))}
        if examples.grouped:
            ends = bootstrap(tables, calibration_error, seed=seed)
            result["ece_interval_95"] = [or_none(end) for end in ends]
        before = float(calibration_error(reliability(examples.labels, uncalibrated)))
        return result | {"table": sum(tables).tolist(), "ece_uncalibrated": before}

    def extras(
        self, run: Run, examples: Examples, probabilities: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what a task tells besides."""
        return {}

    def write_predictions(self, path: Path, examples: Examples, p: np.ndarray) -> None:
        """Write what tells each item, its truth, its prediction and the probabilities (n, K)."""
        names = examples.classes if len(examples.classes) <= MOST_COLUMNS else ()
        columns, rows = examples.columns()
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            told = [*columns, "truth", "prediction", *(f"p_{name}" for name in names), "confidence"]
            writer.writerow(told)
            for row, truth, values in zip(rows, examples.labels.tolist(), p, strict=True):
                own = values.tolist()  # a row at a time: Python's numbers take four times the room
                sure = max(own)
                classes = examples.classes[truth], examples.classes[own.index(sure)]
                writer.writerow([*row, *classes, *(f"{v:.5f}" for v in (*own[: len(names)], sure))])

    def figures(
        self, result: dict, examples: Examples, probabilities: np.ndarray, folder: Path
    ) -> list[Path]:
        """Draw a result; return the files."""
        from partsig.figures import classification as figures  # matplotlib, where it is needed

        return [
            self.draw_confusion(result, examples, folder),
            figures.reliability(
                result["calibration"], f"{examples.item}s", folder / "reliability.png"
            ),
        ]

    def draw_confusion(self, result: dict, examples: Examples, folder: Path) -> Path:
        """Draw the confusion matrix; return the file."""
        from partsig.figures import classification as figures

        table, title = np.array(result["confusion"]), headline(result, examples)
        path = folder / "confusion.png"
        return figures.confusion(table, title, path, examples.classes, **self.words)

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines."""
        if "kappa" not in result:
            lines = [
                f"{result['n_images']:,} test images of {result['store']}",
                f"accuracy {with_interval(result, 'accuracy')} (95 %, over images)",
            ]
            if "top5_accuracy" in result:
                lines.append(f"top-5 accuracy {with_interval(result, 'top5_accuracy')}")
            return lines
        mean, sd = result["kappa_per_recording_mean"], result["kappa_per_recording_sd"]
        spread = []
        if mean is not None and sd is not None:
            spread = [f"kappa {mean:.3f} ± {sd:.3f} over recordings (mean ± SD)"]
        return [
            f"{result['n_subjects']} subjects, {result['n_epochs']:,} epochs of {result['store']}",
            f"kappa {with_interval(result, 'kappa')} pooled (95 %, bootstrap over subjects)",
            *spread,
            f"macro-F1 {result['macro_f1']:.3f}, accuracy {result['accuracy']:.3f}",
        ]


def settings_of(run: Run) -> FinetuneRecipe:
    """Return the settings that a fine-tuned run tells."""
    return configs.build(registry.get(run.modality).finetune, run.config)


def shape_of(run: Run, settings: FinetuneRecipe) -> InputShape:
    """Return what a fine-tuned run is given, and what it tells apart."""
    window, patch = settings.extents(run.samples_per_unit, run.labels.unit_s)
    return InputShape(
        ch_names=run.ch_names,
        samples_per_unit=run.samples_per_unit,
        window=window,
        patch=patch,
        classes=run.labels.classes,
        n_train=run.n_train if settings.train == "knn" else 0,
    )


def headline(result: dict, examples: Examples) -> str:
    """Return a result in one line."""
    if not examples.grouped:
        return f"accuracy {with_interval(result, 'accuracy')}, {len(examples):,} {examples.item}s"
    return (
        f"kappa {with_interval(result, 'kappa')}, {result['n_subjects']} subjects, "
        f"{result['n_epochs']:,} epochs"
    )


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
    """Return agreement pooled and per recording, with intervals over units (subjects)."""
    predicted, k = probabilities.argmax(1), len(examples.classes)
    _, numbers = examples.units()
    units = confusions(examples.labels, predicted, k, numbers)
    pooled = units.sum(0)
    each = kappa(confusions(examples.labels, predicted, k, examples.recording))
    valid = each[~np.isnan(each)]

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> list[float | None]:
        return [or_none(end) for end in bootstrap(units, statistic, seed=seed)]

    return {
        "n_subjects": len(units),
        "n_recordings": len(examples.names),
        "n_epochs": int(pooled.sum()),
        "kappa": or_none(float(kappa(pooled))),
        "kappa_interval_95": interval(kappa),
        "kappa_per_recording_mean": or_none(valid.mean() if len(valid) else np.nan),
        "kappa_per_recording_sd": or_none(valid.std(ddof=1) if len(valid) > 1 else np.nan),
        "kappa_per_recording": dict(zip(examples.names, map(or_none, each), strict=True)),
        "recordings_without_kappa": int(np.isnan(each).sum()),
        "macro_f1": float(macro_f1(pooled)),
        "macro_f1_interval_95": interval(macro_f1),
        "accuracy": float(accuracy(pooled)),
        "accuracy_interval_95": interval(accuracy),
        "balanced_accuracy": float(balanced_accuracy(pooled)),
        "f1": dict(zip(examples.classes, map(or_none, f1_per_class(pooled)), strict=True)),
        "confusion": pooled.tolist(),
        "bootstrap": {"unit": "subject", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
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
    shares = np.random.default_rng(seed).binomial(n, right.mean(), BOOTSTRAP_DRAWS) / n
    return np.percentile(shares, [2.5, 97.5]).tolist()


def _reliabilities(examples: Examples, probabilities: np.ndarray) -> list[np.ndarray]:
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
