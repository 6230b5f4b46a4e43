"""What demonstrations have in common."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from partsig.contracts import Examples
from partsig.runs.models import pretraining_settings
from partsig.runs.run import Run
from partsig.tasks.classification import Classification


def kappa_table(first: str, rows: list[dict]) -> list[str]:
    """Return the lines of a table of methods on held-out subjects, ``first`` its first heading."""
    lines = [f"| {first} | kappa | 95 % interval | macro-F1 | accuracy |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = row["kappa_interval_95"]
        lines.append(
            f"| {row['method']} | {row['kappa']:.3f} | {low:.3f} to {high:.3f} | "
            f"{row['macro_f1']:.3f} | {row['accuracy']:.3f} |"
        )
    return lines


def encoder_of(pretrained: Path) -> dict[str, object]:
    """Return the overrides that give a run from scratch the pretrained encoder's shape."""
    settings = pretraining_settings(Run.read(pretrained))
    shape = asdict(settings.encoder)
    overrides = {f"encoder.{key}": value for key, value in shape.items() if key != "drop_path"}
    return overrides | ({"patch_px": settings.patch_px} if hasattr(settings, "patch_px") else {})


def majority(labels: np.ndarray, test: Examples, seed: int) -> dict:
    """Return the metrics of giving every test item the commonest of the training labels (n,)."""
    common = np.bincount(labels).argmax()
    given = np.eye(len(test.classes))[np.full(len(test), common)]
    return Classification().score(test, given, seed)
