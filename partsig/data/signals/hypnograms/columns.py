"""Tables and lists of stages as text: their rows, and which column holds what."""

import csv
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from partsig.data.signals.hypnograms.codes import is_stage_word
from partsig.data.signals.hypnograms.settings import CONSENSUS
from partsig.data.signals.hypnograms.times import duration, is_clock
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
# A year of 30-s epochs has a million.
MOST_LINES = 1_100_000
# Columns that hold other events too; what is no stage there is passed over.
EVENTS = ("trial_type", "description", "label", "annotation", "event")
# Columns that tell who scored a row, and those of one scorer among several.
SCORER = ("scorer", "annotator", "rater", "scored_by", "scorer_id", "annotator_id", "rater_id")
OF_SCORER = re.compile(r"(?:sleep_?)?(?:stages?|hypnogram|hypno|scoring)_?(?P<name>.{1,80})")
NAMED = re.compile(r"(?P<name>(?:scorer|rater|annotator|expert)_?[^_].{0,80})")
TAILS = ("_stage", "_stages", "_hypnogram", "_hypno", "_scoring")
ONE_LINE = re.compile(r"[\t;, ]+")
# Fewer cells on a file's only line are a row of a table, and no night.
LEAST_ON_ONE_LINE = 8
# Characters that are a stage each, where nothing stands between them.
RUN_TOGETHER = re.compile(r"[0-9WRMU?]{20,2000000}")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table without its head; columns by number, None where there is none of that kind."""

    names: list[str]
    rows: list[list[str]]
    stages: dict[str, int]  # columns of stages, by the scorer; "" where that is not told
    onset: int | None
    duration: int | None
    scorer: int | None = None  # who scored a row

    @property
    def may_hold_events(self) -> bool:
        """Whether what is no stage in the column of stages is another event."""
        return any(self.names[column] in EVENTS for column in self.stages.values())

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


def split(place: str, text: str) -> list[list[str]]:
    """Return the cells of every line that holds something."""
    lines = LINE_END.split(text.rstrip(), MOST_LINES)
    if len(lines) > MOST_LINES:
        raise DataError(f"{place}: more than {MOST_LINES:,} lines, which no hypnogram has.")
    # Comments may stand above the stages only: a stage is not to become one.
    lines = list(itertools.dropwhile(lambda line: HEADING.fullmatch(line) is not None, lines))
    if not lines:
        raise DataError(f"{place}: the hypnogram is empty.")
    one = lines[0].strip().strip("\t;,")
    if len(lines) == 1:
        cells = ONE_LINE.split(one)
        if len(cells) >= LEAST_ON_ONE_LINE and all(map(is_stage_word, cells)):
            return [[cell] for cell in cells]
        if RUN_TOGETHER.fullmatch(one) and len(set(one)) > 1:
            return [[character] for character in one]
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


def find_columns(place: str, rows: list[list[str]], kind: str, wanted: str = "") -> Table:
    """Return the table with its columns; one column without a name is of stages.

    ``wanted`` is the scorer that is asked for, who may have a column beside that of stages.
    """
    names = [cell.strip().strip('"').lower().replace(" ", "_") for cell in rows[0]]

    def column_of(words: Sequence[str]) -> int | None:
        return next((names.index(word) for word in words if word in names), None)

    stage, onset = column_of(STAGE), column_of(ONSET)
    scorer = column_of(SCORER)
    whose = {} if stage is None else {"": stage}
    others = _of_scorers(names, rows)
    if others and (stage is None or (scorer is None and _asked(wanted, others))):
        whose = ({} if stage is None else {names[stage]: stage}) | others
        stage = next(iter(whose.values()))
    if stage is None and len(rows) == 1 and _is_one_line(rows[0]):
        raise DataError(
            f"{place}: everything stands on one line, and not all of it is a stage; one stage a "
            "line is expected, or a table whose columns are named."
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
        stages=whose or {"": 0},
        onset=None if kind == "list" else onset,
        duration=column_of(DURATION),
        scorer=scorer,
    )


def _of_scorers(names: list[str], rows: list[list[str]]) -> dict[str, int]:
    """Return the columns that are one scorer's each, by the scorer: all in them may be a stage."""
    columns: dict[str, int] = {}
    # Else "Stage 1" is the first of a list, and no column's name.
    headed = any(name in (*ONSET, *DURATION, *EPOCH) for name in names)
    for c, name in enumerate(names):
        if name in (*STAGE, *ONSET, *DURATION, *EPOCH, *SCORER):
            continue
        if not headed and is_stage_word(rows[0][c]):
            continue
        cells = [row[c] for row in rows[1:] if len(row) > c]
        who = _scorer_of(name)
        if who and cells and all(is_stage_word(cell.strip().strip('"')) for cell in cells):
            columns[name if who in columns else who] = c
    return columns


def _scorer_of(name: str) -> str:
    """Return whose stages a column of this name holds, "" where it tells nobody.

    >>> [_scorer_of(name) for name in ("stage_hum", "ai_stage", "scorer_1", "subject")]
    ['hum', 'ai', 'scorer_1', '']
    """
    told = OF_SCORER.fullmatch(name) or NAMED.fullmatch(name)
    if told:
        return told["name"]
    return next((name.removesuffix(tail) for tail in TAILS if name.endswith(tail)), "")


def _asked(wanted: str, others: dict[str, int]) -> bool:
    """Tell whether these columns are needed beside the one that is called stages."""
    return wanted == CONSENSUS or wanted.casefold() in {name.casefold() for name in others}


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
