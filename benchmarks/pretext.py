"""What lets PART's pretext be learned on real EEG: target by head, and the best for longer.

Run: ``python benchmarks/pretext.py WORK`` after ``benchmarks/pc18_segments.py RAW --work WORK``,
whose store it uses. Linear tokens, encoder width 128, depth 4; 5-s windows of ten 1-s patches.
Measured on subjects kept out of pretraining (never test subjects): squared error ÷ chance, how
often the order of two patches is right (all pairs; pairs less than one patch apart), nats per pair
under chance. A short run of each with one seed, then two for longer, and the best for longest, with
three. Writes benchmarks/results/pretext.json.
"""

import argparse
import json
import os
import platform
import statistics
from pathlib import Path

import joblib

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

RESULTS = Path(__file__).parent / "results" / "pretext.json"
BATCH = 128
BASE = {
    "window_s": 5,
    "encoder.width": 128,
    "encoder.depth": 4,
    "encoder.heads": 4,
    "encoder.drop_path": 0.0,
    "objective.patches": 10,
    "fit.batch_size": BATCH,
    "fit.log_every": 50,
    "optim.lr": 8e-3,  # for a batch of 512: 2e-3 here
    "optim.min_lr": 4e-4,
    "optim.warmup_epochs": 0.5,
    "optim.clip": 1.0,
    "split.monitor_subjects": 40,
}
TARGETS = ("mse", "laplace", "histogram")
HEADS = {
    "cross-attention, 1 head": {"objective.heads": 1},
    "cross-attention, 4 heads": {"objective.heads": 4},
    "cross-attention, 8 heads": {"objective.heads": 8},
    "pairwise MLP, linear": {"objective.relative": "pairwise-mlp"},
    "pairwise MLP, 256 hidden": {"objective.relative": "pairwise-mlp", "objective.hidden": 256},
    "MLP": {"objective.relative": "mlp"},
}
KEYS = ("mse/chance", "sign", "near_sign", "loss", "chance_loss")


def steps(n: int, epochs: int = 4) -> dict:
    """Return settings for so many steps, with a reading of the monitor after every quarter."""
    return {"fit.epochs": epochs, "windows_per_epoch": n * BATCH // epochs}


def one(work: Path, name: str, settings: dict, seed: int) -> dict:
    """Pretrain one variant; return its curve on unseen subjects."""
    import torch

    import partsig
    from partsig.train.journal import read_metrics

    torch.set_num_threads(1)
    run = work / "pretext" / f"{name.replace(',', '').replace(' ', '-')}-s{seed}"
    partsig.pretrain(work / "store", run, overrides=BASE | settings, seed=seed, gpus="0")
    lines = [line for line in read_metrics(run) if "val_loss" in line]
    curve = [{"step": line["step"]} | {key: line[f"val_{key}"] for key in KEYS} for line in lines]
    return {"variant": name, "seed": seed, "settings": settings, "curve": curve}


def main() -> None:
    """Run what is not there yet; print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--long", type=int, default=1200)
    parser.add_argument("--longest", type=int, default=5000)
    parser.add_argument("--heads", nargs="*", choices=HEADS, default=list(HEADS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    from partsig.runs import directory as runs

    work = options.work.resolve()
    best = HEADS["pairwise MLP, 256 hidden"]
    jobs = [
        (f"{head}, {loss}", settings | steps(options.steps) | {"objective.loss": loss}, 0)
        for head, settings in HEADS.items()
        if head in options.heads
        for loss in TARGETS
    ]
    for loss in ("laplace", "histogram"):
        settings = best | steps(options.long) | {"objective.loss": loss}
        jobs += [(f"long {loss}", settings, seed) for seed in (0, 1, 2)]
    settings = best | steps(options.longest, 10) | {"objective.loss": "histogram"}
    jobs += [("longest histogram", settings, seed) for seed in (0, 1, 2)]
    parallel = joblib.Parallel(n_jobs=options.jobs, batch_size=1)
    found = parallel(joblib.delayed(one)(work, *job) for job in jobs)
    by_name: dict[str, list[dict]] = {}
    for item in found:
        by_name.setdefault(item["variant"], []).append(item["curve"][-1])
    print(f"{'variant':40} mse/chance   order    order, near   nats under chance")
    for name, ends in by_name.items():
        values = [
            [end["mse/chance"] for end in ends],
            [end["sign"] for end in ends],
            [end["near_sign"] for end in ends],
            [end["chance_loss"] - end["loss"] for end in ends],
        ]
        texts = [f"{statistics.mean(v):.3f}" for v in values]
        if len(ends) > 1:
            texts = [
                f"{text} ± {statistics.stdev(v):.3f}" for text, v in zip(texts, values, strict=True)
            ]
        print(f"{name:40} " + "   ".join(texts))
    result = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/pretext.py WORK",
        "date": runs.now(),
        "machine": platform.machine(),
        "environment": runs.environment(),
        "split_unit": "subject (group)",
        "base": BASE,
        "batch": BATCH,
        "runs": found,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
