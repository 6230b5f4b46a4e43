"""PART beside its rivals on real signal with few labels: 60-s segments of PhysioNet-2018.

Run: ``python benchmarks/pc18_segments.py RAW [--work DIR] [--only METHOD …] [--jobs 2]`` with the
folder of ``labelled.npz`` and ``unlabelled.npz`` (three channels, 200 Hz; see
readers/pc18_segments.py for the format and for the split by blocks of segment numbers and by
groups). A file ``test.npz`` there, in the same format, becomes the test set instead.

Every method has the same encoder (width 128, depth 4), tokens (waveform and log spectrum), steps,
batch, optimiser and fine-tuning; the linear tokens of the paper are the rows marked so. Budgets are
segments per class (two 30-s epochs each), drawn three times; pretraining has two seeds. Validation
chooses epochs and penalties; nothing here was chosen on test segments. Everything is resumed: the
same command continues.

Writes WORK/compare*/ and benchmarks/results/pc18_segments.json. Takes about an hour on two cores.
"""

import argparse
import dataclasses
import json
import os
import platform
from datetime import datetime
from multiprocessing import parent_process
from pathlib import Path

import joblib

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one thread a run; runs go side by side

RESULTS = Path(__file__).parent / "results" / "pc18_segments.json"
BUDGETS = (10, 20, 50, 100, 0)
DRAWS = (0, 1, 2)
SEEDS = (0, 1)

