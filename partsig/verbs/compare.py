"""``partsig compare``: fine-tuned runs in, one table of methods and budgets out."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from partsig import registries
from partsig.data.store import locate
from partsig.errors import ConfigError, DataError
from partsig.recipes.comparison_tables import TABLES, USUAL, ComparisonRequest, ComparisonTable
from partsig.runs.run import Run
from partsig.runs.test_results import named_run
from partsig.verbs.evaluate import evaluate


def compare(
    run: Sequence[str | Path],
    *,
    against: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    task: str | None = None,
) -> ComparisonTable:
    """Compare fine-tuned runs on one test set; write a table (Markdown, CSV) and a figure.

    ``run`` are run directories, all on signals (compared by kappa, over subjects) or all on images
    (accuracy, over images); or ``LABEL=DIRECTORY`` to name a method: its name is otherwise the
    pretraining run's without seed, or the model trained from scratch. Runs that differ only in
    their seeds are one method. A run that was never evaluated is evaluated first. ``against`` is
    the method that gains are counted from (default: scratch, else the first). ``output`` defaults
    to ``runs/compare``. ``task`` is another table of :data:`TABLES` instead.

    Runs on signals are of one store, or of several that test the same epochs, one by one (band
    powers beside an encoder's features, say): that is told below the table. Raises CheckpointError,
    ConfigError or DataError when runs cannot be compared: of two modalities, with other test
    subjects or epochs, with budgets of two kinds, the same method and draw twice.
    """
    table = registries.load("--task", task or USUAL, TABLES)
    if not run:
        raise ConfigError("no run to compare; name two or more run directories.")
    for item in run:
        _evaluate_once(named_run(item)[1], device)
    request = ComparisonRequest(
        run=run, against=against, output=None if output is None else Path(output), seed=seed
    )
    return table(request)


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
