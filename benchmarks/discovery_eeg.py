"""Parts of EEG that are learned without labels: do they agree with what experts mark?

    python benchmarks/discovery_eeg.py prepare DATA WORK     (once)
    python benchmarks/discovery_eeg.py run WORK              (goes on where it was stopped)

``prepare`` makes stores (100 Hz, 0.1 to 30 Hz) of ``pc18_segments`` (three channels, segments of a
minute of one of five classes, its own split by groups) and of the DREAMS spindle database (one
channel; excerpts 1, 5 and 7 to learn from, 2, 4, 6 and 8 to judge on; expert 2 marked none of 7 and
8; excerpt 3, at 50 Hz, is left out), and of the latter two more with the spindles of either expert
as labels. ``run`` does, for each of three seeds, on either: ``pretrain --config demo`` (PART, 5-s
windows; tokens of waveform and log spectrum), then ``pretrain --config discover-eeg`` through it,
with K as configured (5) and 8, tokens of 1 s; no label is used, nothing is tuned. ``evaluate``
judges them on the recordings that were not learned from, in steps of 0.1 s, against stages and
against spindles; it has k-means, NMF and a grid on the same maps beside them. Further rows: k-means
and NMF of the log power of five bands of each channel in the same seconds, judged by the same code.
NMI and ARI in %; 95 % intervals by a bootstrap over recordings (groups). For spindles also F1 of
the part that fits expert 1 best on the excerpts that were learned from.

Written to ``results/discovery_signals.json`` after every row. ``discovery_few_labels.py`` adds to
the same file what the parts are worth beside a spectrum, ``discovery_eeg_maps.py`` what the maps
that they are found through follow. One core.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "discovery_signals.json"
COMMAND = "python benchmarks/discovery_eeg.py prepare DATA WORK; … run WORK"
SEEDS, PARTS = (0, 1, 2), (5, 8)
FITTED, JUDGED = (1, 5, 7), (2, 4, 6, 8)  # excerpts of DREAMS
RATES = {1: 100.0} | dict.fromkeys((2, 4, 5, 6, 7, 8), 200.0)
STAGES_S, MARKS_S, TOKEN_S = 5.0, 0.1, 1.0
PHI = {"encoder.tokens": "linear+spectrum", "fit.workers": 0}
# Which stores a run on a store is judged on, and what by.
JUDGED_ON = {
    "pc18": {"stages": "pc18"},
    "dreams": {"stages": "dreams", "spindles 1": "dreams-1", "spindles 2": "dreams-2"},
}
SPINDLES = "spindles 1"
BESIDE = ("k-means", "NMF (DFF)")


def prepare(data: Path, work: Path) -> None:
    """Make the stores."""
    from partsig.verbs.preprocess import preprocess

    preprocess("pc18-segments", data / "pc18_segments", work / "pc18")
    folder = data / "dreams" / "spindles"
    write_dreams(folder, work / "dreams", None)
    for expert in (1, 2):
        write_dreams(folder, work / f"dreams-{expert}", expert)


def write_dreams(folder: Path, path: Path, expert: int | None) -> None:
    """Write a store of the excerpts with stages, or an expert's spindles, as labels."""
    from partsig.contracts import Labels
    from partsig.data.signals.filters import bandpass_resample
    from partsig.data.signals.hypnograms.stages import STAGES
    from partsig.data.signals.recordings import Recording
    from partsig.data.signals.store_index import write_index
    from partsig.data.signals.store_writing import (
        create_store,
        make_meta,
        write_recording,
        write_split,
    )

    labels = Labels(classes=STAGES, unit_s=STAGES_S)
    if expert is not None:
        labels = Labels(classes=("none", "spindle"), unit_s=MARKS_S, level="part")
    meta = make_meta(
        source="dreams", ch_names=("C3-A1",), sfreq=100.0, l_freq=0.1, h_freq=30.0,
        dtype="float32", labels=labels,
    )  # fmt: skip
    create_store(path, meta)
    rows = []
    for number in sorted((*FITTED, *JUDGED)):
        marks = folder / f"Visual_scoring{expert}_excerpt{number}.txt"
        if expert is not None and not marks.exists():
            continue
        raw = np.loadtxt(folder / f"excerpt{number}.txt", skiprows=1)
        signal = bandpass_resample(raw[None], RATES[number], 100.0, reflect="even")
        codes = labels_of(folder, number, None if expert is None else marks, signal.shape[1])
        name = f"excerpt{number}"
        told = Recording(
            name=name, subject=name, ch_names=("C3-A1",), parts=(), stages=codes,
            source=f"{number:016d}", excerpt=True,
        )  # fmt: skip
        rows.append(write_recording(path, meta, told, signal))
    write_split(path, {f"excerpt{number}": "test" for number in JUDGED})
    write_index(path, rows)


