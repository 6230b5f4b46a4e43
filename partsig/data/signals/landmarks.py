"""The fingerprint of a recording: when its channels peak, whatever their order, scale or polarity.

Keys of its landmarks (:mod:`.peaks`) are the same in another export, at another rate, with another
gain, offset or polarity, and wherever the recording was cut. Of those of all channels that occur
once, the fingerprint keeps the :data:`KEPT` smallest in hash order, with their times: of a part of
a recording those that are as small are the same ones (a bottom-k sketch). Two recordings are one
where enough keys are shared at one and the same distance in time.

Source: landmarks and the vote over time differences, A. Wang, An industrial-strength audio search
algorithm, ISMIR 2003; bottom-k sketches, E. Cohen and H. Kaplan, PODC 2007. *Differs from Wang*:
peaks of the waveform, not of a spectrogram, and keys of five peaks, not of two.
"""

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from partsig.data.signals.lazy import OnDisk
from partsig.data.signals.peaks import keys_of
from partsig.data.twins import grouped

KEPT = 128
# Own choices, measured in benchmarks/twins.py: keys that must agree, their share of those that
# could, how far apart (steps) their distances in time may be.
AGREE, SHARE, APART = 6, 0.1, 3
# Before what is encoded: which kind of keys they are. Two kinds have nothing to do with each other.
MARK, EARLIER = "2:", ":"
NOTHING = "none"  # a fingerprint of no keys; earlier stores have none at all


def fingerprint(signal: np.ndarray | OnDisk, sfreq: float) -> np.ndarray:
    """Return the fingerprint (k, 2) int64 of a recording (C, T) in µV: keys, and times in 30 ms.

    k is at most :data:`KEPT`, and 0 where nothing stands out; sorted by key, each once.
    """
    return sketch([keys_of(signal, sfreq)])


def sketch(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Return the :data:`KEPT` smallest keys of channels (n,) each, that occur at one time only.

    Each as (k, 2), key and time; of channels both are in one number, as of :func:`.peaks.keys_of`.

    >>> first, second = [7 << 32 | 10, 3 << 32 | 20, 5 << 32 | 1], [7 << 32 | 11, 5 << 32 | 900]
    >>> sketch([np.array(first, np.uint64), np.array(second, np.uint64)]).tolist()
    [[3, 20], [7, 10]]
    """
    both = np.concatenate(channels) if channels else np.empty(0, np.uint64)
    both.sort()
    both = both.astype("<u8", copy=False).view("<u4").reshape(-1, 2)  # time, key
    keys = both[:, 1]
    other = keys[1:] != keys[:-1]
    if not other.all():
        times, new = both[:, 0].astype(np.int64), np.flatnonzero(other) + 1
        first, last = np.append(0, new), np.append(new, len(keys)) - 1
        both = both[first[times[last] - times[first] <= APART]]
    return both[:KEPT, ::-1].astype(np.int64)


def encode(print_: np.ndarray) -> str:
    """Return a fingerprint as text for a table: base64 of 4 + 4 bytes a key; of none, NOTHING."""
    # Behind a mark: a cell that begins with + would be taken for a formula.
    text = base64.b64encode(print_.astype("<u4").tobytes()).decode()
    return MARK + text if text else NOTHING


def decode(text: str, mark: str = MARK) -> np.ndarray:
    """Return the fingerprint of a text; of what is none of the kind ``mark``, an empty one.

    >>> decode(encode(np.array([[7, 10], [9, 2]]))).tolist(), decode(NOTHING).shape
    ([[7, 10], [9, 2]], (0, 2))
    """
    if not text.startswith(mark):
        return np.empty((0, 2), np.int64)
    try:
        data = base64.b64decode(text.removeprefix(mark), validate=True)
        return np.frombuffer(data, "<u4").reshape(-1, 2).astype(np.int64)
    except ValueError:
        return np.empty((0, 2), np.int64)


def is_current(text: object) -> bool:
    """Tell whether a text is a fingerprint of today's kind, or says that there is none.

    >>> [is_current(text) for text in ("2:BwAAAAoAAAA=", NOTHING, ":BwAAAAoAAAA=", "")]
    [True, True, False, False]
    """
    return str(text).startswith(MARK) or text == NOTHING


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


def how_many_apart(rows: Sequence[Mapping[str, object]]) -> int:
    """Return of how many rows of an index the fingerprint cannot be held against all the others'.

    Those of one earlier kind are known among themselves.
    """
    texts = [str(row.get("fingerprint") or "") for row in rows]
    mixed = any(text.startswith(MARK) for text in texts)
    return sum(not (is_current(text) if mixed else text) for text in texts)


def find_twins(rows: Sequence[Mapping[str, object]]) -> list[tuple[str, str]]:
    """Return which recordings of an index are one: pairs of names, each with the first like it.

    Those of equal samples (``sha256``), and those of agreeing fingerprints of one kind; rows of
    earlier stores have those of another kind, or none; see :func:`is_current`.
    """
    names = [str(row["recording"]) for row in rows]
    first: dict[object, int] = {}
    pairs = set()
    for i, row in enumerate(rows):
        if row.get("sha256") and row["n_samples"]:
            same = first.setdefault(row["sha256"], i)
            pairs |= {(same, i)} if same != i else set()
    for mark in (MARK, EARLIER):
        pairs |= set(find_pairs([decode(str(row.get("fingerprint") or ""), mark) for row in rows]))
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
