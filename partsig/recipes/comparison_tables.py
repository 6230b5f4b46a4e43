"""What a comparison is asked and gives back, and which tables of runs there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# What holds evaluated runs side by side, by the name that --task gives it.
TABLES = {
    "methods": "partsig.recipes.method_comparison:compare_methods",
    "parts": "partsig.recipes.part_comparison:compare_parts",
}
USUAL = "methods"


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """Which runs are compared (directories, or ``LABEL=DIRECTORY``), each evaluated already.

    ``against`` is what differences are counted from, None: as the table has it; ``output`` the
    folder of the files, None: the usual one; bootstraps are drawn by ``seed``.
    """

    run: Sequence[str | Path]
    against: str | None
    output: Path | None
    seed: int


class ComparisonTable(Protocol):
    """A table in Markdown, the folder that it was written into, and its figure."""

    @property
    def markdown(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def figure(self) -> Path: ...
