"""What ``partsig compare`` holds side by side: a fine-tuned run's answers on its test set."""

import csv
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from partsig import config as configs
from partsig import regular
from partsig.errors import ConfigError, DataError
from partsig.files import read_columns, read_json
from partsig.metrics.agreement import confusion, kappa
from partsig.metrics.retrieval import mean_average_precision
from partsig.metrics.segmentation import mean_iou
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN
from partsig.runs.method_names import method_of
from partsig.runs.run import Run
from partsig.runs.segmentation_results import BOTH, read_segmentation
from partsig.runs.settings import SCRATCH


@dataclass(frozen=True, kw_only=True)
class PrimaryMetric:
    """What runs are compared by, whose test sets are of units of one kind.

    ``score`` turns counts (..., *K) of test units, summed, into the number called ``name``
    (``title`` in figures); the test set is of so many ``units``, and its answers are ``answers``.
    Runs must test the very same answers, one by one, which ``told_by`` these columns: none where
    the units tell them. ``alike`` are facts of a run that explain why they do not, in words.
    """

    name: str
    title: str
    score: Callable[[np.ndarray], np.ndarray]
    units: str
    answers: str
    alike: tuple[tuple[str, str], ...] = ()
    told_by: tuple[str, ...] = ()


def _share_right(counts: np.ndarray) -> np.ndarray:
    """Return the share of right answers of counts (..., 2), wrong and right."""
    return counts[..., 1] / counts.sum(-1)


# By the unit, and whether several items belong to one.
METRICS = {
    ("subject", True): PrimaryMetric(
        name="kappa",
        title="Cohen's kappa",
        score=kappa,
        units="subjects",
        answers="epochs",
        alike=(("provenance", "another store"), ("sfreq", "another rate")),
        told_by=("recording", "epoch", "truth"),
    ),
    ("image", True): PrimaryMetric(
        name="kappa",
        title="Cohen's kappa",
        score=kappa,
        units="images",
        answers="crops",
        told_by=("crop", "truth"),
    ),
    ("image", False): PrimaryMetric(
        name="accuracy",
        title="accuracy",
        score=_share_right,
        units="images",
        answers="images",
        # What is in the store need not be the same: the test images are, see _of_items.
    ),
}
PRECISION = "average_precision"  # the column of predictions that are rankings


def _metric_of(run: Run, file: Path) -> PrimaryMetric:
    """Return what a run is compared by: what its predictions are, and of which units."""
    usual = METRICS[run.unit, run.grouped]
    with regular.open_text(file, newline="") as handle:
        told = next(csv.reader(handle), ())
    if BOTH in told:
        return replace(usual, name="mean IoU", title="mean IoU", score=mean_iou, told_by=())
    if PRECISION not in told:
        return usual
    return replace(
        usual,
        name="mean average precision",
        title="mean average precision",
        score=mean_average_precision,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """A run with its answers: ``counts`` (U, *K) of every test unit, ``confusion`` (K, K) of all.

    ``unit`` is what its ``budget`` of labels counts (0: all of them); ``draw`` says which labels
    they were, ``n_train`` how many answers there were to learn from, ``n_answers`` how many it
    gave. ``encoder`` is what its encoder is apart from its weights, None where it has none;
    ``pretrained`` whether these were. ``names`` (U,) are those of the test units, ``labelled`` of
    the subjects learned from; ``store`` is what it was trained on, by name, and where that is from;
    ``settings`` are how.
    """

    path: Path
    method: str
    unit: str
    budget: int
    draw: int
    pretraining_seed: int | None
    n_train: int
    encoder: Mapping[str, object] | None
    pretrained: bool
    n_answers: int
    names: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    store: tuple[str, str] = ("", "")
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)
    confusion: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)


def named_run(text: str | Path) -> tuple[str, Path]:
    """Return label ("" where there is none) and directory of ``LABEL=DIRECTORY``."""
    label, _, directory = str(text).rpartition("=")
    return label, Path(directory)


