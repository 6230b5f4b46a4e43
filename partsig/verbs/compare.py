"""``partsig compare``: fine-tuned runs in, one table of methods and budgets out."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsig.data.store import locate
from partsig.errors import ConfigError, DataError
from partsig.files import check_replaceable, write_text
from partsig.recipes.comparison import Row, as_csv, as_markdown, compare_rows
from partsig.runs import directory as runs
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH
from partsig.runs.test_results import load, named_run
from partsig.verbs.evaluate import evaluate


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


def compare(
    run: Sequence[str | Path],
    *,
    against: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Comparison:
    """Compare fine-tuned runs on one test set; write a table (Markdown, CSV) and a figure.

    ``run`` are run directories, all on signals (compared by kappa, over subjects) or all on images
    (accuracy, over images); or ``LABEL=DIRECTORY`` to name a method: its name is otherwise the
    pretraining run's without seed, or the model trained from scratch. Runs that differ only in
    their seeds are one method. A run that was never evaluated is evaluated first. ``against`` is
    the method that gains are counted from (default: scratch, else the first). ``output`` defaults
    to ``runs/compare``.

    Raises CheckpointError, ConfigError or DataError when runs cannot be compared: of two
    modalities, with other test subjects, channels or filters, with budgets of two kinds, the same
    method and draw twice.
    """
    if not run:
        raise ConfigError("no run to compare; name two or more run directories.")
    for item in run:
        _evaluate_once(named_run(item)[1], device)
    results, metric = load(run)
    methods = list(dict.fromkeys(item.method for item in results))
    reference = against or (SCRATCH if SCRATCH in methods else methods[0])
    if reference not in methods:
        raise ConfigError(f"--against {reference}: no such method; there are {', '.join(methods)}.")
    rows = compare_rows(results, metric, reference, seed)
    folder = Path(output or runs.RUNS / "compare")
    unit, n_units = results[0].unit, len(results[0].counts)
    n_answers = results[0].n_answers
    text = as_markdown(rows, reference, metric, unit, n_units, n_answers, seed)
    for name in ("compare.csv", "compare.md", "compare.png"):
        check_replaceable(folder / name, b",budget,n_runs,", folder / "compare.csv")
    write_text(folder / "compare.csv", as_csv(rows, metric.name))
    write_text(folder / "compare.md", text + "\n")
    from partsig.figures import classification as figures  # matplotlib, where it is needed

    figure = figures.label_curve(
        rows, methods, metric.title, metric.units, unit, folder / "compare.png"
    )
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


def _evaluate_once(path: Path, device: str) -> None:
    """Evaluate a run that never was; say what to do where its store has moved."""
    run = Run.finished(path, "finetune")
    if (path / "evaluation" / "predictions.csv").is_file():
        return
    store = locate(None, recorded=run.facts["store"])
    if not store.exists():
        raise DataError(
            f"{path} was never evaluated, and its store is no longer at {store}: run `partsig "
            f"evaluate --run {shlex.quote(str(path))} --store …` with the place it has now, then "
            "compare again."
        )
    evaluate(path, device=device)
