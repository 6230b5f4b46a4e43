"""The usual table of ``compare``: methods by budget, on one test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsig import registries
from partsig.errors import ConfigError, DataError
from partsig.files import check_replaceable, read_json, write_text
from partsig.recipes.comparison import Row, as_csv, as_markdown, compare_rows, other_settings
from partsig.recipes.comparison_tables import ComparisonRequest
from partsig.runs import directory as runs
from partsig.runs.settings import SCRATCH
from partsig.runs.test_results import EvaluatedRun, load


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows, what they were measured on, and the files that were written.

    ``measure`` names the score; the test set has ``n_units`` subjects or images and ``n_answers``
    epochs or images; ``unit`` is what budgets count.
    """

    rows: list[Row]
    reference: str
    measure: str
    unit: str
    n_units: int
    n_answers: int
    markdown: str
    path: Path
    figure: Path


def compare_methods(asked: ComparisonRequest) -> Comparison:
    """Compare runs on one test set; write a table (Markdown, CSV) and a figure.

    Gains are counted from ``against`` (scratch, else the first).
    """
    results, metric = load(asked.run)
    methods = list(dict.fromkeys(item.method for item in results))
    reference = asked.against or (SCRATCH if SCRATCH in methods else methods[0])
    if reference not in methods:
        raise ConfigError(f"--against {reference}: no such method; there are {', '.join(methods)}.")
    rows = compare_rows(results, metric, reference, asked.seed)
    folder = asked.output or runs.RUNS / "compare"
    unit, n_units, n_answers = results[0].unit, len(results[0].counts), results[0].n_answers
    text = as_markdown(rows, reference, metric, unit, n_units, n_answers, asked.seed)
    text += other_settings(results) + _of_stores(results, metric.answers) + _of_channels(results)
    for name in ("compare.csv", "compare.md", "compare.png"):
        check_replaceable(folder / name, b",budget,n_runs,", folder / "compare.csv")
    write_text(folder / "compare.csv", as_csv(rows, metric.name))
    write_text(folder / "compare.md", text + "\n")
    draw = registries.at("partsig.figures.classification:label_curve")  # matplotlib, then
    figure = draw(rows, methods, metric.title, metric.units, unit, folder / "compare.png")
    return Comparison(
        rows=rows,
        reference=reference,
        measure=metric.name,
        unit=unit,
        n_units=n_units,
        n_answers=n_answers,
        markdown=text,
        path=folder,
        figure=figure,
    )


def _of_stores(results: Sequence[EvaluatedRun], answers: str) -> str:
    """Return what is said where runs were trained on several stores, else nothing."""
    if len({source for _, source in (item.store for item in results)}) < 2:
        return ""
    stores: dict[str, set[str]] = {}
    for item in results:
        stores.setdefault(item.method, set()).add(item.store[0])
    told = "; ".join(f"{method} of {', '.join(sorted(own))}" for method, own in stores.items())
    return (
        f"\n\nRuns are of several stores, with the same test {answers}, one by one: {told}. A "
        "difference may be that of the stores."
    )


def _of_channels(results: Sequence[EvaluatedRun]) -> str:
    """Return which methods were judged with zeros for channels that recordings lack."""
    lacking: dict[str, set[str]] = {}
    for item in results:
        each = (f"{name} in {n:,} recordings" for name, n in _filled(item.path).items())
        lacking.setdefault(item.method, set()).update(each)
    return "".join(
        f"\n\n{method} was judged with zeros in the place of channels that recordings lack: "
        f"{', '.join(sorted(each))}."
        for method, each in lacking.items()
        if each
    )


def _filled(path: Path) -> dict[str, int]:
    """Return channels that zeros stood for as a run was judged, and in how many recordings."""
    file = path / "evaluation" / "metrics.json"
    try:
        told = read_json(file).get("channels_missing", {}) if file.is_file() else {}
        return {str(name): int(n) for name, n in told.items()}
    except (AttributeError, TypeError, ValueError, OSError):
        raise DataError(f"{file} is damaged; evaluate {path} again.") from None
