"""What opened stores of all modalities have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from partsig import registries
from partsig.contracts import Examples, Labels, MarkedItems, TrainedModel
from partsig.data.store import index_digest
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities import registry
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe
from partsig.text import MANY, listed


@dataclass(frozen=True, eq=False)
class OpenedStore(ABC):
    """An opened store, as a dataset; a modality says what of it a model depends on."""

    store: Any
    modality: ClassVar[str]

    @property
    def path(self) -> Path:
        """Where the store lies."""
        return self.store.path

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channel names, in their order."""
        return self.store.ch_names

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """What its labels are."""

    def labelled_by(self, target: str) -> "OpenedStore":
        """Return the same store; raise ConfigError unless its labels are of this target."""
        if target != self.labels.target:
            raise ConfigError(
                f"{self.path} has labels of {self.labels.target} and no {target}; preprocess what "
                "has them, see docs/how-to/part-segmentation.md."
            )
        return self

    @abstractmethod
    def input_facts(self) -> dict[str, object]:
        """Return what must be the same for an encoder to be used."""

    def model_facts(self) -> dict[str, object]:
        """Return what must be the same for a classifier to be used, its labels apart."""
        return self.input_facts()

    def facts(self) -> dict[str, object]:
        """Return what a fine-tuned run remembers of the store."""
        return {
            "store": str(self.path),
            "provenance": self.store.meta["provenance"],
            "index_sha256": index_digest(self.path),
            **remembered(self.model_facts()),
            "labels": self.labels.as_facts(),
        }

    def known_features(self) -> tuple[Sequence[str], Callable[[np.ndarray], np.ndarray]]:
        """Raise ConfigError: no features are known without a model."""
        raise ConfigError("--features is for signals, whose band powers need no model.")

    def write_features(
        self,
        path: Path,
        names: Sequence[str],
        parts: Iterable[tuple[Examples, Callable[[], np.ndarray]]],
        facts: Mapping[str, object],
        loaded: TrainedModel | None,
    ) -> None:
        """Raise ConfigError: items do not follow one another."""
        raise ConfigError(
            f"--as-store is for recordings, whose epochs follow one another; {self.path} has "
            "none: leave it out."
        )

    def keep_with(self, run: Path) -> None:  # noqa: B027 - most stores need none
        """Write into a run what of this store is needed to use it elsewhere: nothing."""

    def index_changed(self, run: Run) -> list[str]:
        """Return what is told where a run does not know its items, and the store's list is another
        than it was: of partsig 0.1, say.
        """
        known = run.facts.get("index_sha256")
        return [] if known in (None, index_digest(self.path)) else ["some items of its index.csv"]

    def channels_from(self, run: Run, settings: FinetuneRecipe) -> tuple[int | None, ...]:
        """Return whose weights of a pretrained run's encoder each channel takes: its own.

        Raises CheckpointError unless the encoder can be used on this store.
        """
        for key, ours, theirs in differing(self.input_facts(), run.facts):
            raise CheckpointError(
                f"{run.path} was pretrained with {key} {theirs}; {self.path} has {ours}."
            )
        return tuple(range(len(self.ch_names)))

    def fitted(self, run: Run, missing: str) -> "OpenedStore":
        """Return the same store; raise ConfigError where channels that it lacks may be silent."""
        if missing != "refuse":
            raise ConfigError(
                "--missing-channels is for signals, whose channels differ: leave it out."
            )
        return self

    def missing_channels(self, run: Run, examples: Examples) -> dict[str, int]:
        """Return no channel: all are there."""
        return {}

    def altered(
        self,
        examples: Examples,
        channels: Sequence[str | None] | None = None,
        later_s: float | None = None,
    ) -> Examples:
        """Raise ConfigError: these are not cut out of recordings of several channels."""
        option = "--ablate-channels" if later_s is None else "--shift"
        raise ConfigError(
            f"{option} is for epochs of recordings; leave it out for {examples.item}s."
        )

    def check_same_input(self, run: Run, labels: Labels) -> None:
        """Raise DataError unless a fine-tuned run's classifier can be used on this store.

        ``labels`` are what its task learns of this store's.
        """
        mine = self.model_facts() | _plain(labels)
        self.refuse_other("the run", mine, run.facts | _plain(run.labels))

    def marked(self, run: Run, role: str) -> MarkedItems:
        """Return the items of a role, train or test, with what is marked in them, as a pretraining
        run that discovers parts takes them.

        Raises DataError where there is none, or where they differ from what the run was trained on.
        """
        return registries.at(registry.get(self.modality).marked)(self, run, role)

    def check_unseen_input(self, run: Run, mine: Mapping[str, object]) -> None:
        """Raise DataError unless a pretrained run can be asked about windows with these facts."""
        for key, ours, theirs in differing(mine, run.facts):
            raise DataError(
                f"{self.path} has {key} {_short(ours)}, the run was trained on {_short(theirs)}; "
                "give a store that was preprocessed alike."
            )

    def refuse_other(
        self, who: object, mine: Mapping[str, object], theirs: Mapping[str, object]
    ) -> None:
        """Raise DataError where ``who`` was trained with other facts than this store has."""
        for key, ours, told in differing(mine, theirs):
            raise DataError(
                f"{who} was trained with {key} {_short(told)}; {self.path} has {_short(ours)}. "
                "Preprocess it again with those settings."
            )


# What a run does not tell that an older partsig began, when there was nothing else.
ASSUMED = {"unit": "µV"}


def remembered(facts: Mapping[str, object]) -> dict[str, object]:
    """Return what a run keeps of facts: what is assumed is left out, as it was before."""
    return {key: value for key, value in facts.items() if ASSUMED.get(key) != value}


def differing(
    mine: Mapping[str, object], theirs: Mapping[str, object]
) -> Iterable[tuple[str, object, object]]:
    """Yield the facts of mine that are other ones there: name, mine, theirs (None: not told)."""
    told = ((key, own, theirs.get(key, ASSUMED.get(key))) for key, own in mine.items())
    return ((key, own, other) for key, own, other in told if other != own)


def refuse_used(used: Sequence[str], what: str) -> None:
    """Raise DataError where some of ``what`` is tested on have trained or chosen a classifier."""
    if used:
        raise DataError(
            f"{len(used)} of the {what} to test on trained or chose this classifier "
            f"({', '.join(used[:3])}, …); evaluate on a store without them."
        )


def _short(value: object) -> object:
    """Return a fact as a message has it: of a long list of names only some."""
    several = isinstance(value, list) and len(value) > MANY
    return f"[{listed(list(map(str, value)))}]" if several else value


def _plain(labels: Labels) -> dict[str, object]:
    return {"classes": list(labels.classes), "unit_s": labels.unit_s}
