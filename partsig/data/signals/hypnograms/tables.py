"""Hypnograms in tables with onsets, and in lists of one stage per epoch, by one scorer or more."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time

import numpy as np

from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.columns import EPOCH, ONSET, Table, find_columns, split
from partsig.data.signals.hypnograms.events import Labelled, stages_among
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import DAY_S, onsets_and_start, seconds
from partsig.errors import DataError
from partsig.text import shown

# What says that nobody is named.
NOBODY = ("", "n/a", "nan")
# Where the onsets of a table of MNE's count from if they have no date.
EPOCH_OF_UNIX = date(1970, 1, 1)
TOLERANCE_S = 0.5


def from_table(place: str, text: str, settings: HypnogramConfig, kind: str) -> dict[str, Hypnogram]:
    """Return the hypnograms of a text by scorer, "" where nobody is named.

    ``kind`` is table, list, or text where either may be. Raises DataError where the columns, a
    label, or times of the table are not understood.
    """
    return from_rows(place, split(place, text), settings, kind)


def from_rows(
    place: str, rows: list[list[str]], settings: HypnogramConfig, kind: str
) -> dict[str, Hypnogram]:
    """Return the hypnograms of rows of cells, the first of them the columns' names."""
    table = find_columns(place, rows, kind, settings.scorer)
    columns = list(table.stages.items())
    labels = [[row[column].strip().strip('"') for row in table.rows] for _, column in columns]
    events = table.onset is not None and table.may_hold_events
    # All columns are of one code: what one of them proves holds for the others.
    codes, notes = stage_codes(place, list(itertools.chain(*labels)), settings, events=events)
    n = len(table.rows)
    scored = [codes[k * n : (k + 1) * n] for k in range(len(columns))]
    if table.scorer is not None and len(columns) == 1:
        return _by_row(place, table, labels[0], scored[0], notes, settings)
    return {
        name: _one(place, table, labels[k], scored[k], notes, settings)
        for k, (name, _) in enumerate(columns)
    }


def _one(
    place: str,
    table: Table,
    labels: list[str],
    codes: list[int | None],
    notes: tuple[str, ...],
    settings: HypnogramConfig,
) -> Hypnogram:
    """Return the hypnogram of one scorer's rows."""
    if table.onset is not None:
        return _with_onsets(place, table, labels, codes, notes, settings)
    _check_epochs(place, table, settings)
    at = np.arange(len(codes)) * settings.epoch_s
    held = [UNSCORED if code is None else code for code in codes]  # what is to be ignored
    listed = make_hypnogram(place, at, np.full(len(codes), settings.epoch_s), held)
    return replace(listed, notes=notes)


def _by_row(
    place: str,
    table: Table,
    labels: list[str],
    codes: list[int | None],
    notes: tuple[str, ...],
    settings: HypnogramConfig,
) -> dict[str, Hypnogram]:
    """Return the hypnograms of a table that says of each row who scored it."""
    whose = [row[table.scorer].strip().strip('"') for row in table.rows]
    whose = ["" if name.lower() in NOBODY else name for name in whose]
    names = list(dict.fromkeys(filter(None, whose)))
    if len(names) < 2:
        return {"".join(names): _one(place, table, labels, codes, notes, settings)}
    nobodys = sum(code is not None for code, name in zip(codes, whose, strict=True) if not name)
    if nobodys:
        raise DataError(
            f"{place}: {nobodys} stages have no scorer, and others have; mend the file."
        )
    if table.onset is None and not any(name in table.names for name in EPOCH):
        raise DataError(
            f"{place}: rows of {len(names)} scorers and no column of onsets or epochs; expected "
            f"one called {', '.join(ONSET[:3])} or {EPOCH[0]}."
        )
    scorings = {}
    for name in names:
        kept = [k for k, who in enumerate(whose) if who in (name, "")]
        part = replace(table, rows=[table.rows[k] for k in kept])
        scorings[name] = _one(
            place, part, [labels[k] for k in kept], [codes[k] for k in kept], notes, settings
        )
    if table.onset is None:
        column = next(table.names.index(name) for name in EPOCH if name in table.names)
        numbers = {
            name: [row[column] for row, who in zip(table.rows, whose, strict=True) if who == name]
            for name in names
        }
        if any(epochs != numbers[names[0]] for epochs in numbers.values()):
            raise DataError(f"{place}: the scorers have not scored the same epochs; mend the file.")
    scorings = _from_one_zero(scorings)
    return _in_turns(place, scorings) or scorings


