"""``compare --task parts``: what frozen encoders know of objects, and what of their parts.

::

    FOLDER/ parts.csv, .md, .json   a row for every encoder and column: score, and the difference
                                    to the reference; and the differences of both levels
            parts.png               difference of objects against difference of parts

A column is a way of asking (a linear probe of the mean of the tokens, retrieval, ...) on a store,
and is of objects or of parts, as the task or the labels of the store say. Columns must be of the
same images (or subjects): the test units of each are among those of the column with most.
Every score is the mean over an encoder's runs; intervals draw the test units anew, the same draws
for every encoder and column, so that differences are paired within and across columns.

Source: Zhu et al., Understanding Self-Supervised Pretraining with Part-Aware Representation
Learning, TMLR 2024: supervised encoders lead on objects, self-supervised ones on parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from partsig import registries
from partsig.contracts import labels_of
from partsig.data.store import read_meta
from partsig.errors import ConfigError, DataError
from partsig.files import check_replaceable, has_keys, read_json, write_json, write_text
from partsig.recipes.comparison import interval, other_settings, resampled
from partsig.recipes.comparison_tables import ComparisonRequest
from partsig.recipes.part_levels import (
    LEVELS,
    PartTable,
    as_csv,
    as_facts,
    as_markdown,
    between_levels,
)
from partsig.runs import directory as runs
from partsig.runs.method_names import encoder_name
from partsig.runs.run import Run
from partsig.runs.settings import FROZEN_WAYS
from partsig.runs.test_results import EvaluatedRun, PrimaryMetric, load, named_run
from partsig.tasks import registry as tasks

WAYS = {"probe": "linear", "knn": "kNN", "attentive": "attentive"}
POOLS = {"cls": "[CLS]"}
# Encoders that learned from labels: what differences are counted from where nothing is said.
SUPERVISED = ("packaged:efficientnet-lite0", "timm:deit_", "official:deit")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An encoder in a column: its score over ``n_runs``, in all bootstrap samples, (draws,)."""

    score: float
    sd: float | None
    n_runs: int
    drawn: np.ndarray = field(repr=False)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over test units."""
        return interval(self.drawn)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A way of asking at one level, on test units of so many ``names``; cells by encoder."""

    level: str
    title: str
    measure: str
    names: tuple[str, ...]
    cells: dict[str, Cell]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A run as it was named, and which column it belongs in.

    ``pool`` is that of a task which is of one level, where its result tells it.
    """

    name: str
    path: Path
    run: Run
    level: str
    pool: str | None

    @property
    def key(self) -> tuple:
        """What runs of one column have in common."""
        run, budget = self.run, self.run.budget
        of_task = run.task if tasks.get(run.task).level is not None else "classification"
        return self.level, of_task, run.labels.classes, self._way, budget.unit, budget.number

    @property
    def _way(self) -> str:
        run, name = self.run, self.run.task
        if tasks.get(name).level is not None:
            told, pool = name.removeprefix(f"{self.level}-"), self.pool
        else:
            told, pool = WAYS[run.config["train"]], run.config["pool"]
            pool = None if run.config["train"] == "attentive" else pool
        return told if pool is None else f"{told}, {POOLS.get(pool, pool)}"


def compare_parts(asked: ComparisonRequest) -> PartTable:
    """Compare frozen encoders at both levels; write the table (Markdown, CSV, JSON) and a figure.

    Raises ConfigError for encoders that were trained on the labels, where a level is missing or
    the reference; DataError for stores of other images, CheckpointError for what is no run.
    """
    every = [_as_asked(item) for item in asked.run]
    missing = [level for level in LEVELS if level not in {one.level for one in every}]
    if missing:
        raise ConfigError(
            f"--task parts holds objects and parts side by side, and no run is of {missing[0]}s: "
            f"{_advice(missing[0])}, or leave --task out."
        )
    groups: dict[tuple, list[_Asked]] = {}
    for one in sorted(every, key=lambda one: LEVELS.index(one.level)):
        groups.setdefault(one.key, []).append(one)
    loaded = {key: load([f"{one.name}={one.path}" for one in own]) for key, own in groups.items()}
    unit = _same_unit({key: metric for key, (_, metric) in loaded.items()})
    titles = _titles(groups)
    names = _all_names(
        {titles[key]: results[0].names for key, (results, _) in loaded.items()}, unit
    )
    columns = [
        _column(key[0], titles[key], *loaded[key], names=names, seed=asked.seed) for key in groups
    ]
    encoders = list(dict.fromkeys(one.name for one in every))
    reference = _reference(asked.against, encoders)
    found = between_levels(columns, encoders, reference)
    folder = asked.output or runs.RUNS / "compare-parts"
    text = as_markdown(columns, found, reference, unit, len(names), asked.seed)
    text += "".join(other_settings(loaded[key][0], titles[key]) for key in groups)
    ours = has_keys("columns", "encoders", "reference")
    for name in ("parts.json", "parts.csv", "parts.md", "parts.png"):
        check_replaceable(folder / name, ours, folder / "parts.json")
    told = as_facts(columns, found, reference, unit, len(names), asked.seed)
    write_json(folder / "parts.json", told)  # first: it tells whose the others are
    write_text(folder / "parts.csv", as_csv(columns, found))
    write_text(folder / "parts.md", text + "\n")
    draw = registries.at("partsig.figures.levels:draw")  # matplotlib, where it is needed
    figure = draw(found, reference, unit, folder / "parts.png")
    return PartTable(
        columns=columns, encoders=found, reference=reference, markdown=text, path=folder,
        figure=figure,
    )  # fmt: skip


def level_of(run: Run) -> str:
    """Return whether a fine-tuned run asks about objects or about parts.

    As its task says, else the labels that it learned; of a run that is too old to know what these
    are of, its store, where that is still there.
    """
    told = tasks.get(run.task).level or run.labels.level
    if told == "object":
        try:
            labels = labels_of(read_meta(run.store))
        except DataError:
            return told
        return told if labels is None else labels.level
    return told


def _as_asked(item: str | Path) -> _Asked:
    label, path = named_run(item)
    run = Run.finished(path, "finetune")
    train = run.config["train"]
    if train not in FROZEN_WAYS:
        raise ConfigError(
            f"{path} has trained its encoder on the labels (train={train}); what an encoder knows "
            f"is asked of one that is left as it is: train={', '.join(FROZEN_WAYS)}, or a task of "
            "parts."
        )
    file = path / "evaluation" / "metrics.json"
    try:
        pool = read_json(file).get("pool")
    except (OSError, ValueError, AttributeError):
        raise DataError(f"{file} is damaged; evaluate {path} again.") from None
    name = label or encoder_name(run)
    return _Asked(name=name, path=path, run=run, level=level_of(run), pool=pool)


def _advice(level: str) -> str:
    if level == "object":
        return "fine-tune with train=probe on a store of the same images with a label of the whole"
    return "fine-tune with --task part-retrieval on a store of the same images made with cut=parts"


def _same_unit(metrics: dict[tuple, PrimaryMetric]) -> str:
    """Return what test units are called; raise DataError where they are of several kinds."""
    units = list(dict.fromkeys(metric.units for metric in metrics.values()))
    if len(units) > 1:
        raise DataError(
            f"some runs are tested on {units[0]}, others on {units[1]}: they cannot be compared."
        )
    return units[0]


def _titles(groups: dict[tuple, list[_Asked]]) -> dict[tuple, str]:
    """Return what each column is called: its level, its way of asking, and what tells it apart."""
    titles = {}
    for key, own in groups.items():
        level, _, classes, way, unit, number = key
        others = {k[2] for k in groups if k[0] == level}
        title = f"{level}: {way}"
        if len(others) > 1:
            title += f", {len(classes)} classes of {own[0].run.store.name}"
        titles[key] = title + (f", {number} {unit}" if number else "")
    return titles


def _all_names(columns: dict[str, tuple[str, ...]], unit: str) -> tuple[str, ...]:
    """Return the test units of the column with most; raise DataError where others have others."""
    widest = max(columns, key=lambda title: len(columns[title]))
    known = set(columns[widest])
    for title, names in columns.items():
        other = [name for name in names if name not in known]
        if other:
            raise DataError(
                f"the test {unit} of '{title}' are not among those of '{widest}': {len(other)} of "
                f"{len(names)}, such as {other[0]}. Both levels are compared on stores of the same "
                f"{unit}, divided alike."
            )
    return columns[widest]


def _column(
    level: str,
    title: str,
    results: list[EvaluatedRun],
    metric: PrimaryMetric,
    *,
    names: tuple[str, ...],
    seed: int,
) -> Column:
    """Return a column: every encoder's score, in bootstrap samples of all test units ``names``."""
    if metric.name == "kappa":  # as published, and as images with one label each have it
        metric = replace(metric, name="accuracy", title="accuracy", score=_share_right)
    place = {name: number for number, name in enumerate(names)}
    at = [place[name] for name in results[0].names]
    spread = []
    for item in results:
        counts = np.zeros((len(names), *item.counts.shape[1:]))
        counts[at] = item.counts
        spread.append(replace(item, counts=counts))
    drawn = [_scored(metric, sums) for sums in resampled(spread, seed)]
    own = [float(_scored(metric, item.counts.sum(0))) for item in results]
    members: dict[str, list[int]] = {}
    for number, item in enumerate(results):
        members.setdefault(item.method, []).append(number)
    return Column(
        level=level,
        title=title,
        measure=metric.name,
        names=results[0].names,
        cells={
            encoder: Cell(
                score=float(np.mean([own[i] for i in mine])),
                sd=float(np.std([own[i] for i in mine], ddof=1)) if len(mine) > 1 else None,
                n_runs=len(mine),
                drawn=np.mean([drawn[i] for i in mine], axis=0),
            )
            for encoder, mine in members.items()
        },
    )


def _scored(metric: PrimaryMetric, counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a sample without any of a column's units
        return metric.score(counts)


def _share_right(tables: np.ndarray) -> np.ndarray:
    """Return the share of right answers of confusion matrices (..., K, K)."""
    return np.trace(tables, axis1=-2, axis2=-1) / tables.sum((-2, -1))


def _reference(asked: str | None, encoders: Sequence[str]) -> str:
    """Return the encoder that differences are counted from; raise ConfigError where it is not."""
    if asked is not None and asked not in encoders:
        raise ConfigError(f"--against {asked}: no such encoder; there are {', '.join(encoders)}.")
    known = [name for name in encoders if name.startswith(SUPERVISED)]
    if asked is None and not known:
        raise ConfigError(
            "differences are counted from an encoder that learned from labels, and none of these "
            f"is known to have: name it with --against, one of {', '.join(encoders)}."
        )
    return asked or known[0]
