"""PART beside its rivals on images: what is learned of the pretext, and what it is worth.

Run: ``python benchmarks/images.py DATA [--raw FILES] [--work DIR] [--scale cpu|gpu] [--jobs 2]``.
DATA is ``digits`` (scikit-learn's, no files needed) or ``cifar`` (a folder or zip of 32 x 32 images
in folders named by class, such as a subset of CIFAR-10 with train/ and test/).

Every method has the same encoder, images, steps, batch, optimiser and fine-tuning. Each is
pretrained three times without labels, then judged frozen (linear probe on the mean
of the tokens, on [CLS], on mean and SD; nearest neighbours) and fine-tuned with few labels, beside
an untrained encoder. A seed is one pretraining, one initialisation of the untrained encoder and one
draw of labels. Penalties and epochs are chosen on validation images; nothing was chosen on test
images. ``--scale gpu`` is ViT-S/4 for 200 epochs, for which it takes a GPU: it has not been run.

Writes WORK/compare/ and benchmarks/results/images_DATA.json and .md. Everything is resumed: the
same command continues. On two busy cores digits took 20 minutes, five methods on cifar 90.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
from pathlib import Path

import joblib
from pc18_segments import quietly

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one thread a run; runs go side by side

RESULTS = Path(__file__).parent / "results"
POOLS = ("mean", "cls", "mean+sd")
OPTIM = {"optim.lr": 4e-3, "optim.min_lr": 1e-4, "optim.clip": 1.0}
PRETRAIN = OPTIM | {"encoder.drop_path": 0.0, "fit.batch_size": 128}
HISTOGRAM = {
    "objective.loss": "histogram",
    "objective.relative": "pairwise-mlp",
    "objective.hidden": 128,
}
DECODER = {"objective.decoder.width": 64, "objective.decoder.heads": 4}
METHODS = {
    "part": {"objective.heads": 4},
    "part-grid": {"objective.heads": 4, "objective.sampling": "grid"},
    "part-histogram": HISTOGRAM,
    "mae": {"objective.name": "mae"} | DECODER,
    "mp3": {"objective.name": "mp3", "objective.mask_ratio": 0.5},
    "droppos": {"objective.name": "droppos"} | DECODER,
}
FINETUNE = OPTIM | {
    "pool": "mean",
    "drop_path": 0.0,
    "loss.mixup": 0.2,
    "loss.cutmix": 1.0,
    "loss.smoothing": 0.1,
    "optim.warmup_epochs": 2,
    "fit.batch_size": 64,
    "fit.average": 0.99,
    "fit.log_every": 50,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Data at a scale: shape of image and encoder, length of training, budgets, seeds, methods."""

    size: int
    patch: int
    encoder: tuple[int, int, int]  # width, depth, heads
    epochs: int
    warmup: float
    budgets: tuple[int, ...]  # labelled images per class of the probes; 0 is all
    few: tuple[int, int]  # labelled images per class of fine-tuning, and its epochs
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    patches: int

    @property
    def shape(self) -> dict[str, object]:
        """Return the overrides that give a run the encoder's shape."""
        sizes = zip(("width", "depth", "heads"), self.encoder, strict=True)
        return {f"encoder.{key}": size for key, size in sizes} | {"patch_px": self.patch}


DIGITS = Task(
    size=8,
    patch=4,
    encoder=(96, 3, 4),
    epochs=200,
    warmup=5,
    budgets=(5, 20, 0),
    few=(20, 60),
    seeds=(0, 1, 2),
    methods=("part",),
    patches=16,
)
CIFAR = Task(
    size=32,
    patch=8,
    encoder=(128, 4, 4),
    epochs=10,
    warmup=1,
    budgets=(100, 0),
    few=(100, 25),
    seeds=(0, 1, 2),
    methods=tuple(METHODS),
    patches=16,
)
VIT_S4 = dataclasses.replace(
    CIFAR, patch=4, encoder=(384, 12, 6), epochs=200, warmup=10, patches=64
)
TASKS = {("digits", "cpu"): DIGITS, ("cifar", "cpu"): CIFAR, ("cifar", "gpu"): VIT_S4}


def pretrain_one(work: Path, task: Task, method: str, seed: int, gpus: str) -> dict:
    """Pretrain a method; return what the validation images showed, epoch by epoch."""
    import partsig
    from partsig.train.journal import read_metrics

    run = work / "runs" / f"pretrain-{method}-s{seed}"
    quietly(work, run.name)
    settings = PRETRAIN | task.shape | METHODS[method]
    settings |= {"size": task.size, "fit.epochs": task.epochs, "optim.warmup_epochs": task.warmup}
    if method.startswith("part"):
        settings["objective.patches"] = task.patches
    partsig.pretrain(
        work / "store", run, modality="image", overrides=settings, seed=seed, gpus=gpus
    )
    lines = [line for line in read_metrics(run) if "val_loss" in line]
    curve = [
        {k: v for k, v in line.items() if k.startswith("val_") or k == "step"} for line in lines
    ]
    return {"method": method, "seed": seed, "curve": curve}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """A way to judge an encoder, at some budgets of labels."""

    title: str
    budgets: tuple[int, ...]
    settings: dict[str, object]


