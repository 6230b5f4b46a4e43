"""Make the folder that benchmarks/gpu.py takes to a GPU machine: data and wheels, 45 MB at most.

Run: ``python benchmarks/gpu_pack.py FOLDER --segments SEGMENTS --images IMAGES [--store STORE]``.
SEGMENTS is the folder of 60-s segments (see readers/pc18_segments.py), band-passed on the way
to a STORE as ``partsig preprocess pc18-segments`` does (a finished one is taken as it is); IMAGES
is a zip of small images in folders named by class, below train/ and test/.

FOLDER gets

``segments.npz``  the segments at the store's rate in steps of 1 µV, compressed (gpu_data.py says
                  how), all labelled ones and as many of the others as fit
``images.zip``    as many images of every class as 6 MB hold, five of train to one of test
``wheels/``       pydantic and what it needs, as constraints.txt has them, for Python 3.12 on Linux
                  (x86-64), downloaded by pip; left out with --no-wheels
``pack.json``     what is in it, and how large it is
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from gpu_data import IMAGES, PART, SEGMENTS, pack_signal

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MB, IMAGES_MB = 45.0, 6.0
MARGIN = 200_000  # bytes for what stands around the data
# What partsig imports on that path and a machine with torch, scikit-learn and the like may lack.
WHEELS = ("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
ENTRY = 150  # bytes a zip file spends on an image beside its content, at most
TRAIN_PER_TEST = 5


def pack_segments(store: Path, file: Path, limit: int) -> dict[str, object]:
    """Write a store's recordings, of equal length, into ``file`` of at most ``limit`` bytes.

    All labelled ones, then the others, in the order of a draw, as long as there is room. Returns
    what is in it. Raises SystemExit where not even the labelled ones fit.
    """
    from partsig.data.signals.store import open_store

    opened = open_store(store)
    stage = {name: _stage(opened.labels(name)) for name in opened.recordings}
    labelled = sorted(name for name in stage if stage[name] >= 0)
    others = sorted(name for name in stage if stage[name] < 0)
    others = [others[i] for i in np.random.default_rng(0).permutation(len(others))]
    kept: list[str] = []
    parts: list[np.ndarray] = []
    counts: list[int] = []
    room = limit - MARGIN
    clipped = 0
    for group in (labelled, others):
        for first in range(0, len(group), PART):
            names = group[first : first + PART]
            x = np.stack([opened.signal(name) for name in names])
            whole = np.iinfo(np.int16)
            clipped += int((np.abs(x) > whole.max).sum())
            part = pack_signal(np.clip(np.rint(x), whole.min, whole.max).astype(np.int16))
            if len(part) > room:
                break
            kept, parts, counts = kept + names, [*parts, part], [*counts, len(names)]
            room -= len(part)
    if len(kept) < len(labelled):
        raise SystemExit(f"{len(labelled)} labelled segments do not fit {limit:,} bytes.")
    numbers = [int(name.rpartition("-")[2]) for name in kept]
    groups = [int(opened.recordings[name]["subject"].rpartition("-")[2]) for name in kept]
    roles = [f"{s}:{role}" for role, members in opened.roles.items() for s in members]
    np.savez(
        file,
        **{f"part{i:03d}": part for i, part in enumerate(parts)},
        counts=np.array(counts),
        shape=np.array(opened.signal(kept[0]).shape),
        y=np.array([stage[name] for name in kept], np.int8),
        segment=np.array(numbers),
        group=np.array(groups),
        roles=np.array(sorted(roles)),
        ch_names=np.array(opened.ch_names),
        sfreq=opened.sfreq,
    )
    left_out = len(labelled) + len(others) - len(kept)
    return {
        "labelled": len(labelled),
        "unlabelled": len(kept) - len(labelled),
        "unlabelled_left_out": left_out,
        "resolution_uv": 1.0,
        "samples_clipped": clipped,
        "bytes": file.stat().st_size,
    }


def _stage(labels: np.ndarray) -> int:
    """Return the one stage of a segment; raise SystemExit where it has several."""
    stages = set(labels.tolist())
    if len(stages) != 1:
        raise SystemExit(f"segments are of one stage each, not of {sorted(stages)}.")
    return stages.pop()


def pack_images(raw: Path, file: Path, limit: int) -> dict[str, object]:
    """Write as many images of every class as fit ``limit`` bytes; return how many there are."""
    with zipfile.ZipFile(raw) as source:
        by: dict[tuple[str, str], list[zipfile.ZipInfo]] = {}
        for info in sorted(source.infolist(), key=lambda info: info.filename):
            path = PurePosixPath(info.filename)
            if not info.is_dir() and len(path.parts) >= 3:
                by.setdefault(path.parts[-3:-1], []).append(info)
        if not by:
            raise SystemExit(f"{raw} holds no images in train/CLASS/ and test/CLASS/.")
        # One image of test and five of train of every class at a time, as long as they fit.
        chosen: list[zipfile.ZipInfo] = []
        rounds, room = 0, limit - 1000
        while True:
            more = [
                info
                for (role, _), members in by.items()
                for info in members[slice(*_round(rounds, role))]
            ]
            room -= sum(info.file_size + ENTRY for info in more)
            if room < 0 or not more:
                break
            chosen += more
            rounds += 1
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
            for info in chosen:
                target.writestr("/".join(PurePosixPath(info.filename).parts[-3:]),
                                source.read(info))  # fmt: skip
    roles = [PurePosixPath(info.filename).parts[-3] for info in chosen]
    counts = {role: roles.count(role) for role in sorted(set(roles))}
    classes = len({label for _, label in by})
    return counts | {"classes": classes, "bytes": file.stat().st_size}


def _round(number: int, role: str) -> tuple[int, int]:
    each = 1 if role == "test" else TRAIN_PER_TEST
    return number * each, (number + 1) * each


def versions(names: tuple[str, ...], constraints: str) -> list[str]:
    """Return ``NAME==VERSION`` of packages as a constraints file has them.

    >>> versions(("pydantic_core",), "numpy==2.4\\npydantic_core==2.50.4\\n")
    ['pydantic_core==2.50.4']
    """
    found = {}
    for line in constraints.splitlines():
        name, equals, _ = line.partition("==")
        if equals:
            found[re.sub(r"[-_.]+", "-", name).lower()] = line.strip()
    return [found[re.sub(r"[-_.]+", "-", name).lower()] for name in names]


def fetch_wheels(folder: Path) -> dict[str, object]:
    """Download the wheels by pip; return their names and how many bytes they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    subprocess.run([*command, "-d", str(folder), *versions(WHEELS, text)], check=True)
    found = sorted(folder.glob("*.whl"))
    return {"names": [w.name for w in found], "bytes": sum(w.stat().st_size for w in found)}


def make_store(raw: Path, store: Path) -> Path:
    """Preprocess the segments, or finish it; return the store."""
    import partsig

    partsig.preprocess("pc18-segments", raw, store)
    return store


def main() -> None:
    """Make the folder and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--segments", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--store", type=Path, help="kept there; else made anew")
    parser.add_argument("--limit", type=float, default=LIMIT_MB, help="MB of everything")
    parser.add_argument("--no-wheels", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, object] = {}
    room = round(options.limit * 1e6)
    if not options.no_wheels:
        told["wheels"] = fetch_wheels(options.folder / "wheels")
        room -= told["wheels"]["bytes"]
    if options.images is not None:
        most = min(round(IMAGES_MB * 1e6), room)
        told["images"] = pack_images(options.images, options.folder / IMAGES, most)
        room -= told["images"]["bytes"]
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(options.segments, options.store or Path(temporary) / "store")
        told["segments"] = pack_segments(store, options.folder / SEGMENTS, room)
    told["bytes"] = sum(part["bytes"] for part in told.values())
    (options.folder / "pack.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))
    if told["segments"]["unlabelled_left_out"]:
        print(f"{told['segments']['unlabelled_left_out']} unlabelled segments did not fit.")


if __name__ == "__main__":
    main()
