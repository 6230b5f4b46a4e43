"""Tokens of single epochs amid what lies around them, by an encoder of patches of several epochs.

A patch of five epochs says little of one of them by itself; amid the two hours around it, its token
says where in them it lies. The token of the patch whose middle is an epoch's is that epoch's.
"""

from collections.abc import Iterator

import numpy as np
import torch

from partsig.contracts import EpochExamples
from partsig.core.objectives.supervised import EncoderClassifier
from partsig.runs.features import batch_size


@torch.inference_mode()
def tokens_amid(
    model: EncoderClassifier,
    window: int,
    patch: int,
    examples: EpochExamples,
    recording: str,
    device: torch.device,
    blocks: int = 0,
) -> np.ndarray:
    """Return a token of every epoch of a recording, (E, width) float32.

    Windows of ``window`` samples, cut into patches of ``patch``, begin at every epoch of a patch
    and overlap by about half; an epoch's token is the mean over those of the patches about its
    middle. No window crosses a gap. A stretch that is hardly longer than a window, or shorter, is
    continued by its first and last sample; the first and last epochs of a stretch, about which no
    whole patch lies, have the token of the nearest that has one. ``blocks``: of the encoder's first
    so many blocks; 0 is all. ``patch`` is at least an epoch.
    """
    signal, unit = examples.signal(recording), examples.n_times
    window -= window % patch  # of whole patches
    model.eval().to(device)
    out = np.zeros((examples.n_epochs[recording], model.width_of("mean", blocks)), np.float32)
    for first, stop in examples.stretches(recording):
        x = np.asarray(signal[:, first * unit : stop * unit], np.float32)
        out[first:stop] = _of_stretch(model, window, patch, x, unit, device, blocks)
    return out


def _of_stretch(
    model: EncoderClassifier,
    window: int,
    patch: int,
    x: np.ndarray,
    unit: int,
    device: torch.device,
    blocks: int,
) -> np.ndarray:
    n_epochs = x.shape[1] // unit
    lacking = max(0, window + patch - 1 - x.shape[1])  # a window of every phase fits
    # Whole epochs before it, so that patches still lie about their middles.
    before = lacking // 2 // unit * unit
    x = np.pad(x, ((0, 0), (before, lacking - before)), mode="edge")
    begins = list(window_starts(x.shape[1], window, patch, unit))
    per_window = window // patch
    sums = np.zeros((n_epochs, model.width_of("mean", blocks)))
    counts = np.zeros(n_epochs, np.int64)
    size = batch_size(device)
    for at in range(0, len(begins), size):
        some = begins[at : at + size]
        pieces = np.stack([x[:, begin : begin + window] for begin in some])
        tokens, _, _ = model.encode(torch.from_numpy(pieces).to(device), "mean", blocks)
        made = tokens.float().cpu().numpy()  # (b, patches, width)
        starts = np.asarray(some)[:, None] + patch * np.arange(per_window)
        epochs = (starts - before + (patch - unit) // 2) // unit
        inside = (epochs >= 0) & (epochs < n_epochs)
        np.add.at(sums, epochs[inside], made[inside])
        np.add.at(counts, epochs[inside], 1)
    known = np.flatnonzero(counts)
    sums[known] /= counts[known, None]
    return sums[known[nearest(known, n_epochs)]].astype(np.float32)


def nearest(known: np.ndarray, n: int) -> np.ndarray:
    """Return for each of 0..n-1 which of ``known``, numbers in order, is nearest; of two the first.

    >>> nearest(np.array([2, 3, 7]), 9).tolist()
    [0, 0, 0, 1, 1, 1, 2, 2, 2]
    """
    return np.searchsorted((known[1:] + known[:-1]) / 2, np.arange(n))


def window_starts(n_times: int, window: int, patch: int, unit: int) -> Iterator[int]:
    """Yield where windows begin, so that a patch lies about every epoch's middle.

    Epochs are of ``unit`` samples. Windows of one phase are half a window apart, in whole patches;
    there are as many phases as epochs begin within a patch. ``n_times`` is at least ``window`` and
    a patch less one sample.

    >>> list(window_starts(12, 8, 2, 1)), list(window_starts(11, 8, 4, 2))
    ([0, 4, 1, 3], [1, 3])
    """
    # A patch lies about an epoch's middle where it begins (patch - unit) // 2 samples before it.
    offset = -((patch - unit) // 2) % unit
    hop = max(1, window // patch // 2) * patch
    for phase in range(offset, patch, unit):
        last = phase + (n_times - window - phase) // patch * patch
        yield from range(phase, last, hop)
        yield last
