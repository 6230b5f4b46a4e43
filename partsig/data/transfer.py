"""Transfer of many records: which files are there and right, what is to come, and fetching it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from partsig.data import fetch
from partsig.data.addresses import below
from partsig.errors import DataError, DiskFullError
from partsig.files import read_json, write_json
from partsig.progress import bar

# {record: {file: hash}}, a file as "training/REC/REC.hea", a hash as "sha1:…".
Files = dict[str, dict[str, str]]

# The server is asked for the sizes of at most so many records; of more, the average is taken.
ASKED_RECORDS = 25
VERIFIED = ".verified.json"  # in the raw folder: what was found right, and when
# It is written at most this often, and at the end.
REMEMBER_EVERY_S = 5.0


class _StoppedError(Exception):
    """The transfer is over before its end: another thread met an error, or the user did."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Records on their way from ``base`` to the folder ``raw``.

    ``pool`` checks and fetches records side by side; ``stop`` ends the work of its threads.
    ``usual_bytes`` is about how large a file is, by its name; none has over ``most_bytes``.
    ``verified`` is {file: stamp} of the
    files found right, which is remembered in the folder.
    """

    raw: Path
    base: str = field(repr=False)
    pool: Executor
    stop: threading.Event
    usual_bytes: Callable[[str], int]
    most_bytes: int
    verified: dict[str, list] = field(default_factory=dict)

    def missing(self, records: Files) -> Files:
        """Return the files that are not there or wrong, of the records that lack any."""
        self.verified.update(_read_verified(self.raw))
        known = dict(self.verified)
        missing: Files = {}
        with bar(unit="record", desc="check", total=len(records), delay_s=2.0) as checked:
            for record, files in self._each(records, partial(_inspect, raw=self.raw, seen=known)):
                missing[record] = files
                checked.update()
        # In the order of the records, not that in which threads were done.
        return {record: missing[record] for record in records if missing[record]}

    def fetch(self, records: Files) -> tuple[dict[str, str], int]:
        """Fetch files; return {record: reason} of those that failed, and the bytes that came.

        Raises DiskFullError, before anything is fetched, where there is less room than they need.
        """
        need = self._bytes_needed(records)
        _check_space(self.raw, len(records), need)
        failed: dict[str, str] = {}
        with bar(unit="B", desc="download", total=need, hidden=not records) as fetched:
            lock, received = threading.Lock(), 0

            def progress(n_bytes: int) -> None:
                nonlocal received
                if self.stop.is_set():
                    raise _StoppedError
                with lock:
                    received += n_bytes
                    fetched.update(n_bytes)

            def sleep(seconds: float) -> None:
                if self.stop.wait(seconds):
                    raise _StoppedError

            get = partial(fetch.resume, progress=progress, sleep=sleep, limit=self.most_bytes)
            for record, reason in self._each(records, partial(self._fetch, get=get)):
                if reason:
                    failed[record] = reason
        return failed, received

    def _each(self, records: Files, work: Callable) -> Iterator[tuple[str, object]]:
        """Yield each record with what ``work(files)`` returned; its stamps are kept on disk."""
        futures = {self.pool.submit(work, files): record for record, files in records.items()}
        written, new = time.monotonic(), False
        try:
            for future in as_completed(futures):
                result, stamps = future.result()
                self.verified.update(stamps)
                new = new or bool(stamps)
                if new and time.monotonic() - written > REMEMBER_EVERY_S:
                    write_json(self.raw / VERIFIED, self.verified)
                    written, new = time.monotonic(), False
                yield futures[future], result
        finally:
            if new:
                write_json(self.raw / VERIFIED, self.verified)

    def _fetch(self, files: Mapping[str, str], get: Callable) -> tuple[str | None, dict]:
        """Fetch a record's files; return why that failed, or None, and stamps of the fetched."""
        stamps = {}
        try:
            with fetch.session() as session:
                downloader = partial(get, session=session)
                for name, known_hash in files.items():
                    fetch.fetch_file(
                        below(self.base, name), self.raw / name, known_hash, downloader
                    )
                    stamps[name] = fetch.stamp(self.raw / name, known_hash)
        except DiskFullError:
            raise
        except DataError as error:
            return str(error), stamps
        return None, stamps

    def _bytes_needed(self, records: Files) -> int:
        """Return how many bytes are to come: as the server says for a few records, else about."""

        def ask(files: Mapping[str, str]) -> list[int | None]:
            if len(records) > ASKED_RECORDS:
                return [None] * len(files)
            with fetch.session() as session:
                return [fetch.head(below(self.base, name), session) for name in files]

        need = 0
        sizes_of = self.pool.map(ask, records.values())
        for files, sizes in zip(records.values(), sizes_of, strict=True):
            for name, size in zip(files, sizes, strict=True):
                if size is None or size > self.most_bytes:  # that one will not be fetched
                    size = self.usual_bytes(name)
                need += max(size - fetch.size_of(fetch.part_of(self.raw / name)), 0)
        return need


def _inspect(files: Mapping[str, str], raw: Path, seen: Mapping[str, list]) -> tuple[dict, dict]:
    """Return the files that are missing or wrong, and the stamps of those found right only now."""
    missing, stamps = {}, {}
    for name, known_hash in files.items():
        now = fetch.stamp(raw / name, known_hash)
        if now is not None and now == seen.get(name):
            continue
        with fetch.on_disk(raw / name):
            if fetch.matches(raw / name, known_hash):
                stamps[name] = now
            else:
                missing[name] = known_hash
    return missing, stamps


def _read_verified(raw: Path) -> dict[str, list]:
    """Return {file: stamp} of the files found right before; {} when nothing is remembered."""
    try:
        return dict(read_json(raw / VERIFIED))
    except (OSError, ValueError, TypeError):
        return {}


def _check_space(raw: Path, n_records: int, need: int) -> None:
    free = shutil.disk_usage(raw).free
    if need > free:
        raise DiskFullError(
            f"{n_records:,} records need {readable(need)} more and there are {readable(free)} free "
            f"at {raw}: free some space, pass another --raw, or fewer --records."
        )


def readable(n_bytes: int) -> str:
    """Return bytes for people, in powers of 1,000.

    >>> readable(266_000_000_000)
    '266.0 GB'
    """
    size, unit = (n_bytes / 1e9, "GB") if n_bytes >= 1e9 else (n_bytes / 1e6, "MB")
    return f"{size:,.1f} {unit}"
