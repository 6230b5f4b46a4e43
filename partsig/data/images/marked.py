"""Images with what is marked in them: foreground, classes of places, points."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from partsig.contracts import IGNORED
from partsig.data.foreign import read_bytes
from partsig.data.images.store import ImageStore
from partsig.data.images.windows import OverWindows, RandomImages, centred
from partsig.errors import ConfigError, DataError

BACKGROUND = "background"
LARGEST = 2**31  # bytes of a file of masks
# How far each pixel of images by number (b,) counts, (b, H, W) float32, 0 to 1.
Foreground = Callable[[np.ndarray], np.ndarray]


def foreground_of(store: ImageStore, how: str, file: str | None = None) -> Foreground | None:
    """Return what tells the foreground of a store's images; None where it is not told by marks.

    ``how``: mask, pixels of any class but background; box; or file, a .npz that has a mask (H, W)
    of the stored size for every image, by its name. Raises ConfigError where there is none.
    """
    if how == "mask":
        if not store.mask_classes:
            raise ConfigError(
                f"objective.foreground=mask: {store.path} has no masks; set it to "
                f"{'box, ' * ('boxes' in store.meta)}whole, or none."
            )
        return lambda index: _of_masks(store, index)
    if how == "box":
        if "boxes" not in store.meta:
            raise ConfigError(
                f"objective.foreground=box: {store.path} has no boxes; set it to whole, or none."
            )
        return lambda index: _of_boxes(store, index)
    if how == "file":
        masks = Masks(Path(file))
        return lambda index: masks([store.names[i] for i in index], store.size)
    return None


def _of_masks(store: ImageStore, index: np.ndarray) -> np.ndarray:
    masks, classes = store.masks(index), store.mask_classes
    behind = [IGNORED, *(i for i, name in enumerate(classes) if name == BACKGROUND)]
    return (~np.isin(masks, behind)).astype(np.float32)


def _of_boxes(store: ImageStore, index: np.ndarray) -> np.ndarray:
    x, y, width, height = store.boxes(index).T[:, :, None, None]  # each (b, 1, 1)
    row, column = (np.arange(extent) + 0.5 for extent in store.size)
    inside = (y <= row[:, None]) & (row[:, None] < y + height)
    return (inside & (x <= column) & (column < x + width)).astype(np.float32)


class Masks:
    """Masks (H, W) by name in a .npz file, as ``numpy.savez_compressed`` writes it.

    Raises ConfigError for a file that is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_bytes(path, LARGEST, "file of masks")
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(self.content))
        except zipfile.BadZipFile:
            raise ConfigError(f"objective.foreground_file {path} is no .npz file.") from None
        self.there = set(self.archive.namelist())

    def __call__(self, names: Sequence[str], size: tuple[int, int]) -> np.ndarray:
        """Return masks of images, (b, H, W) float32, 0 or 1; raise DataError for a wrong one."""
        return np.stack([self._one(name, size) for name in names])

    def _one(self, name: str, size: tuple[int, int]) -> np.ndarray:
        member = f"{name}.npy"
        if member not in self.there:
            raise DataError(f"{self.path} has no mask of {name}.")
        try:
            if self.archive.getinfo(member).file_size > 2**28:
                raise ValueError("too large")
            mask = np.lib.format.read_array(
                io.BytesIO(self.archive.read(member)), allow_pickle=False
            )
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"the mask of {name} in {self.path} is damaged ({error}).") from None
        if mask.shape != size:
            raise DataError(
                f"the mask of {name} in {self.path} has the shape {mask.shape}; the store's images "
                f"have {size}."
            )
        return (mask > 0).astype(np.float32)

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])


