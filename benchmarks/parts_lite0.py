"""What does an encoder that saw ImageNet with labels know of the parts of birds?

    python benchmarks/parts_lite0.py prepare DATA STORES     (once; DATA holds cub/CUB_200_2011)
    python benchmarks/parts_lite0.py run STORES --out FILE

``prepare`` makes two stores of 112-pixel images of CUB-200-2011, or of the species that are at
hand: birds cut out by their box, labelled by species, and the four parts of part-aware probing,
cut out about their keypoints. ``run`` asks EfficientNet-Lite0 (``packaged:efficientnet-lite0@112``,
given 112 pixels, not the 224 that it was trained with), frozen, with the mean of its last map: part
retrieval, a linear probe, the nearest neighbours, and an attentive probe of the part, and a linear
probe of the species. Only what is drawn in training depends on a seed, and only the attentive
probe has that: three seeds, the rate chosen by validation among two with the first of them.
Everything is judged once, on the official test images. Some ten minutes of one CPU core.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ENCODER, SIZE = "packaged:efficientnet-lite0@112", 112
SEEDS, RATES = (0, 1, 2), (2e-3, 1e-2)
HEAD = {
    "train": "attentive", "fit.epochs": 8, "fit.batch_size": 64, "optim.warmup_epochs": 1,
    "loss.smoothing": 0.0,
}  # fmt: skip
MEAN = {"pool": "mean"}
WAYS: dict[str, tuple[str, str | None, dict]] = {
    "retrieval": ("parts", "part-retrieval", MEAN),
    "part, linear": ("parts", None, MEAN | {"train": "probe"}),
    "part, kNN": ("parts", None, MEAN | {"train": "knn"}),
    "species, linear": ("object", None, MEAN | {"train": "probe"}),
}
TOLD = ("accuracy", "mean_average_precision", "kappa")


def prepare(data: Path, stores: Path) -> None:
    """Make both stores."""
    from partsig.verbs.preprocess import preprocess

    raw = data / "cub" / "CUB_200_2011"
    for cut in ("object", "parts"):
        preprocess("cub200", raw, stores / cut, overrides={"cut": cut, "size": SIZE})


def asked(work: Path, stores: Path, name: str, way: tuple, seed: int = 0) -> Path:
    """Return a fine-tuned run."""
    from partsig.verbs.finetune import finetune

    store, task, overrides = way
    return finetune(
        ENCODER, stores / store, work / f"{name}-s{seed}".replace(", ", "-"), task=task,
        overrides=overrides, seed=seed, device="cpu",
    )  # fmt: skip


def judged(run: Path) -> dict[str, object]:
    """Return what it says of the test images."""
    from partsig.verbs.evaluate import evaluate

    found = evaluate(run, figures=False, device="cpu").metrics
    kept = {key: found[key] for key in TOLD if key in found}
    kept |= {f"{key}_interval_95": found[f"{key}_interval_95"] for key in kept}
    more = ("chance", "with_query", "n_images", "n_crops", "average_precision")
    return kept | {key: found[key] for key in more if key in found}


def chosen_on_validation(run: Path) -> float:
    """Return the kappa on validation that a run was chosen by."""
    return json.loads((run / "run.json").read_text())["val_kappa"]


def run(stores: Path, out: Path) -> dict:
    """Ask everything and write it down."""
    from partsig.runs.directory import environment

    began = time.process_time()
    result: dict = {
        "command": f"python benchmarks/parts_lite0.py run STORES --out {out.name}",
        "date": time.strftime("%Y-%m-%d"),
        "encoder": ENCODER,
        "split": "official test images; images are drawn anew for intervals",
        "seeds": list(SEEDS),
        "environment": environment(),
        "settings": {name: way[2] for name, way in WAYS.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, way in WAYS.items():
            result[name] = judged(asked(work, stores, name, way))
            print(name, result[name], flush=True)
        tried = {}
        for rate in RATES:
            way = ("parts", None, HEAD | {"optim.lr": rate})
            tried[rate] = asked(work, stores, f"attentive-{rate}", way)
        of_validation = {rate: chosen_on_validation(path) for rate, path in tried.items()}
        best = max(of_validation, key=of_validation.__getitem__)
        way = ("parts", None, HEAD | {"optim.lr": best})
        runs = [tried[best], *(asked(work, stores, "attentive", way, s) for s in SEEDS[1:])]
        each = [judged(path) for path in runs]
        accuracies = [one["accuracy"] for one in each]
        result["part, attentive"] = {
            "accuracy_mean": statistics.mean(accuracies),
            "accuracy_sd": statistics.stdev(accuracies),
            "optim.lr": best,
            "val_kappa_by_lr": {str(rate): value for rate, value in of_validation.items()},
            "each": each,
        }
        result["settings"]["part, attentive"] = way[2]
        print("part, attentive", result["part, attentive"], flush=True)
    result["cpu_s"] = round(time.process_time() - began)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def main() -> None:
    """Read the command line."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare")
    first.add_argument("data", type=Path)
    first.add_argument("stores", type=Path)
    second = commands.add_parser("run")
    second.add_argument("stores", type=Path)
    second.add_argument("--out", type=Path, default=RESULTS / "parts_lite0.json")
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.data, given.stores)
    else:
        run(given.stores, given.out)


if __name__ == "__main__":
    sys.exit(main())
