"""Windows that are composed of patches of several others: images or signals."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.collage import collage, cut, picture
from partsig.figures.palette import FIRST
from partsig.figures.style import hide_ticks, save_png_and_svg
from partsig.figures.traces import in_rows, name_rows

COLOURS = FIRST[:6]  # of the sources: without the yellow that white swallows


def draw(a: dict[str, np.ndarray], unit: str, path: Path) -> list[Path]:
    """Draw compositions; return the files (PNG, SVG).

    ``a`` are the arrays that ``inspect --what compose`` writes, ``unit`` what lengths are told in.
    """
    is_image = a["positions"].shape[-1] == 2
    figure = _images(a) if is_image else _signals(a, unit)
    return save_png_and_svg(figure, path)


def _told(a: dict, number: int, unit: str) -> str:
    """Return how far a composition is from right, in a few words."""
    apart = a["arranged"][number] - a["positions"][number]
    error = np.sqrt((apart**2).sum(-1)).mean() / float(a["per_unit"])
    return f"{error:.2f} {unit} from there"


def _images(a: dict) -> Figure:
    """A row for each composition: the sources, the patches by where each lay, and arranged."""
    n, sources, _, height, width = a["windows"].shape
    across = -(-sources // 2)
    figure = Figure(figsize=(1.15 * across + 6.4, 2.5 * n + 0.5), layout="constrained")
    ratios = [1.0] * across + [2.3, 2.3]
    grid = figure.add_gridspec(2 * n, across + 2, width_ratios=ratios)
    for number in range(n):
        pictures = [picture(pixels) for pixels in a["windows"][number]]
        for source, shown in enumerate(pictures):
            row, column = divmod(source, across)
            axes = figure.add_subplot(grid[2 * number + row, column])
            _framed(axes, shown, COLOURS[source % len(COLOURS)])
            if not number and not source:
                axes.set_title(f"{sources} images", fontsize=9, loc="left")
        size = a["sizes"][number]
        begin = a["positions"][number] - size / 2
        cuts = [
            cut(pictures[source], *box)
            for source, *box in zip(a["source"][number], begin, size, strict=True)
        ]
        placed = a["arranged"][number] - size / 2
        titles = ("patches, each where it lay in its own", "arranged by PART")
        for column, (at, title) in enumerate(zip((begin, placed), titles, strict=True), across):
            axes = figure.add_subplot(grid[2 * number : 2 * number + 2, column])
            axes.set_facecolor("0.85")
            hide_ticks(axes)
            axes.imshow(collage(cuts, at, (height, width)))
            if not number:
                axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(_told(a, number, "pixels"), fontsize=8)
    return figure


def _framed(axes, shown: np.ndarray, colour: str) -> None:
    hide_ticks(axes)
    axes.imshow(shown)
    for side in axes.spines.values():
        side.set(color=colour, linewidth=2)


def _signals(a: dict, unit: str) -> Figure:
    """A row for each composition: patches where each lay in its own window, and arranged."""
    n, sources, _, extent = a["windows"].shape
    per_unit = float(a["per_unit"])
    figure = Figure(figsize=(10.5, 1.2 + 1.9 * n), layout="constrained")
    grid = figure.subplots(n, 2, squeeze=False, sharex=True, sharey="row")
    for number, row in enumerate(grid):
        width = a["sizes"][number][:, 0]
        begin = a["positions"][number][:, 0] - width / 2
        placed = a["arranged"][number][:, 0] - width / 2
        traces = [in_rows(window) for window in a["windows"][number]]
        for axes, at in zip(row, (begin, placed), strict=True):
            for j, source in enumerate(a["source"][number]):
                first = int(begin[j].round())
                taken = traces[source][:, first : first + int(width[j].round())]
                time = (at[j] + np.arange(taken.shape[1])) / per_unit
                axes.plot(time, taken.T, color=COLOURS[source % len(COLOURS)], linewidth=0.8)
            name_rows(axes, a["ch_names"])
            axes.set_xlim(-0.02 * extent / per_unit, 1.02 * extent / per_unit)
        row[1].set_title(_told(a, number, unit), fontsize=8, loc="right")
    grid[0, 0].set_title(
        f"patches of {sources} windows (a colour each),\nwhere each lay in its own",
        fontsize=10, loc="left",
    )  # fmt: skip
    grid[0, 1].set_title("arranged by PART", fontsize=10, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel(f"time ({unit})")
    return figure
