"""Tables of texts (CSV, TSV) that a spreadsheet shows and does not run, and that are read back.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end may be run as a formula by
the spreadsheet that opens it. It is written with an apostrophe before it, and so is one that begins
with apostrophes and then one of these. Where a table has such a cell, its first cell stands in
quotation marks, which mean nothing to any reader of CSV: by them this one knows that apostrophes
are to be taken off again. Tables of partsig 0.1 have no such quotation marks, and are read as they
are.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

RUN = re.compile(r"\A'*[=+\-@\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
SPECIAL = re.compile(r'[",\r\n]')
MARKED = re.compile(r"\A'+[=+\-@\t\r\n]")


def to_cell(value: object) -> object:
    """Return what stands for a value in a table: a text that could be run, with an apostrophe.

    >>> to_cell("=1+1"), to_cell("'@a"), to_cell("-0.5"), to_cell(-0.5), to_cell("night-3")
    ("'=1+1", "''@a", '-0.5', -0.5, 'night-3')
    """
    if not isinstance(value, str) or not RUN.match(value) or NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def from_cell(text: str) -> str:
    """Return the text that :func:`to_cell` wrote.

    >>> [from_cell(to_cell(text)) for text in ("=1+1", "'@a", "'a", "-0.5")]
    ['=1+1', "'@a", "'a", '-0.5']
    """
    return text[1:] if MARKED.match(text) else text


def is_marked(values: Iterable[object]) -> bool:
    """Tell whether one of these values needs an apostrophe, or ends a row where it should not."""
    return any(
        to_cell(value) is not value or (isinstance(value, str) and "\r" in value)
        for value in values
    )


def write_table(
    handle: TextIO,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    marked: bool | None = None,
) -> None:
    """Write a table as CSV into a file that was opened with ``newline=""``.

    ``marked``: whether :func:`is_marked` is true of a cell, where that is known beforehand; rows
    are then written as they come, else they are all held. None is an empty cell.
    """
    if marked is None:
        rows = list(rows)
        marked = any(is_marked(row) for row in rows)
    if marked or is_marked(columns):
        names = [str(to_cell(name)).replace('"', '""') for name in columns]
        quoted = [
            f'"{name}"' if n == 0 or SPECIAL.search(name) else name for n, name in enumerate(names)
        ]
        handle.write(",".join(quoted) + "\n")
        # All in quotation marks: else the writer leaves a bare carriage return, which ends a row.
        writer = csv.writer(handle, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([to_cell(value) for value in row] for row in rows)
    else:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def as_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV."""
    text = io.StringIO(newline="")
    write_table(text, columns, rows)
    return text.getvalue()


def read_table(handle: TextIO) -> Iterator[list[str]]:
    """Yield the rows of a table, its columns' names first, as they were given to be written.

    The file was opened with ``newline=""``. Raises csv.Error, which names the line, for what is no
    table, bytes that are no UTF-8 included.

    >>> table = as_table(["name", "n"], [["=1+1", 3], ["night", -4]])
    >>> print(table, end="")
    "name",n
    "'=1+1","3"
    "night","-4"
    >>> list(read_table(io.StringIO(table)))
    [['name', 'n'], ['=1+1', '3'], ['night', '-4']]
    """
    return (row for _, row in read_numbered(handle))


def read_numbered(handle: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table as :func:`read_table` does, each with the line that it ends in."""
    reader = None
    try:
        marked = handle.read(1) == '"'
        handle.seek(0)
        reader = csv.reader(handle)
        for row in reader:
            if row:  # without empty lines
                yield reader.line_num, [from_cell(cell) for cell in row] if marked else row
    except UnicodeDecodeError as error:
        raise csv.Error(f"line {_undecodable(handle)}: {error.reason}, not UTF-8") from None
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num if reader else 1}: {error}") from None


def _undecodable(handle: TextIO) -> int:
    """Return the first line of a file that is no UTF-8: text is decoded ahead of the lines."""
    handle.buffer.seek(0)
    for number, line in enumerate(handle.buffer, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return 1


def read_rows(handle: TextIO) -> Iterator[dict[str, str | None]]:
    """Yield the rows of a table by its columns' names; what a row lacks at its end is None."""
    rows = read_table(handle)
    columns = next(rows, [])
    for row in rows:
        yield dict.fromkeys(columns) | dict(zip(columns, row, strict=False))
