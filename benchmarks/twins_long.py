"""Long recordings for ``benchmarks/twins.py``: real ones, and nights joined of real excerpts.

Excerpts of PhysioNet-2018 are joined in the order of their numbers, in which neighbours are often
one sleeper (each less its straight line, one second of one laid over the next): recordings of
20 min, and nights of 8 h; of sleepers with twelve excerpts or more, two recordings each. Real are
psg_six_channel, DREAMS, pydynamo and spinky, as a whole, and in pieces of some 10 to 20 min, which
are so many nights of one sleeper. All are held against each other, and copies of some against them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from preprocess import CHANNELS, hypnogram
from scipy.signal import detrend, resample_poly

from partsig.data.signals import landmarks
from partsig.data.signals.filters import bandpass_resample
from partsig.data.signals.readers import psg
from partsig.data.signals.readers.physionet2018 import write_recording

RATE, MINUTE = 200, 200 * 60
SIX = ("EEG F3", "EEG F4", "EEG C3", "EEG C4", "EEG O1", "EEG O2")
FOUR = ("C3-A1", "FP1-A1", "EOG2-A1", "EOG1-A1")
NOISE = np.random.default_rng(1)


Copy = Callable[[np.ndarray], tuple[np.ndarray, float]]


def exports(noisy: Callable[[np.ndarray], np.ndarray]) -> dict[str, Copy]:
    """Return what is made of a recording (C, T) at 200 Hz however long it is: signal, and rate."""
    return {
        "another export (steps of 1.4 µV)": lambda x: (np.round(x / 1.4) * 1.4, 200.0),
        "noise, 5 % of the SD": lambda x: (noisy(x), 200.0),
        "256 Hz": lambda x: (resample_poly(x, 32, 25, axis=1), 256.0),
        "128 Hz": lambda x: (resample_poly(x, 16, 25, axis=1), 128.0),
        "100 Hz": lambda x: (resample_poly(x, 1, 2, axis=1), 100.0),
        "other order of channels": lambda x: (x[::-1], 200.0),
        "3.7 times, plus 120 µV": lambda x: (3.7 * x + 120, 200.0),
        "polarity": lambda x: (-x, 200.0),
        "7.3 s later": lambda x: (x[:, 1460:], 200.0),
        "order, polarity, gain, offset, 5.6 s, 128 Hz": lambda x: (
            resample_poly(-2 * x[::-1, 1111:], 16, 25, axis=1) + 50,
            128.0,
        ),
    }


def noisy(x: np.ndarray) -> np.ndarray:
    return x + 0.05 * x.std(1, keepdims=True) * NOISE.standard_normal(x.shape, dtype=np.float32)


def part(x: np.ndarray, begin: float, end: float) -> np.ndarray:
    return x[:, int(begin * x.shape[1]) : int(end * x.shape[1])]


# What is made of a long recording (C, T) at 200 Hz: signal, and its rate.
COPIES: dict[str, Copy] = exports(noisy) | {
    "1.2345 s later, 3.3 s less": lambda x: (x[:, 247:-660], 200.0),
    "first channel alone": lambda x: (x[:1], 200.0),
    "half of it": lambda x: (part(x, 0.31, 0.81), 200.0),
    "a quarter of it": lambda x: (part(x, 0.62, 0.87), 200.0),
    "half of it, first channel, noise": lambda x: (noisy(part(x[:1], 0.31, 0.81)), 200.0),
}


def joined(excerpts: np.ndarray) -> np.ndarray:
    """Return excerpts (N, C, T) as one recording (C, N (T - 200) + 200)."""
    n, n_chans, length = excerpts.shape
    hop = length - RATE
    found = np.zeros((n_chans, n * hop + RATE), np.float32)
    weight = np.ones(length, np.float32)
    weight[:RATE] = (np.arange(RATE) + 0.5) / RATE
    weight[-RATE:] = weight[:RATE][::-1]
    for k, x in enumerate(excerpts):
        found[:, k * hop : k * hop + length] += weight * detrend(x.astype(np.float32), axis=1)
    return found


def at_200(x: np.ndarray, sfreq: float) -> np.ndarray:
    return x if sfreq == RATE else resample_poly(x, RATE, round(sfreq), axis=1).astype(np.float32)


def from_edf(file: Path, labels: tuple[str, ...]) -> np.ndarray:
    """Return channels (C, T) in µV, which these files have them in, at 200 Hz."""
    opened = psg.open_psg(file)
    places = [opened.labels.index(label) for label in labels]
    rows = [(opened.samples(c)[:] - opened.offset[c]) * opened.scale[c] for c in places]
    return at_200(np.array(rows, np.float32), opened.sfreqs[places[0]])


def real(data: Path) -> list[tuple[np.ndarray, int]]:
    """Return real recordings (C, T) at 200 Hz, and in how many pieces of 10 to 20 min each is."""
    dreams = data / "dreams/spindles"
    whole = [(from_edf(data / "psg_six_channel/psg_25min.edf", SIX), 2)]
    whole.append((from_edf(dreams / "excerpt3.edf", FOUR), 2))
    for number in (1, 2, 4, 5, 6, 7, 8):
        x = np.loadtxt(dreams / f"excerpt{number}.txt", skiprows=1, dtype=np.float32)[None]
        whole.append((at_200(x, 100.0 if number == 1 else 200.0), 2))
    x = np.loadtxt(data / "pydynamo/segment_data.csv", dtype=np.float32)[None]
    whole.append((at_200(x, 100.0), 5))
    x = scipy.io.loadmat(data / "spinky/training_data.mat")["mat"].astype(np.float32)
    whole.append((resample_poly(x, 1, 5, axis=1), 2))
    return whole


def print_of(x: np.ndarray, sfreq: float = RATE) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    return landmarks.fingerprint(bandpass_resample(x, sfreq, 100.0), 100.0)


def write_night(folder: Path, data: Path) -> None:
    """Write 8 h of 13 channels in the challenge's layout, six of which are joined excerpts."""
    excerpts = np.load(data / "pc18_segments/labelled.npz")["x"]
    rows = np.concatenate([joined(part) for part in (excerpts[:482], excerpts[482:964])])
    signal = np.clip(rows[[0, 3, 1, 4, 2, 5, *range(6), 0]], -32_000, 32_000).round()
    n_epochs = signal.shape[1] // (30 * RATE)
    write_recording(
        folder / "tr03-0001",
        "tr03-0001",
        signal.astype(np.int16),
        CHANNELS,
        RATE,
        stages=hypnogram(n_epochs),
    )


