"""Images: what a store of them offers to whoever pretrains, fine-tunes or judges on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from partsig import registries
from partsig.contracts import (
    Everything,
    LabelBudget,
    Labels,
    LabelSplit,
    PretrainingData,
    TrainingBatches,
    UnseenWindows,
    labels_of,
)
from partsig.data.addresses import shown
from partsig.data.images.augment import Augmented, TwoViews, transform
from partsig.data.images.examples import AugmentedBatches, LabelledImages, find_same
from partsig.data.images.store import ImageStore, open_images
from partsig.data.images.windows import RandomImages
from partsig.data.shuffling import Shuffled
from partsig.data.store import INDEX
from partsig.errors import CheckpointError, ConfigError, DataError, check_range
from partsig.files import read_json
from partsig.modalities.image_parts import with_marks
from partsig.modalities.image_settings import (
    ImageFinetuneConfig,
    ImagePretrainConfig,
    check_multiple,
)
from partsig.modalities.modality import MONITOR_WINDOWS
from partsig.modalities.opened_store import OpenedStore, refuse_used
from partsig.places import place_name
from partsig.runs.directory import SPLIT
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.runs.settings import Shape
from partsig.seeds import Stream, fixed, rng_of


@dataclass(frozen=True, eq=False)
class ImageDataset(OpenedStore):
    """A store of images, opened."""

    store: ImageStore
    modality: ClassVar[str] = "image"
    task: ClassVar[str] = "classification"
    samples_per_unit: ClassVar[float] = 1.0

    @property
    def labels(self) -> Labels:
        """What its labels are."""
        return replace(labels_of(self.store.meta), classes=self.store.classes)

    def labelled_by(self, target: str) -> "ImageDataset":
        """Return the same store with labels of whole images, or with its masks."""
        if target == "mask" and self.store.mask_classes:
            return registries.at("partsig.modalities.masked_images:MaskedImageDataset")(self.store)
        return super().labelled_by(target)

    def examples(self, index: np.ndarray, size: int) -> LabelledImages:
        """Return the images of these numbers (n,) with their labels, ``size`` pixels a side."""
        return LabelledImages(self.store, index, size)

    def input_facts(self) -> dict[str, object]:
        """Return what must be the same for a model to be used: the channels."""
        return {"ch_names": list(self.store.ch_names)}

    def model_facts(self) -> dict[str, object]:
        """Return what must be the same for a classifier to be used: channels and size."""
        return self.input_facts() | {"size": list(self.store.size)}

    def window_for(self, settings: ImageFinetuneConfig) -> Shape:
        """Return the extent of an image in pixels, as it will be given."""
        size = settings.size or min(self.store.size)
        return (size, size)

    def pretraining(self, settings: ImagePretrainConfig, seed: int) -> PretrainingData:
        """Return images to pretrain on: those of the role train."""
        store = self.store
        cropped = settings.augment.crop != "none"
        if min(store.size) < settings.size or (not cropped and store.size != (settings.size,) * 2):
            raise ConfigError(
                f"{self.path} holds images of {store.size[0]} x {store.size[1]}, and size is "
                f"{settings.size}; pass --set size={min(store.size)}, or less with an augment.crop."
            )
        window, patch = settings.extents(1.0)
        members, val = store.members("train"), store.members("val")
        train = RandomImages(store, members, seed, settings.windows_per_epoch)
        kind = TwoViews if settings.two_views else Augmented
        changed = kind(train, settings.augment, settings.size, seed)
        monitor = None
        if len(val):
            drawn, stream = fixed(seed), Stream.UNSEEN_IMAGES
            middle = None if settings.two_views else settings.size
            monitor = RandomImages(store, val, drawn, MONITOR_WINDOWS, middle, stream)
            if settings.two_views:
                monitor = TwoViews(monitor, settings.augment, settings.size, drawn)
        data = PretrainingData(
            channels=len(store.ch_names),
            window=window,
            patch=patch,
            samples_per_unit=1.0,
            train=changed,
            augmented=changed.changes,
            monitor=monitor,
            facts={
                "modality": self.modality,
                "provenance": store.meta["provenance"],
                **self.model_facts(),
                "images_trained": len(members),
                "subjects_seen": [],
            },
        )
        return with_marks(data, settings, store)

    def unseen(self, run: Run, window: Shape, seed: int, per_epoch: int) -> UnseenWindows:
        """Return images that a pretraining run has held out; else those it was measured on."""
        self.check_unseen_input(run, self.model_facts())
        for role in ("test", "val"):
            members = self.store.members(role)
            if len(members):
                return UnseenWindows(
                    windows=RandomImages(
                        self.store, members, seed, per_epoch, window[-1], Stream.UNSEEN_IMAGES
                    ),
                    role=role,
                    whose="n_images",
                    number=len(members),
                    samples_per_unit=1.0,
                    most=len(members),
                )
        raise DataError(f"{self.path} has no test or validation images to look at.")

    def labelled(self, role: str) -> np.ndarray:
        """Return the numbers (n,) of the images of a role that have a label."""
        members = self.store.members(role)
        return members[self.store.labels[members] >= 0]

    def check_budget(self, budget: LabelBudget) -> None:
        """Raise ConfigError for options that images have no use for."""
        refused = {"--subjects": budget.subjects is not None, "--teacher": budget.teacher}
        given = [option for option, value in refused.items() if value]
        if given:
            raise ConfigError(
                f"{self.path} holds images, which {', '.join(given)} is not for; pass "
                "--segments-per-class N for N labelled images of every class, 0 for all."
            )

    def split_labels(
        self, budget: LabelBudget, settings: ImageFinetuneConfig, seed: int
    ) -> LabelSplit:
        """Return which labels a run may use: so many images of every class."""
        per_class = budget.per_class or 0
        check_range("--segments-per-class", per_class, 0)
        train, val = self.draw(per_class, seed)
        size, _ = self.window_for(settings)
        self._check_size(settings, size)
        names = {"train": [self.store.names[i] for i in train]}
        chosen = {"train": train, "val": val, "test": self.labelled("test")}
        groups = {role: self.store.n_groups(some) for role, some in chosen.items()}
        return LabelSplit(
            label=f"k{per_class}",
            facts={
                "images_per_class": per_class,
                "n_images": {role: len(some) for role, some in chosen.items()},
                **({"n_groups": groups} if self.store.groups else {}),
                "items": {role: self.store.items_digest(some) for role, some in chosen.items()},
            },
            settings={"size": size},
            open=lambda: (self.examples(train, size), self.examples(val, size)),
            written=names if per_class else None,
        )

    def draw(self, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of images to train on, ``per_class`` each (0: all), and of role val.

        Draws are nested: a smaller budget's images are among a larger one's, with the same seed.
        Of a class that no training image has, none is drawn.
        Raises ConfigError when a class has too few, DataError when there is nothing to learn from.
        """
        store, train, val = self.store, self.labelled("train"), self.labelled("val")
        if not len(train) or not len(val):
            raise DataError(
                f"{self.path} has {len(train)} labelled training images and {len(val)} labelled "
                "validation images; both are needed, so preprocess images in folders named by "
                "class."
            )
        if len(np.unique(store.labels[train])) < 2:
            raise DataError(
                f"the training images of {self.path} are all of one class; nothing can be told "
                "apart."
            )
        if not per_class:
            return train, val
        parts = []
        for number, name in enumerate(store.classes):
            members = train[store.labels[train] == number]
            if not len(members):
                continue  # a class of the test set alone, which nothing can learn
            if len(members) < per_class:
                raise ConfigError(
                    f"--segments-per-class {per_class}: there are only {len(members)} training "
                    f"images of class {name}."
                )
            order = rng_of(Stream.LABELLED_ITEMS, seed, number).permutation(members)
            parts.append(order[:per_class])
        return np.sort(np.concatenate(parts)), val

    def _check_size(self, settings: ImageFinetuneConfig, size: int) -> None:
        check_multiple(size, settings.patch_px)
        fits = min(self.store.size) >= size
        if not fits or (settings.augment.crop == "none" and self.store.size != (size,) * 2):
            raise ConfigError(
                f"size is {size} and {self.path} holds images of {self.store.size[0]} x "
                f"{self.store.size[1]}; size can be at most that, and less with an augment.crop."
            )

    def counted(self, train: LabelledImages, val: LabelledImages) -> dict[str, int]:
        """Return how many labels were used: the split has told it."""
        return {}

    def training_batches(
        self,
        train: LabelledImages,
        shuffled: Shuffled,
        settings: ImageFinetuneConfig,
        teacher: None,
    ) -> TrainingBatches:
        """Return the batches of fine-tuning.

        torchvision draws from torch's own generator, as drop path and mixing do: in a thread beside
        them the draws would depend on timing.
        """
        change = transform(settings.augment, settings.size)
        batch_at = AugmentedBatches(examples=train, shuffled=shuffled, change=change)
        prefetch = "thread" if change is None else "processes"
        return TrainingBatches(batch_at=batch_at, steps_per_epoch=shuffled.steps, prefetch=prefetch)

    def without_labels(self, split: Mapping[str, list[str]]) -> LabelledImages:
        """Raise ConfigError: no teacher is asked about images."""
        raise ConfigError(f"{self.path} holds images, which --teacher is not for.")

    def everything(
        self, loaded: LoadedModel, path: Path, recordings: Iterable[str] | None
    ) -> Everything:
        """Return every image; raise DataError where a model is for others."""
        if recordings is not None:
            raise ConfigError(f"{path} is on images, which --recording is not for.")
        store, names, size = self.store, loaded.facts["ch_names"], loaded.window[-1]
        if list(store.ch_names) != names or min(store.size) < size:
            raise DataError(
                f"{path} takes {', '.join(names)} of {size} x {size} pixels; {self.path} has "
                f"{', '.join(store.ch_names)} of {store.size[0]} x {store.size[1]}. Preprocess it "
                "again with those settings."
            )
        classes = np.array([*store.classes, ""])
        return Everything(
            parts=[LabelledImages(store, np.arange(len(store)), size)],
            n=len(store),
            item="image",
            what="images",
            columns={
                "image": np.array(store.names),
                **({"group": np.array(store.groups)} if store.groups else {}),
                "role": store.roles,
                "label": classes[store.labels],  # -1 is the last
            },
            meta={"size": size, **stores_seen(loaded.run)},
        )

    def test_examples(self, run: Run, external: bool) -> LabelledImages:
        """Return what a run is judged on: the labelled test images.

        Raises DataError where another store's are among those that trained or chose the classifier.
        """
        index = self.labelled("test")
        if not len(index):
            raise DataError(f"{self.path} has no labelled test image; pass another --store.")
        refuse_used(self._used_by(run, index) if external else [], "images")
        return self.examples(index, run.config["size"])

    def _used_by(self, run: Run, index: np.ndarray) -> list[str]:
        """Return the names of images (n,) whose pixels a run has learned from or was chosen by.

        Told by the pixels in the run's own store, whatever they are called there; nothing is told
        where that store is not at hand, or of other sizes or channels.
        """
        if not (run.store / INDEX).is_file():
            return []
        theirs = type(self)(open_images(run.store))
        if (theirs.store.size, theirs.ch_names) != (self.store.size, self.ch_names):
            return []
        train = theirs.labelled("train")
        if (run.path / SPLIT).is_file():
            names = set(read_json(run.path / SPLIT)["train"])
            train = np.array([i for i in train if theirs.store.names[i] in names], np.int64)
        known = np.concatenate([train, theirs.labelled("val")])
        return [self.store.names[i] for i in find_same(self.store, index, theirs.store, known)]

    def changed_since(self, run: Run) -> list[str]:
        """Return what the test images are called, where they or their labels are not what they were
        when a run was begun.
        """
        known = run.facts.get("items", {}).get("test")
        now = self.store.items_digest(self.labelled("test"))
        if known is None:  # an older partsig did not keep it
            return self.index_changed(run)
        return [] if known == now else ["its test images"]

    def seen_in_pretraining(self, run: Run, examples: LabelledImages) -> list[str]:
        """Return nothing: test images are never pretrained on, and none is named elsewhere."""
        return []


def stores_seen(run: Run | None) -> dict[str, str | None]:
    """Return whose train images a run has seen without labels, and whose with them.

    Of an encoder by name (``timm:NAME``) that name is told: no store of ours is known to it.
    """
    if run is None:
        return {"pretraining_store": None, "labelled_store": None}
    if run.kind == "pretrain":
        return {"pretraining_store": place_name(shown(run.facts["store"])), "labelled_store": None}
    return {
        "pretraining_store": _pretraining_store(run),
        "labelled_store": place_name(shown(run.facts["store"])),
    }


def _pretraining_store(run: Run) -> str | None:
    origin = run.origin
    if origin.source:
        return str(origin)
    if origin.path is None:
        return None
    try:
        return place_name(shown(Run.read(origin.path).facts["store"]))
    except CheckpointError:  # it has been moved, or is damaged
        return "unknown"


def open_dataset(path: Path) -> ImageDataset:
    """Open a store of images; raise DataError for what is none."""
    return ImageDataset(open_images(path))
