"""Learning from a teacher: pseudo-labels of unlabelled epochs, and self-distillation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from partsig.core.objectives.supervised import SupervisedModule
from partsig.tasks.frozen import predict_examples
from partsig.tasks.settings import PseudoConfig


@dataclass(frozen=True, kw_only=True)
class TeacherTargets:
    """A teacher's opinion: targets (n, 5) of the labelled epochs, and of sure ones without."""

    config: PseudoConfig
    targets: np.ndarray
    epochs: Any  # labelled windows, which can be cut anywhere
    extra: np.ndarray  # numbers of the epochs without a label that are used
    opinions: np.ndarray  # (len(extra), 5)

    def draw(
        self, rng: np.random.Generator, labelled: int, reach: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return further epochs (m,) for so many labelled ones, their shifts and opinions (m, 5).

        The first are numbers of ``epochs``, the second samples, up to ``reach`` to either side.
        """
        count = round(self.config.share * labelled) if len(self.extra) else 0
        chosen = rng.integers(len(self.extra), size=count) if count else np.empty(0, dtype=int)
        shift = rng.integers(-reach, reach + 1, count)
        return self.extra[chosen], shift, self.opinions[chosen]


def predict_targets(
    teacher: SupervisedModule,
    epochs: Any,
    train: Any,
    config: PseudoConfig,
    device: torch.device,
) -> TeacherTargets:
    """Return the teacher's opinion of ``epochs``, those of ``train`` having labels.

    Every label of ``epochs`` itself is disregarded: only what is in ``train`` counts as known.
    """
    opinions = predict_examples(teacher, epochs, device)
    sure = opinions.max(1) >= config.confidence
    labels = np.eye(len(train.classes))[train.labels]
    taught = np.zeros_like(labels)
    free = np.ones(len(epochs), bool)
    theirs = dict(train.by_recording())
    for name, mine in epochs.by_recording():
        if name in theirs:
            shared = (epochs.epoch[mine], train.epoch[theirs[name]])
            _, here, there = np.intersect1d(*shared, assume_unique=True, return_indices=True)
            free[mine.start + here] = False
            taught[theirs[name].start + there] = opinions[mine.start + here]
    extra = np.flatnonzero(free & sure)
    return TeacherTargets(
        config=config,
        targets=(1 - config.distil) * labels + config.distil * taught,
        epochs=epochs,
        extra=extra,
        opinions=opinions[extra],
    )
