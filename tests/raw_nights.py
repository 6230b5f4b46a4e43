"""Small raw nights in EDF+: stages follow one another, each with a rhythm of its own; gaps."""

import csv
import importlib.util
from pathlib import Path

import numpy as np

import partsig
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.stager import load

CHANNELS = ("C3-M2", "C4-M1", "E1-M2")
SFREQ, EPOCHS = 100, 16
NAMES = ("W", "N1", "N2", "N3", "R")
HZ = (10.0, 5.0, 13.0, 1.5, 7.0)
ENCODER = {
    "encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1,
    "fit.batch_size": 2, "windows_per_epoch": 2, "optim.warmup_epochs": 1,
}  # fmt: skip
GAP, GAPPY = (6, 9), "s03"  # which epochs of which sleeper are missing

place = Path(__file__).parent / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", place)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)


def write_night(path: Path, seed: int, n: int = EPOCHS, gap: tuple[int, int] | None = None) -> Path:
    """Write n epochs of 30 s, scored; of those from ``gap[0]`` to ``gap[1]`` there is nothing."""
    rng = np.random.default_rng(seed)
    stages = np.repeat(rng.integers(0, 5, n), 3)[:n]
    times = np.arange(30 * n * SFREQ) / SFREQ
    rhythm = np.sin(2 * np.pi * times * np.repeat(np.array(HZ)[stages], 30 * SFREQ))
    kept = np.ones(30 * n, bool)
    if gap is not None:
        kept[30 * gap[0] : 30 * gap[1]] = False
    signals = []
    for c, name in enumerate(CHANNELS):
        noise = rng.normal(size=len(times))
        data = (30 - 5 * c) * rhythm + 10 * noise
        counts = np.round(data * 32767 / 500).astype("<i2").reshape(-1, SFREQ)[kept].reshape(-1)
        signals.append(edf_bytes.signal(name, SFREQ, 0) | {"data": counts})
    marks = [
        (30.0 * e, 30.0, f"Sleep stage {NAMES[stage]}")
        for e, stage in enumerate(stages)
        if kept[30 * e]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "EDF+C" if gap is None else "EDF+D"
    onsets = np.flatnonzero(kept).tolist()
    return edf_bytes.write_edf(path, signals, kind=kind, onsets=onsets, annotations=marks)


def write_nights(folder: Path) -> None:
    """Write raw nights of seven sleepers, a store of them, and an encoder pretrained on it."""
    for number in range(7):
        name = f"s{number:02d}"
        gap = GAP if name == GAPPY else None
        write_night(folder / "raw" / f"{name}.edf", number, gap=gap)
    usual = {"channels": list(CHANNELS)}
    partsig.preprocess("edf", folder / "raw", folder / "store", overrides=usual, jobs=1)
    partsig.pretrain(folder / "store", folder / "part", overrides=ENCODER)


def staged_as_evaluated(run: Path, raw: Path, store: Path | None = None) -> int:
    """Hold what stage says of raw recordings against evaluate; return of how many epochs."""
    result = partsig.evaluate(run, store, figures=False, device="cpu")
    with open(result.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    stager, compared = load(run, "cpu"), 0
    for name in {row["recording"] for row in rows}:
        staged = partsig.stage(raw / f"{name}.edf", stager)
        for row in rows:
            e = int(row["epoch"])
            if row["recording"] == name and not staged.unusable[e]:
                p = [float(row[f"p_{stage}"]) for stage in STAGES]
                np.testing.assert_allclose(staged.probabilities[e], p, atol=2e-5)
                compared += 1
    return compared
