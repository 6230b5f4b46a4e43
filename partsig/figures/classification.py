"""Figures of evaluations and of staged recordings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from scipy.signal import welch

from partsig.data.signals.lazy import forget
from partsig.data.signals.recordings import EPOCH_S, STAGES
from partsig.files import atomic
from partsig.metrics.agreement import kappa
from partsig.sleep import review
from partsig.sleep.html import COLOURS, HEIGHT
from partsig.sleep.staging import Staging

UNUSABLE = "#E3E3E3"
# Without a date, which SVG would take from the clock: equal content gives equal files.
UNDATED = {"Date": None}
# Classes up to which a confusion matrix has room for numbers.
MOST_NUMBERS = 20
MOST_COLUMNS = 2880  # of a spectrogram: a day of epochs, more than there are pixels
BLOCK = 256  # epochs whose spectra are computed at a time


def save(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write a figure as PNG or SVG, by the path's ending; return the path."""
    FigureCanvasAgg(figure)
    kind = path.suffix[1:]
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=UNDATED if kind == "svg" else None)
    return path


def confusion(
    counts: np.ndarray,
    title: str,
    path: Path,
    classes: Sequence[str] = STAGES,
    predicted: str = "predicted stage",
    truth: str = "scored stage",
) -> Path:
    """Draw a confusion matrix: shades are shares of the true class, numbers are counts.

    Where there are more than :data:`MOST_NUMBERS` classes, shades alone.
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
        axes.set_xticks(range(len(classes)), classes, rotation=slant)
        axes.set_yticks(range(len(classes)), classes)
    counted = "" if few else ", by its number in the list of classes"
    axes.set_xlabel(predicted + counted)
    axes.set_ylabel(truth + counted)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, label=f"share of the {truth}", shrink=0.85)
    return save(figure, path)


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
    _hypnodensity(rows[2], edges, probabilities)
    rows[2].set_xlabel(f"time from the start of the recording ({unit})")
    rows[2].set_xlim(0, edges[-1])
    return save(figure, path)


def staging(found: Staging, paths: Sequence[Path] = ()) -> Figure:
    """Draw a staging: stages, their probabilities, a spectrogram, and what there is to doubt.

    Returned, and saved under ``paths`` by their suffix. Where no stage is given everything is left
    blank. Time is that of the day where the recording has a start, else from its beginning.
    """
    scored = found.scored is not None
    figure = Figure(figsize=(11, 7.2 if scored else 6.4), layout="constrained")
    heights = [*([1.0] if scored else []), 1.0, 0.8, 1.2, 0.7]
    rows = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    # Hours since midnight, so that ticks fall on round times; since the beginning without a start.
    zero = 0.0
    if found.start is not None:
        midnight = found.start.replace(hour=0, minute=0, second=0, microsecond=0)
        zero = (found.start - midnight).total_seconds() / 3600
    edges = zero + (found.start_s + EPOCH_S * np.arange(found.n_epochs + 1)) / 3600
    label = "predicted"
    if scored:
        table = review.agreement(found)
        axes = rows.pop(0)
        _steps(axes, edges, found.scored)
        axes.set_title("scored", fontsize=10, loc="left")
        label += f", kappa {float(kappa(table)):.2f} ({table.sum()} epochs)"
    stages, shares, spectrum, doubt = rows
    _steps(stages, edges, found.stages)
    for first, length in _stretches(found.stages < 0):
        stages.axvspan(edges[first], edges[first + length], color=UNUSABLE, linewidth=0)
    stages.set_title(label, fontsize=10, loc="left")
    _hypnodensity(shares, edges, found.probabilities)
    _spectrogram(spectrum, edges, found)
    doubt.step(edges, np.append(found.confidence, found.confidence[-1:]), where="post", lw=0.8)
    at = [(edges[s.epoch] + edges[s.epoch + 1]) / 2 for s in found.review]
    doubt.scatter(at, np.full(len(at), 0.04), marker="|", color="#D55E00", s=30, linewidth=0.8)
    doubt.set_ylim(0, 1)
    doubt.set_ylabel("confidence", fontsize=9)
    if found.oddity is not None and len(found.oddity):
        odd = doubt.twinx()
        seconds = np.arange(len(found.oddity)) + 0.5
        odd.plot(zero + seconds / 3600, found.oddity, color="0.6", lw=0.4)
        odd.set_ylabel("oddity", fontsize=9, color="0.4")
        doubt.set_zorder(odd.get_zorder() + 1)
        doubt.patch.set_visible(False)
    doubt.set_xlim(edges[0], edges[-1])
    # Ticks on whole minutes, ten of them at most.
    minutes = 60 * (edges[-1] - edges[0])
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720)
    step = next((m for m in steps if minutes <= 10 * m), 1440)
    doubt.xaxis.set_major_locator(MultipleLocator(step / 60))
    doubt.xaxis.set_major_formatter(_clock if found.start else _elapsed)
    since = "time from the start of the recording (h:min)"
    doubt.set_xlabel("time of day" if found.start else since)
    figure.suptitle(
        f"{found.name}: {int((found.stages >= 0).sum())} of {found.n_epochs} epochs staged, "
        f"{len(found.review)} to review (marks below)",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    FigureCanvasAgg(figure)
    for path in paths:
        save(figure, path)
    return figure


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


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, length) of every run of True.

    >>> _stretches(np.array([False, True, True, False, True]))
    [(1, 2), (4, 1)]
    """
    ends = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def _hypnodensity(axes, edges: np.ndarray, probabilities: np.ndarray) -> None:
    shares = np.cumsum(np.column_stack([np.zeros(len(probabilities)), probabilities]), axis=1)
    shares = np.vstack([shares, shares[-1:]])
    for code, stage in enumerate(STAGES):
        low, high = shares[:, code], shares[:, code + 1]
        colour = COLOURS[stage]
        axes.fill_between(edges, low, high, step="post", color=colour, label=stage, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability", fontsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _spectrogram(axes, edges: np.ndarray, found: Staging) -> None:
    """Draw the power of a central channel, else of the first, an epoch a column (Welch, dB).

    Where there are more than :data:`MOST_COLUMNS`, a column is the mean of as many as it takes.
    """
    central = [c for c, name in enumerate(found.ch_names) if name.upper().startswith(("C3", "C4"))]
    c = (central or [0])[0]
    n_times = round(EPOCH_S * found.sfreq)
    densities = []
    for first in range(0, max(found.n_epochs, 1), BLOCK):
        last = min(first + BLOCK, found.n_epochs)
        epochs = found.signal[c, first * n_times : last * n_times].reshape(-1, n_times)
        frequency, density = welch(epochs, found.sfreq, nperseg=round(4 * found.sfreq), axis=-1)
        shown = (frequency > 0) & (frequency <= 30)
        densities.append(density[:, shown])
        forget(found.signal)
    decibels = 10 * np.log10(np.maximum(np.concatenate(densities), 1e-4)).T  # (F, E)
    decibels[:, found.stages < 0] = np.nan
    every = -(-found.n_epochs // MOST_COLUMNS)
    decibels = _pooled(decibels, every)
    staged = decibels[np.isfinite(decibels)]
    low, high = np.percentile(staged, [2, 98]) if len(staged) else (0.0, 1.0)
    end = edges[0] + decibels.shape[1] * every * EPOCH_S / 3600 if every > 1 else edges[-1]
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
    axes.set_title(f"{found.ch_names[c]}, dB re 1 µV²/Hz", fontsize=9, loc="left")
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


def trust(calibration: dict, reviewed: dict, path: Path) -> Path:
    """Draw confidence against the share right, and kappa against the share that is reviewed."""
    figure = Figure(figsize=(9.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _reliability(left, calibration, "epochs")
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
    return save(figure, path)


def reliability(calibration: dict, counted: str, path: Path) -> Path:
    """Draw confidence against the share right; ``counted`` is what is classified."""
    figure = Figure(figsize=(4.9, 4.4), layout="constrained")
    _reliability(figure.add_subplot(), calibration, counted)
    return save(figure, path)


def _reliability(axes, calibration: dict, counted: str) -> None:
    count, confidence, hits = np.array(calibration["table"]).T
    some = count > 0
    count, confidence, hits = (column[some] for column in (count, confidence, hits))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    axes.plot(confidence / count, hits / count, color="#0072B2", linewidth=1)
    axes.scatter(
        confidence / count,
        hits / count,
        s=10 + 240 * count / count.sum(),
        color="#0072B2",
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
    for number, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        own.sort(key=lambda row: places[row.budget])
        at = [places[row.budget] + _aside(row, rows, methods) for row in own]
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
            label=method,
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


def _aside(row, rows: Sequence, methods: Sequence[str]) -> float:
    """Return how far a method is moved aside at a budget, so that intervals do not hide each other.

    Methods stand side by side, near enough to compare; one that is alone there stays in its place.
    """
    there = {other.method for other in rows if other.budget == row.budget}
    beside = [method for method in methods if method in there]
    return min(0.06 * len(beside), 0.5) * ((beside.index(row.method) + 0.5) / len(beside) - 0.5)


def _has_all(rows: Sequence) -> bool:
    return any(row.budget == 0 for row in rows)


def _steps(axes, edges: np.ndarray, stages: np.ndarray) -> None:
    order = sorted(HEIGHT, key=HEIGHT.__getitem__)
    heights = np.array([HEIGHT[stage] for stage in STAGES], dtype=float)
    level = np.where(stages >= 0, heights[np.maximum(stages, 0)], np.nan)
    axes.step(edges, np.append(level, level[-1:]), where="post", color="0.25", linewidth=1)
    for code, stage in enumerate(STAGES):
        spans = [(edges[a], edges[a + n]) for a, n in _stretches(np.asarray(stages) == code)]
        if spans:
            axes.hlines(
                [heights[code]] * len(spans), *zip(*spans, strict=True), COLOURS[stage], lw=3
            )
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.5, len(order) - 0.5)
