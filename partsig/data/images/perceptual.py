"""The fingerprint of an image: the signs of its slowest waves, which coding and size do not change.

128 coefficients of the discrete cosine transform of the luma, from the lowest frequencies up, but
for the mean; a bit says whether one is positive. Mirrored, those of odd frequency change their
sign: so one fingerprint tells an image either way round. Images of under 16 pixels a side, and
blank ones, have no waves to compare; they are told by all of their pixels.

Source: the signs of DCT coefficients as a hash, C. Zauner, Implementation and benchmarking of
perceptual image hash functions, 2010, section 3.2.1. *Differs from it*: 12 x 12 coefficients of the
image as it is, not 8 x 8 of one made smaller, and zero in place of their median.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

FREQUENCIES, BITS, LEAST = 12, 128, 16
ENOUGH = 56  # pixels a side, of more every second, third, … is looked at
BLANK = 2.0  # SD of grey values (0 to 255) under which an image is called blank
# Own choices, measured in benchmarks/twins.py: bits that may differ, and the parts of fingerprints
# of which one must be equal for two to be compared: so many, of so many of the first bits.
DIFFER, TABLES, KEY_BITS, AMONG = 10, 16, 22, 64
EXACT = "="  # begins what tells all pixels
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


ONES = np.array([number.bit_count() for number in range(256)], np.uint8)


def fingerprints(images: np.ndarray) -> list[str]:
    """Return the fingerprint of each of some images (b, C, H, W) uint8, as text.

    >>> x = np.arange(1024, dtype=np.uint8).reshape(1, 1, 32, 32)
    >>> len(fingerprints(x)[0]), fingerprints(0 * x)[0][:5]
    (32, '=5f70')
    """
    if min(images.shape[2:]) < LEAST:
        return [_of_pixels(image) for image in images]
    step = max(1, min(images.shape[2:]) // ENOUGH)
    some = images[:, :, step // 2 :: step, step // 2 :: step].astype(np.float32)
    grey = sum(w * some[:, c] for c, w in enumerate(LUMA)) if some.shape[1] == 3 else some.mean(1)
    down, across = (_waves(length) for length in grey.shape[1:])
    rows, columns = _places()
    slow = (down @ grey @ across.T)[:, rows, columns]  # (b, BITS)
    packed = np.packbits(slow > 0, axis=1)
    blank = grey.std((1, 2)) < BLANK
    return [
        _of_pixels(image) if empty else bits.tobytes().hex()
        for image, empty, bits in zip(images, blank, packed, strict=True)
    ]


def _of_pixels(image: np.ndarray) -> str:
    return EXACT + hashlib.sha256(np.ascontiguousarray(image)).hexdigest()[:32]


@lru_cache(maxsize=16)
def _waves(length: int) -> np.ndarray:
    """Return cosines (FREQUENCIES, length) of the DCT-II."""
    at = (2 * np.arange(length) + 1) / (2 * length)
    return np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * at).astype(np.float32)


@lru_cache(maxsize=1)
def _places() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns (BITS,) of the coefficients, the slowest first."""
    rows, columns = np.divmod(np.arange(1, FREQUENCIES**2), FREQUENCIES)
    order = np.lexsort((rows, np.hypot(rows, columns)))[:BITS]
    return rows[order], columns[order]


def _mirrors() -> np.ndarray:
    """Return which bits change (4, BITS): not at all, left to right, upside down, by both."""
    odd = [places % 2 == 1 for places in _places()]
    mirrors = np.stack([np.zeros(BITS, bool), odd[1], odd[0], odd[0] ^ odd[1]])
    return mirrors.astype(np.uint8)


def find_pairs(prints: Sequence[str], compared: int = 8) -> list[tuple[int, int]]:
    """Return which fingerprints are of one image: pairs of their numbers, the lower first.

    "" is that of nothing. Of many images that are alike in one part, each is held against the first
    ``compared``: enough to join those that are one.
    """
    first: dict[str, int] = {}
    found = {(first.setdefault(told, i), i) for i, told in enumerate(prints) if told}
    found = {(i, j) for i, j in found if i != j}
    at = np.array([i for told, i in first.items() if not told.startswith(EXACT)], np.int64)
    if len(at) < 2:
        return sorted(found)
    packed = np.frombuffer(bytes.fromhex("".join(prints[i] for i in at)), np.uint8).reshape(-1, 16)
    bits = np.unpackbits(packed, axis=1)
    for mirror in _mirrors():
        turned, changed = bits ^ mirror, packed ^ np.packbits(mirror)
        for chosen in _tables():
            pairs = _alike(_keys(bits[:, chosen]), _keys(turned[:, chosen]), compared)
            near = ONES[packed[pairs[:, 0]] ^ changed[pairs[:, 1]]].sum(1) <= DIFFER
            found |= {tuple(sorted(pair)) for pair in at[pairs[near]].tolist()}
    return sorted(found)


@lru_cache(maxsize=1)
def _tables() -> list[np.ndarray]:
    """Return which bits make each part that is looked up, the same for ever."""

    def place(table: int, bit: int) -> bytes:
        return hashlib.sha256(f"{table} {bit}".encode()).digest()

    orders = (sorted(range(AMONG), key=lambda bit, t=t: place(t, bit)) for t in range(TABLES))
    return [np.sort(order[:KEY_BITS]) for order in orders]


def _keys(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.int64) @ (1 << np.arange(bits.shape[1], dtype=np.int64))


def _alike(keys: np.ndarray, others: np.ndarray, compared: int) -> np.ndarray:
    """Return pairs (n, 2) of numbers i < j with keys[i] == others[j], up to some for each j."""
    order = np.argsort(keys, kind="stable")
    begin = np.searchsorted(keys[order], others, side="left")
    end = np.searchsorted(keys[order], others, side="right")
    pairs = []
    for nth in range(compared):
        j = np.flatnonzero(begin + nth < end)
        i = order[begin[j] + nth]
        pairs.append(np.stack([i, j], 1)[i < j])
    return np.concatenate(pairs)
