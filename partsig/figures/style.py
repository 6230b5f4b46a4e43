"""How every figure is written and what all of them share: files, colours, colour bars."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from partsig.files import atomic
from partsig.text import shown

# Okabe and Ito's palette, told apart without colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
# Resolution of a PNG; that of an inspection, which has fine traces, is higher.
DPI, FINE_DPI = 130, 150
LONGEST_NAME = 100  # characters of a name that fit into a figure
# Without a date, which SVG would take from the clock: equal content gives equal files.
UNDATED = {"Date": None}


def plain(name: object) -> str:
    r"""Return a name as a figure shows it: one with two dollar signs is no formula.

    >>> plain("night $1 $2")
    'night \\$1 \\$2'
    """
    return shown(name, LONGEST_NAME).replace("$", r"\$")


def save(figure: Figure, path: Path, dpi: int = DPI) -> Path:
    """Write a figure as PNG or SVG, by the path's ending; return the path."""
    FigureCanvasAgg(figure)
    kind = path.suffix[1:]
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=UNDATED if kind == "svg" else None)
    return path


def save_png_and_svg(figure: Figure, path: Path) -> list[Path]:
    """Write ``path`` with the endings .png and .svg; return both."""
    return [save(figure, path.with_suffix(f".{kind}"), dpi=FINE_DPI) for kind in ("png", "svg")]


def shades(colours: Colormap | str, low: float, high: float) -> ScalarMappable:
    """Return what turns numbers from ``low`` to ``high`` into colours."""
    return ScalarMappable(Normalize(low, high), colours)


def colour_bar(figure: Figure, shown: ScalarMappable, axes, label: str, **where: float):
    """Draw the legend of what is ``shown`` on ``axes``, without an outline; return it."""
    bar = figure.colorbar(shown, ax=axes, label=label, shrink=0.6, **where)
    bar.outline.set_visible(False)
    return bar


def hide_ticks(axes) -> None:
    """Leave out the ticks of both axes."""
    axes.set_xticks([])
    axes.set_yticks([])


def hide_sides(axes, *sides: str) -> None:
    """Leave out the frame's lines on these sides."""
    for side in sides:
        axes.spines[side].set_visible(False)
