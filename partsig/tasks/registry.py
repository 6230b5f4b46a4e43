"""The tasks by name: what can be learned from a store's labels, and how that is judged."""

from partsig import registries
from partsig.contracts import Task
from partsig.errors import ConfigError

TASKS = {
    "classification": "partsig.tasks.classification:Classification",
    "night-context": "partsig.sleep.night_context_task:NightContext",
    "object-segmentation": "partsig.tasks.part_segmentation:ObjectSegmentation",
    "part-retrieval": "partsig.tasks.part_retrieval:PartRetrieval",
    "part-segmentation": "partsig.tasks.part_segmentation:PartSegmentation",
    "sleep-staging": "partsig.sleep.staging_task:SleepStaging",
}


def get(name: str) -> Task:
    """Return the task of this name; raise ConfigError for an unknown one."""
    task = registries.load("--task", name, TASKS, "tasks")()
    if task.name != name:
        raise ConfigError(
            f"--task {name} is called {task.name!r} by {type(task).__name__}; a run must find it "
            "again by one name."
        )
    return task
