"""The hypnogram that every format is read into."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time

import numpy as np

from partsig.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Hypnogram:
    """Stages (K,) int8 that hold from ``onsets`` (s) for ``durations`` (s; NaN: until the next).

    Onsets count from ``start`` where it is known (a date and time, or a time of day), from the
    recording's first sample where the format says so (``in_signal``), or from the time in its
    header (``from_header``), and from some zero where they are seconds in a table of one's own
    (``from_zero``). ``notes`` are sentences on what had to be decided in reading it.
    """

    onsets: np.ndarray
    durations: np.ndarray
    stages: np.ndarray
    start: datetime | time | None = None
    in_signal: bool = False
    from_header: bool = False
    from_zero: bool = False
    place: str = ""  # where it was read, for messages
    notes: tuple[str, ...] = ()


def make_hypnogram(
    place: str,
    onsets: Sequence[float],
    durations: Sequence[float],
    codes: Sequence[int],
    start: datetime | time | None = None,
    in_signal: bool = False,
) -> Hypnogram:
    """Return the hypnogram of stages in any order.

    Raises DataError where some scored stages have a duration and others have none.
    """
    spans = [math.isnan(span) for span, code in zip(durations, codes, strict=True) if code >= 0]
    if any(spans) and not all(spans):
        raise DataError(
            f"{place}: {sum(spans)} stages have no duration and {len(spans) - sum(spans)} have "
            "one, so that their ends cannot be told; mend the file, or leave a label out, with "
            "--set 'hypnogram.ignore=[LABEL]'."
        )
    order = np.argsort(np.asarray(onsets, float), kind="stable")
    return Hypnogram(
        onsets=np.asarray(onsets, float)[order],
        durations=np.asarray(durations, float)[order],
        stages=np.asarray(codes, np.int8)[order],
        start=start,
        in_signal=in_signal,
        place=place,
    )
