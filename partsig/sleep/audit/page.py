"""What an audit writes: a printed table, rows of audit.csv, audit.json and pages of strips."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from partsig import __version__
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, count_stages
from partsig.data.signals.quality import LOWEST_HZ, QUALITY
from partsig.data.twins import TWICE, told
from partsig.sleep import html
from partsig.sleep.audit.rules import LEVELS, Audited, share_bad

SHOWN = 20  # rows of the printed table
LISTED = 5  # sets of channels that are printed
STORED = "store"  # source of recordings that were read already
ON_ONE_PAGE = 200  # recordings; each takes some kilobytes
FOLDER = "pages"  # where the further ones lie


def summary(audited: list[Audited]) -> dict:
    """Return the numbers of all recordings together."""
    stages = [a.recording.stages for a in audited]
    counts = count_stages(np.concatenate(stages))
    return {
        "recordings": len(audited),
        "unreadable": sum(bool(a.recording.reason) for a in audited),
        "hours": round(sum(a.recording.duration_s for a in audited) / 3600, 2),
        "scored": sum(counts[stage] for stage in STAGES),
        "stages": counts,
        "findings": {level: sum(a.count(level) for a in audited) for level in LEVELS[::-1]},
    }


def table(audited: list[Audited]) -> str:
    """Return what is printed: the worst recordings first."""
    shown = [a for a in audited if a.findings][:SHOWN]
    width = max([9, *(len(a.recording.name) for a in shown)])
    lines = [f"{'recording':<{width}}  hours  faults  warnings  remarks  worst finding"]
    for a in shown:
        text = a.findings[0].text
        text = text if len(text) <= 90 else f"{text[:89]}…"
        f, w, r = (a.count(level) for level in LEVELS[::-1])
        hours = a.recording.duration_s / 3600
        lines.append(f"{a.recording.name:<{width}}  {hours:5.1f}  {f:6}  {w:8}  {r:7}  {text}")
    s = summary(audited)
    counts = ", ".join(f"{n:,} {level}s" for level, n in s["findings"].items())
    lines.append(
        f"{s['recordings']:,} recordings, {s['hours']:,.1f} h, {s['scored']:,} scored epochs: "
        f"{counts}" + (f" (the worst {len(shown)} above)" if len(audited) > len(shown) else "")
    )
    return "\n".join(lines)


def channels(audited: list[Audited]) -> list[str]:
    """Return lines on the channels that files have and which were measured, the commonest first."""
    sets = Counter(a.recording.listed for a in audited if a.recording.listed)
    lines = [
        f"{listed} (in {n:,} of {len(audited):,} recordings)"
        for listed, n in sets.most_common(LISTED)
    ]
    more = len(sets) - len(lines)
    return lines + ([f"{more:,} more sets of channels, see audit.csv"] if more else [])


def row(a: Audited) -> dict[str, object]:
    """Return one recording's row of audit.csv."""
    recording, qualities = a.recording, a.recording.measured.values()
    return {
        "recording": recording.name,
        "subject": recording.subject,
        "worst": a.findings[0].level if a.findings else "",
        **{f"{level}s": a.count(level) for level in LEVELS[::-1]},
        "hours": round(recording.duration_s / 3600, 3),
        "epochs": recording.n_whole,
        **count_stages(recording.stages),
        "lead_in_s": "" if recording.lead_in_s is None else recording.lead_in_s,
        "tail_s": round(recording.tail_s, 3),
        "flat": _rounded(max((q.flat for q in qualities), default=None)),
        "clipped": _rounded(max((q.clipped for q in qualities), default=None)),
        "bad_epochs": _rounded(max((share_bad(q) for q in qualities), default=None)),
        **{key: _rounded(value) for key, value in asdict(a.fit).items()},
        "findings": " ".join(f"{f.level}: {f.text}" for f in a.findings),
    }


def as_json(a: Audited) -> dict:
    """Return one recording's entry of audit.json."""
    recording = a.recording
    return {
        "recording": recording.name,
        "subject": recording.subject,
        "duration_s": round(recording.duration_s, 6),
        "epochs": recording.n_whole,
        "lead_in_s": recording.lead_in_s,
        "tail_s": round(recording.tail_s, 6),
        "unscored_share": recording.unscored_share,
        "stages": count_stages(recording.stages),
        "hypnogram": _in_runs(recording.stages, (*STAGES, "unscored")),
        "fit": asdict(a.fit),
        "findings": [asdict(f) for f in a.findings],
        "channels": {
            name: {
                "amplitude_uv": q.amplitude_uv,
                "unit_factor": q.factor,
                "flat": q.flat,
                "clipped": q.clipped,
                "not_finite": q.not_finite,
                "line": {f"{hz:.0f}": {"db": db, "uv": uv} for hz, (db, uv) in q.line.items()},
                "bad_epochs": share_bad(q),
                "quality": _in_runs(q.epochs, QUALITY),
                "fault_percent": _in_runs((100 * q.fault_share).round().astype(int), range(101)),
            }
            for name, q in recording.measured.items()
        },
    }


