"""On which side an image is, train, val or test: alone, or together with those it belongs to."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from partsig.data.twins import grouped


def share_of(names: Iterable[str], share: float) -> np.ndarray:
    """Return (n,) bool: the share of images that the hash of their names alone chooses.

    >>> int(share_of([f"train/{i:05d}" for i in range(10_000)], 0.05).sum())
    478
    """
    hashes = (hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.array([int.from_bytes(h) < share * 2**64 for h in hashes], dtype=bool)


def together(names: Sequence[str], groups: Sequence[str], same_as: Sequence[str]) -> list[str]:
    """Return by what name each of some images is told whose like must be on one side.

    Those that are the same (``same_as`` names the first, "" none) have that of the first. Those cut
    out of one image have that of their group, or of another one, of which a crop is the same.

    >>> together("abc", "xyy", ["", "a", ""])
    ['x', 'x', 'x']
    """
    firsts = [same or name for name, same in zip(names, same_as, strict=True)]
    if not groups:
        return firsts
    of = dict(zip(names, groups, strict=True))
    pairs = ((groups[i], of.get(first, groups[i])) for i, first in enumerate(firsts))
    joined = grouped(pair for pair in pairs if pair[0] != pair[1])
    return [joined.get(group, group) for group in groups]


def apart(
    roles: np.ndarray, together: Sequence[str], order: Sequence[str], left_out: str
) -> np.ndarray:
    """Return the roles (N,) of images of which those that belong together are on one side only.

    Of several it is the last in ``order``; on the others they are ``left_out``.

    >>> apart(np.array(["train", "test", "train"]), "xxy", ("train", "test"), "twin").tolist()
    ['twin', 'test', 'train']
    """
    side: dict[str, int] = {}
    for first, role in zip(together, roles, strict=True):
        side[first] = max(side.get(first, 0), order.index(role))
    kept = [side[first] == order.index(role) for first, role in zip(together, roles, strict=True)]
    return roles if all(kept) else np.where(kept, roles, left_out)
