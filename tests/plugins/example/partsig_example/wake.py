"""A task: the store's classes, and how well wake alone is told from all others."""

import numpy as np

from partsig.contracts import Examples, Labels
from partsig.errors import ConfigError
from partsig.metrics.agreement import confusion, kappa
from partsig.tasks.classification import Classification

WAKE = "W"


class AndWake(Classification):
    """Classification that is judged by kappa of wake against everything else, too."""

    name = "and-wake"

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where nobody is awake."""
        super().check_labels(labels)
        if WAKE not in labels.classes:
            raise ConfigError(f"--task {self.name} needs a class {WAKE}.")

    def score(self, examples: Examples, probabilities: np.ndarray, seed: int) -> dict:
        """Return every figure of classification, and ``kappa_wake``."""
        wake = examples.classes.index(WAKE)
        told = (examples.labels == wake, probabilities.argmax(1) == wake)
        table = confusion(*(answers.astype(int) for answers in told), 2)
        return super().score(examples, probabilities, seed) | {"kappa_wake": float(kappa(table))}

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines."""
        return [*super().summary(result), f"kappa of wake {result['kappa_wake']:.3f}"]
