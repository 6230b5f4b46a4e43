"""What a task offers: what is predicted of examples, and how that is judged."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from partsig.contracts.batch import TrainingBatches
from partsig.contracts.dataset import Dataset, Order, TrainedRun
from partsig.contracts.inputs import Examples
from partsig.contracts.labels import Labels
from partsig.contracts.models import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn


class Task(Protocol):
    """What is predicted and how it is judged: :mod:`partsig.tasks.classification` is one.

    ``target`` is what the labels must be of (:class:`Labels`); ``level`` whether it asks about
    parts or about objects, None where the labels say so; ``words`` what an item and its truth are
    called in figures; ``can_be_reported`` says that ``partsig report`` has a page for it,
    ``can_be_taught`` that a teacher's opinion can be learned from.
    Answers are an array (n, …), a row for each of n items: probabilities (n, K) of K classes, or
    what else a task judges. A ``result`` is what ``metrics.json`` holds.
    """

    name: str
    target: str
    level: Literal["object", "part"] | None
    can_be_reported: bool
    can_be_taught: bool
    words: Mapping[str, str]

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are not of what this task learns from."""

    def learned(self, labels: Labels) -> Labels:
        """Return what is learned of a store's labels: the same, or fewer classes of them."""

    def relabel(self, examples: Examples) -> Examples:
        """Return a store's examples with the labels that are learned."""

    def settled(self, settings: Any) -> Any:
        """Return a modality's settings as this task has them; raise ConfigError for those it has no
        use for.
        """

    def drawn(self, train: Examples, settings: Any) -> Any:
        """Return what the steps of training draw from: the examples, or what is made of them.

        It has a length, and ``labels``, by which classes are drawn equally often, or None. Raises
        ConfigError for examples that the task is not for.
        """

    def batches(
        self, dataset: Dataset, drawn: Any, shuffled: Order, settings: Any, teacher: Any
    ) -> TrainingBatches:
        """Return the batches of fine-tuning, of what is ``drawn`` in an order."""

    def build(
        self, encoder: "nn.Module | None", settings: Any, shape: Any, modality: str
    ) -> Predictor:
        """Return the untrained model; the caller seeds torch.

        ``encoder`` is None where the settings say that there is none (``has_encoder``).
        ``settings`` are the modality's, ``shape`` a :class:`~partsig.tasks.frozen.InputShape`.
        """

    def load(self, run: TrainedRun) -> Predictor:
        """Return the model of a finished run at its chosen epoch."""

    def predict(self, model: Predictor, examples: Examples, device: "torch.device") -> np.ndarray:
        """Return the answers (n, …) to examples: class probabilities (n, K), not calibrated."""

    def measured_by(self, val: Examples) -> str:
        """Return what models are chosen by on validation: kappa, say."""

    def quality(self, val: Examples, answers: np.ndarray) -> float:
        """Return how good answers (n, …) to validation are, by :meth:`measured_by`."""

    def watch(
        self, model: Predictor, val: Examples, device: "torch.device"
    ) -> Callable[[int], dict[str, float]]:
        """Return what measures the model on validation at the end of an epoch."""

    def calibrate(
        self, answers: np.ndarray, train: Examples, val: Examples, balanced: bool
    ) -> dict[str, object]:
        """Return the ``temperature`` that suits validation best, and what else is learned there.

        ``answers`` (n, …) are those to ``val``; ``balanced``: every class was drawn equally
        often in training.
        """

    def calibrated(self, answers: np.ndarray, calibration: Mapping[str, Any]) -> np.ndarray:
        """Return answers (n, …) as they are told: at a temperature, say."""

    def score(self, examples: Examples, answers: np.ndarray, seed: int) -> dict:
        """Return every figure of agreement, with intervals that are drawn by ``seed``."""

    def calibration(
        self, examples: Examples, answers: np.ndarray, uncalibrated: np.ndarray, seed: int
    ) -> dict:
        """Return how far the confidence can be believed, now and before the temperature."""

    def extras(
        self, run: TrainedRun, examples: Examples, answers: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what a result tells besides."""

    def write_predictions(self, path: "Path", examples: Examples, answers: np.ndarray) -> None:
        """Write what tells each item, its truth, and its answer of answers (n, …)."""

    def figures(
        self, result: dict, examples: Examples, answers: np.ndarray, folder: "Path"
    ) -> "list[Path]":
        """Draw a result into a folder; return the files."""

    def draw_confusion(self, result: dict, examples: Examples, folder: "Path") -> "Path":
        """Draw what was taken for what; return the file."""

    def headline(self, result: dict, examples: Examples) -> str:
        """Return a result in one line."""

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines."""
