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
IN_REACH, MOST_S = 8, 300.0
# Seconds from an anchor's block in which landmarks have keys; what is looked at before and after.
NEAR_S, BEFORE_S, AFTER_S = 2.5, 0.7, 5.0
# Samples looked at in one go: of all channels, near the processor; around anchors.
PIECE, READ = 2**18, 2**20
# A key is the sum of its gaps times these: odd, and of no pattern.
FACTORS = np.array([[0x9E3779B97F4A7C15], [0xBF58476D1CE4E5B9], [0x94D049BB133111EB]], np.uint64)


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
    """Return keys of the channels (C, T) in µV and their times in steps of 30 ms: (n, 2) int64.

    ``extent_s`` is channels times seconds of the recording, where these are not all its channels.
    """
    n_chans, n_times = signal.shape
    extent_s = n_chans * n_times / sfreq if extent_s is None else extent_s
    if extent_s < SHORT_S:
        _, keys, times = _keys(_read(signal, 0, n_times), sfreq)
    else:
        keys, times = _keys_beside_anchors(signal, sfreq, reach_of(extent_s))
    found = np.empty((len(keys), 2), np.int64)
    found[:, 0], found[:, 1] = keys, np.rint(times / STEP_S)
    return found


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
    n: int  # values in a quarter of the reach; M is four times that
    within: np.ndarray  # (K, M)
    beyond: np.ndarray  # (rest, k): of the samples after a block, to its last k values
    edge: np.ndarray  # (2 n, 1): how far from a peak the ends of its reach are