def labels_of(folder: Path, number: int, marks: Path | None, n_times: int) -> np.ndarray:
    """Return the stage of every 5 s, or whether every 0.1 s lies in a spindle, int8."""
    from partsig.data.signals.hypnograms.codes import DREAMS as STAGE_OF
    from partsig.data.signals.scored_events import read_dreams_events, token_labels

    if marks is None:
        codes = np.loadtxt(folder / f"Hypnogram_excerpt{number}.txt", skiprows=1, dtype=int)
        return np.array([STAGE_OF.get(code, -1) for code in codes], np.int8)
    events = read_dreams_events(marks)
    n_tokens = int(n_times / 100 / MARKS_S)
    return token_labels([events], [events.kind], n_tokens, MARKS_S).astype(np.int8)


def discovered(work: Path, store: str, n_parts: int, seed: int) -> tuple[Path, dict[str, float]]:
    """Return a run that discovers parts of a store, and the CPU seconds of trainings that were not
    there already.
    """
    from partsig.verbs.pretrain import pretrain

    part, run = (
        work / "runs" / name for name in (f"part-{store}-{seed}", f"parts-{store}-{n_parts}-{seed}")
    )
    own = {"objective.phi": str(part), "objective.parts": n_parts, "fit.workers": 0}
    took = {}
    for name, path, config, overrides in (
        ("part_cpu_s", part, "demo", PHI),
        ("discovery_cpu_s", run, "discover-eeg", own),
    ):
        new, began = not path.exists(), time.process_time()
        pretrain(work / store, path, config=config, overrides=overrides, seed=seed, gpus="0")
        if new:
            took[name] = round(time.process_time() - began, 1)
    return run, took


def learned_rows(work: Path, store: str, n_parts: int, seed: int) -> list[dict]:
    """Return the row of a run, and those of what lies beside it on its maps, by ``evaluate``."""
    from partsig.verbs.evaluate import evaluate

    run, took = discovered(work, store, n_parts, seed)
    rows: dict[str, dict] = {"part discovery": took}
    began = time.process_time()
    for asked, place in JUDGED_ON[store].items():
        found = evaluate(
            run, work / place, output=run / f"by-{place}", device="cpu", seed=seed, figures=False
        ).metrics
        rows["part discovery"] |= {"dead_parts": found["dead_parts"], asked: found["places_fg"]}
        for name, told in found["baselines"].items():
            row = rows.setdefault(f"{name}, PART's maps" if name in BESIDE else name, {})
            row[asked] = told["places_fg"]
    if store == "dreams":
        parts, truth = of_both_sides(work, store, run)
        rows["part discovery"][SPINDLES]["f1_of_best_part"] = best_f1(parts, truth, n_parts)
    rows["part discovery"]["judging_cpu_s"] = round(time.process_time() - began, 1)
    return [head(store, name, n_parts, seed) | row for name, row in rows.items()]


def head(store: str, method: str, n_parts: int, seed: int) -> dict[str, object]:
    """Return what tells one row from the others."""
    return {"data": store, "method": method, "n_parts": n_parts, "seed": seed}


def items_of(work: Path, store: str, run: Path, place: str, role: str):
    """Return the windows of a role of a run, with the labels of a store of the same recordings."""
    from partsig.modalities import registry
    from partsig.runs.run import Run

    known = Run.finished(run, "pretrain")
    return registry.get(known.modality).open(work / place).marked(known, role)


def of_both_sides(work: Path, store: str, run: Path) -> tuple[list, list]:
    """Return parts (n, 30) of what was learned from and what is judged, and spindles (n, 300)."""
    from partsig.runs.perceiving import load_perceiving
    from partsig.runs.run import Run
    from partsig.tasks.part_discovery import find_parts
    from partsig.train import distributed

    model = load_perceiving(Run.finished(run, "pretrain"))
    sides = [items_of(work, store, run, "dreams-1", role) for role in ("train", "test")]
    found = [find_parts(model, side, distributed.pick_device("cpu")).labels for side in sides]
    return found, [side.labels(slice(0, len(side))) for side in sides]


