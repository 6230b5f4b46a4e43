"""Images with what is marked in them and what was predicted, in colours that a legend names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from partsig.contracts.labels import IGNORED
from partsig.figures.palette import palette
from partsig.figures.style import hide_sides, hide_ticks, plain, save

MOST_NAMED = 24  # classes in a legend, those that cover most
NONE = 255  # grey level of what has no label: white


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """Images (n, C, H, W) uint8, and labels (n, H, W) uint8 of each: marked, and predicted."""

    images: np.ndarray
    truth: np.ndarray
    predicted: dict[str, np.ndarray]  # by what they are called


def draw(shown: Segmented, classes: Sequence[str], title: str, path: Path) -> Path:
    """Draw a row for each image: itself, its truth, and predictions; return the file."""
    columns = {"truth": shown.truth, **shown.predicted}
    n = len(shown.images)
    figure = Figure(figsize=(1.7 * (1 + len(columns)) + 2.1, 1.7 * n + 0.7), layout="constrained")
    figure.suptitle(plain(title), fontsize=10)
    grid = figure.subplots(n, 1 + len(columns), squeeze=False)
    colours = palette(len(classes))
    for row, image in zip(grid, shown.images, strict=True):
        pixels = np.moveaxis(image, 0, -1)
        row[0].imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray")
    for k, (name, maps) in enumerate(columns.items(), 1):
        for row, labels in zip(grid, maps, strict=True):
            row[k].imshow(in_colours(labels, colours), interpolation="nearest")
        grid[0, k].set_title(plain(name), fontsize=9)
    grid[0, 0].set_title("image", fontsize=9)
    for axes in grid.flat:
        hide_ticks(axes)
        hide_sides(axes, "left", "right", "top", "bottom")
    _legend(figure, columns, classes, colours)
    return save(figure, path)


def in_colours(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return labels (H, W) as an image (H, W, 3) uint8; what has none is white.

    >>> in_colours(np.array([[0, 255]], np.uint8), np.zeros((1, 3), np.uint8)).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    table = np.full((IGNORED + 1, 3), NONE, np.uint8)
    table[: len(colours)] = colours
    return table[labels]


def _legend(
    figure: Figure, columns: dict[str, np.ndarray], classes: Sequence[str], colours: np.ndarray
) -> None:
    counts = sum(np.bincount(maps.ravel(), minlength=IGNORED + 1) for maps in columns.values())
    order = [k for k in np.argsort(-counts[: len(classes)], kind="stable") if counts[k]]
    handles = [
        Patch(facecolor=colours[k] / 255, label=plain(classes[k])) for k in order[:MOST_NAMED]
    ]
    if len(order) > MOST_NAMED:
        more = f"and {len(order) - MOST_NAMED} more"
        handles.append(Patch(facecolor="none", edgecolor="none", label=more))
    if counts[IGNORED]:
        handles.append(Patch(facecolor="white", edgecolor="grey", label="no label"))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
