"""Figures that only sleep staging has: hypnogram, staging of a night, trust."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded where they are used
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES
from partsig.data.signals.lazy import forget
from partsig.figures.classification import draw_reliability
from partsig.figures.style import BLUE, VERMILION, plain, save
from partsig.metrics.agreement import kappa_in_words
from partsig.sleep import review
from partsig.sleep.html import COLOURS, HEIGHT, stretches
from partsig.sleep.staging import Staging

UNUSABLE = "#E3E3E3"
MOST_COLUMNS = 2880  # of a spectrogram: a day of epochs, more than there are pixels
BLOCK = 256  # epochs whose spectra are computed at a time


def hypnogram(
    name: str,
    truth: np.ndarray,
    probabilities: np.ndarray,
    kappa: float | None,
    path: Path,
    epoch_s: float = EPOCH_S,
) -> Path:
    """Draw scored and predicted stages of one recording above the predicted probabilities.

    ``truth`` (E,) with -1 unscored, ``probabilities`` (E, K) with nan where nothing was predicted;
    both are left blank there.
    """
    minutes = len(truth) * epoch_s / 60
    unit, per_unit = ("h", 60.0) if minutes > 180 else ("min", 1.0)
    edges = np.arange(len(truth) + 1) * epoch_s / 60 / per_unit
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
        axes.set_title(
            f"{plain(name)}: {label}" if axes is rows[0] else label, fontsize=10, loc="left"
        )
    _hypnodensity(rows[2], edges, probabilities)
    rows[2].set_xlabel(f"time from the start of the recording ({unit})")
    rows[2].set_xlim(0, edges[-1])
    return save(figure, path)


def staging(staged: Staging, paths: Sequence[Path] = ()) -> Figure:
    """Draw a staging: stages, their probabilities, a spectrogram, and what there is to doubt.

    Returned, and saved under ``paths`` by their suffix. Where no stage is given everything is left
    blank. Time is that of the day where the recording has a start, else from its beginning.
    """
    scored = staged.scored is not None
    figure = Figure(figsize=(11, 7.2 if scored else 6.4), layout="constrained")
    heights = [*([1.0] if scored else []), 1.0, 0.8, 1.2, 0.7]
    rows = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    zero = _first_hour(staged)
    edges = zero + (staged.start_s + staged.epoch_s * np.arange(staged.n_epochs + 1)) / 3600
    label = "predicted"
    if scored:
        table = review.agreement(staged)
        axes = rows.pop(0)
        _steps(axes, edges, staged.scored)
        axes.set_title("scored", fontsize=10, loc="left")
        label += f", {kappa_in_words(table)} ({table.sum()} epochs)"
    stages, shares, spectrum, doubt = rows
    _steps(stages, edges, staged.stages)
    for missing, first, length in stretches(staged.stages < 0):
        if missing:
            stages.axvspan(edges[first], edges[first + length], color=UNUSABLE, linewidth=0)
    stages.set_title(label, fontsize=10, loc="left")
    _hypnodensity(shares, edges, staged.probabilities)
    _spectrogram(spectrum, edges, staged)
    doubt.step(edges, np.append(staged.confidence, staged.confidence[-1:]), where="post", lw=0.8)
    at = [(edges[s.epoch] + edges[s.epoch + 1]) / 2 for s in staged.review]
    doubt.scatter(at, np.full(len(at), 0.04), marker="|", color=VERMILION, s=30, linewidth=0.8)
    doubt.set_ylim(0, 1)
    doubt.set_ylabel("confidence", fontsize=9)
    if staged.oddity is not None and len(staged.oddity):
        odd = doubt.twinx()
        seconds = np.arange(len(staged.oddity)) + 0.5
        odd.plot(zero + seconds / 3600, staged.oddity, color="0.6", lw=0.4)
        odd.set_ylabel("oddity", fontsize=9, color="0.4")
        doubt.set_zorder(odd.get_zorder() + 1)
        doubt.patch.set_visible(False)
    _time_axis(doubt, edges, of_day=staged.start is not None)
    figure.suptitle(
        f"{plain(staged.name)}: {int((staged.stages >= 0).sum())} of {staged.n_epochs} epochs "
        f"staged, {len(staged.review)} to review (marks below)"
        + (
            f"; missing: {plain(', '.join(staged.channels_missing))}"
            if staged.channels_missing
            else ""
        ),
        fontsize=11,
        x=0.01,
        ha="left",
    )
    FigureCanvasAgg(figure)
    for path in paths:
        save(figure, path)
    return figure


def beside(name: str, stagings: Mapping[str, Staging], path: Path) -> Path:
    """Draw a night as several stagers see it, one under the other, under what is scored.

    ``stagings`` by what they are called, all of one recording that has scored stages; below each
    hypnogram, in red, the epochs that differ from these. At the top a spectrogram, at the bottom
    the probabilities of the last.
    """
    staged = list(stagings.values())
    last = staged[-1]
    figure = Figure(figsize=(11, 3.6 + 1.3 * len(staged)), layout="constrained")
    heights = [1.0, *[1.0] * (1 + len(staged)), 0.8]
    spectrum, truth, *rows, shares = figure.subplots(
        len(heights), 1, sharex=True, height_ratios=heights
    )
    zero = _first_hour(last)
    edges = zero + (last.start_s + EPOCH_S * np.arange(last.n_epochs + 1)) / 3600
    _spectrogram(spectrum, edges, last)
    _steps(truth, edges, last.scored)
    truth.set_title("scored", fontsize=10, loc="left")
    for axes, (label, one) in zip(rows, stagings.items(), strict=True):
        _steps(axes, edges, one.stages)
        told = kappa_in_words(review.agreement(one))
        axes.set_title(f"{plain(label)}: {told}", fontsize=10, loc="left")
        wrong = np.flatnonzero((last.scored >= 0) & (one.stages != last.scored))
        at = (edges[wrong] + edges[wrong + 1]) / 2
        axes.vlines(at, -0.5, -0.25, color=VERMILION, linewidth=0.6)
    _hypnodensity(shares, edges, last.probabilities)
    _time_axis(shares, edges, of_day=last.start is not None)
    figure.suptitle(plain(name), fontsize=11, x=0.01, ha="left")
    return save(figure, path)


def trust(calibration: dict, reviewed: dict, path: Path) -> Path:
    """Draw confidence against the share right, and kappa against the share that is reviewed."""
    figure = Figure(figsize=(9.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_reliability(left, calibration, "epochs")
    share = 100 * np.array(reviewed["share"])
    low, high = np.array(reviewed["kappa_reviewed_interval_95"], dtype=float).T
    right.fill_between(share, low, high, color=BLUE, alpha=0.15, linewidth=0)
    for key, label, style in (
        ("kappa_reviewed", "the most doubtful set right", "-"),
        ("kappa_random", "as many at random set right", ":"),
        ("kappa_kept", "the others alone", "--"),
    ):
        values = np.array(reviewed[key], dtype=float)
        right.plot(share, values, color=BLUE if style == "-" else "0.4", ls=style, label=label)
    right.set_xlabel(f"epochs reviewed (%), in the order of {reviewed['by']}")
    right.set_ylabel("Cohen's kappa")
    right.grid(axis="y", color="0.9")
    right.legend(fontsize=8, frameon=False)
    right.set_title("95 % interval over subjects", fontsize=9, loc="left")
    return save(figure, path)


def _first_hour(staged: Staging) -> float:
    """Return hours from midnight to the first sample, so that ticks fall on round times.

    0 without a start: time is then told from the beginning of the recording.
    """
    if staged.start is None:
        return 0.0
    midnight = staged.start.replace(hour=0, minute=0, second=0, microsecond=0)
    return (staged.start - midnight).total_seconds() / 3600


def _time_axis(axes, edges: np.ndarray, *, of_day: bool) -> None:
    """Set ticks on whole minutes, ten of them at most."""
    axes.set_xlim(edges[0], edges[-1])
    minutes = 60 * (edges[-1] - edges[0])
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720)
    step = next((m for m in steps if minutes <= 10 * m), 1440)
    axes.xaxis.set_major_locator(MultipleLocator(step / 60))
    axes.xaxis.set_major_formatter(_clock if of_day else _elapsed)
    since = "time from the start of the recording (h:min)"
    axes.set_xlabel("time of day" if of_day else since)


def _clock(hours: float, _: int = 0) -> str:
    """Return hours since a midnight as a time of day.

    >>> _clock(25.5)
    '01:30'
    """
    return _elapsed(hours % 24).zfill(5)


def _elapsed(hours: float, _: int = 0) -> str:
    """Return hours as hours and minutes.

    >>> _elapsed(1.5)
    '1:30'
    """
    minutes = round(60 * hours)
    return f"{minutes // 60}:{minutes % 60:02d}"


def _steps(axes, edges: np.ndarray, stages: np.ndarray) -> None:
    """Draw stages (E,) as a hypnogram: a line of steps, each stretch in its stage's colour."""
    order = sorted(HEIGHT, key=HEIGHT.__getitem__)
    heights = np.array([HEIGHT[stage] for stage in STAGES], dtype=float)
    level = np.where(stages >= 0, heights[np.maximum(stages, 0)], np.nan)
    axes.step(edges, np.append(level, level[-1:]), where="post", color="0.25", linewidth=1)
    spans_of: dict[int, list[tuple[float, float]]] = {}
    for code, first, length in stretches(stages):
        spans_of.setdefault(code, []).append((edges[first], edges[first + length]))
    for code, stage in enumerate(STAGES):
        spans = spans_of.get(code)
        if spans:
            axes.hlines(
                [heights[code]] * len(spans), *zip(*spans, strict=True), COLOURS[stage], lw=3
            )
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.5, len(order) - 0.5)


