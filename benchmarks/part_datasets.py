"""What is read of part data sets: a picture of each, and how many parts of CUB two rules cut out.

    .venv/bin/python benchmarks/part_datasets.py --data DATA --pictures FOLDER

DATA holds the samples (``cub``, ``pets``, ``pascal_part``, ``cihp``, ``celebamask``, ``ade20k``,
``mmpose_samples/coco``) in their official layouts; those that are missing are passed over. The
counts are printed and written to ``results/part_datasets.json``.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import partsig
from partsig.contracts import IGNORED
from partsig.data.images.store import ImageStore, open_images

RESULTS = Path(__file__).parent / "results" / "part_datasets.json"
LARGE = 512  # pixels of a side of a drawn image
SOME = 6  # drawn of a store
# Name of the picture, source, folder of the sample, settings.
SHOWN = (
    ("cub-object", "cub200", "cub", ("cut=object", "size=256")),
    ("cub-parts", "cub200", "cub", ("cut=parts",)),
    ("pets-image", "pets", "pets", ("size=256",)),
    ("pets-object", "pets", "pets", ("cut=object", "size=256")),
    ("pascal-part-object", "pascal-part", "pascal_part", ("cut=object", "size=256")),
    ("pascal-part-image", "pascal-part", "pascal_part", ("size=256", "background=class")),
    ("pascal-part-parts", "pascal-part", "pascal_part", ("cut=parts",)),
    ("cihp-image", "cihp", "cihp", ("size=256",)),
    ("celebamask-image", "celebamask", "celebamask", ("size=256",)),
    ("ade20k-part-image", "ade20k-part", "ade20k", ("size=512",)),
    ("ade20k-part-object", "ade20k-part", "ade20k", ("cut=object", "size=256")),
    ("coco-keypoints-object", "coco-keypoints", "mmpose_samples/coco", ("cut=object", "size=256")),
    ("coco-keypoints-parts", "coco-keypoints", "mmpose_samples/coco", ("cut=parts",)),
)


def colour(number: int) -> tuple[int, int, int]:
    """Return a colour for a class: neighbours in number are far apart in hue."""
    hue = (number * 0.381966) % 1.0
    return tuple(int(255 * max(0, min(1, abs((hue * 6 + k) % 6 - 3) - 1))) for k in (0, 4, 2))


def drawn(store: ImageStore, i: int) -> Image.Image:
    """Return an image of a store, twice: as it is, and with all that is marked in it."""
    index = np.array([i])
    plain = Image.fromarray(store.batch(index)[0].transpose(1, 2, 0))
    marked, names = np.asarray(plain).astype(float), {}
    if store.mask_classes:
        mask = store.masks(index)[0]
        for number in np.unique(mask[mask != IGNORED]).tolist():
            marked[mask == number] = 0.45 * marked[mask == number] + 0.55 * np.array(colour(number))
            names[store.mask_classes[number]] = colour(number)
    plain = plain.resize((LARGE, LARGE), Image.Resampling.NEAREST)
    picture = Image.fromarray(marked.astype(np.uint8)).resize((LARGE, LARGE), 0)
    draw, scale = ImageDraw.Draw(picture), LARGE / store.size[0]
    if "boxes" in store.meta:
        x, y, width, height = (scale * store.boxes(index)[0]).tolist()
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline="yellow", width=2)
    if store.keypoint_parts:
        for number, (x, y, seen) in enumerate(store.keypoints(index)[0].tolist()):
            if seen:
                u, v = (x + 0.5) * scale, (y + 0.5) * scale
                draw.ellipse((u - 4, v - 4, u + 4, v + 4), fill=colour(number), outline="white")
                draw.text((u + 6, v - 6), store.keypoint_parts[number], fill="white")
    for line, (name, tint) in enumerate(names.items()):
        draw.rectangle((4, 4 + 13 * line, 14, 14 + 13 * line), fill=tint)
        draw.text((18, 3 + 13 * line), name, fill="white", stroke_width=1, stroke_fill="black")
    label = store.classes[store.labels[i]] if store.labels[i] >= 0 else "no label"
    ImageDraw.Draw(plain).text(
        (4, LARGE - 14), f"{label}, {store.roles[i]}", fill="white", stroke_width=1, stroke_fill=0
    )
    both = Image.new("RGB", (2 * LARGE, LARGE))
    both.paste(plain, (0, 0))
    both.paste(picture, (LARGE, 0))
    return both


def draw_store(store: ImageStore, file: Path) -> None:
    """Draw some images of a store, spread over it, below one another, two a row."""
    chosen = np.unique(np.linspace(0, len(store) - 1, SOME).astype(int)).tolist()
    rows = (len(chosen) + 1) // 2
    sheet = Image.new("RGB", (4 * LARGE, rows * LARGE))
    for place, i in enumerate(chosen):
        sheet.paste(drawn(store, i), (2 * LARGE * (place % 2), LARGE * (place // 2)))
    sheet.save(file)


def coco_of(sample: Path, folder: Path) -> Path:
    """Return a folder in COCO's layout that links to a sample of images beside their JSON."""
    (folder / "annotations").mkdir(parents=True)
    link = folder / "annotations" / "person_keypoints_val2017.json"
    link.symlink_to(sample / "test_coco.json")
    (folder / "val2017").symlink_to(sample)
    return folder


def count_patches(data: Path, work: Path) -> dict[str, dict[str, int]]:
    """Return how many squares each rule cuts out of the sample of CUB, by part."""
    counts = {}
    for rule in ("code", "paper"):
        store = work / f"cub-{rule}"
        settings = ("cut=parts", "size=16", f"patch_rule={rule}")
        partsig.preprocess("cub200", data / "cub", store, overrides=settings)
        opened = open_images(store)
        counts[rule] = {
            part: int((opened.labels == number).sum()) for number, part in enumerate(opened.classes)
        }
        counts[rule] |= {"all": len(opened), "images": len(set(opened.groups))}
    return counts


def main() -> None:
    """Draw the pictures and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    asked = parser.parse_args()
    data = asked.data.resolve()
    asked.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, source, sample, settings in SHOWN:
            raw = data / sample
            if not raw.exists():
                print(f"{name}: no sample")
                continue
            if source == "coco-keypoints":
                raw = coco_of(raw, work / f"raw-{name}")
            result = partsig.preprocess(source, raw, work / name, overrides=settings)
            store = open_images(result.path)
            draw_store(store, asked.pictures / f"{name}.png")
            print(f"{name}: {len(store)} items, {len(set(store.groups))} groups, {result.failed}")
        if (data / "cub").exists():
            counts = count_patches(data, work)
            for rule, told in counts.items():
                print(f"| {rule} | " + " | ".join(f"{key} {n}" for key, n in told.items()) + " |")
            RESULTS.write_text(json.dumps({"cub_patches": counts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
