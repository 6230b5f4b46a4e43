"""Onsets and durations in the texts of a file: seconds, times of day, dates and times."""

import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime, time

import numpy as np

from partsig.data.signals.readers.edf_header import LONGEST_S, plain_number
from partsig.errors import DataError
from partsig.text import quoted, shown

# A clock time is past midnight if it follows the one before within half of it.
DAY_S = 86_400.0
# A decimal comma; before three digits it may be one between thousands.
COMMA = re.compile(r"[+-]?[0-9]{1,12},(?:[0-9]{1,2}|[0-9]{4,12})")
# By an hour clocks are changed, before four in the morning wherever they are.
HOUR_S, LATEST_CHANGE = 3600.0, 4
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
    times = [_zoned(place, text) for text in texts]
    first = times[0]
    if len({(type(at), at.tzinfo is None) for at in times}) > 1:
        raise DataError(f"{place}: some onsets have a date and some have none, or a zone.")
    onsets = [0.0]
    for before, at in itertools.pairwise(times):
        if isinstance(at, datetime):  # those with a zone count on where clocks are changed
            onsets.append((at - first).total_seconds())
            continue
        step = (_since_midnight(at) - _since_midnight(before)) % DAY_S
        if step > DAY_S / 2:
            raise DataError(
                f"{place}: {at} does not follow {before}; mend the file, or, where clocks were "
                "changed, give onsets in seconds."
            )
        onsets.append(onsets[-1] + step)
    if first.tzinfo is None:
        _check_jumps(place, times, onsets)
    return onsets, first.replace(tzinfo=None)


def _check_jumps(place: str, times: Sequence[datetime | time], onsets: Sequence[float]) -> None:
    """Raise DataError where epochs follow in equal steps but for an hour, by night."""
    steps = np.diff(onsets)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if len(steps) < 3 or usual <= 0 or (abs(steps - usual) < SAME_S).mean() < 0.5:
        return
    for k in np.flatnonzero(abs(abs(steps - usual) - HOUR_S) < 1.0):
        before, after = times[k], times[k + 1]
        if max(before.hour, after.hour) < LATEST_CHANGE:
            raise DataError(
                f"{place}: {after} follows {before}, an hour from where it should be: clocks may "
                "have been changed, or an hour was not scored; give onsets in seconds, or times "
                "with their zone, such as 2020-03-29T03:00:00+02:00."
            )


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
    return _zoned(place, text).replace(tzinfo=None)


def _zoned(place: str, text: str) -> datetime | time:
    """Return a time of day without a zone, or a date and time with the one it has, if any."""
    for read in READ:
        try:
            at = read(text)
        except ValueError:
            continue
        if ":" in text and (isinstance(at, datetime) or at.tzinfo is None):
            return at
    if text.count("/") == 2:
        raise DataError(
            f"{place}: in {quoted(text)} the day or the month may come first; write dates as "
            "2020-02-01 22:31:00."
        )
    raise DataError(f"{place}: {quoted(text)} is neither seconds nor a time such as 22:31:00.")


def _padded(text: str) -> datetime | time:
    """Return a time of day whose hour has one digit."""
    return time.fromisoformat(f"0{text}") if text[1:2] == ":" else time.fromisoformat(text)


def _half_day(text: str) -> time:
    """Return a time of day of twelve hours, which says which."""
    return datetime.strptime(text.upper().replace(".", ""), "%I:%M:%S %p").time()


def _dotted(text: str) -> datetime:
    """Return a date with dots, which has the day first, and a time."""
    return datetime.strptime(text, "%d.%m.%Y %H:%M:%S")


def _iso(text: str) -> datetime:
    """Return a date and a time after a space or a T; Python takes any character for these."""
    if text[10:11] not in (" ", "T"):
        raise ValueError(text)
    return datetime.fromisoformat(text)


READ = (time.fromisoformat, _iso, _padded, _half_day, _dotted)