def _rounded(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def _in_runs(codes: np.ndarray, names) -> str:
    """Return codes as text, such as ``unscored*12 W*30``: one word per run."""
    return " ".join(f"{names[code]}*{length}" for code, _, length in html.stretches(codes))


def pages(about: dict, audited: list[Audited]) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every page, the worst recordings on the first.

    Each has so many recordings that a browser opens it at once.
    """
    longest = max(max(a.recording.n_whole, len(a.recording.stages)) for a in audited)
    how = (
        f"{about['audited']} ({about['source']}), partsig {__version__}. A strip is the hypnogram "
        f"above one row per channel, a colour per {EPOCH_S:.0f}-s epoch; channels below "
        f"{LOWEST_HZ:.0f} Hz are not measured."
    )
    if about["source"] == STORED:
        how += " A store is band-passed: audit the raw recordings to see clipping and line noise."
    how += "".join(f" There is {sentence}." for sentence in told(about["twins"], *TWICE))
    title = f"Audit of {about['audited']}"
    last = -(-len(audited) // ON_ONE_PAGE)
    for number in range(1, last + 1):
        first = (number - 1) * ON_ONE_PAGE
        some = audited[first : first + ON_ONE_PAGE]
        body = _overview(audited) if number == 1 else []
        body += [f"<h2>Recordings, the worst first</h2>{html.legend()}"]
        body += [_recording(a, longest) for a in some]
        if last > 1:
            shown_here = f"Recordings {first + 1:,} to {first + len(some):,} of {len(audited):,}."
            links = {"The worst": 1, "Before": number - 1, "After": number + 1}
            shown = [
                html.link(words, place(other, number))
                for words, other in links.items()
                if 1 <= other <= last and other != number
            ]
            around = f'<p class="pages">{" · ".join([shown_here, *shown])}</p>'
            body = [around, *body, around]
        yield place(number), html.document(title, how, body)


def place(number: int, seen_from: int = 1) -> str:
    """Return where a page lies, as seen from another; the first is ``audit.html``."""
    if number == 1:
        return "audit.html" if seen_from == 1 else "../audit.html"
    return f"{FOLDER}/{number}.html" if seen_from == 1 else f"{number}.html"


def _overview(audited: list[Audited]) -> list[str]:
    """Return numbers of everything: stages, and findings by kind."""
    s = summary(audited)
    share = {k: n / max(sum(s["stages"].values()), 1) for k, n in s["stages"].items()}
    kinds: dict[tuple[str, str], int] = {}
    for a in audited:
        for key in {(f.level, f.kind) for f in a.findings}:
            kinds[key] = kinds.get(key, 0) + 1
    order = sorted(kinds, key=lambda key: (-LEVELS.index(key[0]), -kinds[key]))
    return [
        html.facts(
            {
                "recordings": f"{s['recordings']:,}",
                "not readable": f"{s['unreadable']:,}",
                "hours": f"{s['hours']:,.1f}",
                "scored epochs": f"{s['scored']:,}",
                **{f"{level}s": f"{n:,}" for level, n in s["findings"].items()},
            }
        ),
        '<div class="tables"><div><h2>Stages</h2>',
        html.table(
            ["", *s["stages"]],
            [
                ["epochs", *(f"{n:,}" for n in s["stages"].values())],
                ["share", *(f"{100 * value:.1f} %" for value in share.values())],
            ],
        ),
        "</div><div><h2>Findings</h2>",
        html.table(
            ["kind", "level", "recordings"], [[k, lv, f"{kinds[lv, k]:,}"] for lv, k in order]
        ),
        "</div></div>",
    ]


def _recording(a: Audited, longest: int) -> str:
    """Return the section of one recording."""
    recording = a.recording
    scored = sum(count_stages(recording.stages)[stage] for stage in STAGES)
    lead = recording.lead_in_s
    after = "" if lead is None else f", the first after {lead / 60:g} min"
    line = f"{recording.duration_s / 3600:.2f} h, {scored:,} scored epochs{after}"
    channels = {name: q.epochs for name, q in recording.measured.items()}
    drawing = html.strip(recording.name, recording.stages, channels, longest)
    said = [(f.level, f.text) for f in a.findings]
    return html.night(recording.name, "" if recording.reason else line, drawing, said)
