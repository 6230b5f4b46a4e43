"""The pages of a report: HTML without script, charts inside; one page, or one a recording."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from partsig import __version__
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.sleep.html import (
    REPORT,
    bullets,
    document,
    facts,
    figure,
    link,
    note,
    scrolling,
)
from partsig.sleep.report import charts, sections
from partsig.sleep.report.agreement import ScoredRecording
from partsig.sleep.report.recording_pages import (
    FOLDER,
    ON_ONE_PAGE,
    clock,
    files_of,
    legend,
    links,
)
from partsig.sleep.report.sentences import (
    count_noun,
    ends,
    filtered,
    number,
    population,
    with_interval,
)


def page(results: dict, nights: Sequence[ScoredRecording]) -> str:
    """Return the page of what ``report`` measured, all recordings on it unless they are many."""
    n = results["n_subjects"]
    body = [
        facts(
            {
                "Cohen's kappa": number(results["kappa"]["value"]),
                "95 % interval": ends(results["kappa"]),
                "same stage": f"{number(results['yasa']['accuracy'], 0)} %",
                "subject" if n == 1 else "subjects": f"{n:,}",
                "recordings": f"{results['n_recordings']:,}",
                "scored epochs": f"{results['n_epochs']:,}",
            }
        ),
        '<div class="two"><div class="box"><h3>What was found</h3>',
        f'{bullets(results["verdict"])}</div><div class="box stop">'
        "<h3>What this model must not be used for</h3>"
        f"{bullets(results['limits'])}</div></div>",
        *_agreement(results),
        *_scorers(results),
        *sections.statistics(results),
        *sections.subgroups(results),
        *sections.trust(results),
        *sections.robustness(results["robustness"]),
        *(_recordings(results, nights) if len(nights) <= ON_ONE_PAGE else _listed(results)),
        *_model(results),
    ]
    return document(f"Agreement report: {Path(results['run']).name}", _about(results), body, REPORT)


def night_pages(results: dict, nights: Sequence[ScoredRecording]) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every recording's own page; none where they are few."""
    if len(nights) <= ON_ONE_PAGE:
        return
    by_name = {night.name: night for night in nights}
    longest = max(len(night.truth) for night in nights)
    files = _files(results)
    for row in results["recordings"]:
        name = row["recording"]
        body = [
            links(files, name),
            legend(),
            *_recording(row, by_name[name], longest),
            *sections.night_statistics(row),
        ]
        yield (
            files[name],
            document(name, f"Agreement with the scorer. {_about(results)}", body, REPORT),
        )


def _files(results: dict) -> dict[str, str]:
    return files_of(row["recording"] for row in results["recordings"])


def _about(results: dict) -> str:
    return (
        f"{results['run']} on {results['store']}{' (external)' if results['external'] else ''}, "
        f"evaluated {results['evaluated'][:10]}, reported {results['date'][:10]} by partsig "
        f"{__version__}. Epochs of {EPOCH_S:.0f} s; what the scorer left unscored counts nowhere."
    )


def _agreement(results: dict) -> list[str]:
    points = [
        (row["recording"], row["subject"], row["kappa"])
        for row in results["recordings"]
        if row["kappa"] is not None
    ]
    stages = [
        [
            row["stage"],
            f"{row['epochs']:,}",
            *(with_interval(row[key]) for key in ("f1", "recall", "precision")),
        ]
        for row in results["stages"]
    ]
    mean, sd = results["kappa_per_recording_mean"], results["kappa_per_recording_sd"]
    each = "" if mean is None or sd is None else f" Over recordings {mean:.2f} ± {sd:.2f} (SD)."
    single = sum(row["n_stages"] == 1 for row in results["recordings"])
    if single:
        each += (
            f" {count_noun(single, 'recording')} of one scored stage: there kappa is 0 or "
            "undefined, whatever agrees."
        )
    parts = ["<h2>Agreement with the scorer</h2>", '<div class="charts">']
    if points:
        caption = f"Kappa of every recording; the band is the 95 % interval of all.{each}"
        parts.append(
            figure(
                caption,
                charts.kappas(points, results["kappa"]["value"], results["kappa"]["interval_95"]),
                "wide",
            )
        )
    parts += [
        figure(
            "Scored stages (rows) and what the model called them: shares of a row, epochs.",
            charts.confusion(np.array(results["confusion"])),
        ),
        "</div><h3>By stage</h3>",
        scrolling(["stage", "scored epochs", "F1", "recall", "precision"], stages),
        note(
            "Recall: of the epochs scored so, the share predicted so; precision: the other way "
            "round. In brackets 95 % intervals by bootstrap over subjects "
            f"({results['bootstrap']['draws']:,} draws), since epochs of one night are not "
            "independent."
        ),
    ]
    return parts


