"""Damages hypnograms of every text format, and counts what is refused, and what is read otherwise.

    python benchmarks/fuzz_hypnograms.py 20000

A damaged file may be refused in a sentence, or give the stages of the whole one (same), or some of
its epochs unscored (fewer). Stages that differ are *told* where a note or the placing differs too;
where nothing is said (unlike), ``--list`` shows what was changed.
"""

import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.errors import DataError
from partsig.files import write_json

RESULTS = Path(__file__).parent / "results" / "fuzz_hypnograms.json"
START, DURATION_S = datetime(2020, 2, 1, 23, 55), 600.0
STAGES = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 2, 2, 4, 4, 4, 1, 0, 0, 0]
WORDS = ("W", "N1", "N2", "N3", "R")
EMBLA = ("SLEEP-S0", "SLEEP-S1", "SLEEP-S2", "SLEEP-S3", "SLEEP-REM")
TYPES = ("Wake", "NonREM1", "NonREM2", "NonREM3", "REM")
COUNTED = ("refused", "same", "fewer", "told", "unlike", "escaped")
SPLICED = ("nan", "-1", "1e9", "::", "N2", "9", "\0", "\x1b[2J", "é", ";", ",", "\t", "\n", "0")


def clock(k: int) -> str:
    """Return the time of day of an epoch."""
    s = (23 * 60 + 55) * 60 + 30 * k
    return f"{s // 3600 % 24:02d}:{s // 60 % 60:02d}:{s % 60:02d}"


def files() -> dict[str, tuple[str, str, dict]]:
    """Return a file of each format: its name, its text, settings."""
    lines = list(enumerate(STAGES))
    rml = "".join(f'<Stage Type="{TYPES[c]}" Start="{30 * k}"/>' for k, c in lines)
    profusion = "".join(f"<SleepStage>{c + (c == 4)}</SleepStage>" for c in STAGES)
    three = "".join(
        f"{30 * k}\t30\t{WORDS[code]}\t{who}\n"
        for k, c in lines
        for who, code in (("a", c), ("b", c), ("c", (c + k % 2) % 5))
    )
    listed = {who: [WORDS[c] for c in STAGES] for who in ("a", "b")}
    return {
        "remlogic": (
            "n.txt",
            "RemLogic Event Export\nPatient:\tX\n\nSleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]"
            + "".join(f"\n{WORDS[c]}\t{clock(k)}\t{EMBLA[c]}\t30" for k, c in lines),
            {},
        ),
        "domino": (
            "n.txt",
            "Signal ID: SchlafProfil\\profil\nStart Time: 01.02.2020 23:55:00\nRate: 30 s\n\n"
            + "".join(f"{clock(k)},000; {WORDS[c]}\n" for k, c in lines),
            {},
        ),
        "luna": (
            "n.annot",
            "class\tinstance\tchannel\tstart\tstop\tmeta\n"
            + "".join(f"{WORDS[c]}\t.\t.\t{30 * k}\t{30 * k + 30}\t.\n" for k, c in lines),
            {},
        ),
        "luna clock": ("n.annot", "".join(f"{WORDS[c]}\t{clock(k)}\t+30\n" for k, c in lines), {}),
        "eannot": ("n.eannot", "".join(f"{WORDS[c]}\n" for c in STAGES), {}),
        "elan": (
            "n.hyp",
            f"time_base 30\nsampling_period 0.01\nepoch_nb {len(STAGES)}\nepoch_list\n"
            + "".join(f"{c + (c == 4)}\n" for c in STAGES),
            {},
        ),
        "visbrain": (
            "n.txt",
            "*Duration_sec\t600\n" + "".join(f"{WORDS[c]}\t{30 * k + 30}\n" for k, c in lines),
            {},
        ),
        "mne": (
            "n.txt",
            "# MNE-Annotations\n# orig_time : 2020-02-01 23:55:00+00:00\n"
            "# onset, duration, description\n"
            + "".join(f"{30 * k}.0, 30.0, Sleep stage {WORDS[c]}\n" for k, c in lines),
            {},
        ),
        "json": ("n.json", json.dumps([WORDS[c] for c in STAGES]), {}),
        "json of scorers": ("n.json", json.dumps(listed), {"scorer": "b"}),
        "one line": ("n.txt", ",".join(map(str, STAGES)), {"codes": "yasa"}),
        "table of scorers": (
            "sub-1_events.tsv",
            "onset\tduration\tstage\tscorer\n" + three,
            {"scorer": "consensus"},
        ),
        "rml": (
            "n.rml",
            "<PatientStudy><RecordingStart>2020-02-01T23:55:00</RecordingStart><UserStaging>"
            f"{rml}</UserStaging></PatientStudy>",
            {},
        ),
        "profusion": (
            "n.xml",
            '<a xmlns="http://x"><EpochLength>30</EpochLength><SleepStages>'
            f"{profusion}</SleepStages></a>",
            {},
        ),
    }


