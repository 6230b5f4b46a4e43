"""What an inspection is asked and gives back, and which there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from partsig.files import check_no_link, check_replaceable, has_keys, write_json

# What looks into a run, by the name that --what gives it.
INSPECTIONS = {
    "translations": "partsig.recipes.part_inspection:inspect_translations",
    "compose": "partsig.recipes.composition_inspection:inspect_composition",
    "parts": "partsig.recipes.parts_inspection:inspect_parts",
    "retrieval": "partsig.recipes.retrieval_inspection:inspect_retrieval",
}
# Windows beyond which no figure can be read.
MOST_DRAWN = 24


@dataclass(frozen=True, kw_only=True)
class InspectionRequest:
    """Which run is looked into, on which store (None: its own), and where pictures go."""

    run: Path
    store: str | Path | None
    output: Path
    n: int
    seed: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Where an inspection lies, its figures of merit, its pictures, and a few lines on it."""

    path: Path
    metrics: dict
    figures: list[Path]
    summary: list[str]


def write_metrics(
    folder: Path, name: str, metrics: dict, keys: Iterable[str], others: Iterable[str]
) -> None:
    """Write what an inspection found, before the ``others`` whose files lie beside it.

    It tells by its ``keys`` whose these are: DataError where one is there that is not ours.
    """
    check_no_link(folder)
    for file in (name, *others):
        check_replaceable(folder / file, has_keys(*keys), folder / name)
    write_json(folder / name, metrics)
