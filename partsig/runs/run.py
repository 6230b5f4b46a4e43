"""Run directories: what they are called, what they say of themselves, when they may go on.

::

    RUN/ run.json       kind, state, environment, store, subjects seen
         config.yaml    every setting, resolved
         metrics.jsonl  one line per reading
         checkpoint.pt  the whole state; best.pt the chosen epoch's weights, where there is a choice
"""

import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from partsig import __version__, config
from partsig.contracts import Labels, labels_of
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import write_json, write_text
from partsig.modalities import registry

RUNS, STORES = Path("runs"), Path("data/store")
INDEX = "index.csv"
# The first two lines and the last one of a ``run.json``, within so many bytes of its ends.
FIRST = re.compile(rb'\{\n  "kind": "(\w+)",\n  "state": "(\w+)",\n')
LAST = re.compile(rb',\n  "finished": "([\dT:+-]+)"\n\}\n\Z')
ENDS = 256
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "wfdb")


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
    def origin(self) -> Path | None:
        """The run it started from; None from scratch."""
        return None if self.facts["from"] in (None, "scratch") else Path(self.facts["from"])

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
            return self.facts["n_images"][role]
        return len(self.split[role])

    def summary(self) -> list[str]:
        """Return a fine-tuned run in a few lines: its labels, what was chosen, how good it is."""
        n = {role: self.n_units(role) for role in ("train", "val", "test")}
        lines = [
            f"labels used: {n['train']:,} training and {n['val']:,} validation {self.unit}s; "
            f"{n['test']:,} test {self.unit}s untouched"
        ]
        if self.facts.get("recordings") is not None:
            lines.append(f"training segments: {len(self.facts['recordings'])}")
        if "chosen_epoch" in self.facts:
            lines.append(f"chosen: epoch {self.facts['chosen_epoch']}")
        scores = (key for key in self.facts if key.startswith("val_"))
        return lines + [f"val {key[4:]}: {self.facts[key]:.3f}" for key in scores]

    @property
    def calibration(self) -> Mapping:
        """What was found of its confidence; raises CheckpointError where it is too old to know."""
        check_kept(self.path, self.facts, ("calibration",))
        return self.facts["calibration"]

    @property
    def temperature(self) -> float:
        """What its logits are divided by, so that its confidence can be believed."""
        return self.facts.get("calibration", {}).get("temperature", 1.0)


