"""When a recording peaks, as keys: what its fingerprint (:mod:`.landmarks`) is made of.

A landmark is a peak of a channel's waves of about 4 Hz that is the largest for half a second on
either side. How long the next three landmarks come after it, in steps of 30 ms, is its key.

Of a short recording every landmark has its key. Of a long one only those beside an anchor: where a
channel is steeper than anywhere for :func:`reach_of` seconds on either side. Anchors are found in
means over 120 ms, and only what is around them is looked at more closely: some :data:`ANCHORS`
places for any length. An anchor of a recording is one of every part of it, where it has less beside
it: so of a part's keys the whole has some, and no others there.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from partsig.data.signals.lazy import OnDisk, Row, stretches

# Own choices, measured in benchmarks/twins.py, unless a source is named.
# Seconds: between two values of the waves, on either side of a peak, a step of a key.
FINE_S, REACH_S, STEP_S = 0.02, 0.5, 0.03
NEXT = 3
# The wavelet of the waves, N. Ricker's (Geophysics 18, 1953): its peak in Hz, its half in seconds.
WAVE_HZ, HALF_S = 4.0, 0.2
# Waves below it (µV) are numerical noise of a flat channel; amplifiers have more.
FLOOR_UV = 0.1
# What differs by less than this share is equally high, and was rounded differently.
EVEN = 1e-4
# Channels times seconds up to which all landmarks have keys; about how many anchors there are else.
SHORT_S, ANCHORS = 1500.0, 200
# Seconds of a mean; how many means a slope is between, and are in a block.
MEAN_S, LAG, IN_BLOCK = 0.12, 3, 4
# Cells of blocks in a reach, and seconds that a reach has at most.
IN_REACH, MOST_S = 5, 300.0
# Seconds from an anchor's block in which landmarks have keys; what is looked at before and after.
NEAR_S, BEFORE_S, AFTER_S = 2.5, 0.7, 5.0
# Samples looked at in one go: of all channels, near the processor; around anchors.
PIECE, READ = 2**18, 2**20
# A key is the sum of its gaps times these: odd, and of no pattern.
FACTORS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
UPPER = np.uint64(0xFFFFFFFF00000000)
AROUND = np.array([[-1], [0], [1]])
TINY = np.float32(1e-30)  # where three values are the same


@dataclass(frozen=True)
class Channel:
    """A channel (T,) as a recording (1, T), of which only what is sliced is read."""

    row: np.ndarray | Row

    @property
    def shape(self) -> tuple[int, int]:
        """One channel, and its samples."""
        return 1, len(self.row)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self.row[key[1]])[None]


Signal = np.ndarray | OnDisk | Channel


def keys_of(signal: Signal, sfreq: float, extent_s: float | None = None) -> np.ndarray:
    """Return keys of the channels (C, T) in µV, each with its time in steps of 30 ms: (n,) uint64.

    The key is in the upper 32 bits, the time in the lower. ``extent_s`` is channels times seconds
    of the recording, where these are not all its channels.
    """
    n_chans, n_times = signal.shape
    extent_s = n_chans * n_times / sfreq if extent_s is None else extent_s
    if extent_s >= SHORT_S:
        return _keys_beside_anchors(signal, sfreq, reach_of(extent_s))
    _, keys, times = _keys(_read(signal, 0, n_times), sfreq)
    return keys | np.rint(times).astype(np.uint64)


def reach_of(extent_s: float) -> float:
    """Return for how many seconds on either side an anchor is steepest, in a recording that long.

    ``extent_s`` is channels times seconds: each anchor takes up about twice its reach of a channel.

    >>> reach_of(6 * 25 * 60), reach_of(6 * 8 * 3600)
    (22.5, 300.0)
    """
    return min(extent_s / (2 * ANCHORS), MOST_S)


def _read(signal: Signal, start: int, stop: int) -> np.ndarray:
    return np.ascontiguousarray(signal[:, start:stop], np.float32)


@dataclass(frozen=True, eq=False)
class _Plan:
    """How waves are computed at a rate: a block of K samples times a matrix is M values of them."""

    hop: int  # samples from one value to the next
    half: int  # samples before the middle of the wavelet
    n: int  # values in half the reach; M is twice that
    matrix: (
        np.ndarray
    )  # (K, M + k), what a block gives to its own values, and to k of the one before
    edge: np.ndarray  # (2 n, 1), from a peak to the outer halves of its reach


@lru_cache(16)
def _plan(sfreq: float) -> _Plan:
    hop, half = max(1, round(FINE_S * sfreq)), max(1, round(HALF_S * sfreq))
    times = np.arange(-half, half + 1) / sfreq
    bent = (np.pi * WAVE_HZ * times) ** 2
    wavelet = (1 - 2 * bent) * np.exp(-bent)
    wavelet -= wavelet.mean()  # an offset has no waves
    wavelet *= 2 / np.abs(wavelet).sum()
    rest = len(wavelet) - hop
    n = max(2, round(REACH_S * sfreq / hop / 2), -(-rest // (2 * hop)))
    size = 2 * n * hop
    late = 2 * n - -(-rest // hop)  # the first value that needs samples after its block
    whole = np.zeros((2 * size, 2 * n), np.float32)
    for k in range(2 * n):
        whole[k * hop : k * hop + len(wavelet), k] = wavelet
    matrix = np.concatenate([whole[:size], whole[size:, late:]], 1)
    far = np.arange(n + 1, 2 * n + 1)
    return _Plan(hop, half, n, matrix, np.concatenate([-far, far])[:, None])


def _waves(x: np.ndarray, plan: _Plan) -> np.ndarray:
    """Return how high the waves of rows (R, T) are: (R, N), value i at sample half + i hop."""
    size, n_values = len(plan.matrix), 2 * plan.n
    n = x.shape[1] // size
    if n < 2:
        return np.empty((len(x), 0), np.float32)
    both = x[:, : n * size].reshape(len(x), n, size) @ plan.matrix  # (R, n, M + k)
    waves = both[:, :-1, :n_values]
    waves[:, :, 2 * n_values - plan.matrix.shape[1] :] += both[:, 1:, n_values:]
    return np.abs(waves).reshape(len(x), -1)


def _peaks(waves: np.ndarray, plan: _Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n,) and places, in waves (R, N) made flat, of the landmarks, ascending.

    They are the largest for two blocks on either side, of which none is beyond an end.
    """
    flat = waves.reshape(-1)
    blocks = flat.reshape(-1, plan.n)
    top = _largest(flat, plan.n).reshape(len(waves), -1)
    high = top[:, 2:-2] * np.float32(1 + EVEN)
    row, block = np.nonzero((high >= top[:, 1:-3]) & (high >= top[:, 3:-1]))
    block += row * top.shape[1] + 2
    at = block * plan.n + blocks[block].argmax(1)
    highest = flat[at + plan.edge].max(0, initial=FLOOR_UV)
    kept = np.flatnonzero(flat[at] * np.float32(1 + EVEN) >= highest)
    return row[kept], at[kept]


