"""Ids in the place of names, and the table of both, which is kept apart from what is passed on.

An id is a hash (HMAC-SHA256) of the name under a random key, which stands in the table alone: so
every machine that has the table gives a name the same id, in whatever order names come, and who has
not the table can neither find a name nor try one.
"""

import base64
import csv
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from partsig import regular
from partsig.cells import as_table, read_table
from partsig.data import addresses
from partsig.errors import ConfigError, DataError
from partsig.files import atomic

COLUMNS = ("kind", "name", "pseudonym", "told")
KEY, SUBJECT, RECORDING = "key", "subject", "recording"
PREFIX = {SUBJECT: "sub", RECORDING: "rec"}
KEY_BYTES, LETTERS = 32, 16  # 80 bits: no two of a billion names share one
# The table's owner alone reads it.
OWN = 0o600


@dataclass(frozen=True, kw_only=True)
class Pseudonyms:
    """The key that ids are made by; it goes to whoever does the work, and into no store."""

    key: bytes = field(repr=False)

    def recording(self, name: str) -> str:
        """Return the id of a recording.

        >>> Pseudonyms(key=b"a").recording("Smith"), Pseudonyms(key=b"b").recording("Smith")
        ('rec-esvegdrz4xihbygc', 'rec-x6pv3x7rzgfsvrip')
        """
        return self._id(RECORDING, name)

    def subject(self, name: str) -> str:
        """Return the id of a subject."""
        return self._id(SUBJECT, name)

    def source(self, fingerprint: str) -> str:
        """Return what tells the files of a recording, and cannot be made from the files alone."""
        return self.digest("source", fingerprint)

    def digest(self, what: str, text: str) -> str:
        """Return 16 hex digits that are the same for the same text, and tell nothing of it."""
        return self._hash(what, text).hex()[:16]

    def _id(self, kind: str, name: str) -> str:
        letters = base64.b32encode(self._hash(kind, name)).decode().lower()
        return f"{PREFIX[kind]}-{letters[:LETTERS]}"

    def _hash(self, kind: str, text: str) -> bytes:
        told = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, told, hashlib.sha256).digest()


@dataclass(kw_only=True)
class PseudonymTable:
    """A file of pseudonyms: the key, and a row for each name with what was said in reading it.

    What is added is written by :meth:`keep`, together with what others have added meanwhile.
    """

    path: Path
    pseudonyms: Pseudonyms
    added: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, store: Path) -> "PseudonymTable":
        """Return the table in a file, which is begun where it is not there.

        Raises ConfigError for a file within the store that the names are kept out of, DataError
        for one that is something else.
        """
        if addresses.is_url(path):
            raise ConfigError("--pseudonyms names a file of this machine, no address.")
        path = Path(path)
        if path.resolve().is_relative_to(store.resolve()):
            raise ConfigError(
                f"--pseudonyms {path} lies in the store, which is passed on: name a file elsewhere."
            )
        with _alone(path):
            if not os.path.lexists(path):
                _write(path, secrets.token_bytes(KEY_BYTES), {})
            key, _ = _read(path)
        return cls(path=path, pseudonyms=Pseudonyms(key=key))

    def recording(self, name: str) -> str:
        """Return the id of a recording, which is noted."""
        self.added.setdefault((RECORDING, name), "")
        return self.pseudonyms.recording(name)

    def note(self, told: Mapping[str, str]) -> None:
        """Note the ``recording`` and the ``subject`` of a row, and what was ``said`` of it."""
        self.added[RECORDING, told["recording"]] = told["said"]
        self.added.setdefault((SUBJECT, told["subject"]), "")

    def keep(self) -> None:
        """Write what was added; names that stand there already are kept."""
        with _alone(self.path):
            key, names = _read(self.path)
            if key != self.pseudonyms.key:
                raise DataError(f"{self.path} was replaced by another table meanwhile.")
            added = {name: told or names.get(name, "") for name, told in self.added.items()}
            _write(self.path, key, names | added)

    def said(self) -> dict[str, str]:
        """Return what was said in reading recordings, by their ids, with their own names."""
        with _alone(self.path):
            _, names = _read(self.path)
        return {
            self.pseudonyms.recording(name): said
            for (kind, name), said in names.items()
            if kind == RECORDING
        }


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a table: several processes and machines may add to it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name[:200]}.lock"), is_singleton=False):
            yield
    except OSError as error:
        raise DataError(f"--pseudonyms {path}: {error.strerror}; name another file.") from error


def _read(path: Path) -> tuple[bytes, dict[tuple[str, str], str]]:
    """Return the key of a table, and what was said of each name."""
    try:
        with regular.open_text(path, newline="", errors="surrogateescape") as handle:
            columns, *rows = read_table(handle)
        if tuple(columns) != COLUMNS or rows[0][0] != KEY:
            raise ValueError
        key = bytes.fromhex(rows[0][2])
        names = {(kind, name): told for kind, name, _, told in rows[1:]}
    except (ValueError, IndexError, csv.Error):
        raise DataError(
            f"--pseudonyms {path} is there already and is no table of pseudonyms: it is kept; name "
            "another file."
        ) from None
    return key, names


def _write(path: Path, key: bytes, names: Mapping[tuple[str, str], str]) -> None:
    given = Pseudonyms(key=key)
    ids = {RECORDING: given.recording, SUBJECT: given.subject}
    rows = [[kind, name, ids[kind](name), told] for (kind, name), told in sorted(names.items())]
    table = as_table(COLUMNS, [[KEY, "", key.hex(), ""], *rows])
    with atomic(path) as temporary:
        temporary.chmod(OWN)  # before there is anything in it
        temporary.write_text(table, encoding="utf-8", errors="surrogateescape", newline="")
