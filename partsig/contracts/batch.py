"""What a step of training is given, and where the batches of a run come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ragged = tuple[dict[str, "Tensor"], ...]


@dataclass(frozen=True)
class Batch:
    """What a step is given: ``inputs`` (B, C, *L), and whatever else the objective needs.

    ``targets`` are (B, …), or a tuple of B dicts where they are ragged (boxes), or None. ``extras``
    are further tensors with B rows (masks, weights, coordinates of a view); the model is given them
    by name. Where several processes share a step, ``first`` is the place of these rows among all of
    the step's, of which there are ``total``; None: these are all.
    """

    inputs: "Tensor"
    targets: "Tensor | Ragged | None" = None
    extras: Mapping[str, "Tensor"] = field(default_factory=dict)
    first: int = 0
    total: int | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def share(self) -> tuple[int, int]:
        """The place of the first row among all of a step's, and how many these are."""
        return self.first, len(self) if self.total is None else self.total

    def arguments(self) -> tuple:
        """Return what the model is given in order: inputs, and targets where there are any."""
        return (self.inputs,) if self.targets is None else (self.inputs, self.targets)

    def split(self, parts: int) -> list["Batch"]:
        """Return the batch in so many parts, or fewer; the first ones may have a row more.

        >>> import torch
        >>> [len(part) for part in Batch(torch.zeros(5, 1), torch.zeros(5)).split(2)]
        [3, 2]
        """
        parts = min(parts, len(self))
        ends = np.cumsum([len(rows) for rows in np.array_split(np.empty(len(self)), parts)])
        starts = [0, *ends[:-1].tolist()]
        return [self[a:b] for a, b in zip(starts, ends.tolist(), strict=True)]

    def __getitem__(self, rows: slice) -> "Batch":
        """Return some of its rows."""
        part = self._with(lambda tensor: tensor[rows], rows)
        return replace(part, first=self.first + rows.indices(len(self))[0], total=self.share[1])

    def to(self, device: "torch.device", non_blocking: bool = False) -> "Batch":
        """Return the batch on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU can copy from by itself."""
        return self._with(lambda tensor: tensor.pin_memory())

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        total = 0

        def count(tensor: "Tensor") -> "Tensor":
            nonlocal total
            total += tensor.nbytes
            return tensor

        self._with(count)
        return total

    def _with(self, change: "Callable[[Tensor], Tensor]", rows: slice = slice(None)) -> "Batch":
        targets = self.targets
        if isinstance(targets, tuple):
            # Each of these has a length of its own: rows are chosen among them, not within them.
            kept = rows == slice(None)
            targets = tuple(
                {key: change(tensor) if kept else tensor for key, tensor in item.items()}
                for item in targets[rows]
            )
        elif targets is not None:
            targets = change(targets)
        extras = {key: change(tensor) for key, tensor in self.extras.items()}
        return Batch(change(self.inputs), targets, extras, self.first, self.total)


@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """The batch of a step, and where it is made, see :class:`~partsig.train.job.TrainingJob`."""

    batch_at: Callable[[int], Batch]
    steps_per_epoch: int
    prefetch: Literal["thread", "processes"] = "thread"
