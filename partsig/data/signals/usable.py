"""Which epochs of a recording tell what is usual of it: those that are there and hold a signal.

A recorder may go on without a sleeper, or pause. Where a quarter of a recording is zeros or bridged
by straight lines, the median and the range of all of it are theirs, and what is scaled by them
looks like nothing that was learned from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from partsig.data.signals.hypnograms.stages import n_epochs
from partsig.data.signals.lazy import OnDisk, Row
from partsig.data.signals.quality import GOOD, JUDGED_S, LOWEST_HZ, find_faults, is_eeg
from partsig.data.signals.scaling import SCALED_UNIT
from partsig.data.signals.store_index import touched
from partsig.data.signals.store_writing import as_stored

# Share of epochs that have to be usable to speak for a recording; with fewer, all that are there
# do.
LEAST_SHARE = 0.1
# Share of the channels that must be usable in an epoch for what is made of all of them together.
GOOD_SHARE = 0.5


def usable_epochs(
    signal: np.ndarray | OnDisk,
    *,
    ch_names: Sequence[str],
    sfreq: float,
    unit_s: float,
    gaps: Iterable[tuple[float, float]] = (),
    unit: str,
    n: int | None = None,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    """Return which epochs (C + 1, E) of each channel of a signal (C, T) tell what is usual.

    Those that no gap (s, from the first epoch) touches and whose seconds are neither flat nor out
    of range, by :func:`~partsig.data.signals.quality.find_faults`; of signals that are not in µV no
    range is judged, of those of a few samples an epoch nothing, and what stands after the last
    whole half-minute counts as it is. The last row is of all channels together. A row of which less
    than :data:`LEAST_SHARE` is left has all epochs without a gap, or simply all. ``n``: how many
    epochs there are; None: as many as the signal holds. ``dtype``: as a store holds the samples;
    None: as they are.
    """
    n_channels, n_times = signal.shape
    n = n_epochs(n_times, sfreq, unit_s) if n is None else n
    there = ~touched(gaps, n, unit_s)
    if not n:
        return np.ones((n_channels + 1, 0), bool)
    if not there.any():
        there[:] = True
    good = np.ones((n_channels, n), bool)
    if sfreq >= LOWEST_HZ and n_times >= round(JUDGED_S * sfreq):
        for c, name in enumerate(ch_names):
            faults = find_faults(
                _row(signal, c, dtype), sfreq, eeg=is_eeg(name), scaled=unit == SCALED_UNIT
            )
            # A wrong unit is no fault of any one epoch.
            codes = replace(faults, factor=1.0).of_epochs(unit_s)[:n]
            good[c, : len(codes)] = codes == GOOD
    alive = good[(good & there).mean(1) >= LEAST_SHARE]
    together = alive.mean(0) >= GOOD_SHARE if len(alive) else np.zeros(n, bool)
    rows = np.concatenate([good, together[None]]) & there
    rows[rows.mean(1) < LEAST_SHARE] = there
    return rows


def _row(signal: np.ndarray | OnDisk, c: int, dtype: np.dtype | None) -> Row:
    """Return a channel that is read when it is sliced, in the type of a store."""

    def read(start: int, stop: int) -> np.ndarray:
        part = np.asarray(signal[c : c + 1, start:stop])[0]
        return part if dtype is None else as_stored(part, dtype)

    return Row(signal.shape[1], np.dtype(dtype or signal.dtype), read)
