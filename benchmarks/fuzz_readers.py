"""Does a damaged or hostile recording stop anything? 10,000 of them, in every format.

Run: ``python benchmarks/fuzz_readers.py [--inputs 10000] [--seed 0] [--workers 2]``

Valid small files of each format (``fuzz_files.py``) are damaged by a seed: numbers of their
headers, lengths, bits; cut, filled, repeated, or noise. Each is read as the verbs read it, and what
can be read is filtered, in a process with a limit on its address space that is watched: an input
that takes longer than a limit is a hang. MNE's formats are parsed in further processes that have
limits of their own. Counted by format: read, refused in a sentence, refused by the guard (the
reader raised what it had not thought of), exceptions that escaped, hangs, processes that ended; the
longest time and the greatest memory that the process that reads takes beside what it has imported;
of MNE's formats, the greatest resident memory of a process in which MNE parses (``rusage`` of those
that ended, or were ended by their limits), and of the server that they are forked from. Writes
benchmarks/results/fuzz_readers.json. Eight minutes on two cores.
"""

import argparse
import json
import os
import platform
import resource
import select
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import mne
import numpy as np
import scipy
import wfdb
from fuzz_files import SETTINGS, formats, mutate

from partsig.data.guard import TRACEBACK, guarded
from partsig.data.signals.preprocessing import PreprocessConfig, filtered
from partsig.data.signals.readers import guarded as readers
from partsig.data.signals.readers import mne_process
from partsig.data.signals.recordings import Recording
from partsig.errors import PartsigError

RESULTS = Path(__file__).parent / "results" / "fuzz_readers.json"
# Shares of the inputs.
SHARES = {"EDF": 18, "BDF": 8, "WFDB": 16, "WFDB of the challenge": 8, "FIF": 10}
SHARES |= {"BrainVision": 10, "EEGLAB": 10, "npz": 6, "hypnograms": 10, "WFDB annotations": 4}
# What one input may take: beside what is imported, and in all.
MOST_BYTES, MOST_S = 2**30, 30.0
# Formats that MNE parses, in processes of their own.
OF_MNE = ("FIF", "BrainVision", "EEGLAB")
COUNTS = ("read", "refused", "refused by the guard", "escaped", "hangs", "ended")


def plan(n: int) -> list[str]:
    """Return the format of each of ``n`` inputs."""
    total = sum(SHARES.values())
    return [name for name, share in SHARES.items() for _ in range(round(n * share / total))]


def try_one(number: int, seed: int, kind: str, valid: dict, folder: Path) -> tuple[str, str]:
    """Read one damaged input; return what came of it, and a sentence."""
    rng = np.random.default_rng([seed, number])
    sets, read = valid[kind]
    files = dict(sets[rng.integers(len(sets))])
    opened, names = next(iter(files)), list(files)
    # The first is the header; what lies beside it is damaged less often.
    name = opened if rng.random() < 0.7 else names[rng.integers(len(names))]
    files[name] = mutate(files[name], rng)
    for name, data in files.items():
        (folder / name).unlink(missing_ok=True)  # a file that is mapped must not shrink
        (folder / name).write_bytes(data)
    path = folder / opened
    try:
        with guarded(path.stem):
            if kind in ("hypnograms", "WFDB annotations", "npz"):
                held = read(path, SETTINGS)
            else:
                held = readers.read_recording(read, path, SETTINGS)
            if isinstance(held, Recording):
                np.asarray(filtered(held, PreprocessConfig(channels=SETTINGS.channels)))
        return "read", ""
    except PartsigError as error:
        return ("refused by the guard" if TRACEBACK in str(error) else "refused"), str(error)
    except BaseException:  # noqa: BLE001  (what this looks for)
        return "escaped", traceback.format_exc()[-2000:]
    finally:
        for name in files:
            (folder / name).unlink(missing_ok=True)


def _peak_kb() -> int:
    """Return this process's greatest resident memory since it was last asked for."""
    status = Path("/proc/self/status").read_text()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return int(status.partition("VmHWM:")[2].split()[0])


def _work(numbers: list[int], seed: int, kinds: list[str], valid: dict, out: int) -> None:
    """Try inputs one after the other, and tell of each as it begins and as it is done."""
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2 * MOST_BYTES,) * 2)
    with tempfile.TemporaryDirectory() as folder, os.fdopen(out, "w", buffering=1) as tell:
        before = _peak_kb()
        for number in numbers:
            tell.write(json.dumps([number]) + "\n")
            begun = time.monotonic()
            what, told = try_one(number, seed, kinds[number], valid, Path(folder))
            seconds, peak = time.monotonic() - begun, _peak_kb()
            mne_kb = {}
            if kinds[number] in OF_MNE:
                mne_kb = mne_process.memory_of_readers()
            own = max(peak - before, 0)
            tell.write(json.dumps([number, what, told, seconds, own, mne_kb]) + "\n")