ENCODER = {"encoder.width": 128, "encoder.depth": 4, "encoder.heads": 4}
SPECTRAL = ENCODER | {"encoder.tokens": "linear+spectrum"}
STEPS, BATCH, EPOCHS_PRETRAIN = 800, 64, 4
PRETRAIN = {
    "fit.batch_size": BATCH,
    "fit.epochs": EPOCHS_PRETRAIN,
    "windows_per_epoch": STEPS * BATCH // EPOCHS_PRETRAIN,
    "fit.log_every": 50,
    "optim.lr": 8e-3,  # for a batch of 512: 1e-3 for one of 64
    "optim.min_lr": 1e-4,
    "optim.warmup_epochs": 0.5,
    "optim.clip": 1.0,
    "split.monitor_subjects": 40,
}
PART = {"objective.name": "part"}
MLP = {"objective.relative": "pairwise-mlp", "objective.hidden": 256, "objective.pairs": 0.125}
LAPLACE = PART | {"objective.loss": "laplace"}
# The first minutes of a curriculum: ten patches within 5 s, four times the windows.
NEAR = {"window_s": 5, "objective.patches": 10, "objective.pairs": 1.0, "fit.batch_size": 4 * BATCH}
NEAR |= {"windows_per_epoch": 4 * STEPS * BATCH // EPOCHS_PRETRAIN, "optim.lr": 4e-3}
# A window of 60 s is two of 30 s, thirty patches within 20 s of each: 48 windows cost about as much
# as 64 of 30 s with forty.
PAIRS = 48
CONTEXT = {
    "window_s": 60,
    "objective.context": 1.0,
    "objective.span": 20,
    "objective.patches": 30,
    "objective.pairs": 0.2,
    "fit.batch_size": PAIRS,
    "windows_per_epoch": STEPS * PAIRS // EPOCHS_PRETRAIN,
    "optim.lr": 1.07e-2,
}
METHODS = {
    "part-context": SPECTRAL | LAPLACE | MLP | CONTEXT,
    "part": SPECTRAL | PART,
    "mae": SPECTRAL | {"objective.name": "mae"},
    "context": SPECTRAL | LAPLACE | MLP | CONTEXT | {"objective.relate": 0.0},
    "part-laplace": SPECTRAL | LAPLACE | MLP,
    "mp3": SPECTRAL | {"objective.name": "mp3"},
    "droppos": SPECTRAL | {"objective.name": "droppos"},
    "part-near": SPECTRAL | LAPLACE | MLP | NEAR,
    "part-linear-tokens": ENCODER | PART,
    "part-laplace-apart": SPECTRAL | LAPLACE | MLP | {"objective.loss_on": "apart"},
    "part-laplace-jitter": SPECTRAL | LAPLACE | MLP | {"objective.jitter": 0.5},
}
# Methods that are fine-tuned as a whole; the others are probed.
FULL = ("part-context",)
# Baselines that are trained at two budgets only, to save time.
SOME = ("scratch-linear-tokens", "scratch-no-positions", "chambon2018")
FINETUNE = {
    "pool": "mean+sd+spectrum",
    "shift_s": 15,
    "loss.mixup": 0.4,
    "optim.lr": 1.6e-2,  # for a batch of 512: 1e-3 here
    "fit.batch_size": 32,
    "fit.epochs": 30,
    "fit.average": 0.99,
    "fit.log_every": 50,
    "optim.warmup_epochs": 2,
    "optim.min_lr": 1e-5,
    "optim.clip": 1.0,
}
PROBE = {"pool": "mean+sd+spectrum", "train": "probe"}
LINEAR = {"pool": "mean+sd"}  # rows that see no spectrum anywhere
# What starts from a probe is moved less than what starts from nothing.
GENTLE = {"train": "probe+full", "optim.lr": 5e-3, "optim.layer_decay": 0.8}
# Epochs of full fine-tuning by budget: 220 to 380 steps of 32 windows, validated about eight times.
EPOCHS = {10: 60, 20: 32, 50: 14, 100: 8, 0: 4}


def full(budget: int) -> dict:
    """Return the settings of fine-tuning as a whole at a budget."""
    epochs = EPOCHS[budget]
    return FINETUNE | {"fit.epochs": epochs, "fit.validate_every": max(epochs // 8, 1)}


def runs_of(method: str, budget: int) -> dict[str, tuple[str, dict]]:
    """Return {run name: (origin, settings)} of what is fine-tuned for a method at a budget."""
    whole = full(budget)
    if method == "baselines":
        found = {
            "scratch": ("scratch", whole | SPECTRAL),
            "scratch-linear-tokens": ("scratch", whole | ENCODER | LINEAR),
            "scratch-no-positions": ("scratch", whole | SPECTRAL | {"positions": "none"}),
            "scratch-probe-first": ("scratch", whole | SPECTRAL | GENTLE),
            "random-probe": ("scratch", PROBE | SPECTRAL),
            "bands-logistic": ("scratch", {"model": "logistic"}),
            "bands-boosting": ("scratch", {"model": "boosting"}),
            "chambon2018": ("scratch", whole | {"model": "chambon2018"}),
        }
        return {name: job for name, job in found.items() if name not in SOME or budget in (20, 100)}
    found = {f"{method}-probe": (method, PROBE | (LINEAR if "linear" in method else {}))}
    return found | ({method: (method, whole | GENTLE)} if method in FULL else {})


def quietly(work: Path, name: str) -> None:
    """Send a worker process's output to a log file."""
    if parent_process() is None:
        return
    (work / "logs").mkdir(parents=True, exist_ok=True)
    log = open(work / "logs" / f"{name}.log", "a", encoding="utf-8")  # noqa: SIM115
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)


def pretrain_one(work: Path, method: str, seed: int) -> dict:
    """Pretrain a method; return what the monitor subjects showed, epoch by epoch."""
    import torch

    import partsig
    from partsig.runs import directory as runs
    from partsig.train.journal import read_metrics

    torch.set_num_threads(1)
    run = work / "runs" / f"pretrain-{method}-s{seed}"
    quietly(work, run.name)
    settings = PRETRAIN | METHODS[method]
    partsig.pretrain(work / "store", run, overrides=settings, seed=seed, gpus="0")
    lines = [line for line in read_metrics(run) if "val_loss" in line]
    record = runs.read(run)
    ends = [datetime.fromisoformat(record[key]) for key in ("started", "finished")]
    curve = [
        {k: v for k, v in line.items() if k.startswith("val_") or k == "step"} for line in lines
    ]
    seconds = (ends[1] - ends[0]).total_seconds()
    return {"method": method, "seed": seed, "seconds": seconds, "curve": curve}


def finetune_one(
    work: Path,
    name: str,
    origin: str,
    settings: dict,
    budget: int,
    draw: int,
    seed: int | None,
    teacher: Path | None = None,
    test: bool = True,
) -> str:
    """Fine-tune and, with ``test``, evaluate one run; return ``LABEL=DIRECTORY``."""
    import torch

    import partsig

    torch.set_num_threads(1)
    tail = "" if seed is None else f"-p{seed}"
    run = work / "runs" / f"{name}{tail}-k{budget}-s{draw}"
    quietly(work, run.name)
    from_ = origin if seed is None else work / "runs" / f"pretrain-{origin}-s{seed}"
    partsig.finetune(
        from_,
        work / "store",
        run,
        segments_per_class=budget,
        teacher=teacher,
        overrides=settings,
        seed=draw,
        device="cpu",
    )
    if test and not (run / "evaluation" / "metrics.json").is_file():
        partsig.evaluate(run, device="cpu")
    return f"{name}={run}"


def main() -> None:
    """Run everything that is not there yet and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/pc18_segments"))
    parser.add_argument("--only", nargs="*", choices=["baselines", *METHODS])
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    parser.add_argument("--draws", nargs="*", type=int, default=DRAWS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    import partsig
    from partsig.runs import directory as runs

    work = options.work.resolve()
    chosen = options.only or ["baselines", *METHODS]
    pretrained = [method for method in chosen if method != "baselines"]
    if not (work / "store" / "split.csv").is_file():
        partsig.preprocess("pc18-segments", options.raw, work / "store")
    parallel = joblib.Parallel(n_jobs=options.jobs, verbose=5, batch_size=1)
    pretexts = parallel(
        joblib.delayed(pretrain_one)(work, method, seed)
        for seed in options.seeds
        for method in pretrained
    )
    todo = [
        (name, origin, settings, budget, draw, seed)
        for draw in options.draws
        for budget in options.budgets
        if budget or not draw  # all the labels are the same labels in every draw
        for method in chosen
        for seed in (options.seeds if method != "baselines" else [None])
        for name, (origin, settings) in runs_of(method, budget).items()
    ]
    named = parallel(joblib.delayed(finetune_one)(work, *job) for job in todo)
    found = partsig.compare(named, against="scratch", output=work / "compare")
    print(found.markdown)
    result = {
        "what": __doc__.partition("\n")[0],
        "command": f"python benchmarks/pc18_segments.py RAW --only {' '.join(chosen)}",
        "date": runs.now(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "environment": runs.environment(),
        "split_unit": "subject (group), test block of segment numbers",
        "n_subjects": found.n_units,
        "n_epochs": found.n_answers,
        "budget_unit": found.unit,
        "draws": list(options.draws),
        "pretraining_seeds": list(options.seeds),
        "pretraining_steps": STEPS,
        "settings": {
            "pretrain": PRETRAIN,
            "methods": METHODS,
            "finetune": FINETUNE,
            "probe": PROBE,
        },
        "rows": [dataclasses.asdict(row) for row in found.rows],
        "pretexts": pretexts,
    }
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.results.with_suffix(".md").write_text(found.markdown + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
