"""The modalities and their sources by name; the one place where a missing name means EEG.

What partsig 0.1 wrote of signals did not always say that it is of signals.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from partsig import registries

if TYPE_CHECKING:
    from partsig.data.preprocessed import PreprocessRequest, PreprocessResult
    from partsig.modalities.modality import Modality

MODALITIES = {
    "eeg": "partsig.modalities.signals:SIGNALS",
    "image": "partsig.modalities.images:IMAGES",
}
# What writes the store of each source of raw data, by the source's name.
SOURCES = (
    "partsig.data.signals.preprocessing:SOURCES",
    "partsig.data.images.preprocessing:SOURCES",
)


def name_of(facts: Mapping) -> str:
    """Return the name of the modality by a store's ``meta.json`` or a run's ``run.json``.

    >>> name_of({"modality": "image"}), name_of({})
    ('image', 'eeg')
    """
    return facts.get("modality", "eeg")


def get(name: str) -> "Modality":
    """Return the modality of this name; raise ConfigError for an unknown one."""
    return registries.load("modality", name, MODALITIES)


def of(facts: Mapping) -> "Modality":
    """Return the modality by a store's ``meta.json`` or a run's ``run.json``."""
    return get(name_of(facts))


def others(name: str) -> "list[Modality]":
    """Return the modalities of other names."""
    return [get(other) for other in MODALITIES if other != name]


def sources() -> "dict[str, Callable[[PreprocessRequest], PreprocessResult]]":
    """Return what writes the store of each source, by its name."""
    return {name: write for place in SOURCES for name, write in registries.at(place).items()}