def load(named: Sequence[str | Path]) -> tuple[list[EvaluatedRun], PrimaryMetric]:
    """Read evaluated runs (``LABEL=DIRECTORY`` names the method).

    Raises DataError, ConfigError or CheckpointError for those that cannot be compared.
    """
    results: list[EvaluatedRun] = []
    first: Run | None = None
    tested = used = told = None
    for item in named:
        label, path = named_run(item)
        first = first or Run.finished(path, "finetune")
        run = Run.finished(path, "finetune", first.modality)
        file = path / "evaluation" / "predictions.csv"
        try:
            metric = _metric_of(run, file)
        except (ValueError, OSError, csv.Error):
            raise DataError(f"{file} is damaged; evaluate {path} again.") from None
        if used is not None and metric.name != used.name:
            raise DataError(
                f"{path} is judged by {metric.name}, {named[0]} by {used.name}; they cannot be "
                "compared."
            )
        used = metric
        own = _told(file, metric.told_by)
        told = own if told is None else told
        why = [what for key, what in metric.alike if run.facts[key] != first.facts[key]]
        if why and own != told:
            raise DataError(
                f"{path} is of {why[0]} than {named[0]}, and not tested on the same "
                f"{metric.answers}, one by one; they cannot be compared."
            )
        if run.labels != first.labels:
            raise DataError(f"{path} is of other classes than {named[0]}; they cannot be compared.")
        if run.facts.get("split", {}).get("test") != first.facts.get("split", {}).get("test"):
            raise DataError(
                f"{path} was split otherwise than {named[0]}: their test subjects are not the same."
            )
        if own != told:
            raise DataError(
                f"{path} and {named[0]} do not test the same {metric.answers}, one by one, with "
                "the same truth: the store or its labels were changed in between. Evaluate both "
                "again."
            )
        try:
            answers = _answers(file, run, metric)
        except (LookupError, ValueError, OSError):
            raise DataError(f"{file} is damaged; evaluate {path} again.") from None
        tested = tested or answers
        if answers.units != tested.units:
            raise DataError(
                f"{file} has other {metric.units} than the first run's; evaluate again."
            )
        results.append(
            EvaluatedRun(
                path=path,
                method=label or method_of(run),
                draw=run.seed,
                pretraining_seed=run.pretraining.get("seed"),
                confusion=answers.confusion,
                counts=answers.counts,
                n_answers=answers.n_answers,
                unit=run.budget.unit,
                budget=run.budget.number,
                n_train=run.n_train,
                encoder=_encoder_of(run),
                pretrained=str(run.origin) != SCRATCH,
                names=answers.names,
                labelled=tuple(sorted(run.facts.get("split", {}).get("train", ()))),
                store=(run.store.name, str(run.facts["provenance"])),
                settings=_settings_of(run),
            )
        )
    _check_apart(results)
    return results, used


