"""Which fine-tuning options are worth having: each taken away from, or added to, one recipe.

Run: ``python benchmarks/finetune_options.py DIR`` after ``pc18_segments.py RAW --work DIR``.

Measured on validation segments only (a block of segment numbers and the rest of their groups, from
which no training segment comes), at the best epoch, from the ``part-context`` encoder of seed 0,
with 50 segments per class, three draws. Writes benchmarks/results/finetune_options.json.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

import joblib
from pc18_segments import GENTLE, finetune_one, full

RESULTS = Path(__file__).parent / "results" / "finetune_options.json"
BUDGET, DRAWS = 50, (0, 1, 2)
RECIPE = full(BUDGET) | GENTLE
VARIANTS = {
    "recipe": {},
    "no mixup": {"loss.mixup": 0.0},
    "no smoothing": {"loss.smoothing": 0.0},
    "no shift": {"shift_s": 0},
    "no averaging": {"fit.average": 0.0},
    "no layer decay": {"optim.layer_decay": 1.0},
    "no probe first": {"train": "full", "optim.lr": 1.6e-2, "optim.layer_decay": 1.0},
    "no spectrum at the head": {"pool": "mean+sd"},
    "class-balanced": {"balanced": True},
    "channel dropout 0.1": {"loss.channel_dropout": 0.1},
    "teacher, pseudo-labels": {"pseudo.confidence": 0.7, "pseudo.share": 1.0},
    "teacher, self-distillation": {"pseudo.share": 0.0, "pseudo.distil": 0.5},
}


def one(work: Path, number: int, name: str, draw: int) -> tuple[str, float]:
    """Return the validation kappa of a variant on one draw."""
    from partsig.runs import directory as runs

    label = f"option{number}"
    teacher = work / "runs" / f"option0-p0-k{BUDGET}-s{draw}" if "teacher" in name else None
    settings = RECIPE | VARIANTS[name]
    found = finetune_one(
        work, label, "part-context", settings, BUDGET, draw, 0, teacher=teacher, test=False
    )
    return name, runs.read(Path(found.partition("=")[2]))["val_kappa"]


def main() -> None:
    """Run every variant and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    from partsig.runs import directory as runs

    work = options.work.resolve()
    parallel = joblib.Parallel(n_jobs=options.jobs, batch_size=1)
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    found = {name: values for name, values in found.items() if name in {"recipe", *options.only}}
    for wave in (lambda name: "teacher" not in name, lambda name: "teacher" in name):
        jobs = [
            joblib.delayed(one)(work, number, name, draw)
            for number, name in enumerate(VARIANTS)
            for draw in DRAWS
            if name in found and wave(name)
        ]
        for name, value in parallel(jobs):
            found[name].append(value)
    base = found["recipe"]
    rows = [
        {
            "variant": name,
            "settings": VARIANTS[name],
            "val_kappa": values,
            "mean": statistics.mean(values),
            "sd": statistics.stdev(values),
            "difference": statistics.mean(v - b for v, b in zip(values, base, strict=True)),
            "difference_sd": statistics.stdev(v - b for v, b in zip(values, base, strict=True)),
        }
        for name, values in found.items()
    ]
    for row in rows:
        print(
            f"{row['variant']:28} {row['mean']:.3f} ± {row['sd']:.3f}   "
            f"{row['difference']:+.3f} ± {row['difference_sd']:.3f}"
        )
    result = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/finetune_options.py WORK",
        "date": runs.now(),
        "machine": platform.machine(),
        "environment": runs.environment(),
        "split_unit": "subject (group); validation block of segment numbers",
        "budget_per_class": BUDGET,
        "draws": list(DRAWS),
        "recipe": RECIPE,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
