"""``partsig download``: published recordings in, a folder for ``partsig preprocess`` out."""

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch
from tqdm import tqdm

from partsig.data import fetch
from partsig.data.signals.readers import physionet2018_index
from partsig.errors import ConfigError, DataError, DiskFullError, check_option, check_range
from partsig.files import remove_leftovers, write_json

# {record: {file: hash}}, a file as "training/REC/REC.hea", a hash as "sha1:…".
Files = dict[str, dict[str, str]]

SOURCES = ("physionet2018",)
MAX_JOBS = 8  # more would be impolite to a public server
# The server is asked for the sizes of at most so many records; of more, the average is taken.
ASKED_RECORDS = 25
VERIFIED = ".verified.json"  # in the raw folder: what was found right, and when
# It is written at most this often, and at the end.
REMEMBER_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class DownloadResult:
    """Where the records are, how many of those asked for are whole, what was fetched, what failed.

    ``n_bytes`` came over the network in this call; ``failed`` is {record or file: reason}.
    """

    path: Path
    n_records: int
    n_bytes: int
    failed: dict[str, str]


class _StoppedError(Exception):
    """The transfer is over before its end: another thread met an error, or the user did."""


def download(
    source: str = "physionet2018",
    raw: str | Path | None = None,
    *,
    records: str | Path | Iterable[str] | None = None,
    mirror: str | None = None,
    jobs: int = 4,
) -> DownloadResult:
    """Fetch published records to ``raw`` (default ``data/raw/SOURCE``) and return what is there.

    ``records``: names, patterns such as ``tr03-*`` (a list, or commas between them), or a file of
    names; none given fetches all 1,983. A record's 13 channels are interleaved in one file, so
    that EEG alone cannot be fetched: 134 MB per record, 266 GB in all. ``mirror`` is the address
    that holds ``training/`` and ``test/``; ``jobs`` (1 to 8) records are fetched at once.

    Every file is held against the published checksums. The same call again continues an interrupted
    one, within files too, and reads nothing of what was verified before. A record that
    cannot be had is in ``failed`` and the others are fetched.

    Raises ConfigError for a record that does not exist, before any is fetched; DataError when the
    lists of checksums cannot be had; DiskFullError when there is less room than the records need.
    """
    check_option("source", source, SOURCES)
    check_range("--jobs", jobs, 1, MAX_JOBS)
    physionet2018_index.check_file(records)
    if mirror is not None and not re.match(r"https?://[^/\s]", mirror):
        raise ConfigError(
            f"--mirror is {mirror!r}; it must be an address that begins with https:// or http://."
        )
    raw = Path(raw or Path("data/raw") / source)
    base = (mirror or physionet2018_index.BASE).rstrip("/") + "/"
    said = pooch.get_logger().level
    pooch.get_logger().setLevel("WARNING")  # its announcements would cut through the progress bar
    stop = threading.Event()
    with fetch.alone(raw):
        pool = ThreadPoolExecutor(jobs)
        try:
            return _run(raw, base, records, pool, stop)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            pooch.get_logger().setLevel(said)


