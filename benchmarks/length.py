"""How much memory and time does a recording take by its length? One recording, up to a week.

Run: ``python benchmarks/length.py [--hours 8 24 72 168] [--checkout FOLDER]``

EDF files of 20 channels (1-s records, noise like EEG with a step and a clipped stretch a day) are
written block by block to a temporary folder, one at a time. ``preprocess`` (into
float32 at 100 Hz, 0.1 to 30 Hz), ``stage`` (the paper's encoder, 6 channels) and ``audit`` each do
one of them in a process of its own with one thread, whose peak memory (VmHWM, resident: what is
imported, memory-mapped pages and all), seconds and CPU seconds are noted: medians of --repeats.
``imports`` is the peak after the verb was imported. ``sha256`` is of what was written: the store's
signals, the hypnogram, what audit.json says of the recordings. With --checkout another checkout of
partsig is measured, in turns with this one, on the same files. --pair does two recordings at once,
in two threads.
Adds to benchmarks/results/length.json, under the hours and channels.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "length.json"
EEG = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
LABELS = (*EEG, "E1-M2", "E2-M2", "Chin1-Chin2", *(f"X{k:02d}" for k in range(11)))
BLOCK_S = 600
VERBS = ("preprocess", "stage", "audit")
# Run in the child: the checkout, the verb, the files, the channels, the output, the stager.
CHILD = """
import json, os, sys, time
checkout, verb, raw, channels, out, run, jobs = json.loads(sys.argv[1])
sys.path.insert(0, checkout)
sys.path.insert(0, os.path.join(checkout, "benchmarks"))
import partsig
assert partsig.__file__.startswith(checkout), partsig.__file__
if verb == "preprocess":
    from partsig.verbs.preprocess import preprocess as work
    given = ("edf", raw, out), {"overrides": {"channels": channels}, "jobs": jobs}
elif verb == "stage":
    from partsig.verbs.stage import stage_all as work
    given = ([raw], run), {"output": out, "device": "cpu"}
else:
    from partsig.verbs.audit import audit as work
    overrides = {"channels": channels}
    given = (raw,), {"source": "edf", "output": out, "overrides": overrides, "jobs": jobs}
