"""Time, memory and numbers of ``partsig preprocess`` against MNE and braindecode.

    python benchmarks/preprocess.py [--repeats 5] [--nights 8] [--hours 7.7]

Nights of the challenge's size (13 channels, 200 Hz, int16; coloured noise, 60 Hz mains, slow
drift, a scored hypnogram) are written to a temporary folder in the challenge's layout. In turns,
each run in a process of its own and on one thread:

- ``partsig``: the whole verb with ``jobs=1``: header, checksums, stages, 0.1-30 Hz, 100 Hz, store
  (float32, hashed and synced to the disk; windows are cut when they are read);
- ``filter``: of that, ``bandpass_resample`` of the six channels alone;
- ``mne``: the six channels out of a memory map (faster than ``wfdb.rdrecord``), ``RawArray``,
  ``filter(0.1, 30)``, ``resample(100)``, cut into 30-s windows by reshaping (faster than
  ``make_fixed_length_epochs``), ``numpy.save`` in float32: no checksums, no stages;
- ``braindecode``: its class for this dataset, ``SleepPhysionetChallenge2018``, its preprocessors
  ``pick``, ``filter``, ``resample``, then ``create_fixed_length_windows`` and ``save``; for the
  tables of 1983 records that it would download it is given tables of these nights;
- ``read``: the bytes of the signal file and nothing else.

Seconds count from after the imports, with the file in the page cache. Peak memory is the process's
``ru_maxrss``, imports and mapped file included. Then several nights with one and with two threads,
from a cold start and once more in the same process. A ratio is taken within a round, in which each
kind runs once; all figures are medians of the rounds and go to ``results/preprocess.json``.
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
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

RESULTS = Path(__file__).parent / "results" / "preprocess.json"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
SFREQ = 200
CHANNELS = (
    *("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "Chin1-Chin2"),
    *("ABD", "CHEST", "AIRFLOW", "SaO2", "ECG"),
)
# A night in runs of epochs: some minutes unscored, then cycles of about 90 minutes in which N3
# shrinks and REM grows.
LEAD_IN, CYCLE = ((-1, 12), (0, 20)), ((1, 6), (2, 40), (3, 60), (2, 40), (4, 20), (0, 4))
TOLERANCE = 1e-5  # of a channel's standard deviation
WINDOW = 3000  # samples of 30 s at 100 Hz


def hypnogram(n_epochs: int):
    """Return (E,) int8 stages, change points on the 30-s grid."""
    import numpy as np

    runs = [stage for stage, n in LEAD_IN for _ in range(n)]
    cycle = 0
    while len(runs) < n_epochs:
        change = {3: -18 * cycle, 4: 12 * cycle}
        runs += [stage for stage, n in CYCLE for _ in range(max(n + change.get(stage, 0), 2))]
        cycle += 1
    return np.array(runs[:n_epochs], np.int8)


def write_night(folder: Path, name: str, hours: float, seed: int) -> None:
    """Write one night; 3.5 s more than whole epochs, as real records have a tail."""
    import numpy as np
    import scipy.fft

    from partsig.data.signals.readers.physionet2018 import write_recording

    n_epochs = round(hours * 120)
    n_times = n_epochs * 30 * SFREQ + 700
    rng = np.random.default_rng([2018, seed])
    seconds = np.arange(n_times) / SFREQ
    amplitude = 1 / np.maximum(scipy.fft.rfftfreq(n_times, 1 / SFREQ), 0.3)
    signal = np.empty((len(CHANNELS), n_times), np.int16)
    for row in signal:
        phase = rng.random(len(amplitude), np.float32)
        noise = scipy.fft.irfft(amplitude * np.exp(2j * np.pi * phase), n_times)
        noise *= 30 / noise.std()
        noise += 8 * np.sin(2 * np.pi * 60 * seconds + rng.random())
        noise += 300 * np.sin(2 * np.pi * seconds / 700 + rng.random())
        row[:] = noise.round()
    write_recording(folder / name, name, signal, CHANNELS, SFREQ, stages=hypnogram(n_epochs))


def work_partsig(raw: Path, out: Path, jobs: int) -> float:
    from partsig.verbs.preprocess import preprocess

    start = time.perf_counter()
    preprocess("physionet2018", raw, out, jobs=jobs)
    return time.perf_counter() - start


def work_partsig_warm(raw: Path, out: Path, jobs: int) -> float:
    work_partsig(raw, out, jobs)
    return work_partsig(raw, out.with_name("again"), jobs)


def work_filter(raw: Path, _out: Path, _: int) -> float:
    import numpy as np

    from partsig.data.signals.filters import bandpass_resample

    start = time.perf_counter()
    for path in sorted(raw.rglob("*.mat")):
        samples = np.memmap(path, "<i2", "r", 24).reshape(-1, len(CHANNELS)).T
        bandpass_resample(samples[:6], SFREQ, 100)
    return time.perf_counter() - start


def work_mne(raw: Path, out: Path, _: int) -> float:
    import mne
    import numpy as np

    mne.set_log_level("ERROR")
    mne.create_info(1, SFREQ, "eeg")  # loads what mne loads late
    mne.filter.filter_data(np.zeros(20_000), SFREQ, 0.1, 30)
    out.mkdir()
    start = time.perf_counter()
    for path in sorted(raw.rglob("*.mat")):
        samples = np.memmap(path, "<i2", "r", 24).reshape(-1, len(CHANNELS))
        volts = samples[:, :6].T * 1e-6
        recording = mne.io.RawArray(volts, mne.create_info(list(CHANNELS[:6]), SFREQ, "eeg"))
        recording.filter(0.1, 30)
        recording.resample(100)
        microvolts = (recording.get_data() * 1e6).astype(np.float32)
        whole = microvolts[:, : microvolts.shape[1] // WINDOW * WINDOW]
        windows = whole.reshape(6, -1, WINDOW).swapaxes(0, 1)  # (N, C, T)
        np.save(out / path.stem, np.ascontiguousarray(windows))
    return time.perf_counter() - start


def work_braindecode(raw: Path, out: Path, _: int) -> float:
    import mne
    from braindecode.datasets import SleepPhysionetChallenge2018
    from braindecode.datasets import sleep_physio_challe_18 as module
    from braindecode.preprocessing import Preprocessor, create_fixed_length_windows

    mne.set_log_level("ERROR")
    subjects = write_tables(module, raw, out)
    start = time.perf_counter()
    steps = [
        Preprocessor("pick", picks=list(CHANNELS[:6])),
        Preprocessor("filter", l_freq=0.1, h_freq=30),
        Preprocessor("resample", sfreq=100),
    ]
    nights = SleepPhysionetChallenge2018(subjects, path=str(out), preproc=steps)
    size = {"window_size_samples": WINDOW, "window_stride_samples": WINDOW}
    windows = create_fixed_length_windows(nights, **size, on_last_window="drop")
    windows.save(str(out / "saved"))
    return time.perf_counter() - start


def write_tables(module: ModuleType, raw: Path, out: Path) -> list[int]:
    """Put tables of these nights where braindecode looks for its own; return their subjects."""
    names = sorted(path.stem for path in raw.rglob("*.hea"))
    subjects = list(range(989, 989 + len(names)))  # its training set begins at 989
    (out / "saved").mkdir(parents=True)
    (out / "training").symlink_to(raw.resolve())
    kinds = {"PSG": "mat", "Header": "hea", "Arousal": "arousal"}
    tables = {
        "PC18_RECORDS": ["Subject,Record,Record type,Split,sha,fname"]
        + [
            f"{subject},{name},{kind},training,,training/{name}/{name}.{suffix}"
            for subject, name in zip(subjects, names, strict=True)
            for kind, suffix in kinds.items()
        ],
        "PC18_INFO": ["Record,Age,Sex", *(f"{name},50,F" for name in names)],
        **{"PC18_SHA1_TRAINING": [], "PC18_SHA1_TEST": []},
    }
    for name, lines in tables.items():
        (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        setattr(module, name, str(out / name))
    return subjects


def work_read(raw: Path, _out: Path, _: int) -> float:
    start = time.perf_counter()
    for path in raw.rglob("*.mat"):
        with open(path, "rb", buffering=0) as handle:
            while handle.read(2**20):
                pass
    return time.perf_counter() - start


KINDS = ("partsig", "filter", "mne", "braindecode", "read")
WORK = {
    "partsig": work_partsig,
    "partsig_warm": work_partsig_warm,
    "filter": work_filter,
    "mne": work_mne,
    "braindecode": work_braindecode,
    "read": work_read,
}


def measure(kind: str, raw: Path, out: Path, jobs: int = 1) -> dict[str, float]:
    """Run one piece of work in a process of its own; return its seconds and peak MiB."""
    for path in (out, out.with_name("again")):
        shutil.rmtree(path, ignore_errors=True)
    os.sync()  # or the store's sync would wait for what the others left unwritten
    command = [sys.executable, __file__, "--work", kind, str(raw), str(out), str(jobs)]
    ended = subprocess.run(
        command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(ended.stdout.splitlines()[-1])


def work(kind: str, raw: str, out: str, jobs: str) -> None:
    """Do one piece of work in this process and print what ``measure`` reads."""
    seconds = WORK[kind](Path(raw), Path(out), int(jobs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


def difference(store: Path, other: Path) -> dict[str, float]:
    """Return max |difference| / SD per channel between a store's night and MNE's windows."""
    import numpy as np

    (ours,), (theirs,) = (list(path.rglob("tr*.npy")) for path in (store / "signals", other))
    windows = np.load(theirs).astype(float)  # (N, C, T)
    right = windows.swapaxes(0, 1).reshape(windows.shape[1], -1)
    left = np.load(ours).astype(float)
    if len(left) != len(right) or not 0 <= left.shape[1] - right.shape[1] < WINDOW:
        raise SystemExit(f"shapes differ: {left.shape} and {right.shape}")
    worst = abs(left[:, : right.shape[1]] - right).max(axis=1) / right.std(axis=1)
    return dict(zip(CHANNELS, worst.tolist(), strict=False))


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def ratio(above: list[dict[str, float]], below: list[dict[str, float]]) -> float:
    """Return the median over the rounds of one kind's seconds over another's."""
    pairs = zip(above, below, strict=True)
    return statistics.median(one["seconds"] / other["seconds"] for one, other in pairs)


def benchmark(folder: Path, repeats: int, n_nights: int, hours: float) -> dict:
    one, several = folder / "one", folder / "several"
    # A process's ru_maxrss starts at its parent's: the nights are made in a process of their own.
    subprocess.run(
        [sys.executable, __file__, "--write", str(several), str(n_nights), str(hours)], check=True
    )
    shutil.copytree(several / "tr00-0000", one / "tr00-0000")
    measure("read", one, folder / "none")  # into the page cache
    runs: dict[str, list] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        for kind in KINDS:
            runs[kind].append(measure(kind, one, folder / kind))
    scaling: dict[tuple[str, int], list] = {
        (kind, jobs): [] for kind in ("partsig", "partsig_warm") for jobs in (1, 2)
    }
    for _ in range(repeats):
        for kind, jobs in scaling:
            scaling[kind, jobs].append(measure(kind, several, folder / "scaling", jobs))
    nights: dict = {"count": n_nights}
    for kind, name in (("partsig", "cold"), ("partsig_warm", "warm")):
        workers = [scaling[kind, jobs] for jobs in (1, 2)]
        nights[name] = {
            "seconds_one_worker": median(workers[0], "seconds"),
            "seconds_two_workers": median(workers[1], "seconds"),
            "speed_up": ratio(*workers),
            "seconds_all": [[run["seconds"] for run in found] for found in workers],
            "peak_mib_one_worker": median(workers[0], "peak_mib"),
            "peak_mib_two_workers": median(workers[1], "peak_mib"),
        }
    one_night = {
        kind: {
            "seconds": median(found, "seconds"),
            "seconds_all": [run["seconds"] for run in found],
            "times_partsig": ratio(found, runs["partsig"]),
            "peak_mib": median(found, "peak_mib"),
        }
        for kind, found in runs.items()
    }
    return {
        "one_night": one_night,
        "max_difference_over_sd": difference(folder / "partsig", folder / "mne"),
        "nights": nights,
    }


def table(result: dict) -> str:
    """Return the result as Markdown."""
    lines = ["| one night | seconds | times partsig's | peak MiB |", "|---|---|---|---|"]
    lines += [
        f"| {kind} | {s['seconds']:.3f} | {s['times_partsig']:.2f} | {s['peak_mib']:.0f} |"
        for kind, s in result["one_night"].items()
    ]
    lines += ["", "| channel | max abs. difference from MNE / SD |", "|---|---|"]
    lines += [f"| {name} | {e:.1e} |" for name, e in result["max_difference_over_sd"].items()]
    nights = result["nights"]
    lines += [
        "",
        f"| {nights['count']} nights | one worker | two | speed-up | peak MiB, one | two |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for name in ("cold", "warm"):
        s = nights[name]
        lines.append(
            f"| {name} | {s['seconds_one_worker']:.2f} s | {s['seconds_two_workers']:.2f} s | "
            f"{s['speed_up']:.2f} | {s['peak_mib_one_worker']:.0f} | "
            f"{s['peak_mib_two_workers']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nights", type=int, default=8)
    parser.add_argument("--hours", type=float, default=7.7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = benchmark(Path(folder), arguments.repeats, arguments.nights, arguments.hours)
    packages = ("partsig", "numpy", "scipy", "mne", "braindecode", "wfdb", "joblib")
    head = {
        "command": " ".join(["python", "benchmarks/preprocess.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "night": {"hours": arguments.hours, "channels": len(CHANNELS), "sfreq": SFREQ},
        "repeats": arguments.repeats,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(head | result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    worst = max(result["max_difference_over_sd"].values())
    if worst >= TOLERANCE:
        raise SystemExit(f"the store differs from MNE by {worst:.1e} of the SD")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    elif sys.argv[1:2] == ["--write"]:
        for seed in range(int(sys.argv[3])):
            write_night(Path(sys.argv[2]), f"tr00-{seed:04d}", float(sys.argv[4]), seed)
    else:
        main()
