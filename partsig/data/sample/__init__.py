"""Real signal that ships with the package: 506 excerpts of 60 s; see ATTRIBUTION.md."""

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile

from partsig.data.signals.readers import physionet2018

CHANNELS = ("O2-M1", "E1-M2", "Chin1-Chin2")
EPOCHS_PER_EXCERPT = 2  # of 30 s


def read_excerpts() -> tuple[np.ndarray, float, list[int], np.ndarray]:
    """Return the excerpts (K, T, C) int16 µV, less the median of each channel, their rate, groups
    (K), and stages (K,): 0 W, 1 N1, 2 N2, 3 N3, 4 REM, -1 not scored.
    """
    folder = resources.files(__name__)
    with (folder / "excerpts.flac").open("rb") as handle:
        signal, sfreq = soundfile.read(handle, dtype="int16", always_2d=True)
    with (folder / "excerpts.csv").open("r", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    excerpts = signal.reshape(len(rows), -1, len(CHANNELS))
    excerpts = excerpts - np.median(excerpts, axis=1, keepdims=True).round().astype(np.int16)
    stages = np.array([int(row["stage"]) for row in rows])
    return excerpts, float(sfreq), [int(row["group"]) for row in rows], stages


def write_records(raw: Path) -> list[Path]:
    """Write the excerpts as records of the challenge's layout below ``raw``; return the headers.

    One record per group of excerpts that look like one sleeper: ``training/sp00-GGGG`` with stages,
    ``test/sp00-GGGG`` without. Excerpts are spliced in the order of their numbers, the median of
    each channel subtracted so that they meet near zero; nights are not continuous.
    """
    excerpts, sfreq, groups, labels = read_excerpts()
    headers = []
    for group in sorted(set(groups)):
        members = [i for i, other in enumerate(groups) if other == group]
        stages = np.repeat(labels[members], EPOCHS_PER_EXCERPT)
        name = f"sp00-{group:04d}"
        part = "training" if stages[0] >= 0 else "test"
        headers.append(
            physionet2018.write_recording(
                raw / part / name,
                name,
                np.concatenate(excerpts[members]).T,
                CHANNELS,
                sfreq,
                stages=stages if part == "training" else None,
            )
        )
    return headers
