"""What parts that were found without labels are judged by: marks at places of items."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class MarkedItems(Protocol):
    """Items of a store in a fixed order, with what is marked in them; rows are a slice of these.

    ``item`` and ``unit`` are what these are called; several items may belong to one unit.
    ``classes`` are what places are marked as, ``point_names`` what points are called.
    """

    item: str
    unit: str
    names: Sequence[str]
    classes: tuple[str, ...]
    point_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def units(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the units, and each item's unit by number (n,)."""

    def inputs(self, rows: slice) -> np.ndarray:
        """Return windows (b, C, *L), as recorded."""

    def foreground(self, rows: slice) -> np.ndarray | None:
        """Return how far each place counts, (b, *L) float32, 0 to 1; None where it is not told."""

    def labels(self, rows: slice) -> np.ndarray | None:
        """Return the class of each place, (b, *M) of any resolution: -1 background, -2 unknown.

        None where nothing is told apart.
        """

    def points(self, rows: slice) -> np.ndarray | None:
        """Return where points lie along each axis, in samples from its beginning, and whether they
        are seen, (b, P, D + 1) float32; None where there are none.
        """

    def scale(self, rows: slice) -> np.ndarray:
        """Return what distances are told in, (b,) samples: the extent of the object."""
