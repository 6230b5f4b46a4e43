"""The copy of a remote folder on this machine: which of its files were fetched, and what they held.

Beside the copy ``NAME`` lies ``.NAME.copied`` with a record of every file that was fetched. Only
what has a record is replaced or deleted; anything else there is somebody's.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from partsig import regular
from partsig.data.addresses import shown
from partsig.errors import DataError
from partsig.files import read_json, write_json


def array_sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of the numbers in a ``.npy`` file, as they lie there; None of another."""
    try:
        with regular.open_bytes(path) as handle:
            version = np.lib.format.read_magic(handle)
            if version == (1, 0):
                np.lib.format.read_array_header_1_0(handle)
            else:
                np.lib.format.read_array_header_2_0(handle)
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Copy:
    """The copy of the folder at ``url`` in a local ``folder``."""

    url: str = field(repr=False)  # with what it holds of passwords
    folder: Path

    @property
    def _records(self) -> Path:
        return self.folder.parent / f".{self.folder.name}.copied"

    def begin(self) -> None:
        """Make the folder ours, or find that it is; raise DataError where it is somebody's."""
        if self._records.is_dir():
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DataError(
                f"{self.folder} is where {shown(self.url)} is copied to, and it has files that "
                "were not copied from there: move it away."
            )
        self._records.mkdir(parents=True, exist_ok=True)

    def _record(self, name: str) -> Path:
        return self._records / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json"

    def known(self, name: str) -> dict:
        """Return the record of a file that is as it was fetched; {} of any other."""
        path = self.folder / name
        try:
            record = read_json(self._record(name))
            about = path.lstat()
        except (OSError, ValueError):
            return {}
        same = isinstance(record, dict) and record.get("stamp") == [
            about.st_size,
            about.st_mtime_ns,
        ]
        return record if same else {}

    def is_ours(self, name: str) -> bool:
        """Tell whether a file was fetched, or is not there at all."""
        path = self.folder / name
        return bool(self.known(name)) or not (path.exists() or path.is_symlink())

    def note(self, name: str, *, etag: str | None, array: str | None = None) -> None:
        """Remember a file that was fetched: its ETag there, where it has one.

        ``array`` is the SHA-256 of its numbers that an index tells, and that they were found to
        have.
        """
        about = (self.folder / name).stat()
        stamp = [about.st_size, about.st_mtime_ns]
        record = {"name": name, "stamp": stamp, "etag": etag, "array_sha256": array}
        write_json(self._record(name), record)

    def remove(self, name: str) -> None:
        """Delete a file if it was fetched and is unchanged since."""
        if self.known(name):
            (self.folder / name).unlink(missing_ok=True)
            self._record(name).unlink(missing_ok=True)
