"""Objects and parts held against each other: differences to a reference at both levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partsig.cells import as_table
from partsig.metrics.agreement import or_none
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.recipes.comparison import interval

LEVELS = ("object", "part")
CROSSING = "parts less objects"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference to the reference, and its 95 % interval over test units."""

    mean: float
    interval: tuple[float, float]

    @property
    def side(self) -> str:
        """Where it lies: ahead, behind, or too near to tell."""
        low, high = self.interval
        return "ahead" if low > 0 else "behind" if high < 0 else "not told apart"


@dataclass(frozen=True, kw_only=True)
class EncoderDifferences:
    """What an encoder has more than the reference: in each column, by title; and by level.

    ``by_level``: the mean over the columns of a level that both encoders have; and
    :data:`CROSSING`, that of parts less that of objects. Empty of the reference itself.
    """

    encoder: str
    differences: dict[str, Difference]
    by_level: dict[str, Difference]


@dataclass(frozen=True, kw_only=True)
class PartTable:
    """The columns, the differences of each encoder to the reference, and what was written."""

    columns: list[Any]
    encoders: list[EncoderDifferences]
    reference: str
    markdown: str
    path: Path
    figure: Path


def between_levels(
    columns: Sequence[Any], encoders: Sequence[str], reference: str
) -> list[EncoderDifferences]:
    """Return the differences of every encoder to the reference, the reference first."""
    order = [reference, *(name for name in encoders if name != reference)]
    return [_against(columns, encoder, reference) for encoder in order]


def _against(columns: Sequence[Any], encoder: str, reference: str) -> EncoderDifferences:
    differences: dict[str, Difference] = {}
    both: dict[str, list[tuple[float, np.ndarray]]] = {level: [] for level in LEVELS}
    for column in columns:
        mine, theirs = column.cells.get(encoder), column.cells.get(reference)
        if encoder == reference or mine is None or theirs is None:
            continue
        mean, drawn = mine.score - theirs.score, mine.drawn - theirs.drawn
        differences[column.title] = Difference(mean=mean, interval=interval(drawn))
        both[column.level].append((mean, drawn))
    means = {
        level: (np.mean([m for m, _ in own]), np.mean([d for _, d in own], axis=0))
        for level, own in both.items()
        if own
    }
    if len(means) == len(LEVELS):
        (objects, of_objects), (parts, of_parts) = (means[level] for level in LEVELS)
        means[CROSSING] = parts - objects, of_parts - of_objects
    by_level = {
        name: Difference(mean=float(mean), interval=interval(drawn))
        for name, (mean, drawn) in means.items()
    }
    return EncoderDifferences(encoder=encoder, differences=differences, by_level=by_level)


def as_markdown(
    columns: Sequence[Any],
    found: Sequence[EncoderDifferences],
    reference: str,
    unit: str,
    n_units: int,
    seed: int,
) -> str:
    """Return the table of scores, that of differences, and how they were made."""
    heads = [f"{column.title} ({column.measure})" for column in columns]
    lines = [_row(["encoder", *heads]), _rule(len(heads) + 1)]
    for one in found:
        cells = [_score(column.cells.get(one.encoder)) for column in columns]
        lines.append(_row([one.encoder, *cells]))
    titles = [column.title for column in columns]
    lines += ["", f"Difference to {reference}:", ""]
    lines += [_row(["encoder", *titles, *LEVELS, CROSSING, "so"]), _rule(len(titles) + 5)]
    for one in found[1:]:
        told = [_shown(one.differences.get(title)) for title in titles]
        levels = [_shown(one.by_level.get(name)) for name in (*LEVELS, CROSSING)]
        lines.append(_row([one.encoder, *told, *levels, _verdict(one)]))
    lines += [
        "",
        f"Mean over runs, ± SD where there are several, [95 % over {unit}]. {n_units} test {unit}: "
        f"those of a column are among them. Bootstrap: {BOOTSTRAP_DRAWS:,} samples, seed {seed}, "
        f"the same for every encoder and column, so differences are paired over {unit}; the spread "
        "of seeds is not in them. `object` and `part` are means over the columns of a level that "
        f"both encoders have; `{CROSSING}` above 0: the encoder has more of its advantage, or less "
        "of its lag, on parts.",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(n: int) -> str:
    return "|" + "---|" * n


def _score(cell: Any) -> str:
    if cell is None:
        return "-"
    sd = "" if cell.sd is None else f" ± {cell.sd:.3f}"
    low, high = cell.interval
    return f"{cell.score:.3f}{sd} [{low:.3f}, {high:.3f}]"


def _shown(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    low, high = difference.interval
    return f"{difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _verdict(one: EncoderDifferences) -> str:
    """Return in words where an encoder lies at both levels."""
    if CROSSING not in one.by_level:
        return "-"
    return ", ".join(f"{level}s {one.by_level[level].side}" for level in LEVELS)


def as_facts(
    columns: Sequence[Any],
    found: Sequence[EncoderDifferences],
    reference: str,
    unit: str,
    n_units: int,
    seed: int,
) -> dict:
    """Return the content of ``parts.json``."""
    return {
        "reference": reference,
        f"n_{unit}": n_units,
        "bootstrap": {"unit": unit, "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
        "columns": [
            {
                "level": column.level,
                "title": column.title,
                "measure": column.measure,
                f"n_{unit}": len(column.names),
            }
            for column in columns
        ],
        "encoders": [
            {
                "encoder": one.encoder,
                "scores": {
                    column.title: {
                        "score": or_none(cell.score),
                        "sd": cell.sd,
                        "n_runs": cell.n_runs,
                        "interval_95": list(map(or_none, cell.interval)),
                        **_difference(one.differences.get(column.title)),
                    }
                    for column in columns
                    if (cell := column.cells.get(one.encoder)) is not None
                },
                **{
                    name: _difference(value) for name, value in one.by_level.items()
                },
            }
            for one in found
        ],
    }  # fmt: skip


def _difference(value: Difference | None) -> dict[str, object]:
    if value is None:
        return {}
    return {"difference": or_none(value.mean), "difference_interval_95": list(value.interval)}


def as_csv(columns: Sequence[Any], found: Sequence[EncoderDifferences]) -> str:
    """Return a row for every encoder and column."""
    names = ["encoder", "level", "column", "measure", "n_runs", "score", "sd", "low", "high"]
    rows = []
    for one in found:
        for column in columns:
            cell = column.cells.get(one.encoder)
            if cell is None:
                continue
            difference = one.differences.get(column.title)
            ends = ("", "", "") if difference is None else (difference.mean, *difference.interval)
            told = [one.encoder, column.level, column.title, column.measure, cell.n_runs]
            rows.append([*told, cell.score, cell.sd, *cell.interval, *ends])
    shown = [
        [f"{v:.5f}" if isinstance(v, float) else "" if v is None else v for v in row]
        for row in rows
    ]
    return as_table([*names, "difference", "difference_low", "difference_high"], shown)
