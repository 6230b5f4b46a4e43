"""Examples with other classes than their store's: merged, for a task that learns fewer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from partsig.contracts import IGNORED, Examples, Labels, MaskedExamples
from partsig.tasks.around import Around


class Relabelled(Around):
    """Examples whose labels are numbers of other ``classes``; everything else is theirs.

    ``codes`` (K,) gives the new number of each of their classes.
    """

    def __init__(self, examples: Examples, codes: np.ndarray, classes: Sequence[str]) -> None:
        super().__init__(examples)
        self.codes = np.asarray(codes)
        self.classes = tuple(classes)
        known = examples.labels >= 0
        self.labels = np.where(known, self.codes[examples.labels], examples.labels)

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""
        return np.unique(self.labels)

    def apart(self) -> Iterator["Relabelled"]:
        """Yield the same items part by part."""
        return (Relabelled(part, self.codes, self.classes) for part in self.examples.apart())

    def joined(self, others: Sequence["Relabelled"]) -> "Relabelled":
        """Return these items and others of the same store."""
        whole = self.examples.joined([other.examples for other in others])
        return Relabelled(whole, self.codes, self.classes)


def merged_labels(labels: Labels, groups: Mapping[str, Sequence[str]]) -> Labels:
    """Return labels of fewer classes: ``groups`` are the old ones by their new name.

    >>> moves = Labels(classes=("calm", "walking", "running"), unit_s=2)
    >>> merged_labels(moves, {"calm": ["calm"], "moving": ["walking", "running"]}).classes
    ('calm', 'moving')
    """
    return replace(labels, classes=tuple(groups))


def merged(examples: Examples, groups: Mapping[str, Sequence[str]]) -> Relabelled:
    """Return examples with the classes of :func:`merged_labels`."""
    number = {old: new for new, olds in enumerate(groups.values()) for old in olds}
    codes = np.array([number[name] for name in examples.classes])
    return Relabelled(examples, codes, tuple(groups))


class RelabelledMasks(Relabelled):
    """Examples each of whose places has a label: numbers of other ``classes``.

    ``codes`` (K,) gives the new number of each of their classes; what has no label has none.
    """

    def __init__(self, examples: MaskedExamples, codes: np.ndarray, classes: Sequence[str]) -> None:
        super().__init__(examples, codes, classes)
        self._table = np.full(256, IGNORED, np.uint8)
        self._table[: len(self.codes)] = self.codes
        self.objects = ()

    def masks_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the labels (b, *L) uint8 of the items of these numbers; 255 where none is."""
        return self._table[self.examples.masks_of(numbers)]

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""
        return np.unique(self.codes[self.examples.present()])

    def apart(self) -> Iterator["RelabelledMasks"]:
        """Yield the same items part by part."""
        return (RelabelledMasks(part, self.codes, self.classes) for part in self.examples.apart())

    def joined(self, others: Sequence["RelabelledMasks"]) -> "RelabelledMasks":
        """Return these items and others of the same store."""
        whole = self.examples.joined([other.examples for other in others])
        return RelabelledMasks(whole, self.codes, self.classes)
