"""``partsig audit``: what is wrong with these recordings, before anyone trains on them."""

import csv
import io
import itertools
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import scipy
from tqdm import tqdm

from partsig import __version__
from partsig import config as configs
from partsig.data.signals.quality import LOWEST_HZ, QUALITY
from partsig.data.signals.recordings import EPOCH_S, STAGES, ReadConfig, count_stages
from partsig.errors import ConfigError, DataError, check_option
from partsig.files import write_json, write_text
from partsig.sleep import html as page
from partsig.sleep.audit.measure import Night, of_store, read_raw
from partsig.sleep.audit.rules import LEVELS, Finding, Fit, fit_of, judge, share_bad
from partsig.verbs.preprocess import SOURCES

SHOWN = 20  # rows of the printed table
STORED = "store"
ON_ONE_PAGE = 200  # recordings; each takes some kilobytes
FOLDER = "pages"  # where the further ones lie


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One recording: what was measured, how its stages fit, and what there is to say."""

    night: Night
    fit: Fit
    findings: list[Finding]

    def count(self, level: str) -> int:
        """Return the number of findings of this level."""
        return sum(finding.level == level for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Where the audit is, its recordings (the worst first), and how many of them have a fault."""

    path: Path
    page: Path
    recordings: list[Audited]
    table: str
    n_faulty: int


