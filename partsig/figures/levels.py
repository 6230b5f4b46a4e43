"""What encoders have more than a reference at both levels: objects across, parts upwards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.style import hide_sides, plain, save

MARKS = "osD^vPX*<>"


def draw(found: Sequence[Any], reference: str, unit: str, path: Path) -> Path:
    """Draw the differences of encoders to a reference, with intervals over test units.

    ``found`` has of each ``encoder`` its differences ``by_level``, object and part; those without
    either are left out. Above the diagonal an encoder has more on parts than on objects.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    both = [one for one in found if {"object", "part"} <= one.by_level.keys()]
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.axvline(0, color="0.8", linewidth=0.8)
    axes.axline((0, 0), slope=1, color="0.8", linewidth=0.8, linestyle="--")
    axes.plot(0, 0, "k+", markersize=10, label=plain(reference))
    for number, one in enumerate(both):
        across, up = one.by_level["object"], one.by_level["part"]
        axes.errorbar(
            across.mean, up.mean, xerr=_ends(across), yerr=_ends(up),
            color=f"C{number % 10}", marker=MARKS[number // 10 % len(MARKS)], markersize=5,
            capsize=2, elinewidth=0.8, linestyle="none", label=plain(one.encoder),
        )  # fmt: skip
    axes.margins(0.1)
    axes.set_xlabel("objects: difference to the reference")
    axes.set_ylabel("parts: difference to the reference")
    hide_sides(axes, "top", "right")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(
        f"95 % intervals over test {unit}; above the dashed line: more on parts",
        fontsize=9, loc="left",
    )  # fmt: skip
    return save(figure, path)


def _ends(difference: Any) -> np.ndarray:
    """Return how far the ends of an interval lie from the mean, (2, 1)."""
    low, high = difference.interval
    return np.abs([[difference.mean - low], [high - difference.mean]])
