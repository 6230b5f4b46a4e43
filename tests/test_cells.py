import csv
import io

import pytest

from partsig.cells import (
    as_table,
    from_cell,
    is_marked,
    read_rows,
    read_table,
    to_cell,
    write_table,
)
from partsig.data.signals.store import Store
from partsig.data.signals.store_index import read_index, write_index
from partsig.data.signals.store_writing import make_meta, write_split
from partsig.files import read_columns, write_json

EVIL = ("=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1")
EVIL += ('=HYPERLINK("http://a","b")', "'=1+1", "''@x", "-x", "=")
RUNS = "=+-@\t\r\n"
PLAIN = ("night 3", "-0.5", "+3", "1e-5", "'a", "", "a=b", "µ-+", 'say "no", then\nmore', "a\rb")


@pytest.mark.parametrize("text", EVIL)
def test_what_a_spreadsheet_would_run_is_written_as_text(text):
    assert to_cell(text)[0] == "'"
    assert from_cell(to_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay_as_they_are(text):
    assert to_cell(text) == text
    assert from_cell(text) == text


@pytest.mark.parametrize("value", [-1, -0.5, None, True])
def test_numbers_are_no_texts(value):
    assert to_cell(value) is value


def test_tables_are_read_as_they_were_given():
    rows = [[*EVIL, *PLAIN], [*PLAIN, *EVIL]]
    columns = [f"c{i}" for i in range(len(rows[0]))]
    table = as_table(columns, rows)
    assert list(read_table(io.StringIO(table, newline=""))) == [columns, *rows]
    # Any other reader of CSV finds the same columns, and no cell that is run.
    first, *others = csv.reader(io.StringIO(table, newline=""))
    assert first == columns
    assert not any(cell[:1] in RUNS and cell not in PLAIN for row in others for cell in row if cell)
    assert [[to_cell(cell) for cell in row] for row in rows] == others
    assert list(read_rows(io.StringIO(table, newline="")))[1][columns[0]] == PLAIN[0]


def test_a_plain_table_is_written_as_ever():
    table = as_table(["a", "b"], [["x", -1], ["", None]])
    assert table == "a,b\nx,-1\n,\n"


def test_names_of_columns_are_cells_too():
    table = as_table(["=1+1"], [["a"]])
    assert table == '"\'=1+1"\n"a"\n'
    assert list(read_table(io.StringIO(table))) == [["=1+1"], ["a"]]


def test_rows_that_are_written_as_they_come():
    text, rows = io.StringIO(newline=""), [["=a"], ["b"]]
    write_table(text, ["name"], iter(rows), marked=any(map(is_marked, rows)))
    assert list(read_table(io.StringIO(text.getvalue()))) == [["name"], *rows]


def test_tables_of_earlier_versions_are_read_as_they_are(tmp_path):
    """They were written without marks: no apostrophe is taken off."""
    rows = [[text, text] for text in (*EVIL, *PLAIN) if text and "\r" not in text]
    held = io.StringIO(newline="")
    writer = csv.writer(held, lineterminator="\n")
    writer.writerows([["name", "other"], *rows])
    file = tmp_path / "old.csv"
    file.write_text(held.getvalue(), newline="")
    assert list(read_columns(file, ("name", "other"))) == [tuple(row) for row in rows]


def test_a_store_keeps_such_names(tmp_path):
    meta = make_meta(
        source="edf", ch_names=("C3",), sfreq=100.0, l_freq=None, h_freq=None, dtype="float32"
    )
    write_json(tmp_path / "meta.json", meta)
    given = [
        {"recording": f"=night {i:02d}", "subject": text, "age": "-", "sex": text, "status": "ok"}
        for i, text in enumerate(EVIL)
    ]
    write_index(tmp_path, given)
    found = read_index(tmp_path)
    assert [{key: row[key] for key in given[0]} for row in found] == given
    with open(tmp_path / "index.csv", newline="") as handle:
        raw = list(csv.reader(handle))[1:]
    assert all(row[0][0] == row[1][0] == "'" for row in raw)
    write_split(tmp_path, {**dict.fromkeys(EVIL, "test"), 'a, "b"': "val"})
    rows = (*found, {"recording": "z", "subject": 'a, "b"'})
    roles = Store(tmp_path, meta, rows).roles
    assert roles == {"test": sorted(EVIL), "val": ['a, "b"']}
