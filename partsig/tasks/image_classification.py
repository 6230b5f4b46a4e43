"""``partsig evaluate`` on a run on images: predictions, accuracy and figures out."""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from partsig.data.images.store import ImageStore, open_images
from partsig.data.store import locate
from partsig.errors import DataError
from partsig.figures import classification as figures
from partsig.files import atomic, write_json
from partsig.metrics.agreement import balanced_accuracy, confusion, macro_f1, or_none
from partsig.metrics.calibration import calibration_error, reliability, tempered
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.recipes.image_finetuning import load_classifier
from partsig.recipes.labelled_images import in_batches, labelled
from partsig.runs import run as runs
from partsig.tasks import frozen
from partsig.train import distributed
from partsig.verbs.evaluate import Evaluation, with_interval

# Classes above which the five most likely count as well, and up to which every probability is told.
TOP_FIVE_ABOVE, MOST_COLUMNS = 10, 100


def evaluate_images(
    run: str | Path,
    store: str | Path | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Measure a fine-tuned run on the labelled test images of its own store or of another one.

    Writes ``predictions.csv``, ``metrics.json`` and figures into ``RUN/evaluation``
    (``RUN/evaluation-STORE`` for another store). Intervals are over images, drawn anew.

    Raises DataError when the store's channels, size or classes are not the run's, and when it has
    no labelled test image.
    """
    path = Path(run)
    model, settings, record = load_classifier(path)
    opened = open_images(locate(store or record["store"]))
    _check_fits(record, opened)
    index = labelled(opened, "test")
    output, external = runs.evaluation_of(path, record, opened.path)
    if not len(index):
        raise DataError(f"{opened.path} has no labelled test image; pass another --store.")
    truth = opened.labels[index]
    chosen = distributed.pick_device(device)
    digest = hashlib.sha256()
    batches = _hashed(in_batches(opened, index, settings.size, chosen), digest)
    uncalibrated = frozen.predict(model, batches, chosen)
    temperature = record["calibration"]["temperature"]
    probabilities = tempered(uncalibrated, temperature)
    result = {
        "run": str(path),
        "from": record["from"],
        "modality": "image",
        "store": str(opened.path),
        "external": external,
        "split_unit": "image",
        "train_images": record["n_images"]["train"],
        "val_images": record["n_images"]["val"],
        "images_sha256": digest.hexdigest(),
        "seed": record["seed"],
        "date": runs.now(),
        "environment": runs.environment(),
        **measure(truth, probabilities, opened.classes, seed),
        "calibration": {
            "temperature": temperature,
            **calibration(truth, probabilities),
            "ece_uncalibrated": calibration(truth, uncalibrated)["ece"],
        },
    }
    _write_predictions(output / "predictions.csv", opened, index, probabilities)
    write_json(output / "metrics.json", result)
    title = f"accuracy {with_interval(result, 'accuracy')}, {len(index):,} images"
    table, names = np.array(result["confusion"]), opened.classes
    words = {"predicted": "predicted class", "truth": "true class"}
    drawn = [
        figures.confusion(table, title, output / "confusion.png", names, **words),
        figures.reliability(result["calibration"], "images", output / "reliability.png"),
    ]
    return Evaluation(path=output, metrics=result, figures=drawn)


def _hashed(batches: Iterable[torch.Tensor], digest: "hashlib._Hash") -> Iterator[torch.Tensor]:
    """Yield batches of pixels and add them to a hash: what tells test sets of like names apart."""
    for x in batches:
        digest.update(x.cpu().numpy().tobytes())
        yield x


def _check_fits(record: dict, store: ImageStore) -> None:
    """Refuse images of other channels, size or classes than the run's."""
    for key in ("ch_names", "size", "classes"):
        theirs, ours = record[key], list(getattr(store, key))
        if theirs != ours:
            told = [f"{len(v)} values" if len(v) > 12 else v for v in (theirs, ours)]
            raise DataError(
                f"the run was trained with {key} {told[0]}; {store.path} has {told[1]}. "
                "Preprocess it again with those settings."
            )


def measure(
    truth: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...], seed: int
) -> dict:
    """Return accuracy with its interval, per class, and the confusion matrix; five best too."""
    k = len(classes)
    table = confusion(truth, probabilities.argmax(1), k)
    right = probabilities.argmax(1) == truth
    found = {
        "n_images": len(truth),
        "accuracy": float(right.mean()),
        "accuracy_interval_95": interval(right, seed),
    }
    if k > TOP_FIVE_ABOVE:
        best = np.argpartition(-probabilities, 5, axis=1)[:, :5]
        among = (best == truth[:, None]).any(1)
        found |= {
            "top5_accuracy": float(among.mean()),
            "top5_accuracy_interval_95": interval(among, seed),
        }
    with np.errstate(invalid="ignore"):  # a class without a test image has no accuracy
        each = np.diagonal(table) / table.sum(1)
    return found | {
        "balanced_accuracy": float(balanced_accuracy(table)),
        "macro_f1": float(macro_f1(table)),
        "accuracy_per_class": dict(zip(classes, map(or_none, each), strict=True)),
        "confusion": table.tolist(),
        "bootstrap": {"unit": "image", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
    }


def interval(right: np.ndarray, seed: int) -> list[float]:
    """Return the 95 % percentile interval of a share right (n,) when images are drawn anew.

    Of n images drawn with replacement, the number right has the binomial distribution, which is
    drawn from directly.

    >>> interval(np.arange(100) < 80, 0)
    [0.72, 0.88]
    """
    n = len(right)
    shares = np.random.default_rng(seed).binomial(n, right.mean(), BOOTSTRAP_DRAWS) / n
    return np.percentile(shares, [2.5, 97.5]).tolist()


def calibration(truth: np.ndarray, probabilities: np.ndarray) -> dict:
    """Return the expected calibration error and its table."""
    table = reliability(truth, probabilities)
    return {"ece": float(calibration_error(table)), "table": table.tolist()}


def _write_predictions(
    path: Path, store: ImageStore, index: np.ndarray, probabilities: np.ndarray
) -> None:
    names = store.classes if len(store.classes) <= MOST_COLUMNS else ()
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        columns = ["image", "truth", "prediction"]
        writer.writerow([*columns, *(f"p_{name}" for name in names), "confidence"])
        for i, p in zip(index, probabilities, strict=True):
            head = [store.names[i], store.classes[store.labels[i]], store.classes[p.argmax()]]
            shown = (*p[: len(names)], p.max())
            writer.writerow(head + [f"{value:.5f}" for value in shown])