def damaged(text: str, rng: Random) -> tuple[str, str]:
    """Return a text with a few of its characters or lines changed, and how."""
    way = rng.choice(["flip", "cut", "drop", "double", "swap", "splice", "erase"])
    at = rng.randrange(len(text))
    lines = text.split("\n")
    k = rng.randrange(len(lines))
    if way == "flip":
        return text[:at] + chr(rng.randrange(1, 256)) + text[at + 1 :], way
    if way == "cut":
        return text[:at], way
    if way == "erase":
        return text[:at] + text[at + rng.randrange(1, 8) :], way
    if way == "splice":
        return text[:at] + rng.choice(SPLICED) + text[at:], way
    if way == "drop":
        return "\n".join(lines[:k] + lines[k + 1 :]), way
    if way == "double":
        return "\n".join(lines[: k + 1] + lines[k:]), way
    other = rng.randrange(len(lines))
    lines[k], lines[other] = lines[other], lines[k]
    return "\n".join(lines), way


def staged(path: Path, options: dict) -> tuple[list[int], tuple[str, ...]]:
    """Return the stages of a file on a recording of ten minutes, and all that is told."""
    settings = HypnogramConfig(**options)
    hypnogram = read_hypnogram(path, settings)
    offset, why = find_offset("n", hypnogram, START, DURATION_S, settings)
    stages, begin, notes = to_epochs("n", hypnogram, offset, DURATION_S)
    return [*stages.tolist()], (f"{why} {begin:g}", *hypnogram.notes, *notes)


def main() -> None:
    """Print counts by format, and write them."""
    n = int(sys.argv[1])
    begun, rng = time.perf_counter(), Random(0)
    results, listed = {}, []
    with TemporaryDirectory() as folder:
        for kind, (name, text, options) in files().items():
            path = Path(folder) / name
            path.write_text(text)
            whole, said = staged(path, options)
            told = dict.fromkeys(COUNTED, 0)
            for _ in range(n // len(files())):
                changed, way = damaged(text, rng)
                path.write_bytes(changed.encode("utf-8", "replace"))
                try:
                    found, now = staged(path, options)
                except DataError:
                    told["refused"] += 1
                    continue
                except Exception as error:  # noqa: BLE001  (what is counted here)
                    told["escaped"] += 1
                    listed.append([kind, way, f"{type(error).__name__}: {error}"[:200]])
                    continue
                if found == whole:
                    told["same"] += 1
                elif len(found) == len(whole) and all(
                    a in (b, -1) for a, b in zip(found, whole, strict=True)
                ):
                    told["fewer"] += 1
                elif now != said:
                    told["told"] += 1
                else:
                    told["unlike"] += 1
                    rows = zip(text.split("\n"), changed.split("\n"), strict=False)
                    where = next((pair for pair in rows if pair[0] != pair[1]), ("", "cut"))
                    listed.append([kind, way, *(part[:120] for part in where)])
            results[kind] = told
    totals = {key: sum(told[key] for told in results.values()) for key in COUNTED}
    written = {
        "command": f"python benchmarks/fuzz_hypnograms.py {n}",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"partsig": version("partsig")},
        "inputs": sum(totals.values()),
        "totals": totals,
        "formats": results,
        "seconds": round(time.perf_counter() - begun, 1),
        "unlike_by_damage": dict(Counter(f"{row[0]}: {row[1]}" for row in listed)),
    }
    write_json(RESULTS, written)
    print(json.dumps(written, indent=1))
    for row in listed if "--list" in sys.argv else ():
        print(row)


if __name__ == "__main__":
    main()