def _run(
    raw: Path,
    base: str,
    wanted: str | Path | Iterable[str] | None,
    pool: ThreadPoolExecutor,
    stop: threading.Event,
) -> DownloadResult:
    remove_leftovers(raw)
    failed: dict[str, str] = {}
    with fetch.session() as session:
        # At first contact the user waits and sees nothing: fewer tries.
        get = partial(fetch.resume, session=session, pauses=fetch.PAUSES_S[:2])
        known = physionet2018_index.records_of(raw, base, get)
        chosen = physionet2018_index.choose(known, wanted)
        name, parse = physionet2018_index.DEMOGRAPHICS, physionet2018_index.parse_demographics
        try:
            fetch.fetch_text(raw, base, name, parse, get)
        except DiskFullError:
            raise
        except DataError as error:
            failed[name] = str(error)
    seen = _verified(raw)
    todo = {record: known[record] for record in chosen}
    inspect = partial(_inspect, raw=raw, seen=dict(seen))
    with _bar("check", "record", len(chosen), delay=2.0) as bar:
        for record, missing in _each(todo, inspect, pool, raw, seen):
            todo[record] = missing
            bar.update()
    todo = {record: missing for record, missing in todo.items() if missing}
    need = _bytes_needed(raw, base, todo, pool)
    _check_space(raw, len(todo), need)
    with _bar("download", "B", need, unit_scale=True, disable=not todo) as bar:
        lock, received = threading.Lock(), 0

        def progress(n_bytes: int) -> None:
            nonlocal received
            if stop.is_set():
                raise _StoppedError
            with lock:
                received += n_bytes
                bar.update(n_bytes)

        def sleep(seconds: float) -> None:
            if stop.wait(seconds):
                raise _StoppedError

        work = partial(_fetch, raw=raw, base=base, progress=progress, sleep=sleep)
        for record, reason in _each(todo, work, pool, raw, seen):
            if reason:
                failed[record] = reason
    n_records = sum(record not in failed for record in chosen)
    return DownloadResult(path=raw, n_records=n_records, n_bytes=received, failed=failed)


def _bar(what: str, unit: str, total: int, **more: object) -> tqdm:
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=what, unit=unit, mininterval=quiet, **more)


def _each(
    items: Files, work: Callable, pool: ThreadPoolExecutor, raw: Path, seen: dict[str, list]
) -> Iterator[tuple[str, object]]:
    """Yield each record with what ``work(files)`` found; its stamps are remembered on disk."""
    futures = {pool.submit(work, files): record for record, files in items.items()}
    written, new = time.monotonic(), False
    try:
        for future in as_completed(futures):
            result, stamps = future.result()
            seen |= stamps
            new = new or bool(stamps)
            if new and time.monotonic() - written > REMEMBER_EVERY_S:
                write_json(raw / VERIFIED, seen)
                written, new = time.monotonic(), False
            yield futures[future], result
    finally:
        if new:
            write_json(raw / VERIFIED, seen)


def _verified(raw: Path) -> dict[str, list]:
    """Return {file: stamp} of the files found right before; {} when nothing is remembered."""
    try:
        return dict(json.loads((raw / VERIFIED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _inspect(files: dict[str, str], raw: Path, seen: dict[str, list]) -> tuple[dict, dict]:
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


def _fetch(
    files: dict[str, str], raw: Path, base: str, progress: Callable, sleep: Callable
) -> tuple[str | None, dict]:
    """Fetch a record's files; return why that failed, or None, and the stamps of those fetched."""
    stamps = {}
    try:
        with fetch.session() as session:
            get = partial(fetch.resume, session=session, progress=progress, sleep=sleep)
            for name, known_hash in files.items():
                fetch.fetch_file(base + name, raw / name, known_hash, get)
                stamps[name] = fetch.stamp(raw / name, known_hash)
    except DiskFullError:
        raise
    except DataError as error:
        return str(error), stamps
    return None, stamps


def _bytes_needed(raw: Path, base: str, todo: Files, pool: ThreadPoolExecutor) -> int:
    """Return how many bytes are still to come: as the server says for a few records, else about."""

    def ask(files: dict[str, str]) -> list[int | None]:
        if len(todo) > ASKED_RECORDS:
            return [None] * len(files)
        with fetch.session() as session:
            return [fetch.head(base + name, session) for name in files]

    need = 0
    for files, sizes in zip(todo.values(), pool.map(ask, todo.values()), strict=True):
        for name, size in zip(files, sizes, strict=True):
            if size is None:
                signal = name.endswith(".mat") and not name.endswith("-arousal.mat")
                size = physionet2018_index.RECORD_BYTES if signal else 0
            need += max(size - fetch.size_of(fetch.part_of(raw / name)), 0)
    return need


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
