"""``partsig compare``: fine-tuned runs in, one table of methods and budgets out."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig import metrics
from partsig.data.recordings import STAGES
from partsig.errors import ConfigError, DataError
from partsig.files import write_text
from partsig.tasks import figures, runs
from partsig.tasks.evaluate import evaluate
from partsig.tasks.finetune import SCRATCH

BOOTSTRAP_DRAWS = 2000
SEEDED = re.compile(r"-s\d+$")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method at a budget: kappa over its runs, and what it gains on the reference.

    ``kappa`` and ``sd`` are mean and SD over the runs (draws of labels × pretraining seeds);
    ``interval`` is the 95 % interval of the mean when test subjects are drawn anew. ``gain`` is the
    mean paired difference to the reference method on the same draws, ``gain_sd`` its SD over the
    draws, ``gain_interval`` its interval over test subjects; None for the reference itself, and
    where no draw is shared.
    """

    method: str
    budget: int
    n_runs: int
    n_draws: int
    epochs_train: int
    kappa: float
    sd: float | None
    interval: tuple[float, float]
    macro_f1: float
    gain: float | None = None
    gain_sd: float | None = None
    gain_interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows, what they were measured on, and the files that were written."""

    rows: list[Row]
    reference: str
    unit: str
    n_subjects: int
    n_epochs: int
    markdown: str
    path: Path
    figure: Path


@dataclass(frozen=True, kw_only=True)
class _Run:
    path: Path
    method: str
    unit: str
    budget: int
    draw: int
    pretraining_seed: int | None
    epochs_train: int
    tables: np.ndarray  # (S, K, K), one per test subject


def compare(
    run: Sequence[str | Path],
    *,
    against: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Comparison:
    """Compare fine-tuned runs on one test set; write a table (Markdown, CSV) and a figure.

    ``run`` are run directories, or ``LABEL=DIRECTORY`` to name a method; its name is otherwise the
    pretraining run's without seed, or the model trained from scratch. Runs that differ only in
    their seeds are one method. A run that was never evaluated is evaluated first. ``against`` is
    the method that gains are counted from (default: scratch, else the first). ``output`` defaults
    to ``runs/compare``.

    Raises ConfigError or DataError when runs cannot be compared: other test subjects, other
    channels or filters, budgets of two kinds, the same method and draw twice.
    """
    if not run:
        raise ConfigError("no run to compare; name two or more run directories.")
    found = _load(run, device)
    methods = list(dict.fromkeys(item.method for item in found))
    reference = against or (SCRATCH if SCRATCH in methods else methods[0])
    if reference not in methods:
        raise ConfigError(f"--against {reference}: no such method; there are {', '.join(methods)}.")
    weights = _resample(len(found[0].tables), seed)
    cells: dict[tuple[str, int], list[_Run]] = {}
    for item in found:
        cells.setdefault((item.method, item.budget), []).append(item)
    order = sorted(cells, key=lambda cell: (cell[1] or 10**9, methods.index(cell[0])))
    rows = [
        _row(
            cells[cell], cells.get((reference, cell[1])) if cell[0] != reference else None, weights
        )
        for cell in order
    ]
    folder = Path(output or runs.RUNS / "compare")
    n_epochs = int(found[0].tables.sum())
    text = _markdown(rows, reference, found[0].unit, len(found[0].tables), n_epochs, seed)
    write_text(folder / "compare.md", text + "\n")
    write_text(folder / "compare.csv", _csv(rows))
    figure = figures.label_curve(rows, methods, found[0].unit, folder / "compare.png")
    return Comparison(
        rows=rows,
        reference=reference,
        unit=found[0].unit,
        n_subjects=len(found[0].tables),
        n_epochs=n_epochs,
        markdown=text,
        path=folder,
        figure=figure,
    )


def _load(named: Sequence[str | Path], device: str) -> list[_Run]:
    """Read all runs and refuse those that cannot stand in one table."""
    found: list[_Run] = []
    first: dict | None = None
    subjects: list[str] = []
    for item in map(str, named):
        label, _, directory = item.rpartition("=")
        path = Path(directory)
        record = runs.finished(path, "finetune", "eeg")
        first = first or record
        for key, what in (("provenance", "another store"), ("sfreq", "another rate")):
            if record[key] != first[key]:
                raise DataError(f"{path} is of {what} than {named[0]}; they cannot be compared.")
        if record["split"]["test"] != first["split"]["test"]:
            raise DataError(
                f"{path} was split otherwise than {named[0]}: their test subjects are not the same."
            )
        file = path / "evaluation" / "predictions.csv"
        if not file.is_file():
            evaluate(path, device=device)
        names, tables = _tables(file)
        subjects = subjects or names
        if names != subjects:
            raise DataError(f"{file} has other subjects than the first run's; evaluate again.")
        per_class = record["segments_per_class"]
        found.append(
            _Run(
                path=path,
                method=label or _method(record),
                unit="subjects" if per_class is None else "segments per class",
                budget=record["subjects"] if per_class is None else per_class,
                draw=record["seed"],
                pretraining_seed=(record["pretraining"] or {}).get("seed"),
                epochs_train=record["n_epochs_train"],
                tables=tables,
            )
        )
    if len({item.unit for item in found}) > 1:
        raise ConfigError("some runs have a budget of subjects, others of segments per class.")
    seen: dict[tuple, Path] = {}
    for item in found:
        key = (item.method, item.budget, item.draw, item.pretraining_seed)
        if key in seen:
            raise ConfigError(
                f"{seen[key]} and {item.path} are both {item.method} with {item.budget} "
                f"{item.unit}, seed {item.draw}; name what differs: LABEL={item.path}."
            )
        seen[key] = item.path
    return found


def _method(record: dict) -> str:
    settings = record["config"]
    if record["from"] == SCRATCH:
        name = SCRATCH if settings["model"] == "encoder" else settings["model"]
        name = name if settings["train"] == "full" else "random"
        if name == SCRATCH and settings["positions"] == "none":
            name += ", no positions"
    else:
        name = SEEDED.sub("", Path(record["from"]).name).removeprefix("pretrain-")
    name += ", taught" if record["teacher"] else ""
    return name if settings["train"] == "full" else f"{name}, {settings['train']}"


def _tables(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the test subjects, sorted, and their confusion matrices (S, K, K)."""
    code = {stage: number for number, stage in enumerate(STAGES)}
    found: dict[str, np.ndarray] = {}
    with open(file, newline="", encoding="utf-8") as handle:
        for line in csv.DictReader(handle):
            table = found.setdefault(line["subject"], np.zeros((len(STAGES),) * 2))
            table[code[line["truth"]], code[line["prediction"]]] += 1
    names = sorted(found)
    return names, np.stack([found[name] for name in names])


