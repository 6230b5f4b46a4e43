"""What do the maps follow that parts of EEG are found through: their window, or the waveform?

    python benchmarks/discovery_eeg_maps.py WORK     (after discovery_eeg.py; WORK is its)

On some windows of the recordings that were learned from, of each store and seed: how much of the
variance of PART's maps, and of the log powers of five bands in the same seconds, lies between
windows of half a minute; and how far the maps of a window are from those of the same window turned
upside down, in SDs of the maps: what tells one second from another by its powers alone is 0 there,
maps that are unrelated are at 1.4.

Added to ``results/discovery_signals.json`` as ``maps``. Half a minute of one core.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from discovery_eeg import JUDGED_ON, PARTS, RESULTS, SEEDS, items_of, powers_of

from partsig.runs.perceiving import load_perceiving
from partsig.runs.run import Run

LOOKED_AT, BATCH = 300, 50  # windows


def maps_told(work: Path, store: str, seed: int) -> dict[str, object]:
    """Return what PART's maps of training windows follow: their window, or the waveform's sign."""
    run = work / "runs" / f"parts-{store}-{PARTS[0]}-{seed}"
    items = items_of(work, store, run, store, "train")
    step = -(-len(items) // LOOKED_AT)
    x = np.concatenate([items.inputs(slice(i, i + 1)) for i in range(0, len(items), step)])
    phi = load_perceiving(Run.finished(run, "pretrain")).phi
    firsts = range(0, len(x), BATCH)
    maps, turned = (
        np.concatenate([phi(torch.from_numpy(sign * x[at : at + BATCH])).numpy() for at in firsts])
        for sign in (1, -1)
    )
    powers = powers_of(x)
    return {
        "data": store, "seed": seed, "windows": len(x),
        "share_between_windows": between(maps), "share_between_windows_bands": between(powers),
        "turned_upside_down_sd": round(float((maps - turned).std() / maps.std()), 3),
    }  # fmt: skip


def between(maps: np.ndarray) -> float:
    """Return the share of the variance of maps (n, F, U) that is of the windows' means.

    >>> between(np.array([[[0.0, 2.0]], [[2.0, 4.0]]]))
    0.5
    """
    return round(float(maps.mean(2).var(0).sum() / maps.var((0, 2)).sum()), 4)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    content = json.loads(asked.out.read_text())
    content["maps"] = [maps_told(asked.work, store, seed) for store in JUDGED_ON for seed in SEEDS]
    asked.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(*content["maps"], sep="\n")


if __name__ == "__main__":
    main()
