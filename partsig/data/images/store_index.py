"""What a store of images lists: a row for each image, its label, its role and its place."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from partsig import regular
from partsig.cells import as_table, read_numbered
from partsig.data.store import INDEX, OK
from partsig.errors import DataError
from partsig.files import write_text

COLUMNS = ("image", "label", "role", "status", "reason", "row", "source")
LATER = ("fingerprint", "same_as")  # columns that earlier stores lack
GROUP = "group"  # the column of stores of crops alone
ROLES = ("train", "val", "test")
# Numbers of an index: of a class, or -1; and of a place among at most 10**9 images.
LABEL, PLACE = re.compile(r"-1|[0-9]{1,9}", re.ASCII), re.compile(r"[0-9]{1,9}", re.ASCII)


def write_index(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write ``index.csv`` in one atomic step; the column ``group`` only where a row has one."""
    rows = list(rows)
    columns = (*COLUMNS, *LATER)
    if any(row.get(GROUP) for row in rows):
        columns += (GROUP,)
    write_text(path / INDEX, as_table(columns, [[row.get(k, "") for k in columns] for row in rows]))


def read_index(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of ``index.csv``; raise DataError when it is damaged."""
    file = path / INDEX
    try:
        with regular.open_text(file, newline="") as handle:
            table = read_numbered(handle)
            header = tuple(next(table, (1, ()))[1])
            if header not in (COLUMNS, (*COLUMNS, *LATER), (*COLUMNS, *LATER, GROUP)):
                raise DataError(f"{file}: expected the columns {', '.join((*COLUMNS, *LATER))}.")
            for line, cells in table:
                if len(cells) != len(header):
                    raise csv.Error(f"line {line}: {len(cells)} cells, not {len(header)}")
                row = dict.fromkeys((*LATER, GROUP), "") | dict(zip(header, cells, strict=True))
                if row["status"] == OK:
                    _check_row(row, line)
                yield row
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} is damaged ({error}).") from error


def _check_row(row: dict[str, str], line: int) -> None:
    """Raise csv.Error where an image that was read has no label, place or role."""
    for key, kind in (("label", LABEL), ("row", PLACE)):
        if not kind.fullmatch(row[key]):
            raise csv.Error(f"line {line}: {key} is {row[key][:40]!r}, which is none")
    if row["role"] not in ROLES:
        raise csv.Error(f"line {line}: role is {row['role'][:40]!r}, not {', '.join(ROLES)}")
