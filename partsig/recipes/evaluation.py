"""A fine-tuned run judged on a store; and several runs, of folds, as one."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from partsig.contracts import Dataset, Examples, Task
from partsig.data.store import locate
from partsig.errors import DataError
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.evaluation_folder import evaluation_of, place_digest
from partsig.runs import directory as runs
from partsig.runs.run import Run
from partsig.tasks import registry as tasks


class LeakWarning(UserWarning):
    """A test subject was seen in pretraining: the result is transductive."""


class StoreChangedWarning(UserWarning):
    """What is tested on, or its labels, is no longer what it was when the run was begun."""


# Test items, and the answers (n, …) to them, calibrated and not.
Answered = tuple[Examples, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a run makes of the test items of a store: answers (n, …), calibrated and not.

    ``ask`` gives the answers to the same items altered, see :meth:`Dataset.altered`, with these;
    ``missing`` are the run's channels that are silent, and in how many parts (recordings) each.
    ``leaked`` are the units whose inputs pretraining has seen, ``changed`` what of the store is not
    as it was when the run was begun; ``folder`` is where the evaluation
    goes, ``external`` whether the store is another one than the run's.
    """

    run: Run
    dataset: Dataset
    examples: Examples
    uncalibrated: np.ndarray
    answers: np.ndarray
    ask: Callable[..., tuple[Examples, np.ndarray]]
    missing: dict[str, int]
    leaked: list[str]
    changed: list[str]
    folder: Path
    external: bool


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``evaluate`` found and where it lies; ``summary`` are a few lines on it.

    Of several runs, ``each`` are theirs, one by one. ``follow_up`` is the command that usually
    comes next, word by word; none after several runs.
    """

    path: Path
    metrics: dict
    figures: list[Path]
    summary: list[str]
    follow_up: tuple[str, ...]
    each: "tuple[Evaluation, ...]" = ()


def judge(
    path: Path, store: str | Path | None, device: torch.device, missing: str = "refuse"
) -> Judged:
    """Ask a finished run for its opinion of the test items of its own store, or of another.

    ``missing`` is what is done where the store lacks a channel of the run: refuse, or fill.
    Raises DataError when the store's channels, rate, size or classes are not the run's, and when
    what trained or chose the classifier would be tested.
    """
    run = Run.finished(path, "finetune")
    calibration, task = run.calibration, tasks.get(run.task)
    model = task.load(run)
    dataset = registry.get(run.modality).open(locate(store, recorded=run.facts["store"]))
    dataset = dataset.labelled_by(task.target).fitted(run, missing)
    dataset.check_same_input(run, task.learned(dataset.labels))
    folder, external = evaluation_of(run, dataset.path)
    plain = dataset.test_examples(run, external)
    examples = task.relabel(plain)

    def ask(
        channels: Sequence[str | None] | None = None, later_s: float | None = None
    ) -> tuple[Examples, np.ndarray]:
        altered = task.relabel(dataset.altered(plain, channels, later_s))
        return altered, task.predict(model, altered, device)

    changed = [] if external else dataset.changed_since(run)
    if changed:
        warnings.warn(
            f"{dataset.path} was changed after {run.path} was begun: signals or labels of "
            f"{', '.join(changed[:3])}{', …' * (len(changed) > 3)} are others, and the result is "
            "not comparable with one from before.",
            StoreChangedWarning,
            stacklevel=2,
        )
    uncalibrated = task.predict(model, examples, device)
    return Judged(
        run=run,
        dataset=dataset,
        examples=examples,
        uncalibrated=uncalibrated,
        answers=task.calibrated(uncalibrated, calibration),
        ask=ask,
        missing=dataset.missing_channels(run, examples),
        changed=changed,
        leaked=dataset.seen_in_pretraining(run, examples),
        folder=folder,
        external=external,
    )


def result_of(judged: Judged, seed: int) -> dict:
    """Return every figure of an evaluation, as ``metrics.json`` holds them."""
    run, examples = judged.run, judged.examples
    task, unit = tasks.get(run.task), examples.unit
    return {
        "run": place_name(run.path),
        "from": run.origin.told,
        "modality": run.modality,
        "task": run.task,
        "store": place_name(judged.dataset.path),
        "store_place_sha256": place_digest(judged.dataset.path),
        "external": judged.external,
        "split_unit": unit,
        f"train_{unit}s": run.n_units("train"),
        f"val_{unit}s": run.n_units("val"),
        f"{unit}s_seen_in_pretraining": judged.leaked,
        **examples.digest(),
        **({"channels_missing": judged.missing} if judged.missing else {}),
        **({"changed_since_training": judged.changed} if judged.changed else {}),
        "seed": run.seed,
        **_figures(task, _asked(judged), seed, temperature=run.calibration["temperature"]),
        **task.extras(run, examples, judged.answers, seed),
    }


def _asked(judged: Judged) -> Answered:
    return judged.examples, judged.answers, judged.uncalibrated


def _figures(task: Task, answered: Answered, seed: int, **of_the_run: object) -> dict:
    """Return when and with what it was measured, how good it is, and how far it can be believed."""
    examples, answers, uncalibrated = answered
    calibration = task.calibration(examples, answers, uncalibrated, seed)
    return {
        "date": runs.now(),
        "environment": runs.environment(),
        **task.score(examples, answers, seed),
        "calibration": {**of_the_run, **calibration},
    }


def in_common(several: Sequence[Judged]) -> list[str]:
    """Return the test units of more than one of several runs, sorted; raise DataError where they
    cannot be judged together: on two stores, or of two tasks.
    """
    first = several[0]
    for other in several[1:]:
        if other.run.task != first.run.task or other.run.labels != first.run.labels:
            raise DataError(
                f"{other.run.path} tells other things apart than {first.run.path}; evaluate them "
                "one by one."
            )
        if other.dataset.path.resolve() != first.dataset.path.resolve():
            raise DataError(
                f"{other.run.path} is judged on {other.dataset.path} and {first.run.path} on "
                f"{first.dataset.path}; only runs on one store are pooled: evaluate them one by "
                "one."
            )
    units = [set(judged.examples.units()[0]) for judged in several]
    return sorted(set().union(*(a & b for a, b in combinations(units, 2))))


def pooled(several: Sequence[Judged]) -> Answered:
    """Return the answers of runs on disjoint test units as those of one."""
    first, *others = (judged.examples for judged in several)
    return (
        first.joined(others),
        np.concatenate([judged.answers for judged in several]),
        np.concatenate([judged.uncalibrated for judged in several]),
    )


def pooled_result(several: Sequence[Judged], answered: Answered, seed: int) -> dict:
    """Return the figures of the pooled answers of several runs: each item judged by its own run.

    What differs between the runs (how doubtful an epoch is, say) has no pooled figure.
    """
    first, examples = several[0], answered[0]
    temperatures = [judged.run.calibration["temperature"] for judged in several]
    missing: Counter[str] = Counter()
    for judged in several:
        missing.update(judged.missing)
    return {
        "runs": [place_name(judged.run.path) for judged in several],
        "modality": first.run.modality,
        "task": first.run.task,
        "store": place_name(first.dataset.path),
        "split_unit": examples.unit,
        f"{examples.unit}s_seen_in_pretraining": sorted(
            {unit for judged in several for unit in judged.leaked}
        ),
        **examples.digest(),
        **({"channels_missing": dict(missing)} if missing else {}),
        "seeds": [judged.run.seed for judged in several],
        **_figures(tasks.get(first.run.task), answered, seed, temperatures=temperatures),
    }


def next_command(judged: Judged) -> tuple[str, ...]:
    """Return the command that usually comes next: a report, of labels that it has a page for."""
    run, path = judged.run, str(judged.run.path)
    usual = registry.get(run.modality).usual_labels
    if tasks.get(run.task).can_be_reported and run.labels == usual:
        return ("report", "--run", path)
    return ("compare", path)


def warn_of_leaks(leaked: Sequence[str], unit: str) -> None:
    """Warn with LeakWarning where test units were seen in pretraining."""
    if leaked:
        warnings.warn(
            f"{len(leaked)} of the test {unit}s were SEEN IN PRETRAINING "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}): this result is "
            "transductive, not held-out.",
            LeakWarning,
            stacklevel=4,
        )
