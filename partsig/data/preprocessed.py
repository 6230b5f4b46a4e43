"""What ``partsig preprocess`` returns, whatever it read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PreprocessResult:
    """Where the store is, its counts (per stage, or images per role), and what was not read."""

    path: Path
    n_recordings: int
    counts: dict[str, int]
    failed: dict[str, str]
    notes: list[str]
