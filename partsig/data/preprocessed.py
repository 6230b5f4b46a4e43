"""What ``partsig preprocess`` is asked for and what it returns, whatever it reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PreprocessRequest:
    """A store that is to be written; :func:`partsig.preprocess` says what each field means."""

    source: str
    raw: str | Path
    store: str | Path
    config: str | Path | None = None
    overrides: Mapping[str, object] | Iterable[str] = ()
    jobs: int = -1
    scheduler: str | None = None
    shard: str | None = None
    merge: bool = False
    allow_http: bool = False
    pseudonyms: str | Path | None = None


@dataclass(frozen=True, kw_only=True)
class PreprocessResult:
    """Where the store is, its counts (per stage, or images per role), and what was not read.

    ``counted`` is what the counts are of, ``item`` what is read one by one.
    """

    path: Path
    n_recordings: int
    counts: dict[str, int]
    failed: dict[str, str]
    notes: list[str]
    counted: str = "epochs"
    item: str = "recordings"
