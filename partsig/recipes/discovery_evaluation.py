"""A run that discovered parts, judged on the marked items of a store.

::

    FOLDER/ metrics.json      NMI, ARI, their intervals, dead parts, keypoint regression, baselines
            predictions.csv   how often each part is found at what is marked, item by item
            parts.npz         names (n,), parts (n, *grid) uint8, foreground (n, *grid) bool
"""

from pathlib import Path

import numpy as np

from partsig.contracts import Dataset, MarkedItems
from partsig.data.store import locate
from partsig.errors import DataError
from partsig.files import atomic, check_replaceable, write_json
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.evaluation_folder import check_folder, evaluation_of, place_digest
from partsig.recipes.judging import Judgement, JudgingRequest
from partsig.runs import directory as runs
from partsig.runs.perceiving import load_perceiving
from partsig.runs.run import Run
from partsig.tasks import part_discovery as discovery
from partsig.train import distributed

PARTS = "parts.npz"


def evaluate_parts(asked: JudgingRequest) -> Judgement:
    """Judge the parts of a finished run on the test items of its own store, or of another.

    Raises DataError where the store has no test items, or none with marks, or another input.
    """
    run = Run.finished(asked.run, "pretrain")
    dataset = registry.get(run.modality).open(locate(asked.store, recorded=run.facts["store"]))
    items = dataset.marked(run, "test")
    check_marked(items, dataset)
    folder, external = evaluation_of(run, dataset.path)
    folder = asked.output or folder
    check_folder(folder)
    check_replaceable(folder / PARTS, b",truth,prediction,", folder / "predictions.csv")
    model, device = load_perceiving(run), distributed.pick_device(asked.device)
    found = discovery.find_parts(model, items, device)
    # What is fitted to training items (regression of points, k-means, NMF) is of the run's store.
    own = registry.get(run.modality).open(locate(None, recorded=run.facts["store"]))
    train = own.marked(run, "train")
    known = discovery.find_parts(model, train, device)
    units, _ = items.units()
    both = (known, train), (found, items)
    result = {
        "run": place_name(run.path),
        "modality": run.modality,
        "objective": run.config["objective"]["name"],
        "phi": run.config["objective"]["phi"],
        "foreground": run.facts["foreground"],
        "parts": found.maps.shape[1],
        "grid": list(found.maps.shape[2:]),
        "store": place_name(dataset.path),
        "store_place_sha256": place_digest(dataset.path),
        "external": external,
        "split_unit": items.unit,
        f"n_{items.unit}s": len(units),
        f"n_{items.item}s": len(items),
        "seed": run.seed,
        "date": runs.now(),
        "environment": runs.environment(),
        **discovery.score(found, items, asked.seed),
        "keypoint_regression_error": discovery.regression_error(*both),
        "keypoint_regression_baselines": {
            name: discovery.regression_error(*both, name) for name in discovery.CENTRES
        },
        "baselines": discovery.baselines(known, found, items, asked.seed),
    }
    discovery.write_predictions(folder / "predictions.csv", found, items)  # first: it tells whose
    _write_parts(folder / PARTS, found, items)
    write_json(folder / "metrics.json", result)
    return Judgement(
        path=folder,
        metrics=result,
        figures=[],
        summary=discovery.summary(result),
        follow_up=("inspect", "--run", str(run.path), "--what", "parts"),
    )


def check_marked(items: MarkedItems, dataset: Dataset) -> None:
    """Raise DataError where nothing is marked that parts could be held against."""
    if not items.point_names and items.labels(slice(0, 1)) is None:
        raise DataError(
            f"{dataset.path} has neither keypoints nor masks of two classes or more: nothing to "
            "hold parts against; look at them with `partsig inspect --what parts`."
        )


def _write_parts(path: Path, found: discovery.FoundParts, items: MarkedItems) -> None:
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            names=np.array(items.names),
            parts=found.labels.astype(np.uint8),
            foreground=found.inside,
        )