def held_against(recordings: list[np.ndarray], n_copies: int) -> dict:
    """Hold recordings (C, T) against each other, and copies of some against these."""
    prints = [print_of(x) for x in recordings]
    found = landmarks.find_pairs(prints)
    n = len(recordings)
    chosen = np.random.default_rng(0).choice(n, min(n, n_copies), replace=False).tolist()
    recall, keys = {}, {}
    for name, change in COPIES.items():
        copies = [print_of(*change(recordings[i])) for i in chosen]
        pairs = landmarks.find_pairs([*prints, *copies])
        right = {(i, n + k) for k, i in enumerate(chosen)}
        recall[name] = len(right & set(pairs)) / len(chosen)
        found += [pair for pair in set(pairs) - right if pair[1] >= n]
        shared = [landmarks.agreement(prints[i], copies[k])[0] for k, i in enumerate(chosen)]
        keys[name] = float(np.median(shared))
    return {
        "recordings": n,
        "minutes": round(float(np.median([x.shape[1] for x in recordings])) / MINUTE, 1),
        "pairs": n * (n - 1) // 2,
        "false_alarms": len(found),
        "copies": len(chosen),
        "recall": recall,
        "keys_shared": keys,
    }


def of_long(data: Path) -> dict:
    """Return recall and false alarms of long recordings, real ones and joined ones."""
    parts = [np.load(data / f"pc18_segments/{kind}labelled.npz") for kind in ("", "un")]
    excerpts = np.concatenate([part["x"] for part in parts])
    excerpts = excerpts[np.argsort(np.concatenate([part["segment"] for part in parts]))]
    group = parts[0]["group"]
    ours = [np.flatnonzero(group == g) for g in np.unique(group)]
    halves = [half for own in ours if len(own) >= 12 for half in np.array_split(own, 2)]
    nights = np.array_split(excerpts, 8)
    whole = real(data)
    pieces = [piece for x, n in whole for piece in np.array_split(x, n, axis=1)]
    return {
        "real, whole": held_against([x for x, _ in whole], 11),
        "real, in pieces": held_against(pieces, 25),
        "one sleeper": held_against([joined(parts[0]["x"][own]) for own in halves], 8),
        "20 min": held_against([joined(x) for x in np.array_split(excerpts, 198)], 10),
        "8 h": held_against([joined(x) for x in nights], 3),
    }
