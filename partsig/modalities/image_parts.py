"""Images for objectives that ask what is known of their places: parts to discover, objects."""

from dataclasses import replace

from partsig.contracts import PretrainingData
from partsig.data.images.augment import Augmented
from partsig.data.images.marked import Foreground, JudgedImages, MarkedImages, foreground_of
from partsig.data.images.store import ImageStore
from partsig.errors import ConfigError, DataError
from partsig.modalities.image_settings import ImagePretrainConfig
from partsig.modalities.opened_store import OpenedStore
from partsig.runs.run import Run


def with_marks(
    data: PretrainingData, settings: ImagePretrainConfig, store: ImageStore
) -> PretrainingData:
    """Return data to pretrain on with what is marked in its images, where the objective asks it.

    Raises ConfigError where images are to be augmented, or the foreground is not marked.
    """
    objective = settings.objective
    discovers = getattr(objective, "brings_encoder", False)
    if discovers:
        instead = f"{objective.name} changes them by objective.turn, jitter, …"
    elif getattr(objective, "focus", "none") == "object":
        instead = "objective.focus=object follows these"
    else:
        return data
    if data.augmented:
        raise ConfigError(
            f"augment.… changes images without their masks; {instead}: leave augment.… out."
        )
    if discovers:
        marked = foreground_of(store, objective.foreground, objective.foreground_file)
    else:
        marked = _objects(store)
    train = data.train.windows if isinstance(data.train, Augmented) else data.train
    monitor = None if data.monitor is None else MarkedImages(data.monitor, marked, discovers)
    return replace(data, train=MarkedImages(train, marked, discovers), monitor=monitor)


def _objects(store: ImageStore) -> Foreground:
    """Return what tells the objects of images, all classes of masks but background."""
    if not store.mask_classes:
        raise ConfigError(
            f"objective.focus=object: {store.path} has no masks of objects; preprocess a source "
            "that has some, or set it to amplitude, change, or none."
        )
    return foreground_of(store, "mask")


def judged(dataset: OpenedStore, run: Run, role: str) -> JudgedImages:
    """Return the images of a role that parts are judged on, as a pretraining run takes them.

    Raises DataError where there is none, or where they are of another size or channels.
    """
    dataset.check_unseen_input(run, dataset.model_facts())
    store, objective = dataset.store, run.config["objective"]
    index = store.members(role)
    if not len(index):
        raise DataError(f"{store.path} has no {role} image; pass another --store.")
    foreground = foreground_of(store, objective["foreground"], objective["foreground_file"])
    return JudgedImages(store, index, run.config["size"], foreground)
