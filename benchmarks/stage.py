"""How long does a night take, from the file to the hypnogram? partsig beside YASA, in one run.

Run: ``python benchmarks/stage.py [WORK]``

The night: 7.7 h of six EEG channels, an EOG and a chin at 200 Hz in an EDF file, spliced from the
bundled excerpts (real signal; the content does not change the time). partsig's stager has
the paper's encoder (12.9 M parameters) on the six EEG channels; YASA's is its own, on one EEG, EOG
and EMG. What is timed is what an analyst waits for with the model loaded: reading the file, judging
its channels, filtering, staging, calibration, the review list; then, apart, writing all files and
the figure. For YASA: reading the file, its features and its classifier. Medians of REPEATS,
alternating.
Writes benchmarks/results/stage.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import edfio
import numpy as np

RESULTS = Path(__file__).parent / "results" / "stage.json"
EEG = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
SFREQ, SECONDS = 200, 27_720


def write_night(path: Path, seconds: int = SECONDS, stages: bool = False) -> Path:
    """Write a night of the bundled excerpts' channels, each EEG channel from another place."""
    import wfdb

    from partsig.data.sample import write_records

    with tempfile.TemporaryDirectory() as folder:
        records = [wfdb.rdrecord(str(p.with_suffix(""))) for p in write_records(Path(folder))]
    whole = np.concatenate([record.p_signal for record in records]).T  # (3, T)
    rows = {name: np.roll(whole[0], 6000 * c) for c, name in enumerate(EEG)}
    rows |= {"E1-M2": whole[1], "Chin1-Chin2": whole[2]}
    n = seconds * SFREQ
    signals = [
        edfio.EdfSignal(
            np.resize(row, n).clip(-3000, 3000),
            SFREQ,
            label=name,
            physical_dimension="uV",
            physical_range=(-3000, 3000),
        )
        for name, row in rows.items()
    ]
    marks = [
        edfio.EdfAnnotation(30.0 * e, 30.0, f"Sleep stage {('W', 'N1', 'N2', 'N3', 'R')[e % 5]}")
        for e in range(seconds // 30 if stages else 0)
    ]
    edfio.Edf(signals, annotations=marks).write(path)
    return path


def make_stager(work: Path) -> Path:
    """Return a run whose stager has the default encoder; its labels are arbitrary, only short."""
    import partsig

    raw = work / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        path = raw / f"n{number:02d}.edf"
        if not path.is_file():
            write_night(path, 300, stages=True)
    partsig.preprocess("edf", raw, work / "store")
    settings = {"fit.epochs": 1, "optim.warmup_epochs": 0, "split.val_subjects": 2}
    return partsig.finetune(
        "scratch", work / "store", work / "run", subjects=4, overrides=settings, device="cpu"
    )


def by_yasa(path: Path) -> np.ndarray:
    """Stage a night as YASA's documentation does."""
    import mne
    import yasa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its classifiers come from an older scikit-learn
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        names = {"eeg_name": "C4-M1", "eog_name": "E1-M2", "emg_name": "Chin1-Chin2"}
        return np.asarray(yasa.SleepStaging(raw, **names).predict().hypno)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        measure(work, given.repeats)


def measure(work: Path, repeats: int) -> None:
    """Time both on one night and write the table."""
    import yasa

    from partsig.runs import directory as runs
    from partsig.sleep.stager import load
    from partsig.sleep.staging_files import write_staging
    from partsig.verbs.stage import stage

    night = work / "night.edf"
    if not night.is_file():
        write_night(night)
    stager = load(make_stager(work), "cpu")
    by_yasa(night)  # compiles what it compiles once, and both find the file in memory
    stage(night, stager)
    times: dict[str, list[float]] = {"partsig": [], "partsig, all files": [], "YASA": []}
    for _ in range(repeats):
        begin = time.perf_counter()
        staging = stage(night, stager)
        staged = time.perf_counter()
        write_staging(staging, work / "out")
        written = time.perf_counter()
        by_yasa(night)
        end = time.perf_counter()
        for key, value in zip(times, (staged - begin, written - begin, end - written), strict=True):
            times[key].append(value)
    medians = {key: statistics.median(values) for key, values in times.items()}
    for key, value in medians.items():
        print(f"{key:20s} {value:6.2f} s   {value / medians['YASA']:5.2f} x YASA's")
    parameters = sum(p.numel() for p in stager.model.parameters())
    result = {
        "command": f"python benchmarks/stage.py --repeats {repeats}",
        "date": runs.now(),
        "environment": runs.environment() | {"yasa": yasa.__version__},
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "night": f"{SECONDS / 3600:g} h, 8 channels, {SFREQ} Hz, EDF",
        "parameters": parameters,
        "median_s": medians,
        "all_s": times,
        "ratio_to_yasa": {key: value / medians["YASA"] for key, value in medians.items()},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
