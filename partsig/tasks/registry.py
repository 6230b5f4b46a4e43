"""The tasks by name: what can be learned from a store's labels, and how that is judged."""

from partsig import registries
from partsig.contracts import Task

TASKS = {
    "classification": "partsig.tasks.classification:Classification",
    "sleep-staging": "partsig.sleep.staging_task:SleepStaging",
}


def get(name: str) -> Task:
    """Return the task of this name; raise ConfigError for an unknown one."""
    return registries.load("--task", name, TASKS, "tasks")()
