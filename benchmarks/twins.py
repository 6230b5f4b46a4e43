"""One night, one image under two names: how often is it found, and what is taken for one wrongly?

Run: ``python benchmarks/twins.py DATA`` with a folder that holds pc18_segments/ (excerpts of
PhysioNet-2018), pets/ and cifar10_jpeg_subset.zip, and psg_six_channel/, dreams/, pydynamo/ and
spinky/ for long recordings (twins_long.py).

Real recordings and images are held against each other, all pairs; pairs that are found are listed,
to be looked at, and only those named in ``--looked-at N`` (how many of the images' are the same)
are no false alarms. Copies are made of 200 excerpts and of 300 images of each kind. The cost is the
share of ``partsig preprocess`` that fingerprints take, in one process.
Writes benchmarks/results/twins.json, or of it the parts that ``--only`` names, with their dates.
Some fifteen minutes on one core.
"""

import argparse
import io
import json
import os
import platform
import tempfile
import time
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import PIL
import twins_long
from PIL import Image, ImageOps

from partsig.data.images import perceptual
from partsig.data.images import preprocessing as image_preprocessing
from partsig.data.images.decoding import decode
from partsig.data.signals import landmarks
from partsig.data.signals.filters import bandpass_resample
from partsig.runs import directory as runs
from partsig.verbs.preprocess import preprocess

RESULTS = Path(__file__).parent / "results" / "twins.json"
N_SIGNALS, N_IMAGES, REPEATS = 200, 300, 3
PARTS = ("signals", "long", "images", "cost", "cost-images")
NOISE = np.random.default_rng(0)


def noisy(x: np.ndarray) -> np.ndarray:
    return x + 0.05 * x.std(1, keepdims=True) * NOISE.standard_normal(x.shape)


# What is made of an excerpt (3, 12000) at 200 Hz: signal, and its rate.
SIGNALS = twins_long.exports(noisy) | {
    "cut by 20 s": lambda x: (x[:, 1500:-2500], 200.0),
    "half of it": lambda x: (x[:, 6000:], 200.0),
}


def coded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def scaled(image: Image.Image, by: float) -> Image.Image:
    size = [max(16, round(side * by)) for side in image.size]
    return image.resize(size, Image.Resampling.BICUBIC)


IMAGES = {
    "JPEG 75": lambda i: coded(i, "JPEG", quality=75),
    "JPEG 40": lambda i: coded(i, "JPEG", quality=40),
    "WebP 80": lambda i: coded(i, "WEBP", quality=80),
    "half the size": lambda i: coded(scaled(i, 0.5)),
    "1.5 times the size": lambda i: coded(scaled(i, 1.5)),
    "left to right": lambda i: coded(ImageOps.mirror(i)),
    "upside down": lambda i: coded(ImageOps.flip(i)),
    "left to right, JPEG 75": lambda i: coded(ImageOps.mirror(i), "JPEG", quality=75),
}


def band_passed(x: np.ndarray, sfreq: float) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    return bandpass_resample(x, sfreq, 100.0, reflect="even")


