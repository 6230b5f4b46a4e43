"""The demo over several seeds: does so short a pretraining help? Kappa, mean ± SD over seeds.

    python benchmarks/demo.py [--seeds 0 1 2 3 4] [--output FOLDER]

A seed draws the weights, the windows and the labelled subjects; the 14 test subjects are the same
throughout. Per seed the kappa of both fine-tuned classifiers, and what the pretext reached on
subjects it had not seen. The table goes to ``results/demo.json``.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from partsig.runs import directory as runs
from partsig.verbs.demo import demo

RESULTS = Path(__file__).parent / "results" / "demo.json"


def main() -> None:
    """Run the demo once per seed, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp(prefix="partsig-demo-"))
    rows = []
    for seed in options.seeds:
        found = demo(folder / f"seed{seed}", seed=seed, say=lambda text: None)
        kappas = {row["method"]: row["kappa"] for row in found.rows}
        rows.append({"seed": seed, "kappa": kappas, "pretext": found.pretext})
        print(json.dumps(rows[-1]), flush=True)
    columns = {method: [row["kappa"][method] for row in rows] for method in rows[0]["kappa"]}
    columns["PART-pretrained minus from scratch"] = [
        row["kappa"]["PART-pretrained"] - row["kappa"]["from scratch"] for row in rows
    ]
    summary = {
        name: {"mean": statistics.mean(values), "sd": statistics.stdev(values)}
        for name, values in columns.items()
    }
    for name, value in summary.items():
        print(f"{name:<36}{value['mean']:7.3f} ± {value['sd']:.3f} ({len(rows)} seeds)")
    result = {
        "command": f"python benchmarks/demo.py --seeds {' '.join(map(str, options.seeds))}",
        "date": runs.now(),
        "environment": runs.environment(),
        "cpus": os.cpu_count(),
        "split_unit": "subject (groups of excerpts that look like one sleeper)",
        "test_subjects": 14,
        "labelled_subjects": 30,
        "summary": summary,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
