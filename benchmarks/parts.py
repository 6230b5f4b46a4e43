"""What does an encoder know of parts, and what of objects? Methods on the same images, one budget.

    python benchmarks/parts.py prepare DATA STORES     (once; DATA holds cub/CUB_200_2011)
    python benchmarks/parts.py run STORES --out FILE [--device cuda] [--methods …]

``prepare`` makes two stores of 64-pixel images of CUB-200-2011: birds cut out by their box,
labelled by species (object level), and the four parts of part-aware probing (right eye, right leg,
left wing, tail), cut out about their keypoints (part level). ``run`` pretrains a ViT of 192 x 6 on
the training birds by every method, for equally many steps, batches and augmentations, with three
seeds; and judges each on the official test images, frozen: part retrieval (mean average precision,
chance about .25) of the mean of the tokens and of [CLS], a linear probe of the part, a linear
probe of the species. Rates, strengths and schedules are the same for all and were not tuned.
Beside them an untrained encoder of that shape, 8 x 8 pixels, and EfficientNet-Lite0, trained on
ImageNet with labels.

FILE is written after every result; what stands there is not done again, so that rows may come from
several machines (a row tells its device; those of November 2026 do not yet). On one H100 with 16
cores a pretraining takes two to four minutes, in six processes at a time; of two at a time on two
CPU cores with bfloat16 the contrasts take half an hour each, PART and MP3 13 minutes, MAE and
DropPos six. The whole of CUB (200 species, 224 pixels, ViT-B/16, 400 epochs or more) is
``imagenet``, ``imagenet-mae``, … with ``--set size=224`` on a GPU.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"
SIZE, PATCH, STEPS, BATCH, EPOCHS = 64, 8, 300, 256, 4
SEEDS = (0, 1, 2)
SHAPE = {"encoder.width": 192, "encoder.depth": 6, "encoder.heads": 3}
COMMON = SHAPE | {
    "size": SIZE, "patch_px": PATCH, "encoder.drop_path": 0.0,
    "augment.crop": "resized", "augment.area": 0.2, "augment.flip": 0.5, "augment.jitter": 0.4,
    "augment.grey": 0.2, "augment.randaugment": 0.0, "augment.hue": 0.0,
    "fit.batch_size": BATCH, "fit.epochs": EPOCHS, "windows_per_epoch": BATCH * STEPS // EPOCHS,
    "fit.compile": "never", "fit.log_every": 25, "fit.keep": 1, "fit.workers": 2,
    "fit.precision": "bf16",  # that of a GPU, on a CPU too
    "optim.lr": 2e-3, "optim.warmup_epochs": 0.2, "optim.clip": 1.0,
}  # fmt: skip
DECODER = {
    "objective.decoder.width": 96,
    "objective.decoder.depth": 2,
    "objective.decoder.heads": 4,
}
METHODS: dict[str, tuple[str, dict]] = {
    "part": ("cifar", {"objective.heads": 4}),
    "mae": ("cifar-mae", DECODER),
    "mp3": ("cifar-mp3", {}),
    "droppos": ("cifar-droppos", DECODER),
    "contrast": ("cifar-contrast", {}),
    "part+contrast": ("cifar-part-contrast", {"objective.heads": 4}),
}
OTHERS = ("untrained", "pixels", "lite0")
PROBE = {"train": "probe", "pool": "mean"}
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 1, "fit.batch_size": 16,
        "fit.epochs": 1, "windows_per_epoch": 32, "fit.workers": 0}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """A method with a seed: what a process is given."""

    method: str
    seed: int
    stores: Path
    work: Path
    device: str
    tiny: bool


def prepare(data: Path, stores: Path) -> None:
    """Make both stores."""
    from partsig.verbs.preprocess import preprocess

    raw = data / "cub" / "CUB_200_2011"
    for cut in ("object", "parts"):
        made = preprocess("cub200", raw, stores / cut, overrides={"cut": cut, "size": SIZE})
        print(f"{cut}: {made}")


def do(job: Job) -> dict[str, object]:
    """Pretrain where that is to be done, judge, and return the row; a failure is a row, too."""
    told: dict[str, object] = {"method": job.method, "seed": job.seed, "device": job.device}
    began = time.monotonic()
    try:
        if job.method == "pixels":
            return told | pixels(job) | {"seconds": time.monotonic() - began}
        origin, overrides = origin_of(job)
        trained = time.monotonic() - began
        found = judged(job, origin, overrides)
    except Exception:  # noqa: BLE001 (it is handed over and written down)
        return told | {"traceback": traceback.format_exc()}
    return told | found | {"pretraining_s": trained, "seconds": time.monotonic() - began}


def origin_of(job: Job) -> tuple[str, dict[str, object]]:
    """Return what is judged, pretrained if need be, and the settings that give it its shape."""
    from partsig.verbs.pretrain import pretrain

    if job.method == "lite0":
        return "packaged:efficientnet-lite0", {}
    shape = {key: (TINY if job.tiny else SHAPE)[key] for key in SHAPE}
    if job.method == "untrained":
        return "scratch", shape | {"patch_px": PATCH}
    config, own = METHODS[job.method]
    run = job.work / f"{job.method}-{job.seed}"
    tiny = TINY if job.tiny else {}
    if job.tiny and "objective.decoder.width" in own:
        tiny = tiny | {"objective.decoder.width": 16, "objective.decoder.heads": 2}
    pretrain(
        job.stores / "object", run, modality="image", config=CONFIGS / f"{config}.yaml",
        overrides=COMMON | own | tiny, seed=job.seed,
        gpus="1" if job.device == "cuda" else "0",
    )  # fmt: skip
    return str(run), {}


def judged(job: Job, origin: str, overrides: dict[str, object]) -> dict[str, float]:
    """Return what a frozen encoder knows of parts and of objects."""
    from partsig.verbs.evaluate import evaluate
    from partsig.verbs.finetune import finetune

    def of(name: str, store: str, key: str, task: str | None, settings: dict) -> float:
        run = finetune(
            origin, job.stores / store, job.work / f"{job.method}-{job.seed}-{name}", task=task,
            overrides=overrides | settings, seed=job.seed, device=job.device,
        )  # fmt: skip
        return evaluate(run, figures=False, device=job.device).metrics[key]

    retrieval, measure = "part-retrieval", "mean_average_precision"
    found = {"retrieval_mean": of("mean", "parts", measure, retrieval, {"pool": "mean"})}
    # Of an encoder without [CLS] that is the vector that it was made to be used by.
    found["retrieval_cls"] = of("cls", "parts", measure, retrieval, {"pool": "cls"})
    found["part_probe"] = of("part", "parts", "accuracy", None, PROBE)
    found["species_probe"] = of("species", "object", "accuracy", None, PROBE)
    return found


def pixels(job: Job) -> dict[str, float]:
    """Return the same of 8 x 8 pixels, centred on their mean image."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    from partsig.data.images.store import open_images
    from partsig.metrics.retrieval import average_precisions, by_label, mean_average_precision
    from partsig.tasks.classification_scores import share_right
    from partsig.tasks.frozen import fit_logistic

    found = {}
    for name in ("parts", "object"):
        store = open_images(job.stores / name)
        images = torch.from_numpy(store.batch(np.arange(len(store)))).float()
        small = interpolate(images, size=(8, 8), mode="area").flatten(1).numpy().astype(np.float64)
        small -= small[store.members("train")].mean(0)
        x, y = ([part[store.members(role)] for role in ("train", "val", "test")]
                for part in (small, store.labels))  # fmt: skip
        weight, bias, _, _ = fit_logistic(x[0], y[0], x[1], y[1], len(store.classes), share_right)
        found[f"{'part' if name == 'parts' else 'species'}_probe"] = share_right(
            y[2], (x[2] @ weight.T + bias).argmax(1)
        )
        if name == "parts":
            sums = by_label(average_precisions(x[2], y[2]), y[2], len(store.classes))
            found["retrieval_mean"] = float(mean_average_precision(sums))
    return found


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of every figure of every method.

    >>> rows = [{"method": "a", "seed": s, "part_probe": p} for s, p in enumerate((0.4, 0.6))]
    >>> table(rows)[0]["part_probe"]["mean"]
    0.5
    """
    lines = []
    for method in (*METHODS, *OTHERS, *{row["method"] for row in rows}):
        mine = [row for row in rows if row["method"] == method and "traceback" not in row]
        if not mine or any(line["method"] == method for line in lines):
            continue
        line: dict[str, object] = {"method": method, "n_seeds": len(mine)}
        for key in ("retrieval_mean", "retrieval_cls", "part_probe", "species_probe"):
            values = [row[key] for row in mine if key in row]
            if values:
                sd = statistics.stdev(values) if len(values) > 1 else None
                line[key] = {"mean": statistics.mean(values), "sd": sd}
        lines.append(line)
    return lines


MEASURED = {
    "retrieval_mean": "parts, retrieval",
    "part_probe": "parts, linear probe",
    "species_probe": "objects, linear probe",
}
HARD_TO_BEAT = ("untrained", "pixels")


def beyond(lines: list[dict]) -> dict[str, dict[str, list[str]]]:
    """Return which of untrained and pixels each method is ahead of, by its measure.

    Ahead is more than twice the SD over seeds, the larger one of both rows, of three seeds or more.

    >>> def row(name, mean): return {"method": name, "part_probe": {"mean": mean, "sd": 0.01}}
    >>> lines = [row(*told) | {"n_seeds": 3} for told in (("mae", 0.5), ("untrained", 0.47))]
    >>> beyond(lines)
    {'mae': {'parts, linear probe': ['untrained']}}
    """
    by_name = {line["method"]: line for line in lines}
    told: dict[str, dict[str, list[str]]] = {}
    for name in METHODS:
        own = by_name.get(name, {"n_seeds": 0})
        for key, words in MEASURED.items():
            others = [by_name[other] for other in HARD_TO_BEAT if key in by_name.get(other, {})]
            if own["n_seeds"] < len(SEEDS) or not others:
                continue
            told.setdefault(name, {})[words] = [
                other["method"]
                for other in others
                if own[key]["mean"] - other[key]["mean"]
                > 2 * max(own[key]["sd"], other[key]["sd"] or 0.0)
            ]
    return told


def run(options: argparse.Namespace) -> int:
    """Do what is not done yet; write every row as it comes. Returns 1 where something failed."""
    from partsig.data.images.store import open_images
    from partsig.runs import directory as runs

    content = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": []}
    rows = [row for row in content["rows"] if "traceback" not in row]
    known = {(row["method"], row["seed"]) for row in rows}
    work = Path(tempfile.mkdtemp(prefix="partsig-parts-"))
    jobs = [
        Job(method=method, seed=seed, stores=options.stores, work=work, device=options.device,
            tiny=options.dry_run)
        for seed in SEEDS for method in options.methods
        if (method, seed) not in known and (seed == 0 or method not in ("pixels", "lite0"))
    ]  # fmt: skip
    head = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/parts.py prepare DATA STORES; python benchmarks/parts.py "
        "run STORES --out FILE --device cuda --processes 6; what was missing on a CPU, with "
        "--processes 2 and --methods of all rows",
        "split_unit": "image; official train and test of the first 20 species",
        "images": {
            name: {role: len(open_images(options.stores / name).members(role))
                   for role in ("train", "val", "test")}
            for name in ("object", "parts")
        },
        "steps": STEPS, "batch": BATCH, "settings": COMMON,
        "methods": {name: list(told) for name, told in METHODS.items()},
    }  # fmt: skip
    environments = content.get("environments", [])
    if jobs:
        environments.append({"date": runs.now(), "device": options.device, **runs.environment()})
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers

    def write() -> None:
        lines = table(rows)
        told = {"environments": environments, "table": lines, "beyond": beyond(lines), "rows": rows}
        options.out.write_text(json.dumps(head | told, indent=1) + "\n", encoding="utf-8")

    write()
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap_unordered(do, jobs):
            rows.append(row)
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
            write()
    return int(any("traceback" in row for row in rows))


def main(arguments: list[str] | None = None) -> int:
    """Prepare, or run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("prepare")
    first.add_argument("data", type=Path)
    first.add_argument("stores", type=Path)
    second = verbs.add_parser("run")
    second.add_argument("stores", type=Path)
    second.add_argument("--out", type=Path, required=True)
    second.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    second.add_argument("--methods", nargs="+", choices=(*METHODS, *OTHERS),
                        default=list(METHODS))  # fmt: skip
    second.add_argument("--processes", type=int, default=1)
    second.add_argument("--dry-run", action="store_true", help="tiny, one seed; means nothing")
    options = parser.parse_args(arguments)
    if options.verb == "prepare":
        prepare(options.data, options.stores)
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
