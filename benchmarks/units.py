"""Is a wrong unit found, and how often is a right one taken for wrong?

Run: ``python benchmarks/units.py DATA`` with a folder that holds biosignals/ (EDF, WFDB),
psg_six_channel/, dreams/ and pc18_segments/, of which any may be missing.

Each channel of real recordings is judged as it is (a refusal or a note is a false alarm, to be
looked at), then by numbers and resolution a thousand times smaller and larger (mV under a µV label,
and the reverse), and after 90 % of it were switched off. Writes benchmarks/results/units.json. Five
minutes on one core.
"""

import argparse
import json
import platform
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import scipy

from partsig.data.signals.readers import psg
from partsig.data.signals.recordings import Rows
from partsig.data.signals.units import UNITS, changes_of, judge
from partsig.errors import DataError

RESULTS = Path(__file__).parent / "results" / "units.json"
FACTORS = {"as it is": 1.0, "mV under uV": 1e-3, "uV under mV": 1e3}
# Labels of what is no EEG, EOG or EMG of skin, where its amplitude means nothing.
OTHER = ("PHONO", "NAF1", "ECG", "MLII", "V1", "V2", "V4", "V5")


def edf(folder: Path) -> Iterator[tuple[str, str, Rows]]:
    """Yield (recording, kind, row) of each channel of EDF files that is in a voltage."""
    for path in sorted(folder.rglob("*.edf")):
        try:
            file = psg.open_psg(path)
        except DataError:
            continue  # hypnograms
        for i, label in enumerate(file.labels):
            factor = UNITS.get(file.units[i].strip().lower())
            if factor is None or (file.faults and file.faults[i]):
                continue
            yield (
                path.stem,
                label,
                one(
                    file.samples(i)[:],
                    file.sfreqs[i],
                    file.scale[i] * factor,
                    label,
                    file.offset[i],
                ),
            )


def wfdb_records(folder: Path) -> Iterator[tuple[str, str, Rows]]:
    """Yield the channels of WFDB records that are in a voltage."""
    import wfdb

    for path in sorted(folder.rglob("*.hea")):
        try:
            record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
        except FileNotFoundError:
            continue
        for i, label in enumerate(record.sig_name):
            factor = UNITS.get(record.units[i].lower())
            if factor is not None:
                scale = factor / record.adc_gain[i]
                yield path.stem, label, one(record.d_signal[:, i], record.fs, scale, label)


def segments(folder: Path) -> Iterator[tuple[str, str, Rows]]:
    """Yield the channels of 60-s segments."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            x, names, sfreq = arrays["x"], arrays["ch_names"], float(arrays["sfreq"])
        for n, segment in enumerate(x):
            for label, row in zip(names, segment, strict=True):
                yield f"{path.stem} {n}", str(label), one(row, sfreq, 1.0, str(label))


def texts(folder: Path) -> Iterator[tuple[str, str, Rows]]:
    """Yield the EEG of DREAMS's text files, µV."""
    for path in sorted(folder.glob("spindles/excerpt*.txt")):
        values = np.loadtxt(path, skiprows=1)
        rate = {"excerpt1": 100.0, "excerpt3": 50.0}.get(path.stem, 200.0)
        yield path.stem, "C3-A1", one(values, rate, 1.0, "C3-A1")


def one(row: np.ndarray, sfreq: float, scale: float, label: str, offset: float = 0.0) -> Rows:
    row = np.asarray(row)
    return Rows(
        labels=(label,), signal=row[None], sfreq=sfreq, picks=(0,), scale=(scale,), offset=(offset,)
    )


def scaled(row: Rows, factor: float) -> Rows:
    return replace(row, scale=tuple(scale * factor for scale in row.scale))


def switched_off(row: Rows) -> Rows:
    signal = np.array(row.signal)
    signal[:, signal.shape[1] // 10 :] = signal[0, 0]
    return replace(row, signal=signal)


def verdict(row: Rows, unit: str) -> str:
    """Return what comes of a channel: "passed", "told" or "refused"."""
    told, refused = judge(changes_of(row)[0], unit)
    return "refused" if refused else "told" if told else "passed"


def main() -> None:
    """Judge all channels, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # wfdb's own use of pandas
    sources = {
        "EDF (EEG, EOG, EMG, ECG)": [
            edf(given.data / name) for name in ("biosignals", "psg_six_channel", "dreams")
        ],
        "WFDB (ECG)": [wfdb_records(given.data / "biosignals")],
        "texts (EEG)": [texts(given.data / "dreams")],
        "PhysioNet-2018 segments (EEG, EOG, EMG)": [segments(given.data / "pc18_segments")],
    }
    table, odd = {}, []
    for source, readers in sources.items():
        recordings, counts, channels = set(), {}, 0
        for rows in readers:
            for recording, label, row in rows:
                recordings.add(recording)
                channels += 1
                kind = "ECG and others" if label.split()[0].upper() in OTHER else "EEG, EOG, EMG"
                for name, factor in FACTORS.items():
                    unit = name.rpartition(" ")[2].replace("is", "uV")
                    what = verdict(scaled(row, factor), "uV" if unit == "it" else unit)
                    counts.setdefault(f"{kind}: {name}", Counter())[what] += 1
                    missed = kind.startswith("EEG") and factor != 1 and what != "refused"
                    if missed or (factor == 1 and what != "passed"):
                        odd.append(f"{recording} {label}: {name}: {what}, {changes_of(row)[0]}")
                what = verdict(switched_off(row), "uV")
                counts.setdefault(f"{kind}: 90 % off", Counter())[what] += 1
        if channels:
            told = {name: dict(count) for name, count in sorted(counts.items())}
            table[source] = {"recordings": len(recordings), "channels": channels} | told
            print(source, json.dumps(table[source], indent=1))
    print(*odd[:60], sep="\n")
    result = {
        "command": "python benchmarks/units.py DATA",
        "date": date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "sources": table,
        "not as expected": {"count": len(odd), "first": odd[:60]},
    }
    given.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