def audit(
    path: str | Path | None = None,
    *,
    source: str = "physionet2018",
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    jobs: int = -1,
) -> Audit:
    """Measure every recording of a store or a raw folder, judge it, and write tables and a page.

    A folder with ``meta.json`` is a store: its signals are band-passed, so clipping and line noise
    cannot be seen any more. Any other is raw and read as ``source`` says, unfiltered; ``overrides``
    are fields of :class:`~partsig.data.signals.recordings.ReadConfig`. ``path`` defaults to
    ``data/raw/SOURCE``, ``output`` to ``audit/NAME``, where audit.json, audit.csv and audit.html
    are written, and in pages/ the strips beyond the worst 200. A recording that cannot be read is a
    row with its reason. ``jobs`` are threads.

    Raises ConfigError for a wrong setting, DataError when there is nothing to read.
    """
    check_option("source", source, SOURCES)
    if jobs == 0:
        raise ConfigError("--jobs is 0; it can be a number of threads, or -1 for one per core.")
    settings = configs.compose(ReadConfig, "audit", None, overrides)
    path = Path(path or Path("data/raw") / source)
    if not path.is_dir():
        raise DataError(f"no folder {path}: pass a store, or the folder of raw recordings.")
    output = Path(output or Path("audit") / path.resolve().name)
    if (path / "meta.json").is_file():
        if settings != ReadConfig():
            raise ConfigError(f"{path} is a store, read already; --set is for raw recordings.")
        source, work, items, nights = STORED, *of_store(path)
    else:
        reader = SOURCES[source]
        settings = replace(settings, channels=settings.channels or reader.CHANNELS)
        work = partial(read_raw, read=reader.read_recording, settings=settings, folder=output)
        items, nights = reader.find_records(path), []
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
    bar = tqdm(
        parallel(joblib.delayed(work)(item) for item in items),
        total=len(items),
        unit="recording",
        desc="audit",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    )
    audited = [_audited(night) for night in (*nights, *bar)]
    audited.sort(key=lambda a: (*(-a.count(level) for level in LEVELS[::-1]), a.night.name))
    about = {
        "audited": str(path),
        "source": source,
        "settings": {} if source == STORED else configs.to_dict(settings),
        "versions": {
            "partsig": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
    return _write(output, about, audited)


def _audited(night: Night) -> Audited:
    fit = fit_of(night)
    return Audited(night=night, fit=fit, findings=judge(night, fit))


def _write(output: Path, about: dict, audited: list[Audited]) -> Audit:
    rows = [_row(a) for a in audited]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "audit.csv", text.getvalue())
    write_json(
        output / "audit.json",
        about | {"summary": _summary(audited), "recordings": [_as_json(a) for a in audited]},
    )
    n_pages = 0
    for name, text in _pages(about, audited):
        write_text(output / name, text)
        n_pages += 1
    further = (output / _place(number) for number in itertools.count(n_pages + 1))
    earlier = itertools.takewhile(Path.is_file, further)
    page.remove(list(earlier)[::-1])  # from the end: what is left, if this is killed, has no gap
    return Audit(
        path=output,
        page=output / "audit.html",
        recordings=audited,
        table=_table(audited),
        n_faulty=sum(a.count("fault") > 0 for a in audited),
    )


def _summary(audited: list[Audited]) -> dict:
    stages = [a.night.stages for a in audited]
    counts = count_stages(np.concatenate(stages))
    return {
        "recordings": len(audited),
        "unreadable": sum(bool(a.night.reason) for a in audited),
        "hours": round(sum(a.night.duration_s for a in audited) / 3600, 2),
        "scored": sum(counts[stage] for stage in STAGES),
        "stages": counts,
        "findings": {level: sum(a.count(level) for a in audited) for level in LEVELS[::-1]},
    }


def _row(a: Audited) -> dict[str, object]:
    """Return one recording's row of audit.csv."""
    night, qualities = a.night, a.night.measured.values()
    return {
        "recording": night.name,
        "subject": night.subject,
        "worst": a.findings[0].level if a.findings else "",
        **{f"{level}s": a.count(level) for level in LEVELS[::-1]},
        "hours": round(night.duration_s / 3600, 3),
        "epochs": night.n_whole,
        **count_stages(night.stages),
        "lead_in_s": "" if night.lead_in_s is None else night.lead_in_s,
        "tail_s": round(night.tail_s, 3),
        "flat": _rounded(max((q.flat for q in qualities), default=None)),
        "clipped": _rounded(max((q.clipped for q in qualities), default=None)),
        "bad_epochs": _rounded(max((share_bad(q) for q in qualities), default=None)),
        **{key: _rounded(value) for key, value in asdict(a.fit).items()},
        "findings": " ".join(f"{f.level}: {f.text}" for f in a.findings),
    }


def _rounded(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def _as_json(a: Audited) -> dict:
    night = a.night
    return {
        "recording": night.name,
        "subject": night.subject,
        "duration_s": round(night.duration_s, 6),
        "epochs": night.n_whole,
        "lead_in_s": night.lead_in_s,
        "tail_s": round(night.tail_s, 6),
        "unscored_share": night.unscored_share,
        "stages": count_stages(night.stages),
        "hypnogram": _in_runs(night.stages, (*STAGES, "unscored")),
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
            for name, q in night.measured.items()
        },
    }


def _in_runs(codes: np.ndarray, names) -> str:
    """Return codes as text, such as ``unscored*12 W*30``: one word per run."""
    return " ".join(f"{names[code]}*{length}" for code, _, length in page.runs(codes))


def _table(audited: list[Audited]) -> str:
    """Return what is printed: the worst recordings first."""
    shown = [a for a in audited if a.findings][:SHOWN]
    width = max([9, *(len(a.night.name) for a in shown)])
    lines = [f"{'recording':<{width}}  hours  faults  warnings  remarks  worst finding"]
    for a in shown:
        text = a.findings[0].text
        text = text if len(text) <= 90 else f"{text[:89]}…"
        f, w, r = (a.count(level) for level in LEVELS[::-1])
        hours = a.night.duration_s / 3600
        lines.append(f"{a.night.name:<{width}}  {hours:5.1f}  {f:6}  {w:8}  {r:7}  {text}")
    s = _summary(audited)
    counts = ", ".join(f"{n:,} {level}s" for level, n in s["findings"].items())
    lines.append(
        f"{s['recordings']:,} recordings, {s['hours']:,.1f} h, {s['scored']:,} scored epochs: "
        f"{counts}" + (f" (the worst {len(shown)} above)" if len(audited) > len(shown) else "")
    )
    return "\n".join(lines)


def _pages(about: dict, audited: list[Audited]) -> Iterator[tuple[str, str]]:
    """Give the path and the text of every page, one at a time, the worst recordings on the first.

    Each has so many recordings that a browser opens it at once.
    """
    longest = max(max(a.night.n_whole, len(a.night.stages)) for a in audited)
    how = (
        f"{about['audited']} ({about['source']}), partsig {__version__}. A strip is the hypnogram "
        f"above one row per channel, a colour per {EPOCH_S:.0f}-s epoch; channels below "
        f"{LOWEST_HZ:.0f} Hz are not measured."
    )
    if about["source"] == STORED:
        how += " A store is band-passed: audit the raw recordings to see clipping and line noise."
    title = f"Audit of {Path(about['audited']).name}"
    last = -(-len(audited) // ON_ONE_PAGE)
    for number in range(1, last + 1):
        first = (number - 1) * ON_ONE_PAGE
        some = audited[first : first + ON_ONE_PAGE]
        body = _overview(audited) if number == 1 else []
        body += [f"<h2>Recordings, the worst first</h2>{page.legend()}"]
        body += [_recording(a, longest) for a in some]
        if last > 1:
            told = f"Recordings {first + 1:,} to {first + len(some):,} of {len(audited):,}."
            links = {"The worst": 1, "Before": number - 1, "After": number + 1}
            shown = [
                page.link(words, _place(other, number))
                for words, other in links.items()
                if 1 <= other <= last and other != number
            ]
            around = f'<p class="pages">{" · ".join([told, *shown])}</p>'
            body = [around, *body, around]
        yield _place(number), page.document(title, how, body)


def _place(number: int, seen_from: int = 1) -> str:
    """Return where a page lies, as seen from another; the first is ``audit.html``."""
    if number == 1:
        return "audit.html" if seen_from == 1 else "../audit.html"
    return f"{FOLDER}/{number}.html" if seen_from == 1 else f"{number}.html"


def _overview(audited: list[Audited]) -> list[str]:
    """Return numbers of everything: stages, and findings by kind."""
    s = _summary(audited)
    share = {k: n / max(sum(s["stages"].values()), 1) for k, n in s["stages"].items()}
    kinds: dict[tuple[str, str], int] = {}
    for a in audited:
        for key in {(f.level, f.kind) for f in a.findings}:
            kinds[key] = kinds.get(key, 0) + 1
    order = sorted(kinds, key=lambda key: (-LEVELS.index(key[0]), -kinds[key]))
    return [
        page.facts(
            {
                "recordings": f"{s['recordings']:,}",
                "not readable": f"{s['unreadable']:,}",
                "hours": f"{s['hours']:,.1f}",
                "scored epochs": f"{s['scored']:,}",
                **{f"{level}s": f"{n:,}" for level, n in s["findings"].items()},
            }
        ),
        '<div class="tables"><div><h2>Stages</h2>',
        page.table(
            ["", *s["stages"]],
            [
                ["epochs", *(f"{n:,}" for n in s["stages"].values())],
                ["share", *(f"{100 * value:.1f} %" for value in share.values())],
            ],
        ),
        "</div><div><h2>Findings</h2>",
        page.table(
            ["kind", "level", "recordings"], [[k, lv, f"{kinds[lv, k]:,}"] for lv, k in order]
        ),
        "</div></div>",
    ]


def _recording(a: Audited, longest: int) -> str:
    night = a.night
    scored = sum(count_stages(night.stages)[stage] for stage in STAGES)
    lead = "" if night.lead_in_s is None else f", the first after {night.lead_in_s / 60:g} min"
    line = f"{night.duration_s / 3600:.2f} h, {scored:,} scored epochs{lead}"
    drawing = page.strip(
        night.name, night.stages, {n: q.epochs for n, q in night.measured.items()}, longest
    )
    said = [(f.level, f.text) for f in a.findings]
    return page.night(night.name, "" if night.reason else line, drawing, said)
