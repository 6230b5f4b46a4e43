"""What a modality is, and what it hands to whoever trains on it; never a branch in the code."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from partsig import registries
from partsig.commands import setting
from partsig.contracts import Dataset, Labels
from partsig.data.store import read_meta
from partsig.errors import ConfigError, DataError
from partsig.modalities import registry
from partsig.runs.model_card import CardWords
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe, PretrainRecipe

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
    dataset: str  # the place of what opens a store: torch is loaded where one is read
    preprocess: str  # the place of its settings: readers are loaded where they read
    pretrain: type[PretrainRecipe]
    finetune: type[FinetuneRecipe]
    amplitude: str
    usual_task: str
    looks: str  # the place of how its windows look, see partsig.contracts.Looks
    marked: str  # the place of what gives a store's marked items, of (dataset, run, role)
    draw_inspection: str  # its place: pictures are loaded where they are drawn
    training_facts: Callable[[Run], dict]
    card: CardWords
    usual_labels: Labels | None = None
    # The configuration that a task is fine-tuned by where none is named.
    usual_configs: Mapping[str, str] = field(default_factory=dict)
    # Networks that are trained in place of an encoder, by name: their places.
    baselines: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Number of axes D."""
        return len(self.axes)

    def with_protocol(
        self,
        recipe: type,
        overrides: Mapping[str, object] | Iterable[str],
        protocol: str | None,
        fold: int | None,
    ) -> Mapping[str, object] | Iterable[str]:
        """Return overrides of a recipe that say by which protocol subjects are divided, too.

        Raises ConfigError where it divides no subjects.
        """
        own = {"split.protocol": protocol, "split.fold": fold}
        own = {key: value for key, value in own.items() if value is not None}
        if own and "split" not in _settings(recipe):
            raise ConfigError(
                f"--protocol and --fold divide subjects, which {self.plural} here have none of: "
                "leave them out."
            )
        return _joined(overrides, own)

    def with_channels(
        self,
        recipe: type,
        overrides: Mapping[str, object] | Iterable[str],
        channels: Mapping[str, str] | None,
    ) -> Mapping[str, object] | Iterable[str]:
        """Return overrides of a recipe that say whose weights each channel takes, too.

        Raises ConfigError where its channels are always the same.
        """
        if channels and "channels" not in _settings(recipe):
            raise ConfigError(
                f"--channels is for signals, whose channels differ; leave it out for {self.plural}."
            )
        return _joined(overrides, {"channels": dict(channels)} if channels else {})

    def open(self, store: Path) -> Dataset:
        """Open a store; raise DataError for what is none."""
        return registries.at(self.dataset)(store)

    def check_store(self, store: Path) -> None:
        """Raise DataError for a store of another modality."""
        theirs = registry.of(read_meta(store))
        if theirs.name != self.name:
            raise DataError(
                f"{store} holds {theirs.plural}, not {self.plural}: pass --modality "
                f"{theirs.name}, or another --store."
            )


def _settings(recipe: type) -> set[str]:
    return {field.name for field in fields(recipe)}


def _joined(
    overrides: Mapping[str, object] | Iterable[str], own: Mapping[str, object]
) -> Mapping[str, object] | Iterable[str]:
    """Return overrides, as keys and values or as the texts behind ``--set``, and some more."""
    if isinstance(overrides, Mapping):
        return {**overrides, **own}
    texts = [setting(key, value) if isinstance(value, Mapping) else f"{key}={value}"
             for key, value in own.items()]  # fmt: skip
    return [*overrides, *texts]
