"""How deep in the encoder lies what transfers? Blocks of an encoder that has learned PART on EEG.

Run: ``python benchmarks/depth.py WORK [--jobs 2]`` after ``benchmarks/pc18_segments.py RAW --work
WORK`` and ``benchmarks/pretext.py WORK``, whose store and runs it uses: PART with a histogram on
5-s windows, the paper's linear tokens, 5,000 steps, three seeds.

Linear probes of the first 1, 2, 3 or 4 blocks, beside untrained encoders of that depth; and both
fine-tuned as a whole. A seed is one pretraining (or initialisation) and one draw of labels. The
depth of each is chosen on validation segments, by the mean over budgets and seeds; only the chosen
one, and all blocks, are measured on test segments. Everything is resumed.
Writes benchmarks/results/depth.json and .md. Half an hour on two cores.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
from pathlib import Path

import joblib
from pc18_segments import ENCODER, GENTLE, LINEAR, PROBE, full, quietly

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

RESULTS = Path(__file__).parent / "results" / "depth.json"
BUDGETS, SEEDS, DEPTHS = (20, 100, 0), (0, 1, 2), (1, 2, 3, 4)
# Budgets of fine-tuning as a whole, which takes longer.
FULL_BUDGETS = (20, 100)


def job(work: Path, start: str, way: str, depth: int, budget: int, seed: int) -> Path:
    """Probe or fine-tune one encoder; return the run."""
    import partsig

    run = work / "depth" / f"{way}-{start}-b{depth}-k{budget}-s{seed}"
    quietly(work, run.name)
    settings = PROBE | LINEAR if way == "probe" else full(budget) | LINEAR
    if start == "untrained":
        origin, settings = "scratch", settings | ENCODER | {"encoder.depth": depth}
    else:
        origin = work / "pretext" / f"longest-histogram-s{seed}"
        settings = settings | {"blocks": depth} | (GENTLE if way == "full" else {})
    return partsig.finetune(
        origin,
        work / "store",
        run,
        segments_per_class=budget,
        overrides=settings,
        seed=seed,
        device="cpu",
    )


def main() -> None:
    """Run what is not there yet; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--ways", nargs="*", choices=["probe", "full"], default=["probe", "full"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    import partsig
    from partsig.runs import directory as runs

    work = options.work.resolve()
    starts = ("untrained", "part")
    todo = [
        (start, way, depth, budget, seed)
        for way, budgets in (("probe", BUDGETS), ("full", FULL_BUDGETS))
        if way in options.ways
        for depth in (DEPTHS if way == "probe" else (2, 4))
        for budget in budgets
        for seed in SEEDS
        for start in starts
    ]
    parallel = joblib.Parallel(n_jobs=options.jobs, verbose=5, batch_size=1)
    found = dict(
        zip(todo, parallel(joblib.delayed(job)(work, *what) for what in todo), strict=True)
    )
    kappas: dict[tuple, dict[int, list[float]]] = {}
    for (start, way, depth, budget, _), run in found.items():
        cell = kappas.setdefault((way, start, depth), {}).setdefault(budget, [])
        cell.append(runs.read(run)["val_kappa"])
    lines = ["| on validation segments | blocks | " + " | ".join(f"{b or 'all'}" for b in BUDGETS)]
    lines = [lines[0] + " |", "|---|---|" + "---|" * len(BUDGETS)]
    for (way, start, depth), by_budget in kappas.items():
        cells = (
            f"{statistics.mean(by_budget[b]):.3f} ± {statistics.stdev(by_budget[b]):.3f}"
            if b in by_budget
            else ""
            for b in BUDGETS
        )
        lines.append(f"| {start}, {way} | {depth} | " + " | ".join(cells) + " |")
    tables = {}
    for way in options.ways:
        own = {key: by_budget for key, by_budget in kappas.items() if key[0] == way}
        named = []
        for start in starts:
            means = {
                depth: statistics.mean(k for cell in by_budget.values() for k in cell)
                for (_, other, depth), by_budget in own.items()
                if other == start
            }
            best = max(means, key=means.__getitem__)
            for depth in sorted({best, max(DEPTHS)}):
                label = f"{start}, {depth} blocks" + (" (chosen)" if depth == best else "")
                if depth == best and start == "untrained":
                    reference = label
                named += [
                    f"{label}={run}"
                    for (other, kind, blocks, *_), run in found.items()
                    if (other, kind, blocks) == (start, way, depth)
                ]
        table = partsig.compare(named, against=reference, output=work / "compare-depth" / way)
        tables[way] = [dataclasses.asdict(row) for row in table.rows]
        lines += ["", f"**{way}, on test segments**", "", table.markdown]
    text = "\n".join(lines) + "\n"
    result = {
        "what": __doc__.partition("\n")[0],
        "command": f"python benchmarks/depth.py WORK --ways {' '.join(options.ways)}",
        "date": runs.now(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "environment": runs.environment(),
        "split_unit": "subject (group), test block of segment numbers",
        "seeds": list(SEEDS),
        "validation": [
            {"way": way, "start": start, "blocks": depth, "val_kappa": by_budget}
            for (way, start, depth), by_budget in kappas.items()
        ],
        "test": tables,
    }
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.results.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
