"""Images of a store as windows to train on: in random order, each whole or its middle."""

import math

import numpy as np

from partsig.contracts import Windows
from partsig.data.images.store import ImageStore
from partsig.errors import DataError
from partsig.seeds import Stream, rng_of


def centred(images: np.ndarray, size: int) -> np.ndarray:
    """Return the middle (…, size, size) of images (…, H, W) that are at least as large.

    >>> centred(np.arange(16).reshape(4, 4), 2).tolist()
    [[5, 6], [9, 10]]
    """
    top, left = ((extent - size) // 2 for extent in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


class RandomImages:
    """Images of a store in random order, each once an epoch; their middle, where ``size`` is given.

    An epoch is ``per_epoch`` images (0: all); more than there are go round again in another order.
    The order depends on (seed, epoch) alone.
    """

    def __init__(
        self,
        store: ImageStore,
        members: np.ndarray,
        seed: int,
        per_epoch: int = 0,
        size: int | None = None,
        stream: Stream = Stream.IMAGES,
    ) -> None:
        if not len(members):
            raise DataError(f"no image of {store.path} was chosen to train on; preprocess more.")
        self.store, self.members, self.size = store, members, size
        self.seed, self.stream = seed, stream
        self.per_epoch = per_epoch or len(members)
        self._order: tuple[int, np.ndarray] | None = None

    def drawn(self, epoch: int) -> np.ndarray:
        """Return the numbers (per_epoch,) of an epoch's images, as the store counts them."""
        if self._order is None or self._order[0] != epoch:
            rng = rng_of(self.stream, self.seed, epoch)
            rounds = math.ceil(self.per_epoch / len(self.members))
            order = np.concatenate([rng.permutation(self.members) for _ in range(rounds)])
            self._order = (epoch, order[: self.per_epoch])
        return self._order[1]

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return images first…first+count-1 of an epoch, (count, C, H, W) uint8."""
        images = self.store.batch(self.drawn(epoch)[first : first + count])
        return images if self.size is None else np.ascontiguousarray(centred(images, self.size))

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of all members."""
        return len(self.members) * len(self.store.ch_names) * math.prod(self.store.size)

    def describe_batch(self, epoch: int, first: int, count: int) -> str:
        """Name the images behind a batch whose loss is not finite; a byte always is."""
        names = [self.store.names[i] for i in self.drawn(epoch)[first : first + count]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f", images {', '.join(names[:3])}{more}, none of them damaged"


class OverWindows:
    """Windows that give those of others, changed, or with more told of them."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    @property
    def per_epoch(self) -> int:
        return self.windows.per_epoch

    @per_epoch.setter
    def per_epoch(self, number: int) -> None:
        self.windows.per_epoch = number

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, H, W) uint8."""
        return self.windows.batch(epoch, first, count)

    def describe_batch(self, epoch: int, first: int, count: int) -> str:
        """Say what lies behind a batch whose loss is not finite."""
        return self.windows.describe_batch(epoch, first, count)
