"""Classification: one class for every labelled item, judged by kappa or accuracy.

Where several items belong to one unit (epochs to a subject), kappa is the score, and intervals are
bootstraps over units; where every item is its own (images), accuracy, and items are drawn anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from partsig import registries
from partsig.cells import is_marked, write_table
from partsig.contracts import Examples
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder
from partsig.core.objectives.attentive import AttentiveProbe
from partsig.core.objectives.supervised import SupervisedModule
from partsig.errors import ConfigError
from partsig.files import atomic
from partsig.metrics.agreement import (
    confusion,
    macro_f1,
    or_none,
)
from partsig.metrics.calibration import calibration_error, log_loss, reliability, tempered
from partsig.metrics.resampling import bootstrap
from partsig.modalities import registry
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks.classification_scores import (
    measure_of,
    reliabilities,
    score_items,
    score_units,
    with_interval,
)
from partsig.tasks.frozen import InputShape
from partsig.tasks.labelled import LabelledTask
from partsig.tasks.networks import loaded, network_on

# Classes up to which every probability is told.
MOST_COLUMNS = 100
# The model of a task of its own, see partsig.tasks.night_context.
CONTEXT = "context"


class Classification(LabelledTask):
    """One class for every item."""

    name = "classification"
    can_be_reported = False
    can_be_taught = True
    # What an item and its truth are called in figures.
    words: Mapping[str, str] = {"predicted": "predicted class", "truth": "true class"}

    def settled(self, settings: FinetuneRecipe) -> FinetuneRecipe:
        """Return the settings; raise ConfigError for a model of another task."""
        if settings.model == CONTEXT:
            raise ConfigError(f"model={CONTEXT} is what --task night-context trains: pass that.")
        context = getattr(settings, "context", None)
        if context is not None and context.through:
            raise ConfigError("context.through is for --task night-context: pass that.")
        return settings

    def build(
        self,
        encoder: Encoder | FrozenEncoder | None,
        settings: FinetuneRecipe,
        shape: InputShape,
        modality: str,
    ) -> SupervisedModule:
        """Return the untrained module; the caller seeds torch."""
        n_classes = len(shape.classes)
        if settings.model != "encoder":
            places = registry.get(modality).baselines
            kind = registries.load("model", settings.model, places)
            return kind(settings.model, shape, settings.loss)
        net = network_on(encoder, settings, shape)
        if settings.train == "knn":
            return frozen.Neighbours(net, shape.n_train, settings.neighbours, n_classes)
        if settings.train == "attentive":
            return AttentiveProbe(net, n_classes, settings.loss)
        return net

    def load(self, run: Run) -> SupervisedModule:
        """Return the classifier of a finished run at its chosen epoch."""
        return loaded(run, self.build)

    def predict(
        self, model: SupervisedModule, examples: Examples, device: torch.device
    ) -> np.ndarray:
        """Return class probabilities (n, K), not calibrated."""
        return frozen.predict_examples(model, examples, device)

    def measured_by(self, val: Examples) -> str:
        """Return what classifiers are chosen by on validation: kappa, or accuracy."""
        return measure_of(val).name

    def quality(self, val: Examples, answers: np.ndarray) -> float:
        """Return how good probabilities (n, K) of validation are."""
        return measure_of(val).score(val.labels, answers.argmax(1))

    def watch(
        self, model: SupervisedModule, val: Examples, device: torch.device
    ) -> Callable[[int], dict[str, float]]:
        """Return what measures the model on validation at the end of an epoch."""
        measure = measure_of(val)

        def watched(_epoch: int) -> dict[str, float]:
            p = self.predict(model, val, device)
            score = measure.score(val.labels, p.argmax(1))
            loss = {frozen.VAL_LOSS: log_loss(val.labels, p)}
            if val.grouped:
                table = confusion(val.labels, p.argmax(1), len(val.classes))
                return {"val_kappa": score, "val_macro_f1": float(macro_f1(table))} | loss
            return {"val_accuracy": score} | loss

        return watched

    def calibrate(
        self, answers: np.ndarray, train: Examples, val: Examples, balanced: bool
    ) -> dict[str, object]:
        """Return the temperature that suits validation best, and what it mends."""
        _, calibration = frozen.calibrate(val.labels, answers)
        return calibration | {f"n_{val.item}s": len(val)}

    def calibrated(self, answers: np.ndarray, calibration: Mapping[str, object]) -> np.ndarray:
        """Return probabilities (n, K) at the temperature that suits validation best."""
        return tempered(answers, calibration["temperature"])

    def score(self, examples: Examples, answers: np.ndarray, seed: int) -> dict:
        """Return every figure of agreement, pooled and apart, with intervals."""
        score = score_units if examples.grouped else score_items
        return score(examples, answers, seed)

    def calibration(
        self, examples: Examples, answers: np.ndarray, uncalibrated: np.ndarray, seed: int
    ) -> dict:
        """Return the expected calibration error, its table, and what it was before."""
        tables = reliabilities(examples, answers)
        result: dict[str, object] = {"ece": float(calibration_error(sum(tables)))}
        if examples.grouped:
            ends = bootstrap(tables, calibration_error, seed=seed)
            result["ece_interval_95"] = [or_none(end) for end in ends]
        before = float(calibration_error(reliability(examples.labels, uncalibrated)))
        return result | {"table": sum(tables).tolist(), "ece_uncalibrated": before}

    def extras(
        self, run: Run, examples: Examples, answers: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what a task tells besides."""
        return {}

    def write_predictions(self, path: Path, examples: Examples, answers: np.ndarray) -> None:
        """Write what tells each item, its truth, its prediction and probabilities (n, K)."""
        names = examples.classes if len(examples.classes) <= MOST_COLUMNS else ()
        columns, rows = examples.columns()
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            told = [*columns, "truth", "prediction", *(f"p_{name}" for name in names), "confidence"]
            # Looked through beforehand and not held: a store has a million rows.
            marked = is_marked(examples.classes) or any(map(is_marked, examples.columns()[1]))
            write_table(file, told, _told(examples, rows, answers, len(names)), marked)

    def figures(
        self, result: dict, examples: Examples, answers: np.ndarray, folder: Path
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

        table, title = np.array(result["confusion"]), self.headline(result, examples)
        path = folder / "confusion.png"
        return figures.confusion(table, title, path, examples.classes, **self.words)

    def headline(self, result: dict, examples: Examples) -> str:
        """Return a result in one line."""
        if not examples.grouped:
            score = with_interval(result, "accuracy")
            return f"accuracy {score}, {len(examples):,} {examples.item}s"
        return (
            f"kappa {with_interval(result, 'kappa')}, {result[f'n_{examples.unit}s']:,} "
            f"{examples.unit}s, {len(examples):,} {examples.item}s"
        )

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
        if "n_crops" in result:
            return [
                f"{result['n_images']:,} test images, {result['n_crops']:,} crops of them, of "
                f"{result['store']}",
                f"kappa {with_interval(result, 'kappa')} pooled (95 %, bootstrap over images)",
                f"macro-F1 {result['macro_f1']:.3f}, accuracy {with_interval(result, 'accuracy')}",
            ]
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


def _told(
    examples: Examples, rows: Iterable[Sequence], p: np.ndarray, n_told: int
) -> Iterator[list[object]]:
    """Yield the row of every item: what tells it, truth, prediction, shares, and the largest."""
    for row, truth, values in zip(rows, examples.labels.tolist(), p, strict=True):
        own = values.tolist()  # a row at a time: Python's numbers take four times the room
        sure = max(own)
        classes = examples.classes[truth], examples.classes[own.index(sure)]
        yield [*row, *classes, *(f"{v:.5f}" for v in (*own[:n_told], sure))]
