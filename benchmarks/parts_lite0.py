"""What does an encoder that saw ImageNet with labels know of the parts of birds?

    python benchmarks/parts_lite0.py prepare DATA STORES     (once; DATA holds cub/CUB_200_2011)
    python benchmarks/parts_lite0.py run STORES --out FILE [--only NAME…]

``prepare`` makes two stores of 112-pixel images of CUB-200-2011, or of the species that are at
hand: birds cut out by their box, labelled by species, and the four parts of part-aware probing,
cut out about their keypoints. ``run`` asks EfficientNet-Lite0 (``packaged:efficientnet-lite0@112``,
given 112 pixels, not the 224 that it was trained with), frozen, with the mean of its last map: part
retrieval, a linear probe, the nearest neighbours, and an attentive probe of the part, and a linear
probe of the species. Only what is drawn in training depends on a seed, and only the attentive
probe has that: three seeds, none of its settings tuned. Everything is judged once, on the official
test images. Some seven minutes of one CPU core. FILE is written after every result; what stands
there is not done again, so that several processes can share the work.
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
SEEDS = (0, 1, 2)
HEAD = {
    "train": "attentive", "optim.lr": 2e-3,
    "fit.epochs": 6, "fit.batch_size": 64, "optim.warmup_epochs": 1,
    "loss.smoothing": 0.0,
}  # fmt: skip
MEAN = {"pool": "mean"}
WAYS: dict[str, tuple[str, str | None, dict]] = {
    "retrieval": ("parts", "part-retrieval", MEAN),
    "part, linear": ("parts", None, MEAN | {"train": "probe"}),
    "part, kNN": ("parts", None, MEAN | {"train": "knn"}),
    "species, linear": ("object", None, MEAN | {"train": "probe"}),
} | {f"part, attentive, seed {seed}": ("parts", None, HEAD) for seed in SEEDS}
TOLD = ("accuracy", "mean_average_precision", "kappa")


def prepare(data: Path, stores: Path) -> None:
    """Make both stores."""
    from partsig.verbs.preprocess import preprocess

    raw = data / "cub" / "CUB_200_2011"
    for cut in ("object", "parts"):
        preprocess("cub200", raw, stores / cut, overrides={"cut": cut, "size": SIZE})


def asked(work: Path, stores: Path, name: str) -> Path:
    """Return a fine-tuned run."""
    from partsig.verbs.finetune import finetune

    store, task, overrides = WAYS[name]
    seed = int(name.rpartition("seed ")[2]) if "seed" in name else 0
    return finetune(
        ENCODER, stores / store, work / name.replace(", ", "-").replace(" ", "-"), task=task,
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


def run(stores: Path, out: Path, only: list[str]) -> None:
    """Ask what is not in the file yet, and write it down."""
    from partsig.runs.directory import environment, now

    with tempfile.TemporaryDirectory() as folder:
        for name in only or WAYS:
            if name in _there(out):
                continue
            began = time.process_time()
            found = judged(asked(Path(folder), stores, name))
            found |= {"date": now(), "cpu_s": round(time.process_time() - began)}
            print(name, found, flush=True)
            _write(out, _there(out) | {name: found}, environment())


def _there(out: Path) -> dict:
    return json.loads(out.read_text())["results"] if out.is_file() else {}


def _write(out: Path, results: dict, environment: dict) -> None:
    several = [results[name]["accuracy"] for name in results if "seed" in name]
    content = {
        "command": "python benchmarks/parts_lite0.py run STORES --out FILE",
        "encoder": ENCODER,
        "split": "official; images are drawn anew for intervals",
        "seeds": list(SEEDS),
        "environment": environment,
        "settings": {name: way[2] for name, way in WAYS.items()},
        "part, attentive": {
            "n_seeds": len(several),
            "accuracy_mean": statistics.mean(several) if several else None,
            "accuracy_sd": statistics.stdev(several) if len(several) > 1 else None,
        },
        "results": {name: results[name] for name in WAYS if name in results},
    }
    out.write_text(json.dumps(content, indent=1) + "\n")


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
    second.add_argument("--only", nargs="*", default=[], choices=WAYS)
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.data, given.stores)
    else:
        run(given.stores, given.out, given.only)


if __name__ == "__main__":
    sys.exit(main())