def _keys(x: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of every landmark in rows (R, T) that three follow: row (n,), key, time.

    Keys are in the upper 32 bits, times in steps and their fractions.
    """
    plan = _plan(sfreq)
    waves = _waves(x, plan)
    none = np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0)
    if waves.shape[1] <= 4 * plan.n:
        return none
    row, at = _peaks(waves, plan)
    n = len(at) - NEXT
    if n <= 0:
        return none
    before, here, after = waves.reshape(-1)[at + AROUND]
    rise = after - before
    # The peak of a parabola, in steps; rows follow one another.
    times = (at + rise / (2 * (here + here - before - after) + TINY)) * (plan.hop / sfreq / STEP_S)
    following = np.ndarray((NEXT, n), times.dtype, times, times.itemsize, times.strides * 2)
    key = FACTORS @ np.rint(following - times[:n]).astype(np.uint64)
    key ^= key >> np.uint64(29)
    key *= FACTORS[1]
    key &= UPPER
    times += plan.half / sfreq / STEP_S - row * (waves.shape[1] * plan.hop / sfreq / STEP_S)
    whole = np.flatnonzero(row[:n] == row[NEXT:])
    return row[whole], key[whole], times[whole]


def _keys_beside_anchors(signal: Signal, sfreq: float, reach_s: float) -> np.ndarray:
    """Return keys and times (n,) of the landmarks beside the anchors of channels (C, T)."""
    channel, first, block = _anchors(signal, sfreq, reach_s)
    width = round((BEFORE_S + 2 * NEAR_S + AFTER_S) * sfreq) + block
    start = np.clip(first - round((NEAR_S + BEFORE_S) * sfreq), 0, max(0, signal.shape[1] - width))
    near = round(NEAR_S * sfreq)
    found = [np.empty(0, np.uint64)]
    for a, b in stretches(len(first), max(1, READ // width)):
        places = zip(channel[a:b].tolist(), start[a:b].tolist(), strict=True)
        windows = np.empty((b - a, min(width, signal.shape[1])), np.float32)
        for window, (c, s) in zip(windows, places, strict=True):
            window[:] = np.asarray(signal[c : c + 1, s : s + width])[0]
        row, key, time = _keys(windows, sfreq)
        sample = start[a:b][row] + time * (STEP_S * sfreq)
        low = first[a:b][row] - near
        beside = (sample >= low) & (sample < low + block + 2 * near)
        time = np.rint(sample[beside] / (STEP_S * sfreq))
        found.append(key[beside] | time.astype(np.uint64))
    return np.concatenate(found)


def _anchors(signal: Signal, sfreq: float, reach_s: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return channels and first samples of the blocks that are anchors, and samples in a block.

    The steepest of every cell of some blocks, where that is steeper than all of the cells whose
    whole is within reach.
    """
    n_chans, n_times = signal.shape
    hop = max(1, round(MEAN_S * sfreq))
    block = IN_BLOCK * hop
    per_cell = max(1, int(reach_s * sfreq / (IN_REACH * block)))
    n_cells = n_times // (block * per_cell)
    means = np.kron(np.eye(IN_BLOCK), np.full((hop, 1), 1 / hop)).astype(np.float32)
    steepest = np.zeros((n_chans, n_cells), np.float32)
    where = np.zeros((n_chans, n_cells), np.int64)
    last = None
    for a, b in stretches(n_cells, max(1, PIECE // (n_chans * block * per_cell))):
        x = _read(signal, a * per_cell * block, b * per_cell * block)
        level = (x.reshape(n_chans, -1, block) @ means).reshape(n_chans, -1)
        slope = np.empty_like(level)
        np.subtract(level[:, LAG:], level[:, :-LAG], out=slope[:, LAG:])
        slope[:, :LAG] = 0 if last is None else level[:, :LAG] - last
        last = level[:, -LAG:].copy()
        np.abs(slope, out=slope)
        cells = _largest(slope.reshape(-1), IN_BLOCK).reshape(-1, per_cell)
        place = cells.argmax(1)
        steepest[:, a:b] = cells[np.arange(len(cells)), place].reshape(n_chans, -1)
        where[:, a:b] = place.reshape(n_chans, -1) + per_cell * np.arange(a, b)
    around = max(1, round(reach_s * sfreq / (per_cell * block)) - 1)
    c, i = np.nonzero((steepest >= _most_around(steepest, around)) & (steepest > 0))
    return c, where[c, i] * block, block


def _largest(x: np.ndarray, n: int) -> np.ndarray:
    """Return the largest of every n of x (N,); NumPy's own is slow for so few at a time."""
    while n % 2 == 0:
        x, n = np.maximum(x[::2], x[1::2]), n // 2
    most = x[::n]
    for k in range(1, n):
        most = np.maximum(most, x[k::n])
    return most


def _most_around(x: np.ndarray, reach: int) -> np.ndarray:
    """Return the largest of x (C, N) for ``reach`` on either side."""
    most = np.pad(x, ((0, 0), (reach, reach)))
    length = 1
    while 2 * length <= 2 * reach + 1:
        most = np.maximum(most[:, :-length], most[:, length:])
        length *= 2
    rest = 2 * reach + 1 - length
    return np.maximum(most[:, : most.shape[1] - rest], most[:, rest:])
