"""How ``golden.py`` writes down what a step gave and left: numbers as they are, arrays as hashes.

What may rightly differ from one recording to the next is masked, by the rules in ``MASKS`` and
``MASKED_KEYS`` and nowhere else.
"""

import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

# Keys of JSON whose values may differ, and why.
MASKED_KEYS = {
    "date": "when an evaluation, an embedding or a report was made",
    "started": "when a run began",
    "finished": "when a run ended",
    "evaluated": "when what a report tells of was evaluated",
    "environment": "versions of Python and of packages",
    "partsig": "the version of partsig",
    "_extra_state": "boosted trees: skops' archive, which holds times; predictions tell the trees",
    "windows_per_s": "speed",
    "utilisation": "speed",
    "waiting": "speed",
}
# The recordings' own day, 2022-01-01, is not masked: partsig must keep it.
DAY = r"(?!2022-01-01)\b20\d\d-\d\d-\d\d"
PACKAGE = r"(?i)\b(partsig|python|torch|numpy|scipy|scikit-learn|wfdb|yasa|matplotlib|onnx)"
# Name: what is looked for in every text, and what stands there instead.
MASKS: dict[str, tuple[str, str]] = {
    "time of making": (DAY + r"T\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?", "<time>"),
    "day of making": (DAY + r"\b", "<day>"),
    "version": (PACKAGE + r'([ =:"]+)v?\d+\.\d+[\w.+]*', r"\1\2<version>"),
    "progress bar": (r"(?m)^.*\d+%\|.*$|^.*\b\d+(step|recording|image|it|epoch)s? \[.*$", ""),
    "speed": (r"\b[\d.,]+ (?=(windows|images|epochs) per second)", "<speed> "),
    "largest difference": (r"(?<=from the run's: )[\d.e+-]+", "<rounding>"),
    "event file": (r"events\.out\.tfevents\.[\w.-]+", "events.out.tfevents"),
    "temporary folder": (r"/tmp/[\w./-]+", "<temporary>"),
}
# Ends of files of which only the name is written down: pictures, and archives that hold times.
NAMES_ONLY = (".png", ".svg", ".pt2", ".onnx", ".pickle")
TEXTS = (".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".txt", ".html")
LONGEST = 300  # lines of a text that are written down; of a longer one, as many and a hash


def masked(text: str, places: Mapping[str, str]) -> str:
    """Return a text without what may differ; ``places``: folders and what they are called."""
    for place, called in places.items():
        text = text.replace(place, called)
    for pattern, instead in MASKS.values():
        text = re.sub(pattern, instead, text)
    return text


def digest(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def array(x: np.ndarray) -> str:
    """Return an array's type and shape, its values if they are few, and a hash of its bytes."""
    x = np.asarray(x)
    few = f" {x.tolist()}" if x.size <= 6 else ""
    data = json.dumps(x.tolist()).encode() if x.dtype.kind in "OU" else x.tobytes()
    return f"{x.dtype} {list(x.shape)} {digest(data)}{few}"


def lines(text: str) -> list[str]:
    """Return a text's lines that are not empty, a hash in place of what is too much."""
    found = [line.rstrip() for line in text.splitlines() if line.strip()]
    rest = found[LONGEST:]
    if not rest:
        return found
    return [*found[:LONGEST], f"… {len(rest)} lines {digest(chr(10).join(rest).encode())}"]


def told(value: object, places: Mapping[str, str], depth: int = 0) -> object:
    """Return what a verb returned, or JSON held, as JSON; of things in lists of things, how many.

    A dataclass is told by its public fields, and only the outermost: what is within is partsig's.
    """
    if isinstance(value, bool | int | type(None)):
        return value
    if isinstance(value, float):
        return repr(float(value)) if value != value or abs(value) == float("inf") else float(value)
    if isinstance(value, str | Path | datetime):
        return masked(str(value), places)
    if isinstance(value, np.ndarray):
        return array(value)
    if isinstance(value, np.generic):
        return told(value.item(), places, depth)
    if isinstance(value, Mapping):
        return {
            masked(str(key), places): (
                "<masked>"
                if key in MASKED_KEYS and item is not None
                else told(item, places, depth + 1)
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        if value and all(is_dataclass(item) for item in value):
            return f"{len(value)} things"
        return [told(item, places, depth + 1) for item in value]
    if is_dataclass(value) and depth == 0:
        public = [field.name for field in fields(value) if not field.name.startswith("_")]
        return {name: told(getattr(value, name), places, 1) for name in public}
    if hasattr(value, "shape") and hasattr(value, "numpy"):  # a tensor
        return array(value.detach().cpu().contiguous().numpy())
    return "<other>"


def checkpoint(path: Path) -> object:
    """Return a checkpoint's content; nothing of it is run."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def safetensors(path: Path) -> dict:
    """Return the tensors of a file, and what it says of itself."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {key: file.get_tensor(key) for key in sorted(file.keys())} | {"": file.metadata()}


def parquet(path: Path) -> dict:
    """Return the columns of a table, and what it says of itself."""
    from pyarrow.parquet import read_table

    table = read_table(path)
    about = (table.schema.metadata or {}).items()
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    return columns | {key.decode(): lines(value.decode()) for key, value in about}


def page(text: str, places: Mapping[str, str]) -> dict[str, object]:
    """Return what can be read on a page, and a hash of how it is written."""
    text = masked(text, places)
    plain = re.sub(r"(?s)<(style|script|svg)\b.*?</\1>|<[^>]+>", "\n", text)
    return {"sha256": digest(text.encode()), "text": lines(html.unescape(plain))}


def look(path: Path, places: Mapping[str, str]) -> object:
    """Return what is written down of a file."""
    end = path.suffix
    if end in NAMES_ONLY or path.name.startswith("events.out.tfevents"):
        return "there"
    if end == ".npy":
        return array(np.load(path))
    if end == ".npz":
        with np.load(path) as arrays:
            return told({key: arrays[key] for key in arrays.files}, places) | meta(arrays, places)
    if end == ".parquet":
        return told(parquet(path), places)
    if end in (".pt", ".safetensors"):
        return told(checkpoint(path) if end == ".pt" else safetensors(path), places)
    data = path.read_bytes()
    if end not in TEXTS:
        return f"{len(data)} bytes {digest(data)}"
    text = data.decode("utf-8")
    if end == ".json":
        return told(json.loads(text), places)
    if end == ".jsonl":
        return [told(json.loads(line), places) for line in text.splitlines()]
    if end == ".html":
        return page(text, places)
    return lines(masked(text, places))


def meta(arrays: Mapping[str, np.ndarray], places: Mapping[str, str]) -> dict[str, object]:
    """Return what an ``.npz`` file says of itself: texts without axes, JSON among them."""
    found = {}
    for key in arrays:
        if arrays[key].ndim == 0 and arrays[key].dtype.kind == "U":
            text = str(arrays[key])
            found[key] = told(json.loads(text) if text[:1] == "{" else text, places)
    return found