def environment() -> dict[str, str]:
    """Return the versions a result depends on."""
    found = {"partsig": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(
    path: Path, kind: str, settings: object, facts: Mapping[str, object], free: Sequence[str] = ()
) -> dict:
    """Start or continue a run directory and return its ``run.json``.

    ``facts`` are what else a run must not change between its parts (store, split, origin). Raises
    CheckpointError when the directory holds a run of another kind or with other settings, naming
    the keys; those in ``free`` may differ (where a store lies, but not what is in it).
    """
    wanted = {"config": config.to_dict(settings), **facts}
    file = path / "run.json"
    if file.is_file():
        found = _completed(read(path), wanted)
        if found["kind"] != kind:
            raise CheckpointError(
                f"{path} holds a {found['kind']} run, not a {kind} run; choose another --run."
            )
        known = {key: found.get(key) for key in wanted}
        # A setting that an older partsig did not have counts as its default.
        with suppress(ConfigError, TypeError):
            known["config"] = config.to_dict(config.build(type(settings), found["config"]))
        changed = [
            line
            for line in config.differences(known, json.loads(json.dumps(wanted)))
            if line.partition(":")[0].removeprefix("config.") not in free
        ]
        if changed:
            raise CheckpointError(
                f"{path} was started with another configuration: {'; '.join(changed)}. Choose "
                "another --run, or the same settings to continue it."
            )
        record = found | wanted
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise DataError(f"{path} exists and is no run; choose another --run.")
        record = {"kind": kind, "state": "running", "started": now(), **wanted}
    record["environment"] = environment()
    write_json(file, record)
    write_text(path / "config.yaml", f"verb: {kind}\n" + config.to_yaml(settings))
    return json.loads(json.dumps(record))


def _completed(found: dict, wanted: Mapping) -> dict:
    """Return what an older partsig wrote with what it left unsaid, as far as it is asked for."""
    modality = registry.of(found)
    unsaid: dict[str, object] = {"modality": modality.name, "task": modality.usual_task}
    labels = labels_of(found) or modality.usual_labels
    if labels is not None:
        unsaid["labels"] = labels.as_facts()
    return {key: value for key, value in unsaid.items() if key in wanted} | found


def finish(path: Path, **facts: object) -> None:
    """Mark a run as finished."""
    write_json(path / "run.json", read(path) | facts | {"state": "finished", "finished": now()})


def read(path: Path, kind: str | None = None) -> dict:
    """Return a run's ``run.json``.

    Raises CheckpointError when there is none, it is damaged, or it is not of ``kind``.
    """
    file = path / "run.json"
    if not file.is_file():
        raise CheckpointError(f"no run at {path} (it has no run.json).")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found = record["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}).") from None
    if kind is not None and found != kind:
        raise CheckpointError(f"{path} is a {found} run; a {kind} run is needed here.")
    return record


def finished(path: Path, kind: str, modality: str | None = None) -> dict:
    """Return the ``run.json`` of a complete run of this kind; raise CheckpointError otherwise.

    ``modality``: eeg or image, where a run on the other is refused as well.
    """
    record = read(path, kind)
    theirs = registry.of(record)
    if modality is not None and theirs.name != modality:
        did = "was pretrained on" if kind == "pretrain" else "classifies"
        needed = registry.get(modality).plural
        raise CheckpointError(f"{path} {did} {theirs.plural}; a run on {needed} is needed here.")
    if record["state"] != "finished":
        raise CheckpointError(
            f"{path} is not finished: run the same `partsig {kind}` command again to continue it."
        )
    return record


def evaluation_of(path: Path, record: Mapping[str, object], store: Path) -> tuple[Path, bool]:
    """Return where a run's evaluation on ``store`` goes, and whether that is another store.

    The run's own store may have been moved: then nothing is left at the place that the run knows,
    and ``store`` lists the very same things. Another store's evaluation has that store's name, and
    a number where the name is taken.
    """
    known = Path(record["store"])
    digest = hashlib.sha256((store / INDEX).read_bytes()).hexdigest()
    moved = not known.exists() and record.get("index_sha256") == digest
    if moved or known.resolve() == store.resolve():
        return path / "evaluation", False
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    folders = (path / f"evaluation-{store.name}{ending}" for ending in endings)
    return next(folder for folder in folders if not _is_of_another(folder, store)), True


def _is_of_another(evaluation: Path, store: Path) -> bool:
    """Whether a folder holds an evaluation, and on another store."""
    try:
        found = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
        return Path(found["store"]).resolve() != store.resolve()
    except (OSError, ValueError, KeyError):
        return False


def last(kind: str, where: Path = RUNS) -> Path:
    """Return the run of this kind that finished last; raise CheckpointError when there is none."""
    found = []
    for file in where.glob("*/run.json"):
        theirs, finished = _outline(file)
        if theirs == kind and finished:
            found.append((finished, file.parent))
    if not found:
        raise CheckpointError(
            f"no finished {kind} run in {where}/: run `partsig {kind}` first or name one."
        )
    return max(found)[1]


def _outline(file: Path) -> tuple[str, str | None]:
    """Return the kind of a run and when it finished, None where it has not.

    A ``run.json`` names every subject; as :func:`begin` and :func:`finish` write it, its first two
    lines and its last one tell. Any other is read whole.
    """
    with open(file, "rb") as handle:
        head = FIRST.match(handle.read(ENDS))
        handle.seek(max(handle.seek(0, os.SEEK_END) - ENDS, 0))
        tail = LAST.search(handle.read())
    if head and head[2] != b"finished":
        return head[1].decode(), None
    if head and tail:
        return head[1].decode(), tail[1].decode()
    record = read(file.parent)
    return record["kind"], record["finished"] if record["state"] == "finished" else None


def check_kept(path: Path, record: Mapping[str, object], keys: Sequence[str]) -> None:
    """Raise CheckpointError where a fine-tuned run lacks what later versions keep in it."""
    for key in keys:
        if key not in record:
            raise CheckpointError(
                f"{path} was fine-tuned by an older partsig, which did not keep its {key}; "
                "fine-tune it again."
            )
