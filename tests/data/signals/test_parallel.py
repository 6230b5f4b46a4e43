"""Several machines at one store: shards of a job array, and a Dask cluster that loses a worker."""

import contextlib
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import cloudpickle
import dask
import distributed
import fsspec
import pytest

import partsig
from partsig.data import remote
from partsig.data.signals import parallel as machines
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import read_index
from partsig.data.store import locate
from partsig.errors import ConfigError, DataError

pytestmark = pytest.mark.slow

N = 7
COMMAND = (sys.executable, "-m", "partsig", "preprocess", "physionet2018")


@pytest.fixture
def raw(write_night, tmp_path):
    for i in range(N):
        write_night(tmp_path / "raw", f"tr03-{i:04d}", stages=(0, 1, 2, 3, 4))
    return tmp_path / "raw"


def preprocess(raw, store, **options):
    return partsig.preprocess("physionet2018", raw, store, **({"jobs": 1} | options))


def contents(store):
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


def test_shards_merged_equal_one_run(raw, tmp_path):
    preprocess(raw, tmp_path / "whole")
    for i in (2, 1, 3):
        preprocess(raw, tmp_path / "parts", shard=f"{i}/3")
        with pytest.raises(DataError, match=r"has no index\.csv yet"):
            open_store(tmp_path / "parts")
    result = preprocess(raw, tmp_path / "parts", merge=True)
    assert result.n_recordings == N
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_shard_that_is_missing_is_named(raw, tmp_path):
    with pytest.raises(DataError, match="no store at"):
        preprocess(raw, tmp_path / "parts", merge=True)
    preprocess(raw, tmp_path / "parts", shard="2/3")
    with pytest.raises(DataError, match=r"lacks the shards 1/3, 3/3: run them first"):
        preprocess(raw, tmp_path / "parts", merge=True)
    preprocess(raw, tmp_path / "parts", shard="1/2")
    with pytest.raises(DataError, match=r"shards of several divisions \(2, 3\): delete those"):
        preprocess(raw, tmp_path / "parts", merge=True)


@pytest.mark.parametrize("name", ["1-of-99999999", "3-of-2", "0-of-1", "x-of-3", "1-of-²"])
def test_a_file_that_is_no_shard_is_told(raw, tmp_path, name):
    preprocess(raw, tmp_path / "parts", shard="1/1")
    shutil.copy(tmp_path / "parts/shards/1-of-1.csv", tmp_path / f"parts/shards/{name}.csv")
    with pytest.raises(DataError, match=rf"{name}\.csv is no shard of a store.*delete it"):
        preprocess(raw, tmp_path / "parts", merge=True)


def test_of_many_missing_shards_some_are_named(raw, tmp_path):
    preprocess(raw, tmp_path / "parts", shard="1/100000")
    with pytest.raises(DataError, match=r"lacks the shards 2/100000, .* and 99,979 more: run them"):
        preprocess(raw, tmp_path / "parts", merge=True)


def test_a_recording_that_came_later_is_told(raw, write_night, tmp_path):
    preprocess(raw, tmp_path / "parts", shard="1/1")
    write_night(raw, "tr03-0099", stages=(0, 1))
    with pytest.raises(DataError, match=r"1 recordings are in no shard, the first tr03-0099: run"):
        preprocess(raw, tmp_path / "parts", merge=True)
    assert preprocess(raw, tmp_path / "parts").n_recordings == N + 1


@pytest.mark.parametrize(
    "shard", ["0/3", "4/3", "1", "a/b", "-1/3", "1/0", "1/²", f"1/{'9' * 5000}"]
)
def test_impossible_shards_are_refused(shard, raw, tmp_path):
    with pytest.raises(ConfigError, match="it must be such as 3/16, from 1/16 to 16/16"):
        preprocess(raw, tmp_path / "store", shard=shard)


