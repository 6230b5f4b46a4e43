"""What a segmentation writes: a table by item and class, and the predicted labels of each item."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from partsig import regular
from partsig.cells import as_table, is_marked, read_rows, write_table
from partsig.contracts import MaskedExamples
from partsig.figures.palette import palette
from partsig.files import atomic

UNSAFE = re.compile(r"[^\w.#-]+")
LONGEST = 80  # characters of an item's name in a file's


def write_counts(path: Path, examples: MaskedExamples, counts: np.ndarray) -> None:
    """Write how many places of each class an item has, as CSV, of counts (n, K, 3).

    ``truth``, ``prediction``: so many are marked, were predicted where something is marked;
    ``both``: where these are one. Classes of which an item has neither are left out.
    """
    columns, _ = examples.columns()
    marked = is_marked(examples.classes) or any(map(is_marked, examples.columns()[1]))
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        told = [*columns, "class", "truth", "prediction", "both"]
        write_table(file, told, _rows(examples, counts), marked)


def _rows(examples: MaskedExamples, counts: np.ndarray) -> Iterator[list[object]]:
    for row, table in zip(examples.columns()[1], counts.tolist(), strict=True):
        there = [k for k, (_, truth, predicted) in enumerate(table) if truth or predicted]
        for k in there:
            both, truth, predicted = table[k]
            yield [*row, examples.classes[k], truth, predicted, both]
        if not there:  # nothing of it is marked: it is told all the same
            yield [*row, "", 0, 0, 0]


def write_maps(path: Path, examples: MaskedExamples, maps: np.ndarray) -> None:
    """Write predicted labels (n, *L) uint8 into a zip file, one file an item, and their names.

    Of images they are PNGs whose pixels are the numbers of the classes, in colours; of others NumPy
    arrays. ``classes.csv`` names number and colour of each class, ``items.csv`` the item that each
    file is of.
    """
    colours = palette(len(examples.classes))
    columns, rows = examples.columns()
    names = []
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for number, (row, labels) in enumerate(zip(rows, maps, strict=True)):
            ending = "png" if labels.ndim == 2 else "npy"
            stem = UNSAFE.sub("_", str(row[0]))[:LONGEST].strip(".")
            name = f"{number:05d}-{stem}.{ending}"
            content = _png(labels, colours) if labels.ndim == 2 else _npy(labels)
            _put(file, name, content)
            names.append([name, *row])
        told = [[k, name, *colour] for k, (name, colour) in
                enumerate(zip(examples.classes, colours.tolist(), strict=True))]  # fmt: skip
        classes = as_table(["number", "class", "red", "green", "blue"], told)
        _put(file, "classes.csv", classes.encode())
        _put(file, "items.csv", as_table(["file", *columns], names).encode())


def _put(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    told = zipfile.ZipInfo(name)  # without the time: equal content gives equal files
    told.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    file.writestr(told, content)


def _png(labels: np.ndarray, colours: np.ndarray) -> bytes:
    image, out = Image.fromarray(labels), io.BytesIO()
    image.putpalette(colours.tobytes())
    image.save(out, "PNG")
    return out.getvalue()


def _npy(labels: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, labels, allow_pickle=False)
    return out.getvalue()


def read_maps(path: Path) -> dict[str, np.ndarray]:
    """Return the predicted labels (H, W) uint8 of images that :func:`write_maps` wrote, by name."""
    with regular.open_bytes(path) as handle, zipfile.ZipFile(handle) as file:
        with file.open("items.csv") as told:
            rows = list(read_rows(io.TextIOWrapper(told, "utf-8", newline="")))
        maps = {}
        for row in rows:
            with Image.open(io.BytesIO(file.read(str(row["file"])))) as image:
                maps[str(row["image"])] = np.array(image)
    return maps
