"""``partsig evaluate``: a fine-tuned run in, predictions, metrics and figures out."""

from collections.abc import Sequence
from pathlib import Path

from partsig.data.store import locate
from partsig.errors import ConfigError
from partsig.files import write_json
from partsig.recipes.evaluation import (
    Evaluation,
    Judged,
    LeakWarning,
    in_common,
    judge,
    next_command,
    pooled,
    pooled_result,
    result_of,
    warn_of_leaks,
)
from partsig.recipes.evaluation_folder import check_folder, own_or_below
from partsig.recipes.judging import JudgingRequest, judge_as_it_is
from partsig.recipes.robustness import Robustness, told
from partsig.runs import directory as runs
from partsig.tasks import registry as tasks
from partsig.train import distributed

__all__ = ["Evaluation", "LeakWarning", "evaluate"]


def evaluate(
    run: str | Path | Sequence[str | Path] | None = None,
    store: str | Path | None = None,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    figures: bool = True,
    missing_channels: str = "refuse",
    shift: bool = False,
    ablate_channels: bool = False,
    allow_http: bool = False,
) -> Evaluation:
    """Measure a fine-tuned run on its test subjects, or on every labelled subject of another store.

    Of images, on the labelled test images of either. A pretraining run whose objective names a
    judge (part discovery) is judged as it is. ``run`` defaults to the fine-tuning run that
    finished last. Writes ``predictions.csv``, ``metrics.json`` and figures into ``RUN/evaluation``
    (``RUN/evaluation-STORE`` for another store; a number is added where another one has that name).
    Warns with LeakWarning when pretraining has seen a test subject.

    Several runs whose test subjects are not the same (the folds of a cross-validation) are
    evaluated one by one, and then pooled: every subject judged by the run that has not seen it, one
    kappa with one interval, in ``output``, by default ``runs/pooled-RUN-and-N-more``. Of one run,
    ``output`` is a folder in place of its own (which may be read-only). What is said of each of
    several goes into its run, or below ``output`` where that is read-only.
    ``missing_channels``: a store that lacks channels of the run is refused, or they are zeros
    (fill), which is told. ``shift``: kappa as well with epochs cut later, by sixths of one;
    ``ablate_channels``: with each channel left out, and with each alone; of each of several runs.
    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises DataError when the store's channels, rate, size or classes are not the run's, and when
    what trained or chose the classifier would be tested; ConfigError where several runs share test
    subjects, which are then not to be pooled but compared.
    """
    robustness = Robustness(shift=shift, channels=ablate_channels, missing=missing_channels)
    chosen = distributed.pick_device(device)
    named = [run] if isinstance(run, str | Path) else run or []
    paths = list(dict.fromkeys(map(Path, filter(None, named)))) or [runs.last("finetune")]
    store = None if store is None else locate(store, allow_http=allow_http)
    if len(paths) == 1:
        where = None if output is None else Path(output)
        if where is not None:
            check_folder(where)
        own = judge_as_it_is(
            JudgingRequest(paths[0], store, where, device, seed, figures, robustness.options)
        )
        if own is not None:
            return Evaluation(**vars(own))
        judged = judge(paths[0], store, chosen, missing_channels)
        return _written(judged, seed, figures, robustness, where)
    name = f"pooled-{paths[0].resolve().name}-and-{len(paths) - 1}-more"
    where = Path(output or runs.RUNS / name)
    check_folder(where)
    several = [judge(path, store, chosen, missing_channels) for path in paths]
    shared, unit = in_common(several), several[0].examples.unit
    if shared:
        raise ConfigError(
            f"{len(shared)} test {unit}s ({', '.join(shared[:3])}{', …' if shared[3:] else ''}) "
            "are those of several of these runs: their results are not pooled. Evaluate them one "
            "by one, and hold them against each other with `partsig compare RUN…`."
        )
    return _written_together(several, where, seed, figures, robustness)


def _written(
    judged: Judged, seed: int, figures: bool, robustness: Robustness, output: Path | None
) -> Evaluation:
    """Write the evaluation of a run into its folder, or another."""
    warn_of_leaks(judged.leaked, judged.examples.unit)
    task, folder = tasks.get(judged.run.task), output or judged.folder
    measured = robustness.measure(judged, seed)
    result = result_of(judged, seed) | measured
    given = judged.examples, judged.answers
    check_folder(folder)
    task.write_predictions(folder / "predictions.csv", *given)
    write_json(folder / "metrics.json", result)
    drawn = task.figures(result, *given, folder) if figures else []
    if measured and figures:
        from partsig.figures.robustness import draw  # matplotlib, where it is needed

        drawn += draw(measured, task.headline(result, judged.examples), folder)
    return Evaluation(
        path=folder,
        metrics=result,
        figures=drawn,
        summary=[*task.summary(result), *told(judged, measured)],
        follow_up=next_command(judged),
    )


def _written_together(
    several: list[Judged], folder: Path, seed: int, figures: bool, robustness: Robustness
) -> Evaluation:
    """Write what several runs say of their own test units, one by one and as one."""
    each = tuple(
        _written(j, seed, figures, robustness, own_or_below(j.folder, folder)) for j in several
    )
    task = tasks.get(several[0].run.task)
    answered = pooled(several)
    result = pooled_result(several, answered, seed)
    examples, answers, _ = answered
    check_folder(folder)
    task.write_predictions(folder / "predictions.csv", examples, answers)
    write_json(folder / "metrics.json", result)
    drawn = [task.draw_confusion(result, examples, folder)] if figures else []
    summary = [
        f"{judged.run.path}: {task.headline(one.metrics, judged.examples)}"
        for judged, one in zip(several, each, strict=True)
    ]
    return Evaluation(
        path=folder,
        metrics=result,
        figures=drawn,
        summary=[*summary, f"{len(several)} runs, each on its own:", *task.summary(result)],
        follow_up=(),
        each=each,
    )
