"""The arrays of a store of images: what lies in each, how they are written, and read in batches."""

import io
import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.mapped import MappedArrays, map_array
from partsig.errors import DataError
from partsig.files import atomic

PIXEL, PLACE = np.dtype(np.uint8), np.dtype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a store holds of each image in arrays of one folder: its shape and type."""

    folder: str
    shape: tuple[int, ...]
    dtype: np.dtype = PIXEL

    @property
    def nbytes(self) -> int:
        """Bytes of one image's."""
        return math.prod(self.shape) * self.dtype.itemsize


def layers_of(meta: dict) -> tuple[Layer, ...]:
    """Return what a store holds by its ``meta.json``: images, and what lies beside them.

    >>> [layer.folder for layer in layers_of({"size": [8, 8], "ch_names": ["grey"], "boxes": {}})]
    ['images', 'boxes']
    """
    height, width = meta["size"]
    layers = [Layer(folder="images", shape=(len(meta["ch_names"]), height, width))]
    if meta.get("masks") is not None:
        layers.append(Layer(folder="masks", shape=(height, width)))
    if meta.get("keypoints") is not None:
        n_parts = len(meta["keypoints"]["parts"])
        layers.append(Layer(folder="keypoints", shape=(n_parts, 3), dtype=PLACE))
    if meta.get("boxes") is not None:
        layers.append(Layer(folder="boxes", shape=(4,), dtype=PLACE))
    return tuple(layers)


def array_name(number: int) -> str:
    """Return what the array of this number is called."""
    return f"{number:05d}.npy"


def array_path(path: Path, number: int, folder: str = "images") -> Path:
    """Return where the array of this number lies in a store."""
    return path / folder / array_name(number)


def write_arrays(
    path: Path,
    number: int,
    layers: Sequence[Layer],
    n: int,
    items: Iterable[tuple[int, Sequence[np.ndarray]]],
    fresh: bool,
) -> None:
    """Write into a store's arrays of this number what is known of images, each with its place.

    ``items`` give for each of the ``layers`` an array of its shape; each array of ``n`` is written
    atomically. Unless ``fresh``, the other places keep what the files there hold. Written through
    the file object, not a map: on a full disk a map kills the process without a word.
    """
    with ExitStack() as stack:
        handles, starts = [], []
        for layer in layers:
            file = array_path(path, number, layer.folder)
            temporary = stack.enter_context(atomic(file))
            if not fresh:
                shutil.copyfile(file, temporary)
            handle = stack.enter_context(open(temporary, "w+b" if fresh else "r+b"))
            header = io.BytesIO()
            described = {"descr": layer.dtype.str, "fortran_order": False}
            described["shape"] = (n, *layer.shape)
            np.lib.format.write_array_header_1_0(header, described)
            handle.write(header.getvalue())
            handle.truncate(header.tell() + n * layer.nbytes)
            handles.append(handle)
            starts.append(header.tell())
        for place, arrays in items:
            for layer, handle, start, array in zip(layers, handles, starts, arrays, strict=True):
                handle.seek(start + place * layer.nbytes)
                handle.write(np.ascontiguousarray(array, dtype=layer.dtype).data)


def are_whole(path: Path, number: int, layers: Iterable[Layer], n: int) -> bool:
    """Tell whether a store's arrays of this number are there and hold ``n`` images each."""
    return all(_is_whole(array_path(path, number, layer.folder), layer, n) for layer in layers)


def _is_whole(file: Path, layer: Layer, n: int) -> bool:
    try:
        array, _ = map_array(file)
    except DataError:
        return False
    return array.shape == (n, *layer.shape) and array.dtype == layer.dtype


class Layers:
    """The arrays of a store, opened: ``needed`` are the images of each array that are read."""

    def __init__(self, path: Path, layers: Sequence[Layer], needed: np.ndarray) -> None:
        self.path = path
        self.layers = {layer.folder: layer for layer in layers}
        self.arrays = {
            layer.folder: MappedArrays(
                path / layer.folder, partial(_check_array, layer=layer, needed=needed)
            )
            for layer in layers
        }

    def read(self, folder: str, file: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return those of images (b,) by the number of their array and their place in it.

        Raises DataError where the store has no such folder, or an array is missing or cut short.
        """
        if folder not in self.layers:
            raise DataError(
                f"{self.path} has no {folder}: preprocess a source that has them, see "
                "docs/how-to/part-datasets.md."
            )
        layer, arrays = self.layers[folder], self.arrays[folder]
        batch = np.empty((len(file), *layer.shape), layer.dtype)
        for number in np.unique(file).tolist():
            here = np.flatnonzero(file == number)
            here = here[np.argsort(place[here])]  # a disk is read in its order
            batch[here] = arrays[array_name(number)][place[here]]
        return batch


def _check_array(
    file: Path, shape: tuple[int, ...], dtype: np.dtype, *, layer: Layer, needed: np.ndarray
) -> None:
    n = int(needed[int(file.stem)])
    if shape[1:] != layer.shape or shape[0] < n or dtype != layer.dtype:
        raise DataError(
            f"{file} has the shape {shape} in {dtype}, the index asks for at least "
            f"{(n, *layer.shape)} in {layer.dtype}: preprocess again into a new --store."
        )
