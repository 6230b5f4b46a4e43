"""``partsig evaluate``: a fine-tuned run in, predictions, metrics and figures out."""

import csv
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig.data.signals.recordings import EPOCH_S, STAGES
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.windows import Epochs
from partsig.data.store import locate
from partsig.errors import DataError
from partsig.figures import classification as figures
from partsig.files import atomic, write_json
from partsig.metrics.agreement import (
    accuracy,
    balanced_accuracy,
    confusions,
    f1_per_class,
    kappa,
    macro_f1,
    or_none,
)
from partsig.metrics.calibration import calibration_error, reliability, tempered
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap
from partsig.runs import run as runs
from partsig.sleep import figures as sleep_figures
from partsig.sleep import review
from partsig.tasks.baselines import predict
from partsig.train import distributed
from partsig.verbs.finetune import load_stager


class LeakWarning(UserWarning):
    """A test subject was seen in pretraining: the result is transductive."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``evaluate`` found and where it lies."""

    path: Path
    metrics: dict
    figures: list[Path]


def evaluate(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Measure a fine-tuned run on its test subjects, or on every labelled subject of another store.

    ``run`` defaults to the fine-tuning run that finished last. Writes ``predictions.csv``,
    ``metrics.json`` and figures into ``RUN/evaluation`` (``RUN/evaluation-STORE`` for another
    store; a number is added where another one has that name). Warns with LeakWarning when
    pretraining has seen a test subject. A run on images goes to
    :func:`~partsig.tasks.image_classification.evaluate_images`.

    Raises DataError when the store's channels or rate are not the run's, or when a subject that
    trained the classifier would be tested.
    """
    path = Path(run) if run else runs.last("finetune")
    if runs.read(path, "finetune").get("modality") == "image":
        from partsig.tasks.image_classification import evaluate_images

        return evaluate_images(path, store, device=device, seed=seed)
    model, record = load_stager(path)
    runs.check_kept(path, record, ("calibration",))
    opened = open_store(locate(store or record["store"]))
    _check_fits(record, opened)
    output, external = runs.evaluation_of(path, record, opened.path)
    subjects = opened.labelled_subjects if external else record["split"]["test"]
    leaked = _check_leaks(record, subjects)
    chosen = distributed.pick_device(device)
    epochs = Epochs(opened, opened.recordings_of(subjects))
    calibration = record["calibration"]
    uncalibrated = predict(model, epochs, chosen)
    probabilities = tempered(uncalibrated, calibration["temperature"])
    result = {
        "run": str(path),
        "from": record["from"],
        "store": str(opened.path),
        "external": external,
        "split_unit": "subject",
        "train_subjects": len(record["split"]["train"]),
        "val_subjects": len(record["split"]["val"]),
        "subjects_seen_in_pretraining": leaked,
        "seed": record["seed"],
        "date": runs.now(),
        "environment": runs.environment(),
        **measure(epochs, probabilities, seed),
        "calibration": {
            "temperature": calibration["temperature"],
            **_calibration(epochs, probabilities, seed),
            "ece_uncalibrated": float(calibration_error(reliability(epochs.stages, uncalibrated))),
        },
        "review": _review(epochs, probabilities, calibration, seed),
    }
    _write_predictions(output / "predictions.csv", epochs, probabilities)
    write_json(output / "metrics.json", result)
    title = (
        f"kappa {with_interval(result, 'kappa')}, {result['n_subjects']} subjects, "
        f"{result['n_epochs']:,} epochs"
    )
    table, words = np.array(result["confusion"]), ("predicted stage", "scored stage")
    drawn = [
        figures.confusion(table, title, output / "confusion.png", STAGES, *words),
        sleep_figures.trust(result["calibration"], result["review"], output / "trust.png"),
        sleep_figures.hypnogram(*_typical(epochs, probabilities, result), output / "hypnogram.png"),
    ]
    return Evaluation(path=output, metrics=result, figures=drawn)


def _check_fits(record: dict, store: Store) -> None:
    for key, ours in (("ch_names", list(store.ch_names)), ("sfreq", store.sfreq)):
        if record[key] != ours:
            raise DataError(
                f"the run was trained with {key} {record[key]}; {store.path} has {ours}. "
                "Preprocess it again with those settings."
            )


def _check_leaks(record: dict, subjects: Iterable[str]) -> list[str]:
    """Refuse subjects that trained or chose the classifier; warn of those seen unlabelled."""
    used = set(record["split"]["train"]) | set(record["split"]["val"])
    both = sorted(used & set(subjects))
    if both:
        raise DataError(
            f"{len(both)} of the subjects to test on trained or chose this classifier "
            f"({', '.join(both[:3])}, …); evaluate on a store without them."
        )
    leaked = sorted(set(record["pretraining_subjects"]) & set(subjects))
    if leaked:
        warnings.warn(
            f"{len(leaked)} of the test subjects were SEEN IN PRETRAINING "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}): this result is "
            "transductive, not held-out.",
            LeakWarning,
            stacklevel=3,
        )
    return leaked


def measure(epochs: Epochs, probabilities: np.ndarray, seed: int) -> dict:
    """Return every figure of agreement, pooled and per recording, with intervals over subjects."""
    predicted, k = probabilities.argmax(1), len(STAGES)
    _, subjects = epochs.subjects()
    units = confusions(epochs.stages, predicted, k, subjects)
    pooled = units.sum(0)
    each = kappa(confusions(epochs.stages, predicted, k, epochs.recording))
    valid = each[~np.isnan(each)]

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> list[float | None]:
        ends = bootstrap(units, statistic, seed=seed)
        return [or_none(end) for end in ends]

    return {
        "n_subjects": len(units),
        "n_recordings": len(epochs.names),
        "n_epochs": int(pooled.sum()),
        "kappa": or_none(float(kappa(pooled))),
        "kappa_interval_95": interval(kappa),
        "kappa_per_recording_mean": or_none(valid.mean() if len(valid) else np.nan),
        "kappa_per_recording_sd": or_none(valid.std(ddof=1) if len(valid) > 1 else np.nan),
        "kappa_per_recording": dict(zip(epochs.names, map(or_none, each), strict=True)),
        "recordings_without_kappa": int(np.isnan(each).sum()),
        "macro_f1": float(macro_f1(pooled)),
        "macro_f1_interval_95": interval(macro_f1),
        "accuracy": float(accuracy(pooled)),
        "accuracy_interval_95": interval(accuracy),
        "balanced_accuracy": float(balanced_accuracy(pooled)),
        "f1": dict(zip(STAGES, map(or_none, f1_per_class(pooled)), strict=True)),
        "confusion": pooled.tolist(),
        "bootstrap": {"unit": "subject", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
    }


def _calibration(epochs: Epochs, probabilities: np.ndarray, seed: int) -> dict:
    """Return the expected calibration error, its interval over subjects, and its table."""
    names, subjects = epochs.subjects()
    order = np.argsort(subjects, kind="stable")
    ends = np.cumsum(np.bincount(subjects, minlength=len(names)))
    tables = [
        reliability(epochs.stages[mine], probabilities[mine]) for mine in np.split(order, ends[:-1])
    ]
    ends = bootstrap(tables, calibration_error, seed=seed)
    pooled = sum(tables)
    return {
        "ece": float(calibration_error(pooled)),
        "ece_interval_95": [or_none(end) for end in ends],
        "table": pooled.tolist(),
    }


def _review(epochs: Epochs, probabilities: np.ndarray, calibration: dict, seed: int) -> dict:
    """Return what a review of the most doubtful epochs is worth, and what they are told by."""
    predicted = probabilities.argmax(1)
    by, prior = calibration["review_by"], np.array(calibration["prior"])
    doubt = {
        kind: review.of_nights(epochs, probabilities, prior, kind)
        for kind in ("confidence", "context")
    }
    wrong = predicted != epochs.stages
    told = {kind: review.find_errors(values, wrong) for kind, values in doubt.items()}
    found = review.curve(epochs.stages, predicted, doubt[by], epochs.subjects()[1], seed)
    return {"by": by, "finds_errors": told} | found


def with_interval(found: dict, key: str) -> str:
    """Return a figure with its interval as text; says so where one of them is undefined.

    >>> with_interval({"kappa": 0.4, "kappa_interval_95": [0.3, 0.5]}, "kappa")
    '0.400 [0.300, 0.500]'
    >>> with_interval({"kappa": 0.4, "kappa_interval_95": [None, None]}, "kappa")
    '0.400 [no interval]'
    """
    low, high = found[f"{key}_interval_95"]
    value = "undefined" if found[key] is None else f"{found[key]:.3f}"
    return f"{value} [no interval]" if low is None else f"{value} [{low:.3f}, {high:.3f}]"


def _write_predictions(path: Path, epochs: Epochs, probabilities: np.ndarray) -> None:
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        columns = ["recording", "subject", "epoch", "onset_s", "truth", "prediction"]
        writer.writerow([*columns, *(f"p_{stage}" for stage in STAGES), "confidence"])
        for name, mine in epochs.by_recording():
            row = epochs.store.recordings[name]
            start, subject = float(row["start_s"] or 0), row["subject"]
            for epoch, truth, p in zip(
                epochs.epoch[mine].tolist(),
                epochs.stages[mine].tolist(),
                probabilities[mine].tolist(),
                strict=True,
            ):
                onset, sure = f"{start + EPOCH_S * epoch:.10g}", max(p)
                head = [name, subject, epoch, onset, STAGES[truth], STAGES[p.index(sure)]]
                writer.writerow(head + [f"{value:.5f}" for value in (*p, sure)])


def _typical(
    epochs: Epochs, probabilities: np.ndarray, result: dict
) -> tuple[str, np.ndarray, np.ndarray, float | None]:
    """Return the recording of median kappa: name, truth (E,), probabilities (E, K), kappa."""
    scores = {
        name: value for name, value in result["kappa_per_recording"].items() if value is not None
    }
    ordered = sorted(scores, key=scores.__getitem__) or list(result["kappa_per_recording"])
    name = ordered[len(ordered) // 2]
    length = epochs.n_epochs[name]
    truth = np.full(length, -1)
    given = np.full((length, probabilities.shape[1]), np.nan)
    mine = epochs.recording == epochs.names.index(name)
    truth[epochs.epoch[mine]], given[epochs.epoch[mine]] = epochs.stages[mine], probabilities[mine]
    return name, truth, given, scores.get(name)
