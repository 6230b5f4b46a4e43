"""The fingerprint of a recording: when its channels peak, whatever their order, scale or polarity.

A landmark is a peak of a channel that is the largest for half a second on either side. How long the
next four landmarks come after it, in steps of 20 ms, is its key: the same in another export, at
another rate, with another gain, offset or polarity, and wherever the recording was cut. Of the keys
of all channels that occur once, the fingerprint keeps the :data:`KEPT` smallest in hash order, with
their times: of a part of a recording those that are as small are the same ones (a bottom-k sketch).
Two recordings are one where enough keys are shared at one and the same distance in time.

Source: landmarks and the vote over time differences, A. Wang, An industrial-strength audio search
algorithm, ISMIR 2003; bottom-k sketches, E. Cohen and H. Kaplan, PODC 2007. *Differs from Wang*:
peaks of the waveform, not of a spectrogram, and keys of five peaks, not of two.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partsig.data.signals.lazy import OnDisk, Row, stretches
from partsig.data.twins import grouped

KEPT = 128
# Seconds: smoothing, what is subtracted as slow, on either side of a peak, a step of a key.
SMOOTH_S, SLOW_S, REACH_S, STEP_S = 0.05, 1.0, 0.5, 0.02
NEXT = 4
# Peaks below it (µV) are numerical noise of a flat channel; amplifiers have more.
FLOOR_UV = 0.1
# Own choices, measured in benchmarks/twins.py: keys that must agree, their share of those that
# could, how far apart (steps) their distances in time may be.
AGREE, SHARE, APART = 6, 0.15, 3
MARK = ":"  # before what is encoded
NOTHING = "none"  # a fingerprint of no keys; earlier stores have none at all
# Samples read, and looked at in one go, near the processor; seconds around them.
READ, PIECE, MARGIN_S = 2**20, 2**17, 4.0


def fingerprint(signal: np.ndarray | OnDisk, sfreq: float) -> np.ndarray:
    """Return the fingerprint (k, 2) int64 of a recording (C, T) in µV: keys, and times in 20 ms.

    k is at most :data:`KEPT`, and 0 where nothing stands out; sorted by key, each once.
    """
    rows = (_OneRow(signal, c) for c in range(signal.shape[0]))
    return sketch([keys_of(times_of(row, sfreq)) for row in rows])


@dataclass(frozen=True)
class _OneRow:
    """A channel of a recording, of which only what is sliced is read."""

    signal: np.ndarray | OnDisk
    channel: int

    def __len__(self) -> int:
        return self.signal.shape[1]

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.asarray(self.signal[self.channel : self.channel + 1, part])[0]


def times_of(row: "np.ndarray | Row | _OneRow", sfreq: float) -> np.ndarray:
    """Return the times (n,) in seconds of the landmarks of a channel (T,) in µV, ascending."""
    margin, n = round(MARGIN_S * sfreq), len(row)
    times = [np.empty(0)]
    for begin, end in stretches(n, READ):
        first = max(0, begin - margin)
        read = np.asarray(row[first : min(n, end + margin)])
        for start, stop in stretches(end - begin, PIECE):
            low = max(0, start + begin - first - margin)
            high = min(len(read), stop + begin - first + margin)
            at = _landmarks(read[low:high].astype(np.float32), sfreq) + first + low
            times.append(at[(at >= start + begin - 0.5) & (at < stop + begin - 0.5)])
    return np.concatenate(times) / sfreq


def _landmarks(x: np.ndarray, sfreq: float) -> np.ndarray:
    """Return where (n,) x (T,) peaks, in samples and fractions of them."""
    smooth, slow, reach = (max(1, round(s * sfreq)) for s in (SMOOTH_S, SLOW_S, REACH_S))
    x = _mean_around(x, smooth)
    x -= _mean_around(x, slow)
    np.abs(x, out=x)
    at = _peaks(x, reach)
    before, here, after = (x[at + k].astype(np.float64) for k in (-1, 0, 1))
    bend = before - 2 * here + after
    exact = at + 0.5 * (before - after) / np.where(bend < 0, bend, -np.inf)  # of a parabola
    return exact[bend < 0]


def _mean_around(x: np.ndarray, n: int) -> np.ndarray:
    """Return the mean of n samples around each of x (T,), which goes on in its mirror image."""
    rest = np.pad(x, (n // 2, n - 1 - n // 2), mode="symmetric")
    total, length, begun = np.zeros(len(x), np.float32), 1, 0
    # Sums of 1, 2, 4, … samples, each of two of the one before; those that n is made of are added.
    while True:
        if n & length:
            total += rest[begun : begun + len(x)]
            begun += length
        if 2 * length > n:
            return total / n
        rest = rest[length:] + rest[:-length]
        length *= 2


def _peaks(x: np.ndarray, reach: int) -> np.ndarray:
    """Return where x (T,) is above the floor and the largest for ``reach`` on either side."""
    n_blocks = -(-len(x) // reach)  # of which only the largest can be one
    blocks = np.pad(x, (0, n_blocks * reach - len(x))).reshape(n_blocks, reach)
    at = blocks.argmax(1) + reach * np.arange(n_blocks)
    top = x[np.minimum(at, len(x) - 1)]
    # Most are told already by the largest of the block before, or after, where that is near enough.
    likely = top > FLOOR_UV
    near = np.diff(at) <= reach
    likely[1:] &= ~(near & (top[:-1] > top[1:]))
    likely[:-1] &= ~(near & (top[1:] > top[:-1]))
    at = at[likely & (at > 0) & (at < len(x) - 1)]
    around = np.lib.stride_tricks.sliding_window_view(np.pad(x, reach), 2 * reach + 1)
    return at[around[at].max(1, initial=0.0) <= x[at]]


def keys_of(times: np.ndarray) -> np.ndarray:
    """Return keys and times (n - 4, 2) int64 of landmarks (n,) in seconds; the last have none."""
    if len(times) <= NEXT:
        return np.empty((0, 2), np.int64)
    gaps = np.stack([times[k : len(times) - NEXT + k] for k in range(1, NEXT + 1)])
    gaps = np.rint((gaps - times[:-NEXT]) / STEP_S).astype(np.uint64)
    key = np.zeros(gaps.shape[1], np.uint64)
    for row in gaps:  # FNV-1a over the gaps, mixed once more: any order that has nothing to do
        key = (key ^ row) * np.uint64(0x100000001B3) + np.uint64(0x9E3779B97F4A7C15)
    key ^= key >> np.uint64(29)
    key = (key * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)
    return np.stack([key.astype(np.int64), np.rint(times[:-NEXT] / STEP_S).astype(np.int64)], 1)


def sketch(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Return the :data:`KEPT` smallest keys of channels (n, 2) each, that occur at one time only.

    >>> sketch([np.array([[7, 10], [3, 20], [5, 1]]), np.array([[7, 11], [5, 900]])]).tolist()
    [[3, 20], [7, 10]]
    """
    keys = np.concatenate([np.empty((0, 2), np.int64), *channels])
    keys = keys[np.lexsort((keys[:, 1], keys[:, 0]))]
    first = np.flatnonzero(np.diff(keys[:, 0], prepend=-1))
    if not len(first):
        return keys
    last = np.append(first[1:], len(keys)) - 1
    once = keys[last, 1] - keys[first, 1] <= APART
    return keys[first[once]][:KEPT]


