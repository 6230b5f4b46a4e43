"""Figures of how far a kappa hangs on where epochs are cut, and on which channels there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.style import BLUE, VERMILION, hide_sides, plain, save


def shifts(measured: Mapping, title: str, path: Path) -> Path:
    """Draw kappa against by how much later epochs are cut, with 95 % intervals over units."""
    rows = measured["rows"]
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    at = np.array([row["shift_s"] for row in rows])
    aside = 0.02 * measured["epoch_s"]
    for key, colour, mark, moved, label in (
        ("kappa", BLUE, "o", -aside, f"all, {measured['n_epochs']:,} epochs"),
        ("kappa_one_class", VERMILION, "s", aside,
         f"within one class, {measured['n_epochs_one_class']:,}"),
    ):  # fmt: skip
        values, ends = _values(rows, key)
        axes.errorbar(
            at + moved, values, yerr=ends, color=colour, marker=mark, markersize=4, linewidth=1.2,
            capsize=2, elinewidth=0.7, label=label,
        )  # fmt: skip
    axes.set_xticks(at)
    axes.set_xlabel(f"epochs of {measured['epoch_s']:g} s cut later by (s)")
    axes.set_ylabel("kappa")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(plain(title), fontsize=9, loc="left")
    hide_sides(axes, "top", "right")
    return save(figure, path)


def ablation(measured: Mapping, title: str, path: Path) -> Path:
    """Draw kappa with each subset of channels, with 95 % intervals over units; all is dashed."""
    rows = measured["rows"]
    figure = Figure(figsize=(6.0, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    values, ends = _values(rows, "kappa")
    at = np.arange(len(rows))
    axes.axvline(values[0], color="0.6", linewidth=1, linestyle="--")
    axes.errorbar(
        values, at, xerr=ends, color=BLUE, marker="o", markersize=4, linestyle="", capsize=2,
        elinewidth=0.9,
    )  # fmt: skip
    axes.set_yticks(at, [plain(row["label"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("kappa")
    axes.grid(axis="x", color="0.9")
    axes.set_title(plain(title), fontsize=9, loc="left")
    hide_sides(axes, "top", "right")
    return save(figure, path)


def _values(rows: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return values (n,) and how far their intervals reach below and above (2, n), nan for none."""
    values = np.array([row[key] for row in rows], float)
    ends = np.array([row[f"{key}_interval_95"] for row in rows], float).T
    return values, np.abs(ends - values)


def draw(measured: Mapping[str, Mapping], title: str, folder: Path) -> list[Path]:
    """Draw what a result has of it, shift.png and channels.png; return the files."""
    drawn = []
    if "epoch_shift" in measured:
        drawn.append(shifts(measured["epoch_shift"], title, folder / "shift.png"))
    if "channel_ablation" in measured:
        drawn.append(ablation(measured["channel_ablation"], title, folder / "channels.png"))
    return drawn
