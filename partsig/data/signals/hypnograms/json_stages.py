"""Hypnograms in JSON: a list of stages, as the Dreem Open Datasets have one for each scorer.

Also an object that holds such a list under a usual name, several of them by the scorer, or a list
of objects with an onset and a stage each.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from partsig.data.signals.hypnograms.columns import MOST_LINES, STAGE
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.tables import from_rows
from partsig.errors import DataError
from partsig.text import shown

# What an epoch without a stage has in a list.
NOTHING = "?"
# A name in brackets, as above the stages of DREAMS, is no list.
BEGINNING = re.compile(r"\{|\[\s{0,100}(?:[\]\"{0-9-]|null)")
EXPECTED = (
    "expected a list of stages, an object with one under stages or hypnogram or with one for each "
    "scorer, or a list of objects with onset, duration and stage"
)


def is_json(head: str) -> bool:
    """Tell whether a text may be JSON: it begins with an object or with a list of values."""
    return BEGINNING.match(head) is not None


def from_json(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnograms of a JSON text by scorer, "" where nobody is named.

    Raises DataError where it is no JSON, or none of stages.
    """
    try:
        held = json.loads(text, parse_constant=lambda word: word)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no readable JSON ({shown(str(error), 100)}).") from error
    if isinstance(held, dict):
        lower = {str(key).lower(): value for key, value in held.items()}
        usual = next((lower[name] for name in STAGE if isinstance(lower.get(name), list)), None)
        if usual is not None:
            hypnogram = _listed(place, {"stage": usual}, settings)[""]
            return {"": _of_partsig(hypnogram, lower)}
        lists = {str(key): value for key, value in held.items()}
        if lists and all(map(_is_list, lists.values())):
            return _of_scorers(place, lists, settings)
        raise DataError(f"{place}: JSON of {len(held)} entries, none of them stages; {EXPECTED}.")
    if _is_list(held):
        return _listed(place, {"stage": held}, settings)
    if isinstance(held, list) and held and all(isinstance(row, dict) for row in held):
        names = list(dict.fromkeys(str(name) for row in held for name in row))
        if len(names) <= 50:
            rows = [[_cell(place, row.get(name)) for name in names] for row in held]
            return from_rows(place, [names, *rows], settings, "table")
    raise DataError(f"{place}: JSON that holds no stages; {EXPECTED}.")


def _is_list(value: object) -> bool:
    """Tell whether a value is a list of words, numbers and nothings, with one at least."""
    return (
        isinstance(value, list)
        and 0 < len(value) <= MOST_LINES
        and all(item is None or isinstance(item, str | int | float) for item in value)
    )


def _of_scorers(
    place: str, lists: Mapping[str, list], settings: HypnogramConfig
) -> dict[str, Hypnogram]:
    lengths = sorted({len(stages) for stages in lists.values()})
    if len(lengths) > 1:
        raise DataError(
            f"{place}: lists of {lengths[0]} to {lengths[-1]} epochs; scorers of one recording "
            "have as many."
        )
    named = {f"scorer_{k}": name for k, name in enumerate(lists)}
    columns = dict(zip(named, lists.values(), strict=True))
    found = _listed(place, columns, settings)
    return {named[f"scorer_{k}"]: hypnogram for k, hypnogram in enumerate(found.values())}


def _listed(
    place: str, columns: Mapping[str, list], settings: HypnogramConfig
) -> dict[str, Hypnogram]:
    """Return the hypnograms of lists of stages, of as many epochs each, by column."""
    for stages in columns.values():
        if not _is_list(stages):
            raise DataError(f"{place}: JSON that holds no stages; {EXPECTED}.")
    cells = ([_cell(place, stage) or NOTHING for stage in stages] for stages in columns.values())
    rows = [list(row) for row in zip(*cells, strict=True)]
    return from_rows(place, [list(columns), *rows], replace(settings, scorer=""), "list")


def _cell(place: str, value: object) -> str:
    """Return a value as a table has it."""
    if isinstance(value, bool | dict | list):
        told = shown(json.dumps(value), 40)
        raise DataError(f"{place}: {told} where a stage or a number belongs.")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _of_partsig(hypnogram: Hypnogram, told: Mapping[str, object]) -> Hypnogram:
    """Return the stages that partsig wrote from where it says that they begin."""
    begins = told.get("start_s")
    if "partsig" not in told or not isinstance(begins, int | float) or not 0 <= begins < 3600:
        return hypnogram
    return replace(
        hypnogram,
        onsets=hypnogram.onsets + float(begins),
        in_signal=True,
        notes=("stages that partsig wrote, and no person", *hypnogram.notes),
    )
