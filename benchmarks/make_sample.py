"""Choose the excerpts that ship in partsig/data/sample, from 60-s segments of PhysioNet-2018.

Run: ``python benchmarks/make_sample.py SEGMENTS`` with the folder that holds ``labelled.npz`` and
``unlabelled.npz`` (arrays x (N, 3, 12000) int16 µV, y, group, segment, ch_names, sfreq).

The rule: every group of segments that look like one sleeper with at least 5 segments and 3 stages,
at most 10 of its segments, evenly spread; and of the unlabelled segments the largest groups that no
labelled segment belongs to. Segments with a flat channel are left out. Nothing is scaled,
filtered or resampled.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import soundfile

SAMPLE = Path(__file__).parents[1] / "partsig" / "data" / "sample"
MOST, LEAST, STAGES = 10, 5, 3
UNLABELLED_GROUPS = 12
FLAT_SD = 0.5


def spread(members: np.ndarray) -> np.ndarray:
    """Return at most MOST of the members, evenly spread."""
    at = np.linspace(0, len(members) - 1, min(MOST, len(members))).round().astype(int)
    return members[at]


def main(folder: Path) -> None:
    """Write excerpts.flac and excerpts.csv."""
    labelled, rest = (dict(np.load(folder / f"{n}.npz")) for n in ("labelled", "unlabelled"))
    for part in (labelled, rest):
        alive = (part["x"].std(-1) > FLAT_SD).all(-1)
        for key in ("x", "y", "group", "segment"):
            part[key] = part[key][alive]
    chosen = []
    for group in np.unique(labelled["group"]):
        members = np.flatnonzero(labelled["group"] == group)
        if len(members) >= LEAST and len(np.unique(labelled["y"][members])) >= STAGES:
            chosen += [(labelled, i, int(labelled["y"][i])) for i in spread(members)]
    other = [g for g in np.unique(rest["group"]) if g not in set(labelled["group"])]
    other.sort(key=lambda g: (-(rest["group"] == g).sum(), g))
    for group in sorted(other[:UNLABELLED_GROUPS]):
        members = np.flatnonzero(rest["group"] == group)
        chosen += [(rest, i, -1) for i in spread(members)]
    signal = np.concatenate([part["x"][i].T for part, i, _ in chosen])
    SAMPLE.mkdir(exist_ok=True)
    sfreq = int(labelled["sfreq"])
    soundfile.write(SAMPLE / "excerpts.flac", signal, sfreq, format="FLAC", subtype="PCM_16")
    with open(SAMPLE / "excerpts.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["segment", "group", "stage"])
        for part, i, stage in chosen:
            writer.writerow([int(part["segment"][i]), int(part["group"][i]), stage])
    size = (SAMPLE / "excerpts.flac").stat().st_size
    print(f"{len(chosen)} segments, {len({int(p['group'][i]) for p, i, _ in chosen})} groups")
    print(f"{signal.shape[0] / sfreq / 3600:.1f} h, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
