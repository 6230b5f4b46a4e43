"""Windows per second of the data path alone, and its memory against the number of recordings.

    python benchmarks/data_path.py [--recordings 8 32 128] [--batch 512] [--repeats 5]

Stores of six channels at 100 Hz in float16 and float32 (noise; an hour a recording) are written to
a temporary folder. Each case runs in a process of its own: random 30-s windows in batches, cut
from memory maps (``stream``) or from signals held in memory (``resident``, as on a GPU, here on
the CPU). Memory is what the process itself holds (RssAnon), pages of the mapped files not counted:
they belong to the page cache and are given up when memory is needed. Medians; results in
``results/data_path.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from partsig.data import store
from partsig.data.recordings import Recording

RESULTS = Path(__file__).parent / "results" / "data_path.json"
CHANNELS, SFREQ, HOURS, WINDOW = 6, 100.0, 1.0, 3000


def write_store(path: Path, n: int, dtype: str) -> None:
    """Write a store of ``n`` recordings of noise."""
    names = tuple(f"C{i}" for i in range(CHANNELS))
    meta = store.make_meta(
        source="noise", ch_names=names, sfreq=SFREQ, l_freq=0.1, h_freq=30.0, dtype=dtype
    )
    store.create(path, meta)
    n_times = int(HOURS * 3600 * SFREQ)
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
        rows.append(store.write_recording(path, meta, recording, np.roll(signal, i, axis=1)))
    store.write_index(path, rows)


def held_mib() -> float:
    """Return what this process holds, mapped files aside."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell RssAnon")


def work(path: Path, kind: str, batch: int, repeats: int) -> dict[str, float]:
    """Time batches of one case in this process."""
    import torch

    from partsig.data.datasets import RandomWindows, ResidentWindows

    opened = store.open_store(path)
    before = held_mib()
    windows = RandomWindows(opened, list(opened.subjects), WINDOW, seed=0, per_epoch=200_000)
    source = windows if kind == "stream" else ResidentWindows(windows, torch.device("cpu"))
    n = max(4096 // batch, 1)
    seconds = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        for i in range(n):
            source.batch(0, (repeat * n + i) * batch % 190_000, batch)
        if repeat:  # the first brings the files into the page cache
            seconds.append(time.perf_counter() - started)
    rate = n * batch / statistics.median(seconds)
    return {"windows_per_s": rate, "held_mib": held_mib() - before}


def main() -> None:
    """Run every case in a process of its own, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        path, kind = options.work
        print(json.dumps(work(Path(path), kind, options.batch, options.repeats)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float16", "float32"):
            for n in options.recordings:
                path = Path(folder) / f"{dtype}-{n}"
                write_store(path, n, dtype)
                for kind in ("stream", "resident"):
                    command = [sys.executable, __file__, "--work", str(path), kind]
                    command += ["--batch", str(options.batch), "--repeats", str(options.repeats)]
                    ended = subprocess.run(command, check=True, capture_output=True, text=True)
                    found = json.loads(ended.stdout.splitlines()[-1])
                    rows.append({"dtype": dtype, "recordings": n, "kind": kind, **found})
                    print(
                        f"{dtype} {n:>4} recordings {kind:<9}{found['windows_per_s']:>9,.0f} "
                        f"windows/s {found['held_mib']:>8.0f} MiB held",
                        flush=True,
                    )
    result = {
        "command": " ".join(["python", "benchmarks/data_path.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "batch": options.batch,
        "window_s": WINDOW / SFREQ,
        "channels": CHANNELS,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