class MarkedImages(OverWindows):
    """Images to train on, and which they are, with how far each pixel counts, where it is told.

    Not ``numbered``: without their numbers, which not every objective has a use for.
    """

    def __init__(
        self, windows: RandomImages, foreground: Foreground | None, numbered: bool = True
    ) -> None:
        super().__init__(windows)
        self.foreground, self.numbered = foreground, numbered

    def extras(self, epoch: int, first: int, count: int) -> Mapping[str, np.ndarray]:
        """Return the numbers ``item`` (count,) in the store, and the ``foreground`` (count, H, W),
        where it is told.
        """
        index = self.windows.drawn(epoch)[first : first + count]
        found = {"item": index.astype(np.int64)} if self.numbered else {}
        if self.foreground is not None:
            found["foreground"] = self._middle(self.foreground(index))
        return found

    def _middle(self, masks: np.ndarray) -> np.ndarray:
        size = self.windows.size
        return masks if size is None else np.ascontiguousarray(centred(masks, size))


class JudgedImages:
    """Images of a store, in order, with what is marked in them: what parts are judged by."""

    item, unit = "image", "image"

    def __init__(
        self, store: ImageStore, index: np.ndarray, size: int, foreground: Foreground | None
    ) -> None:
        self.store, self.index, self.size, self._foreground = store, index, size, foreground

    def __len__(self) -> int:
        return len(self.index)

    @property
    def names(self) -> list[str]:
        """The images' names."""
        return [self.store.names[i] for i in self.index]

    def units(self) -> tuple[list[str], np.ndarray]:
        """Return the names of whole images, and each item's by number (n,): a crop's image."""
        own = [self.store.groups[i] for i in self.index] if self.store.groups else self.names
        numbers = {name: number for number, name in enumerate(dict.fromkeys(own))}
        return list(numbers), np.array([numbers[name] for name in own], np.int64)

    def inputs(self, rows: slice) -> np.ndarray:
        """Return some of the images, (b, C, size, size) uint8."""
        return centred(self.store.batch(self.index[rows]), self.size)

    def foreground(self, rows: slice) -> np.ndarray | None:
        """Return how far each pixel counts, (b, size, size) float32; None where it is not told."""
        if self._foreground is None:
            return None
        return centred(self._foreground(self.index[rows]), self.size)

    @property
    def classes(self) -> tuple[str, ...]:
        """What pixels are marked as, in order; background is none of them."""
        return tuple(name for name in self.store.mask_classes if name != BACKGROUND)

    def labels(self, rows: slice) -> np.ndarray | None:
        """Return by pixel the number of its class, -1 background, -2 where nobody says, int16.

        (b, size, size); None where fewer than two classes but background are told apart.
        """
        if len(self.classes) < 2:
            return None
        table = np.full(IGNORED + 1, -2, np.int16)
        for number, name in enumerate(self.store.mask_classes):
            table[number] = -1 if name == BACKGROUND else self.classes.index(name)
        return centred(table[self.store.masks(self.index[rows])], self.size)

    @property
    def point_names(self) -> tuple[str, ...]:
        """Names of the keypoints; none where there are none."""
        return self.store.keypoint_parts

    def points(self, rows: slice) -> np.ndarray | None:
        """Return row, column and whether it is seen of each keypoint, (b, P, 3) float32.

        In pixels from the corner of the image as given: the middle of pixel i is i + 0.5. One
        beyond the image counts as not seen. None where there are none.
        """
        if not self.point_names:
            return None
        found = self.store.keypoints(self.index[rows])[..., [1, 0, 2]].astype(np.float32)
        away = [(extent - self.size) // 2 for extent in self.store.size]
        found[..., :2] += 0.5 - np.array(away, np.float32)
        there = ((found[..., :2] >= 0) & (found[..., :2] < self.size)).all(-1)
        found[..., 2] *= there
        return found

    def scale(self, rows: slice) -> np.ndarray:
        """Return what distances are told in, (b,) pixels: the longer side of the object's box, or
        of the image.
        """
        if "boxes" not in self.store.meta:
            return np.full(len(self.index[rows]), float(self.size))
        sides = self.store.boxes(self.index[rows])[:, 2:].max(1)
        return np.where(sides > 0, sides, self.size).astype(np.float64)
