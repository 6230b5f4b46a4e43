"""What a store of signals lists: a row for each recording, in one index or in those of shards."""

import csv
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import ceil, floor
from pathlib import Path

import numpy as np

from partsig import regular
from partsig.cells import NUMBER, as_table, read_numbered
from partsig.contracts import Labels, labels_of
from partsig.data.signals.readers.edf_header import LONGEST_S
from partsig.data.store import FAILED, INDEX, OK, read_meta
from partsig.errors import DataError
from partsig.files import write_text

SPLIT, SHARDS = "split.csv", "shards"
# Columns that earlier stores may lack: the last one, the last two, or all.
FINGERPRINT = "fingerprint"
GAPS = "gaps"
LATER = ("start_s", "filled", "notes", FINGERPRINT, GAPS)
# A number of samples or epochs; those of a year are below it.
COUNT = re.compile(r"[0-9]{1,15}", re.ASCII)
# Seconds of a year have eight digits; fractions of a sample do not matter.
GAP_TEXT = re.compile(
    r"(?:[0-9]{1,9}(?:\.[0-9]{1,6})?-[0-9]{1,9}(?:\.[0-9]{1,6})?(?:; |\Z))*", re.ASCII
)
# Part of an epoch by which a gap may reach into it: its ends are rounded in the index.
OFF = 1e-3
# What a division of the work into shards has at most.
MOST_SHARDS = 100_000
# What shards are called, all at once, from when their index is whole until they are deleted.
MERGED = ".shards.merged"


def columns_of(labels: Labels) -> tuple[str, ...]:
    """Return the columns of ``index.csv``: who, how much, how often each class, which state."""
    about = ("sha256", "source", "status", "reason", *LATER)
    return ("recording", "subject", "age", "sex", *_counted(labels), *about)


def _counted(labels: Labels) -> tuple[str, ...]:
    return ("n_samples", "n_epochs", *labels.classes, "unscored")


def index_name(shard: str = "") -> str:
    """Return where the index lies in a store, or that of a shard."""
    return f"{SHARDS}/{shard}.csv" if shard else INDEX


def file_names(recording: str) -> list[str]:
    """Return where a recording's files lie in a store."""
    return [f"{kind}/{recording}.npy" for kind in ("signals", "labels")]


def index_path(path: Path, shard: str = "") -> Path:
    """Return where the index of a store, or of a shard, lies."""
    return path / index_name(shard)


def read_signal_meta(path: Path) -> dict:
    """Return ``meta.json``; raise DataError for a store of something else than signals."""
    meta = read_meta(path)
    if "sfreq" not in meta:
        raise DataError(
            f"{path} is a store of {meta.get('modality')}s, and signals are needed here."
        )
    return meta


def failed_row(recording: str, subject: str, reason: str) -> dict[str, object]:
    """Return the index row of a recording that could not be read."""
    return {"recording": recording, "subject": subject, "status": FAILED, "reason": reason}


def write_index(path: Path, rows: Iterable[dict[str, object]], shard: str = "") -> None:
    """Write ``index.csv``, or that of a shard, sorted by recording, in one atomic step."""
    labels = labels_of(read_signal_meta(path))
    empty = dict.fromkeys(columns_of(labels), "") | dict.fromkeys(_counted(labels), 0)
    whole = [empty | row for row in sorted(rows, key=lambda row: str(row["recording"]))]
    table = as_table(list(empty), [[row[name] for name in empty] for row in whole])
    write_text(index_path(path, shard), table)


def read_index(path: Path, shard: str = "") -> list[dict]:
    """Return the rows of ``index.csv``, or of a shard's, with their counts as integers."""
    meta = read_signal_meta(path)
    labels = labels_of(meta)
    columns, counted = columns_of(labels), _counted(labels)
    file = index_path(path, shard)
    try:
        with regular.open_text(file, newline="") as handle:
            table = read_numbered(handle)
            _, header = next(table, (1, []))
            header = tuple(header)
            if header not in (columns, *(columns[:-n] for n in (1, 2, len(LATER)))):
                raise DataError(f"{file}: expected the columns {', '.join(columns)}.")
            rows = []
            for line, cells in table:
                if len(cells) != len(header):
                    raise csv.Error(f"line {line}: {len(cells)} cells, not {len(header)}")
                row = dict.fromkeys(LATER, "") | dict(zip(header, cells, strict=True))
                fault = _counted_in(row, counted, meta)
                if fault:
                    raise csv.Error(f"line {line}: {fault}")
                rows.append(row)
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} is damaged ({error}).") from error
    for row in rows:  # files are called after it
        if not row["recording"] or "/" in row["recording"] or "\0" in row["recording"]:
            raise DataError(
                f"{file} names a recording {row['recording'][:80]!r}, which no file is called."
            )
    return rows


def _counted_in(row: dict, counted: tuple[str, ...], meta: dict) -> str | None:
    """Make numbers of what a row counts; return what is wrong with them, None where nothing is."""
    for key in counted:
        if not COUNT.fullmatch(row[key]):
            return f"{key} is {row[key][:40]!r}, which is no count"
        row[key] = int(row[key])
    if not NUMBER.fullmatch(row["start_s"] or "0") or abs(float(row["start_s"] or 0)) > LONGEST_S:
        return f"start_s is {row['start_s'][:40]!r}, which is no time in a recording"
    if not GAP_TEXT.fullmatch(row[GAPS]):
        return f"gaps are {row[GAPS][:40]!r}; they are told as START-STOP; START-STOP, in seconds"
    if row["status"] != OK:
        return None
    n_samples, n_epochs, *classes = (row[key] for key in counted)
    most = LONGEST_S * meta["sfreq"]
    if n_samples > most:
        return f"n_samples is {n_samples}, more than a year has ({most:.0f})"
    most = n_samples // round(labels_of(meta).unit_s * meta["sfreq"])
    if n_epochs > most:
        return f"n_epochs is {n_epochs}, and its samples are those of {most}"
    if sum(classes) != n_epochs:
        return f"its classes are of {sum(classes)} epochs, and n_epochs is {n_epochs}"
    return None


