"""Sections of a report: sleep statistics, subgroups, and whether its confidence can be trusted."""

from collections.abc import Iterable
from html import escape

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.html import bullets, figure, note, scrolling
from partsig.sleep.report import charts
from partsig.sleep.report.agreement import FEW
from partsig.sleep.report.sentences import number, review_line, with_interval
from partsig.sleep.report.statistics import NIGHT_H, STATISTICS

# Charts and columns; the other statistics are in the table of limits.
SHOWN = ("TST", "SE", "SOL", "REM latency", "WASO", "N1", "N2", "N3", "REM")
KEYS = ("kappa", "gain")
# What is said where an assumption behind the limits of agreement fails.
BREACHES = {
    "constant_bias": "trend",
    "homoscedastic": "spread",
    "normal": "shape",
}


def statistics(results: dict) -> list[str]:
    """Return sleep statistics by YASA: Bland–Altman table and charts, and every recording."""
    parts = ["<h2>Sleep statistics, predicted against scored</h2>"]
    if results["n_short"]:
        parts.append(
            "<p><b>"
            + escape(
                f"{results['n_short']:,} of {results['n_recordings']:,} recordings have less than "
                f"{NIGHT_H:g} h of scored signal: their figures describe the excerpt, not the "
                "sleeper's night."
            )
            + "</b></p>"
        )
    gaps = sum(row["unscored_inside"] for row in results["recordings"])
    between = f" ({gaps:,} epochs lie between scored ones)" if gaps else ""
    parts.append(
        note(
            "Computed by YASA from both hypnograms in the same way: from the first scored epoch to "
            f"the last; epochs without the scorer's stage{between} are unscored in both and count "
            "neither as sleep nor as wake. Time scored and efficiency leave them out; latencies "
            "are on the clock and pass over them. REM latency is counted from sleep onset. A "
            "difference is predicted less scored; limits of agreement are mean ± 1.96 SD of the "
            "differences, in brackets 95 % intervals. Beware, by YASA's tests, of limits whose "
            "differences change with the value (trend), scatter more or less with it (spread) or "
            "are skewed or have outliers (shape): look at the chart."
        )
    )
    drawn = []
    for key in SHOWN:
        row = results["bland_altman"][key]
        if "bias" in row:
            pairs = [
                (r["recording"], r["scored"][key], r["predicted"][key])
                for r in results["recordings"]
            ]
            drawn.append(bland_altman_chart(key, pairs, row))
    parts.append(limits_table(results["bland_altman"]))
    undefined = [
        f"{key} in {row['undefined']:,}"
        for key, row in results["bland_altman"].items()
        if row["undefined"]
    ]
    if undefined:
        parts.append(
            note(
                f"Undefined in one scoring or both, and left out: {', '.join(undefined)} "
                "recordings (no sleep, or no REM, in them)."
            )
        )
    parts += ['<h3>Bland–Altman charts</h3><div class="charts">' if drawn else "<div>", *drawn]
    parts.append("</div><h3>Every recording: scored → predicted</h3>")
    lines = [
        [
            row["recording"],
            number(row["kappa"]),
            number(row["scored"]["TIB"], 0),
            *(f"{cell(row['scored'][key])} → {cell(row['predicted'][key])}" for key in SHOWN),
            *(
                f"{cell(row['scored'][f'%{s}'])} → {cell(row['predicted'][f'%{s}'])}"
                for s in STAGES[1:]
            ),
        ]
        for row in results["recordings"]
    ]
    units = [f"{key} ({STATISTICS[key][0]})" for key in SHOWN]
    shares = [f"{s} (%)" for s in STAGES[1:]]
    parts.append(scrolling(["recording", "kappa", "scored (min)", *units, *shares], lines))
    return parts


def limits_table(bland_altman: dict[str, dict]) -> str:
    """Return mean difference and limits of agreement of every statistic."""
    rows = []
    for key, (unit, _) in STATISTICS.items():
        row = bland_altman[key]
        cells = [f"{key} ({unit})", row["n"]]
        if "bias" not in row:
            rows.append([*cells, row["why"], "", "", ""])
            continue
        for end in ("bias", "lower", "upper"):
            both = {"value": row[end], "interval_95": row[f"{end}_interval"]}
            cells.append(with_interval(both, 1))
        rows.append([*cells, breaches(row)])
    return scrolling(
        ["", "recordings", "mean difference", "lower limit", "upper limit", "beware"], rows
    )


def breaches(row: dict) -> str:
    """Return which assumptions behind the limits of a statistic fail."""
    return ", ".join(text for name, text in BREACHES.items() if not row["holds"][name])


