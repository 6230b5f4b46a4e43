"""What a dataset gives: windows to pretrain on, and items with labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np


class Windows(Protocol):
    """Unlabelled windows that are pretrained on: so many an epoch, drawn by (seed, epoch)."""

    per_epoch: int

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, *L)."""

    def describe_batch(self, epoch: int, first: int, count: int) -> str:
        """Say what lies behind a batch whose loss is not finite."""


class MarkedWindows(Windows, Protocol):
    """Windows of which more is known than what they hold, as an objective may ask for."""

    def extras(self, epoch: int, first: int, count: int) -> Mapping[str, np.ndarray]:
        """Return by name what is known of windows first…first+count-1 of an epoch, count rows each.

        ``item`` (count,) int64 tells which is which, whatever the epoch; ``foreground`` (count, *L)
        how far each place counts, 0 to 1.
        """


class Examples(Protocol):
    """Labelled items of a store, in a fixed order: epochs of nights, images.

    ``labels`` (n,) are numbers of ``classes``, -1 without a label. ``grouped`` says that several
    items belong to one unit (epochs to a subject): what a split keeps whole and a bootstrap draws.
    A unit's items lie in one part or more: what was recorded at a time. ``item``, ``part`` and
    ``unit`` are what these are called (epoch, recording, subject), also in the keys of a result.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    grouped: bool
    item: str
    part: str
    unit: str

    def __len__(self) -> int: ...

    def in_order(self, size: int) -> Iterator[np.ndarray]:
        """Yield the inputs of all items, (b, C, *L) with b up to ``size``."""

    def apart(self) -> "Iterable[Examples]":
        """Return the same items in the same order, part by part."""

    def joined(self, others: "Sequence[Examples]") -> "Examples":
        """Return these items and others of the same store, one after the other."""

    def units(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the units, and each item's unit by number (n,)."""

    def parts(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the parts, and each item's part by number (n,)."""

    def columns(self) -> tuple[list[str], Iterator[Sequence]]:
        """Return what tells an item in a table: the names of the columns, and a row for each."""

    def digest(self) -> dict[str, str]:
        """Return what tells these inputs from others of the same names, as facts for a result."""

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""


class MaskedExamples(Examples, Protocol):
    """Items each of whose places has a label: pixels of an image, samples of a signal.

    ``labels`` (n,) are -1: no item as a whole has one. ``objects``: as :class:`Labels` has them.
    """

    objects: tuple[str, ...]

    def inputs_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the inputs (b, C, *L) of the items of these numbers (b,), from 0."""

    def masks_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return their labels (b, *L) uint8: numbers of ``classes``, 255 where there is none."""


class EpochExamples(Examples, Protocol):
    """Examples of which those of a part follow one another in time: epochs of recordings.

    Item i is number ``epoch[i]`` of the part ``names[recording[i]]`` (both (n,)), which has
    ``n_epochs[name]`` of them, those without a label too; ``n_times`` samples are in each.
    """

    names: Sequence[str]
    recording: np.ndarray
    epoch: np.ndarray
    n_epochs: dict[str, int]
    n_times: int

    def by_recording(self) -> Iterator[tuple[str, slice]]:
        """Yield each part and where its items lie among these."""

    def signal(self, recording: str) -> np.ndarray:
        """Return the whole signal (C, T) of a part; DataError where it is not finite."""

    def stretches(self, recording: str) -> list[tuple[int, int]]:
        """Return the (first, stop) of a part's epochs between which nothing is missing.

        All epochs are in one of them; one that a gap touches is alone.
        """
