"""Samples of WFDB records that were not digitised, and the lines that stand there instead."""

from typing import TYPE_CHECKING

import numpy as np

from partsig.data.signals.lazy import Row, stretches
from partsig.errors import DataError

if TYPE_CHECKING:
    import wfdb

# The sample that means "not digitised" in a format of so many bits (WFDB signal(5)).
BITS = {"80": 8, "160": 16, "16": 16, "61": 16, "212": 12, "310": 10, "311": 10}
BITS |= {"24": 24, "32": 32, "508": 8, "516": 16, "524": 24}


def bridged(row: Row, record: "wfdb.Record", c: int, notes: list[str]) -> Row:
    """Return samples with straight lines over those that were not digitised."""
    bits = BITS.get(record.fmt[c])
    edges: list[np.ndarray] = []  # where what is missing begins, and where it ends, in turns
    last = False
    for start, stop in stretches(len(row)) if bits else ():
        missing = row[start:stop] == -(2 ** (bits - 1))
        edges.append(start + np.flatnonzero(np.diff(missing, prepend=last)))
        last = bool(missing[-1])
    edges_of_runs = np.concatenate([*edges, [len(row)] * last]).astype(np.int64)
    begins, ends = edges_of_runs.reshape(-1, 2).T
    n_missing = int((ends - begins).sum())
    if n_missing == len(row) > 0:
        raise DataError(f"{record.record_name}: channel {record.sig_name[c]!r} holds no samples.")
    if not n_missing:
        return row
    notes.append(f"{n_missing} missing samples of {record.sig_name[c]} are bridged")

    def read(start: int, stop: int) -> np.ndarray:
        low, high = np.searchsorted(ends, start, "right"), np.searchsorted(begins, stop, "left")
        at = np.arange(start, stop)
        there = np.ones(stop - start, bool)
        for begin, end in zip(begins[low:high], ends[low:high], strict=True):
            there[max(begin - start, 0) : max(end - start, 0)] = False
        known = at[there]
        if low < high:  # the lines come from before the slice, and end after it
            outside = [begins[low] - 1] if 0 < begins[low] <= start else []
            known = np.concatenate([outside, known]).astype(np.int64)
            outside = [ends[high - 1]] if stop <= ends[high - 1] < len(row) else []
            known = np.concatenate([known, outside]).astype(np.int64)
        values = np.zeros(len(known))
        inside = (known >= start) & (known < stop)
        values[inside] = row[start:stop][known[inside] - start]
        for i in np.flatnonzero(~inside):
            values[i] = row[known[i] : known[i] + 1][0]
        return np.interp(at, known, values)

    return Row(len(row), np.dtype(float), read)
