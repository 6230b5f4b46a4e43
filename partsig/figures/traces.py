"""Channels of signals, one below the other."""

import numpy as np

from partsig.figures.style import hide_sides, plain

# Channels are drawn so many of their standard deviations apart.
SPACING = 7.0


def in_rows(window: np.ndarray) -> np.ndarray:
    """Return channels (C, L) at an SD of 1, one below the other."""
    spread = np.maximum(window.std(1, keepdims=True), 1e-2)
    offset = -SPACING * np.arange(len(window))[:, None]
    return (window - window.mean(1, keepdims=True)) / spread + offset


def name_rows(axes, names: np.ndarray) -> None:
    """Name the channels, one below the other."""
    size = min(7.0, 130 / len(names))  # of many channels, as features are, each has its line
    axes.set_yticks(-SPACING * np.arange(len(names)), [plain(n) for n in names], fontsize=size)
    axes.tick_params(axis="y", length=0)
    hide_sides(axes, "top", "right", "left")
