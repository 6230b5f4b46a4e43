"""What does it take to stage a night, a day, a week: seconds and memory, with context and without?

Run: ``python benchmarks/long_nights.py [--hours 8 24 168] [--repeats 5] [--only CHECK ...]``

EDF files of three EEG channels at 100 Hz (noise like EEG with a step and a clipped stretch a day)
are written block by block to a temporary folder, one at a time. Three stagers stage them, each in a
process of its own with one thread, with all files written: ``epochs``, the paper's encoder (12.9 M
parameters) under a linear head; ``context``, a GRU over 21 epochs on the features of such an
encoder and band powers; ``bands``, a GRU over band powers alone. Their labels are arbitrary, only
short: what they say does not change the time.

lengths: peak memory (VmHWM: resident, what is imported and mapped pages too), of which ``imports``
before anything was done; seconds; medians of --repeats, of one where a recording is longer than a
day.

context_part: of 8 h, in one process, how long the features take, and how long all that comes after
them does (scaling by the recording, the context network), for each kind of network; medians.

Adds to benchmarks/results/long_nights.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import edfio
import numpy as np
from length import write_edf

HERE = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "long_nights.json"
CHANNELS = ("F3-M2", "C3-M2", "O1-M2")
SFREQ, EPOCHS_OF_8_H = 100, 960
CHECKS = ("lengths", "context_part")
STAGERS = ("epochs", "context", "bands")
CONTEXTS = ("gru", "transformer", "viterbi")
SHORT = {"fit.epochs": 1, "optim.warmup_epochs": 0, "split.val_subjects": 2}
CHILD = """
import json, sys, time
recording, run, out = json.loads(sys.argv[1])
import partsig.sleep.figures, partsig.sleep.recordings
from partsig.verbs.stage import stage_all
def peak():  # ru_maxrss would begin with that of the process that started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1e6 for line in status if line.startswith("VmHWM"))
imports, begin = peak(), time.perf_counter()
found = stage_all([recording], run, output=out, device="cpu")
assert not found.failed, found.failed
print(json.dumps({"gb": peak(), "imports_gb": imports, "s": time.perf_counter() - begin}))
"""


def write_scored(path: Path, seed: int, n: int = 10) -> None:
    """Write n epochs of noise of one's own, with a stage each."""
    rng = np.random.default_rng(seed)
    signals = [
        edfio.EdfSignal(
            (20 * rng.standard_normal(30 * n * SFREQ)).clip(-499, 499),
            SFREQ,
            label=name,
            physical_dimension="uV",
            physical_range=(-500, 500),
        )
        for name in CHANNELS
    ]
    marks = [
        edfio.EdfAnnotation(30.0 * e, 30.0, f"Sleep stage {('W', 'N1', 'N2', 'N3', 'R')[e % 5]}")
        for e in range(n)
    ]
    edfio.Edf(signals, annotations=marks).write(path)


def make_stagers(work: Path) -> dict[str, Path]:
    """Return runs by name; they are trained on twelve excerpts of five minutes."""
    import partsig

    raw = work / "raw"
    raw.mkdir(parents=True)
    for number in range(12):
        write_scored(raw / f"n{number:02d}.edf", number)
    settings = {"channels": list(CHANNELS)}
    store = work / "store"
    partsig.preprocess("edf", raw, store, overrides=settings, jobs=1)
    usual = {"subjects": 4, "device": "cpu", "seed": 0}
    runs = {"epochs": partsig.finetune("scratch", store, work / "epochs", overrides=SHORT, **usual)}
    for name, kind in (("context", "both"), ("bands", "bands")):
        made = partsig.embed(
            runs["epochs"], store, as_store=True, features_of=kind, output=work / f"store-{name}"
        )
        for model in CONTEXTS:
            if (name, model) == ("context", "gru") or name == "bands":
                own = SHORT | {"context.model": model}
                label = name if model == "gru" else f"{name}-{model}"
                runs[label] = partsig.finetune(
                    "scratch", made.path, work / label, task="night-context", overrides=own, **usual
                )
    return runs


def staged_apart(recording: Path, run: Path, work: Path) -> dict[str, float]:
    """Stage a recording in a process of its own; return what it took."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | one | {"PYTHONPATH": str(HERE), "TMPDIR": str(work)}
    given = json.dumps([str(recording), str(run), str(out)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, given], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{run.name} on {recording.name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def lengths(
    runs: dict[str, Path], work: Path, hours: list[float], repeats: int, found: dict
) -> None:
    """Add peak memory and seconds by length and stager to what was ``found``."""
    for length in hours:
        recording = work / f"{length:g}h.edf"
        write_edf(recording, length, SFREQ, labels=CHANNELS)
        for name in runs:
            each = [
                staged_apart(recording, runs[name], work)
                for _ in range(repeats if length <= 24 else 1)
            ]
            told = {"date": date.today().isoformat(), "load": round(os.getloadavg()[0], 1)}
            row = {key: round(statistics.median(e[key] for e in each), 3) for key in each[0]}
            found.setdefault(name, {})[f"{length:g} h"] = row | {"repeats": len(each), **told}
            print(f"{name:8} {length:5g} h  {row}", flush=True)
        recording.unlink()


def context_part(runs: dict[str, Path], work: Path, repeats: int) -> dict:
    """Return the seconds of a night's features, and those of what comes after them."""
    from partsig.modalities.signal_features import scaled
    from partsig.sleep.epoch_features import SignalEpochs
    from partsig.sleep.stager import load
    from partsig.sleep.stagers import predict_signal

    signal = 20 * np.random.default_rng(0).standard_normal((3, EPOCHS_OF_8_H * 3000))
    epochs = SignalEpochs(
        signal=signal.astype(np.float32), n_times=3000, n=EPOCHS_OF_8_H, dtype=np.dtype("float32")
    )
    found = {}
    for name in ("context", "bands", *(f"bands-{kind}" for kind in CONTEXTS[1:])):
        stager = load(runs[name], "cpu")
        made = np.concatenate(list(stager.features.network.features(epochs, stager.device)))
        features, after = [], []
        for _ in range(repeats):
            begin = time.perf_counter()
            predict_signal(stager.model, scaled([made], len(made)), 1 / 30, stager.device)
            after.append(time.perf_counter() - begin)
        for _ in range(repeats if name in ("context", "bands") else 0):
            begin = time.perf_counter()
            list(stager.features.network.features(epochs, stager.device))
            features.append(time.perf_counter() - begin)
        row = {"n_features": made.shape[1], "after_s": round(statistics.median(after), 4)}
        row |= {"features_s": round(statistics.median(features), 3)} if features else {}
        found[name] = row
        print(f"{name:18} {row}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, nargs="+", default=[8, 24, 168])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=CHECKS)
    parser.add_argument("--stagers", nargs="+", choices=STAGERS, default=STAGERS)
    parser.add_argument("--work", type=Path, help="where files are written (default: temporary)")
    given = parser.parse_args()
    import torch

    from partsig.runs import directory

    torch.set_num_threads(1)
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        runs = make_stagers(work / "stagers")
        told = {"command": "python benchmarks/long_nights.py " + " ".join(sys.argv[1:])}
        told |= {"date": directory.now(), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
        if "context_part" in given.only:
            kept["context_part"] = told | {"seconds": context_part(runs, work, given.repeats)}
        if "lengths" in given.only:
            measured = kept.setdefault("lengths", {}).setdefault("measured", {})
            chosen = {name: runs[name] for name in given.stagers}
            lengths(chosen, work, given.hours, given.repeats, measured)
        kept["environment"] = directory.environment()
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
