"""Are parts that are discovered without labels those that people name? Losses, networks, rivals.

    python benchmarks/discovery.py prepare DATA WORK    (once; DATA holds cub/CUB_200_2011)
    python benchmarks/discovery.py run WORK [--rows NAME …] [--processes 2] [--out FILE]

``prepare`` cuts birds of five species of CUB-200-2011 (001, 005, 009, 013, 017; official train and
test) out by their box, 160 x 160 pixels, and pretrains a small ViT by PART on the training birds of
20 species, without labels, as one of the networks to look through. ``run`` discovers parts there by
the configuration discover-cub (300 steps of 12; EfficientNet-Lite0, everything in the box counts as
foreground), K = 4 and 8, five seeds each; then without one loss each and with the published
replacements of the contrast, by SCOPS's losses, and through other networks, three seeds. Judged at
visible keypoints of the test images by normalised mutual information and adjusted Rand index, and
by the regression of keypoints from the parts' centres. Beside every row k-means on the very maps it
looked through, and a grid. Nothing is tuned; the rate is that of a first trial on other birds.

FILE is written after every run; what stands there is not done again. Two to four minutes of one
core a run. On a GPU, all of CUB with the published networks: ``partsig pretrain --config
discover-published`` on a store of ``preprocess cub200 --set cut=object --set size=256``
(100,000 steps; half a day or more).
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import time
import traceback
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "discovery.json"
SPECIES = (1, 5, 9, 13, 17)
CUT = {"cut": "object", "margin": 0, "size": 160, "val_share": 0}
STEPS, BATCH = 300, 12
PART = {
    "size": 160, "patch_px": 16, "objective.patches": 40, "fit.epochs": 40, "fit.workers": 0,
    "fit.batch_size": 64, "windows_per_epoch": 640,
}  # fmt: skip
VIT = {"encoder.width": 128, "encoder.depth": 4, "encoder.heads": 4, "patch_px": 16}
FIVE, THREE = range(5), range(3)
# What a row changes of discover-cub, and its seeds; the first ones are done first.
ROWS: dict[str, tuple[dict[str, object], range]] = {
    "all losses, K = 4": ({}, FIVE),
    "all losses, K = 8": ({"objective.parts": 8}, FIVE),
    "without the contrast": ({"objective.contrast": "none"}, THREE),
    "without equivariance": ({"objective.equivariance": 0}, THREE),
    "without features": ({"objective.feature": 0}, THREE),
    "without appearance": ({"objective.visual": 0}, THREE),
    "through an untrained ViT": ({"objective.phi": "scratch", "objective.taps": [], **VIT}, THREE),
    "through PART": ({"objective.phi": "PART", "objective.taps": []}, THREE),
    "SCOPS's losses": ({"config": "discover-scops"}, THREE),
    "contrast of an image's own views": ({"objective.contrast": "views"}, THREE),
    "squared distance for the contrast": ({"objective.contrast": "l2"}, THREE),
}


def prepare(data: Path, work: Path) -> None:
    """Make both stores, and the PART run."""
    from partsig.verbs.preprocess import preprocess
    from partsig.verbs.pretrain import pretrain

    raw = data / "cub" / "CUB_200_2011"
    some = {"classes": [f"CUB-{number:03d}" for number in SPECIES]}
    print(preprocess("cub200", raw, work / "five", overrides=CUT | some))
    print(preprocess("cub200", raw, work / "twenty", overrides=CUT))
    pretrain(
        work / "twenty", work / "part", modality="image", config="cifar-tiny", overrides=PART,
        gpus="0",
    )  # fmt: skip


def do(job: tuple[str, int, Path]) -> dict[str, object]:
    """Discover and judge; return the row. A failure is a row, too."""
    from partsig.verbs.evaluate import evaluate
    from partsig.verbs.pretrain import pretrain

    name, seed, work = job
    told: dict[str, object] = {"row": name, "seed": seed}
    changes = dict(ROWS[name][0])
    config = changes.pop("config", "discover-cub")
    if changes.get("objective.phi") == "PART":
        changes["objective.phi"] = str(work / "part")
    run = work / "runs" / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    began = time.process_time()
    try:
        pretrain(
            work / "five", run, modality="image", config=config, overrides=changes, seed=seed,
            gpus="0",
        )  # fmt: skip
        trained = time.process_time() - began
        found = evaluate(run, seed=seed, figures=False, device="cpu").metrics
    except Exception:  # noqa: BLE001 (it is handed over and written down)
        return told | {"traceback": traceback.format_exc()}
    keep = ("parts", "grid", "foreground", "phi", "n_images", "points_fg", "dead_parts",
            "part_shares", "keypoint_regression_error", "baselines")  # fmt: skip
    found["phi"] = found["phi"].replace(str(work), "WORK")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return told | {key: found[key] for key in keep} | {
        "training_cpu_s": round(trained, 1), "peak_gib_of_the_process": round(memory, 2),
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, float | None]:
    """Return mean and SD.

    >>> spread([1.0, 3.0])["mean"]
    2.0
    """
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": sd}


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of every row, in %, and of k-means and the grid beside it."""
    lines = []
    for name in ROWS:
        mine = [row for row in rows if row["row"] == name and "traceback" not in row]
        if not mine:
            continue
        line: dict[str, object] = {"row": name, "n_seeds": len(mine), "parts": mine[0]["parts"]}
        for key in ("nmi", "ari"):
            line[f"fg_{key}"] = spread([100 * row["points_fg"][key] for row in mine])
            for beside in ("k-means", "grid"):
                scores = [row["baselines"][beside]["points_fg"] for row in mine]
                line[f"{beside} fg_{key}"] = spread([100 * score[key] for score in scores])
        line["keypoint_error"] = spread([row["keypoint_regression_error"] for row in mine])
        line["dead_parts"] = [len(row["dead_parts"]) for row in mine]
        line["training_cpu_s"] = statistics.median(row["training_cpu_s"] for row in mine)
        lines.append(line)
    return lines