def watched(numbers: list[int], seed: int, kinds: list[str], valid: dict) -> Iterator[tuple]:
    """Yield what came of each input; one that hangs or ends its process is told as such."""
    left = list(numbers)
    while left:
        begin, end = os.pipe()
        worker = os.fork()
        if not worker:
            os.close(begin)
            try:
                _work(left, seed, kinds, valid, end)
            finally:
                os._exit(0)
        os.close(end)
        with os.fdopen(begin, "rb") as heard:
            waiting = b""
            while left:
                ready, _, _ = select.select([heard], [], [], MOST_S)
                piece = os.read(heard.fileno(), 2**16) if ready else b""
                if not piece:
                    os.kill(worker, 9)
                    yield left.pop(0), "ended" if ready else "hangs", "", MOST_S, 0, {}
                    break
                *lines, waiting = (waiting + piece).split(b"\n")
                for told in map(json.loads, lines):
                    if len(told) > 1:
                        left.remove(told[0])
                        yield tuple(told)
        os.waitpid(worker, 0)


def campaign(n: int, seed: int, first: int = 0, step: int = 1) -> tuple[dict, list]:
    """Return counts by format of every ``step``-th of ``n`` inputs, and what was not a refusal."""
    kinds = plan(n)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "c").mkdir()
        valid = formats(Path(folder))
    table = {
        kind: {"inputs": 0, **dict.fromkeys(COUNTS, 0), "longest_s": 0.0, "most_mb": 0.0}
        for kind in SHARES
    }
    for kind in OF_MNE:
        table[kind] |= {"mne_most_mb": 0.0, "mne_loaded_mb": 0.0}
    odd = []
    for number, what, told, seconds, kilobytes, mne_kb in watched(
        list(range(first, len(kinds), step)), seed, kinds, valid
    ):
        row = table[kinds[number]]
        row["inputs"] += 1
        row[what] += 1
        row["longest_s"] = max(row["longest_s"], round(seconds, 2))
        row["most_mb"] = max(row["most_mb"], round(kilobytes / 1024, 1))
        if mne_kb:
            row["mne_most_mb"] = max(row["mne_most_mb"], round(mne_kb["readers"] / 1024, 1))
            row["mne_loaded_mb"] = max(row["mne_loaded_mb"], round(mne_kb["server"] / 1024, 1))
        if what not in ("read", "refused"):
            odd.append([number, kinds[number], what, told])
    return table, odd


def _joined(tables: list[dict]) -> dict:
    whole = {}
    for kind in SHARES:
        rows = [table[kind] for table in tables]
        whole[kind] = {
            key: (max if key.endswith(("_s", "_mb")) else sum)(row[key] for row in rows)
            for key in rows[0]
        }
    return whole


def main() -> None:
    """Try all inputs, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    begun, ends = time.monotonic(), []
    for worker in range(given.workers):
        begin, end = os.pipe()
        if not os.fork():
            found = campaign(given.inputs, given.seed, worker, given.workers)
            with os.fdopen(end, "w") as file:
                json.dump(found, file)
            os._exit(0)
        os.close(end)
        ends.append(begin)
    done = [json.loads(os.fdopen(begin).read()) for begin in ends]
    table, odd = _joined([table for table, _ in done]), [row for _, rows in done for row in rows]
    for kind, row in table.items():
        print(f"{kind:<22} " + ", ".join(f"{key} {value:,}" for key, value in row.items()))
    for row in odd:
        print(row, file=sys.stderr)
    totals = {key: sum(row[key] for row in table.values()) for key in ("inputs", *COUNTS)}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions |= {"scipy": scipy.__version__, "mne": mne.__version__, "wfdb": wfdb.__version__}
    result = {
        "command": f"python benchmarks/fuzz_readers.py --inputs {given.inputs} --seed {given.seed} "
        f"--workers {given.workers}",
        "seed": given.seed,
        "date": date.today().isoformat(),
        "versions": versions,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "limits": {
            "seconds": MOST_S,
            "address_space_mb": 2 * MOST_BYTES // 2**20,
            "address_space_of_mne_mb": mne_process.MEMORY // 2**20,
        },
        "totals": totals,
        "formats": table,
    }
    given.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    if totals["escaped"] or totals["hangs"] or totals["ended"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
