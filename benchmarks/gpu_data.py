"""What benchmarks/gpu.py trains on: segments and images as they travel, and the stores of them.

``segments.npz`` holds band-passed segments of equal length at the store's rate in steps of 1 µV
(the resolution of the challenge's own files; what rounding adds, 0.3 µV, is a hundredth of the
EEG's amplitude and an eighth of the chin's). Every channel is differenced along time modulo 2^16;
differences are folded to small numbers (0, -1, 1, -2, …), their low and high bytes laid apart and
compressed with LZMA, in parts of so many segments. Beside them ``y`` (stage, -1 unlabelled),
``group`` and ``segment`` as in readers/pc18_segments.py, and ``roles`` (what the test and
validation blocks are), which fewer segments could not tell any more.
"""

import lzma
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SEGMENTS, IMAGES = "segments.npz", "images.zip"
PART = 200  # segments compressed together
THREADS = 16
CH_NAMES = ("O2-M1", "E1-M2", "Chin1-Chin2")


def pack_signal(x: np.ndarray) -> np.ndarray:
    """Return signals (N, C, T) int16 as bytes (K,) uint8; :func:`unpack_signal` is the way back.

    >>> x = np.array([[[3, -4, 32767, -32768]]], np.int16)
    >>> unpack_signal(pack_signal(x), x.shape).tolist()
    [[[3, -4, 32767, -32768]]]
    """
    steps = np.diff(x, axis=2, prepend=np.int16(0))  # int16, as it wraps
    folded = ((steps << 1) ^ (steps >> 15)).view(np.uint16)
    low, high = (part.astype(np.uint8).tobytes() for part in (folded & 255, folded >> 8))
    return np.frombuffer(lzma.compress(low + high), np.uint8)


def unpack_signal(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return signals (N, C, T) int16."""
    both = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(2, *shape)
    folded = both[0] | both[1].astype(np.uint16) << np.uint16(8)
    steps = (folded >> np.uint16(1)).view(np.int16) ^ -(folded & np.uint16(1)).view(np.int16)
    return np.cumsum(steps, axis=2, dtype=np.int16)


def read_segments(path: Path) -> dict[str, np.ndarray]:
    """Return what ``segments.npz`` holds, the signals as ``x (N, C, T)`` int16."""
    with np.load(path, allow_pickle=False) as content:
        found = {name: content[name] for name in content.files}
    counts, shape = found.pop("counts"), tuple(found.pop("shape"))
    parts = [found.pop(f"part{number:03d}") for number in range(len(counts))]
    with ThreadPoolExecutor(THREADS) as pool:
        shapes = [(int(count), *map(int, shape)) for count in counts]
        found["x"] = np.concatenate(list(pool.map(unpack_signal, parts, shapes)))
    return found


def made_up_segments(n_labelled: int = 75, n_other: int = 10, sfreq: float = 100.0) -> dict:
    """Return segments of 60 s as :func:`read_segments` does, each stage a rhythm of its own."""
    rng = np.random.default_rng(0)
    n, t = n_labelled + n_other, np.arange(round(60 * sfreq)) / sfreq
    stage = np.arange(n) % 5
    wave = np.sin(2 * np.pi * (2.0 + 3 * stage)[:, None, None] * t + rng.random((n, 3, 1)) * 6)
    x = np.round(30 * wave + 20 * rng.standard_normal((n, 3, len(t)))).astype(np.int16)
    role = np.array(["", "", "", "val", "test"])[np.arange(n) // 5 % 5]
    role[n_labelled:] = ""
    groups = {"group": np.arange(n), "segment": np.arange(n)}
    y = np.where(np.arange(n) < n_labelled, stage, -1)
    roles = np.array([f"group-{i:05d}:{role[i]}" for i in range(n) if role[i]])
    return {"x": x, "y": y, "roles": roles, "ch_names": CH_NAMES, "sfreq": sfreq} | groups


def write_store(path: Path, found: dict) -> Path:
    """Write segments as a store of partsig, every segment a recording; return its path."""
    from partsig.data.signals.hypnograms.stages import n_epochs
    from partsig.data.signals.recordings import Recording
    from partsig.data.signals.store_index import write_index
    from partsig.data.signals.store_writing import (
        create_store,
        make_meta,
        write_recording,
        write_split,
    )

    names, sfreq = tuple(map(str, found["ch_names"])), float(found["sfreq"])
    meta = make_meta(
        source="pc18-segments", ch_names=names, sfreq=sfreq, l_freq=0.1, h_freq=30.0,
        dtype="float32",
    )  # fmt: skip
    create_store(path, meta)
    write_split(path, dict(str(role).split(":") for role in found["roles"]))

    def write(i: int) -> dict:
        x = found["x"][i]
        recording = Recording(
            name=f"segment-{int(found['segment'][i]):05d}",
            subject=f"group-{int(found['group'][i]):05d}",
            ch_names=names,
            parts=(),
            stages=np.full(n_epochs(x.shape[1], sfreq), found["y"][i], np.int8),
            source="packed",
            excerpt=True,
        )
        return write_recording(path, meta, recording, x.astype(np.float32))

    with ThreadPoolExecutor(THREADS) as pool:
        write_index(path, pool.map(write, range(len(found["x"]))))
    return path


def segment_store(work: Path, data: Path | None, made_up: bool) -> Path:
    """Return the store of the packed segments (made once); of made-up ones where there are none.

    Raises FileNotFoundError where there are none and ``made_up`` does not allow for it.
    """
    path = work / "segments"
    if (path / "index.csv").is_file():
        return path
    packed = None if data is None else data / SEGMENTS
    if packed is not None and packed.is_file():
        return write_store(path, read_segments(packed))
    if not made_up:
        raise FileNotFoundError(f"{packed or SEGMENTS}: make it with benchmarks/gpu_pack.py")
    return write_store(path, made_up_segments())


def image_store(work: Path, data: Path | None, made_up: bool) -> Path:
    """Return the store of the packed images (made once); of made-up ones where there are none."""
    from partsig.verbs.preprocess import preprocess

    path = work / "images"
    settings = {"size": 32} | ({"val_share": 0.3} if made_up else {})  # of few, some at least
    if (path / "index.csv").is_file():
        return path
    packed = None if data is None else data / IMAGES
    if packed is None or not packed.is_file():
        if not made_up:
            raise FileNotFoundError(f"{packed or IMAGES}: make it with benchmarks/gpu_pack.py")
        packed = made_up_images(work / IMAGES)
    preprocess("images", packed, path, overrides=settings)
    return path


def made_up_images(path: Path, per_class: int = 12) -> Path:
    """Write a zip of 32 x 32 images of two classes, bright on top and bright below."""
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for role, n in (("train", per_class), ("test", per_class // 3)):
            for label in ("above", "below"):
                for i in range(n):
                    pixels = rng.integers(0, 120, (32, 32, 3))
                    pixels[slice(16) if label == "above" else slice(16, None)] += 100
                    content = io.BytesIO()
                    Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
                    archive.writestr(f"{role}/{label}/{i:04d}.png", content.getvalue())
    return path
