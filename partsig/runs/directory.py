"""Run directories: what they are called, what they say of themselves, when they may go on.

::

    RUN/ run.json       kind, state, environment, store, subjects seen
         config.yaml    every setting, resolved
         metrics.jsonl  one line per reading
         checkpoint.pt  the whole state; best.pt the chosen epoch's weights, where there is a choice
"""

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from partsig import __version__, config, regular, seeds
from partsig.contracts import labels_of
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import is_a_writers, write_json, write_text
from partsig.modalities import registry
from partsig.runs.facts import read_facts
from partsig.seeds import OldSeed

RUNS, STORES = Path("runs"), Path("data/store")
STREAMS = "streams"  # the version of partsig.seeds that a run draws by
SPLIT = "split.json"  # whose labels a fine-tuned run was given, by role
# The first two lines and the last one of a ``run.json``, within so many bytes of its ends.
FIRST = re.compile(rb'\{\n  "kind": "(\w+)",\n  "state": "(\w+)",\n')
LAST = re.compile(rb',\n  "finished": "([\dT:+-]+)"\n\}\n\Z')
ENDS = 256
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "wfdb")


def environment() -> dict[str, str]:
    """Return the versions a result depends on."""
    versions = {"partsig": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(
    path: Path,
    kind: str,
    settings: object,
    facts: Mapping[str, object],
    free: Sequence[str] = (),
    over: bool = False,
) -> dict:
    """Start or continue a run directory and return its ``run.json``.

    ``facts`` are what else a run must not change between its parts (store, split, origin). A run
    that is ``over`` is left as it is; one that only says so has lost its weights, and goes on.
    Raises CheckpointError when the directory holds a run of another kind or with other settings,
    naming the keys; those in ``free`` may differ (where a store lies, but not what is in it).
    """
    wanted = {"config": config.to_dict(settings), **facts}
    file = path / "run.json"
    if file.is_file():
        before = _completed(read(path), wanted)
        if before["kind"] != kind:
            raise CheckpointError(
                f"{path} holds a {before['kind']} run, not a {kind} run; choose another --run."
            )
        known = {key: before.get(key) for key in wanted}
        # A setting that an older partsig did not have counts as its default.
        with suppress(ConfigError, TypeError):
            known["config"] = config.to_dict(config.build(type(settings), before["config"]))
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
        if over:
            return before
        if before["state"] == "finished":
            print(f"{path} has lost the weights it ended with: they are made again", flush=True)
        record = before | wanted | {"state": "running"}
        record.pop("finished", None)  # `finish` writes it last
    else:
        if path.exists() and not (path.is_dir() and all(map(is_a_writers, path.iterdir()))):
            raise DataError(f"{path} exists and is no run; choose another --run.")
        record = {"kind": kind, "state": "running", "started": now(), **wanted}
    record["environment"] = environment()
    write_json(file, record)
    write_text(path / "config.yaml", f"verb: {kind}\n" + config.to_yaml(settings))
    return json.loads(json.dumps(record))


def seed_as_begun(path: Path, seed: int) -> int:
    """Return the seed of a run that may be there: what partsig 0.1 began goes on as it drew."""
    if (path / "run.json").is_file() and STREAMS not in read(path):
        return OldSeed(seed)
    return seed


def streams_of(seed: int) -> dict[str, int]:
    """Return what a run says of its random streams; nothing of those that do not say it."""
    return {} if isinstance(seed, OldSeed) else {STREAMS: seeds.VERSION}


def _completed(facts: dict, wanted: Mapping) -> dict:
    """Return what an older partsig wrote with what it left unsaid, as far as it is asked for."""
    modality = registry.of(facts)
    unsaid: dict[str, object] = {"modality": modality.name, "task": modality.usual_task}
    unsaid["pretraining_subjects"] = []  # of images none are named
    # What its store held is not known, nor whose weights it started from.
    unsaid |= {key: wanted.get(key) for key in ("items", "weights_licence", "weights_sha256")}
    labels = labels_of(facts) or modality.usual_labels
    if labels is not None:
        unsaid["labels"] = labels.as_facts()
    return {key: value for key, value in unsaid.items() if key in wanted} | facts


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
    record = read_facts(file)
    theirs = record["kind"]
    if kind is not None and theirs != kind:
        raise CheckpointError(f"{path} is a {theirs} run; a {kind} run is needed here.")
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


def last(kind: str, where: Path = RUNS) -> Path:
    """Return the run of this kind that finished last; raise CheckpointError when there is none."""
    found = []
    for file in where.glob("*/run.json"):
        try:
            theirs, finished = _outline(file)
        except (CheckpointError, OSError, KeyError) as error:
            print(f"passed over {file.parent}: {error}", file=sys.stderr)
            continue
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
    with regular.open_bytes(file) as handle:
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
