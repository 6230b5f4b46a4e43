"""The pages of a report of scorers against each other; one page, or one a recording."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from partsig import __version__
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES
from partsig.sleep.html import REPORT, bullets, document, facts, figure, link, note, scrolling
from partsig.sleep.report import between_statistics, charts
from partsig.sleep.report.between_scorers import BetweenScorers, PairFacts, RecordingFacts
from partsig.sleep.report.between_sentences import brief, joined, limits, verdict
from partsig.sleep.report.compared import ComparedRecording
from partsig.sleep.report.recording_pages import (
    FOLDER,
    clock,
    files_of,
    legend,
    links,
    write_report,
)
from partsig.sleep.report.sections import cell
from partsig.sleep.report.sentences import count_noun, ends, number, with_interval
from partsig.sleep.report.statistics import STATISTICS

# Rows of the table of confused stages.
MOST = 6


def write(
    folder: Path, whole: BetweenScorers, recordings: Sequence[ComparedRecording]
) -> dict[str, object]:
    """Write report.html, report.json and recordings' own pages; return what the JSON holds."""
    written = whole.as_facts() | {"verdict": verdict(whole), "limits": limits(whole)}
    write_report(folder, written, page(whole, recordings), recording_pages(whole, recordings))
    return written


def page(whole: BetweenScorers, recordings: Sequence[ComparedRecording]) -> str:
    """Return the page of all; the recordings are on it unless they are many."""
    several = len(whole.scorers) > 2
    n = whole.n_subjects
    body = [
        facts(
            {
                whole.measure: number(whole.kappa["value"]),
                "95 % interval": ends(whole.kappa),
                "all the same stage" if several else "the same stage": (
                    f"{number(100 * whole.unanimous['value'], 0)} %"
                ),
                "scorers": str(len(whole.scorers)),
                "subject" if n == 1 else "subjects": f"{n:,}",
                "recordings": f"{whole.n_recordings:,}",
                "epochs all scored": f"{whole.n_epochs:,}",
                "epochs left out": f"{whole.n_left_out:,}",
            }
        ),
        '<div class="two"><div class="box"><h3>What was found</h3>',
        f'{bullets(verdict(whole))}</div><div class="box stop">'
        f"<h3>What this page does not tell</h3>{bullets(limits(whole))}</div></div>",
        *_agreement(whole),
        *_differences(whole),
        *between_statistics.section(whole),
        *_recordings(whole, recordings),
        *_about_scorers(whole),
    ]
    return document(f"Scorers compared: {joined(whole.names)}", _about(whole), body, REPORT)


def recording_pages(
    whole: BetweenScorers, recordings: Sequence[ComparedRecording]
) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every recording's own page; none where they are few."""
    files = _files(whole)
    by_name = {recording.name: recording for recording in recordings}
    longest = max(len(recording.differ) for recording in recordings)
    for row in whole.recordings if files else ():
        body = [
            links(files, row.recording),
            legend(),
            *_recording(whole, row, by_name[row.recording], longest),
            "<h3>Agreement</h3>",
            scrolling(
                ["", "Cohen's kappa"],
                [[p.label, number(k)] for p, k in zip(whole.pairs, row.pairs, strict=True)],
            ),
            "<h3>Sleep statistics</h3>",
            scrolling(
                ["", *whole.names],
                [
                    [f"{key} ({unit})", *(cell(row.statistics[s][key]) for s in whole.names)]
                    for key, (unit, _) in STATISTICS.items()
                ],
            ),
        ]
        yield (
            files[row.recording],
            document(row.recording, f"{joined(whole.names)}. {_about(whole)}", body, REPORT),
        )


def _files(whole: BetweenScorers) -> dict[str, str]:
    return files_of(row.recording for row in whole.recordings)


def _about(whole: BetweenScorers) -> str:
    return (
        f"Recordings of {whole.store}, reported {whole.date[:10]} by partsig {__version__}. Epochs "
        f"of {EPOCH_S:.0f} s; what any of the scorers left unscored counts nowhere."
    )


def _agreement(whole: BetweenScorers) -> list[str]:
    several = len(whole.scorers) > 2
    points = [(r.recording, r.subject, r.kappa) for r in whole.recordings if r.kappa is not None]
    parts = ["<h2>Agreement</h2>"]
    if points and whole.kappa["value"] is not None:
        drawn = charts.kappas(
            points, whole.kappa["value"], whole.kappa["interval_95"], whole.measure
        )
        caption = f"{whole.measure} of every recording; the band is the 95 % interval of all."
        parts.append(f'<div class="charts">{figure(caption, drawn, "wide")}</div>')
    parts += [
        "<h3>Pair by pair</h3>",
        scrolling(
            ["", "Cohen's kappa", "same stage (%)", *(f"F1 {stage}" for stage in STAGES)],
            [
                [
                    pair.label,
                    with_interval(pair.kappa),
                    with_interval(pair.accuracy, 0, 100),
                    *(with_interval(pair.f1[stage]) for stage in STAGES),
                ]
                for pair in whole.pairs
            ],
        ),
    ]
    if several:
        parts += [
            "<h3>Each scorer with the others</h3>",
            scrolling(
                ["", "epochs scored", "mean kappa with the others", "less that of the others"],
                [
                    [s.name, f"{s.n_epochs:,}", with_interval(s.with_others), with_interval(s.gap)]
                    for s in whole.scorers
                ],
            ),
        ]
    told = (
        "The last column is paired: each draw of subjects gives the mean kappa of the pairs with "
        "the scorer and of those without; below 0 the scorer agrees less than the others do. "
        if several
        else ""
    )
    parts.append(
        note(
            f"All on the same {count_noun(whole.n_epochs, 'epoch')}, which each of them scored. F1 "
            "does not ask who of the two is right: it is the same whichever is called the "
            f"reference. {told}In brackets 95 % intervals by bootstrap over subjects "
            f"({whole.bootstrap['draws']:,} draws), since epochs of one night are not independent."
        )
    )
    return parts


