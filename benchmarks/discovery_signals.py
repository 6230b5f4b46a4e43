"""How far parts of EEG that are found without learning agree with what people marked.

    python benchmarks/discovery_signals.py --data DATA [--add METHOD=FILE.npz …]

Two tables. ``dreams``: continuous EEG of the DREAMS spindle database, a token of 0.1 s, against
the spindles of both experts (labels: none, spindle) and against the stages (a stage every 5 s);
fitted on excerpts 1, 5 and 7, judged on 2, 4, 6 and 8 (expert 2 marked none of 8; excerpt 3, at
50 Hz, has no beta). ``pc18_segments``: 600 + 600 segments of a minute, a token of 1 s, against the
five classes; groups that look like one sleeper are on one side. What is clustered is the log power
of five bands of each channel, absolute, in µV; no label is used in fitting.

Rows: one part, K equal stretches of each window, k-means, NMF; K = 4 and 8, three seeds; NMI and
ARI in %, of all tokens, and a 95 % interval of seed 0 by a bootstrap over recordings (or groups).
For spindles also F1 by token of the part that fits them best on the excerpts that were fitted, of
expert 1. Rows of a learned method are added by ``--add``: a file with arrays ``dreams-K`` (windows,
300) and ``pc18-K`` (segments, 60) of the judged windows in the order of this script, and
``dreams-fitted-K`` of those that were fitted. Rows that are there of other methods are kept.

Parts that are learned through PART, in tokens of 1 s, are ``discovery_eeg.py``'s.

Written to ``results/discovery_signals_baselines.json``. One core, some minutes.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from partsig.data.signals.bands import FLOOR, token_powers
from partsig.data.signals.hypnograms.codes import DREAMS as STAGE_OF
from partsig.data.signals.scored_events import read_dreams_events, token_labels
from partsig.metrics.clustering import ari_of, map_tables, nmi_of, scores
from partsig.tasks.part_baselines import BASELINES, PartMaps

RESULTS = Path(__file__).parent / "results" / "discovery_signals_baselines.json"
FITTED, JUDGED = (1, 5, 7), (2, 4, 6, 8)  # excerpts of DREAMS
RATES = {1: 100.0} | dict.fromkeys((2, 4, 5, 6, 7, 8), 200.0)
TOKEN_S, WINDOW_S = 0.1, 30.0  # of DREAMS
SEGMENTS = 600  # of pc18_segments, on each side
PARTS, SEEDS = (4, 8), (0, 1, 2)


def dreams_of(folder: Path, excerpts: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return maps (n, 5, 300) of half minutes, labels (n, 300) by name, and excerpts (n,)."""
    per = round(WINDOW_S / TOKEN_S)
    gathered: dict[str, list] = {}
    for number in excerpts:
        signal = np.loadtxt(folder / f"excerpt{number}.txt", skiprows=1)
        powers = token_powers(signal, RATES[number], TOKEN_S)
        n = powers.shape[1] // per
        told = {"maps": powers[:, : n * per].reshape(5, n, per).transpose(1, 0, 2)}
        for scorer in (1, 2):
            file = folder / f"Visual_scoring{scorer}_excerpt{number}.txt"
            labels = np.full(n * per, -1)
            if file.exists():
                events = read_dreams_events(file)
                labels = token_labels([events], [events.kind], n * per, TOKEN_S)
            told[f"spindles{scorer}"] = labels.reshape(n, per)
        stages = np.loadtxt(folder / f"Hypnogram_excerpt{number}.txt", skiprows=1, dtype=int)
        stages = np.array([STAGE_OF.get(code, -1) for code in stages])
        epoch = ((np.arange(n * per) + 0.5) * TOKEN_S / 5.0).astype(int)
        inside = epoch < len(stages)
        stages = np.where(inside, stages[np.minimum(epoch, len(stages) - 1)], -1)
        told["stages"] = np.where(stages < 0, -1, stages).reshape(n, per)
        told["units"] = np.full(n, number)
        for key, value in told.items():
            gathered.setdefault(key, []).append(value)
    return {key: np.concatenate(values) for key, values in gathered.items()}


