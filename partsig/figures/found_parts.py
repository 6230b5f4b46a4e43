"""Parts that were found in some items: over images, or behind signals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from partsig.figures.parts import PartColumn, Truth, colour_of, draw_grid, enlarged
from partsig.figures.style import hide_sides, plain, save_png_and_svg

BAND = 0.5  # strength of a part's colour behind a signal


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownItems:
    """Items (n, C, *L), the shares of their parts (n, K, *grid), and the foreground (n, *grid).

    What people marked, where they did: ``points`` (n, P, D + 1) along each axis, in samples from
    its beginning, and seen; ``labels`` (n, *L) of ``classes``, below 0 none. ``names`` (n) and
    ``per_unit``, samples of a ``unit``, are told of signals.
    """

    inputs: np.ndarray
    maps: np.ndarray
    inside: np.ndarray
    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    per_unit: float = 1.0
    unit: str = "samples"


def draw(shown: ShownItems, title: str, path: Path) -> list[Path]:
    """Draw the parts of images beside these and what is marked, or those of signals behind their
    first channel; return the files (PNG, SVG).
    """
    if shown.inputs.ndim == 4:
        return _images(shown, title, path)
    return _signals(shown, title, path)


def _images(shown: ShownItems, title: str, path: Path) -> list[Path]:
    truth = None
    if shown.points is not None or shown.labels is not None:
        points, labels = shown.points, shown.labels
        if points is not None:  # x, y from the centre of the first pixel
            points = np.concatenate([points[..., 1::-1] - 0.5, points[..., 2:]], axis=-1)
        if labels is not None:
            labels = np.where(labels < 0, 255, labels).astype(np.uint8)
        truth = Truth(keypoints=points, masks=labels, names=shown.classes)
    size = shown.inputs.shape[2:]
    inside = enlarged(shown.inside.astype(np.float64), size) > 0.5
    column = PartColumn(title="parts", maps=shown.maps)
    return draw_grid(shown.inputs, [column], path, truth=truth, foreground=inside, title=title)


def _signals(shown: ShownItems, title: str, path: Path) -> list[Path]:
    n, n_parts = len(shown.inputs), shown.maps.shape[1]
    figure = Figure(figsize=(10, 1.25 * n + 1.1), layout="constrained")
    figure.suptitle(plain(title), fontsize=11)
    labels = shown.maps.argmax(1)
    every = figure.subplots(n, 1, squeeze=False, sharex=True)[:, 0]
    for row, axes in enumerate(every):
        trace = np.asarray(shown.inputs[row, 0], np.float64)
        length = len(trace) / shown.per_unit
        edges = np.linspace(0, length, labels.shape[1] + 1)
        for part, begin, end, here in zip(
            labels[row], edges, edges[1:], shown.inside[row], strict=False
        ):
            if here:
                axes.axvspan(begin, end, color=colour_of(int(part)), alpha=BAND, linewidth=0)
        axes.plot(np.arange(len(trace)) / shown.per_unit, trace, color="black", linewidth=0.6)
        axes.margins(x=0)
        axes.set_yticks([])
        hide_sides(axes, "top", "right", "left", "bottom")
        if shown.names:
            axes.set_title(plain(shown.names[row]), fontsize=8, loc="left", pad=2)
        if axes is not every[-1]:
            axes.tick_params(bottom=False, labelbottom=False)
    every[-1].set_xlabel(shown.unit, fontsize=9)
    legend = [Patch(color=colour_of(k), alpha=BAND, label=f"part {k + 1}") for k in range(n_parts)]
    figure.legend(handles=legend, loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    return save_png_and_svg(figure, path)
