"""``partsig preprocess`` killed at random moments: what is there is whole, the rest is made again.

A helper that has imported what is needed forks a process per run, so that a kill costs no start of
an interpreter. ``PARTSIG_FUZZ=N`` kills N times as often, at other moments.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import edfio
import numpy as np
import pytest

from partsig import files
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import merge_shards, read_index
from partsig.errors import DataError

pytestmark = pytest.mark.slow

TIMES = int(os.environ.get("PARTSIG_FUZZ", "1"))
KILLS = 12 * TIMES
N_NIGHTS = 12
# Answers a line {"run": arguments of preprocess, "every": s between indices, "after": s or null}
# by {"seconds": it took, "ended": the exit status, -9 when it was killed}.
HELPER = """
import json, os, signal, sys, time
import partsig, scipy.fft, scipy.signal, scipy.io.matlab
from partsig.data.signals import growing_index
from partsig.data.signals.readers import edf_recordings
for line in sys.stdin:
    asked = json.loads(line)
    begin = time.monotonic()
    child = os.fork()
    if not child:
        growing_index.INDEX_EVERY_S = asked["every"]
        partsig.preprocess(**asked["run"])
        os._exit(0)
    if asked["after"] is not None:
        time.sleep(asked["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    answer = {"seconds": time.monotonic() - begin, "ended": os.waitstatus_to_exitcode(status)}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> Path:
    """Twelve short nights in EDF+ with stages, and one that is damaged."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(5)
    for k in range(N_NIGHTS):
        wave = 40 * np.sin(np.arange(12_000) / 7) + rng.normal(size=12_000)
        signals = [
            edfio.EdfSignal(wave + c, 100, label=name, physical_dimension="uV")
            for c, name in enumerate(("C4-M1", "C3-M2"))
        ]
        stages = [
            edfio.EdfAnnotation(30 * e, 30, f"Sleep stage N{(k + e) % 3 + 1}") for e in range(4)
        ]
        start = datetime(2020, 2, 1, 22, 30, k)
        edfio.Edf(
            signals,
            recording=edfio.Recording(startdate=start.date()),
            starttime=start.time(),
            annotations=stages,
        ).write(folder / f"n{k:02d}.edf")
    whole = (folder / "n00.edf").read_bytes()
    (folder / "z.edf").write_bytes(whole[:200])
    return folder


@pytest.fixture(scope="module")
def run(nights) -> Iterator[Callable[..., dict]]:
    """A function that preprocesses into a store, and kills it ``after`` so many seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as helper:

        def ask(
            store: Path,
            after: float | None = None,
            every: float = 0.0,
            jobs: int = 1,
            shard: str | None = None,
            raw: Path = nights,
        ) -> dict:
            overrides = {"channels": ["C4-M1", "C3-M2"]}
            paths = {"raw": str(raw), "store": str(store)}
            asked = {"source": "edf", "overrides": overrides, "jobs": jobs, "shard": shard, **paths}
            line = json.dumps({"run": asked, "every": every, "after": after})
            helper.stdin.write(line + "\n")
            helper.stdin.flush()
            return json.loads(helper.stdout.readline())

        yield ask
        helper.stdin.close()


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store, hidden ones too."""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def check_killed(path: Path) -> int:
    """Hold what the index of a killed store names to be whole; return how many that are."""
    if not (path / "index.csv").exists():
        with pytest.raises(DataError, match=r"has no index\.csv yet|no store at .* no meta\.json"):
            open_store(path)
        return 0
    if not read_index(path):
        with pytest.raises(DataError, match="holds no recording yet: run the same preprocess"):
            open_store(path)
        return 0
    store = open_store(path)
    for row in store.rows:
        name = row["recording"]
        found = np.load(path / "signals" / f"{name}.npy", allow_pickle=False)
        stages = np.load(path / "labels" / f"{name}.npy", allow_pickle=False)
        assert found.shape == (2, row["n_samples"])
        assert hashlib.sha256(found).hexdigest() == row["sha256"]
        assert stages.shape == (row["n_epochs"],)
        assert stages.dtype == np.int8
    return len(store.rows)


def test_killed_at_random_moments(run, tmp_path, capsys):
    rng = np.random.default_rng(None if TIMES > 1 else 7)
    calm = run(tmp_path / "calm")
    assert calm["ended"] == 0
    whole = contents(tmp_path / "calm")
    assert len(whole) == 2 + 2 * N_NIGHTS
    lasts = min(run(tmp_path / "again")["seconds"], calm["seconds"])
    kills, held = 0, []
    # On a fast machine most moments lie before the first recording or after the last.
    while kills < KILLS or (kills < 6 * KILLS and not any(0 < n < N_NIGHTS for n in held)):
        path = tmp_path / f"s{kills}"
        every, jobs = float(rng.choice([0.0, 2.0])), int(rng.integers(1, 3))
        for _ in range(rng.integers(1, 4)):  # killed, continued, killed again …
            ended = run(path, rng.uniform(0.0, 1.0) * lasts, every, jobs)["ended"]
            assert ended in (-signal.SIGKILL, 0)
            kills += ended == -signal.SIGKILL
            held.append(check_killed(path))
        assert run(path, None, every, jobs)["ended"] == 0
        assert contents(path) == whole
    # Some moments lay in the middle, and what was finished was found again.
    assert any(0 < n < N_NIGHTS for n in held)
    with capsys.disabled():
        if TIMES > 1:
            print(f"\n{kills} kills, recordings that were whole after each: {sorted(held)}")


def leave(folder: Path, name: str, host: str = files.HOST) -> None:
    """A temporary file as a writer leaves it that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / f".{name}.{host}.{gone.pid}.tmp").write_bytes(b"half")


def test_killed_before_there_was_a_store_on_another_machine(run, tmp_path):
    leave(tmp_path / "store", "meta.json", "elsewhere")
    assert run(tmp_path / "store")["ended"] == 0
    assert check_killed(tmp_path / "store") == N_NIGHTS


def test_a_shard_killed_while_it_wrote_its_index_then_merged(run, tmp_path):
    store = tmp_path / "store"
    assert run(store, shard="1/2")["ended"] == 0
    leave(store / "shards", "2-of-2.csv")
    leave(store / "shards", "2-of-2.csv", "elsewhere")
    assert run(store, shard="2/2")["ended"] == 0
    left = sorted(path.name.split(".")[-3] for path in (store / "shards").glob(".*"))
    assert left == ["elsewhere"]
    assert len(merge_shards(store)) == N_NIGHTS + 1
    assert run(tmp_path / "calm")["ended"] == 0
    assert contents(store) == contents(tmp_path / "calm")


def test_a_merge_killed_before_the_shards_were_deleted(run, tmp_path, monkeypatch):
    store = tmp_path / "store"
    assert run(store, shard="1/1")["ended"] == 0
    whole = read_shard(store)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert merge_shards(store) == whole
    assert not (store / "shards").exists()
    assert merge_shards(store) == whole
    assert not list(store.glob(".*"))


def read_shard(store: Path) -> dict[str, dict]:
    return {row["recording"]: row for row in read_index(store, "1-of-1")}


def test_killed_while_changed_recordings_are_done_again(run, nights, tmp_path):
    """A row of what is being made again is no longer in the index."""
    raw = tmp_path / "raw"
    shutil.copytree(nights, raw)
    store = tmp_path / "store"
    assert run(store, raw=raw)["ended"] == 0
    for path in raw.glob("n*.edf"):
        shutil.copy(nights / f"n{(int(path.stem[1:]) + 1) % N_NIGHTS:02d}.edf", path)
    rng = np.random.default_rng(3)
    lasts = run(tmp_path / "calm", raw=raw)["seconds"]
    for _ in range(4 * TIMES):
        again = tmp_path / "again"
        shutil.copytree(store, again)
        run(again, rng.uniform(0.1, 0.9) * lasts, 2.0, raw=raw)
        check_killed(again)
        assert run(again, raw=raw)["ended"] == 0
        assert contents(again) == contents(tmp_path / "calm")
        shutil.rmtree(again)
