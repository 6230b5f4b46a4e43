"""The index of a store of signals while it is filled, row by row, as recordings are finished."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from partsig.data.signals.deidentified import Names
from partsig.data.signals.parallel import Storage
from partsig.data.signals.store_index import SPLIT, file_names, index_name, write_index
from partsig.data.store import META, OK
from partsig.progress import bar

# The index is rewritten at most this often, and so seldom that it takes at most this share of the
# time, since it names every recording; and at the end.
INDEX_EVERY_S, INDEX_SHARE = 2.0, 0.05


@dataclass(frozen=True, kw_only=True)
class Index:
    """The rows of a store's index, or of a shard's, while it is filled."""

    path: Path
    storage: Storage
    shard: str
    names: Names
    rows: dict[str, dict] = field(default_factory=dict)

    def is_written(self, row: Mapping[str, object]) -> bool:
        """Tell whether a recording was read, and its files are there."""
        names = file_names(row["recording"])
        return row["status"] == OK and all(self.storage.has(self.path, n) for n in names)

    def forget(self, names: Iterable[str]) -> None:
        """Leave out what is made again: its files are of two sources for a moment."""
        if [self.rows.pop(name) for name in names if name in self.rows]:
            self.keep()

    def keep(self) -> None:
        """Write the index, and send it to where the store belongs."""
        self.names.keep()
        write_index(self.path, self.rows.values(), self.shard)
        self.storage.send(self.path, [META, index_name(self.shard)])
        if (self.path / SPLIT).is_file():
            self.storage.send(self.path, [SPLIT])

    def fill(self, rows: Iterable[dict], *, n_left: int, n_total: int) -> None:
        """Take rows as they are finished, and keep the index now and then and at the end."""
        with bar(
            unit="recording", desc="preprocess", total=n_total, initial=n_total - n_left
        ) as finished:

            def take(row: dict) -> None:
                self.names.note(row)
                self.rows[row["recording"]] = row
                finished.update()

            take_and_keep(rows, take, self.keep)


def take_and_keep(
    rows: Iterable[dict], take: Callable[[dict], object], keep: Callable[[], object]
) -> None:
    """Take rows as they are finished, and keep what there is now and then, and at the end."""
    written, took = time.monotonic(), 0.0
    try:
        for row in rows:
            take(row)
            begun = time.monotonic()
            if begun - written > max(INDEX_EVERY_S, took / INDEX_SHARE):
                keep()
                written = time.monotonic()
                took = written - begun
    finally:
        keep()
