"""What ``partsig compare`` reads of a segmentation: how its classes cover each test unit."""

from pathlib import Path

import numpy as np

from partsig.files import read_columns, read_json
from partsig.runs.run import Run

BOTH = "both"  # the column of predictions that count places of a class


def read_segmentation(file: Path, run: Run) -> dict:
    """Return what tells the test set by ``units``, ``confusion`` (K, K), ``counts`` (U, K, 3), the
    ``names`` of the units, and ``n_answers``, how many items there are.

    Counts are those of :func:`~partsig.metrics.segmentation.covered`, of units sorted by name.
    A test set is told by the hashes of pixels and masks that ``evaluate`` wrote, and by names and
    what is marked in each. Raises ValueError or LookupError for a damaged file.
    """
    code = {name: number for number, name in enumerate(run.labels.classes)}
    counts: dict[str, np.ndarray] = {}
    for unit, name, *told in read_columns(file, (run.unit, "class", "truth", "prediction", BOTH)):
        mine = counts.setdefault(unit, np.zeros((len(code), 3), np.int64))
        truth, predicted, both = map(int, told)
        if min(truth, predicted) < both or both < 0:
            raise ValueError(f"{unit} has counts that cannot be")
        if name:  # without, nothing of the item is marked
            mine[code[name]] += both, truth, predicted
    result = read_json(file.parent / "metrics.json")
    confusion = np.array(result["confusion"], np.int64)
    names = sorted(counts)
    stacked = np.stack([counts[name] for name in names])
    if confusion.shape != (len(code),) * 2 or (np.diag(confusion) != stacked.sum(0)[:, 0]).any():
        raise ValueError("predictions.csv and metrics.json are not of one evaluation")
    truths = [tuple(marked) for marked in stacked[..., 1].tolist()]
    hashes = [result.get(key) for key in ("images_sha256", "masks_sha256")]
    n_items = int(result["n_crops" if run.grouped else "n_images"])
    return {
        "units": [*hashes, *zip(names, truths, strict=True)],
        "confusion": confusion,
        "counts": stacked,
        "names": tuple(names),
        "n_answers": n_items,
    }