def of_signals(folder: Path) -> dict:
    """Hold all excerpts against each other, and copies of some against these."""
    parts = [np.load(folder / f"{kind}labelled.npz") for kind in ("", "un")]
    raw = np.concatenate([part["x"] for part in parts])
    groups = parts[0]["group"]
    prints = [landmarks.fingerprint(band_passed(x, 200.0), 100.0) for x in raw]
    pairs = landmarks.find_pairs(prints)
    _, counts = np.unique(groups, return_counts=True)
    recall = {}
    chosen = np.random.default_rng(0).choice(len(raw), N_SIGNALS, replace=False)
    for name, change in SIGNALS.items():
        copies = [change(raw[i].astype(np.float64)) for i in chosen]
        own = [landmarks.fingerprint(band_passed(*copy), 100.0) for copy in copies]
        found = set(landmarks.find_pairs([*(prints[i] for i in chosen), *own]))
        recall[name] = float(np.mean([(k, k + N_SIGNALS) in found for k in range(N_SIGNALS)]))
    return {
        "recordings": len(raw),
        "pairs": len(raw) * (len(raw) - 1) // 2,
        "pairs_of_one_sleeper": int((counts * (counts - 1) // 2).sum()),
        "without_fingerprint": sum(not len(p) for p in prints),
        "found": pairs,
        "copies": N_SIGNALS,
        "recall": recall,
    }


def of_images(files: list[bytes], size: int) -> dict:
    """Hold all images against each other, and copies of some against these."""
    prints = [perceptual.fingerprints(decode(data, size)[None])[0] for data in files]
    begun = time.perf_counter()
    pairs = perceptual.find_pairs(prints)
    took = time.perf_counter() - begun
    recall = {}
    chosen = np.random.default_rng(0).choice(len(files), N_IMAGES, replace=False)
    for name, change in IMAGES.items():
        opened = (Image.open(io.BytesIO(files[i])).convert("RGB") for i in chosen)
        own = [perceptual.fingerprints(decode(change(image), size)[None])[0] for image in opened]
        mine = [prints[i] for i in chosen]
        found = set(perceptual.find_pairs([*mine, *own]))
        joined = [(k, k + N_IMAGES) in found or mine[k] in mine[:k] for k in range(N_IMAGES)]
        recall[name] = float(np.mean(joined))
    return {
        "images": len(files),
        "size": size,
        "pairs": len(files) * (len(files) - 1) // 2,
        "found": pairs,
        "seconds_to_find": round(took, 2),
        "copies": N_IMAGES,
        "recall": recall,
    }


def cost(source: str, raw: Path, settings: list[str], owner: object, name: str) -> dict:
    """Return how long a store takes in one process, and what of it a function takes.

    Medians of REPEATS runs after one that loads what is needed: by the clock and by the processor.
    """
    original, clocks = getattr(owner, name), (time.perf_counter, time.process_time)
    runs_, spent = [], [0.0, 0.0]

    def now() -> list[float]:
        return [clock() for clock in clocks]

    def timed(*given: object) -> object:
        begun = now()
        try:
            return original(*given)
        finally:
            spent[:] = [s + t - b for s, t, b in zip(spent, now(), begun, strict=True)]

    for _ in range(1 + REPEATS):
        spent[:] = [0.0, 0.0]
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(owner, name, timed):
            begun = now()
            preprocess(source, raw, Path(folder) / "store", overrides=settings, jobs=1)
            whole = [t - b for t, b in zip(now(), begun, strict=True)]
        runs_.append([*whole, *spent, *(s / w for s, w in zip(spent, whole, strict=True))])
    names = ("seconds", "processor_s", "fingerprints_s", "fingerprints_processor_s")
    names += ("share", "share_of_processor")
    medians = np.median(runs_[1:], axis=0)
    told = {key: round(float(x), 4) for key, x in zip(names, medians, strict=True)}
    return {"source": source, "runs": REPEATS} | told


def of_all_images(data: Path, looked: tuple[int, int]) -> dict:
    pets = [file.read_bytes() for file in sorted((data / "pets").rglob("*.jpg"))]
    with zipfile.ZipFile(data / "cifar10_jpeg_subset.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith((".jpg", ".jpeg", ".png")))
        cifar = [archive.read(name) for name in names]
    return {
        "pets": judged(of_images(pets, 224), looked[0]),
        "cifar": judged(of_images(cifar, 32), looked[1]),
    }


def judged(told: dict, truly: int) -> dict:
    """Return what was found, and how many of these pairs are none; ``truly`` are."""
    wrong = len(told["found"]) - truly
    rate = 1e4 * wrong / told["pairs"]
    told |= {"same_when_looked_at": truly, "false_alarms": wrong}
    return told | {"false_alarms_in_10000_pairs": rate}


def cost_of_signals(data: Path) -> list[dict]:
    """Return the cost for 25 min of six channels, 400 excerpts, and a night of 8 h."""
    with tempfile.TemporaryDirectory() as folder:
        some, night = Path(folder, "some"), Path(folder, "night")
        some.mkdir()
        excerpts = np.load(data / "pc18_segments/labelled.npz")
        of_each = {key: excerpts[key][:400] for key in ("x", "y", "group", "segment")}
        np.savez(some / "labelled.npz", **{**excerpts, **of_each})
        twins_long.write_night(night, data)
        sources = (
            ("edf", data / "psg_six_channel", ["channels=[F3,F4,C3,C4,O1,O2]"]),
            ("pc18-segments", some, []),
            ("physionet2018", night, []),
        )
        return [cost(*source, landmarks, "fingerprint") for source in sources]


def cost_of_images(data: Path) -> list[dict]:
    owner = image_preprocessing
    return [
        cost("images", data / "pets", ["size=224"], owner, "find_twins"),
        cost("images", data / "cifar10_jpeg_subset.zip", ["size=32"], owner, "find_twins"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--looked-at", type=int, nargs=2, metavar=("PETS", "CIFAR"), default=(0, 0))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    data, looked = options.data, options.looked_at
    work = {
        "signals": lambda: {"signals": judged(of_signals(data / "pc18_segments"), 0)},
        "long": lambda: {"long_signals": twins_long.of_long(data)},
        "images": lambda: of_all_images(data, looked),
        "cost": lambda: {"cost": cost_of_signals(data)},
        "cost-images": lambda: {"cost_of_images": cost_of_images(data)},
    }
    result: dict = {"what": __doc__.partition("\n")[0]}
    if options.results.exists():
        result |= json.loads(options.results.read_text(encoding="utf-8"))
    result |= {
        "command": "python benchmarks/twins.py DATA"
        + (f" --looked-at {looked[0]} {looked[1]}" if any(looked) else ""),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared; one used",
        "environment": runs.environment() | {"pillow": PIL.__version__},
    }
    for part in options.only:
        found = work[part]()
        for name, told in found.items():
            print(name, told if isinstance(told, list) else {**told, "found": ...}, flush=True)
        result = {**result, **found, "dates": result.get("dates", {}) | {part: runs.now()}}
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
