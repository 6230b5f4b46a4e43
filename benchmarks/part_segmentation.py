"""What does an encoder know of parts, what of objects, pixel by pixel? Pets, frozen encoders.

    python benchmarks/part_segmentation.py DATA --out FILE [--seeds 0 1 2] [--epochs 8]

DATA holds ``images`` and ``trimaps`` of Oxford-IIIT Pet; with the 600 images of three breeds,
short side 256, that partsig was tried on, a run takes about five minutes of one core. Images are
stored at 64 x 64 pixels; a fifth of each breed is the test, by the hash of the names, and 15 % of
the others validate. Judged are, by ``partsig finetune`` and ``evaluate`` as anybody would: part
segmentation (pet, background, border), object segmentation (border counted to the pet), and a
linear probe of the breed; of EfficientNet-Lite0, trained on ImageNet with labels, and of a ViT of
96 x 6 that nobody trained. Seeds draw the head and the order of training, and the untrained
encoder. Settings are those of the configuration image-segmentation but for the number of epochs;
none was tuned. FILE is written after every result; what stands there is not done again.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

SIZE = 64
SHAPE = {"patch_px": 8, "encoder.width": 96, "encoder.depth": 6, "encoder.heads": 3}
ENCODERS: dict[str, tuple[str, dict]] = {
    "EfficientNet-Lite0": (f"packaged:efficientnet-lite0@{SIZE}", {}),
    "untrained ViT 96 x 6": ("scratch", SHAPE),
}
COLUMNS = {
    "part": ("part-segmentation", "mean_iou"),
    "object": ("object-segmentation", "mean_iou"),
    "breed": (None, "accuracy"),
}
TOLD = ("iou", "mean_accuracy", "pixel_accuracy", "of_commonest", "mean_iou_interval_95")


def judged(
    store: Path, work: Path, encoder: str, column: str, seed: int, epochs: int
) -> dict[str, object]:
    """Return a figure of a frozen encoder, and what else is told of it."""
    from partsig.verbs.evaluate import evaluate
    from partsig.verbs.finetune import finetune

    origin, shape = ENCODERS[encoder]
    task, key = COLUMNS[column]
    own = {"train": "probe", "pool": "mean"} if task is None else {"fit.epochs": epochs}
    began = time.process_time()
    name = f"{encoder}-{column}-{seed}".replace(" ", "-")
    run = finetune(
        origin, store, work / name, task=task, overrides=shape | own, seed=seed, device="cpu"
    )
    found = evaluate(run, figures=False, device="cpu").metrics
    told = {name: found[name] for name in TOLD if name in found}
    return {
        "encoder": encoder, "column": column, "seed": seed, "value": found[key],
        "seconds": time.process_time() - began, **told,
    }  # fmt: skip


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of every column of every encoder.

    >>> rows = [{"encoder": "a", "column": "part", "seed": s, "value": v}
    ...         for s, v in enumerate((0.4, 0.6))]
    >>> round(table(rows)[0]["part"]["mean"], 3)
    0.5
    """
    lines = []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        line: dict[str, object] = {"encoder": encoder}
        for column in COLUMNS:
            mine = [r["value"] for r in rows if (r["encoder"], r["column"]) == (encoder, column)]
            if mine:
                sd = statistics.stdev(mine) if len(mine) > 1 else None
                line[column] = {"mean": statistics.mean(mine), "sd": sd, "n_seeds": len(mine)}
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Do what is not done yet; write every result as it comes; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args(arguments)
    from partsig.data.images.store import open_images
    from partsig.runs import directory as runs
    from partsig.verbs.preprocess import preprocess

    work = Path(tempfile.mkdtemp(prefix="partsig-segmentation-"))
    store = work / "store"
    preprocess("pets", options.data, store, overrides={"size": SIZE, "val_share": 0.15})
    opened = open_images(store)
    content = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": []}
    rows = content["rows"]
    known = {(row["encoder"], row["column"], row["seed"]) for row in rows}
    head = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/part_segmentation.py DATA --out FILE",
        "date": runs.now(),
        "environment": runs.environment(),
        "device": "cpu, one thread",
        "split_unit": "image",
        "images": {r: len(opened.members(r)) for r in ("train", "val", "test")},
        "size": SIZE,
        "epochs": options.epochs,
        "encoders": {name: list(told) for name, told in ENCODERS.items()},
    }
    for seed in options.seeds:
        for encoder in ENCODERS:
            for column in COLUMNS:
                if (encoder, column, seed) in known:
                    continue
                row = judged(store, work, encoder, column, seed, options.epochs)
                rows.append(row)
                print({k: row[k] for k in ("encoder", "column", "seed", "value", "seconds")},
                      flush=True)  # fmt: skip
                content = head | {"table": table(rows), "rows": rows}
                options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
