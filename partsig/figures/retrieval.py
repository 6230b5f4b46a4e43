"""What lies nearest to queries: images or signals, framed by whether they are the same part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.style import BLUE, VERMILION, hide_ticks, plain, save_png_and_svg

ACROSS = 12  # neighbours in a row


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A query, what lies nearest to it, which of these are the same part, and its precision."""

    query: np.ndarray  # (C, *L)
    nearest: np.ndarray  # (n, C, *L)
    right: np.ndarray  # (n,) bool
    label: str
    precision: float


def draw(queries: Sequence[Ranked], title: str, path: Path) -> list[Path]:
    """Draw every query and what lies nearest, the nearest first; return the files (PNG, SVG)."""
    rows = -(-len(queries[0].nearest) // ACROSS)
    is_image = queries[0].query.ndim == 3
    high = 0.8 if is_image else 0.6
    figure = Figure(figsize=(1.1 * ACROSS + 2.4, len(queries) * (rows * high * 1.35 + 0.35) + 0.9),
                    layout="constrained")  # fmt: skip
    figure.suptitle(plain(title), fontsize=11)
    bands = figure.subfigures(len(queries), 1, squeeze=False)[:, 0]
    for band, ranked in zip(bands, queries, strict=True):
        grid = band.add_gridspec(rows, ACROSS + 2)
        axes = band.add_subplot(grid[:, :2])
        _show(axes, ranked.query, "black", 1.0)
        axes.set_title(
            f"{plain(ranked.label)}: precision {ranked.precision:.2f}", fontsize=9, loc="left"
        )
        for number, (other, right) in enumerate(zip(ranked.nearest, ranked.right, strict=True)):
            axes = band.add_subplot(grid[number // ACROSS, 2 + number % ACROSS])
            _show(axes, other, BLUE if right else VERMILION, 2.5 if right else 1.2)
    return save_png_and_svg(figure, path)


def _show(axes, item: np.ndarray, colour: str, width: float) -> None:
    """Draw an image (C, H, W), or the first channel of a signal (C, T), in a frame."""
    hide_ticks(axes)
    if item.ndim == 3:
        pixels = np.moveaxis(item, 0, -1)
        axes.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray")
    else:
        axes.plot(item[0], color="black", linewidth=0.5)
        axes.margins(x=0)
    for side in axes.spines.values():
        side.set(color=colour, linewidth=width)