def gaps_as_text(gaps: Iterable[tuple[float, float]], start_s: float, end_s: float) -> str:
    """Return gaps (s) of a recording as its index tells them, from the store's first sample.

    Those before ``start_s``, where that lies, and after ``end_s`` are left out.

    >>> gaps_as_text([(10.0, 40.0), (95.5, 95.5), (200.0, 300.0)], 30.0, 150.0)
    '0-10; 65.5-65.5'
    """
    inside = ((max(a, start_s), min(b, end_s)) for a, b in sorted(gaps))
    told = ((a - start_s, b - start_s) for a, b in inside if a <= b and b > start_s)
    return "; ".join(f"{_seconds(a)}-{_seconds(b)}" for a, b in told)


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def gaps_of_text(text: str) -> list[tuple[float, float]]:
    """Return the gaps (s) that an index tells.

    >>> gaps_of_text("0-10; 65.5-65.5")
    [(0.0, 10.0), (65.5, 65.5)]
    """
    ends = (pair.split("-") for pair in text.split("; ") if pair)
    return [(float(start), float(stop)) for start, stop in ends]


def gaps_within(
    gaps: Iterable[tuple[float, float]], start_s: float, end_s: float
) -> list[tuple[float, float]]:
    """Return gaps (s) of a recording counted from ``start_s``, as a store's index would hold them.

    >>> gaps_within([(10.0, 40.0), (200.0, 300.0)], 30.0, 150.0)
    [(0.0, 10.0)]
    """
    return gaps_of_text(gaps_as_text(gaps, start_s, end_s))


def unbroken(gaps: Iterable[tuple[float, float]], n: int, unit_s: float) -> list[tuple[int, int]]:
    """Return the (first, stop) of n epochs of ``unit_s`` seconds between which nothing is missing.

    All epochs are in one of them; one that a gap (s, from the first epoch) touches is alone.

    >>> unbroken([(65.0, 65.0)], 5, 30.0)
    [(0, 2), (2, 3), (3, 5)]
    """
    edges = {0, n}
    for first, last in _epochs_of(gaps, unit_s):
        edges |= {first, *range(max(first, 0), min(last, n) + 1)}
    return list(pairwise(sorted(edge for edge in edges if 0 <= edge <= n)))


def touched(gaps: Iterable[tuple[float, float]], n: int, unit_s: float) -> np.ndarray:
    """Return which (n,) of n epochs of ``unit_s`` seconds a gap (s, from the first epoch) touches.

    >>> touched([(65.0, 65.0), (110.0, 130.0)], 6, 30.0).astype(int).tolist()
    [0, 0, 1, 1, 1, 0]
    """
    missing = np.zeros(n, bool)
    for first, last in _epochs_of(gaps, unit_s):
        missing[max(first, 0) : max(last, 0)] = True
    return missing


def _epochs_of(gaps: Iterable[tuple[float, float]], unit_s: float) -> Iterator[tuple[int, int]]:
    """Yield the (first, stop) of the epochs that each gap touches."""
    for start, stop in gaps:
        yield floor(start / unit_s + OFF), ceil(stop / unit_s - OFF)


def is_shard(first: str, total: str) -> bool:
    """Tell whether these are the numbers of a shard and of all of them.

    >>> is_shard("3", "16"), is_shard("17", "16"), is_shard("1", "99999999")
    (True, False, False)
    """
    numbers = [int(text) if re.fullmatch("[0-9]{1,6}", text) else 0 for text in (first, total)]
    return 1 <= numbers[0] <= numbers[1] <= MOST_SHARDS


def merge_shards(path: Path) -> dict[str, dict]:
    """Make one index of those of all shards; return its rows, by recording.

    Once done, it is done: the rows of the index are returned again. Raises DataError when there are
    neither, when a shard is missing, or when they are of two divisions.
    """
    read_meta(path)
    shutil.rmtree(path / MERGED, ignore_errors=True)
    rows = {row["recording"]: row for row in read_index(path)} if index_path(path).is_file() else {}
    names = sorted(file.stem for file in (path / SHARDS).glob("*-of-*.csv"))
    for name in names:
        if not is_shard(*name.split("-of-", 1)):
            raise DataError(
                f"{path / index_name(name)} is no shard of a store, which is I-of-N.csv with N up "
                f"to {MOST_SHARDS:,}: delete it, and merge again."
            )
    totals = {name.partition("-of-")[2] for name in names}
    if not names and rows:
        return rows
    if not names:
        raise DataError(f"{path} has no shards to merge: run `partsig preprocess … --shard 1/N`.")
    if len(totals) > 1:
        raise DataError(
            f"{path} has shards of several divisions ({', '.join(sorted(totals))}): delete those "
            f"of {path / SHARDS} that do not belong."
        )
    total = int(totals.pop())
    there = set(names)
    missing = [f"{i}/{total}" for i in range(1, total + 1) if f"{i}-of-{total}" not in there]
    if missing:
        few = ", ".join(missing[:20]) + (f" and {len(missing) - 20:,} more" * (len(missing) > 20))
        raise DataError(f"{path} lacks the shards {few}: run them first.")
    for name in names:
        rows |= {row["recording"]: row for row in read_index(path, name)}
    write_index(path, rows.values())
    (path / SHARDS).replace(path / MERGED)
    shutil.rmtree(path / MERGED)
    return rows