def pc18_of(file: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return maps (n, 15, 60), labels (n, 60) and groups (n,) of what is fitted and judged."""
    with np.load(file) as opened:
        x, y, group = opened["x"], opened["y"], opened["group"]
    names = np.unique(group)
    fitted = np.isin(group, names[::2])
    sides = []
    for side in (fitted, ~fitted):
        rows = np.flatnonzero(side)
        rows = rows[np.linspace(0, len(rows) - 1, min(SEGMENTS, len(rows))).astype(int)]
        maps = [token_powers(x[row], 200.0, 1.0).reshape(15, 60) for row in rows]
        labels = np.repeat(y[rows, None].astype(np.int64), 60, 1)
        sides.append({"maps": np.stack(maps), "stages": labels, "units": group[rows]})
    return sides[0], sides[1]


def by_unit(tables: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the sums of tables (n, R, K) over the windows of each recording."""
    return np.stack([tables[units == unit].sum(0) for unit in np.unique(units)])


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    """Return F1 of tokens; 0 where nothing is right."""
    right = (truth & found).sum()
    return float(2 * right / max(truth.sum() + found.sum(), 1))


def judged(data: dict, found: np.ndarray, n_parts: int, seed: int) -> dict[str, object]:
    """Return what parts (n, tokens) of the judged windows agree with, in %."""
    told: dict[str, object] = {}
    for name in [name for name in data if name not in ("maps", "units")]:
        there = data[name] >= 0
        tables = map_tables(data[name], found, (int(data[name].max()) + 1, n_parts))
        tables = by_unit(tables, data["units"])
        tables = tables[tables.sum((1, 2)) > 0]
        if seed == 0:
            told[name] = scores(tables)
        else:
            told[name] = {"nmi": float(nmi_of(tables.sum(0))), "ari": float(ari_of(tables.sum(0)))}
        told[name]["tokens"] = int(there.sum())
    return told


def with_f1(told: dict, fitted: dict, test: dict, parts: tuple, n_parts: int) -> None:
    """Add F1 of the part that fits expert 1 best on the excerpts that were fitted."""
    at_first, found = parts
    each = [f1(fitted["spindles1"] == 1, at_first == k) for k in range(n_parts)]
    best = int(np.argmax(each))
    known = test["spindles1"] >= 0
    told["spindles1"]["f1_of_best_part"] = f1(test["spindles1"][known] == 1, found[known] == best)


def rows_of(name: str, sides: tuple[dict, dict], method: str, found_by) -> list[dict]:
    """Return a row of each K and seed; ``found_by`` gives the parts of both sides."""
    rows = []
    for n_parts in PARTS:
        for seed in SEEDS if method in ("k-means", "NMF (DFF)") else SEEDS[:1]:
            began = time.process_time()
            at_first, found = found_by(n_parts, seed)
            told = judged(sides[1], found, n_parts, seed)
            if at_first is not None and "spindles1" in told:
                with_f1(told, *sides, (at_first, found), n_parts)
            rows.append({"data": name, "method": method, "n_parts": n_parts, "seed": seed,
                         "cpu_s": round(time.process_time() - began, 1), **told})  # fmt: skip
            shown = {key: round(100 * value["nmi"], 1) for key, value in told.items()}
            print(name, method, n_parts, seed, shown, flush=True)
    return rows


def baseline(name: str, sides: tuple[dict, dict]):
    """Return what finds parts of both sides by a baseline; powers above the floor for NMF."""

    def found_by(n_parts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        fitted, test = (PartMaps(maps=side["maps"] - np.log10(FLOOR)) for side in sides)
        both = PartMaps(maps=np.concatenate([fitted.maps, test.maps]))
        found = BASELINES[name](fitted, both, n_parts, seed)
        return found[: len(fitted.maps)], found[len(fitted.maps) :]

    return found_by


def added(file: Path, key: str):
    """Return what takes parts of both sides from a file."""
    opened = np.load(file)

    def found_by(n_parts: int, _seed: int) -> tuple[np.ndarray | None, np.ndarray]:
        return opened.get(f"{key}-fitted-{n_parts}"), opened[f"{key}-{n_parts}"]

    return found_by


def printed(rows: list[dict]) -> None:
    """Print means and SDs over seeds, in %."""
    keys = [(r["data"], r["method"], r["n_parts"]) for r in rows]
    for key in dict.fromkeys(keys):
        own = [row for row, k in zip(rows, keys, strict=True) if k == key]
        told = []
        for name in ("spindles1", "spindles2", "stages"):
            if name in own[0]:
                for measure in ("nmi", "ari", "f1_of_best_part"):
                    values = [100 * row[name][measure] for row in own if measure in row[name]]
                    if values:
                        sd = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
                        told.append(f"{name} {measure} {np.mean(values):.1f}{sd}")
        print(f"| {' | '.join(map(str, key))} | {' | '.join(told)} |")


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--add", action="append", default=[], metavar="METHOD=FILE.npz")
    asked = parser.parse_args()
    folder = asked.data / "dreams" / "spindles"
    tables = {
        "dreams": (dreams_of(folder, FITTED), dreams_of(folder, JUDGED)),
        "pc18": pc18_of(asked.data / "pc18_segments" / "labelled.npz"),
    }
    rows: list[dict] = []
    files = dict(each.split("=", 1) for each in asked.add)
    for name, sides in tables.items():
        for method in BASELINES if not files else ():
            rows += rows_of(name, sides, method, baseline(method, sides))
        for method, file in files.items():
            rows += rows_of(name, sides, method, added(Path(file), name))
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    done = {(row["data"], row["method"]) for row in rows}
    rows = [row for row in before if (row["data"], row["method"]) not in done] + rows
    RESULTS.write_text(json.dumps({"seeds": SEEDS, "rows": rows}, indent=1) + "\n")
    printed(rows)


if __name__ == "__main__":
    main()