def judge_one(
    work: Path, task: Task, way: str, name: str, budget: int, seed: int, device: str
) -> str:
    """Fine-tune (or probe) one encoder and evaluate it; return ``LABEL=DIRECTORY``."""
    import partsig

    run = work / "runs" / f"{way}-{name}-k{budget}-s{seed}"
    quietly(work, run.name)
    settings = ways_of(task)[way].settings
    if name == "untrained":
        origin, settings = "scratch", settings | task.shape
    else:
        origin = work / "runs" / f"pretrain-{name}-s{seed}"
    partsig.finetune(
        origin,
        work / "store",
        run,
        segments_per_class=budget,
        overrides=settings,
        seed=seed,
        device=device,
    )
    if not (run / "evaluation" / "metrics.json").is_file():
        partsig.evaluate(run, device=device)
    return f"{name}={run}"


def ways_of(task: Task) -> dict[str, Way]:
    """Return the ways an encoder is judged, by name."""
    few, epochs = task.few
    whole = FINETUNE | {"fit.epochs": epochs, "fit.validate_every": max(epochs // 10, 1)}
    return {
        **{
            f"probe-{pool}": Way(
                title=f"Linear probe, {pool}",
                budgets=task.budgets,
                settings={"train": "probe", "pool": pool},
            )
            for pool in POOLS
        },
        "knn": Way(
            title="20 nearest neighbours, mean",
            budgets=(0,),
            settings={"train": "knn", "pool": "mean"},
        ),
        "full": Way(title="Fine-tuned", budgets=(few,), settings=whole),
    }


def pretext_table(pretexts: list[dict]) -> list[str]:
    """Return lines on what each method's pretext reached on validation images, mean ± SD."""
    lines = [
        "| method | R² (mae: of pixels) | squared error by row, column (patches²) | error (px) "
        "| accuracy |",
        "|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(found["method"] for found in pretexts):
        last = [found["curve"][-1] for found in pretexts if found["method"] == method]

        def told(key: str, last: list[dict] = last) -> str:
            if f"val_{key}" not in last[0]:
                return ""
            values = [line[f"val_{key}"] for line in last]
            return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

        both = ", ".join(filter(None, (told("mse_row"), told("mse_column"))))
        lines.append(
            f"| {method} | {told('r2')} | {both} | {told('error_px')} | {told('accuracy')} |"
        )
    return lines


def main() -> None:
    """Run everything that is not there yet and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=["digits", "cifar"])
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--scale", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", nargs="*", choices=METHODS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if (options.data, options.scale) not in TASKS:
        parser.error(f"{options.data} has no scale {options.scale}")
    if options.data == "cifar" and options.raw is None:
        parser.error("cifar needs --raw FILES")
    import partsig
    from partsig.runs import directory as runs
    from partsig.verbs.preprocess import preprocess

    task = TASKS[options.data, options.scale]
    if options.only:
        task = dataclasses.replace(task, methods=tuple(options.only))
    label = f"images_{options.data}" + ("_gpu" if options.scale == "gpu" else "")
    work = (options.work or Path("runs") / label).resolve()
    # Not partsig.preprocess, which also loads the readers of signals.
    if options.data == "digits":
        preprocess("digits", None, work / "store", overrides={"val_share": 0.2})
    else:
        preprocess("images", options.raw, work / "store", overrides={"size": task.size})
    device, gpus = ("cpu", "0") if options.scale == "cpu" else ("cuda", "1")
    parallel = joblib.Parallel(n_jobs=options.jobs, verbose=5, batch_size=1)
    pretexts = parallel(
        joblib.delayed(pretrain_one)(work, task, method, seed, gpus)
        for seed in task.seeds
        for method in task.methods
    )
    ways = ways_of(task)
    todo = [
        (way, name, budget, seed)
        for seed in task.seeds
        for way, told in ways.items()
        for budget in told.budgets
        for name in ("untrained", *task.methods)
    ]
    named = parallel(joblib.delayed(judge_one)(work, task, *job, device) for job in todo)
    tables, text = {}, [*pretext_table(pretexts), ""]
    for way, told in ways.items():
        members = [name for name, job in zip(named, todo, strict=True) if job[0] == way]
        found = partsig.compare(members, against="untrained", output=work / "compare" / way)
        tables[told.title] = [dataclasses.asdict(row) for row in found.rows]
        text += [f"**{told.title}**", "", found.markdown, ""]
    result = {
        "what": __doc__.partition("\n")[0],
        "command": f"python benchmarks/images.py {options.data} --scale {options.scale}"
        + (f" --raw FILES --only {' '.join(task.methods)}" if options.data == "cifar" else ""),
        "date": runs.now(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "environment": runs.environment(),
        "split_unit": "image",
        "seeds": list(task.seeds),
        "settings": {
            "task": dataclasses.asdict(task),
            "pretrain": PRETRAIN,
            "methods": {name: METHODS[name] for name in task.methods},
            "finetune": FINETUNE,
        },
        "tables": tables,
        "pretexts": pretexts,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{label}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (options.results / f"{label}.md").write_text("\n".join(text), "utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
