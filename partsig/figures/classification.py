"""Figures of a classifier: confusion matrix, reliability, score against the number of labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.style import BLUE, plain, save

# Classes up to which a confusion matrix has room for numbers.
MOST_NUMBERS = 20


def confusion(
    counts: np.ndarray,
    title: str,
    path: Path,
    classes: Sequence[str],
    predicted: str,
    truth: str,
) -> Path:
    """Draw a confusion matrix: shades are shares of the true class, numbers are counts.

    Where there are more than :data:`MOST_NUMBERS` classes, shades alone. ``predicted`` and
    ``truth`` name the axes.
    """
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    few = len(classes) <= MOST_NUMBERS
    side = 0.7 * len(classes) if few else 8.0
    figure = Figure(figsize=(max(5.4, side), max(4.9, 0.9 * side)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape if few else (0, 0)):
        shade = "white" if share[i, j] > 0.55 else "black"
        text = f"{counts[i, j]:,}\n{100 * share[i, j]:.0f} %"
        axes.text(j, i, text, ha="center", va="center", color=shade, fontsize=9)
    if few:
        slant = 0 if max(map(len, classes)) < 6 else 45
        names = [plain(name) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=slant)
        axes.set_yticks(range(len(classes)), names)
    counted = "" if few else ", by its number in the list of classes"
    axes.set_xlabel(predicted + counted)
    axes.set_ylabel(truth + counted)
    axes.set_title(plain(title), fontsize=10)
    figure.colorbar(image, label=f"share of the {truth}", shrink=0.85)
    return save(figure, path)


def reliability(calibration: dict, counted: str, path: Path) -> Path:
    """Draw confidence against the share right; ``counted`` is what is classified."""
    figure = Figure(figsize=(4.9, 4.4), layout="constrained")
    draw_reliability(figure.add_subplot(), calibration, counted)
    return save(figure, path)


def draw_reliability(axes, calibration: dict, counted: str) -> None:
    """Draw confidence against the share right on axes; areas are numbers of ``counted``."""
    count, confidence, hits = np.array(calibration["table"]).T
    some = count > 0
    count, confidence, hits = (column[some] for column in (count, confidence, hits))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    axes.plot(confidence / count, hits / count, color=BLUE, linewidth=1)
    axes.scatter(
        confidence / count,
        hits / count,
        s=10 + 240 * count / count.sum(),
        color=BLUE,
        clip_on=False,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"confidence (areas: {counted})")
    axes.set_ylabel("share right")
    axes.set_title(
        f"expected calibration error {calibration['ece']:.3f} "
        f"(temperature 1: {calibration['ece_uncalibrated']:.3f})",
        fontsize=9,
        loc="left",
    )


def label_curve(
    rows: Sequence, methods: Sequence[str], score: str, tested: str, unit: str, path: Path
) -> Path:
    """Draw scores against the number of labels, one line a method, intervals over test units.

    ``rows`` are those of a comparison; a budget of 0 (all) is drawn to the right of the others.
    """
    budgets = sorted({row.budget for row in rows if row.budget})
    places = {budget: number for number, budget in enumerate([*budgets, 0])}
    figure = Figure(figsize=(8.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    of_method: dict[str, list] = {method: [] for method in methods}
    for row in sorted(rows, key=lambda row: places[row.budget]):
        of_method[row.method].append(row)
    aside = _aside(rows, methods)
    for number, (method, own) in enumerate(of_method.items()):
        at = [places[row.budget] + aside[row.budget, method] for row in own]
        means = np.array([row.score for row in own])
        ends = np.array([row.interval for row in own]).T
        axes.errorbar(
            at,
            means,
            yerr=np.abs(ends - means),
            color=f"C{number % 10}",
            marker="osD^vPX*<>"[number // 10 % 10],
            linestyle="-" if number < 10 else "--",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            elinewidth=0.7,
            label=plain(method),
        )
    shown = {budget: place for budget, place in places.items() if budget or _has_all(rows)}
    axes.set_xticks(list(shown.values()), [str(budget or "all") for budget in shown])
    axes.set_xlim(min(shown.values()) - 0.4, max(shown.values()) + 0.4)
    axes.set_xlabel(f"labelled {unit}")
    axes.set_ylabel(f"{score} on held-out {tested}")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(f"95 % intervals over test {tested}", fontsize=9, loc="left")
    return save(figure, path)


def _aside(rows: Sequence, methods: Sequence[str]) -> dict[tuple[int, str], float]:
    """Return how far each method is moved aside at a budget: intervals do not hide each other.

    Methods stand side by side, near enough to compare; one that is alone there stays in its place.
    """
    there: dict[int, set[str]] = {}
    for row in rows:
        there.setdefault(row.budget, set()).add(row.method)
    aside = {}
    for budget, members in there.items():
        width, n = min(0.06 * len(members), 0.5), len(members)
        for place, method in enumerate(method for method in methods if method in members):
            aside[budget, method] = width * ((place + 0.5) / n - 0.5)
    return aside


def _has_all(rows: Sequence) -> bool:
    return any(row.budget == 0 for row in rows)