def _resample(n_subjects: int, seed: int) -> np.ndarray:
    """Return how often each subject is drawn in each bootstrap sample, (draws, S)."""
    rng = np.random.default_rng(seed)
    even = np.full(n_subjects, 1 / n_subjects)
    return rng.multinomial(n_subjects, even, size=BOOTSTRAP_DRAWS).astype(float)


def _means(
    members: list[_Run],
    weights: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = metrics.kappa,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the statistic of every run, (R,), and in every bootstrap sample, (R, draws)."""
    own = np.array([float(statistic(item.tables.sum(0))) for item in members])
    drawn = np.stack([statistic(np.tensordot(weights, item.tables, axes=1)) for item in members])
    return own, drawn


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _row(members: list[_Run], reference: list[_Run] | None, weights: np.ndarray) -> Row:
    own, drawn = _means(members, weights)
    f1, _ = _means(members, weights[:1], metrics.macro_f1)
    gain: dict = {}
    by_draw: dict[int, list[int]] = {}
    for number, item in enumerate(members):
        by_draw.setdefault(item.draw, []).append(number)
    if reference:
        base, base_drawn = _means(reference, weights)
        other: dict[int, list[int]] = {}
        for number, item in enumerate(reference):
            other.setdefault(item.draw, []).append(number)
        shared = sorted(set(by_draw) & set(other))
        if shared:
            # Every draw of labels counts once, however many pretraining seeds it was met with.
            each = np.array([own[by_draw[d]].mean() - base[other[d]].mean() for d in shared])
            pairs = [drawn[by_draw[d]].mean(0) - base_drawn[other[d]].mean(0) for d in shared]
            gain = {
                "gain": float(each.mean()),
                "gain_sd": _sd(each),
                "gain_interval": _interval(np.mean(pairs, axis=0)),
            }
    return Row(
        method=members[0].method,
        budget=members[0].budget,
        n_runs=len(members),
        n_draws=len(by_draw),
        epochs_train=round(float(np.mean([item.epochs_train for item in members]))),
        kappa=float(own.mean()),
        sd=_sd(own),
        interval=_interval(drawn.mean(0)),
        macro_f1=float(f1.mean()),
        **gain,
    )


def _markdown(
    rows: list[Row], reference: str, unit: str, n_subjects: int, n_epochs: int, seed: int
) -> str:
    lines = [
        f"| labels ({unit}) | method | runs | kappa, mean ± SD | 95 % over subjects | macro-F1 | "
        f"gain on {reference} ± SD over draws | 95 % over subjects |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sd = "" if row.sd is None else f" ± {row.sd:.3f}"
        gain = between = ""
        if row.gain is not None:
            gain = f"{row.gain:+.3f}" + ("" if row.gain_sd is None else f" ± {row.gain_sd:.3f}")
            low, high = row.gain_interval
            between = f"{low:+.3f} to {high:+.3f}"
        low, high = row.interval
        own = f"{low:.3f} to {high:.3f}"
        if n_subjects < 2:
            own, between = "no interval", between and "no interval"
        lines.append(
            f"| {row.budget or 'all'} ({row.epochs_train:,} epochs) | {row.method} | {row.n_runs} "
            f"| {row.kappa:.3f}{sd} | {own} | {row.macro_f1:.3f} | {gain} | "
            f"{between} |"
        )
    lines += [
        "",
        f"Test: {n_epochs:,} epochs of {n_subjects} subjects, the same for every row. Kappa is "
        "pooled over the test epochs of a run; mean ± SD over runs, which differ in the draw of "
        "the labels and in the seed of the pretraining. Intervals: bootstrap over test subjects "
        f"({BOOTSTRAP_DRAWS:,} samples, seed {seed}), the same samples for every run, of the mean "
        "over runs. Gains are paired: the same draw of labels, the same test subjects.",
    ]
    return "\n".join(lines)


def _csv(rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    plain = ["method", "budget", "n_runs", "n_draws", "epochs_train", "kappa", "sd", "macro_f1"]
    ends = ["low", "high", "gain", "gain_sd", "gain_low", "gain_high"]
    writer.writerow(plain + ends)
    for row in rows:
        values = [getattr(row, name) for name in plain] + [*row.interval, row.gain, row.gain_sd]
        values += row.gain_interval or (None, None)
        writer.writerow(
            [f"{v:.5f}" if isinstance(v, float) else "" if v is None else v for v in values]
        )
    return text.getvalue()
