"""Fields of the header of EDF, EDF+ and BDF files: texts, numbers, scales, the start."""

import math
import re
from datetime import datetime
from pathlib import Path

from partsig.errors import DataError
from partsig.text import quoted

# Header fields of all signals, one field after the other: name and width in bytes.
FIELDS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical_min": 8,
    "physical_max": 8,
    "digital_min": 8,
    "digital_max": 8,
    "prefilter": 80,
    "samples": 8,
    "reserved": 32,
}
# A longer recording and greater values than any device writes.
LONGEST_S, MOST_VALUE = 366 * 86_400.0, 1e30
# The first day that the header's two digits can say, and what stands there for none.
UNTOLD = datetime(1985, 1, 1)
# What stands where nobody set a clock: no time of day is to be told from it.
NO_STARTS = (UNTOLD, datetime(1970, 1, 1))
# Python's float also takes 1_0, nan and digits of every script. What was matched is never given
# back, so that a long text takes time with its length, not with the square of it.
NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]{1,3})?")
LONGEST_NUMBER = 100  # characters; Python writes no float with more than 24


def sample_width(path: Path, head: bytes) -> int:
    """Return the bytes of a sample: 2 in EDF, 3 in BDF."""
    if head[:8] == b"\xffBIOSEMI":
        return 3
    if head[:8].strip() == b"0":
        return 2
    raise DataError(f"{path.name}: it does not begin as an EDF or BDF file does.")


def signal_fields(body: bytes, n: int) -> dict[str, list[bytes]]:
    """Return the fields of ``n`` signals by name."""
    fields, at = {}, 0
    for name, width in FIELDS.items():
        fields[name] = [body[at + i * width : at + (i + 1) * width] for i in range(n)]
        at += n * width
    return fields


def text_of(field: bytes) -> str:
    """Return a field as text, without what fills it up."""
    # The standard allows ASCII only; µ and accents are found in the wild, in Latin-1 or UTF-8.
    field = field.rstrip(b"\0 ")
    try:
        return field.decode("utf-8").strip()
    except UnicodeDecodeError:
        return field.decode("latin-1").strip()


def number_of(path: Path, what: str, field: bytes) -> float:
    """Return a field as a number; raise DataError where it is none."""
    text = text_of(field).replace(",", ".")
    value = plain_number(text)
    if not math.isfinite(value):
        raise DataError(f"{path.name}: {what} is {quoted(text)}, not a number.")
    return value


def plain_number(text: str) -> float:
    """Return the number that a text is, written in digits; NaN for any other text.

    >>> plain_number("-2.5e3"), plain_number("1_0")
    (-2500.0, nan)
    """
    plain = len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text)
    return float(text) if plain else math.nan


def whole_number(path: Path, what: str, field: bytes, low: int, high: int) -> int:
    """Return a field as a whole number; raise DataError where it is none, or out of range."""
    value = number_of(path, what, field)
    if value != int(value) or not low <= value <= high:
        raise DataError(f"{path.name}: {what} is {quoted(text_of(field))}; the header is damaged.")
    return int(value)


def scale_of(
    path: Path, label: str, fields: dict[str, bytes], width: int
) -> tuple[float, float, tuple[int, int]]:
    """Return scale and offset of ``value = (sample - offset) * scale``, and the sample's range."""
    low, high, least, most = (
        number_of(path, f"{kind} range of {label!r}", fields[f"{kind}_{end}"])
        for kind in ("digital", "physical")
        for end in ("min", "max")
    )
    scale = (most - least) / (high - low) if high > low else 0.0
    reach = max(abs(least), abs(most), abs(1 / scale) if scale else math.inf)
    if reach > MOST_VALUE or max(-low, high) > 2 ** (8 * width):
        raise DataError(
            f"{path.name}: channel {label!r} maps samples {low:g} to {high:g} on values "
            f"{least:g} to {most:g}; the header is damaged."
        )
    return scale, low - least / scale, (int(low), int(high))


def patient_of(head: bytes) -> str:
    """Return the patient's code, "" where the header tells none."""
    words = text_of(head[8:88]).split()
    return "" if not words or words[0].strip("Xx_-0") == "" else words[0]


def start_of(head: bytes) -> tuple[datetime | None, bool]:
    """Return the start, or None where it is not told, and whether its two dates agree.

    EDF+ writes the date a second time, with four digits for the year; that one counts where the
    other was left at its zero.
    """
    # Some write " 1. 3.20" and "22. 0. 0".
    date, time = (text_of(head[at]).replace(" ", "") for at in (slice(168, 176), slice(176, 184)))
    words = text_of(head[88:168]).split()
    startdate = words[1] if len(words) > 1 and words[0] == "Startdate" else "X"
    try:
        clock = datetime.strptime(time.replace(":", "."), "%H.%M.%S").time()
    except ValueError:
        return None, True
    short, long = _date(date.replace("/", "."), "%d.%m.%y"), _date(startdate.title(), "%d-%b-%Y")
    if short is not None:  # two digits are the years 1985 to 2084
        short = short.replace(year=1985 + (short.year - 1985) % 100)
    if short is None or long is None or short == UNTOLD:
        day, agreed = long or short, True
    else:
        day, agreed = long, f"{short:%d%m%y}" == f"{long:%d%m%y}"
    start = datetime.combine(day, clock) if day and agreed else None
    return (None if start in NO_STARTS else start), agreed


def _date(text: str, form: str) -> datetime | None:
    try:
        date = datetime.strptime(text, form)
    except ValueError:
        return None
    return date if 1900 <= date.year < 2200 else None
