"""``partsig download``: published recordings in, a folder for ``partsig preprocess`` out."""

import re
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from partsig.data import addresses, fetch
from partsig.data.transfer import Transfer, readable
from partsig.errors import ConfigError, DataError, DiskFullError, check_range
from partsig.files import remove_leftovers
from partsig.modalities import registry

MAX_JOBS = 8  # more would be impolite to a public server


@dataclass(frozen=True, kw_only=True)
class DownloadResult:
    """Where the records are, how many of those asked for are whole, what was fetched, what failed.

    ``n_bytes`` came over the network in this call; ``failed`` is {record or file: reason};
    ``notes`` are sentences on what the checksums are held against, where that is not known.
    """

    path: Path
    n_records: int
    n_bytes: int
    failed: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def received(self) -> str:
        """What came over the network, as text."""
        return readable(self.n_bytes)


def download(
    source: str = "physionet2018",
    raw: str | Path | None = None,
    *,
    records: str | Path | Iterable[str] | None = None,
    mirror: str | None = None,
    jobs: int = 4,
    allow_http: bool = False,
    trust_mirror: bool = False,
) -> DownloadResult:
    """Fetch published records to ``raw`` (default ``data/raw/SOURCE``) and return what is there.

    ``records``: names, patterns such as ``tr03-*`` (a list, or commas between them), or a file of
    names; none given fetches all 1,983. A record's 13 channels are interleaved in one file, so
    that EEG alone cannot be fetched: 134 MB per record, 266 GB in all. ``mirror`` is the address
    that holds ``training/`` and ``test/``; ``jobs`` (1 to 8) records are fetched at once.

    Every file is held against the published checksums, whose digest partsig knows, so that a mirror
    may be anybody's; lists of checksums that it does not know are believed from PhysioNet's own
    address, from a ``mirror`` only with ``trust_mirror``. ``allow_http``: it may be of http://. The
    same call again continues an interrupted one, within files too, and reads nothing of what was
    verified before. A record that cannot be had is in ``failed`` and the others are fetched.

    Raises ConfigError for a record that does not exist, before any is fetched, and for a mirror
    that was not allowed; DataError when the lists of checksums cannot be had or believed;
    DiskFullError when there is less room than the records need.
    """
    index = registry.published(source)
    check_range("--jobs", jobs, 1, MAX_JOBS)
    index.check_file(records)
    if mirror is not None and not re.match(r"https?://[^/\s]", mirror):
        raise ConfigError(
            f"--mirror is {addresses.shown(mirror)!r}; it must be an address that begins with "
            "https:// or http://."
        )
    if mirror is not None:
        addresses.check(mirror, "--mirror", allow_http)
    raw = Path(raw or Path("data/raw") / source)
    base = mirror or index.BASE
    trusted = trust_mirror or base.rstrip("/") == index.BASE.rstrip("/")
    stop = threading.Event()
    with fetch.alone(raw):
        pool = ThreadPoolExecutor(jobs)
        transfer = Transfer(
            raw=raw,
            base=base,
            pool=pool,
            stop=stop,
            usual_bytes=index.usual_bytes,
            most_bytes=index.MOST_BYTES,
        )
        try:
            return _run(transfer, index, records, trusted)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _run(
    transfer: Transfer,
    index: ModuleType,
    wanted: str | Path | Iterable[str] | None,
    trusted: bool,
) -> DownloadResult:
    """Fetch the wanted records, all where None."""
    raw, base = transfer.raw, transfer.base
    remove_leftovers(raw)
    failed: dict[str, str] = {}
    with fetch.session() as session:
        # At first contact the user waits and sees nothing: fewer tries.
        get = partial(fetch.resume, session=session, pauses=fetch.PAUSES_S[:2])
        known, notes = index.records_of(raw, base, get, trusted)
        chosen = index.choose(known, wanted)
        name, parse = index.DEMOGRAPHICS, index.parse_demographics
        try:
            pinned = None if trusted else index.PINNED[name]
            fetch.fetch_text(raw, base, name, parse, get, pinned)
        except DiskFullError:
            raise
        except DataError as error:
            failed[name] = str(error)
    missing = transfer.missing({record: known[record] for record in chosen})
    not_fetched, received = transfer.fetch(missing)
    failed |= not_fetched
    n_records = sum(record not in failed for record in chosen)
    return DownloadResult(
        path=raw, n_records=n_records, n_bytes=received, failed=failed, notes=tuple(notes)
    )
