"""Is a damaged recording ever read as another signal, or other stages, without a word?

Run: ``python benchmarks/fuzz_recordings.py [--inputs 1500] [--seed 0]``

Valid small recordings (WFDB, FIF, BrainVision, EEGLAB, EDF), each with a start, stages and two
channels, are changed by a seed: by what each format can have wrong (:data:`CHANGES`: a count, a
rate, an order, a name, a length, a pointer), or by bytes (``fuzz_files.mutate``). What is read is
compared with the unchanged recording: the wanted channel in µV, its rate, the stages and their
place, the start. Counted: refused; read right; read with a note; read otherwise and nothing said.
Of the last a part is nothing that any reader could know, since the file agrees with itself (a gain
that is another gain, bytes of samples without a checksum): these are counted as ``untellable``,
with the reason. What remains is ``silent``, and listed. Writes results/fuzz_recordings.json.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import fuzz_files
import mne
import numpy as np
import scipy.io
import wfdb
from fuzz_changes import CHANGES, VALID

from partsig.data.signals.readers import edf_recordings, guarded, wfdb_records
from partsig.data.signals.recordings import ReadConfig, Recording
from partsig.errors import PartsigError

RESULTS = Path(__file__).parent / "results" / "fuzz_recordings.json"
SETTINGS = ReadConfig(channels=("C4-M1",))
READ = {"WFDB": wfdb_records.read_recording}
LEAST_S = 0.02  # a start is compared to this
OUTCOMES = ("right", "told", "refused", "untellable", "silent", "escaped")


def read(folder: Path, kind: str, files: Mapping[str, bytes]) -> Recording:
    """Read a recording from its files, the first of which is opened."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    reader = READ.get(kind, edf_recordings.read_recording)
    return guarded.read_recording(reader, folder / next(iter(files)), SETTINGS)


def summary(recording: Recording) -> dict[str, object]:
    """Return what is compared of a recording, its signal in µV."""
    (part,) = recording.parts
    return {
        "signal": np.array(part.microvolts(0)),
        "rate": part.sfreq,
        "stages": recording.stages.tolist(),
        "place": round(recording.start_s, 3),
        "start": recording.start,
        "notes": {note for note in recording.notes if not note.startswith("stages from ")},
    }


def differs(valid: dict, got: dict) -> str:
    """Return in what a recording differs from the valid one, "" where in nothing."""
    found = [key for key in ("rate", "stages", "place") if valid[key] != got[key]]
    if (valid["start"] is None) != (got["start"] is None) or (
        got["start"] and abs((got["start"] - valid["start"]).total_seconds()) > LEAST_S
    ):
        found.append("start")
    a, b = valid["signal"], got["signal"]
    if len(a) != len(b):
        found.append("length")
    n = min(len(a), len(b))
    if n and abs(a[:n] - b[:n]).max() > 0.2:
        found.append("signal")
    return ", ".join(found)


def try_one(folder: Path, kind: str, name: str, valid: dict, rng: np.random.Generator) -> tuple:
    """Change a recording and read it; return what came of it, and a sentence."""
    files, reference = valid[kind]
    if name == "bytes":
        changed = dict(files)
        names = list(files)
        which = names[0] if rng.random() < 0.6 else names[rng.integers(len(names))]
        changed[which] = fuzz_files.mutate(files[which], rng)
        why = "" if which == names[0] else "bytes of samples or marks"
    else:
        change, why = CHANGES[kind][name]
        changed = change(dict(files), rng)
    try:
        got = summary(read(folder, kind, changed))
    except PartsigError as error:
        return "refused", str(error)
    except Exception as error:  # noqa: BLE001  (what this looks for)
        return "escaped", repr(error)
    finally:
        for other in folder.iterdir():
            other.unlink()
    difference = differs(reference, got)
    if not difference:
        return "right", ""
    new = sorted(got["notes"] - reference["notes"])
    if new:
        return "told", f"{difference}: {new[0]}"
    if name == "bytes" and not why:
        why = _untellable(kind, difference)
    return ("untellable" if why else "silent"), f"{difference}: {why}"


def _untellable(kind: str, difference: str) -> str:
    """Return why no reader could know of a change of bytes in the file that is opened."""
    if kind in ("FIF", "EEGLAB", "EDF") and difference == "signal":
        return "bytes of samples or of a gain, which nothing else tells"
    if difference == "start":
        return "a date or time that is another one"
    return ""


def prepared(folder: Path) -> dict[str, tuple[Mapping[str, bytes], dict]]:
    """Return the valid files of each kind, and what is read of them."""
    valid = {}
    for kind, make in VALID.items():
        files = make(folder)
        for other in folder.iterdir():
            other.unlink()
        valid[kind] = (files, summary(read(folder, kind, files)))
        for other in folder.iterdir():
            other.unlink()
    return valid


def campaign(n: int, seed: int) -> tuple[dict, list[str]]:
    """Return counts by format and change of ``n`` inputs, and those that were silent or escaped."""
    counts: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    odd = []
    ways = [(kind, name) for kind, changes in CHANGES.items() for name in (*changes, "bytes")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        valid = prepared(folder)
        for number in range(n):
            kind, name = ways[number % len(ways)]
            rng = np.random.default_rng([seed, number])
            what, told = try_one(folder, kind, name, valid, rng)
            counts[kind][name][what] += 1
            if what in ("silent", "escaped"):
                odd.append(f"{number} {kind} {name}: {what}: {told}")
    return {kind: {k: dict(v) for k, v in each.items()} for kind, each in counts.items()}, odd


def main() -> None:
    """Try all inputs, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    table, odd = campaign(given.inputs, given.seed)
    totals: Counter = Counter()
    for kind, changes in table.items():
        for name, counts in changes.items():
            totals.update(counts)
            print(f"{kind:<12} {name:<28}", ", ".join(f"{k} {v}" for k, v in counts.items()))
    print(*odd, sep="\n")
    result = {
        "command": f"python benchmarks/fuzz_recordings.py --inputs {given.inputs} "
        f"--seed {given.seed}",
        "seed": given.seed,
        "date": date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "mne": mne.__version__,
            "wfdb": wfdb.__version__,
        },
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "totals": {what: totals[what] for what in OUTCOMES},
        "formats": table,
        "untellable because": {
            f"{kind}, {name}": why
            for kind, changes in CHANGES.items()
            for name, (_, why) in changes.items()
            if why
        },
        "silent": odd,
    }
    given.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
