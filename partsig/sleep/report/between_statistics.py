"""Sleep statistics of scorers held against each other, as a section of their page."""

from html import escape

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.html import note, scrolling
from partsig.sleep.report.between_scorers import BetweenScorers
from partsig.sleep.report.between_sentences import brief
from partsig.sleep.report.recording_pages import ON_ONE_PAGE
from partsig.sleep.report.sections import (
    SHOWN,
    bland_altman_chart,
    breaches,
    cell,
    limits_table,
)
from partsig.sleep.report.sentences import number
from partsig.sleep.report.statistics import NIGHT_H, STATISTICS

# What is charted of several pairs; of one, all that is shown.
CHARTED = ("TST", "WASO")


def section(whole: BetweenScorers) -> list[str]:
    """Return every scorer's statistics, their differences, and every recording of few."""
    parts = ["<h2>Sleep statistics</h2>"]
    if whole.n_short:
        words = (
            f"{whole.n_short:,} of {whole.n_recordings:,} recordings have less than {NIGHT_H:g} h "
            "of signal that all scored: their figures describe the excerpt, not the sleeper's "
            "night."
        )
        parts.append(f"<p><b>{escape(words)}</b></p>")
    keys = ("TIB", *SHOWN, *(f"%{stage}" for stage in STAGES[1:]))
    parts += [
        note(
            "Computed by YASA from every scorer's hypnogram in the same way: from the first epoch "
            "that all scored to the last; epochs that any of them left unscored count neither as "
            "sleep nor as wake. TIB and SE leave them out; latencies are on the clock and pass "
            "over them. REM latency is counted from sleep onset."
        ),
        "<h3>Each scorer: mean ± SD of the recordings</h3>",
        scrolling(
            ["", *(f"{key} ({STATISTICS[key][0]})" for key in keys)],
            [[s.name, *(_mean(s.statistics[key]) for key in keys)] for s in whole.scorers],
        ),
        "<h3>Differences</h3>",
        *_limits(whole),
    ]
    if whole.n_recordings <= ON_ONE_PAGE:
        rows = [
            [row.recording, scorer, *(cell(row.statistics[scorer][key]) for key in keys)]
            for row in whole.recordings
            for scorer in whole.names
        ]
        head = ["recording", "scorer", *(f"{key} ({STATISTICS[key][0]})" for key in keys)]
        parts += ["<h3>Every recording</h3>", scrolling(head, rows)]
    return parts


def _mean(spread: dict) -> str:
    """Return mean and SD in the digits of the mean."""
    mean, sd = spread["mean"], spread["sd"]
    if mean is None:
        return "–"
    digits = 0 if mean >= 20 else 1
    return number(mean, digits) + ("" if sd is None else f" ± {number(sd, digits)}")


def _limits(whole: BetweenScorers) -> list[str]:
    """Return mean differences and limits of agreement of every pair, and their charts."""
    single = len(whole.pairs) == 1
    if single:
        pair = whole.pairs[0]
        parts = [limits_table(pair.bland_altman)]
        read = f"{pair.second} less {pair.first}"
        brackets = "in brackets 95 % intervals"
    else:
        parts = [
            scrolling(
                ["", *(f"{key} ({STATISTICS[key][0]})" for key in SHOWN)],
                [
                    [
                        f"{pair.second} − {pair.first}",
                        *(_compact(pair.bland_altman[key]) for key in SHOWN),
                    ]
                    for pair in whole.pairs
                ],
            )
        ]
        read = "the one scorer less the other"
        brackets = "here in brackets, * where they are to be read with care"
    parts.append(
        note(
            f"A difference is {read}, on average; limits of agreement are mean ± 1.96 SD of the "
            f"differences, {brackets}. Beware, by YASA's tests, of limits whose differences change "
            "with the value (trend), scatter more or less with it (spread) or are skewed or have "
            "outliers (shape): look at the chart."
        )
    )
    drawn = [
        bland_altman_chart(
            key,
            [
                (r.recording, *(r.statistics[s][key] for s in (pair.first, pair.second)))
                for r in whole.recordings
            ],
            pair.bland_altman[key],
            (brief(pair.first, 12), brief(pair.second, 12)),
        )
        for key in (SHOWN if single else CHARTED)
        for pair in whole.pairs
        if "bias" in pair.bland_altman[key]
    ]
    if drawn:
        parts += ['<h3>Bland–Altman charts</h3><div class="charts">', *drawn, "</div>"]
    return parts


def _compact(row: dict) -> str:
    if "bias" not in row:
        return "–" if row["why"].startswith("defined") else "same in all"
    beware = " *" if breaches(row) else ""
    low, high = number(row["lower"], 0), number(row["upper"], 0)
    return f"{number(row['bias'], 1)} ({low} to {high}){beware}"
