"""Labelled images of a store: in order to be judged, augmented to be trained on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from partsig.contracts import Batch
from partsig.data.images.augment import augmented
from partsig.data.images.store import ImageStore
from partsig.data.images.windows import centred
from partsig.data.shuffling import Shuffled

AT_ONCE = 256  # images that are held in memory


class LabelledImages:
    """Some images of a store; what is given of them is the middle, ``size`` pixels a side.

    ``index`` (n,) are their numbers in the store, ``labels`` (n,) the numbers of their classes. Of
    a store of crops each is one, and the images that they were cut out of are the units.
    """

    part, unit = "image", "image"

    def __init__(self, store: ImageStore, index: np.ndarray, size: int) -> None:
        self.store, self.index, self.size = store, index, size
        self.labels, self.classes = store.labels[index], store.classes

    def __len__(self) -> int:
        return len(self.index)

    @property
    def grouped(self) -> bool:
        """Whether these are crops, of which several belong to one image."""
        return bool(self.store.groups)

    @property
    def item(self) -> str:
        """What an item is called."""
        return "crop" if self.grouped else "image"

    def in_order(self, size: int) -> Iterator[np.ndarray]:
        """Yield all images, (b, C, size, size) uint8 with b up to ``size``."""
        for first in range(0, len(self), size):
            yield centred(self.store.batch(self.index[first : first + size]), self.size)

    def apart(self) -> list["LabelledImages"]:
        """Return these items: they are read alike."""
        return [self]

    def joined(self, others: Sequence["LabelledImages"]) -> "LabelledImages":
        """Return these images and others of the same store."""
        index = np.concatenate([part.index for part in (self, *others)])
        return LabelledImages(self.store, index, self.size)

    def units(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the images, and each item's image by number (n,).

        They are in the order of their first crop; without groups each item is an image of its own.
        """
        if self.grouped:
            own = [self.store.groups[i] for i in self.index]
            numbers = {name: number for number, name in enumerate(dict.fromkeys(own))}
            return list(numbers), np.array([numbers[name] for name in own], np.int64)
        return [self.store.names[i] for i in self.index], np.arange(len(self))

    def parts(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the images, as :meth:`units` does."""
        return self.units()

    def columns(self) -> tuple[list[str], Iterator[tuple]]:
        """Return what tells an item in a table: its name, and that of its image."""
        if self.grouped:
            names, groups = self.store.names, self.store.groups
            return ["crop", "image"], ((names[i], groups[i]) for i in self.index)
        return ["image"], ((self.store.names[i],) for i in self.index)

    def digest(self) -> dict[str, str]:
        """Return the hash of all their pixels: what tells test sets of like names apart."""
        sha256 = hashlib.sha256()
        for pixels in self.in_order(AT_ONCE):
            sha256.update(np.ascontiguousarray(pixels))
        return {"images_sha256": sha256.hexdigest()}

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""
        return np.unique(self.labels)


def find_same(
    store: ImageStore, index: np.ndarray, other: ImageStore, theirs: np.ndarray
) -> list[int]:
    """Return those of ``index`` (n,) whose pixels are those of an image of ``theirs`` (m,)."""
    known = set(_digests(other, theirs))
    mine = zip(index.tolist(), _digests(store, index), strict=True)
    return [i for i, digest in mine if digest in known]


def _digests(store: ImageStore, index: np.ndarray) -> Iterator[bytes]:
    """Yield what tells the pixels of images (n,) from any others: 16 bytes each."""
    for first in range(0, len(index), AT_ONCE):
        for image in store.batch(index[first : first + AT_ONCE]):
            yield hashlib.blake2b(image, digest_size=16).digest()


@dataclass(frozen=True, kw_only=True)
class AugmentedBatches:
    """A process's share of the images and their labels by step; a worker may have a copy."""

    examples: LabelledImages
    shuffled: Shuffled
    change: Callable | None

    def __call__(self, step: int) -> Batch:
        every = self.shuffled(step)
        mine = self.shuffled.share(len(every))
        x = torch.from_numpy(self.examples.store.batch(self.examples.index[every[mine]]))
        if self.change is not None:
            number, within = divmod(step, self.shuffled.steps)
            first = within * self.shuffled.size + mine.start
            x = augmented(x, self.change, self.shuffled.seed, number, first)
        labels = torch.from_numpy(self.examples.labels[every[mine]])
        return Batch(x, labels, first=mine.start, total=len(every))