def test_no_scheduler_answers(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("partsig.data.signals.parallel.CONNECT_S", 1)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        preprocess(raw, tmp_path / "store", scheduler="tcp://127.0.0.1:9")


@pytest.fixture
def certified(tmp_path):
    """Dask's configuration with a certificate made as docs/how-to/many-machines.md says."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "dask-key.pem", tmp_path / "dask.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "2", "-subj", "/CN=x",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    pair = {"cert": str(certificate), "key": str(key)}
    parties = {
        f"distributed.comm.tls.{party}.{key}": path
        for party in ("scheduler", "worker", "client")
        for key, path in pair.items()
    }
    with dask.config.set({"distributed.comm.tls.ca-file": str(certificate)} | parties):
        yield


# Dask forgets a socket of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_scheduler_with_certificates(raw, tmp_path, certified):
    """It works for who has one, and turns away who has none."""
    preprocess(raw, tmp_path / "alone")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tls://", host="127.0.0.1", security=distributed.Security(),
    ) as cluster:  # fmt: skip
        assert cluster.scheduler_address.startswith("tls://")
        preprocess(raw, tmp_path / "store", scheduler=cluster.scheduler_address)
        stranger = dask.config.set({"distributed.comm.tls.client.cert": None})
        with stranger, pytest.raises(ConfigError, match=r"^tls://.* needs a certificate: name"):
            preprocess(raw, tmp_path / "other", scheduler=cluster.scheduler_address)
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


# A worker that is slow enough to be killed while it works.
WORKER = """
import sys, time
from partsig.data.signals.readers import physionet2018
read = physionet2018.read_recording
def slow(*arguments, **options):
    time.sleep(0.5)
    return read(*arguments, **options)
physionet2018.read_recording = slow
from distributed.cli.dask_worker import main
main([sys.argv[1], "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", sys.argv[2]])
"""


def test_a_killed_worker_costs_nothing(raw, tmp_path):
    preprocess(raw, tmp_path / "alone")
    cluster = distributed.LocalCluster(
        n_workers=0, dashboard_address=None, host="127.0.0.1", scheduler_port=0
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, cluster.scheduler_address, f"w{i}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for i in range(2)
    ]
    try:
        with distributed.Client(cluster.scheduler_address) as client:
            client.wait_for_workers(2, timeout=60)
        store = tmp_path / "store"
        run = subprocess.Popen(
            [*COMMAND, "--raw", raw, "--store", store, "--scheduler", cluster.scheduler_address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 60
        while len(list(store.glob("signals/tr*.npy"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        workers[0].send_signal(signal.SIGKILL)
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output
        assert len(list(store.glob("signals/tr*.npy"))) > 0
        names = [row["recording"] for row in read_index(store)]
        assert names == [f"tr03-{i:04d}" for i in range(N)]  # all, and none twice
        assert contents(store) == contents(tmp_path / "alone")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        cluster.close()


# Object stores, through fsspec's own in memory.


@pytest.fixture
def bucket(raw, tmp_path, monkeypatch):
    """The records in an object store, and a working directory without any."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in raw.rglob("*"):
        if path.is_file():
            name = f"/bucket/raw/{path.relative_to(raw).as_posix()}"
            system.pipe_file(name, path.read_bytes())
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(remote, "SMALL", 10_000)  # these records are short
    remote.listing.cache_clear()
    return system


def test_from_one_object_store_to_another(bucket, raw, tmp_path):
    preprocess(raw, tmp_path / "alone")
    result = preprocess("memory://bucket/raw", "memory://bucket/store")
    assert result.n_recordings == N
    sent = {
        path.removeprefix("/bucket/store/"): hashlib.sha256(bucket.cat_file(path)).hexdigest()
        for path in bucket.find("/bucket/store")
    }
    assert sent == contents(tmp_path / "alone")
    assert contents(result.path) == sent  # the local copy
    assert not list((tmp_path / "cwd" / "data" / "raw").rglob("*.mat"))  # removed when done
    # Nothing is fetched or done again.
    before = {path.name: path.stat().st_mtime_ns for path in result.path.rglob("*.npy")}
    preprocess("memory://bucket/raw", "memory://bucket/store")
    assert before == {path.name: path.stat().st_mtime_ns for path in result.path.rglob("*.npy")}


def test_a_remote_store_is_fetched_where_it_is_read(bucket, raw, tmp_path):
    preprocess(raw, "memory://bucket/store")
    shutil.rmtree("data")
    store = open_store(locate("memory://bucket/store"))
    assert len(store.recordings) == N
    assert store.signal("tr03-0003").shape == (6, 15_500)
    # A store that is continued elsewhere begins with what is there.
    shutil.rmtree("data")
    bucket.rm_file("/bucket/store/signals/tr03-0002.npy")
    assert preprocess(raw, "memory://bucket/store").n_recordings == N
    assert bucket.exists("/bucket/store/signals/tr03-0002.npy")


def test_shards_of_a_remote_store(bucket, raw, tmp_path):
    preprocess(raw, tmp_path / "alone")
    for i in (1, 2):
        preprocess(raw, "memory://bucket/store", shard=f"{i}/2")
        shutil.rmtree("data")  # every job is on a machine of its own
    preprocess(raw, "memory://bucket/store", merge=True)
    sent = {
        path.removeprefix("/bucket/store/"): hashlib.sha256(bucket.cat_file(path)).hexdigest()
        for path in bucket.find("/bucket/store")
    }
    assert sent == contents(tmp_path / "alone")


def test_what_is_not_there_is_told(bucket, tmp_path):
    with pytest.raises(DataError, match=r"memory://bucket/none cannot be listed|no recordings in"):
        preprocess("memory://bucket/none", tmp_path / "store")
    with pytest.raises(DataError, match=r"floppy://a/b cannot be listed \(Protocol not known"):
        preprocess("floppy://a/b", tmp_path / "store")
    with pytest.raises(DataError, match="no store at data/store/none"):
        open_store(locate("memory://bucket/none"))
    with pytest.raises(ConfigError, match="this source is read from folders only; fetch it first"):
        partsig.preprocess("pc18-segments", "memory://bucket/raw", tmp_path / "store")


def test_a_record_that_cannot_be_fetched_is_skipped(bucket, tmp_path, monkeypatch):
    name = next(path for path in bucket.find("/bucket/raw") if path.endswith("0004.mat"))
    found = type(bucket).find

    def removed_then(*arguments, **options):
        listed = found(*arguments, **options)
        bucket.store.pop(name, None)
        return listed

    monkeypatch.setattr(type(bucket), "find", removed_then)
    result = preprocess("memory://bucket/raw", tmp_path / "store")
    assert result.n_recordings == N - 1
    assert "cannot be fetched" in result.failed["tr03-0004"]


def test_small_files_are_fetched_and_the_folder_is_listed_once_a_call(
    bucket, tmp_path, monkeypatch
):
    """However many recordings there are: not a look at every file for every recording."""
    counted = {"pull_small": 0, "_get": 0, "find": 0}

    def count(owner, name):
        real = getattr(owner, name)

        def counting(*arguments, **options):
            counted[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(remote, "pull_small")
    count(remote, "_get")
    count(type(bucket), "find")
    assert preprocess("memory://bucket/raw", tmp_path / "store", jobs=2).n_recordings == N
    # A header, a signal and its stages each; the two small ones are looked for at the start.
    assert counted == {"pull_small": 1, "_get": 3 * N, "find": 1}


def test_what_has_come_since_the_last_call_is_seen(bucket, write_night, tmp_path):
    assert preprocess("memory://bucket/raw", tmp_path / "store").n_recordings == N
    late = write_night(tmp_path / "more", "tr03-0099", stages=(0, 1))
    for path in late.parent.iterdir():
        bucket.pipe_file(f"/bucket/raw/tr03-0099/{path.name}", path.read_bytes())
    assert preprocess("memory://bucket/raw", tmp_path / "store").n_recordings == N + 1


def test_a_file_system_that_keeps_listings_is_asked_anew(bucket, monkeypatch):
    """As S3's does: by fsspec's own cache of folders, which outlives a call and is shared."""
    walked = type(bucket).find

    def kept(self, path, **options):
        if path not in self.dircache:
            self.dircache[path] = walked(self, path, **options)
        return self.dircache.get(path) or walked(self, path, **options)

    monkeypatch.setattr(type(bucket), "find", kept)
    before = len(remote.listing("memory://bucket/raw").sizes)
    bucket.pipe_file("/bucket/raw/new.hea", b"")
    remote.listing.cache_clear()
    assert len(remote.listing("memory://bucket/raw").sizes) == before + 1
    assert type(bucket)().dircache.use_listings_cache  # those of others are as they were


def test_a_listing_that_is_made_anew_meanwhile_does_no_harm(bucket, tmp_path, monkeypatch):
    """Another call lists the folder while a recording is fetched that is gone by now."""
    url, name, here = "memory://bucket/raw", "tr03-0004", tmp_path / "here"
    remote.pull_small(url, here, "a call")
    (big,) = (path for path in bucket.find("/bucket/raw") if path.endswith(f"{name}.mat"))
    real = remote._get

    def after_another(*arguments):
        bucket.store.pop(big, None)
        remote.listing.cache_clear()
        return real(*arguments)

    monkeypatch.setattr(remote, "_get", after_another)
    header = next(here.rglob(f"{name}.hea"))
    header.with_suffix(".mat").write_bytes(b"half of it")  # as a fetch that was killed leaves none
    with pytest.raises(DataError, match=rf"{name}\.mat cannot be fetched"):
        remote.fetch(url, here, header, "a call")


def test_a_process_that_comes_later_fetches_what_is_small(bucket, write_night, tmp_path):
    remote.listing("memory://bucket/raw")
    late = write_night(tmp_path / "more", "tr03-0099", stages=(0, 1))
    for path in late.parent.iterdir():
        bucket.pipe_file(f"/bucket/raw/tr03-0099/{path.name}", path.read_bytes())
    bucket.pipe_file("/bucket/raw/elsewhere/tr03-0099.big", b"0" * 20_000)
    here = tmp_path / "other machine"
    files = remote.fetch(
        "memory://bucket/raw", here, here / "tr03-0099" / "tr03-0099.hea", "another call"
    )
    assert files == [here / "tr03-0099" / "tr03-0099.mat"]
    found = {path.name for path in here.rglob("*") if path.is_file()}
    small = {f"tr03-{i:04d}{ending}" for i in (*range(N), 99) for ending in (".hea", ".arousal")}
    assert found == small | {"tr03-0099.mat"}


def test_a_task_holds_what_is_its_own(raw, tmp_path, monkeypatch):
    """Its pickle is as large for ten thousand recordings as for seven."""
    sizes, engine = [], machines.parallel_backend

    @contextlib.contextmanager
    def measured(*arguments):
        with engine(*arguments) as parallel:

            def weigh(tasks):
                for task in tasks:
                    data = cloudpickle.dumps(task)
                    sizes.append(len(data))
                    yield pickle.loads(data)

            yield lambda tasks: parallel(weigh(tasks))

    monkeypatch.setattr(machines, "parallel_backend", measured)
    names = [f"tr03-{i:04d}" for i in range(10_000)]
    table = "".join(f"{name},{20 + i % 60},F\n" for i, name in enumerate(names))
    (raw / "age-sex.csv").write_text("Record,Age,Sex\n" + table)
    monkeypatch.setattr(
        remote, "pull", lambda *_, **__: {f"signals/{name}.npy" for name in names[N:]}
    )
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    offsets = {"hypnogram.offset_s": dict.fromkeys(names, 0.0)}
    result = preprocess(raw, "memory://bucket/many", overrides=offsets)
    assert len(sizes) == N
    assert max(sizes) < 4_000
    rows = read_index(result.path)
    assert [(row["age"], row["sex"]) for row in rows] == [(str(20 + i), "F") for i in range(N)]
