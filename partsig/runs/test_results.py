"""What ``partsig compare`` holds side by side: a fine-tuned run's answers on its test set."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from partsig.data.signals.recordings import STAGES
from partsig.errors import ConfigError, DataError
from partsig.files import read_columns
from partsig.metrics.agreement import confusion, kappa
from partsig.runs import run as runs
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import SCRATCH

SEEDED = re.compile(r"-s\d+$")


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What runs of a modality are compared by.

    ``score`` turns counts (..., *K) of test units, summed, into the number called ``name``
    (``title`` in figures); the test set is of so many ``units``, and its answers are ``answers``.
    ``alike`` are the facts of a run that must be the same, each with what is said when it is not.
    """

    name: str
    title: str
    score: Callable[[np.ndarray], np.ndarray]
    units: str
    answers: str
    alike: tuple[tuple[str, str], ...]


def _share_right(counts: np.ndarray) -> np.ndarray:
    """Return the share of right answers of counts (..., 2), wrong and right."""
    return counts[..., 1] / counts.sum(-1)


YARDSTICKS = {
    "eeg": Yardstick(
        name="kappa",
        title="Cohen's kappa",
        score=kappa,
        units="subjects",
        answers="epochs",
        alike=(("provenance", "another store"), ("sfreq", "another rate")),
    ),
    "image": Yardstick(
        name="accuracy",
        title="accuracy",
        score=_share_right,
        units="images",
        answers="images",
        # What is in the store need not be the same: the test images are, see _of_images.
        alike=(("classes", "other classes"),),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run with its answers: ``counts`` (U, *K) of every test unit, ``confusion`` (K, K) of all.

    ``unit`` is what its ``budget`` of labels counts (0: all of them); ``draw`` says which labels
    they were, ``n_train`` how many answers there were to learn from.
    """

    path: Path
    method: str
    unit: str
    budget: int
    draw: int
    pretraining_seed: int | None
    n_train: int
    confusion: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)


def load(named: Sequence[str | Path], device: str) -> tuple[list[Judged], Yardstick]:
    """Read runs (``LABEL=DIRECTORY`` names the method); refuse those that cannot be compared.

    A run that was never evaluated is evaluated first.
    """
    found: list[Judged] = []
    first: dict | None = None
    tested: _Answers | None = None
    for item in map(str, named):
        label, _, directory = item.rpartition("=")
        path = Path(directory)
        first = first or runs.finished(path, "finetune")
        modality = first.get("modality", "eeg")
        record = runs.finished(path, "finetune", modality)
        yardstick = YARDSTICKS[modality]
        for key, what in yardstick.alike:
            if record[key] != first[key]:
                raise DataError(f"{path} is of {what} than {named[0]}; they cannot be compared.")
        if modality == "eeg" and record["split"]["test"] != first["split"]["test"]:
            raise DataError(
                f"{path} was split otherwise than {named[0]}: their test subjects are not the same."
            )
        file = path / "evaluation" / "predictions.csv"
        if not file.is_file():
            _evaluate(path, record, device)
        try:
            answers = (_of_subjects if modality == "eeg" else _of_images)(file, record)
        except (LookupError, ValueError, OSError):
            raise DataError(f"{file} is damaged; evaluate {path} again.") from None
        tested = tested or answers
        if answers.units != tested.units:
            raise DataError(
                f"{file} has other {yardstick.units} than the first run's; evaluate again."
            )
        found.append(
            Judged(
                path=path,
                method=label or method_of(record),
                draw=record["seed"],
                pretraining_seed=(record["pretraining"] or {}).get("seed"),
                confusion=answers.confusion,
                counts=answers.counts,
                **_budget(record),
            )
        )
    _check_apart(found)
    return found, YARDSTICKS[first.get("modality", "eeg")]


def _evaluate(path: Path, record: dict, device: str) -> None:
    """Evaluate a run that never was; say what to do where its store has moved."""
    store = Path(record["store"])
    if not store.exists():
        raise DataError(
            f"{path} was never evaluated, and its store is no longer at {store}: run `partsig "
            f"evaluate --run {path} --store …` with the place it has now, then compare again."
        )
    evaluate(path, device=device)


def _budget(record: dict) -> dict:
    if record.get("modality", "eeg") == "image":
        number, n_train = record["images_per_class"], record["n_images"]["train"]
        return {"unit": "images per class", "budget": number, "n_train": n_train}
    per_class, n_train = record["segments_per_class"], record["n_epochs_train"]
    if per_class is None:
        return {"unit": "subjects", "budget": record["subjects"], "n_train": n_train}
    return {"unit": "segments per class", "budget": per_class, "n_train": n_train}


def _check_apart(found: Sequence[Judged]) -> None:
    if len({item.unit for item in found}) > 1:
        raise ConfigError("some runs have a budget of subjects, others of segments per class.")
    seen: dict[tuple, Path] = {}
    for item in found:
        key = (item.method, item.budget, item.draw, item.pretraining_seed)
        if key in seen:
            budget = f"{item.budget} {item.unit}" if item.budget else "all labels"
            raise ConfigError(
                f"{seen[key]} and {item.path} are both {item.method} with {budget}, "
                f"seed {item.draw}; name what differs: LABEL={item.path}."
            )
        seen[key] = item.path


def method_of(record: dict) -> str:
    """Return what a run is called in a table: its pretraining without the seed, or scratch."""
    settings = record["config"]
    if record["from"] == SCRATCH:
        model = settings.get("model", "encoder")
        name = SCRATCH if model == "encoder" else model
        name = name if settings["train"] == "full" else "random"
        if name == SCRATCH and settings["positions"] == "none":
            name += ", no positions"
    else:
        name = SEEDED.sub("", Path(record["from"]).name).removeprefix("pretrain-")
    blocks = settings.get("blocks", 0)
    if blocks:
        name += ", first block" if blocks == 1 else f", first {blocks} blocks"
    name += ", taught" if record.get("teacher") else ""
    return name if settings["train"] == "full" else f"{name}, {settings['train']}"


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What tells a test set, unit by unit; and a run's answers as :class:`Judged` has them."""

    units: list
    confusion: np.ndarray
    counts: np.ndarray


def _of_subjects(file: Path, _record: dict) -> _Answers:
    """Return the confusion matrix of every test subject, sorted by name."""
    code = {stage: number for number, stage in enumerate(STAGES)}
    found: dict[str, np.ndarray] = {}
    counted = Counter(read_columns(file, ("subject", "truth", "prediction")))
    for (subject, truth, prediction), n in counted.items():
        table = found.setdefault(subject, np.zeros((len(STAGES),) * 2))
        table[code[truth], code[prediction]] = n
    names = sorted(found)
    counts = np.stack([found[name] for name in names])
    return _Answers(units=names, confusion=counts.sum(0), counts=counts)


def _of_images(file: Path, record: dict) -> _Answers:
    """Return whether each test image was wrong, right (n, 2).

    A test set is told by names and classes, and by the hash of the pixels that ``evaluate`` wrote.
    """
    code = {name: number for number, name in enumerate(record["classes"])}
    names, truth, given = zip(*read_columns(file, ("image", "truth", "prediction")), strict=True)
    truth, given = (np.array([code[name] for name in column]) for column in (truth, given))
    measured = json.loads((file.parent / "metrics.json").read_text(encoding="utf-8"))
    return _Answers(
        units=[measured.get("images_sha256"), *zip(names, truth.tolist(), strict=True)],
        confusion=confusion(truth, given, len(code)),
        counts=np.eye(2)[(truth == given).astype(int)],
    )
