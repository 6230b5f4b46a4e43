"""What the rooms of the house promise each other; each names only this file, not the other room.

A *modality* opens a store as a :class:`Dataset` and knows no verb. A *task* says what is predicted
of :class:`Examples` and how that is judged, and knows neither modality nor verb. A *verb* asks the
run, the dataset and the task. Whoever adds one of them adds files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

UNLABELLED = -1
Ragged = tuple[dict[str, "Tensor"], ...]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the labels of a store are: ``classes`` by number, each of ``unit_s`` seconds of signal.

    ``target`` says what is labelled: class. ``unit_s`` is None where a whole item has one label.
    """

    classes: tuple[str, ...]
    unit_s: float | None = None
    target: str = "class"

    def as_facts(self) -> dict:
        """Return the labels as ``meta.json`` and ``run.json`` hold them."""
        return asdict(self) | {"classes": list(self.classes)}

    def count(self, codes: np.ndarray) -> dict[str, int]:
        """Return how often each class occurs, and ``unscored`` what has no label.

        >>> Labels(classes=("calm", "moving")).count(np.array([-1, 0, 0]))
        {'calm': 2, 'moving': 0, 'unscored': 1}
        """
        counts = np.bincount(np.asarray(codes, np.int64) + 1, minlength=len(self.classes) + 1)
        unscored, *others = counts.tolist()
        return dict(zip((*self.classes, "unscored"), (*others, unscored), strict=True))


def labels_of(facts: Mapping) -> Labels | None:
    """Return what the labels are by a ``meta.json`` or a ``run.json``; None if it is silent.

    Stores of partsig 0.1 say so by ``stages`` and ``epoch_s``, stores of images by ``classes``.
    """
    if "labels" in facts:
        return Labels(**(facts["labels"] | {"classes": tuple(facts["labels"]["classes"])}))
    if "stages" in facts and "epoch_s" in facts:
        return Labels(classes=tuple(facts["stages"]), unit_s=float(facts["epoch_s"]))
    return Labels(classes=tuple(facts["classes"])) if "classes" in facts else None


@dataclass(frozen=True)
class Batch:
    """What a step is given: ``inputs`` (B, C, *L), and whatever else the objective needs.

    ``targets`` are (B, …), or a tuple of B dicts where they are ragged (boxes), or None. ``extras``
    are further tensors with B rows (masks, weights, coordinates of a view); the model is given them
    by name.
    """

    inputs: "Tensor"
    targets: "Tensor | Ragged | None" = None
    extras: Mapping[str, "Tensor"] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

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
        return self._with(lambda tensor: tensor[rows], rows)

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
        return Batch(change(self.inputs), targets, extras)


class Windows(Protocol):
    """Unlabelled windows that are pretrained on: so many an epoch, drawn by (seed, epoch)."""

    per_epoch: int

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, *L)."""

    def describe_batch(self, epoch: int, first: int, count: int) -> str:
        """Say what lies behind a batch whose loss is not finite."""


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

    def units(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the units, and each item's unit by number (n,)."""

    def parts(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the names of the parts, and each item's part by number (n,)."""

    def columns(self) -> tuple[list[str], Iterator[Sequence]]:
        """Return what tells an item in a table: the names of the columns, and a row for each."""

    def digest(self) -> dict[str, str]:
        """Return what tells these inputs from others of the same names, as facts for a result."""


@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """The batch of a step, and where it is made, see :class:`~partsig.train.job.TrainingJob`."""

    batch_at: Callable[[int], Batch]
    steps_per_epoch: int
    prefetch: Literal["thread", "processes"] = "thread"


class Objective(Protocol):
    """A model with its loss; everything drawn comes from ``generator``, for the whole batch."""

    encoder: "nn.Module"

    def forward(
        self,
        inputs: "Tensor",
        *targets: "Tensor",
        generator: "torch.Generator",
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
    ) -> "dict[str, Tensor]":
        """Return scalars, one of them ``loss``; a batch's targets and extras are arguments too."""

    def compilable(self) -> "Iterable[nn.Module]":
        """Return the modules worth compiling: those most of the time is spent in."""


class Dataset(Protocol):
    """An opened store: what it offers to whoever pretrains, fine-tunes or judges on it.

    Its methods are in :mod:`partsig.modalities.signals` and :mod:`partsig.modalities.images`; a new
    modality writes the same ones.
    """

    modality: str
    task: str
    path: "Path"
    ch_names: tuple[str, ...]
    samples_per_unit: float
    labels: Labels
