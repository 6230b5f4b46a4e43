"""Windows per second of the data path alone, and its memory against the number of recordings.

    python benchmarks/data_path.py [--recordings 8 128 2000] [--hours 0.25] [--batch 512]

Stores of six channels at 100 Hz in float16 and float32 (noise) are written to a temporary folder.
Each case runs in a process of its own: random 30-s windows in batches, cut from maps that keep no
file open (``stream``), from NumPy's memory map of every file (``numpy``: one open file a
recording), or from signals held in memory (``resident``, as on a GPU, here on the CPU). ``cold``:
the system was asked to forget the files before the process began; ``stream`` maps a file when it
first needs it, ``numpy`` all of them before (``begin_s``), so the two belong together there. Memory
is what the process itself holds (RssAnon), pages of files not counted: they belong to the page
cache and are given up when memory is needed. The ways take turns; medians; results in
``results/data_path.json``.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording

RESULTS = Path(__file__).parent / "results" / "data_path.json"
CHANNELS, SFREQ, WINDOW = 6, 100.0, 3000


def write_store(path: Path, n: int, dtype: str, hours: float) -> None:
    """Write a store of ``n`` recordings of noise."""
    names = tuple(f"C{i}" for i in range(CHANNELS))
    meta = make_meta(
        source="noise", ch_names=names, sfreq=SFREQ, l_freq=0.1, h_freq=30.0, dtype=dtype
    )
    create_store(path, meta)
    n_times = int(hours * 3600 * SFREQ)
    signal = np.random.default_rng(0).standard_normal((CHANNELS, n_times)) * 20
    rows = []
    for i in range(n):
        recording = Recording(
            name=f"rec{i:04d}",
            subject=f"rec{i:04d}",
            ch_names=names,
            parts=(),
            stages=np.full(int(n_times // 3000), -1, np.int8),
            source="",
        )
        rows.append(write_recording(path, meta, recording, np.roll(signal, i, axis=1)))
    write_index(path, rows)


def held_mib() -> float:
    """Return what this process holds, mapped files aside."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell RssAnon")


class Mapped:
    """The same windows, cut from NumPy's memory maps of all files."""

    def __init__(self, windows) -> None:
        self.windows = windows
        folder = windows.store.path / "signals"
        self.signals = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in windows.names]

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows as :class:`~partsig.data.signals.windows.RandomWindows` does."""
        rows = self.windows.drawn(epoch)[first : first + count]
        return np.stack([self.signals[r][:, at : at + WINDOW] for r, at in rows])


def forget(path: Path) -> None:
    """Ask the system to drop a store's files from its cache."""
    os.sync()
    for file in (path / "signals").iterdir():
        number = os.open(file, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def work(path: Path, kind: str, batch: int, repeats: int, cold: bool) -> dict[str, float]:
    """Time batches of one case in this process."""
    import torch

    from partsig.data.signals.windows import RandomWindows, ResidentWindows

    opened = open_store(path)
    before = held_mib()
    started = time.perf_counter()
    windows = RandomWindows(opened, list(opened.subjects), WINDOW, seed=0, per_epoch=200_000)
    source = windows
    if kind == "numpy":
        source = Mapped(windows)
    elif kind == "resident":
        source = ResidentWindows(windows, torch.device("cpu"))
    begun = time.perf_counter() - started
    n = max(4096 // batch, 1)
    seconds = []
    for repeat in range(2 if cold else repeats + 1):
        if cold and not repeat:
            continue  # the files were forgotten before this process began, which forgets none
        started = time.perf_counter()
        for i in range(n):
            source.batch(0, (repeat * n + i) * batch % 190_000, batch)
        if repeat:  # the first brings the files into the page cache
            seconds.append(time.perf_counter() - started)
    return {
        "windows_per_s": n * batch / statistics.median(seconds),
        "begin_s": begun,
        "held_mib": held_mib() - before,
        "open_files": len(os.listdir("/proc/self/fd")),
    }


def run(path: Path, kind: str, cold: bool, options: argparse.Namespace) -> dict[str, float]:
    """Run one case in a process of its own."""
    if cold:
        forget(path)
    command = [sys.executable, __file__, "--work", str(path), kind, *(["--cold"] if cold else [])]
    command += ["--batch", str(options.batch), "--repeats", str(options.repeats)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Run every case in a process of its own, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, nargs="+", default=[8, 128, 2000])
    parser.add_argument("--hours", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        path, kind = options.work
        print(json.dumps(work(Path(path), kind, options.batch, options.repeats, options.cold)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float16", "float32"):
            for n in options.recordings:
                path = Path(folder) / f"{dtype}-{n}"
                write_store(path, n, dtype, options.hours)
                cases = [(kind, cold) for cold in (False, True) for kind in ("stream", "numpy")]
                cases.append(("resident", False))
                turns = [
                    {case: run(path, *case, options) for case in cases}
                    for _ in range(options.turns)
                ]
                for kind, cold in cases:
                    each = [turn[kind, cold] for turn in turns]
                    found = {key: statistics.median(one[key] for one in each) for key in each[0]}
                    rows.append({"dtype": dtype, "recordings": n, "kind": kind, "cold": cold})
                    rows[-1] |= found
                    print(
                        f"{dtype} {n:>5} recordings {kind:<9}{'cold' if cold else 'warm'}"
                        f"{found['windows_per_s']:>9,.0f} windows/s {found['begin_s']:>7.2f} s to "
                        f"begin {found['held_mib']:>6.0f} MiB held {found['open_files']:>5} files",
                        flush=True,
                    )
                shutil.rmtree(path)
    result = {
        "command": " ".join(["python", "benchmarks/data_path.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "batch": options.batch,
        "window_s": WINDOW / SFREQ,
        "hours": options.hours,
        "channels": CHANNELS,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
