"""Images with labels: which a run may use, in what order, and what a classifier says of them."""

from collections.abc import Iterator

import numpy as np
import torch

from partsig.data.images.store import ImageStore, centred
from partsig.errors import ConfigError, DataError
from partsig.tasks import frozen


def labelled(store: ImageStore, role: str) -> np.ndarray:
    """Return the numbers (n,) of the images of a role that have a label."""
    members = store.members(role)
    return members[store.labels[members] >= 0]


def draw_images(store: ImageStore, per_class: int, seed: int) -> dict[str, np.ndarray]:
    """Return the numbers of the images to train on, ``per_class`` each (0: all), and of role val.

    Draws are nested: a smaller budget's images are among a larger one's, with the same seed. Raises
    ConfigError when a class has too few, DataError when there is nothing to learn or choose from.
    """
    train, val = labelled(store, "train"), labelled(store, "val")
    if not len(train) or not len(val):
        raise DataError(
            f"{store.path} has {len(train)} labelled training images and {len(val)} labelled "
            "validation images; both are needed, so preprocess images in folders named by class."
        )
    n_classes = len(np.unique(store.labels[train]))
    if n_classes < 2:
        raise DataError(
            f"the training images of {store.path} are all of one class; nothing can be told apart."
        )
    if per_class:
        parts = []
        for number, name in enumerate(store.classes):
            members = train[store.labels[train] == number]
            if len(members) < per_class:
                raise ConfigError(
                    f"--segments-per-class {per_class}: there are only {len(members)} training "
                    f"images of class {name}."
                )
            order = np.random.default_rng([seed, number, 2019]).permutation(members)
            parts.append(order[:per_class])
        train = np.sort(np.concatenate(parts))
    return {"train": train, "val": val}


def share_right(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return top-1 accuracy."""
    return float((truth == predicted).mean())


def in_batches(
    store: ImageStore, index: np.ndarray, size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield images in order, (b, C, size, size), cropped at the centre."""
    each = frozen.batch_size(device)
    for first in range(0, len(index), each):
        x = centred(store.batch(index[first : first + each]), size)
        yield torch.from_numpy(x).to(device)
