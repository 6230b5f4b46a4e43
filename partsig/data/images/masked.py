"""Images of a store with a label for every pixel: in order to be judged, cut to be trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from partsig.contracts import UNLABELLED, Batch, MaskedExamples
from partsig.data.images.examples import AT_ONCE, LabelledImages
from partsig.data.images.store import ImageStore
from partsig.data.images.windows import centred
from partsig.data.shuffling import Shuffled
from partsig.seeds import Stream, rng_of


class MaskedImages(LabelledImages):
    """Some images of a store with their masks: the middle of both, ``size`` pixels a side.

    ``classes`` are those of the masks, ``objects`` what each is a part of, empty where the store
    does not say it; ``labels`` (n,) are -1.
    """

    def __init__(self, store: ImageStore, index: np.ndarray, size: int) -> None:
        super().__init__(store, index, size)
        self.labels = np.full(len(index), UNLABELLED)
        self.classes, self.objects = store.mask_classes, objects_of(store)

    def joined(self, others: Sequence["MaskedImages"]) -> "MaskedImages":
        """Return these images and others of the same store."""
        index = np.concatenate([part.index for part in (self, *others)])
        return MaskedImages(self.store, index, self.size)

    def inputs_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return images (b, C, size, size) uint8 by their numbers (b,) among these."""
        return centred(self.store.batch(self.index[numbers]), self.size)

    def masks_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the class of every pixel (b, size, size) uint8, 255 where there is none."""
        return centred(self.store.masks(self.index[numbers]), self.size)

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""
        found = np.zeros(256, bool)
        for masks in all_masks(self):
            found[np.unique(masks)] = True
        return np.flatnonzero(found[: len(self.classes)])

    def digest(self) -> dict[str, str]:
        """Return the hashes of all their pixels, and of their masks."""
        return super().digest() | {"masks_sha256": _sha256_of(self)}


def objects_of(store: ImageStore) -> tuple[str, ...]:
    """Return what kind of object each class of a store's masks is a part of, or itself."""
    known = store.mask_objects
    return tuple(known.get(name, name) for name in store.mask_classes) if known else ()


def all_masks(examples: MaskedExamples) -> Iterator[np.ndarray]:
    """Yield the masks of all examples in their order, some at a time."""
    for first in range(0, len(examples), AT_ONCE):
        yield examples.masks_of(np.arange(first, min(first + AT_ONCE, len(examples))))


def _sha256_of(examples: MaskedExamples) -> str:
    sha256 = hashlib.sha256()
    for masks in all_masks(examples):
        sha256.update(np.ascontiguousarray(masks))
    return sha256.hexdigest()


@dataclass(frozen=True, kw_only=True)
class MaskedBatches:
    """A process's share of the images and their masks by step.

    ``window``: pixels a side of a part of the image, anywhere, drawn by (seed, pass, place); 0 is
    the whole of it, and then the batch tells which images these are, ``item``: they are always the
    same.
    """

    examples: MaskedExamples
    shuffled: Shuffled
    window: int = 0

    def __call__(self, step: int) -> Batch:
        every = self.shuffled(step)
        mine = self.shuffled.share(len(every))
        numbers = every[mine]
        x, masks = self.examples.inputs_of(numbers), self.examples.masks_of(numbers)
        extras = {"item": torch.from_numpy(numbers.astype(np.int64))}
        if 0 < self.window < x.shape[-1]:
            x, masks, extras = *self._cut(x, masks, step, mine.start), {}
        x, masks = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x, masks))
        return Batch(x, masks, extras, first=mine.start, total=len(every))

    def _cut(
        self, x: np.ndarray, masks: np.ndarray, step: int, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        number, within = divmod(step, self.shuffled.steps)
        room = x.shape[-1] - self.window + 1
        parts = []
        for place, pair in enumerate(zip(x, masks, strict=True), within * self.shuffled.size):
            rng = rng_of(Stream.AUGMENTATION, self.shuffled.seed, number, place + first)
            top, left = rng.integers(room, size=2)
            square = (..., slice(top, top + self.window), slice(left, left + self.window))
            parts.append([each[square] for each in pair])
        images, cut = zip(*parts, strict=True)
        return np.stack(images), np.stack(cut)
