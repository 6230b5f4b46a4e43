"""What opened stores of all modalities have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from partsig.contracts import Labels
from partsig.data.store import index_digest
from partsig.errors import CheckpointError, DataError
from partsig.runs.run import Run


@dataclass(frozen=True, eq=False)
class OpenedStore:
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
    def labels(self) -> Labels:
        """What its labels are."""
        raise NotImplementedError

    def input_facts(self) -> dict[str, object]:
        """Return what must be the same for an encoder to be used."""
        raise NotImplementedError

    def model_facts(self) -> dict[str, object]:
        """Return what must be the same for a classifier to be used, its labels apart."""
        return self.input_facts()

    def facts(self) -> dict[str, object]:
        """Return what a fine-tuned run remembers of the store."""
        return {
            "store": str(self.path),
            "provenance": self.store.meta["provenance"],
            "index_sha256": index_digest(self.path),
            **self.model_facts(),
            "labels": self.labels.as_facts(),
        }

    def check_pretrained(self, run: Run) -> None:
        """Raise CheckpointError unless a pretrained run's encoder can be used on this store."""
        for key, ours in self.input_facts().items():
            if run.facts[key] != ours:
                raise CheckpointError(
                    f"{run.path} was pretrained with {key} {run.facts[key]}; {self.path} has "
                    f"{ours}."
                )

    def check_same_input(self, run: Run) -> None:
        """Raise DataError unless a fine-tuned run's classifier can be used on this store."""
        mine = self.model_facts() | _plain(self.labels)
        theirs = {key: run.facts.get(key) for key in self.model_facts()} | _plain(run.labels)
        for key, ours in mine.items():
            if theirs[key] != ours:
                raise DataError(
                    f"the run was trained with {key} {theirs[key]}; {self.path} has {ours}. "
                    "Preprocess it again with those settings."
                )


def _plain(labels: Labels) -> dict[str, object]:
    return {"classes": list(labels.classes), "unit_s": labels.unit_s}
