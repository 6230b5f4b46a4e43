"""Charts of a page as SVG text: selectable words, a title each, no script, a few kilobytes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.sleep.html import COLOURS, HEIGHT, PER_HOUR, UNSCORED_COLOUR, stretches

# Okabe and Ito's blue and vermilion, which remain two without colour vision.
MAIN, OTHER, QUIET = "#0072B2", "#D55E00", "#6e7781"
WIDTH, TALL = 380, 280
# Heights (px) of one stage's step, of the row of errors and of that of confidence; between them.
STEP, ERRORS, CONFIDENCE, GAP = 9, 6, 22, 8
TOP = STEP * len(STAGES)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """A plane of values ``x`` and ``y`` (low, high) inside a drawing of ``width`` by ``height``."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH
    height: int = TALL
    left: int = 46
    bottom: int = 40
    top: int = 10
    right: int = 12

    def at_x(self, value: float) -> float:
        """Return where a value lies from the left."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def at_y(self, value: float) -> float:
        """Return where a value lies from above."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - self.bottom - share * (self.height - self.bottom - self.top), 1)

    def frame(self, label_x: str, label_y: str, ticks_x: Sequence[float] | None = None) -> str:
        """Return grid, ticks and labels; ``ticks_x`` are chosen where None."""
        ticks_x = ticks(*self.x) if ticks_x is None else ticks_x
        right, low = self.width - self.right, self.height - self.bottom
        shapes = []
        for value in ticks(*self.y):
            y = self.at_y(value)
            shapes.append(f'<path d="M{self.left} {y}H{right}" stroke="#e4e8ec"/>')
            shapes.append(text(self.left - 6, y + 4, _short(value), "end"))
        for value in ticks_x:
            shapes.append(text(self.at_x(value), low + 15, _short(value), "middle"))
        shapes.append(f'<path d="M{self.left} {low}H{right}" stroke="#8c959f"/>')
        middle = (self.left + right) / 2
        shapes.append(text(middle, self.height - 6, label_x, "middle"))
        turn = f'transform="rotate(-90 12 {low / 2:g})"'
        shapes.append(text(12, low / 2, label_y, "middle", turn))
        return "".join(shapes)

    def line(self, points: Iterable[tuple[float, float]], look: str) -> str:
        """Return a line through points; ``look`` are attributes such as its stroke."""
        joined = "L".join(f"{self.at_x(a)} {self.at_y(b)}" for a, b in points)
        return f'<path d="M{joined}" fill="none" {look}/>'

    def level(self, value: float, look: str) -> str:
        """Return a horizontal line through the whole plane."""
        return self.line([(self.x[0], value), (self.x[1], value)], look)

    def band(self, low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]]) -> str:
        """Return the area between two lines."""
        around = [*low, *list(high)[::-1]]
        joined = "L".join(f"{self.at_x(a)} {self.at_y(b)}" for a, b in around)
        return f'<path d="M{joined}z" fill="{MAIN}" fill-opacity=".15"/>'

    def dot(self, x: float, y: float, what: str, radius: float = 3, colour: str = MAIN) -> str:
        """Return a dot that says what it is when pointed at."""
        return (
            f'<circle cx="{self.at_x(x)}" cy="{self.at_y(y)}" r="{radius:.1f}" fill="{colour}" '
            f'fill-opacity=".75"><title>{escape(what)}</title></circle>'
        )


def drawing(title: str, width: int, height: int, shapes: Iterable[str]) -> str:
    """Return a whole SVG element with an accessible title."""
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {width} {height}" aria-label="{escape(title)}"'
        f"><title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    """Return a text; its size is the style sheet's."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def ticks(low: float, high: float) -> list[float]:
    """Return four to ten round numbers within an interval.

    >>> ticks(0.0, 1.0), ticks(-31.0, 52.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-20.0, 0.0, 20.0, 40.0])
    """
    power = 10.0 ** np.floor(np.log10(high - low))
    step = next(s * power for s in (0.1, 0.2, 0.5, 1.0, 2.0) if (high - low) / (s * power) <= 6)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(float(k * step), 10) for k in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value + 0.0:g}".replace("-", "−")  # + 0: no −0