def _differences(whole: BetweenScorers) -> list[str]:
    """Return which stages are confused, and every pair's confusion matrix."""
    parts = ["<h2>Where they differ</h2>"]
    if whole.confused:
        rows = [
            [" and ".join(row.stages), f"{row.n:,}", f"{100 * row.share:.0f} %"]
            for row in whole.confused[:MOST]
        ]
        parts.append(scrolling(["one says, the other says", "epochs", "of all differences"], rows))
    counted = "Whichever of the two says which."
    if len(whole.pairs) > 1:
        counted += " An epoch counts once for each pair of scorers that differs on it."
    parts += [note(counted), '<div class="charts">']
    for pair in whole.pairs:
        caption = (
            f"What {pair.first} (rows) and {pair.second} (columns) called the same epochs: shares "
            "of a row, epochs."
        )
        drawn = charts.confusion(
            np.array(pair.confusion), brief(pair.first, 24), brief(pair.second, 24)
        )
        parts.append(figure(caption, drawn))
    return [*parts, "</div>"]


def _recordings(whole: BetweenScorers, recordings: Sequence[ComparedRecording]) -> list[str]:
    """Return the table of the recordings, and their hypnograms where they are few."""
    files = _files(whole)
    several = len(whole.pairs) > 1
    rows = [
        [
            link(row.recording, files[row.recording]) if files else row.recording,
            number(row.kappa),
            *([number(value) for value in row.pairs] if several else []),
            f"{100 * row.differ:.0f} %",
            f"{row.n_epochs:,}",
            f"{row.n_left_out:,}",
        ]
        for row in whole.recordings
    ]
    pairs = [_heading(pair) for pair in whole.pairs] if several else []
    head = ["recording", whole.measure, *pairs, "differ", "epochs", "left out"]
    own = (
        "Each has a page of its own, with its hypnograms, where they differ and its sleep "
        f"statistics, in the folder {FOLDER} beside this page. "
        if files
        else ""
    )
    parts = [
        "<h2>The recordings, lowest kappa first</h2>",
        note(
            f"{own}differ: the share of the epochs to which not all give the same stage; left out: "
            "epochs that some scored, but not all. Below the hypnograms, a height is the share of "
            "the pairs of scorers that differ."
        ),
        scrolling(head, rows),
    ]
    if not files:
        by_name = {recording.name: recording for recording in recordings}
        longest = max(len(recording.differ) for recording in recordings)
        parts.append(legend())
        for row in whole.recordings:
            parts += _recording(whole, row, by_name[row.recording], longest)
    return parts


def _heading(pair: PairFacts) -> str:
    return f"{pair.first} – {pair.second}"


def _recording(
    whole: BetweenScorers, row: RecordingFacts, recording: ComparedRecording, longest: int
) -> list[str]:
    """Return one recording's section: all hypnograms, where they differ, the longest stretches."""
    drawing = charts.scorings(recording.name, recording.stages, recording.differ, longest)
    who = [f"{row.age:.0f} years"] if row.age is not None else []
    who += [row.sex] if row.sex else []
    differ = f"{100 * row.differ:.0f} % differ"
    counts = [f"{whole.measure} {number(row.kappa)}", count_noun(row.n_epochs, "epoch"), differ]
    line = ", ".join([*counts, *who])
    stretches = "; ".join(
        f"{clock(item.onset_s)} for {item.n_epochs * EPOCH_S / 60:g} min ("
        + ", ".join(f"{scorer} {stage}" for scorer, stage in item.stages.items())
        + ")"
        for item in row.stretches
    )
    told = (
        "Longest stretches on which not all agree, from the recording's start, with what each "
        f"calls most of it: {stretches}."
        if stretches
        else "They agree on every epoch."
    )
    return [
        f'<section class="recording"><h3>{escape(row.recording)}<small>{escape(line)}</small></h3>'
        f'<div class="strip">{drawing}</div>{note(told)}</section>'
    ]


def _about_scorers(whole: BetweenScorers) -> list[str]:
    rows = [
        [scorer.name, scorer.folder or f"the labels of {whole.store}"] for scorer in whole.scorers
    ]
    rows += [
        [what, f"{len(names):,}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"]
        for what, names in (
            ("recordings without a file of any scorer", whole.unread),
            ("recordings without an epoch that all scored", whole.apart),
        )
        if names
    ]
    rows.append(["software", ", ".join(f"{k} {v}" for k, v in whole.environment.items())])
    lines = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    return [
        "<h2>What was compared</h2>",
        f'<table class="about-model">{lines}</table>',
        note(
            "Methods: Cohen 1960, Fleiss 1971; intervals by bootstrap over subjects (Efron and "
            "Tibshirani 1993); Bland and Altman 1999, as in Menghini et al. 2021, by YASA (Vallat "
            "and Walker 2021); people's agreement elsewhere from Lee et al. 2022. All figures are "
            "in report.json beside this page."
        ),
    ]
