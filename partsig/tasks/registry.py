"""The tasks by name: what can be learned from a store's labels, and how that is judged."""

from typing import TYPE_CHECKING

from partsig import registries

if TYPE_CHECKING:
    from partsig.tasks.classification import Classification

TASKS = {
    "classification": "partsig.tasks.classification:Classification",
    "sleep-staging": "partsig.sleep.staging_task:SleepStaging",
}


def get(name: str) -> "Classification":
    """Return the task of this name; raise ConfigError for an unknown one."""
    return registries.load("--task", name, TASKS)()
