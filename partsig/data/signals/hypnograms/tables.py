"""Hypnograms in tables with onsets, and in lists of one stage per epoch."""

import csv
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.events import Labelled, stages_among
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import (
    duration,
    is_clock,
    onsets_and_start,
    seconds,
)
from partsig.data.signals.readers.edf_header import plain_number
from partsig.errors import DataError
from partsig.text import shown

ONSET = ("onset", "start", "start_s", "time", "onset_s", "begin")
ONSET += ("starttime", "start_time", "clock_time", "clocktime", "clock", "time_of_day")
DURATION = ("duration", "duration_s", "dur", "length")
STAGE = ("stage", "sleep_stage", "sleepstage", "stages", "hypnogram", "trial_type", "description")
STAGE += ("label", "annotation", "event", "value", "hypno", "score")
MOST_WORDS = 6  # of a label
EPOCH = ("epoch", "epoch_number", "epochs")
LINE_END = re.compile(r"\r\n|\r|\n")
# What may stand above the stages: nothing, a comment, or a name in brackets, as DREAMS has it.
HEADING = re.compile(r"\s*|#.*|\[[A-Za-z][\w .-]*\]\s*")
# How files begin that are read by none of the rules here, and what they are.
NOT_READ = {
    "{": "JSON",
    "[": "JSON",
    "RemLogic": "an event export of REMlogic",
    "Signal ID:": "a sleep profile of DOMINO",
}
# A year of 30-s epochs has a million.
MOST_LINES = 1_100_000
# Columns that hold other events too; what is no stage there is passed over.
EVENTS = ("trial_type", "description", "label", "annotation", "event")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table without its head; columns by number, None where there is none of that kind."""

    names: list[str]
    rows: list[list[str]]
    stage: int
    onset: int | None
    duration: int | None

    def durations(self, place: str, numbers: Sequence[int] | None = None) -> list[float]:
        """Return the durations (s) of rows, NaN where the table has none or says n/a."""
        rows = self.rows if numbers is None else [self.rows[i] for i in numbers]
        if self.duration is None:
            return [math.nan] * len(rows)
        return [duration(place, row[self.duration]) for row in rows]

    def lasting(self, number: int) -> float:
        """Return how long another event lasts (s), NaN where that is not told, or no number."""
        text = "" if self.duration is None else self.rows[number][self.duration]
        return plain_number(text.strip())


def from_table(place: str, text: str, settings: HypnogramConfig, kind: str) -> Hypnogram:
    """Return the hypnogram of a text; ``kind`` is table, list, or text where either may be.

    Raises DataError where the columns, a label, or times of the table are not understood.
    """
    table = _find_columns(place, _split(place, text), kind)
    labels = [row[table.stage].strip().strip('"') for row in table.rows]
    if table.onset is None:
        codes, notes = stage_codes(place, labels, settings, events=False)
        _check_epochs(place, table, settings)
        at = np.arange(len(codes)) * settings.epoch_s
        held = [UNSCORED if code is None else code for code in codes]  # what is to be ignored
        listed = make_hypnogram(place, at, np.full(len(codes), settings.epoch_s), held)
        return replace(listed, notes=notes)
    return _with_onsets(place, table, labels, settings)


def _with_onsets(
    place: str, table: Table, labels: list[str], settings: HypnogramConfig
) -> Hypnogram:
    events = table.names[table.stage] in EVENTS
    codes, notes = stage_codes(place, labels, settings, events=events)
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
    if start is not None:
        return hypnogram
    # BIDS says what its onsets count from; other tables do not.
    bids = place.endswith("_events.tsv")
    return replace(hypnogram, in_signal=bids, from_zero=not bids)


def _split(place: str, text: str) -> list[list[str]]:
    """Return the cells of every line that holds something."""
    first = text.lstrip()[:200].partition("\n")[0].strip()
    foreign = next((told for word, told in NOT_READ.items() if first.startswith(word)), "")
    if foreign and not HEADING.fullmatch(first):
        raise DataError(
            f"{place} is {foreign}, which is not read: export the stages as CSV, with onsets or "
            "one stage a line."
        )
    lines = LINE_END.split(text.rstrip(), MOST_LINES)
    if len(lines) > MOST_LINES:
        raise DataError(f"{place}: more than {MOST_LINES:,} lines, which no hypnogram has.")
    # Comments may stand above the stages only: a stage is not to become one.
    lines = list(itertools.dropwhile(lambda line: HEADING.fullmatch(line) is not None, lines))
    if not lines:
        raise DataError(f"{place}: the hypnogram is empty.")
    cut = next((mark for mark in "\t;," if mark in lines[0]), None)
    if not cut and not all(line.strip() for line in lines):
        raise DataError(
            f"{place}: an empty line among the stages: write ? where an epoch was not scored, or "
            "leave the line out."
        )
    lines = [line for line in lines if line.strip()]
    try:  # line by line, or an open quotation mark would swallow those that follow
        return [
            next(csv.reader([line], delimiter=cut, strict=True)) if cut else [line]
            for line in lines
        ]
    except csv.Error as error:
        raise DataError(f"{place} is no readable table ({error}).") from error


def _is_one_line(row: list[str]) -> bool:
    """Tell whether a file's only row holds several stages, or words."""
    return len(row) > 1 or len(row[0].split()) > MOST_WORDS


def _find_columns(place: str, rows: list[list[str]], kind: str) -> Table:
    """Return the table with its columns; one column without a name is of stages."""
    names = [cell.strip().strip('"').lower().replace(" ", "_") for cell in rows[0]]

    def column_of(words: Sequence[str]) -> int | None:
        return next((names.index(word) for word in words if word in names), None)

    stage, onset = column_of(STAGE), column_of(ONSET)
    if stage is None and len(rows) == 1 and _is_one_line(rows[0]):
        raise DataError(
            f"{place}: everything stands on one line; one stage a line is expected, or a table "
            "whose columns are named."
        )
    if stage is None and len(rows[0]) > 1:
        there = shown(", ".join(rows[0]), 400)
        raise DataError(
            f"{place}: no column of stages among {there}; expected one called "
            f"{', '.join(STAGE[:3])} or {STAGE[5]}."
        )
    if onset is None and kind != "list" and stage is not None:
        onset = _column_of_times(place, rows, stage)
    if kind == "table" and onset is None:
        raise DataError(
            f"{place}: no column of onsets; expected one called {', '.join(ONSET[:6])}."
        )
    body = rows if stage is None else rows[1:]
    if any(len(row) < len(names) for row in body):
        raise DataError(f"{place}: some rows are shorter than the first.")
    if any("".join(row[len(names) :]).strip() for row in body):
        raise DataError(f"{place}: some rows are longer than the first.")
    return Table(
        names=names,
        rows=body,
        stage=stage or 0,
        onset=None if kind == "list" else onset,
        duration=column_of(DURATION),
    )


def _column_of_times(place: str, rows: list[list[str]], stage: int) -> int | None:
    """Return the column that holds times of day, whatever it is called, or None.

    Raises DataError where several do: which of them says when a stage begins?
    """
    width, body = len(rows[0]), rows[1:]
    timed = [
        c
        for c in range(width)
        if c != stage and body and all(len(row) > c and is_clock(row[c]) for row in body)
    ]
    if len(timed) > 1:
        told = shown(", ".join(rows[0][c].strip() for c in timed), 200)
        raise DataError(
            f"{place}: {told} are times of day; call the one at which a stage begins onset."
        )
    return timed[0] if timed else None


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
