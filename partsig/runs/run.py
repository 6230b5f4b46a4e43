"""A run, typed: what its ``run.json`` says, by the same names whatever made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from partsig.contracts import Labels, labels_of
from partsig.errors import CheckpointError
from partsig.modalities import registry
from partsig.runs.directory import check_kept, finished, read
from partsig.runs.encoder_sources import Origin, recall

# What a temperature may be: fitting gives .05 to 20.
COLDEST, HOTTEST = 1e-3, 1e3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many labels a fine-tuned run was given: so many ``unit`` (0: all that there are)."""

    unit: str
    number: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run directory and what its ``run.json`` says, by the same names whatever the modality.

    ``config`` are its settings as plain values. ``facts`` is all that ``run.json`` holds; what no
    property names is of the task or the modality that wrote it.
    """

    path: Path
    facts: Mapping

    @classmethod
    def read(cls, path: str | Path, kind: str | None = None) -> "Run":
        """Return a run; raise CheckpointError when there is none, or one of another kind."""
        return cls(path=Path(path), facts=read(Path(path), kind))

    @classmethod
    def finished(cls, path: str | Path, kind: str, modality: str | None = None) -> "Run":
        """Return a complete run of this kind; raise CheckpointError for any other.

        ``modality``: where a run on another one is refused as well.
        """
        return cls(path=Path(path), facts=finished(Path(path), kind, modality))

    @property
    def kind(self) -> str:
        """The verb that made it: pretrain or finetune."""
        return self.facts["kind"]

    @property
    def is_finished(self) -> bool:
        """Whether it is complete."""
        return self.facts["state"] == "finished"

    @property
    def modality(self) -> str:
        """The name of its modality."""
        return registry.name_of(self.facts)

    @property
    def task(self) -> str:
        """The name of what it was fine-tuned for; of runs that do not say, their modality's."""
        return self.facts.get("task") or registry.get(self.modality).usual_task

    @property
    def config(self) -> Mapping:
        """Its settings, as plain values."""
        return self.facts["config"]

    @property
    def seed(self) -> int:
        """The seed of everything drawn."""
        return self.facts["seed"]

    @property
    def store(self) -> Path:
        """Where the store lay that it was trained on."""
        return Path(self.facts["store"])

    @property
    def ch_names(self) -> list[str]:
        """The channels it takes, in their order."""
        return self.facts["ch_names"]

    @property
    def samples_per_unit(self) -> float:
        """Samples of a second, or of a pixel (one)."""
        return float(self.facts.get("sfreq", 1.0))

    @property
    def labels(self) -> Labels | None:
        """What its labels are; None of a pretraining run."""
        if self.kind == "pretrain":
            return None
        return labels_of(self.facts) or registry.get(self.modality).usual_labels

    @property
    def origin(self) -> Origin:
        """What it started from: a run, an encoder by name, or scratch."""
        return recall(self.facts["from"])

    @property
    def pretraining(self) -> Mapping:
        """Objective and seed of the pretraining it started from; empty from scratch."""
        return self.facts.get("pretraining") or {}

    @property
    def split(self) -> dict[str, list[str]]:
        """Subjects by role, of a fine-tuned run on signals."""
        return self.facts["split"]

    @property
    def seen_unlabelled(self) -> list[str]:
        """Subjects whose signals pretraining has seen; of images none are named."""
        return self.facts.get("subjects_seen", self.facts.get("pretraining_subjects", []))

    @property
    def seen_labelled(self) -> list[str]:
        """Subjects whose labels trained or chose it."""
        return [s for role in ("train", "val") for s in self.facts.get("split", {}).get(role, ())]

    @property
    def budget(self) -> Budget:
        """How many labels it was given."""
        if "images_per_class" in self.facts:
            return Budget(unit="images per class", number=self.facts["images_per_class"])
        per_class = self.facts["segments_per_class"]
        if per_class is None:
            return Budget(unit="subjects", number=self.facts["subjects"])
        return Budget(unit="segments per class", number=per_class)

    @property
    def n_train(self) -> int:
        """How many labelled items it learned from."""
        if "n_images" in self.facts:
            return self.facts["n_images"]["train"]
        return self.facts["n_epochs_train"]

    @property
    def unit(self) -> str:
        """What its split keeps whole and its intervals draw: subject or image."""
        return "subject" if "split" in self.facts else "image"

    def n_units(self, role: str) -> int:
        """Return how many units (subjects, images) had a role: train, val or test."""
        if "n_images" in self.facts:
            return self.facts["n_groups" if self.grouped else "n_images"][role]
        return len(self.split[role])

    @property
    def grouped(self) -> bool:
        """Whether several items belong to one unit: epochs to a subject, crops to an image."""
        return "split" in self.facts or "n_groups" in self.facts

    def summary(self) -> list[str]:
        """Return a fine-tuned run in a few lines: its labels, what was chosen, how good it is."""
        n = {role: self.n_units(role) for role in ("train", "val", "test")}
        lines = [
            f"labels used: {n['train']:,} training and {n['val']:,} validation {self.unit}s; "
            f"{n['test']:,} test {self.unit}s untouched"
        ]
        if self.labels is not None and self.labels.unit_s is not None:
            lines.append(f"a label is of {self.labels.unit_s:g} s")
        if self.facts.get("recordings") is not None:
            lines.append(f"training segments: {len(self.facts['recordings'])}")
        if "chosen_epoch" in self.facts:
            lines.append(f"chosen: epoch {self.facts['chosen_epoch']}")
        scores = {key[4:]: value for key, value in self.facts.items() if key.startswith("val_")}
        return lines + [
            f"val {name}: {'undefined' if value is None else f'{value:.3f}'}"
            for name, value in scores.items()
        ]

    @property
    def calibration(self) -> Mapping:
        """What was found of its confidence; raises CheckpointError where it is too old to know."""
        check_kept(self.path, self.facts, ("calibration",))
        found = self.facts["calibration"]
        check_temperature(found.get("temperature"), self.path)
        return found

    @property
    def temperature(self) -> float:
        """What its logits are divided by, so that its confidence can be believed."""
        return check_temperature(
            self.facts.get("calibration", {}).get("temperature", 1.0), self.path
        )


def check_temperature(value: object, where: Path) -> float:
    """Return what logits may be divided by; raise CheckpointError for what they may not."""
    if isinstance(value, int | float) and COLDEST <= value <= HOTTEST:
        return float(value)
    raise CheckpointError(
        f"{where} has the temperature {str(value)[:40]}; it must be between {COLDEST:g} and "
        f"{HOTTEST:g}: it is damaged."
    )