def peak():  # ru_maxrss would begin with that of the process that started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1e6 for line in status if line.startswith("VmHWM"))
imports, begin, used = peak(), time.perf_counter(), time.process_time()
found = work(*given[0], **given[1])
failed = getattr(found, "failed", {})
assert not failed, failed
print(json.dumps({
    "gb": peak(), "imports_gb": imports,
    "seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - used,
}))
"""


def write_edf(
    path: Path, hours: float, sfreq: int, seed: int = 0, labels: Sequence[str] = LABELS
) -> None:
    """Write a recording of these channels: 1-s records, block by block."""
    rng = np.random.default_rng(seed)
    n_records, n_chans = round(hours * 3600), len(labels)
    fields = [
        [f"{label:<16}" for label in labels],
        [" " * 80] * n_chans,
        [f"{'uV':<8}"] * n_chans,
        [f"{-3276.8:<8}"] * n_chans,
        [f"{3276.7:<8}"] * n_chans,
        [f"{-32768:<8}"] * n_chans,
        [f"{32767:<8}"] * n_chans,
        [" " * 80] * n_chans,
        [f"{sfreq:<8}"] * n_chans,
        [" " * 32] * n_chans,
    ]
    head = f"{'0':<8}{'X X X X':<80}{'Startdate X X X X':<80}01.01.2122.00.00"
    head += f"{256 * (n_chans + 1):<8}{'':<44}{n_records:<8}{1:<8}{n_chans:<4}"
    with open(path, "wb") as handle:
        handle.write((head + "".join("".join(field) for field in fields)).encode("ascii"))
        noise = rng.integers(-60, 61, (n_chans, BLOCK_S * sfreq), np.int16)
        times = np.arange(BLOCK_S * sfreq) / sfreq
        wave = np.cumsum(noise, axis=1, dtype=np.int32) % 1000 + 200 * np.sin(8 * times)
        usual, hard = wave.astype("<i2"), wave.copy()
        hard[:, len(times) // 2 :] += 20_000  # an electrode moves
        hard[:, len(times) // 3 : len(times) // 2] *= 60  # an amplifier clips
        hard = hard.clip(-32768, 32767).astype("<i2")
        for k, start in enumerate(range(0, n_records, BLOCK_S)):
            block = np.roll(hard if k % 144 == 37 else usual, k, axis=0)
            records = block.reshape(n_chans, -1, sfreq).transpose(1, 0, 2)
            handle.write(np.ascontiguousarray(records[: n_records - start]).tobytes())


def child(
    checkout: Path, verb: str, raw: Path, channels: list[str], out: Path, run: str, jobs: int
) -> dict:
    """Do one verb in a process of its own; return what it took, and the digest of what it wrote."""
    shutil.rmtree(out, ignore_errors=True)
    given = json.dumps([str(checkout), verb, str(raw), channels, str(out), run, jobs])
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | one | {"TMPDIR": str(out.parent)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, given], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{verb} of {raw}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    ending = {"preprocess": "signals/*.npy", "stage": "*_hypnogram.csv", "audit": "audit.json"}
    digest = hashlib.sha256()
    for path in sorted(out.glob(ending[verb])):
        if verb == "audit":  # but for the folder's name
            told = json.loads(path.read_text(encoding="utf-8"))
            digest.update(json.dumps([told["summary"], told["recordings"]]).encode())
            continue
        with open(path, "rb") as handle:
            while piece := handle.read(2**22):
                digest.update(piece)
    shutil.rmtree(out, ignore_errors=True)
    return found | {"sha256": digest.hexdigest()[:16]}


def make_stager(work: Path) -> str:
    """Return a run whose stager has the paper's encoder, made once."""
    sys.path.insert(0, str(HERE / "benchmarks"))
    from stage import make_stager

    return str(make_stager(work))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, nargs="+", default=[8, 24, 72, 168])
    parser.add_argument("--channels", type=int, nargs="+", default=[6, 20], choices=(6, 20))
    parser.add_argument("--verbs", nargs="+", default=VERBS, choices=VERBS)
    parser.add_argument("--sfreq", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--checkout", type=Path, help="another checkout, measured beside this one")
    parser.add_argument("--pair", action="store_true", help="two recordings at once, two threads")
    parser.add_argument("--work", type=Path, help="where files are written (default: temporary)")
    given = parser.parse_args()
    checkouts = {"here": HERE}
    if given.checkout:
        checkouts = {"before": given.checkout.resolve()} | checkouts
    command = "python benchmarks/length.py " + " ".join(sys.argv[1:])
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"measured": {}}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        run = make_stager(work / "stager") if "stage" in given.verbs else ""
        for hours in given.hours:
            raw = work / "raw"
            raw.mkdir()
            for k in range(2 if given.pair else 1):
                write_edf(raw / f"night{k}.edf", hours, given.sfreq, k)
            for n_chans in given.channels:
                for verb in given.verbs:
                    if verb == "stage" and n_chans != len(EEG):
                        continue
                    runs: dict[str, list[dict]] = {name: [] for name in checkouts}
                    for _ in range(given.repeats):
                        for name, checkout in checkouts.items():
                            channels, jobs = list(LABELS[:n_chans]), 2 if given.pair else 1
                            out = work / "out"
                            runs[name].append(child(checkout, verb, raw, channels, out, run, jobs))
                    key = f"{verb}, {hours:g} h, {n_chans} of 20 channels at {given.sfreq} Hz"
                    key += ", two at once" if given.pair else ""
                    for name, found in runs.items():
                        row = {
                            k: round(statistics.median(f[k] for f in found), 3)
                            for k in ("gb", "imports_gb", "seconds", "cpu_s")
                        }
                        row |= {"sha256": found[0]["sha256"], "repeats": len(found)}
                        row["date"] = date.today().isoformat()
                        kept["measured"].setdefault(key, {})[name] = row
                        print(f"{key:62} {name:7} {row}", flush=True)
                    kept["commands"] = list(dict.fromkeys([*kept.get("commands", ()), command]))
                    kept["versions"] = {
                        "python": platform.python_version(),
                        "numpy": np.__version__,
                    }
                    kept["machine"] = f"{os.cpu_count()} cores"
                    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
            shutil.rmtree(raw)


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begin:.0f} s")
