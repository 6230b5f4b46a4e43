"""One HTML file that needs nothing else: style, tables and drawings are inside it.

Drawings are SVG in which neighbouring epochs of one kind are one rectangle, and all rectangles of
one colour are one path: a night takes a few kilobytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import numpy as np

from partsig import regular
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.data.signals.quality import GOOD, QUALITY

# From wake (warm) over light and deep sleep (blues) to REM, distinguishable without colour vision.
COLOURS = {"W": "#E69F00", "N1": "#9AD0F3", "N2": "#3F8EC9", "N3": "#0B3C6F", "REM": "#C0392B"}
# Hypnograms are drawn with REM between wake and N1.
HEIGHT = {"W": 4, "REM": 3, "N1": 2, "N2": 1, "N3": 0}
# Told apart without colour vision too: they differ in lightness as well (Okabe and Ito's palette).
QUALITY_COLOURS = dict(zip(QUALITY, ("#CFE0EA", "#000000", "#D55E00", "#0072B2"), strict=True))
UNSCORED_COLOUR = "#E3E3E3"
# What shows that a page was written here, and may be removed; it stands in so many first bytes.
MARK, HEAD = '<meta name="generator" content="partsig">', 256
STEP = 10  # height of a stage in the drawing; a channel's is ROW with a gap
ROW, GAP = 10, 3
PER_HOUR = 3600 / EPOCH_S
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff;
  max-width: 1180px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.5em; margin: 0 0 .2em; } h2 { font-size: 1.1em; margin: 2em 0 .5em; }
.about { color: #57606a; margin: 0 0 1.2em; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: .8em; margin: 1em 0; }
.facts div { border: 1px solid #d0d7de; border-radius: 6px; padding: .5em .9em; min-width: 6em; }
.facts b { display: block; font-size: 1.35em; font-variant-numeric: tabular-nums; }
.facts span { color: #57606a; font-size: .85em; }
.tables { display: flex; flex-wrap: wrap; gap: 0 4em; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .8em; border-bottom: 1px solid #e4e8ec; }
th:first-child, td:first-child { text-align: left; }
.legend { position: sticky; top: 0; background: #fff; padding: .5em 0; font-size: .85em;
  border-bottom: 1px solid #d0d7de; z-index: 1; }
.legend span { margin-right: 1.1em; white-space: nowrap; }
.legend i { display: inline-block; width: 1.1em; height: .8em; margin-right: .35em;
  border: 1px solid #8c959f; vertical-align: -1px; }
.night { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: .3em 1.6em;
  padding: .9em 0 1em; border-bottom: 1px solid #e4e8ec; content-visibility: auto;
  contain-intrinsic-size: auto 150px; }
.night h3 { grid-column: 1 / -1; margin: 0; font-size: 1em; overflow-wrap: anywhere; }
.night h3 small { font-weight: normal; color: #57606a; margin-left: .7em; }
.strip { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: .6em; }
.strip svg { display: block; width: 100%; }
.names { font-size: 11px; line-height: 13px; text-align: right; color: #424a53; }
.names .stages { display: block; font-size: 9.5px; line-height: 10px; }
.names span { display: block; }
ul { margin: 0; padding: 0; list-style: none; font-size: .9em; }
li { display: grid; grid-template-columns: 5em minmax(0, 1fr); gap: .5em; margin-bottom: .3em;
  align-items: baseline; overflow-wrap: anywhere; }
li em { font-style: normal; text-align: center; border-radius: 3px; font-size: .82em; }
.fault em { background: #b42318; color: #fff; }
.warning em { background: #ffe0a3; color: #4d3200; }
.remark em { background: #e4e8ec; color: #1b1f24; }
@media (max-width: 800px) { .night { grid-template-columns: 1fr; } }
@media print { .legend { position: static; } .night { break-inside: avoid; } }
"""

