"""Made nights: real hypnograms of whole nights, each epoch a real excerpt of its stage.

The order of the stages is a sleeper's, the signal is not: epochs that follow one another are of
different sleepers, cut from the bundled excerpts, so that nothing but the order of stages ties them
together. See ATTRIBUTION.md.
"""

import csv
from collections.abc import Container
from importlib import resources
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from partsig.data.sample import CHANNELS, EPOCHS_PER_EXCERPT, read_excerpts
from partsig.data.signals.readers import physionet2018
from partsig.seeds import Stream, rng_of

SFREQ = 100
# Excerpts of a stage that a night is made of, and the SD of the logarithm of its channels' gains.
OWN, GAIN_SD = 10, 0.2
N_STAGES = 5


def hypnograms() -> dict[str, np.ndarray]:
    """Return the real hypnograms by the name of a made night: 0 W, 1 N1, 2 N2, 3 N3, 4 REM, and 5
    before the first that is scored (E,).
    """
    text = (resources.files("partsig.data.sample") / "hypnograms.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {
        f"made-{number:02d}": np.array([int(digit) for digit in row["stages"]])
        for number, row in enumerate(rows, start=1)
    }


def write_nights(
    raw: Path, names: Container[str], test: Container[str], seed: int = 0
) -> list[Path]:
    """Write some of the nights as records of the challenge's layout; return the headers.

    Excerpts are of two pools, by sleeper: ``test`` nights are made of one, the others of the other.
    A night is made of :data:`OWN` excerpts of each stage, each channel at a gain of its own. Three
    channels, 100 Hz, int16.
    """
    excerpts, sfreq, groups, stages = read_excerpts()
    slower = resample_poly(excerpts.astype(np.float32), SFREQ, round(sfreq), axis=1)
    halves = slower.reshape(len(slower), EPOCHS_PER_EXCERPT, -1, len(CHANNELS))
    known = sorted({group for group, stage in zip(groups, stages, strict=True) if stage >= 0})
    pools = {False: np.isin(groups, known[::2]), True: np.isin(groups, known[1::2])}
    every, headers = hypnograms(), []
    for number, (name, hypnogram) in enumerate(every.items()):
        if name not in names:
            continue
        rng = rng_of(Stream.MADE_NIGHTS, seed, number)
        own = [
            rng.permutation(np.flatnonzero(pools[name in test] & (stages == stage)))[:OWN]
            for stage in range(N_STAGES)
        ]
        gain = np.exp(rng.normal(0, GAIN_SD, len(CHANNELS)))
        night = np.empty((len(hypnogram), *halves.shape[2:]), np.int16)
        for epoch, stage in enumerate(hypnogram.tolist()):
            chosen = rng.choice(own[stage if stage < N_STAGES else 0])
            half = halves[chosen, rng.integers(EPOCHS_PER_EXCERPT)]
            night[epoch] = np.clip(np.round(half * gain), -(2**15), 2**15 - 1)
        headers.append(
            physionet2018.write_recording(
                raw / "training" / name, name, night.reshape(-1, len(CHANNELS)).T, CHANNELS,
                float(SFREQ), stages=np.where(hypnogram < N_STAGES, hypnogram, -1),
            )
        )  # fmt: skip
    return headers
