"""How far parts of birds that are found without learning agree with keypoints (CUB, 20 species).

    python benchmarks/discovery_images.py --data DATA

The official layout lies in DATA/cub. Birds are cut out by their box (a square of its longer side,
160 pixels), 150 of the official training images are fitted and 100 of the test images judged, both
drawn by seed 0; features are EfficientNet-Lite0's maps at 1/16 and 1/32 of 320 pixels, 432 channels
on 20 x 20 cells; everything in the square counts as foreground. Rows: one part, a grid of the
square, k-means, NMF; K = 4 and 8; three seeds where the seed matters. ``fg`` figures, at visible
keypoints, in %, an interval of seed 0 by a bootstrap over images, and the regression error of
keypoints in % of the box, beside that of one part that is the middle, the mean true keypoint, or
the true throat. Published rows, of all species and with true foregrounds, are printed below.

Written to ``results/discovery_images_baselines.json``. One core, some minutes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import partsig
from partsig.data.images.examples import LabelledImages
from partsig.data.images.store import open_images
from partsig.metrics import part_places
from partsig.metrics.clustering import keypoint_regression_error, scores
from partsig.runs.encoder_sources import parse
from partsig.runs.features import taken_of
from partsig.tasks import published_parts
from partsig.tasks.part_baselines import BASELINES, PartMaps, as_maps

RESULTS = Path(__file__).parent / "results" / "discovery_images_baselines.json"
ENCODER, TAPS = "packaged:efficientnet-lite0@320", (3, 4)
SIZE, PARTS, SEEDS = 160, (4, 8), (0, 1, 2)
SOME = {"train": 150, "test": 100}


def sides_of(data: Path, work: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return maps, places of keypoints, whether they are seen, and boxes of both sides."""
    settings = ("cut=object", f"size={SIZE}", "margin=0", "val_share=0")
    store = open_images(partsig.preprocess("cub200", data / "cub", work, overrides=settings).path)
    encoder = parse(ENCODER).open_frozen().encoder
    rng, sides = np.random.default_rng(0), {}
    for role, n in SOME.items():
        index = np.sort(rng.permutation(store.members(role))[:n])
        network = taken_of(encoder, ("map",), TAPS)
        maps = network.features(LabelledImages(store, index, SIZE), torch.device("cpu"))
        places, visible = part_places.places_of(store.keypoints(index), store.size)
        sides[role] = {
            "maps": np.concatenate(list(maps)), "places": places, "visible": visible,
            "box": store.boxes(index)[:, [3, 2]] / SIZE,
        }  # fmt: skip
    return sides


def error_of(sides: dict, centres: dict[str, np.ndarray]) -> float:
    """Return the regression error of keypoints in % of the box."""
    told = []
    for role, of in sides.items():
        told += [centres[role], of["places"], of["visible"]]
    return keypoint_regression_error(*told, sides["test"]["box"])


def measured(sides: dict, method: str, n_parts: int, seed: int) -> dict[str, object]:
    """Return a row: agreement at keypoints, and their regression."""
    began = time.process_time()
    train, test = (PartMaps(maps=sides[role]["maps"]) for role in SOME)
    both = PartMaps(maps=np.concatenate([train.maps, test.maps]))
    maps = as_maps(BASELINES[method](train, both, n_parts, seed), n_parts)
    centres = part_places.part_centres(maps)
    judged, n = sides["test"], len(train.maps)
    found = part_places.most_likely_at(maps[n:], judged["places"], judged["visible"])
    told = scores(part_places.keypoint_tables(found, n_parts), draws=2000 if seed == 0 else 2)
    if seed:
        told = {key: value for key, value in told.items() if "interval" not in key}
    error = error_of(sides, {"train": centres[:n], "test": centres[n:]})
    cpu = round(time.process_time() - began, 1)
    return {"method": method, "n_parts": n_parts, "seed": seed, **told,
            "keypoint_error": error, "cpu_s": cpu}  # fmt: skip


def single(sides: dict) -> list[dict[str, object]]:
    """Return rows of one place in each image: the regression knows the mean, or the truth."""
    makers = {
        "middle": lambda of: part_places.middle_centres(len(of["places"]), 2),
        "mean true keypoint": lambda of: part_places.mean_centres(of["places"], of["visible"]),
        "true throat": lambda of: part_places.keypoint_as_centre(of["places"], of["visible"], 14),
    }
    rows = []
    for name, make in makers.items():
        centres = {role: make(of) for role, of in sides.items()}
        rows.append({"method": name, "n_parts": 1, "keypoint_error": error_of(sides, centres)})
    return rows


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = sides_of(asked.data.resolve(), Path(folder) / "store")
    rows = single(sides)
    for method in BASELINES:
        for n_parts in PARTS:
            for seed in SEEDS if method in ("k-means", "NMF (DFF)") else SEEDS[:1]:
                rows.append(measured(sides, method, n_parts, seed))
                print(json.dumps(rows[-1]), flush=True)
    told = {"images": SOME, "encoder": ENCODER, "rows": rows}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print("| row | K | FG-NMI | FG-ARI | NMI | ARI | error |\n|---|---|---|---|---|---|---|")
    for key in dict.fromkeys((row["method"], row["n_parts"]) for row in rows):
        own = [row for row in rows if (row["method"], row["n_parts"]) == key]
        cells = []
        for name in ("nmi", "ari", "keypoint_error"):
            values = [row[name] * (1 if "error" in name else 100) for row in own if name in row]
            sd = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{sd}" if values else "-")
        print(f"| {key[0]} | {key[1]} | {cells[0]} | {cells[1]} | - | - | {cells[2]} |")
    print("\n".join(published_parts.lines("cub200")))


if __name__ == "__main__":
    main()
