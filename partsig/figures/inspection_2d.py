"""Pictures of what PART knows of images it has not seen: figures 4, 5 and 6 of the paper."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import linear_sum_assignment

from partsig.figures.collage import collage, cut, picture
from partsig.figures.style import VERMILION, colour_bar, hide_ticks, save_png_and_svg


def draw(arrays: dict[str, np.ndarray], unit: str, folder: Path) -> list[Path]:
    """Draw an inspection of images, (n, C, H, W) windows of 0 to 255; return the files.

    ``arrays`` are those that ``inspect`` writes; ``unit`` is what lengths are told in.
    """
    figures = [*_reconstruction(arrays, unit, folder)]
    if "grid_by_all" in arrays:
        figures += _rebuilt(arrays, folder)
    return [*figures, *_uncertainty(arrays, folder), *_symmetry(arrays, unit, folder)]


def _moved(pixels: np.ndarray, begin: np.ndarray, size: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return a picture of an image's boxes (N, 2) moved to ``at`` (N, 2)."""
    shown = picture(pixels)
    cuts = [cut(shown, *box) for box in zip(begin, size, strict=True)]
    return collage(cuts, at, pixels.shape[1:])


def _grid(rows: int, titles: tuple[str, ...]) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (rows, columns), a title above each column."""
    figure = Figure(figsize=(2.3 * len(titles) + 0.4, 2.3 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, loc="left")
    for axes in grid.flat:
        hide_ticks(axes)
        axes.set_facecolor("0.85")
    return figure, grid


def _reconstruction(a: dict, unit: str, folder: Path) -> list[Path]:
    """Figure 4: patches where they lie, and where one reference (framed) puts them."""
    titles = ("the image", "its patches", "placed from the framed one")
    figure, grid = _grid(len(a["windows"]), titles)
    begin = a["off_grid_positions"] - a["off_grid_sizes"] / 2  # (n, N, 2)
    for w, (whole, true, guessed) in enumerate(grid):
        size, reference = a["off_grid_sizes"][w], a["off_grid_reference"][w]
        at = a["off_grid_placed"][w] - size / 2
        whole.imshow(picture(a["windows"][w]))
        true.imshow(_moved(a["windows"][w], begin[w], size, begin[w]))
        guessed.imshow(_moved(a["windows"][w], begin[w], size, at))
        for axes in (true, guessed):
            y, x = begin[w, reference] - 0.5
            axes.add_patch(_frame(x, y, size[reference]))
        others = np.arange(len(size)) != reference
        error = np.sqrt(((at - begin[w])[others] ** 2).sum(-1)).mean()
        guessed.set_xlabel(f"mean error {error:.1f} {unit}", fontsize=8)
    return save_png_and_svg(figure, folder / "reconstruction")


def _frame(x: float, y: float, size: np.ndarray) -> Rectangle:
    return Rectangle((x, y), size[1], size[0], fill=False, edgecolor=VERMILION, linewidth=1.6)


def _rebuilt(a: dict, folder: Path) -> list[Path]:
    """The grid's patches, shuffled, each in the cell that fits its prediction (one a cell)."""
    figure, grid = _grid(len(a["windows"]), ("the image", "shuffled", "put in order again"))
    begin = a["grid_positions"] - a["grid_sizes"] / 2
    for w, (whole, mixed, rebuilt) in enumerate(grid):
        size = a["grid_sizes"][w]
        cells = begin[w][np.lexsort(begin[w].T[::-1])]  # row by row
        guessed = a["grid_by_all"][w]
        spots = cells - cells.mean(0)
        cost = ((guessed - guessed.mean(0))[:, None] - spots[None]) ** 2
        _, chosen = linear_sum_assignment(cost.sum(-1))
        whole.imshow(picture(a["windows"][w]))
        mixed.imshow(_moved(a["windows"][w], begin[w], size, cells))
        rebuilt.imshow(_moved(a["windows"][w], begin[w], size, cells[chosen]))
        right = (cells[chosen] == begin[w]).all(-1).mean()
        rebuilt.set_xlabel(f"{100 * right:.0f} % in their place", fontsize=8)
    return save_png_and_svg(figure, folder / "rebuilt")


def _uncertainty(a: dict, folder: Path) -> list[Path]:
    """Figure 5: how far references differ on what is here."""
    figure, grid = _grid(len(a["windows"]), ("the image", "disagreement", "both"))
    highest = max(1.0, float(np.nanmax(a["uncertainty"])))
    for w, (whole, map_, both) in enumerate(grid):
        shown, value = picture(a["windows"][w]), a["uncertainty"][w]
        whole.imshow(shown)
        shade = map_.imshow(value, cmap="inferno", vmin=0, vmax=highest)
        both.imshow(shown)
        both.imshow(value, cmap="inferno", vmin=0, vmax=highest, alpha=0.55)
    colour_bar(figure, shade, grid, "1: as if references knew nothing")
    return save_png_and_svg(figure, folder / "uncertainty")


def _symmetry(a: dict, unit: str, folder: Path) -> list[Path]:
    """Figure 6: translations of the first image along each axis, unordered and ordered."""
    figure = Figure(figsize=(11, 5.8), layout="constrained")
    grid = figure.subplots(2, 4)
    violation = float(a["off_grid_asymmetry"][0])
    bound = float(np.abs(a["off_grid_matrix_true"][0]).max())
    for axis, row in zip(("row", "column"), grid, strict=True):
        number = 0 if axis == "row" else 1
        shown = [
            (a[f"off_grid_{state}_{label}"][0, number], label, state)
            for label in ("true", "predicted")
            for state in ("matrix", "ordered")
        ]
        for axes, (matrix, label, state) in zip(row, shown, strict=True):
            drawn = axes.imshow(matrix, cmap=colormaps["RdBu_r"], vmin=-bound, vmax=bound)
            order = "as drawn" if state == "matrix" else f"by {axis}"
            axes.set_title(f"{axis}: {label}\n{order}", fontsize=8, loc="left")
            hide_ticks(axes)
    figure.suptitle(
        f"antisymmetry violation of the predicted, both axes: {violation:.2f} (1: as by chance)",
        fontsize=9,
    )
    colour_bar(figure, drawn, grid, f"translation ({unit})")
    return save_png_and_svg(figure, folder / "symmetry")
