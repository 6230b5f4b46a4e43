"""Pictures of what PART knows of signals it has not seen: figures 4, 5 and 6 of the paper."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from partsig.figures.style import colour_bar, hide_sides, hide_ticks, save_png_and_svg, shades
from partsig.figures.traces import SPACING, in_rows, name_rows

TIME = colormaps["viridis"]


def draw(arrays: dict[str, np.ndarray], unit: str, folder: Path) -> list[Path]:
    """Draw an inspection of signals, (n, C, L) windows; return the files.

    ``arrays`` are those that ``inspect`` writes; ``unit`` is what times are told in.
    """
    figures = [*_reconstruction(arrays, unit, folder)]
    if "grid_by_all" in arrays:
        figures += _rebuilt(arrays, unit, folder)
    return [*figures, *_uncertainty(arrays, unit, folder), *_symmetry(arrays, unit, folder)]


def _patches(axes, window, begin, width, shown, per_unit, extent, reference=None) -> None:
    """Draw patches that begin at samples ``begin`` (N,) as if they lay at ``shown`` (N,)."""
    rows = in_rows(window)
    for j in range(len(begin)):
        cut = slice(int(begin[j]), int(begin[j] + width[j]))
        time = (shown[j] + np.arange(int(width[j]))) / per_unit
        own = j == reference
        colour = "black" if own else TIME(begin[j] / max(extent - width[j], 1))
        axes.plot(
            time,
            rows[:, cut].T,
            color=colour,
            linewidth=1.0 if own else 0.7,
            zorder=3 if own else 2,
        )
    axes.set_ylim(-SPACING * (len(window) - 0.35), 0.65 * SPACING)


def _scale(figure: Figure, axes, length: float, unit: str) -> None:
    """Draw the legend of the patches' colours."""
    colour_bar(figure, shades(TIME, 0, length), axes, f"true start ({unit})", pad=0.02)


def _reconstruction(a: dict, unit: str, folder: Path) -> list[Path]:
    """Figure 4: patches where they lie, and where one reference (black) puts them."""
    begin, width = _begin_and_width(a, "off_grid")
    shown = a["off_grid_placed"][..., 0] - width / 2
    others = np.arange(begin.shape[1]) != a["off_grid_reference"][:, None]
    errors = [np.abs(s - b)[o].mean() for s, b, o in zip(shown, begin, others, strict=True)]
    told = [f"mean error {error / float(a['per_unit']):.2f} {unit}" for error in errors]
    figure, grid = _beside(a, begin, width, shown, told, unit, a["off_grid_reference"])
    extent, per_unit = a["windows"].shape[-1], float(a["per_unit"])
    for axes in grid.flat:
        axes.set_xlim(-0.02 * extent / per_unit, 1.02 * extent / per_unit)
    grid[0, 0].set_title("patches where they lie", fontsize=10, loc="left")
    grid[0, 1].set_title("placed from the black one", fontsize=10, loc="left")
    return save_png_and_svg(figure, folder / "reconstruction")


def _rebuilt(a: dict, unit: str, folder: Path) -> list[Path]:
    """The grid's patches in the order in which the model puts them."""
    begin, width = _begin_and_width(a, "grid")
    ranks = a["grid_by_all"][..., 0].argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    one, other = np.triu_indices(ranks.shape[1], 1)
    right = np.sign(ranks[:, one] - ranks[:, other]) == np.sign(begin[:, one] - begin[:, other])
    told = [f"{100 * share:.0f} % of pairs in order" for share in right.mean(1)]
    figure, grid = _beside(a, begin, width, ranks * width, told, unit)
    grid[0, 0].set_title("the window", fontsize=10, loc="left")
    grid[0, 1].set_title("rebuilt from its shuffled patches", fontsize=10, loc="left")
    return save_png_and_svg(figure, folder / "rebuilt")