@lru_cache(16)
def _plan(sfreq: float) -> _Plan:
    hop, half = max(1, round(FINE_S * sfreq)), max(1, round(HALF_S * sfreq))
    times = np.arange(-half, half + 1) / sfreq
    bent = (np.pi * WAVE_HZ * times) ** 2
    wavelet = (1 - 2 * bent) * np.exp(-bent)
    wavelet -= wavelet.mean()  # an offset has no waves
    wavelet *= 2 / np.abs(wavelet).sum()
    rest = len(wavelet) - hop
    n = max(1, round(REACH_S * sfreq / hop / 4), -(-rest // (4 * hop)))
    size = 4 * n * hop
    matrix = np.zeros((size + rest, 4 * n), np.float32)
    for k in range(4 * n):
        matrix[k * hop : k * hop + len(wavelet), k] = wavelet
    first = int((matrix[size:] != 0).any(0).argmax())
    far = np.arange(3 * n + 1, 4 * n + 1)
    edge = np.concatenate([-far, far])[:, None]
    return _Plan(hop, half, n, matrix[:size], matrix[size:, first:].copy(), edge)


def _waves(x: np.ndarray, plan: _Plan) -> np.ndarray:
    """Return how high the waves of rows (R, T) are: (R, N), value i at sample half + i hop."""
    (size, n_values), rest = plan.within.shape, len(plan.beyond)
    n = (x.shape[1] - rest) // size
    if n < 1:
        return np.empty((len(x), 0), np.float32)
    waves = x[:, : n * size].reshape(len(x), n, size) @ plan.within  # (R, n, M)
    late = waves[:, :, n_values - plan.beyond.shape[1] :]
    late[:, :-1] += x[:, size : n * size].reshape(len(x), n - 1, size)[:, :, :rest] @ plan.beyond
    late[:, -1] += x[:, n * size : n * size + rest] @ plan.beyond
    return np.abs(waves, out=waves).reshape(len(x), -1)


def _peaks(waves: np.ndarray, plan: _Plan) -> np.ndarray:
    """Return where in waves (R, N), made flat, a row has its landmarks, ascending.

    They are the largest for four blocks on either side, of which none is beyond an end.
    """
    flat = waves.reshape(-1)
    blocks = flat.reshape(-1, plan.n)
    n_blocks = waves.shape[1] // plan.n
    if n_blocks < 9:
        return np.empty(0, np.int64)
    top = blocks[:, 0].copy()
    for k in range(1, plan.n):
        np.maximum(top, blocks[:, k], out=top)
    most = np.maximum(top[:-1], top[1:])  # of 2 blocks, of 4, of three on either side
    most = np.maximum(most[:-2], most[2:])
    most = np.maximum(most[:-3], most[3:])
    here = top[3:-3]
    likely = np.flatnonzero((here >= most * np.float32(1 - EVEN)) & (here > FLOOR_UV)) + 3
    block = likely % n_blocks
    likely = likely[(block >= 4) & (block < n_blocks - 4)]
    at = likely * plan.n + blocks[likely].argmax(1)
    return at[flat[at] >= flat[at + plan.edge].max(0) * np.float32(1 - EVEN)]


def _keys(x: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of rows (R, T): which row (n,), key, seconds of every landmark that three follow."""
    plan = _plan(sfreq)
    waves = _waves(x, plan)
    at = _peaks(waves, plan)
    n = len(at) - NEXT
    if n <= 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    flat = waves.reshape(-1)
    before, here, after = flat[at + np.array([[-1], [0], [1]])].astype(np.float64)
    row = at // waves.shape[1]
    bend = np.minimum(before - 2 * here + after, -1e-30)
    value = at - row * waves.shape[1] + 0.5 * (before - after) / bend  # the peak of a parabola
    times = (value * plan.hop + plan.half) / sfreq
    gaps = times[np.arange(n) + np.arange(1, NEXT + 1)[:, None]] - times[:n]
    gaps = np.rint(gaps / STEP_S).astype(np.int64).view(np.uint64)  # (NEXT, n)
    key = (gaps * FACTORS).sum(0)
    key ^= key >> np.uint64(29)
    key = (key * FACTORS[1]) >> np.uint64(32)
    whole = row[:n] == row[NEXT:]
    return row[:n][whole], key[whole].astype(np.int64), times[:n][whole]


def _keys_beside_anchors(
    signal: Signal, sfreq: float, reach_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (n,) and their seconds, of landmarks beside the anchors of channels (C, T)."""
    channel, first, block = _anchors(signal, sfreq, reach_s)
    width = round((BEFORE_S + 2 * NEAR_S + AFTER_S) * sfreq) + block
    start = np.clip(first - round((NEAR_S + BEFORE_S) * sfreq), 0, max(0, signal.shape[1] - width))
    near = round(NEAR_S * sfreq)
    keys, times = [np.empty(0, np.int64)], [np.empty(0)]
    for a, b in stretches(len(first), max(1, READ // width)):
        places = zip(channel[a:b].tolist(), start[a:b].tolist(), strict=True)
        windows = np.empty((b - a, min(width, signal.shape[1])), np.float32)
        for window, (c, s) in zip(windows, places, strict=True):
            window[:] = np.asarray(signal[c : c + 1, s : s + width])[0]
        row, key, time = _keys(windows, sfreq)
        sample = start[a:b][row] + time * sfreq
        low = first[a:b][row] - near
        beside = (sample >= low) & (sample < low + block + 2 * near)
        keys.append(key[beside])
        times.append(sample[beside] / sfreq)
    return np.concatenate(keys), np.concatenate(times)


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
        blocks = slope.reshape(n_chans, -1, IN_BLOCK)
        top = np.maximum(blocks[..., 0], blocks[..., 1])
        for k in range(2, IN_BLOCK):
            np.maximum(top, blocks[..., k], out=top)
        cells = top.reshape(n_chans, b - a, per_cell)
        steepest[:, a:b] = cells.max(2)
        where[:, a:b] = cells.argmax(2) + per_cell * np.arange(a, b)
    around = max(1, round(reach_s * sfreq / (per_cell * block)) - 1)
    c, i = np.nonzero((steepest >= _most_around(steepest, around)) & (steepest > 0))
    return c, where[c, i] * block, block


def _most_around(x: np.ndarray, reach: int) -> np.ndarray:
    """Return the largest of x (C, N) for ``reach`` on either side."""
    most = np.pad(x, ((0, 0), (reach, reach)))
    length = 1
    while 2 * length <= 2 * reach + 1:
        most = np.maximum(most[:, :-length], most[:, length:])
        length *= 2
    rest = 2 * reach + 1 - length
    return np.maximum(most[:, : most.shape[1] - rest], most[:, rest:])