def bland_altman_chart(
    key: str,
    pairs: Iterable[tuple[str, float, float]],
    row: dict,
    words: tuple[str, str] = ("scored", "predicted"),
) -> str:
    """Return the chart of a statistic by recording; where one is undefined there is no dot."""
    unit, what = STATISTICS[key]
    label = key if key not in STAGES else f"minutes of {key}"
    known = [(name, a, b) for name, a, b in pairs if np.isfinite(a) and np.isfinite(b)]
    return figure(f"{key}: {what}", charts.bland_altman(label, unit, known, row, words))


def night_statistics(row: dict) -> list[str]:
    """Return one recording's sleep statistics, scored and predicted."""
    lines = [
        [f"{key} ({STATISTICS[key][0]})", cell(row["scored"][key]), cell(row["predicted"][key])]
        for key in ("TIB", *SHOWN, *(f"%{stage}" for stage in STAGES[1:]))
    ]
    return ["<h3>Sleep statistics</h3>", scrolling(["", "scored", "predicted"], lines)]


def cell(value: float) -> str:
    """Return a figure in three digits or so: a tenth of a minute says nothing beside a hundred."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def subgroups(results: dict) -> list[str]:
    """Return kappa by age and sex; nothing where the store knows neither."""
    rows = results["subgroups"]
    if not rows:
        return []
    shown = [
        [
            f"{row['by']}: {row['group']}",
            row["subjects"],
            f"{row['epochs']:,}",
            with_interval(row["kappa"]),
            "few" if row["few"] else "",
        ]
        for row in rows
    ]
    parts = [
        "<h2>By age and sex</h2>",
        scrolling(["", "subjects", "epochs", "kappa", ""], shown),
        note(
            "Ages in years, as the store has them. A difference between groups may be chance, and "
            "kappa also depends on how often each stage occurs in a group."
        ),
    ]
    if any(row["few"] for row in rows):
        parts.append(
            note(
                f"few: fewer than {FEW} subjects, so that the interval is too narrow and a kappa "
                "may be one sleeper's."
            )
        )
    return parts


def trust(results: dict) -> list[str]:
    """Return calibration and what a review is worth."""
    told, temperature = results["calibration"], results["calibration"]["temperature"]
    ece = {"value": told["ece"], "interval_95": told["ece_interval_95"]}
    worse = ", which did not help here" if told["ece"] > told["ece_uncalibrated"] else ""
    parts = [
        "<h2>Can its confidence be trusted?</h2>",
        bullets(
            [
                f"Expected calibration error {with_interval(ece, 3)} on these epochs, "
                f"{number(told['ece_uncalibrated'], 3)} before the temperature "
                f"({temperature:.2f}) that was fitted on the validation subjects{worse}.",
                review_line(results["review"]) or "What a review is worth is undefined here.",
            ]
        ),
        '<div class="charts">',
        figure(
            "Confidence against the share that agrees; on the dashed line it is what it says. "
            "Areas are epochs.",
            charts.reliability(np.array(told["table"])),
        ),
    ]
    if None not in results["review"]["kappa_reviewed"]:
        parts.append(
            figure(
                "Kappa after review: blue, the most doubtful epochs set to the scorer's stage "
                "(band: 95 % interval); red dots, as many at random; grey dashes, the other "
                "epochs alone.",
                charts.review(results["review"]),
            )
        )
    return [*parts, "</div>"]


def robustness(measured: dict[str, dict]) -> list[str]:
    """Return kappa by channels and by when epochs are cut, where ``evaluate`` was asked for it."""
    parts = []
    if "channel_ablation" in measured:
        rows = [
            [row["label"], _measured(row, "kappa"), _measured(row, "gain")]
            for row in measured["channel_ablation"]["rows"]
        ]
        parts += [
            "<h2>With fewer channels</h2>",
            scrolling(["channels", "kappa", "less all"], rows),
            note("The others are zeros. Differences are paired: each draw of subjects gives both."),
        ]
    if "epoch_shift" in measured:
        told = measured["epoch_shift"]
        rows = [
            [f"{row['shift_s']:g} s"]
            + [_measured(row, f"{key}{end}") for end in ("", "_one_class") for key in KEYS]
            for row in told["rows"]
        ]
        head = [
            "epochs cut later by",
            "kappa",
            "less no shift",
            "within one stage",
            "less no shift",
        ]
        parts += [
            "<h2>With epochs cut at another time</h2>",
            scrolling(head, rows),
            note(
                f"Of {told['n_epochs']:,} epochs that another scored one follows; an epoch has the "
                "stage of the scored one that covers most of it. Within one stage: the "
                f"{told['n_epochs_one_class']:,} whose next has the same stage."
            ),
        ]
    return parts


def _measured(row: dict, key: str) -> str:
    return with_interval({"value": row[key], "interval_95": row[f"{key}_interval_95"]})