def _from_one_zero(scorings: Mapping[str, Hypnogram]) -> dict[str, Hypnogram]:
    """Return hypnograms of one table whose onsets all count from the first one's start."""
    first = next(iter(scorings.values())).start
    if first is None:
        return dict(scorings)
    moved = {}
    for name, hypnogram in scorings.items():
        later = _later(first, hypnogram.start)
        moved[name] = replace(hypnogram, onsets=hypnogram.onsets + later, start=first)
    return moved


def _later(first: datetime | time, start: datetime | time) -> float:
    """Return the seconds from one start to another; times of day are less than 12 h apart."""
    if isinstance(first, datetime):
        return (start - first).total_seconds()
    day = EPOCH_OF_UNIX
    later = (datetime.combine(day, start) - datetime.combine(day, first)).total_seconds()
    return (later + DAY_S / 2) % DAY_S - DAY_S / 2


def _in_turns(place: str, scorings: Mapping[str, Hypnogram]) -> dict[str, Hypnogram]:
    """Return the one hypnogram of scorers of whom each scored other parts of a night, or none."""
    held = list(scorings.values())
    onsets, durations, stages = (
        np.concatenate([getattr(hypnogram, key) for hypnogram in held])
        for key in ("onsets", "durations", "stages")
    )
    order = np.argsort(onsets, kind="stable")
    onsets, durations, stages = onsets[order], durations[order], stages[order]
    if np.isnan(durations).any() or (np.diff(onsets) < durations[:-1] - TOLERANCE_S).any():
        return {}
    told = f"scored in turns by {', '.join(shown(name, 80) for name in list(scorings)[:8])}"
    notes = dict.fromkeys(note for hypnogram in held for note in hypnogram.notes)
    whole = replace(
        held[0], onsets=onsets, durations=durations, stages=stages, notes=(told, *notes)
    )
    return {"": whole}


def _with_onsets(
    place: str,
    table: Table,
    labels: list[str],
    codes: list[int | None],
    notes: tuple[str, ...],
    settings: HypnogramConfig,
) -> Hypnogram:
    onsets, start = onsets_and_start(place, [row[table.onset].strip() for row in table.rows])
    kept = [i for i, code in enumerate(codes) if code is not None]
    durations = dict(zip(kept, table.durations(place, kept), strict=True))
    rows = [
        Labelled(onset=at, duration=span if span > 0 else math.nan, label=label, code=code)
        for at, label, code, span in zip(
            onsets,
            labels,
            codes,
            (durations.get(i, table.lasting(i)) for i in range(len(codes))),
            strict=True,
        )
    ]
    held = [row.onset for row in rows if row.code is not None and math.isnan(row.duration)]
    if any(after <= before for before, after in itertools.pairwise(held)):
        raise DataError(f"{place}: stages hold until the next onset, and onsets go back; mend it.")
    hypnogram = stages_among(place, rows, settings, start)
    hypnogram = replace(hypnogram, notes=(*notes, *hypnogram.notes))
    if isinstance(start, datetime) and start.date() == EPOCH_OF_UNIX and _is_of_mne(table):
        midnight = datetime.combine(EPOCH_OF_UNIX, time())
        since = hypnogram.onsets + (start - midnight).total_seconds()
        return replace(hypnogram, onsets=since, start=None, in_signal=True)
    if start is not None:
        return hypnogram
    # BIDS says what its onsets count from; other tables do not.
    bids = place.endswith("_events.tsv") or (
        place.startswith("sub-") and place.endswith("_hypnogram.tsv")
    )
    return replace(hypnogram, in_signal=bids, from_zero=not bids)


def _is_of_mne(table: Table) -> bool:
    """Tell whether MNE wrote a table: without a date, its onsets count from 1970 on."""
    return {"onset", "duration", "description"} <= set(table.names)


def _check_epochs(place: str, table: Table, settings: HypnogramConfig) -> None:
    """Raise DataError where a list's numbers of epochs or durations say that it is none."""
    durations = table.durations(place)
    column = next((table.names.index(name) for name in EPOCH if name in table.names), None)
    if column is not None:
        numbers = [seconds(place, row[column]) for row in table.rows]
        for before, after in itertools.pairwise(numbers):
            if after != before + 1:
                raise DataError(
                    f"{place}: epoch {after:g} follows epoch {before:g}: a row is missing or "
                    "damaged."
                )
    other = [span for span in durations if not math.isnan(span) and span != settings.epoch_s]
    if other:
        raise DataError(
            f"{place}: a duration of {other[0]:g} s and no column of onsets, where epochs have "
            f"{settings.epoch_s:g} s; expected a column called {', '.join(ONSET[:3])}."
        )