def encode(print_: np.ndarray) -> str:
    """Return a fingerprint as text for a table: base64 of 4 + 4 bytes a key; of none, NOTHING."""
    # Behind a letter: a cell that begins with + would be taken for a formula.
    text = base64.b64encode(print_.astype("<u4").tobytes()).decode()
    return MARK + text if text else NOTHING


def decode(text: str) -> np.ndarray:
    """Return the fingerprint of a text; of what is none, an empty one.

    >>> decode(encode(np.array([[7, 10], [9, 2]]))).tolist(), decode(NOTHING).shape
    ([[7, 10], [9, 2]], (0, 2))
    """
    if text == NOTHING:
        return np.empty((0, 2), np.int64)
    try:
        data = base64.b64decode(text.removeprefix(MARK), validate=True)
        return np.frombuffer(data, "<u4").reshape(-1, 2).astype(np.int64)
    except ValueError:
        return np.empty((0, 2), np.int64)


def agreement(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """Return how many keys two fingerprints share at one distance in time, and of which share.

    The share is of the keys that both could have: as small as both keep, in the time both cover.
    """
    _, i, j = np.intersect1d(one[:, 0], other[:, 0], assume_unique=True, return_indices=True)
    if len(i) < AGREE:
        return 0, 0.0
    shifts = np.sort(other[j, 1] - one[i, 1])
    within = np.searchsorted(shifts, shifts + APART, side="right") - np.arange(len(shifts))
    best = int(within.argmax())
    count, shift = int(within[best]), int(shifts[best])
    top = min((p[-1, 0] for p in (one, other) if len(p) == KEPT), default=2**32)
    moved = other[:, 1] - shift
    low, high = max(one[:, 1].min(), moved.min()), min(one[:, 1].max(), moved.max())
    could = [
        np.sum((p[:, 0] <= top) & (times >= low - APART) & (times <= high + APART))
        for p, times in ((one, one[:, 1]), (other, moved))
    ]
    return count, count / max(1, min(could))


def find_pairs(prints: Sequence[np.ndarray], compared: int = 8) -> list[tuple[int, int]]:
    """Return which fingerprints are of one recording: pairs of their numbers, the lower first.

    Of many that share a key, each is held against the first ``compared``: enough to join them all.
    """
    owner = np.repeat(np.arange(len(prints)), [len(p) for p in prints])
    if not len(owner):
        return []
    key = np.concatenate([p[:, 0] for p in prints])
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(starts, np.diff(np.append(starts, len(key))))
    pairs = []
    for back in range(compared):  # with the one of this rank in the same bucket
        later = np.flatnonzero(rank > back)
        pairs.append(np.stack([owner[later - rank[later] + back], owner[later]], 1))
    both, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    found = []
    for i, j in both[shared >= AGREE].tolist():
        count, share = agreement(prints[i], prints[j])
        if count >= AGREE and share >= SHARE:
            found.append((i, j))
    return found


def find_twins(rows: Sequence[Mapping[str, object]]) -> list[tuple[str, str]]:
    """Return which recordings of an index are one: pairs of names, each with the first like it.

    Those of equal samples (``sha256``), and those of agreeing fingerprints; rows of earlier stores
    have none of these.
    """
    names = [str(row["recording"]) for row in rows]
    first: dict[object, int] = {}
    pairs = set()
    for i, row in enumerate(rows):
        if row.get("sha256") and row["n_samples"]:
            same = first.setdefault(row["sha256"], i)
            pairs |= {(same, i)} if same != i else set()
    pairs |= set(find_pairs([decode(str(row.get("fingerprint") or "")) for row in rows]))
    twins = grouped((names[i], names[j]) for i, j in pairs)
    return [(own, other) for other, own in twins.items()]


def found_in(
    rows: Sequence[Mapping[str, object]], others: Sequence[Mapping[str, object]]
) -> list[str]:
    """Return which recordings of an index are among those of another, whatever their names are."""
    both = [
        row | {"recording": f"{which}{row['recording']}"}
        for which, index in (("o", others), ("r", rows))
        for row in index
    ]
    same: dict[str, set[str]] = {}
    for first, name in find_twins(both):
        same.setdefault(first, {first}).add(name)
    known = (group for group in same.values() if any(name[0] == "o" for name in group))
    return sorted(name[1:] for group in known for name in group if name[0] == "r")