# What a report adds to it.
REPORT = """
h2 { border-top: 1px solid #d0d7de; padding-top: 1.2em; }
h3 { font-size: 1em; margin: 1.4em 0 .4em; }
p, .say li { max-width: 75ch; }
.say { padding-left: 1.2em; list-style: disc; font-size: 1em; }
.say li { display: list-item; margin-bottom: .5em; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26em, 100%), 1fr));
  gap: 0 1.4em; }
.box { border-left: 4px solid #0072B2; background: #f6f9fc; padding: .2em 1em; margin: 1em 0; }
.box h3 { margin: .6em 0; } .stop { border-left-color: #b42318; background: #fdf5f4; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll table { font-size: .88em; white-space: nowrap; }
.note { color: #57606a; font-size: .88em; overflow-wrap: anywhere; }
.charts { display: flex; flex-wrap: wrap; gap: 1.4em; align-items: flex-start; }
.charts > * { min-width: 0; max-width: 100%; }
figure { margin: 0; }
.charts > figure { flex: 1 1 330px; max-width: min(400px, 100%); }
.charts > figure.wide { flex: 1 1 100%; max-width: min(760px, 100%); }
figcaption { font-size: .85em; color: #424a53; margin-bottom: .2em; }
svg.chart { display: block; width: 100%; height: auto; }
svg.chart text { font-size: 12px; fill: #1b1f24; font-family: inherit; }
svg.chart text[fill="#fff"] { fill: #fff; } svg.chart text.small { font-size: 10px; }
.recording { padding: .8em 0; border-bottom: 1px solid #e4e8ec; content-visibility: auto;
  contain-intrinsic-size: auto 190px; break-inside: avoid; }
.recording h3 { margin: 0 0 .3em; overflow-wrap: anywhere; }
.recording small { font-weight: normal; color: #57606a; margin-left: .7em; }
.recording .strip { grid-template-columns: 6.2em minmax(0, 1fr); }
.rows { position: relative; font-size: 9.5px; line-height: 9px; text-align: right; color: #424a53; }
.rows b { position: absolute; left: 0; max-width: 66px; font-weight: normal; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.rows .stages { display: block; margin-bottom: 8px; } .rows .stages span { display: block; }
.recording .note { max-width: none; margin: .3em 0; }
@media (max-width: 600px) { figure.wide svg.chart text { font-size: 20px; } }
table.about-model td { text-align: left; overflow-wrap: anywhere; vertical-align: top; }
@media print { body { font-size: 11px; max-width: none; margin: 0; }
  .scroll { overflow: visible; } .scroll table { font-size: 9px; }
  .many table { font-size: 7px; } th, td { padding: .15em .3em; }
  figure, .box, tr { break-inside: avoid; } .recording { content-visibility: visible; }
  * { print-color-adjust: exact; } }
"""


def document(title: str, about: str, body: Iterable[str], style: str = "") -> str:
    """Return a whole page; ``about`` is the line below its title, ``body`` is HTML.

    ``style``: what this page adds to the style of all.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{MARK}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="about">{escape(about)}</p>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def remove(files: Iterable[Path]) -> None:
    """Remove pages of an earlier run, and their folder with the last file in it.

    A file that has the name of one and is not partsig's is left.
    """
    for file in files:
        try:
            with regular.open_bytes(file) as handle:
                own = MARK.encode() in handle.read(HEAD)
        except OSError:  # it is gone, or a folder
            continue
        if own:
            file.unlink(missing_ok=True)
            if not any(file.parent.iterdir()):
                file.parent.rmdir()


def facts(values: Mapping[str, str]) -> str:
    """Return numbers in boxes, each above its name."""
    boxes = [f"<div><b>{escape(v)}</b><span>{escape(k)}</span></div>" for k, v in values.items()]
    return f'<div class="facts">{"".join(boxes)}</div>'


class Html(str):
    """A text that is HTML already, among others that are not."""

    __slots__ = ()


def link(words: str, address: str) -> Html:
    """Return a link to another page of the same folder; ``address`` is a path of files."""
    return Html(f'<a href="{escape(quote(address))}">{escape(words)}</a>')


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; the first column is of texts, the others of numbers."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        cells = (cell if isinstance(cell, Html) else escape(str(cell)) for cell in row)
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def sentences(items: Iterable[tuple[str, str]]) -> str:
    """Return (level, sentence) pairs as a list."""
    lines = [
        f'<li class="{escape(level)}"><em>{escape(level)}</em><span>{escape(text)}</span></li>'
        for level, text in items
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else "<p>No finding.</p>"


def bullets(lines: Iterable[str]) -> str:
    """Return sentences as a list with bullets."""
    return f'<ul class="say">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def scrolling(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that scrolls in itself where the page is narrower; small in print if wide."""
    kind = "scroll many" if len(head) > 8 else "scroll"
    return f'<div class="{kind}" tabindex="0">{table(head, rows)}</div>'


def figure(caption: str, drawing: str, kind: str = "") -> str:
    """Return a drawing below its caption; ``kind`` is ``wide`` for one of the page's width."""
    return f'<figure class="{kind}"><figcaption>{escape(caption)}</figcaption>{drawing}</figure>'


def note(words: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(words)}</p>'


