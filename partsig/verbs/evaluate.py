"""``partsig evaluate``: a fine-tuned run in, predictions, metrics and figures out."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from partsig.data.store import locate
from partsig.files import write_json
from partsig.metrics.calibration import tempered
from partsig.modalities import registry
from partsig.recipes.evaluation_folder import evaluation_of
from partsig.runs import directory as runs
from partsig.runs.run import Run
from partsig.tasks import registry as tasks
from partsig.train import distributed


class LeakWarning(UserWarning):
    """A test subject was seen in pretraining: the result is transductive."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``evaluate`` found and where it lies; ``summary`` are a few lines on it."""

    path: Path
    metrics: dict
    figures: list[Path]
    summary: list[str]


def evaluate(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
    figures: bool = True,
) -> Evaluation:
    """Measure a fine-tuned run on its test subjects, or on every labelled subject of another store.

    Of images, on the labelled test images of either. ``run`` defaults to the fine-tuning run that
    finished last. Writes ``predictions.csv``, ``metrics.json`` and figures into ``RUN/evaluation``
    (``RUN/evaluation-STORE`` for another store; a number is added where another one has that name).
    Warns with LeakWarning when pretraining has seen a test subject.

    Raises DataError when the store's channels, rate, size or classes are not the run's, and when
    what trained or chose the classifier would be tested.
    """
    path = Path(run) if run else runs.last("finetune")
    trained = Run.finished(path, "finetune")
    calibration, task = trained.calibration, tasks.get(trained.task)
    model = task.load(trained)
    place = locate(store or trained.store)
    dataset = registry.get(trained.modality).open(place)
    dataset.check_same_input(trained)
    output, external = evaluation_of(trained, dataset.path)
    examples = dataset.test_examples(trained, external)
    leaked = dataset.seen_in_pretraining(trained, examples)
    _warn_of(leaked, examples.unit)
    uncalibrated = task.predict(model, examples, distributed.pick_device(device))
    temperature = calibration["temperature"]
    probabilities = tempered(uncalibrated, temperature)
    unit = examples.unit
    result = {
        "run": str(path),
        "from": trained.facts["from"],
        "modality": trained.modality,
        "task": trained.task,
        "store": str(dataset.path),
        "external": external,
        "split_unit": unit,
        f"train_{unit}s": trained.n_units("train"),
        f"val_{unit}s": trained.n_units("val"),
        f"{unit}s_seen_in_pretraining": leaked,
        **examples.digest(),
        "seed": trained.seed,
        "date": runs.now(),
        "environment": runs.environment(),
        **task.score(examples, probabilities, seed),
        "calibration": {
            "temperature": temperature,
            **task.calibration(examples, probabilities, uncalibrated, seed),
        },
        **task.extras(trained, examples, probabilities, seed),
    }
    task.write_predictions(output / "predictions.csv", examples, probabilities)
    write_json(output / "metrics.json", result)
    drawn = task.figures(result, examples, probabilities, output) if figures else []
    return Evaluation(path=output, metrics=result, figures=drawn, summary=task.summary(result))


def _warn_of(leaked: list[str], unit: str) -> None:
    if leaked:
        warnings.warn(
            f"{len(leaked)} of the test {unit}s were SEEN IN PRETRAINING "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}): this result is "
            "transductive, not held-out.",
            LeakWarning,
            stacklevel=3,
        )
