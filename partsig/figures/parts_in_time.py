"""Parts that were found along a recording, under its spectrogram and beside what people scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from partsig.figures.parts import colour_of
from partsig.figures.style import hide_sides, plain, save_png_and_svg


@dataclass(frozen=True, kw_only=True, eq=False)
class PartsInTime:
    """Parts along a recording, for a figure.

    ``parts`` (N,) numbers from 0, -1 none, one every ``step_s``; ``power`` (F, T) a spectrogram in
    dB, of ``frequency`` (F,) in Hz, one column every ``power_step_s``. ``stages`` (E,) numbers of
    ``stage_names``, the topmost first, -1 unscored, one every ``stage_s``. ``events``: onset and
    duration (m, 2) in seconds by kind.
    """

    parts: np.ndarray
    step_s: float
    power: np.ndarray
    frequency: np.ndarray
    power_step_s: float
    stages: np.ndarray | None = None
    stage_names: Sequence[str] = ()
    stage_s: float = 30.0
    events: Mapping[str, np.ndarray] | None = None


def draw_recording(shown: PartsInTime, n_parts: int, path: Path, *, title: str = "") -> list[Path]:
    """Draw stages, spectrogram, events and parts of a recording below one another.

    Each part has a lane of its own, and below is the share of each in each half minute. Returns
    the files (PNG, SVG).
    """
    length = len(shown.parts) * shown.step_s
    unit, per = ("h", 3600.0) if length > 3 * 3600 else ("min", 60.0)
    kinds = dict(shown.events or {})
    heights = [*([0.8] if shown.stages is not None else []), 1.4,
               *([0.22 * len(kinds)] if kinds else []), 0.2 * n_parts, 0.8]  # fmt: skip
    figure = Figure(figsize=(10, 1.15 * sum(heights) + 1.0), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.02, hspace=0)
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    rows = list(grid[:, 0])
    rows[0].set_title(plain(title), fontsize=11, loc="left")
    if shown.stages is not None:
        _stages(rows.pop(0), shown, per)
    spectrum = rows.pop(0)
    low, high = np.nanpercentile(shown.power, [5, 99])
    spectrum.imshow(
        shown.power, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high,
        extent=(0, shown.power.shape[1] * shown.power_step_s / per, *shown.frequency[[0, -1]]),
        rasterized=True,
    )  # fmt: skip
    spectrum.set_ylabel("Hz", fontsize=9)
    if kinds:
        _lanes(rows.pop(0), {name: (at[:, 0], at[:, 1]) for name, at in kinds.items()},
               ["black"] * len(kinds), per)  # fmt: skip
    lanes, shares = rows
    spans = {}
    for k in range(n_parts):
        inside = np.concatenate([[False], shown.parts == k, [False]]).astype(np.int8)
        first, last = (np.flatnonzero(np.diff(inside) == sign) for sign in (1, -1))
        spans[f"part {k + 1}"] = (first * shown.step_s, (last - first) * shown.step_s)
    colours = [colour_of(k) for k in range(n_parts)]
    _lanes(lanes, spans, colours, per)
    every = max(1, round(30.0 / shown.step_s))
    blocks = [shown.parts[at : at + every] for at in range(0, len(shown.parts), every)]
    share = np.array([[(block == k).mean() for k in range(n_parts)] for block in blocks]).T
    edges = np.minimum(np.arange(share.shape[1] + 1) * every * shown.step_s, length) / per
    floor = np.zeros(share.shape[1])
    for k in reversed(range(n_parts)):  # the first the topmost, as its lane is
        shares.fill_between(edges, np.append(floor, floor[-1]),
                            np.append(floor + share[k], floor[-1] + share[k][-1]),
                            step="post", color=colours[k], linewidth=0)  # fmt: skip
        floor = floor + share[k]
    shares.set_ylim(0, 1)
    shares.set_yticks([0, 1], ["0", "1"], fontsize=8)
    shares.set_ylabel("share", fontsize=9)
    shares.set_xlim(0, length / per)
    shares.set_xlabel(f"time ({unit})")
    return save_png_and_svg(figure, path)


def _stages(axes, shown: PartsInTime, per: float) -> None:
    stages = np.where(np.asarray(shown.stages) < 0, np.nan, shown.stages)
    edges = np.arange(len(stages) + 1) * shown.stage_s / per
    axes.step(edges, np.append(stages, stages[-1]), where="post", color="black", linewidth=0.9)
    axes.set_yticks(range(len(shown.stage_names)), list(map(plain, shown.stage_names)), fontsize=8)
    axes.set_ylim(len(shown.stage_names) - 0.6, -0.4)
    hide_sides(axes, "top", "right")


def _lanes(axes, spans: Mapping[str, tuple], colours: Sequence[str], per: float) -> None:
    """Draw spans, onsets and durations in seconds, in lanes, the first the topmost."""
    for place, ((onset, duration), colour) in enumerate(zip(spans.values(), colours, strict=True)):
        axes.broken_barh(
            list(zip(onset / per, duration / per, strict=True)), (place - 0.42, 0.84),
            color=colour, linewidth=0, rasterized=True,
        )  # fmt: skip
    axes.set_yticks(range(len(spans)), list(map(plain, spans)), fontsize=8)
    axes.set_ylim(len(spans) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    hide_sides(axes, "top", "right", "left")