def legend() -> str:
    """Return what the colours of the strips mean."""
    colours = COLOURS | {"unscored": UNSCORED_COLOUR}
    shown = [
        (name, colour) for names in (colours, QUALITY_COLOURS) for name, colour in names.items()
    ]
    spans = [f'<span><i style="background:{c}"></i>{escape(name)}</span>' for name, c in shown]
    return f'<div class="legend">{"".join(spans)}<span>vertical lines: hours</span></div>'


def night(name: str, about: str, drawing: str, findings: Iterable[tuple[str, str]]) -> str:
    """Return the section of one recording: its strip on the left, sentences on the right."""
    return (
        f'<section class="night"><h3>{escape(name)}<small>{escape(about)}</small></h3>'
        f'<div class="strip">{drawing}</div>{sentences(findings)}</section>'
    )


def strip(name: str, stages: np.ndarray, channels: Mapping[str, np.ndarray], longest: int) -> str:
    """Return the drawing of one recording: its hypnogram above one row per channel.

    ``stages`` (E,) with -1 unscored; ``channels`` are codes (E,) of :data:`quality.QUALITY` by
    name. The width is the share of the ``longest`` recording's epochs, and at least a twentieth.
    """
    n = max([len(stages), *map(len, channels.values())], default=0)
    if n == 0:
        return ""
    top = STEP * len(STAGES)
    height = top + GAP + (ROW + GAP) * len(channels)
    shapes = []
    order = {stage: (max(HEIGHT.values()) - HEIGHT[stage]) * STEP for stage in STAGES}
    boxes: dict[str, list[str]] = {}
    for code, start, length in stretches(stages):
        if code == UNSCORED:
            boxes.setdefault(UNSCORED_COLOUR, []).append(_box(start, 0, length, top))
        else:
            stage = STAGES[code]
            at = order[stage] + 2
            boxes.setdefault(COLOURS[stage], []).append(_box(start, at, length, STEP - 4))
    shapes.append(_steps(stages, order))
    for number, codes in enumerate(channels.values()):
        at = top + GAP + (ROW + GAP) * number
        good = QUALITY_COLOURS[QUALITY[GOOD]]
        shapes.append(f'<path fill="{good}" d="{_box(0, at, len(codes), ROW)}"/>')
        for code, start, length in stretches(codes):
            if code != GOOD:
                boxes.setdefault(QUALITY_COLOURS[QUALITY[code]], []).append(
                    _box(start, at, length, ROW)
                )
    shapes += [f'<path fill="{colour}" d="{"".join(d)}"/>' for colour, d in boxes.items()]
    hours = "".join(f"M{h * PER_HOUR:g} 0V{height}" for h in range(1, int(n / PER_HOUR) + 1))
    if hours:
        shapes.append(f'<path class="h" d="{hours}" {_line("#00000030")}/>')
    width = max(5.0, 100 * n / max(longest, 1))
    labels = "".join(f"<span>{escape(channel)}</span>" for channel in channels)
    steps = "".join(f"<span>{s}</span>" for s in sorted(STAGES, key=order.__getitem__))
    return (
        f'<div class="names"><span class="stages">{steps}</span>'
        f'<div style="height:{GAP}px"></div>{labels}</div>'
        f'<div><svg role="img" viewBox="0 0 {n} {height}" preserveAspectRatio="none" '
        f'style="width:{width:.4g}%;height:{height}px">'
        f"<title>{escape(name)}</title>{''.join(shapes)}</svg></div>"
    )


def stretches(codes: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (code, start, length) of every stretch of equal codes.

    >>> stretches(np.array([2, 2, 0]))
    [(2, 0, 2), (0, 2, 1)]
    """
    stretched, start = [], 0
    for code, members in groupby(np.asarray(codes).tolist()):
        length = sum(1 for _ in members)
        stretched.append((code, start, length))
        start += length
    return stretched


def _box(x: int, y: int, width: int, height: int) -> str:
    return f"M{x} {y}h{width}v{height}h-{width}z"


def _line(colour: str) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="1" vector-effect="non-scaling-stroke"'


def _steps(stages: np.ndarray, order: Mapping[str, int]) -> str:
    """Return the line that joins the stages, broken where nothing is scored."""
    d, pen = [], False
    for code, start, length in stretches(stages):
        if code != UNSCORED:
            y = order[STAGES[code]] + STEP // 2
            d.append((f"V{y}" if pen else f"M{start} {y}") + f"h{length}")
        pen = code != UNSCORED
    return f'<path d="{"".join(d)}" {_line("#6e7781")}/>' if d else ""