def run(options: argparse.Namespace) -> int:
    """Do what is not done yet; write every row as it comes. Returns 1 where something failed."""
    from partsig.data.images.store import open_images
    from partsig.runs import directory as runs

    content = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": []}
    rows = [row for row in content["rows"] if "traceback" not in row]
    known = {(row["row"], row["seed"]) for row in rows}
    jobs = [
        (name, seed, options.work)
        for name, (_, seeds) in ROWS.items()
        if name in (options.rows or ROWS)
        for seed in seeds
        if (name, seed) not in known
    ]
    store = open_images(options.work / "five")
    head = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/discovery.py prepare DATA WORK; "
        "python benchmarks/discovery.py run WORK",
        "split_unit": "image; official train and test of five species",
        "images": {role: len(store.members(role)) for role in ("train", "test")},
        "steps": STEPS, "batch": BATCH, "cut": CUT, "part_run": PART,
        "changes": {name: changes for name, (changes, _) in ROWS.items()},
    }  # fmt: skip
    environments = content.get("environments", [])
    environments.append({"date": runs.now(), **runs.environment()})
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(do, jobs):
            rows.append(row)
            content = head | {"environments": environments, "table": table(rows), "rows": rows}
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            shown = row.get("traceback") or row["points_fg"]["nmi"]
            print(row["row"], row["seed"], shown, flush=True)
    return int(any("traceback" in row for row in rows))


def main() -> int:
    """Prepare, or run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("prepare")
    first.add_argument("data", type=Path)
    first.add_argument("work", type=Path)
    second = verbs.add_parser("run")
    second.add_argument("work", type=Path)
    second.add_argument("--rows", nargs="+", choices=ROWS)
    second.add_argument("--processes", type=int, default=1)
    second.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(options.data, options.work)
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
