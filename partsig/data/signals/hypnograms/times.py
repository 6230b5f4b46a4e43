"""Onsets and durations in the texts of a file: seconds, times of day, dates and times."""

import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime, time

from partsig.data.signals.readers.edf_header import LONGEST_S, plain_number
from partsig.errors import DataError
from partsig.text import quoted, shown

# A clock time is past midnight if it follows the one before within half of it.
DAY_S = 86_400.0
# A decimal comma; before three digits it may be one between thousands.
COMMA = re.compile(r"[+-]?[0-9]{1,12},(?:[0-9]{1,2}|[0-9]{4,12})")
SAME_S = 1e-3  # steps that differ by less are one


def seconds(place: str, text: str) -> float:
    """Return seconds, NaN for an empty text or n/a; raise DataError for any other text."""
    text = text.strip()
    if text.lower() in ("", "n/a", "nan"):
        return math.nan
    value = plain_number(text.replace(",", ".") if COMMA.fullmatch(text) else text)
    if not abs(value) <= LONGEST_S:
        raise DataError(f"{place}: {quoted(text)} is no number of seconds.")
    return value


def duration(place: str, text: str) -> float:
    """Return a duration in seconds, NaN for n/a; raise DataError for an empty or negative one."""
    value = seconds(place, text)
    if value < 0 or not text.strip():
        raise DataError(
            f"{place}: a stage lasts {shown(text.strip(), 40) or 'nothing'}; mend the file."
        )
    return value


def onsets_and_start(
    place: str, texts: Sequence[str]
) -> tuple[list[float], datetime | time | None]:
    """Return onsets in seconds, from the first where they are clock times, and that time."""
    if not texts or ":" not in texts[0]:
        onsets = [seconds(place, text) for text in texts]
        if any(map(math.isnan, onsets)):
            raise DataError(f"{place}: a row has no onset.")
        return onsets, None
    times = [clock(place, text) for text in texts]
    first = times[0]
    if len(set(map(type, times))) > 1:
        raise DataError(f"{place}: some onsets have a date and some have none.")
    onsets = [0.0]
    for before, at in itertools.pairwise(times):
        if isinstance(at, datetime):
            onsets.append((at - first).total_seconds())
            continue
        step = (_since_midnight(at) - _since_midnight(before)) % DAY_S
        if step > DAY_S / 2:
            raise DataError(f"{place}: {at} does not follow {before}; mend the file.")
        onsets.append(onsets[-1] + step)
    return onsets, first


def stepwise(
    onsets: Sequence[float], durations: Sequence[float], labels: Sequence[str]
) -> list[float]:
    """Return the durations (s) of rows that tell none and follow in equal steps: a step each.

    A stage that stands in two rows running shows that rows are epochs, not changes of stage.

    >>> stepwise([0, 30, 60], [math.nan] * 3, ["W", "W", "N1"])
    [30.0, 30.0, 30.0]
    """
    if len(onsets) < 2 or not all(map(math.isnan, durations)):
        return list(durations)
    steps = [after - before for before, after in itertools.pairwise(onsets)]
    equal = all(abs(step - steps[0]) < SAME_S for step in steps) and steps[0] > 0
    repeated = any(before == after for before, after in itertools.pairwise(labels))
    return [float(steps[0])] * len(onsets) if equal and repeated else list(durations)


def is_clock(text: str) -> bool:
    """Tell whether a text is a time of day, or a date and time."""
    try:
        clock("", text.strip().strip('"'))
    except DataError:
        return False
    return True


def _since_midnight(at: time) -> float:
    return at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6


def clock(place: str, text: str) -> datetime | time:
    """Return a time of day, or a date and time, without its zone."""
    for read in (time.fromisoformat, datetime.fromisoformat):
        try:
            at = read(text)
        except ValueError:
            continue
        if ":" in text and (isinstance(at, datetime) or at.tzinfo is None):
            return at.replace(tzinfo=None)
    raise DataError(f"{place}: {quoted(text)} is neither seconds nor a time such as 22:31:00.")