def _hypnodensity(axes, edges: np.ndarray, probabilities: np.ndarray) -> None:
    """Draw probabilities (E, K) one upon the other, each stage in its colour."""
    shares = np.cumsum(np.column_stack([np.zeros(len(probabilities)), probabilities]), axis=1)
    shares = np.vstack([shares, shares[-1:]])
    for code, stage in enumerate(STAGES):
        low, high = shares[:, code], shares[:, code + 1]
        colour = COLOURS[stage]
        axes.fill_between(edges, low, high, step="post", color=colour, label=stage, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability", fontsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _spectrogram(axes, edges: np.ndarray, staged: Staging) -> None:
    """Draw the power of a central channel, else of the first, an epoch a column (Welch, dB).

    Where there are more than :data:`MOST_COLUMNS`, a column is the mean of as many as it takes.
    """
    there = [c for c, name in enumerate(staged.ch_names) if name not in staged.channels_missing]
    central = [c for c in there if staged.ch_names[c].upper().startswith(("C3", "C4"))]
    c = (central or there)[0]
    n_times = round(staged.epoch_s * staged.sfreq)
    densities = []
    for first in range(0, max(staged.n_epochs, 1), BLOCK):
        last = min(first + BLOCK, staged.n_epochs)
        epochs = staged.signal[c, first * n_times : last * n_times].reshape(-1, n_times)
        frequency, density = scipy.signal.welch(
            epochs, staged.sfreq, nperseg=round(4 * staged.sfreq), axis=-1
        )
        shown = (frequency > 0) & (frequency <= 30)
        densities.append(density[:, shown])
        forget(staged.signal)
    decibels = 10 * np.log10(np.maximum(np.concatenate(densities), 1e-4)).T  # (F, E)
    decibels[:, staged.stages < 0] = np.nan
    every = -(-staged.n_epochs // MOST_COLUMNS)
    decibels = _pooled(decibels, every)
    finite = decibels[np.isfinite(decibels)]
    low, high = np.percentile(finite, [2, 98]) if len(finite) else (0.0, 1.0)
    end = edges[0] + decibels.shape[1] * every * staged.epoch_s / 3600 if every > 1 else edges[-1]
    image = axes.imshow(
        decibels,
        aspect="auto",
        origin="lower",
        extent=(edges[0], end, frequency[shown][0], frequency[shown][-1]),
        cmap="viridis",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    axes.set_ylabel("Hz", fontsize=9)
    axes.set_title(f"{plain(staged.ch_names[c])}, dB re 1 µV²/Hz", fontsize=9, loc="left")
    axes.figure.colorbar(image, cax=axes.inset_axes((1.01, 0.0, 0.012, 1.0)))


def _pooled(values: np.ndarray, every: int) -> np.ndarray:
    """Return the means (F, E') of ``every`` columns of (F, E), of those that are numbers.

    >>> _pooled(np.array([[1.0, 3.0, np.nan, 5.0, np.nan]]), 2).tolist()
    [[2.0, 5.0, nan]]
    """
    if every <= 1:
        return values
    missing = -values.shape[1] % every
    padded = np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan)
    groups = padded.reshape(len(values), -1, every)
    number = np.isfinite(groups).sum(-1)
    return np.where(number > 0, np.nansum(groups, -1) / np.maximum(number, 1), np.nan)
