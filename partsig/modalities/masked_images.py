"""Images with a label for every pixel: a store of them, as what is learned from its masks."""

from dataclasses import dataclass

import numpy as np

from partsig.contracts import Labels, TrainingBatches
from partsig.data.images.masked import MaskedBatches, MaskedImages, objects_of
from partsig.data.shuffling import Shuffled
from partsig.errors import ConfigError, DataError
from partsig.modalities.image_dataset import ImageDataset
from partsig.modalities.image_settings import ImageFinetuneConfig


@dataclass(frozen=True, eq=False)
class MaskedImageDataset(ImageDataset):
    """A store of images whose labels are those of its masks; every image has one."""

    @property
    def labels(self) -> Labels:
        """What its labels are: the classes of its masks, and what these are parts of."""
        store = self.store
        return Labels(
            classes=store.mask_classes, target="mask", objects=objects_of(store), level="part"
        )

    def labelled_by(self, target: str) -> ImageDataset:
        """Return the same store with labels of this target."""
        return ImageDataset(self.store).labelled_by(target)

    def labelled(self, role: str) -> np.ndarray:
        """Return the numbers (n,) of the images of a role."""
        return self.store.members(role)

    def examples(self, index: np.ndarray, size: int) -> MaskedImages:
        """Return the images of these numbers (n,) with their masks, ``size`` pixels a side."""
        return MaskedImages(self.store, index, size)

    def draw(self, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of images to train on, and of role val.

        Raises ConfigError where images have no classes that so many of each could be drawn of,
        DataError when there is nothing to learn from.
        """
        train, val = self.labelled("train"), self.labelled("val")
        if not len(train) or not len(val):
            raise DataError(
                f"{self.path} has {len(train)} training images and {len(val)} validation images; "
                "both are needed: preprocess more, or with another val_share."
            )
        if not per_class:
            return train, val
        if (self.store.labels[train] < 0).any():
            raise ConfigError(
                f"--segments-per-class {per_class}: not every training image of {self.path} is of "
                "a class that they could be drawn by; leave it out, or pass 0 for all."
            )
        drawn, _ = ImageDataset(self.store).draw(per_class, seed)
        return drawn, val

    def training_batches(
        self,
        train: MaskedImages,
        shuffled: Shuffled,
        settings: ImageFinetuneConfig,
        teacher: None,
    ) -> TrainingBatches:
        """Return the batches of fine-tuning: images and masks, or windows of both."""
        batch_at = MaskedBatches(
            examples=train, shuffled=shuffled, window=settings.segmentation.window
        )
        return TrainingBatches(batch_at=batch_at, steps_per_epoch=shuffled.steps)
