"""Luna's annotations: an interval a line, in seconds, epochs, or by the clock.

Source: https://zzz.bwh.harvard.edu/luna/ref/annotations/. Seconds count from the start that the
recording's header tells. Not read: dates with slashes and days by number, which need settings of
Luna's own to be understood.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time

from partsig.data.signals.hypnograms.annotations import BARE
from partsig.data.signals.hypnograms.clock_texts import time_of_day
from partsig.data.signals.hypnograms.codes import number_codes, stage_code
from partsig.data.signals.hypnograms.events import Labelled, stages_among
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import DAY_S, seconds
from partsig.data.signals.hypnograms.vendors import lines_of
from partsig.errors import DataError
from partsig.text import quoted

# Columns: class and interval, with an instance before the interval, and with a channel.
WIDTHS = {3: (0, 0, 1, 2), 4: (0, 1, 2, 3)}
WIDE, LEAST_WIDE = (0, 1, 3, 4), 5
EPOCH = re.compile(r"e:([0-9]{1,7})(?::([0-9.]{1,9}))?(?::([0-9.]{1,9}))?")
ELAPSED = re.compile(r"0\+([0-9]{1,3}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")
CLOCK = re.compile(r"[0-9]{1,2}[:.][0-9]{2}[:.][0-9]{2}(?:\.[0-9]{1,9})?(?: ?[AaPp][Mm])?")
DATED = re.compile(r"([0-9]{1,2})-([0-9]{1,2}|[A-Za-z]{3})-([0-9]{2}|[0-9]{4})[- ](.{5,20})")
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
# Luna's class of stages whose instances say which, and its word for lights that are on.
STAGED, LIGHTS = ("sleepstage", "sleep_stage", "stage", "stages"), "L"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A start: seconds, or a time of day, with a date or without; and how long an epoch is (s)."""

    at: float | time | datetime
    epoch_s: float = math.nan


def is_luna(head: str) -> bool:
    """Tell whether a text has the columns of Luna's annotations."""
    first = next((line for line in head.splitlines() if line and not line.startswith("#")), "")
    cells = first.lower().split()
    return cells[:1] == ["class"] and cells[1:2] in (["instance"], ["start"]) and "stop" in cells


