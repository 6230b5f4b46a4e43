"""Where preprocessing is done (threads, Dask) and where its files are (folders, object stores)."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import joblib

from partsig.data import addresses, remote
from partsig.data.signals.readers import edf_recordings
from partsig.data.signals.store_index import is_shard
from partsig.errors import ConfigError, DataError

# How long a Dask scheduler and its workers are waited for.
CONNECT_S = 30


def shard_name(text: str | None) -> str:
    """Return ``3-of-16`` for ``3/16``, and nothing for None.

    >>> shard_name("3/16")
    '3-of-16'
    """
    if text is None:
        return ""
    first, _, total = text.partition("/")
    if not is_shard(first, total):
        raise ConfigError(f"--shard is {text[:40]!r}; it must be such as 3/16, from 1/16 to 16/16.")
    return f"{int(first)}-of-{int(total)}"


@contextmanager
def parallel_backend(jobs: int, scheduler: str | None) -> Iterator[joblib.Parallel]:
    """Yield what runs the work: threads here, or the workers of a Dask scheduler."""
    if scheduler is None:
        # Threads: the transforms, the hashing and the writing leave the interpreter alone, and
        # nothing has to be started or imported anew.
        yield joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
        return
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("--scheduler needs Dask: pip install 'partsig[dask]'.") from None
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except TypeError:  # what Dask says of tls://… without certificates
        raise ConfigError(
            f"{scheduler} needs a certificate: name it in Dask's configuration, as "
            "docs/how-to/many-machines.md shows."
        ) from None
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler` "
            "and pass the address it prints."
        ) from None
    with client, joblib.parallel_config("dask", wait_for_workers_timeout=CONNECT_S):
        # One recording a task: a worker that dies takes no more than that with it.
        yield joblib.Parallel(batch_size=1, return_as="generator_unordered")


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The object stores behind the folders of raw recordings and of the store, where there are."""

    raw: str | None = field(repr=False)  # with what the address holds of passwords
    store: str | None = field(repr=False)
    sent: frozenset[str] = frozenset()  # files that the remote store had at the start
    # Tells one call of a verb from the next, on every machine that works for it.
    call: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(
        cls, raw: str | Path, store: str | Path, *, allow_http: bool = False
    ) -> tuple["Storage", Path, Path]:
        """Return the storage behind two folders, and the folders of this machine.

        Of a remote store the tables are fetched: what they name is there and is not fetched.
        Raises ConfigError for addresses that are not followed, see ``addresses.check``.
        """
        far_raw, far_store = (str(p) if addresses.is_url(p) else None for p in (raw, store))
        for url, option in ((far_raw, "--raw"), (far_store, "--store")):
            if url is not None:
                addresses.check(url, option, allow_http)
        if far_store is not None and far_store.lower().startswith(("http://", "https://")):
            raise ConfigError(
                f"--store is {addresses.shown(far_store)}; folders of web servers can only be read."
            )
        raw = Path(raw) if far_raw is None else remote.mirror(far_raw, "raw")
        if far_store is None:
            return cls(raw=far_raw, store=None), raw, Path(store)
        folder = remote.mirror(far_store, "store")
        sent = remote.pull(far_store, folder, tables_only=True)
        return cls(raw=far_raw, store=far_store, sent=frozenset(sent)), raw, folder

    def for_one(self) -> "Storage":
        """Return what the work on one recording needs of them: not the names of all the others."""
        return replace(self, sent=frozenset())

    def has(self, path: Path, name: str) -> bool:
        """Tell whether a file of the store is written, here or there."""
        return (path / name).is_file() or name in self.sent

    @contextmanager
    def fetched(self, raw: Path, header: Path) -> Iterator[None]:
        """Fetch the large files of a recording, and remove them afterwards."""
        files = [] if self.raw is None else remote.fetch(self.raw, raw, header, self.call)
        try:
            yield
        finally:
            if self.raw is not None:
                remote.remove(self.raw, raw, files)

    def send(self, path: Path, names: list[str]) -> None:
        """Send files of the store to where it belongs."""
        if self.store is not None:
            remote.push(self.store, path, names)

    def drop_shards(self) -> None:
        """Remove the shards' tables from the remote store."""
        if self.store is not None:
            remote.drop(self.store, [name for name in self.sent if name.startswith("shards/")])


def find_remote(reader: ModuleType, storage: Storage, raw: Path) -> tuple[list[Path], list[str]]:
    """Return the recordings of a remote folder as the paths they will have here, and notes.

    One of a name that no file here can have, or that another one has, is among them: fetching it
    says why it is none. Notes are on files that could not be fetched, and are of no recording.
    """
    url = addresses.shown(storage.raw)
    if not hasattr(reader, "FILES"):
        raise ConfigError(f"{url}: this source is read from folders only; fetch it first.")
    names = remote.pull_small(storage.raw, raw, storage.call)
    paths = [raw / name for name in names if any(fnmatch(name, p) for p in reader.FILES)]
    recordings = [p for p in paths if not (p.is_file() and edf_recordings.holds_no_signal(p))]
    if not recordings:
        raise DataError(f"no recordings in {url}: expected {', '.join(reader.FILES)}.")
    by_name: dict[str, Path] = {}
    for path in sorted(recordings, key=lambda path: path.stem):
        twice = path.stem in by_name
        by_name[path.stem] = raw / remote.TWICE / path.name if twice else path
    headers = [path.relative_to(raw).as_posix() for path in by_name.values()]
    return list(by_name.values()), remote.left_out(storage.raw, storage.call, headers)
