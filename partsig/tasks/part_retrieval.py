"""Part retrieval: how high the same part elsewhere ranks, by the cosine of frozen features.

Every test item is a query; its gallery are all other test items (those of the same unit, too). The
average precision of a query is averaged over the queries of a part, and these over parts; over all
queries, too. Chance is about a part's share. Intervals are bootstraps over units (images, subjects)
of the queries, the gallery as it is. Nothing is learned. Features are what is pooled: the mean of
the patch tokens, [CLS], or what the projection head makes that an encoder was trained with.

Source: Zhu et al., Understanding Self-Supervised Pretraining with Part-Aware Representation
Learning, TMLR 2024: part retrieval. *Differs from its code*: the query is not in its own gallery
(what it would be with it there, as published, is told besides: ``with_query``), and the gallery
holds no items of training.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partsig.cells import is_marked, write_table
from partsig.contracts import Examples
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder
from partsig.core.objectives.supervised import EncoderClassifier, LossConfig, SupervisedModule
from partsig.errors import ConfigError
from partsig.files import atomic
from partsig.metrics.agreement import confusion, or_none
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap
from partsig.metrics.retrieval import Ranking, by_label, mean_average_precision, rank
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks.classification_scores import with_interval
from partsig.tasks.frozen import InputShape
from partsig.tasks.labelled import LabelledTask
from partsig.tasks.networks import loaded, network_on

MEASURE = "mean_average_precision"


class Retrieval(SupervisedModule):
    """What is pooled of an encoder that does not learn: the features that are compared."""

    learns_by = "nothing"

    def __init__(self, net: EncoderClassifier) -> None:
        super().__init__(LossConfig())
        self.net = net

    def features(self, x: Tensor) -> Tensor:
        """Return what is compared, (B, F), of windows (B, C, *L)."""
        return self.net.features(x)

    def logits(self, x: Tensor) -> Tensor:
        """Return the features (B, F): no class is told."""
        return self.features(x)


class PartRetrieval(LabelledTask):
    """The same part elsewhere, found by frozen features: these, (n, F), are the answers."""

    name = "part-retrieval"
    level = "part"
    can_be_reported = False
    words: Mapping[str, str] = {"predicted": "part of the nearest other", "truth": "part"}

    def settled(self, settings: FinetuneRecipe) -> FinetuneRecipe:
        """Return the settings of an encoder that is left as it is."""
        if settings.model != "encoder":
            raise ConfigError(
                f"--task {self.name} compares what an encoder makes of parts and trains nothing: "
                f"leave out model={settings.model} and train={settings.train}."
            )
        if settings.train not in ("full", "probe"):
            raise ConfigError(
                f"--task {self.name} trains nothing: leave out train={settings.train}."
            )
        return replace(settings, train="probe")

    def build(
        self,
        encoder: Encoder | FrozenEncoder,
        settings: FinetuneRecipe,
        shape: InputShape,
        modality: str,
    ) -> Retrieval:
        """Return the encoder and its pool."""
        return Retrieval(network_on(encoder, settings, shape))

    def load(self, run: Run) -> SupervisedModule:
        """Return the encoder and the pool of a finished run."""
        return loaded(run, self.build)

    def predict(self, model: Retrieval, examples: Examples, device: torch.device) -> np.ndarray:
        """Return the features (n, F) of examples."""
        return frozen.features(model, examples, device)

    def measured_by(self, val: Examples) -> str:
        """Return what a run is told by: the mean average precision."""
        return MEASURE

    def quality(self, val: Examples, answers: np.ndarray) -> float:
        """Return the mean average precision of features (n, F), 0 where no query has a match."""
        sums = by_label(ranked(answers, val).precision, val.labels, len(val.classes))
        return float(np.nan_to_num(mean_average_precision(sums)))

    def watch(
        self, model: Retrieval, val: Examples, device: torch.device
    ) -> Callable[[int], dict[str, float]]:
        """Return what measures the model on validation; nothing of it changes."""

        def watched(_epoch: int) -> dict[str, float]:
            return {f"val_{MEASURE}": self.quality(val, self.predict(model, val, device))}

        return watched

    def calibrate(
        self, answers: np.ndarray, train: Examples, val: Examples, balanced: bool
    ) -> dict[str, object]:
        """Return a temperature that changes nothing: features have no confidence."""
        return {"temperature": 1.0}

    def calibrated(self, answers: np.ndarray, calibration: Mapping[str, object]) -> np.ndarray:
        """Return features (n, F) as they are."""
        return answers

    def score(self, examples: Examples, answers: np.ndarray, seed: int) -> dict:
        """Return the mean average precision, that of every part, and chance, with intervals."""
        labels, classes = examples.labels, examples.classes
        found = ranked(answers, examples)
        precisions = found.precision
        names, unit = examples.units()
        tables = _by_unit(precisions, labels, unit, len(names), len(classes))
        pooled = tables.sum(0)
        counts = np.bincount(labels, minlength=len(classes))
        with np.errstate(invalid="ignore"):
            each = pooled[:, 0] / pooled[:, 1]
        shares = np.where(counts > 1, (counts - 1) / max(len(labels) - 1, 1), np.nan)
        interval = bootstrap(list(tables), mean_average_precision, seed=seed)
        return {
            f"n_{examples.unit}s": len(names),
            f"n_{examples.item}s": len(labels),
            MEASURE: or_none(float(mean_average_precision(pooled))),
            f"{MEASURE}_interval_95": [or_none(end) for end in interval],
            "average_precision_of_queries": or_none(_of_queries(pooled)),
            "average_precision": dict(zip(classes, map(or_none, each), strict=True)),
            "chance": or_none(float(np.nanmean(shares)) if (counts > 1).any() else np.nan),
            "queries": dict(zip(classes, counts.tolist(), strict=True)),
            "without_match": int(np.isnan(precisions).sum()),
            "with_query": _with_query(found, labels, classes),
            "confusion": confusion(labels, labels[found.nearest], len(classes)).tolist(),
            "bootstrap": {
                "unit": examples.unit, "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95,
            },
        }  # fmt: skip

    def calibration(
        self, examples: Examples, answers: np.ndarray, uncalibrated: np.ndarray, seed: int
    ) -> dict:
        """Return nothing: features have no confidence."""
        return {}

    def extras(
        self, run: Run, examples: Examples, answers: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what is compared: the pool of which encoder."""
        return {"pool": run.config["pool"]}

    def write_predictions(self, path: Path, examples: Examples, answers: np.ndarray) -> None:
        """Write of every query its part, that of the nearest other item, and its precision."""
        columns, rows = examples.columns()
        found = ranked(answers, examples)
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            marked = is_marked(examples.classes) or any(map(is_marked, examples.columns()[1]))
            told = [*columns, "truth", "prediction", "average_precision"]
            write_table(file, told, _told(examples, rows, found.nearest, found.precision), marked)

    def figures(
        self, result: dict, examples: Examples, answers: np.ndarray, folder: Path
    ) -> list[Path]:
        """Draw which part the nearest other item is; return the file."""
        return [self.draw_confusion(result, examples, folder)]

    def draw_confusion(self, result: dict, examples: Examples, folder: Path) -> Path:
        """Draw which part the nearest other item is; return the file."""
        from partsig.figures import classification as figures

        table, title = np.array(result["confusion"]), self.headline(result, examples)
        path = folder / "confusion.png"
        return figures.confusion(table, title, path, examples.classes, **self.words)

    def headline(self, result: dict, examples: Examples) -> str:
        """Return a result in one line."""
        n_units = result[f"n_{examples.unit}s"]
        return (
            f"mean average precision {with_interval(result, MEASURE)}, "
            f"{len(examples):,} {examples.item}s of {n_units:,} {examples.unit}s"
        )

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines."""
        each = ", ".join(
            f"{name} {'undefined' if value is None else f'{value:.3f}'}"
            for name, value in result["average_precision"].items()
        )
        chance = "undefined" if result["chance"] is None else f"{result['chance']:.3f}"
        return [
            f"mean average precision {with_interval(result, MEASURE)} (95 %, bootstrap over "
            f"{result['split_unit']}s; chance {chance})",
            f"by part: {each}",
            *_as_published(result),
        ]


# The features that were ranked last, with their labels: a score, a table and a picture ask in turn.
_last: "tuple[weakref.ref, weakref.ref, Ranking] | None" = None


def ranked(answers: np.ndarray, examples: Examples) -> Ranking:
    """Return how features (n, F) rank each other; what was ranked just now is not ranked again."""
    global _last
    if _last is None or _last[0]() is not answers or _last[1]() is not examples.labels:
        found = rank(answers, examples.labels)
        _last = weakref.ref(answers), weakref.ref(examples.labels), found
    return _last[2]


def _with_query(found: Ranking, labels: np.ndarray, classes: Sequence[str]) -> dict[str, object]:
    """Return the figures with each query in its own gallery, as published ones have it."""
    sums = by_label(found.with_query, labels, len(classes))
    return {
        MEASURE: or_none(float(mean_average_precision(sums))),
        "average_precision_of_queries": or_none(_of_queries(sums)),
    }


def _as_published(result: dict) -> list[str]:
    """Return the line on queries in their own gallery; none of a result that does not tell it."""
    told = result.get("with_query", {}).get(MEASURE)
    return [] if told is None else [f"with each query in its own gallery, as published: {told:.3f}"]


def _by_unit(
    precisions: np.ndarray, labels: np.ndarray, unit: np.ndarray, n_units: int, n_labels: int
) -> np.ndarray:
    """Return sums and counts (U, K, 2) of average precisions, by the unit of their query."""
    both = by_label(precisions, unit * n_labels + labels, n_units * n_labels)
    return both.reshape(n_units, n_labels, 2)


def _of_queries(sums: np.ndarray) -> float:
    """Return the mean average precision of all queries, of sums and counts (K, 2)."""
    total, count = sums.sum(0)
    return float(total / count) if count else float("nan")


def _told(
    examples: Examples, rows: Iterator[Sequence], near: np.ndarray, precisions: np.ndarray
) -> Iterator[list[object]]:
    """Yield the row of every query: what tells it, its part, the nearest's, its precision."""
    names, labels = examples.classes, examples.labels
    for row, truth, other, precision in zip(rows, labels, labels[near], precisions, strict=True):
        value = "" if np.isnan(precision) else f"{precision:.6f}"
        yield [*row, names[truth], names[other], value]
