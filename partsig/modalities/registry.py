"""The modalities and their sources by name; the one place where a missing name means EEG.

What partsig 0.1 wrote of signals did not always say that it is of signals.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from partsig import registries
from partsig.data.images.part_datasets.registry import PART_DATASETS
from partsig.data.signals.readers.registry import READERS
from partsig.errors import check_option

if TYPE_CHECKING:
    from partsig.data.preprocessed import PreprocessRequest, PreprocessResult

# Those of images: published layouts, folders, what ships with scikit-learn, and parts.
IMAGE_SOURCES = ("cifar10", "cifar100", "images", "digits", *PART_DATASETS)
MODALITIES = {
    "eeg": "partsig.modalities.signals:SIGNALS",
    "image": "partsig.modalities.images:IMAGES",
}
# What writes the store of each source of raw data, by the source's name.
SOURCES = {
    **dict.fromkeys(READERS, "partsig.data.signals.preprocessing:preprocess_signals"),
    **dict.fromkeys(IMAGE_SOURCES, "partsig.data.images.preprocessing:preprocess_images"),
}
# Lists of published files that can be fetched, by source.
PUBLISHED = {"physionet2018": "partsig.data.signals.readers.physionet2018_index"}


def name_of(facts: Mapping) -> str:
    """Return the name of the modality by a store's ``meta.json`` or a run's ``run.json``.

    >>> name_of({"modality": "image"}), name_of({})
    ('image', 'eeg')
    """
    return facts.get("modality", "eeg")


def get(name: str) -> Any:
    """Return the :class:`~partsig.modalities.modality.Modality` of this name.

    Raises ConfigError for an unknown one.
    """
    return registries.load("modality", name, MODALITIES)


def of(facts: Mapping) -> Any:
    """Return the modality by a store's ``meta.json`` or a run's ``run.json``."""
    return get(name_of(facts))


def others(name: str) -> list[Any]:
    """Return the modalities of other names."""
    return [get(other) for other in MODALITIES if other != name]


def source(name: str) -> "Callable[[PreprocessRequest], PreprocessResult]":
    """Return what writes the store of a source; raise ConfigError for an unknown one.

    A plug-in offers a function of a request, or a module with what a reader of signals has.
    """
    write = registries.load("source", name, SOURCES, "sources")
    # A reader is asked by the one function that writes stores of signals.
    return registries.at(SOURCES["edf"]) if isinstance(write, ModuleType) else write


def published(source: str) -> ModuleType:
    """Return what lists the published files of a source; raise ConfigError for an unknown one."""
    check_option("source", source, PUBLISHED)
    return import_module(PUBLISHED[source])