def _begin_and_width(a: dict, drawn: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where the patches (n, N) of each window begin and how long they are, in samples."""
    width = a[f"{drawn}_sizes"][..., 0]
    return a[f"{drawn}_positions"][..., 0] - width / 2, width


def _beside(
    a: dict,
    begin: np.ndarray,
    width: np.ndarray,
    shown: np.ndarray,
    told: list[str],
    unit: str,
    references: np.ndarray | None = None,
) -> tuple[Figure, np.ndarray]:
    """Draw windows, a row each: patches (n, N) where they are, and where they are ``shown``."""
    n, _, extent = a["windows"].shape
    per_unit = float(a["per_unit"])
    figure = Figure(figsize=(10, 1.2 + 1.75 * n), layout="constrained")
    grid = figure.subplots(n, 2, squeeze=False, sharex=True)
    for w, row in enumerate(grid):
        reference = None if references is None else references[w]
        for axes, at in zip(row, (begin[w], shown[w]), strict=True):
            window = a["windows"][w]
            _patches(axes, window, begin[w].round(), width[w], at, per_unit, extent, reference)
            name_rows(axes, a["ch_names"])
        row[1].set_yticks([])
        row[1].set_title(told[w], fontsize=8, loc="right")
    for axes in grid[-1]:
        axes.set_xlabel(f"time ({unit})")
    _scale(figure, grid, (extent - width.max()) / per_unit, unit)
    return figure, grid


def _uncertainty(a: dict, unit: str, folder: Path) -> list[Path]:
    """Figure 5: the window in the shade of its disagreement; where references put each patch."""
    n, _, extent = a["windows"].shape
    per_unit = float(a["per_unit"])
    figure = Figure(figsize=(10, 1.2 + 2.1 * n), layout="constrained")
    grid = figure.subplots(n, 2, squeeze=False, width_ratios=[2.2, 1])
    highest = max(1.0, float(np.nanmax(a["uncertainty"])))
    shade = shades(colormaps["inferno_r"].resampled(256), -0.15, highest)
    time = np.arange(extent) / per_unit
    for w, (left, right) in enumerate(grid):
        value = a["uncertainty"][w]
        for trace in in_rows(a["windows"][w]):
            points = np.stack([time, trace], axis=1)
            lines = LineCollection(
                np.stack([points[:-1], points[1:]], axis=1),
                colors=shade.to_rgba(np.nan_to_num(value[:-1], nan=1.0)),
                linewidth=0.9,
                rasterized=True,
            )
            left.add_collection(lines)
        left.set_xlim(0, extent / per_unit)
        left.set_ylim(-SPACING * (len(a["ch_names"]) - 0.35), 0.65 * SPACING)
        name_rows(left, a["ch_names"])
        own = a["off_grid_positions"][w, :, 0] / per_unit
        where = a["off_grid_where"][w, ..., 0] / per_unit  # (reference, target)
        counts = a["off_grid_near"][w] & ~np.eye(len(own), dtype=bool)
        row, column = np.nonzero(counts)
        agreed = np.nan_to_num(a["off_grid_disagreement"][w], nan=1.0)
        right.plot([0, extent / per_unit], [0, extent / per_unit], color="0.75", linewidth=0.8)
        right.scatter(
            where[row, column], own[column], s=5, color=shade.to_rgba(agreed[column]), linewidth=0
        )
        right.set_xlim(0, extent / per_unit)
        right.set_ylim(0, extent / per_unit)
        right.set_ylabel(f"patch at ({unit})", fontsize=8)
        hide_sides(right, "top", "right")
    grid[0, 0].set_title("how far references differ on what is here", fontsize=10, loc="left")
    grid[0, 1].set_title("put here by each reference", fontsize=10, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel(f"time ({unit})")
    label = "disagreement (1: as if references knew nothing)"
    colour_bar(figure, shade, grid, label, pad=0.02).ax.set_ylim(0, highest)
    return save_png_and_svg(figure, folder / "uncertainty")


def _symmetry(a: dict, unit: str, folder: Path) -> list[Path]:
    """Figure 6: true and predicted translations of the first window, unordered and ordered."""
    per_unit = float(a["per_unit"])
    figure = Figure(figsize=(7.6, 7.4), layout="constrained")
    grid = figure.subplots(2, 2)
    shown = {
        (state, label): a[f"off_grid_{state}_{label}"][0, 0] / per_unit
        for state in ("matrix", "ordered")
        for label in ("true", "predicted")
    }
    bound = float(np.abs(shown["matrix", "true"]).max())
    violation = float(a["off_grid_asymmetry"][0])
    titles = {"true": "true", "predicted": f"predicted, violation {violation:.2f}"}
    for row, (label, title) in zip(grid, titles.items(), strict=True):
        for axes, state, order in zip(
            row, ("matrix", "ordered"), ("as drawn", "in order of time"), strict=True
        ):
            image = axes.imshow(shown[state, label], cmap="RdBu_r", vmin=-bound, vmax=bound)
            axes.set_title(f"{title}, {order}", fontsize=9, loc="left")
            axes.set_xlabel("target patch", fontsize=8)
            axes.set_ylabel("reference patch", fontsize=8)
            hide_ticks(axes)
    colour_bar(figure, image, grid, f"translation ({unit})")
    return save_png_and_svg(figure, folder / "symmetry")
