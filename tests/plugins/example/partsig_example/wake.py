"""A task of fewer classes than the store has: awake or asleep."""

from partsig.contracts import Examples, Labels
from partsig.errors import ConfigError
from partsig.tasks.classification import Classification
from partsig.tasks.relabelled import merged, merged_labels

WAKE = "W"


class WakeOrSleep(Classification):
    """Is somebody awake? All other classes of the store are sleep."""

    name = "wake-or-sleep"

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where nobody is awake."""
        super().check_labels(labels)
        if WAKE not in labels.classes:
            raise ConfigError(f"--task {self.name} needs a class {WAKE}.")

    def learned(self, labels: Labels) -> Labels:
        """Return the two classes."""
        return merged_labels(labels, _groups(labels.classes))

    def relabel(self, examples: Examples) -> Examples:
        """Return examples of the two classes."""
        return merged(examples, _groups(examples.classes))


def _groups(classes: tuple[str, ...]) -> dict[str, list[str]]:
    return {WAKE: [WAKE], "asleep": [name for name in classes if name != WAKE]}