def _scorers(results: dict) -> list[str]:
    parts = []
    for name, scorer in results["scorers"].items():
        rows = [
            ["model and first scorer", with_interval(scorer["model_first"])],
            [f"{name} and first scorer", with_interval(scorer["first_second"])],
            [f"model and {name}", with_interval(scorer["model_second"])],
            [
                f"(model, first) less ({name}, first)",
                with_interval(scorer["gain_first"]),
            ],
            [f"(model, {name}) less (first, {name})", with_interval(scorer["gain_second"])],
        ]
        parts += [
            f"<h2>Beside a second scorer: {escape(name)}</h2>",
            '<div class="charts"><div>',
            scrolling(["on the same epochs", "kappa"], rows),
            note(
                f"{count_noun(scorer['n_epochs'], 'epoch')} of "
                f"{count_noun(scorer['n_subjects'])} that both people scored. The last two rows "
                "are paired: each draw of subjects gives both kappas. Below 0 the model agrees "
                "less than the two people do."
            ),
            "</div>",
            figure(
                f"What the first scorer (rows) and {name} (columns) called the same epochs.",
                charts.confusion(np.array(scorer["confusion_first_second"]), "first scorer", name),
            ),
            "</div>",
        ]
    return parts


def _recordings(results: dict, nights: Sequence[ScoredRecording]) -> list[str]:
    by_name = {night.name: night for night in nights}
    longest = max(len(night.truth) for night in nights)
    parts = ["<h2>The recordings, lowest kappa first</h2>", legend()]
    for row in results["recordings"]:
        parts += _recording(row, by_name[row["recording"]], longest)
    return parts


def _listed(results: dict) -> list[str]:
    """Return the recordings as a table that leads to their own pages."""
    rows = [
        [
            link(row["recording"], file),
            number(row["kappa"]),
            f"{number(row['accuracy'], 0)} %",
            f"{row['epochs']:,}",
            "" if row["age"] is None else f"{row['age']:.0f}",
            row["sex"] or "",
        ]
        for row, file in zip(results["recordings"], _files(results).values(), strict=True)
    ]
    head = ["recording", "kappa", "same stage", "scored epochs", "age", "sex"]
    return [
        "<h2>The recordings, lowest kappa first</h2>",
        note(
            "Each has a page of its own, with its hypnograms, where they differ and the least "
            f"confident epochs, in the folder {FOLDER} beside this page."
        ),
        scrolling(head, rows),
    ]


def _recording(row: dict, night: ScoredRecording, longest: int) -> list[str]:
    """Return one recording's section: both hypnograms, confidence, and the doubtful epochs."""
    drawing = charts.night(night.name, night.truth, night.predicted, night.confidence, longest)
    who = [f"{row['age']:.0f} years"] if row["age"] is not None else []
    who += [row["sex"]] if row["sex"] else []
    line = ", ".join([f"kappa {number(row['kappa'])}", count_noun(row["epochs"], "epoch"), *who])
    doubtful = "; ".join(
        f"{clock(item['onset_s'])} {item['predicted']} ({100 * item['confidence']:.0f} %, "
        f"scored {item['scored']})"
        for item in row["doubtful"]
    )
    return [
        f'<section class="recording"><h3>{escape(night.name)}<small>{escape(line)}</small></h3>'
        f'<div class="strip">{drawing}</div>'
        + note(f"Least confident, from the recording's start: {doubtful}.")
        + "</section>"
    ]


def _model(results: dict) -> list[str]:
    model, pretraining = results["model"], results["model"]["pretraining"]
    if pretraining:
        before = (
            f"{pretraining['objective']} on {count_noun(model['pretraining_subjects'])} without "
            f"labels (seed {pretraining['seed']}), {model['from']}"
        )
    else:
        before = "none (trained from scratch)"
    seen = model["seen_in_pretraining"]
    shown = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
    labels = [
        f"{count_noun(n, 'epoch')} of {count_noun(m)} ({what})"
        for n, m, what in (
            (model["epochs_train"], model["train_subjects"], "training"),
            (model["epochs_val"], model["val_subjects"], "validation: choice and temperature"),
        )
        if n is not None
    ]
    rows = [
        ["model", f"{model['model']}, trained {model['train']}, seed {model['seed']}"],
        ["trained on", population(model)],
        ["labels used", "; ".join(labels)],
        ["pretraining", before],
        ["test subjects seen in pretraining", f"{len(seen):,}: {shown}" if seen else "none"],
        ["test subjects used for labels", "none (refused by evaluate)"],
        ["channels", ", ".join(model["ch_names"])],
        ["signal", f"{model['sfreq']:g} Hz, {filtered(model)}"],
        ["finished", model["finished"]],
        ["software", ", ".join(f"{k} {v}" for k, v in results["environment"].items())],
    ]
    lines = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    return [
        "<h2>What the model was trained on</h2>",
        f'<table class="about-model">{lines}</table>',
        note(
            "Methods: intervals by bootstrap over subjects (Efron and Tibshirani 1993); Bland and "
            "Altman 1999, as in Menghini et al. 2021, by YASA (Vallat and Walker 2021); "
            "calibration after Guo et al. 2017; people's agreement elsewhere from Lee et al. 2022. "
            "All figures are in report.json beside this page."
        ),
    ]
