"""What an opened store offers, and what it hands over: plain records of windows and labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from partsig.contracts.batch import TrainingBatches
from partsig.contracts.inputs import Examples, Windows
from partsig.contracts.labels import Labels
from partsig.contracts.marks import MarkedItems

if TYPE_CHECKING:
    from pathlib import Path

    import torch

Shape = tuple[int, ...]


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
    load_onto: "Callable[[torch.device], object] | None" = None


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
    ``held_out`` are units that a pretraining which has seen them is refused for.
    """

    label: str
    facts: dict
    open: Callable[[], tuple[Examples, Examples]]
    written: dict | None = None
    settings: dict = field(default_factory=dict)
    held_out: Sequence[str] = ()


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


class TrainedRun(Protocol):
    """What a dataset asks of a run: see :class:`~partsig.runs.run.Run`, which says it."""

    path: "Path"
    facts: Mapping
    kind: str
    config: Mapping
    store: "Path"
    labels: Labels | None
    split: dict[str, list[str]]
    seen_unlabelled: list[str]
    seen_labelled: list[str]


class TrainedModel(Protocol):
    """What a dataset asks of a model that was loaded, and of its run (None: not known)."""

    facts: Mapping
    window: Shape
    run: TrainedRun | None


class Order(Protocol):
    """The order in which items are trained on: ``size`` numbers of them at each of ``steps``."""

    seed: int
    size: int
    steps: int

    def __call__(self, step: int) -> np.ndarray:
        """Return the numbers (size,) of the items of a step, or fewer at the end of a pass."""

    def share(self, n: int) -> slice:
        """Return which of n rows of a step are this process's."""


