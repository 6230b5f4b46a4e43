"""Times of day as recorders' programs write them, whatever stands before them."""

import re
from datetime import time

from partsig.data.signals.hypnograms.times import onsets_and_start
from partsig.errors import DataError
from partsig.text import quoted

# "22:09:33", "22.09.33", "22:09:33,000", "10:09:33 PM"; a date before it is left alone, since its
# day and its month may stand in any order, and the nearest day is meant.
CLOCK = re.compile(
    r"(?:^|[ \tT-])(\d{1,2})[:.](\d{2})[:.](\d{2})(?:[.,](\d{1,9}))?(?: ?([AaPp])\.?[Mm]\.?)?$"
)
LONGEST = 60  # characters


def time_of_day(place: str, text: str) -> time:
    """Return the time of day at the end of a text; raise DataError where there is none.

    >>> time_of_day("f", "11/18/2021 8:39:30 PM"), time_of_day("f", "23.45.04,500").microsecond
    (datetime.time(20, 39, 30), 500000)
    """
    stripped = text.strip()
    found = CLOCK.search(stripped) if len(stripped) <= LONGEST else None
    if found:
        hour, minute, second = (int(found[k]) for k in (1, 2, 3))
        if found[5] and 1 <= hour <= 12:
            hour = hour % 12 + 12 * (found[5].upper() == "P")
        elif found[5]:
            hour = 24  # no hour of twelve
        if hour < 24 and minute < 60 and second < 60:
            return time(hour, minute, second, int(f"{found[4] or '0':0<6}"[:6]))
    raise DataError(f"{place}: {quoted(stripped)} is no time of day such as 22:31:00.")


def onsets_by_clock(place: str, texts: list[str]) -> tuple[list[float], time]:
    """Return onsets (s) from the first of these times of day on, and that one.

    Raises DataError where one does not follow the one before within 12 h, or clocks were changed.
    """
    times = [time_of_day(place, text) for text in texts]
    onsets, _ = onsets_and_start(place, [at.isoformat() for at in times])
    return onsets, times[0]
