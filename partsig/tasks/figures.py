"""Figures of an evaluation, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from partsig.data.recordings import EPOCH_S, STAGES
from partsig.files import atomic

# From wake (warm) over light and deep sleep (blues) to REM, distinguishable without colour vision.
COLOURS = {"W": "#E69F00", "N1": "#9AD0F3", "N2": "#3F8EC9", "N3": "#0B3C6F", "REM": "#C0392B"}
# Hypnograms are drawn with REM between wake and N1.
HEIGHT = {"W": 4, "REM": 3, "N1": 2, "N2": 1, "N3": 0}


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    return path


def confusion(counts: np.ndarray, title: str, path: Path) -> Path:
    """Draw a confusion matrix: shades are shares of the true stage, numbers are epochs."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(5.4, 4.9), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        shade = "white" if share[i, j] > 0.55 else "black"
        text = f"{counts[i, j]:,}\n{100 * share[i, j]:.0f} %"
        axes.text(j, i, text, ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(len(STAGES)), STAGES)
    axes.set_yticks(range(len(STAGES)), STAGES)
    axes.set_xlabel("predicted stage")
    axes.set_ylabel("scored stage")
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, label="share of the scored stage", shrink=0.85)
    return _save(figure, path)


def hypnogram(
    name: str, truth: np.ndarray, probabilities: np.ndarray, kappa: float | None, path: Path
) -> Path:
    """Draw scored and predicted stages of one recording above the predicted probabilities.

    ``truth`` (E,) with -1 unscored, ``probabilities`` (E, K) with nan where nothing was predicted;
    both are left blank there.
    """
    minutes = len(truth) * EPOCH_S / 60
    unit, per_unit = ("h", 60.0) if minutes > 180 else ("min", 1.0)
    edges = np.arange(len(truth) + 1) * EPOCH_S / 60 / per_unit
    missing = np.isnan(probabilities).any(1)
    predicted = np.where(missing, -1, np.nan_to_num(probabilities).argmax(1))
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    rows = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 0.8])
    score = "" if kappa is None else f", kappa {kappa:.2f}"
    for axes, stages, label in (
        (rows[0], truth, "scored"),
        (rows[1], predicted, f"predicted{score}"),
    ):
        _steps(axes, edges, stages)
        axes.set_title(f"{name}: {label}" if axes is rows[0] else label, fontsize=10, loc="left")
    shares = np.cumsum(np.column_stack([np.zeros(len(truth)), probabilities]), axis=1)
    shares = np.vstack([shares, shares[-1:]])
    for code, stage in enumerate(STAGES):
        rows[2].fill_between(
            edges,
            shares[:, code],
            shares[:, code + 1],
            step="post",
            color=COLOURS[stage],
            label=stage,
            linewidth=0,
        )
    rows[2].set_ylim(0, 1)
    rows[2].set_ylabel("probability")
    rows[2].set_xlabel(f"time from the start of the recording ({unit})")
    rows[2].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    rows[2].set_xlim(0, edges[-1])
    return _save(figure, path)


def trust(calibration: dict, reviewed: dict, path: Path) -> Path:
    """Draw confidence against the share right, and kappa against the share that is reviewed."""
    figure = Figure(figsize=(9.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    count, confidence, hits = np.array(calibration["table"]).T
    some = count > 0
    count, confidence, hits = (column[some] for column in (count, confidence, hits))
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    left.plot(confidence / count, hits / count, color="#0072B2", linewidth=1)
    left.scatter(
        confidence / count, hits / count, s=10 + 240 * count / count.sum(), color="#0072B2"
    )
    left.set_xlim(0, 1)
    left.set_ylim(0, 1)
    left.set_xlabel("confidence (areas: epochs)")
    left.set_ylabel("share right")
    left.set_title(
        f"expected calibration error {calibration['ece']:.3f} "
        f"(temperature 1: {calibration['ece_uncalibrated']:.3f})",
        fontsize=9,
        loc="left",
    )
    share = 100 * np.array(reviewed["share"])
    low, high = np.array(reviewed["kappa_reviewed_interval_95"], dtype=float).T
    right.fill_between(share, low, high, color="#0072B2", alpha=0.15, linewidth=0)
    for key, label, style in (
        ("kappa_reviewed", "the most doubtful set right", "-"),
        ("kappa_random", "as many at random set right", ":"),
        ("kappa_kept", "the others alone", "--"),
    ):
        values = np.array(reviewed[key], dtype=float)
        right.plot(share, values, color="#0072B2" if style == "-" else "0.4", ls=style, label=label)
    right.set_xlabel(f"epochs reviewed (%), in the order of {reviewed['by']}")
    right.set_ylabel("Cohen's kappa")
    right.grid(axis="y", color="0.9")
    right.legend(fontsize=8, frameon=False)
    right.set_title("95 % interval over subjects", fontsize=9, loc="left")
    return _save(figure, path)


def label_curve(rows: Sequence, methods: Sequence[str], unit: str, path: Path) -> Path:
    """Draw kappa against the number of labels, one line a method, intervals over subjects.

    ``rows`` are those of a comparison; a budget of 0 (all) is drawn to the right of the others.
    """
    budgets = sorted({row.budget for row in rows if row.budget})
    places = {budget: number for number, budget in enumerate([*budgets, 0])}
    figure = Figure(figsize=(8.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for number, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        own.sort(key=lambda row: places[row.budget])
        # Side by side, so that intervals do not hide each other.
        shift = 0.5 * ((number + 0.5) / len(methods) - 0.5)
        at = [places[row.budget] + shift for row in own]
        kappa = np.array([row.kappa for row in own])
        ends = np.array([row.interval for row in own]).T
        axes.errorbar(
            at,
            kappa,
            yerr=np.abs(ends - kappa),
            color=f"C{number % 10}",
            marker="osD^vPX*<>"[number // 10 % 10],
            linestyle="-" if number < 10 else "--",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            elinewidth=0.7,
            label=method,
        )
    shown = {budget: place for budget, place in places.items() if budget or _has_all(rows)}
    axes.set_xticks(list(shown.values()), [str(budget or "all") for budget in shown])
    axes.set_xlabel(f"labelled {unit}")
    axes.set_ylabel("Cohen's kappa on held-out subjects")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title("95 % intervals over test subjects", fontsize=9, loc="left")
    return _save(figure, path)


def _has_all(rows: Sequence) -> bool:
    return any(row.budget == 0 for row in rows)


def _steps(axes, edges: np.ndarray, stages: np.ndarray) -> None:
    order = sorted(HEIGHT, key=HEIGHT.__getitem__)
    heights = np.array([HEIGHT[stage] for stage in STAGES], dtype=float)
    level = np.where(stages >= 0, heights[np.maximum(stages, 0)], np.nan)
    axes.step(edges, np.append(level, level[-1:]), where="post", color="0.25", linewidth=1)
    for code, stage in enumerate(STAGES):
        own = np.where(stages == code, level, np.nan)
        axes.hlines(own, edges[:-1], edges[1:], color=to_rgb(COLOURS[stage]), linewidth=3)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.5, len(order) - 0.5)