def from_luna(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of Luna's annotations: the stages among their classes.

    Raises DataError where a line, a time or a label is not understood, where some starts are by
    the clock and some are not, and where there is no stage.
    """
    labels, starts, stops = _cells(place, text)
    moments = [_moment(place, start) for start in starts]
    if len({type(moment.at) for moment in moments}) > 1:
        raise DataError(f"{place}: some starts are seconds, some times of day, or dates; mend it.")
    first = moments[0].at if moments else 0.0
    onsets = [_since(first, moment.at) for moment in moments]
    until_next = [stop == "..." for stop in stops]
    spans = [
        _span(place, stops[k], moments[k], onsets[k], onsets[k + 1 : k + 2], first)
        for k in range(len(labels))
    ]
    bare = [label for label in labels if BARE.fullmatch(label)]
    numbers, told = {}, ""
    if settings.codes != "auto":
        numbers, told = number_codes(place, bare, settings)
    own = {LIGHTS: "unscored", **settings.stages}
    codes = [
        None
        if BARE.fullmatch(label) and not numbers and label not in own
        else stage_code(label, numbers, own)
        for label in labels
    ]
    if not any(code is not None and code >= 0 for code in codes):
        raise DataError(f"{place}: no class is a stage; expected N1, N2, N3, R, W and so on.")
    if all(held for held, code in zip(until_next, codes, strict=True) if code is not None):
        # What comes next ends a stage, whatever it is.
        spans = [math.nan] * len(spans)
        codes = [UNSCORED if code is None else code for code in codes]
    rows = [
        Labelled(onset=onset, duration=span if span > 0 else math.nan, label=label, code=code)
        for onset, span, label, code in zip(onsets, spans, labels, codes, strict=True)
    ]
    start = None if isinstance(first, float) else first
    hypnogram = stages_among(place, rows, settings, start)
    notes = (*([told] if told else ()), *hypnogram.notes)
    return {"": replace(hypnogram, from_header=start is None, notes=notes)}


def _cells(place: str, text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the labels, starts and stops of all intervals."""
    labels, starts, stops, width = [], [], [], 0
    for number, line in enumerate(lines_of(place, text), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if cells[0].lower() == "class":
            continue
        if len(cells) < 3:
            raise DataError(
                f"{place}: line {number} has {len(cells)} columns; expected class, start and stop, "
                "or class, instance, channel, start, stop and meta."
            )
        # Columns may follow the fifth in some lines; fewer in one line than in others are lost.
        width = width or min(len(cells), LEAST_WIDE)
        if min(len(cells), LEAST_WIDE) != width:
            raise DataError(f"{place}: line {number} has other columns than those before; mend it.")
        name, instance, start, stop = (cells[k] for k in WIDTHS.get(len(cells), WIDE))
        if not (name and start and stop):
            raise DataError(f"{place}: line {number} has no class, no start or no stop; mend it.")
        labels.append(instance if name.lower() in STAGED and instance != name else name)
        starts.append(start)
        stops.append(stop)
    if not labels:
        raise DataError(f"{place}: the hypnogram is empty.")
    return labels, starts, stops


def _moment(place: str, text: str) -> Moment:
    """Return a start; raise DataError where it is none that is read."""
    epoch = EPOCH.fullmatch(text)
    if epoch:
        length = seconds(place, epoch[2] or "30")
        step = seconds(place, epoch[3]) if epoch[3] else length
        if int(epoch[1]) < 1 or not (length > 0 and step > 0):
            raise DataError(f"{place}: {quoted(text)} is no epoch; the first is e:1.")
        return Moment(at=(int(epoch[1]) - 1) * step, epoch_s=length)
    elapsed = ELAPSED.fullmatch(text)
    if elapsed:
        hours, minutes, rest = (float(part) for part in elapsed.groups())
        return Moment(at=3600 * hours + 60 * minutes + rest)
    if CLOCK.fullmatch(text):
        return Moment(at=time_of_day(place, text))
    dated = DATED.fullmatch(text)
    if dated:
        day, month, year, clock = dated.groups()
        numbered = MONTHS.index(month.lower()) + 1 if month.lower() in MONTHS else month
        # EDF's rule: two digits are 1985 to 2084.
        full = int(year) + (0 if len(year) == 4 else 1900 if int(year) >= 85 else 2000)
        try:
            date = datetime(full, int(numbered), int(day)).date()
        except ValueError:
            raise DataError(f"{place}: {quoted(text)} is no date; the day is first.") from None
        return Moment(at=datetime.combine(date, time_of_day(place, clock)))
    value = seconds(place, text)
    if math.isnan(value):
        raise DataError(f"{place}: a line has no start.")
    return Moment(at=value)


def _since(first: float | time | datetime, at: float | time | datetime) -> float:
    """Return the onset (s) of a moment, from zero or from the first one where it is by the clock.

    Times of day lie up to 6 h before the first, or up to 18 h after it.
    """
    if isinstance(first, float):
        return float(at)
    if isinstance(first, datetime):
        return (at - first).total_seconds()
    day = datetime(2000, 1, 1)
    later = (datetime.combine(day, at) - datetime.combine(day, first)).total_seconds()
    return (later + DAY_S / 4) % DAY_S - DAY_S / 4


def _span(
    place: str,
    stop: str,
    moment: Moment,
    onset: float,
    following: Sequence[float],
    first: float | time | datetime,
) -> float:
    """Return how long an interval lasts (s); NaN where it holds until the next, or is a moment."""
    if stop == "...":
        span = following[0] - onset if following else math.nan
    elif stop == ".":
        span = moment.epoch_s
    elif stop.startswith("+"):
        span = seconds(place, stop[1:])
        if math.isnan(span):
            raise DataError(f"{place}: {quoted(stop)} is no duration; expected +30 or so.")
    else:
        until = _moment(place, stop)
        end = until.at
        if isinstance(end, time) and not isinstance(first, float | datetime):
            # A stop follows its start, also at midnight.
            span = (_since(first, end) - onset) % DAY_S
        elif type(end) is not type(first):
            raise DataError(f"{place}: {quoted(stop)} ends what begins in another unit of time.")
        else:
            ends = 0.0 if math.isnan(until.epoch_s) else until.epoch_s
            span = _since(first, end) + ends - onset
    if span < 0:
        raise DataError(f"{place}: an interval from {onset:g} s ends before it begins; mend it.")
    return span
