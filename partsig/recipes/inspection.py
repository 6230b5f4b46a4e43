"""What an inspection is asked and gives back, and which there are."""

from dataclasses import dataclass
from pathlib import Path

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