def kappas(
    rows: Sequence[tuple[str, object, float]],
    pooled: float,
    interval: Sequence,
    what: str = "Cohen's kappa",
) -> str:
    """Draw kappa of each recording, (recording, subject, kappa), rows in order of kappa."""
    subjects = {
        subject: place for place, subject in enumerate(dict.fromkeys(s for _, s, _ in rows))
    }
    last = max(len(subjects) - 1, 0)
    lowest = min([0.0, *(k for *_, k in rows), *([] if interval[0] is None else interval[:1])])
    axes = Axes(x=(-0.7, last + 0.7), y=(lowest - 0.02, 1.0), width=720, height=240, bottom=26)
    shapes = [axes.frame("subjects, lowest kappa first", what, [])]
    if interval[0] is not None:
        shapes.append(axes.band(*([(end, k) for end in axes.x] for k in interval)))
    shapes.append(axes.level(pooled, f'stroke="{MAIN}"'))
    shapes += [axes.dot(subjects[who], k, f"{name}: {k:.3f}", 4) for name, who, k in rows]
    shapes.append(text(axes.left + 6, axes.at_y(pooled) - 5, f"all epochs together: {pooled:.2f}"))
    return drawing("Kappa of every recording", axes.width, axes.height, shapes)


def confusion(counts: np.ndarray, rows: str = "scored", columns: str = "predicted") -> str:
    """Draw a confusion matrix (K, K): shades are shares of a row, numbers are epochs."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side, tall, left, top = 64, 44, 58, 40
    middle = top + tall * len(STAGES) / 2
    shapes = [
        text(left + side * len(STAGES) / 2, 13, columns, "middle"),
        text(12, middle, rows, "middle", f'transform="rotate(-90 12 {middle:g})"'),
    ]
    for i, stage in enumerate(STAGES):
        shapes.append(text(left + side * (i + 0.5), top - 8, stage, "middle"))
        shapes.append(text(left - 8, top + tall * (i + 0.5) + 4, stage, "end"))
    for i, j in np.ndindex(counts.shape):
        x, y = left + side * j, top + tall * i
        shade = "#fff" if share[i, j] > 0.5 else "#1b1f24"
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{side - 1}" height="{tall - 1}" fill="#0B3C6F" '
            f'fill-opacity="{0.04 + 0.96 * share[i, j]:.2f}"/>'
        )
        middle, look = x + side / 2, f'fill="{shade}"'
        shapes.append(text(middle, y + 19, f"{100 * share[i, j]:.0f} %", "middle", look))
        shapes.append(
            text(middle, y + 34, f"{int(counts[i, j]):,}", "middle", f'{look} class="small"')
        )
    height = top + tall * len(STAGES) + 4
    return drawing(f"Epochs {rows} against {columns}", WIDTH, height, shapes)


def reliability(table: np.ndarray) -> str:
    """Draw the share right against confidence; ``table`` (bins, 3): epochs, confidence, right."""
    axes = Axes(x=(0.0, 1.0), y=(0.0, 1.0))
    shapes = [axes.frame("confidence", "share that agrees with the scorer")]
    shapes.append(axes.line([(0, 0), (1, 1)], f'stroke="{QUIET}" stroke-dasharray="4 3"'))
    some = table[table[:, 0] > 0]
    points = [(conf / n, right / n) for n, conf, right in some]
    shapes.append(axes.line(points, f'stroke="{MAIN}" stroke-width="1.5"'))
    for (x, y), (n, *_) in zip(points, some, strict=True):
        said = f"confidence {x:.2f}: {y:.2f} of {int(n):,} epochs agree"
        # Areas are epochs; the least stays visible.
        shapes.append(axes.dot(x, y, said, 2.5 + 14 * float(np.sqrt(n / some[:, 0].sum()))))
    return drawing("Confidence and share that agrees", axes.width, axes.height, shapes)


def review(reviewed: dict) -> str:
    """Draw kappa after a share of the epochs was reviewed, beside as many at random."""
    share = [100 * value for value in reviewed["share"]]
    lines = {
        key: [(x, y) for x, y in zip(share, reviewed[key], strict=True) if y is not None]
        for key in ("kappa_reviewed", "kappa_random", "kappa_kept")
    }
    ends = [
        (x, low, high)
        for x, (low, high) in zip(share, reviewed["kappa_reviewed_interval_95"], strict=True)
        if low is not None
    ]
    values = [y for points in lines.values() for _, y in points] + [low for _, low, _ in ends]
    axes = Axes(x=(0.0, max(share)), y=(min(values) - 0.02, 1.0))
    shapes = [axes.frame("epochs reviewed (%)", "Cohen's kappa")]
    if ends:
        shapes.append(
            axes.band([(x, low) for x, low, _ in ends], [(x, high) for x, _, high in ends])
        )
    looks = {
        "kappa_reviewed": f'stroke="{MAIN}" stroke-width="2"',
        "kappa_random": f'stroke="{OTHER}" stroke-width="1.5" stroke-dasharray="2 3"',
        "kappa_kept": f'stroke="{QUIET}" stroke-width="1.5" stroke-dasharray="6 3"',
    }
    shapes += [axes.line(lines[key], look) for key, look in looks.items() if lines[key]]
    return drawing("Kappa after review", axes.width, axes.height, shapes)


def bland_altman(
    title: str,
    unit: str,
    pairs: Sequence[tuple[str, float, float]],
    row: dict,
    words: tuple[str, str] = ("scored", "predicted"),
) -> str:
    """Draw (recording, reference, observed) as difference against mean, with bias and limits.

    ``words`` say what reference and observed are.
    """
    first, second = words
    means = [(a + b) / 2 for _, a, b in pairs]
    gaps = [b - a for _, a, b in pairs]
    reach = max(abs(value) for value in (*gaps, row["lower"], row["upper"])) * 1.08 or 1.0
    low, high = min(means), max(means)
    room = 0.05 * (high - low) or 1.0
    axes = Axes(x=(low - room, high + room), y=(-reach, reach), height=230, left=56, right=50)
    shapes = [axes.frame(f"mean of both ({unit})", f"{second} − {first} ({unit})")]
    for key, look in (("lower", "5 3"), ("bias", "none"), ("upper", "5 3")):
        shapes.append(axes.level(row[key], f'stroke="{OTHER}" stroke-dasharray="{look}"'))
        near = axes.at_y(row[key]) + 4
        shapes.append(text(axes.width - axes.right + 4, near, _short(round(row[key], 1))))
    for (name, a, b), mean, gap in zip(pairs, means, gaps, strict=True):
        shapes.append(axes.dot(mean, gap, f"{name}: {first} {a:.1f}, {second} {b:.1f}", 2.8))
    return drawing(f"Bland–Altman: {title}", axes.width, axes.height, shapes)


def night(
    name: str, truth: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, longest: int
) -> str:
    """Draw one recording: scored stages above predicted ones, where they differ, and confidence.

    ``truth`` and ``predicted`` (E,) with -1 unscored, ``confidence`` (E,) with nan there. The width
    is the share of the ``longest`` recording's epochs, and at least a fifth.
    """
    n = len(truth)
    errors = 2 * (TOP + GAP) + 3 - GAP
    low = errors + ERRORS + 4 + CONFIDENCE
    boxes = "".join(
        f"M{start} {errors}h{length}v{ERRORS}h-{length}z"
        for differs, start, length in stretches((truth != predicted) & (truth != UNSCORED))
        if differs
    )
    shapes = [f'<path fill="{OTHER}" d="{boxes}"/>' if boxes else ""]
    shapes.append(_level(confidence, low, "#5b7f95"))
    title = f"{name}: scored above predicted stages, {n * EPOCH_S / 60:g} min"
    rows = {"differs": errors - 3, "confidence": errors + ERRORS + 8}
    return _strip(title, {"scored": truth, "predicted": predicted}, shapes, rows, (low, longest))


def scorings(name: str, stages: Mapping[str, np.ndarray], differ: np.ndarray, longest: int) -> str:
    """Draw one recording: each scorer's stages (E,) under another's, and how far they differ.

    ``differ`` (E,) is the share of the pairs of scorers that differ, 0 to 1. The width is as in
    :func:`night`.
    """
    top = len(stages) * (TOP + GAP)
    low = top + CONFIDENCE
    n = len(differ)
    title = f"{name}: stages of {', '.join(stages)}, {n * EPOCH_S / 60:g} min"
    shapes = [_level(differ, low, OTHER)]
    return _strip(title, stages, shapes, {"differs": top + CONFIDENCE // 2 - 4}, (low, longest))


def _level(values: np.ndarray, low: int, colour: str) -> str:
    """Return values (E,) of 0 to 1 as an area that stands on ``low``; nan is 0."""
    # Half pixels: finer is not seen, and equal neighbours are one step.
    level = np.nan_to_num(CONFIDENCE * 2 * values).round().astype(int)
    steps = "".join(f"V{low - value / 2:g}h{length}" for value, _, length in stretches(level))
    return f'<path fill="{colour}" d="M0 {low}{steps}V{low}z"/>'


def _strip(
    title: str,
    scorings: Mapping[str, np.ndarray],
    below: Iterable[str],
    rows: Mapping[str, int],
    size: tuple[int, int],
) -> str:
    """Return hypnograms under one another, other shapes below them, and the names of both.

    ``rows`` are names of what is below with their places (px) from above; ``size`` is the height
    (px) and the longest recording's epochs.
    """
    low, longest = size
    n = max(map(len, scorings.values()))
    tops = {name: place * (TOP + GAP) for place, name in enumerate(scorings)}
    shapes = [_hypnogram(stages, tops[name]) for name, stages in scorings.items()]
    shapes += below
    hours = "".join(f"M{h * PER_HOUR:g} 0V{low}" for h in range(1, int(n / PER_HOUR) + 1))
    if hours:
        shapes.append(f'<path d="{hours}" {_thin("#00000030")}/>')
    width = max(20.0, 100 * n / max(longest, 1))
    names = "".join(f"<span>{s}</span>" for s in sorted(STAGES, key=HEIGHT.get, reverse=True))
    names = len(tops) * f'<span class="stages">{names}</span>'
    places = {name: top + 2 * STEP for name, top in tops.items()}
    words = "".join(
        f'<b style="top:{top}px" title="{escape(name)}">{escape(name)}</b>'
        for name, top in [*places.items(), *rows.items()]
    )
    return (
        f'<div class="rows">{words}{names}</div>'
        f'<div><svg role="img" viewBox="0 0 {n} {low}" preserveAspectRatio="none" '
        f'style="width:{width:.4g}%;height:{low}px"><title>{escape(title)}</title>'
        f"{''.join(shapes)}</svg></div>"
    )


def _hypnogram(stages: np.ndarray, top: int) -> str:
    """Return the steps of one hypnogram; unscored stretches are grey."""
    order = {stage: (max(HEIGHT.values()) - HEIGHT[stage]) * STEP for stage in STAGES}
    boxes: dict[str, list[str]] = {}
    path, pen = [], False
    for code, start, length in stretches(stages):
        if code == UNSCORED:
            box = f"M{start} {top}h{length}v{TOP}h-{length}z"
            boxes.setdefault(UNSCORED_COLOUR, []).append(box)
        else:
            y = top + order[STAGES[code]]
            path.append(f"V{y + STEP / 2:g}" if pen else f"M{start} {y + STEP / 2:g}")
            path.append(f"h{length}")
            box = f"M{start} {y + 2}h{length}v{STEP - 4}h-{length}z"
            boxes.setdefault(COLOURS[STAGES[code]], []).append(box)
        pen = code != UNSCORED
    line = f'<path d="{"".join(path)}" {_thin(QUIET)}/>' if path else ""
    return line + "".join(f'<path fill="{c}" d="{"".join(d)}"/>' for c, d in boxes.items())


def _thin(colour: str) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="1" vector-effect="non-scaling-stroke"'
