"""A staging as one JSON file: everything but the signal."""

import json
from pathlib import Path

import numpy as np

from partsig import __version__, files
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.data.signals.quality import QUALITY
from partsig.sleep.exports.paths import replaceable_path
from partsig.sleep.exports.values import plain
from partsig.sleep.staging import Staging


def write_json(staging: Staging, folder: Path) -> Path:
    """Write NAME_staging.json, everything but the signal, one key a line; return its path.

    Epoch e begins ``start_s + epoch_s * e`` seconds after the recording's first sample. ``null``
    stands for no number, and for the stage of an epoch that cannot be used.
    """
    path = replaceable_path(staging, folder, "json")
    n = staging.n_epochs
    staged = {
        "partsig": __version__,
        "recording": staging.name,
        "source": staging.source,
        "ch_names": staging.ch_names,
        "channels_missing": staging.channels_missing,
        "start": None if staging.start is None else staging.start.isoformat(),
        "duration_s": staging.duration_s,
        "start_s": staging.start_s,
        "epoch_s": staging.epoch_s,
        "n_epochs": n,
        "stage_names": STAGES,
        "stager": staging.stager,
        "notes": staging.notes,
        "stages": _coded(staging.stages),
        "confidence": staging.confidence,
        "probabilities": staging.probabilities,
        "unusable": {e: why for e, why in enumerate(staging.unusable) if why},
        "scored": None if staging.scored is None else _coded(staging.scored),
        "review": [
            {"rank": rank, "epoch": s.epoch, "score": s.score, "reasons": s.reasons}
            for rank, s in enumerate(staging.review, 1)
        ],
        "quality_names": QUALITY,
        "quality": staging.quality,
        "oddity_per_s": staging.oddity,
    }
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in plain(staged).items()
    ]
    files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def _coded(stages: np.ndarray) -> list[str | None]:
    return [None if code == UNSCORED else STAGES[code] for code in stages]
