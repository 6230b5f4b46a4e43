"""Where an evaluation of a run on a store lies."""

import hashlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from partsig.data.store import index_digest
from partsig.errors import DataError
from partsig.files import can_be_written, check_no_link, check_replaceable, read_json
from partsig.runs.run import Run


def evaluation_of(run: Run, store: Path) -> tuple[Path, bool]:
    """Return where a run's evaluation on ``store`` goes, and whether that is another store.

    The run's own store may have been moved: then nothing is left at the place that the run knows,
    and ``store`` lists the very same things. Another store's evaluation has that store's name, and
    a number where the name is taken.
    """
    moved = not run.store.exists() and run.facts.get("index_sha256") == index_digest(store)
    if moved or run.store.resolve() == store.resolve():
        return run.path / "evaluation", False
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    folders = (run.path / f"evaluation-{store.name}{ending}" for ending in endings)
    return next(folder for folder in folders if not _is_of_another(folder, store)), True


def check_folder(folder: Path) -> None:
    """Raise DataError where an evaluation cannot be written, or replaces another's file."""
    check_no_link(folder)
    for file in ("predictions.csv", "metrics.json"):
        check_replaceable(folder / file, b",truth,prediction,", folder / "predictions.csv")
    if not can_be_written(folder):
        raise DataError(f"cannot write into {folder}; choose another place.")


def own_or_below(own: Path, shared: Path) -> Path:
    """Return a run's own folder, or that of its name below another where it is to be read only."""
    return own if can_be_written(own) else shared / own.parent.resolve().name


def place_digest(store: Path) -> str:
    """Return what tells that a store lies where it did, and does not tell where: a SHA-256."""
    return hashlib.sha256(os.fsencode(store.resolve())).hexdigest()


def is_of(measured: Mapping, store: Path) -> bool:
    """Tell whether an evaluation was made on the store at this place.

    partsig 0.1 wrote the place itself.
    """
    if "store_place_sha256" in measured:
        return measured["store_place_sha256"] == place_digest(store)
    return Path(measured["store"]).resolve() == store.resolve()


def _is_of_another(evaluation: Path, store: Path) -> bool:
    """Whether a folder holds an evaluation, and on another store."""
    try:
        found = read_json(evaluation / "metrics.json")
        return not is_of(found, store)
    except (OSError, ValueError, KeyError, TypeError):
        return False