def best_f1(parts: list, truth: list, n_parts: int) -> float:
    """Return F1 on the second side, by token of 0.1 s, of the part that has the best on the first.

    >>> best_f1([np.array([[0, 1]])] * 2, [np.repeat([[0, 1]], 10, 1)] * 2, 2)
    1.0
    """
    fine = [
        np.repeat(side, t.shape[1] // side.shape[1], 1)
        for side, t in zip(parts, truth, strict=True)
    ]

    def of(side: int, part: int) -> float:
        there, found = truth[side] == 1, (fine[side] == part) & (truth[side] >= 0)
        return float(2 * (there & found).sum() / max(there.sum() + found.sum(), 1))

    return of(1, int(np.argmax([of(0, part) for part in range(n_parts)])))


def band_rows(work: Path, store: str, n_parts: int, seed: int) -> list[dict]:
    """Return rows of k-means and NMF of band powers in the same windows, judged alike."""
    from partsig.tasks.part_baselines import BASELINES, PartMaps, as_maps
    from partsig.tasks.part_discovery import FoundParts, score

    run, _ = discovered(work, store, n_parts, seed)
    sides = [items_of(work, store, run, store, role) for role in ("train", "test")]
    train, test = (powers_of(side.inputs(slice(0, len(side)))) for side in sides)
    both = PartMaps(maps=np.concatenate([train, test]))
    rows = []
    for name in BESIDE:
        began = time.process_time()
        found = BASELINES[name](PartMaps(maps=train), both, n_parts, seed)
        row = head(store, f"{name}, band powers", n_parts, seed)
        for asked, place in JUDGED_ON[store].items():
            items = items_of(work, store, run, place, "test")
            own = found[len(train) :]
            if len(items) < len(own):  # an expert who did not mark every excerpt
                names = items_of(work, store, run, store, "test").names
                own = own[[names.index(one) for one in items.names]]
            maps = as_maps(own, n_parts)
            ground = np.ones((len(maps), *maps.shape[2:]), np.float32)
            row[asked] = score(FoundParts(maps=maps, foreground=ground), items, seed)["places_fg"]
        if store == "dreams":
            sides = [items_of(work, store, run, "dreams-1", r) for r in ("train", "test")]
            truth = [side.labels(slice(0, len(side))) for side in sides]
            parts = [found[: len(train)], found[len(train) :]]
            row[SPINDLES]["f1_of_best_part"] = best_f1(parts, truth, n_parts)
        rows.append(row | {"cpu_s": round(time.process_time() - began, 1)})
    return rows


def powers_of(x: np.ndarray) -> np.ndarray:
    """Return log powers above the floor of five bands a channel, (n, C * 5, 30), of (n, C, T)."""
    from partsig.data.signals.bands import FLOOR, token_powers

    powers = np.concatenate([token_powers(one, 100.0, TOKEN_S)[None] for one in x])
    return (powers.reshape(len(x), -1, powers.shape[-1]) - np.log10(FLOOR)).astype(np.float32)


def spread(values: list[float]) -> str:
    """Return mean and SD.

    >>> spread([1.0, 3.0])
    '2.0 ± 1.4'
    """
    sd = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{sd}"


def table(rows: list[dict]) -> list[str]:
    """Return mean and SD over seeds of every row, in %, as lines of Markdown."""
    asked = ("stages", "spindles 1", "spindles 2")
    lines = ["| data | K | parts by | " + " | ".join(f"NMI, ARI: {a}" for a in asked) + " | F1 |"]
    lines.append("|---" * 7 + "|")
    keys = [(row["data"], row["n_parts"], row["method"]) for row in rows]
    for key in sorted(dict.fromkeys(keys), key=lambda k: k[:2]):
        own = [row for row, k in zip(rows, keys, strict=True) if k == key]
        cells = []
        for name in asked:
            found = [row[name] for row in own if name in row]
            told = [spread([100 * one[m] for one in found]) for m in ("nmi", "ari") if found]
            cells.append(", ".join(told) or "-")
        f1 = [100 * row[SPINDLES]["f1_of_best_part"] for row in own
              if "f1_of_best_part" in row.get(SPINDLES, {})]  # fmt: skip
        cells.append(spread(f1) if f1 else "-")
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {' | '.join(cells)} |")
    return lines


def run(work: Path, out: Path, stores: list[str], parts: list[int]) -> None:
    """Do what is not done yet; write every row as it comes."""
    from partsig.runs import directory as runs

    content = json.loads(out.read_text()) if out.is_file() else {"rows": []}
    rows = content["rows"]
    done = {(row["data"], row["method"], row["n_parts"], row["seed"]) for row in rows}
    kinds: dict[str, Callable] = {
        "part discovery": learned_rows,
        "k-means, band powers": band_rows,
    }
    for n_parts in parts:
        for store in stores:
            for seed in SEEDS:
                for first, made_by in kinds.items():
                    if (store, first, n_parts, seed) in done:
                        continue
                    rows += made_by(work, store, n_parts, seed)
                    content |= {
                        "what": __doc__.partition("\n")[0], "command": COMMAND, "seeds": SEEDS,
                        "date": runs.now(), "environment": runs.environment(), "phi": PHI,
                        "split_unit": "recording (pc18: group), never one of both sides",
                        "table": table(rows), "rows": rows,
                    }  # fmt: skip
                    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                    print(store, seed, n_parts, first, flush=True)
    print("\n".join(content.get("table", [])))


def main() -> int:
    """Prepare, or run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("prepare")
    first.add_argument("data", type=Path)
    first.add_argument("work", type=Path)
    second = verbs.add_parser("run")
    second.add_argument("work", type=Path)
    second.add_argument("--stores", nargs="+", choices=JUDGED_ON, default=list(JUDGED_ON))
    second.add_argument("--parts", nargs="+", type=int, choices=PARTS, default=PARTS)
    second.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(options.data, options.work)
    else:
        run(options.work, options.out, options.stores, options.parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