class Dataset(Protocol):
    """An opened store: what it offers to whoever pretrains, fine-tunes or judges on it.

    ``samples_per_unit`` are samples of a second, or of a pixel (one). ``settings`` are those of the
    modality, see its ``pretrain`` and ``finetune``; ``run`` is what was trained before. A modality
    of its own writes a class with all of these, see :mod:`partsig.modalities.opened_store` for what
    they have in common.
    """

    store: Any  # as the modality's wing of data/ opens it; its ``meta`` is ``meta.json``
    modality: str
    task: str
    path: "Path"
    ch_names: tuple[str, ...]
    samples_per_unit: float
    labels: Labels

    def labelled_by(self, target: str) -> "Dataset":
        """Return the same store with labels of this target: of whole items, or of their places.

        Raises ConfigError where it has none of these.
        """

    def input_facts(self) -> dict[str, object]:
        """Return what must be the same for an encoder to be used: channels, rate (Hz)."""

    def model_facts(self) -> dict[str, object]:
        """Return what must be the same for a classifier to be used, its labels apart."""

    def facts(self) -> dict[str, object]:
        """Return what a fine-tuned run remembers of the store."""

    def window_for(self, settings: Any) -> Shape:
        """Return the extent (*L) of a labelled item, in samples or pixels, as it will be given."""

    def pretraining(self, settings: Any, seed: int) -> PretrainingData:
        """Return windows to pretrain on; what is to be tested on is never among them."""

    def unseen(self, run: TrainedRun, window: Shape, seed: int, per_epoch: int) -> UnseenWindows:
        """Return windows (C, *window) that a pretraining run was not trained on.

        Raises DataError where there is none, or where they differ from what the run was trained on.
        """

    def check_budget(self, budget: LabelBudget) -> None:
        """Raise ConfigError for a way of counting labels that the modality does not have."""

    def split_labels(self, budget: LabelBudget, settings: Any, seed: int) -> LabelSplit:
        """Return which labels a run may use, drawn by ``seed``.

        Raises ConfigError for settings that do not fit the store, or for more than there is.
        """

    def counted(self, train: Examples, val: Examples) -> dict[str, int]:
        """Return how many labels were used, as facts of the run; {} where the split tells it."""

    def training_batches(
        self, train: Examples, shuffled: Order, settings: Any, teacher: Any
    ) -> TrainingBatches:
        """Return the batches of fine-tuning, in an order; ``teacher``: its targets, or None."""

    def without_labels(self, split: Mapping[str, list[str]]) -> Examples:
        """Return all items but those validated or tested on, labelled or not: a teacher's.

        Raises ConfigError where no teacher can be asked.
        """

    def everything(
        self, loaded: TrainedModel | None, path: "Path", recordings: Iterable[str] | None
    ) -> Everything:
        """Return every item, or those of some recordings, for the model at ``path``, if any.

        Raises DataError where it is for others, or where a recording is not there.
        """

    def known_features(self) -> tuple[Sequence[str], Callable[[np.ndarray], np.ndarray]]:
        """Return names (F,) of features that need no model, and what makes (b, F) of inputs.

        Raises ConfigError where there are none.
        """

    def write_features(
        self,
        path: "Path",
        names: Sequence[str],
        parts: Iterable[tuple[Examples, Callable[[], np.ndarray]]],
        facts: Mapping[str, object],
        loaded: TrainedModel | None,
    ) -> None:
        """Write features of parts as a store in which an item is a sample.

        ``parts`` come with what returns their features (E, F); ``facts`` tell what these are of,
        ``loaded`` is the model that makes them, if any. The store keeps how they are made.
        Raises ConfigError where items do not follow one another, DataError where what is there was
        made otherwise.
        """

    def keep_with(self, run: "Path") -> None:
        """Write into a run what of this store is needed to use it elsewhere: how features are made,
        where an item is features.
        """

    def test_examples(self, run: TrainedRun, external: bool) -> Examples:
        """Return what a run is judged on, here or in a store that is not its own (``external``).

        Raises DataError where these have trained or chosen the classifier.
        """

    def changed_since(self, run: TrainedRun) -> list[str]:
        """Return what of the test items, or of their labels, is not as it was when a run was begun.

        By name, as far as the store tells them apart; where the run does not know its items, by
        whether the store lists the same.
        """

    def seen_in_pretraining(self, run: TrainedRun, examples: Examples) -> list[str]:
        """Return the units of examples whose inputs a run has seen without labels."""

    def channels_from(self, run: TrainedRun, settings: Any) -> tuple[int | None, ...]:
        """Return whose weights of a pretrained run's encoder each channel takes, by number.

        None: nobody's, and it gets new ones. Raises CheckpointError unless the encoder can be used
        on this store with these settings.
        """

    def fitted(self, run: TrainedRun, missing: str) -> "Dataset":
        """Return the same store with the channels of a run, those it lacks silent.

        Only where ``missing`` is fill; where it is refuse, as it is. Raises DataError where it has
        none of them, ConfigError where its channels are always the same.
        """

    def missing_channels(self, run: TrainedRun, examples: Examples) -> dict[str, int]:
        """Return which of a run's channels are silent, and in how many parts of examples each."""

    def altered(
        self,
        examples: Examples,
        channels: Sequence[str | None] | None = None,
        later_s: float | None = None,
    ) -> Examples:
        """Return test examples as a model may meet them elsewhere: with ``channels`` of the store,
        None being silent, and cut ``later_s`` later.

        With a ``later_s``, 0 too, those which another labelled one follows, the same for all:
        ``labels`` are what covers most of each, ``within`` (n,) whether one class covers it
        however late. Raises ConfigError where there is no such thing.
        """

    def check_same_input(self, run: TrainedRun, labels: Labels) -> None:
        """Raise DataError unless a fine-tuned run's classifier can be used on this store.

        ``labels`` are what its task learns of this store's.
        """

    def marked(self, run: TrainedRun, role: str) -> MarkedItems:
        """Return the items of a role, train or test, with what is marked in them, as a pretraining
        run that discovers parts takes them.

        Raises DataError where there is none, or where they differ from what the run was trained on.
        """

    def check_unseen_input(self, run: TrainedRun, mine: Mapping[str, object]) -> None:
        """Raise DataError unless a pretrained run can be asked about windows with these facts."""