def _told(file: Path, columns: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Return what tells the answers in a file of predictions, one by one."""
    if not columns:
        return Counter()
    try:
        return Counter(read_columns(file, columns))
    except (LookupError, ValueError, OSError):
        raise DataError(f"{file} is damaged; evaluate {file.parents[1]} again.") from None


def _check_apart(results: Sequence[EvaluatedRun]) -> None:
    if len({item.unit for item in results}) > 1:
        raise ConfigError("some runs have a budget of subjects, others of segments per class.")
    seen: dict[tuple, Path] = {}
    for item in results:
        key = (item.method, item.budget, item.draw, item.pretraining_seed)
        if key in seen:
            budget = f"{item.budget} {item.unit}" if item.budget else "all labels"
            raise ConfigError(
                f"{seen[key]} and {item.path} are both {item.method} with {budget}, "
                f"seed {item.draw}; name what differs: "
                f"{shlex.quote(f'LABEL={item.path}')}."
            )
        seen[key] = item.path


def _settings_of(run: Run) -> Mapping[str, object]:
    """Return the settings of a run; what an older partsig did not know is as usual."""
    try:
        return configs.to_dict(configs.build(registry.get(run.modality).finetune, run.config))
    except ConfigError:  # of a partsig that had other keys
        return run.config


def _encoder_of(run: Run) -> dict[str, object] | None:
    """Return what an encoder is, its weights apart: shape, tokens, patch, whether it has codes."""
    if run.config.get("model", "encoder") != "encoder":
        return None
    if FROZEN in run.facts:
        return dict(run.facts[FROZEN])
    settings = configs.build(registry.get(run.modality).finetune, run.config)
    window, patch = settings.extents(run.samples_per_unit, run.labels.unit_s)
    shape = configs.to_dict(settings.encoder)
    del shape["drop_path"]  # of training, not of the model
    codes = "none" if settings.positions == "none" else "some"
    return shape | {"window": list(window), "patch": list(patch), "position codes": codes}


@dataclass(frozen=True)
class _Answers:
    """What tells a test set, unit by unit; a run's answers as EvaluatedRun has them, how many."""

    units: list
    confusion: np.ndarray
    counts: np.ndarray
    n_answers: int
    names: tuple[str, ...] = ()


def _answers(file: Path, run: Run, metric: PrimaryMetric) -> _Answers:
    if metric.score is mean_iou:
        return _Answers(**read_segmentation(file, run))
    answers = (_of_units if run.grouped else _of_items)(file, run)
    if metric.score is mean_average_precision:
        return replace(answers, counts=_precisions(file, run))
    return answers


def _of_units(file: Path, run: Run) -> _Answers:
    """Return the confusion matrix of every test subject or image, sorted by name.

    Images are told by the hash of the pixels that ``evaluate`` wrote, too.
    """
    code = {name: number for number, name in enumerate(run.labels.classes)}
    tables: dict[str, np.ndarray] = {}
    counted = Counter(read_columns(file, (run.unit, "truth", "prediction")))
    for (unit, truth, prediction), n in counted.items():
        table = tables.setdefault(unit, np.zeros((len(code),) * 2))
        table[code[truth], code[prediction]] = n
    names = sorted(tables)
    counts = np.stack([tables[name] for name in names])
    pixels = [] if run.unit == "subject" else [_pixels_of(file)]
    return _Answers(
        units=[*pixels, *names],
        confusion=counts.sum(0),
        counts=counts,
        names=tuple(names),
        n_answers=int(counts.sum()),
    )


def _precisions(file: Path, run: Run) -> np.ndarray:
    """Return sums and counts (U, K, 2) of the average precisions of each unit's queries.

    Units are in the order of :func:`_of_units`, items in that of :func:`_of_items`.
    """
    code = {name: number for number, name in enumerate(run.labels.classes)}
    sums: dict[str, np.ndarray] = {}
    for unit, truth, value in read_columns(file, (run.unit, "truth", PRECISION)):
        mine = sums.setdefault(unit, np.zeros((len(code), 2)))
        if value:
            mine[code[truth]] += float(value), 1
    return np.stack([sums[unit] for unit in (sorted(sums) if run.grouped else sums)])


def _of_items(file: Path, run: Run) -> _Answers:
    """Return whether each test image was wrong, right (n, 2).

    A test set is told by names and classes, and by the hash of the pixels that ``evaluate`` wrote.
    """
    code = {name: number for number, name in enumerate(run.labels.classes)}
    names, truth, given = zip(*read_columns(file, ("image", "truth", "prediction")), strict=True)
    truth, given = (np.array([code[name] for name in column]) for column in (truth, given))
    return _Answers(
        units=[_pixels_of(file), *zip(names, truth.tolist(), strict=True)],
        confusion=confusion(truth, given, len(code)),
        counts=np.eye(2)[(truth == given).astype(int)],
        names=names,
        n_answers=len(names),
    )


def _pixels_of(file: Path) -> str | None:
    """Return the hash of the pixels that were judged beside these predictions."""
    return read_json(file.parent / "metrics.json").get("images_sha256")
