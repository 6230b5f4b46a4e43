"""An artefact and oddity score per second, from a PART pretraining run and no label."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from partsig.core.normalise import FLAT
from partsig.core.objectives.part import Part
from partsig.core.placing import Placing, evenly, place
from partsig.errors import ConfigError, DataError, check_range
from partsig.runs.models import LoadedPart, load_part
from partsig.seeds import Stream, seed_of
from partsig.train import distributed

# Windows that are placed at once: bounds the memory, does not change the result.
BATCH = 128
# The amplitude a window is judged by is the median over so many seconds: long beside artefacts,
# short beside the changes of sleep.
LEVEL_S = 61
# Pairs are compared with pairs at the same distance, to a quarter of a patch.
PER_PATCH = 4


def oddity(
    run: str | Path | LoadedPart,
    signal: np.ndarray,
    sfreq: float,
    *,
    draws: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> np.ndarray:
    """Return (S,) float64: how much harder each whole second is to relate to its surroundings.

    ``signal`` (C, T) in µV, filtered and with the channels and rate of the run's store. Windows as
    long as the run's overlap by half; in each, the model predicts the translation of every pair of
    patches ``draws`` times, and is told nothing of where they lie. A second's score is the loss of
    the pairs that touch it, under their true translation, less the mean loss of the recording's
    pairs that are as far apart, in standard deviations of these: 0 is usual, more is odd. The
    signal is divided by its usual amplitude of the minute around, not by the window's own, so that
    an artefact neither hides nor changes its neighbours. Seconds with values that are not finite
    are nan. The same arguments give the same result.

    It is a supplement, not a detector to rely on. Over nine kinds of artefact planted into signal
    of 74 held-out subjects (benchmarks/results/oddity.json; AUC per second, three pretraining
    seeds) it reaches .695 ± .004, no better than the seconds' amplitude (.709) and far behind band
    powers (.862), which learn nothing; only electrode pops are level with these. Its worth follows
    the pretext: .60 where squared error is still at chance.

    Raises CheckpointError or ConfigError for a run that cannot place, DataError for a signal that
    does not fit it.
    """
    loaded = run if isinstance(run, LoadedPart) else load_part(run)
    _check(loaded, signal, sfreq)
    check_range("draws", draws, 1)
    finite = np.isfinite(signal).all(0)
    x = np.where(finite, signal, 0.0).astype(np.float32)
    tally = Tally(int(x.shape[1] / sfreq + 1e-6), sfreq, loaded.model)
    for begin, placing in placings(loaded, x, draws=draws, seed=seed, device=device):
        tally.add(begin, placing, placing.surprise)
    score = tally.score()
    edges = (np.arange(len(score) + 1) * sfreq).round().astype(int)
    score[np.logical_or.reduceat(~finite[: edges[-1]], edges[:-1])] = np.nan
    return score


def placings(
    loaded: LoadedPart, x: np.ndarray, *, draws: int, seed: int, device: str, local: bool = True
) -> Iterator[tuple[np.ndarray, Placing]]:
    """Yield first samples (B, N) and pairs of the patches of windows that tile ``x`` (C, T).

    ``local``: windows are divided by the usual amplitude around, not by their own as in training.
    """
    device = distributed.pick_device(device)
    model = loaded.model.to(device)
    length = model.window[0]
    signal = torch.from_numpy(x)
    log_level = None
    if local:
        level = torch.from_numpy(_level(x, loaded.sfreq, length))  # (C, T)
        signal = signal * torch.where(level > FLAT, 1 / level, 0.0)
        log_level = level.clamp(min=FLAT).log()
    last = x.shape[1] - length
    starts = torch.arange(0, last + 1, max(length // 2, 1))
    starts = torch.unique(torch.cat([starts, torch.tensor([last])]))
    every = signal.unfold(1, length, 1)  # (C, T - L + 1, L), a view
    generator = torch.Generator().manual_seed(seed_of(Stream.ODDITY, seed))
    for _ in range(draws):
        for first in starts.split(BATCH):
            window = every[:, first].transpose(0, 1).to(device)  # (B, C, L)
            positions, sizes = evenly(model, len(first), generator)
            middle = None
            if log_level is not None:
                window = window - window.mean(2, keepdim=True)
                middle = log_level[:, first + length // 2].T.to(device)
            placing = place(model, window, positions.to(device), sizes.to(device), middle)
            begin = first.view(-1, 1) + positions[..., 0] - sizes[..., 0] / 2
            yield begin.numpy(), placing


def _check(loaded: LoadedPart, signal: np.ndarray, sfreq: float) -> None:
    """Raise what :func:`oddity` raises for a signal that does not fit the run."""
    if loaded.model.positions is not None:
        raise ConfigError(
            "this run was given positions (objective.positions=sincos), so it was told what oddity "
            "asks; give a run with positions=none."
        )
    if loaded.model.n_patches < 2:
        raise ConfigError(
            "this run has one patch per window (objective.patches=1): no pair to ask."
        )
    names = loaded.ch_names
    if signal.ndim != 2 or signal.shape[0] != len(names):
        raise DataError(
            f"the signal has the shape {signal.shape}; this run needs (C, T) with the "
            f"{len(names)} channels {', '.join(names)}, in that order."
        )
    if sfreq != loaded.sfreq:
        raise DataError(
            f"the signal has {sfreq:g} Hz, this run {loaded.sfreq:g} Hz; resample the signal."
        )
    length = loaded.model.window[0]
    if signal.shape[1] < length:
        raise DataError(
            f"the signal lasts {signal.shape[1] / sfreq:g} s; one window of this run lasts "
            f"{length / sfreq:g} s: give a longer signal."
        )


def _level(x: np.ndarray, sfreq: float, length: int) -> np.ndarray:
    """Return the usual amplitude (C, T) around each sample: a running median of windows' SDs."""
    step = round(sfreq)
    total, squares = (
        np.pad(np.cumsum(v, axis=1), ((0, 0), (1, 0)))
        for v in (x.astype(float), x.astype(float) ** 2)
    )
    at = np.arange(0, x.shape[1] - length + 1, step)
    mean, power = ((v[:, at + length] - v[:, at]) / length for v in (total, squares))
    spread = np.sqrt(np.maximum(power - mean**2, 0))  # (C, windows)
    usual = scipy.ndimage.median_filter(spread, size=(1, LEVEL_S), mode="nearest")
    # Each window's value stands for the second in its middle.
    which = np.clip((np.arange(x.shape[1]) - (length - step) // 2) // step, 0, len(at) - 1)
    return usual[:, which].astype(np.float32)


class Tally:
    """Sums of a number per pair, by distance and by the seconds its patches lie in."""

    def __init__(self, seconds: int, sfreq: float, model: Part) -> None:
        self.seconds, self.sfreq, self.patch = seconds, sfreq, model.patch[0]
        reach = (model.within[0] - self.patch) / self.patch
        self.n_bins = math.ceil(reach * PER_PATCH) + 1
        self.sums = np.zeros((3, self.n_bins))  # number, value, squared value by distance
        # Weight and weighted value by second and distance; some room for the last, broken second.
        self.touched = np.zeros((2, (seconds + 2 + math.ceil(self.patch / sfreq)) * self.n_bins))

    def add(self, begin: np.ndarray, placing: Placing, values: torch.Tensor) -> None:
        """Add ``values`` (B, N, N) of the pairs of patches that begin at samples (B, N)."""
        both = (values + values.transpose(1, 2)).double().cpu().numpy() / 2
        counts = placing.near.cpu().numpy() & ~np.eye(begin.shape[1], dtype=bool)
        value = both[counts]
        apart = placing.true[..., 0].abs().cpu().numpy()[counts]
        distance = (apart * (PER_PATCH / self.patch)).astype(int)
        for row, power in zip(self.sums, (np.ones_like(value), value, value**2), strict=True):
            row += np.bincount(distance, power, self.n_bins)
        window, one, _ = np.nonzero(counts)
        width = placing.sizes[..., 0].cpu().numpy()
        start = begin[window, one] / self.sfreq
        end = start + width[window, one] / self.sfreq
        for later in range(math.ceil(width.max() / self.sfreq) + 1):
            second = start.astype(int) + later
            overlap = np.minimum(end, second + 1) - np.maximum(start, second)
            inside = overlap > 1e-9
            cell = second[inside] * self.n_bins + distance[inside]
            if not len(cell):
                continue
            low, high = cell.min(), cell.max() + 1
            for row, weight in zip(self.touched, (overlap, overlap * value), strict=True):
                row[low:high] += np.bincount(cell - low, weight[inside], high - low)

    def score(self) -> np.ndarray:
        """Return (S,): the mean over a second's pairs of their standardised values."""
        number, total, squares = self.sums
        mean = total / np.maximum(number, 1)
        spread = np.sqrt(np.maximum(squares / np.maximum(number, 1) - mean**2, 0))
        weight, value = self.touched.reshape(2, -1, self.n_bins)[:, : self.seconds]
        excess = (value - weight * mean) / np.maximum(spread, 1e-6)  # (S, K)
        score = excess.sum(1) / np.maximum(weight.sum(1), 1e-12)
        missing = weight.sum(1) == 0  # no patch fell on it
        at = np.arange(self.seconds)
        score[missing] = np.interp(at[missing], at[~missing], score[~missing])
        return score
