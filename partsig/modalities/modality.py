"""What a modality is, and what it hands to whoever trains on it; never a branch in the code."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from partsig.contracts import Examples, Labels, Windows
from partsig.runs.model_card import CardWords
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe, PretrainRecipe, Shape

if TYPE_CHECKING:
    from partsig.contracts import Dataset


# Windows on which the pretext is measured.
MONITOR_WINDOWS = 512


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A kind of input: how its stores are opened, what it is trained with, what it is called.

    ``unit`` is what distances are told in (seconds for signals, whose rate the store knows; pixels
    for images); ``amplitude`` what its values are in, ``plural`` what its inputs are called;
    ``n_patches`` what PART takes where nothing is said. ``usual_labels`` and ``usual_task`` are
    those of runs that do not say theirs. ``training_facts`` counts for a model card what a run has
    learned from; ``draw_inspection`` draws what PART makes of windows.
    """

    name: str
    axes: tuple[str, ...]
    unit: str
    plural: str
    n_patches: int
    default_source: str
    open: "Callable[[Path], Dataset]"
    pretrain: type[PretrainRecipe]
    finetune: type[FinetuneRecipe]
    amplitude: str
    usual_task: str
    draw_inspection: str  # its place: pictures are loaded where they are drawn
    training_facts: Callable[[Run], dict]
    card: CardWords
    usual_labels: Labels | None = None
    # Networks that are trained in place of an encoder, by name: their places.
    baselines: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Number of axes D."""
        return len(self.axes)


@dataclass(frozen=True, kw_only=True)
class PretrainingData:
    """Windows (C, *L) to train on and to measure the pretext on, and what a run remembers of them.

    ``facts`` are what a run must not change between its parts; ``identity`` is what a checkpoint
    remembers. ``load_onto`` gives the training windows in a device's memory, ``nbytes`` large;
    None where that is not offered. ``augmented`` windows take long to make.
    """

    channels: int
    window: Shape
    patch: Shape
    samples_per_unit: float
    train: Windows
    monitor: Windows | None
    facts: dict
    augmented: bool = False
    identity: dict = field(default_factory=dict)
    nbytes: int = 0
    load_onto: Callable[[torch.device], object] | None = None


@dataclass(frozen=True, kw_only=True)
class UnseenWindows:
    """Windows that a run was not trained on: whose they are (n_subjects, say), and how many."""

    windows: Windows
    role: str
    whose: str
    number: int
    samples_per_unit: float
    most: int | None = None  # how many there are to look at, where that is bounded


@dataclass(frozen=True, kw_only=True)
class LabelBudget:
    """How many labels were asked for: ``subjects``, or so many items ``per_class``; None: unsaid.

    ``teacher``: whether a teacher was named, which not every modality can ask.
    """

    subjects: int | None = None
    per_class: int | None = None
    teacher: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelSplit:
    """The labels of a fine-tuned run: ``open`` gives the examples to train on and to choose by.

    ``label`` is the budget in short, as runs are named; ``facts`` are what a run must not change;
    ``settings`` those that the split has settled; ``written`` is what split.json holds, if any.
    """

    label: str
    facts: dict
    open: Callable[[], tuple[Examples, Examples]]
    written: dict | None = None
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All items of a store, labelled or not, part by part: what is embedded.

    ``columns`` tell the n items, ``meta`` what their embeddings are of; ``what`` says it in words.
    """

    parts: Iterable[Examples]
    n: int
    item: str
    what: str
    columns: Mapping[str, np.ndarray]
    meta: dict
