"""What every task has that takes a store's labels as they are."""

from typing import Literal

from partsig.contracts import Dataset, Examples, Labels, Order, TrainingBatches
from partsig.errors import ConfigError
from partsig.runs.settings import FinetuneRecipe


class LabelledTask:
    """A task on labels of one ``target``: all of a store's classes, as they are."""

    name: str
    target = "class"
    level: Literal["object", "part"] | None = None
    can_be_taught = False

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are not of what this task learns from."""
        if labels.target != self.target:
            raise ConfigError(
                f"--task {self.name} needs labels of {self.target}; the store's are of "
                f"{labels.target}."
            )

    def learned(self, labels: Labels) -> Labels:
        """Return what is learned of a store's labels: the same."""
        return labels

    def relabel(self, examples: Examples) -> Examples:
        """Return a store's examples with the labels that are learned: the same."""
        return examples

    def drawn(self, train: Examples, settings: FinetuneRecipe) -> Examples:
        """Return what the steps of training draw from: the examples."""
        return train

    def batches(
        self,
        dataset: Dataset,
        drawn: Examples,
        shuffled: Order,
        settings: FinetuneRecipe,
        teacher: object,
    ) -> TrainingBatches:
        """Return the batches of fine-tuning: the dataset's own."""
        return dataset.training_batches(drawn, shuffled, settings, teacher)
