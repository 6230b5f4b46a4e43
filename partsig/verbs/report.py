"""``partsig report``: an evaluated run in, or scorers; one page on their agreement out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from partsig import config as configs
from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.data.signals.store import open_store
from partsig.data.store import locate
from partsig.files import read_json
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.evaluation_folder import evaluation_of, is_of
from partsig.runs import directory as runs
from partsig.runs.run import Run
from partsig.sleep.exports.paths import file_stem
from partsig.sleep.report import agreement, between_page, measures, scorers, sentences
from partsig.sleep.report import statistics as sleep_statistics
from partsig.sleep.report.between_scorers import compare
from partsig.sleep.report.compared import gather
from partsig.sleep.report.page import night_pages, page
from partsig.sleep.report.recording_pages import write_report
from partsig.sleep.settings import ReportConfig

# What evaluate writes that a report needs; an evaluation without is of an older partsig.
NEEDED = ("calibration", "review", "confusion", "kappa_per_recording")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where the report is, its page, every figure on it, and what was found in a few sentences."""

    path: Path
    page: Path
    metrics: dict
    summary: list[str]


def report(
    run: str | Path | Literal[False] | None = None,
    *,
    store: str | Path | None = None,
    scorer: Mapping[str, str | Path] | Iterable[str] | None = None,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
    seed: int = 0,
    allow_http: bool = False,
) -> Report:
    """Write a page on how a fine-tuned run agrees with the scorer of its test recordings.

    ``run`` defaults to the fine-tuning run that finished last, ``store`` to its own (its test
    subjects; all labelled subjects of another). Evaluates first where that is missing or older than
    the run. ``scorer``: further people's hypnograms of the same recordings, folders by name or
    ``NAME=FOLDER`` texts; ``overrides`` are fields of
    :class:`~partsig.sleep.settings.ReportConfig`, how those are read. ``output`` defaults
    to the evaluation's folder; report.html, which needs no network, and report.json are written
    there; of more than 20 recordings, each has a page of its own in report/, linked from there.

    With ``run=False`` no model is asked: the scorers are held against each other, and against the
    labels of ``store`` (``data/store/physionet2018``) where it has any, on the recordings of which
    they have files. ``output`` then defaults to ``runs/report-STORE-NAMES``.
    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises ConfigError where YASA is not installed, or without a run fewer than two scorings are
    there, and DataError when a scorer's hypnograms are not of these recordings.
    """
    settings = configs.compose(ReportConfig, "report", None, overrides)
    folders = scorer if isinstance(scorer, Mapping) else scorers.parse(scorer or ())
    if run is False:
        store = None if store is None else locate(store, allow_http=allow_http)
        return _between_scorers(store, folders, output, settings, seed)
    from partsig.sleep.staging_task import staging_run  # it needs torch

    path = Path(run) if run else runs.last("finetune")
    trained = staging_run(path, SLEEP.unit_s)
    opened = open_store(locate(store, recorded=trained.facts["store"], allow_http=allow_http))
    sleep_statistics.import_yasa()
    folder, measured = _evaluated(trained, opened.path, device, seed)
    nights = agreement.read_predictions(folder / "predictions.csv", opened)
    seconds = {
        name: scorers.read_scorer(
            name, Path(place), opened, [night.name for night in nights], settings.hypnogram
        )
        for name, place in folders.items()
    }
    results = {
        "date": runs.now(),
        "environment": runs.environment(),
        "run": place_name(path),
        "store": place_name(opened.path),
        "external": measured["external"],
        "evaluated": measured["date"],
        "model": measures.model_facts(trained, measured),
        **measures.measure(nights, measured, seed),
        "scorers": {
            name: {"folder": place_name(folders[name])}
            | agreement.beside_scorer(nights, second, seed)
            for name, second in seconds.items()
        },
    }
    results |= {"verdict": sentences.verdict(results), "limits": sentences.limits(results)}
    where = Path(output) if output else folder
    written = measures.finite(results)
    write_report(where, written, page(results, nights), night_pages(results, nights))
    return Report(
        path=where, page=where / "report.html", metrics=written, summary=results["verdict"]
    )


def _between_scorers(
    store: str | Path | None,
    folders: Mapping[str, str | Path],
    output: str | Path | None,
    settings: ReportConfig,
    seed: int,
) -> Report:
    """Write the page of scorers of the same recordings, no run among them."""
    opened = open_store(Path(store or runs.STORES / registry.of({}).default_source))
    sleep_statistics.import_yasa()
    compared = gather(opened, {name: Path(place) for name, place in folders.items()}, settings)
    name = file_stem("-".join([opened.path.resolve().name, *folders]))
    where = Path(output or runs.RUNS / f"report-{name}")
    written = between_page.write(where, compare(compared, seed), compared.recordings)
    return Report(
        path=where, page=where / "report.html", metrics=written, summary=written["verdict"]
    )


def _evaluated(run: Run, store: Path, device: str, seed: int) -> tuple[Path, dict]:
    """Return the folder of the evaluation and its metrics, made anew where they are out of date."""
    folder, _ = evaluation_of(run, store)
    try:
        measured = read_json(folder / "metrics.json")
        whole = (folder / "predictions.csv").is_file() and all(key in measured for key in NEEDED)
        same = is_of(measured, store)
        # Both are UTC in ISO 8601, so that their order as texts is that of time.
        if whole and same and measured["date"] >= run.facts["finished"]:
            return folder, measured
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or damaged: it is made anew
    from partsig.verbs.evaluate import evaluate  # it needs torch

    evaluated = evaluate(run.path, store, device=device, seed=seed)
    return evaluated.path, evaluated.metrics
