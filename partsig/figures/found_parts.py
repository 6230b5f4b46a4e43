"""Parts that were found, as colours over images, or behind signals."""

from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from partsig.figures.style import hide_sides, hide_ticks, plain, save_png_and_svg

# Okabe and Ito's palette, then lighter ones of the same hues; parts beyond begin again.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
    "#7FB8D8", "#EAAE7F", "#7FCEB9", "#F7F1A0",
)  # fmt: skip
ACROSS = 6  # images in a row


def draw(
    inputs: np.ndarray,
    parts: np.ndarray,
    inside: np.ndarray,
    n_parts: int,
    title: str,
    path: Path,
) -> list[Path]:
    """Draw the parts (n, *grid) of images (n, C, H, W) or signals (n, C, T); return the files.

    Where it is not ``inside`` (n, *grid) the foreground nothing is coloured. Of signals the first
    channel is drawn.
    """
    if inputs.ndim == 4:
        figure = _images(inputs, parts, inside, n_parts)
    else:
        figure = _signals(inputs, parts, inside, n_parts)
    figure.suptitle(plain(title), fontsize=11)
    legend = [Patch(color=_colour(k), label=f"part {k}") for k in range(n_parts)]
    figure.legend(
        handles=legend, loc="outside lower center", ncols=min(n_parts, 8), frameon=False, fontsize=9
    )
    return save_png_and_svg(figure, path)


def _colour(part: int) -> str:
    return COLOURS[part % len(COLOURS)]


def _images(images: np.ndarray, parts: np.ndarray, inside: np.ndarray, n_parts: int) -> Figure:
    across = min(ACROSS, len(images))
    rows = -(-len(images) // across)
    figure = Figure(figsize=(2.1 * across, 4.2 * rows + 0.9), layout="constrained")
    axes = figure.subplots(2 * rows, across, squeeze=False)
    colours = ListedColormap([_colour(k) for k in range(n_parts)])
    for every in axes.flat:
        every.set_axis_off()
    for n, image in enumerate(images):
        row, column = 2 * (n // across), n % across
        pixels = np.moveaxis(image, 0, -1)
        pixels = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
        height, width = pixels.shape[:2]
        for down, alpha in ((0, 0.0), (1, 0.55)):
            shown = axes[row + down, column]
            shown.imshow(pixels, cmap="gray", extent=(0, width, height, 0))
            if alpha:
                found = np.ma.masked_array(parts[n], ~inside[n])
                shown.imshow(
                    found, cmap=colours, vmin=-0.5, vmax=n_parts - 0.5, alpha=alpha,
                    interpolation="nearest", extent=(0, width, height, 0),
                )  # fmt: skip
    return figure


def _signals(signals: np.ndarray, parts: np.ndarray, inside: np.ndarray, n_parts: int) -> Figure:
    figure = Figure(figsize=(11, 1.2 * len(signals) + 0.9), layout="constrained")
    axes = figure.subplots(len(signals), 1, squeeze=False)[:, 0]
    for n, shown in enumerate(axes):
        trace = np.asarray(signals[n, 0], np.float64)
        edges = np.linspace(0, len(trace), parts.shape[1] + 1)
        for k, begin, end, here in zip(parts[n], edges, edges[1:], inside[n], strict=False):
            if here:
                shown.axvspan(begin, end, color=_colour(int(k)), alpha=0.35, linewidth=0)
        shown.plot(trace, color="black", linewidth=0.5)
        shown.margins(x=0)
        hide_ticks(shown)
        hide_sides(shown, "top", "right", "left", "bottom")
    return figure
