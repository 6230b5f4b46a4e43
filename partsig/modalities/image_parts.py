"""Images for objectives that discover parts: with what is known of their places."""

from dataclasses import replace

from partsig.contracts import PretrainingData
from partsig.data.images.augment import Augmented
from partsig.data.images.marked import JudgedImages, MarkedImages, foreground_of
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
    if not getattr(objective, "brings_encoder", False):
        return data
    if data.augmented:
        raise ConfigError(
            f"augment.… changes images without their masks; {objective.name} changes them by "
            "objective.turn, jitter, …: leave augment.… out."
        )
    marked = foreground_of(store, objective.foreground, objective.foreground_file)
    train = data.train.windows if isinstance(data.train, Augmented) else data.train
    monitor = None if data.monitor is None else MarkedImages(data.monitor, marked)
    return replace(data, train=MarkedImages(train, marked), monitor=monitor)


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
