"""The store: what is written is whole, what is damaged is named."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from partsig import files
from partsig.contracts import Labels
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import failed_row, read_index, write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.store import read_meta
from partsig.errors import DataError

CHANNELS = ("C3-M2", "O1-M2")


def meta_of(**changes) -> dict:
    settings = {
        "source": "physionet2018",
        "ch_names": CHANNELS,
        "sfreq": 100.0,
        "l_freq": 0.1,
        "h_freq": 30.0,
        "dtype": "float32",
    }
    return make_meta(**settings | changes)


def as_in_0_1(meta: dict) -> dict:
    """Return settings as partsig 0.1 wrote them: labels by other keys, the same hash."""
    old = {key: value for key, value in meta.items() if key != "labels"}
    labels = meta["labels"]
    return old | {"epoch_s": labels["unit_s"], "stages": labels["classes"]}


def recording(name: str = "a", subject: str | None = None, stages=(-1, 0, 2)) -> Recording:
    return Recording(
        name=name,
        subject=subject or name,
        ch_names=CHANNELS,
        parts=(),
        stages=np.array(stages, np.int8),
        source="0123456789abcdef",
        age="55",
        sex="F",
    )


def values(n_times: int = 9_100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=40, size=(2, n_times))


@pytest.fixture
def made(tmp_path):
    """A store of one subject's recordings a (scored) and b (not), and of c, which failed."""
    path, meta = tmp_path / "store", meta_of()
    create_store(path, meta)
    rows = [
        write_recording(path, meta, recording("b", "s1", (-1, -1, -1)), values(seed=1)),
        write_recording(path, meta, recording("a", "s1"), values()),
        failed_row("c", "s2", "c.mat: truncated, \"quoted\"; 'µV'"),
    ]
    write_index(path, rows)
    return path


def test_what_is_written_is_read(made):
    found = open_store(made)
    assert (found.sfreq, found.ch_names) == (100.0, CHANNELS)
    assert list(found.recordings) == ["a", "b"]
    assert found.subjects == {"s1": ["a", "b"]}
    assert found.labelled_subjects == ["s1"]
    signal = found.signal("a")
    assert str(made / "signals" / "a.npy") in Path("/proc/self/maps").read_text()
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, values().astype(np.float32))
    assert found.labels("a").dtype == np.int8
    assert found.labels("a").tolist() == [-1, 0, 2]


def test_the_index_row(made):
    row = open_store(made).recordings["a"]
    written = np.load(made / "signals" / "a.npy").tobytes()
    assert written == values().astype(np.float32).tobytes()
    assert row["sha256"] == hashlib.sha256(written).hexdigest()
    assert (row["n_samples"], row["n_epochs"], row["unscored"]) == (9_100, 3, 1)
    assert [row[stage] for stage in STAGES] == [1, 0, 1, 0, 0]
    assert (row["age"], row["sex"], row["status"], row["reason"]) == ("55", "F", "ok", "")


def test_the_index_is_sorted_and_keeps_the_reason(made):
    rows = read_index(made)
    assert [row["recording"] for row in rows] == ["a", "b", "c"]
    assert (rows[2]["status"], rows[2]["reason"]) == (
        "failed",
        "c.mat: truncated, \"quoted\"; 'µV'",
    )
    assert rows[2]["n_epochs"] == 0


def test_meta_describes_the_store(made):
    meta = json.loads((made / "meta.json").read_text(encoding="utf-8"))
    assert meta["format"] == 1
    assert meta["unit"] == "µV"
    assert meta["filter"]["l_freq"] == 0.1
    assert meta["labels"] == {
        "classes": ["W", "N1", "N2", "N3", "REM"],
        "unit_s": 30.0,
        "target": "class",
    }
    settings = as_in_0_1(meta)
    del settings["provenance"]
    text = json.dumps(settings, sort_keys=True)
    assert meta["provenance"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("change", [{"sfreq": 128.0}, {"h_freq": 35.0}, {"ch_names": CHANNELS[:1]}])
def test_provenance_depends_on_the_settings(change):
    assert meta_of(**change)["provenance"] != meta_of()["provenance"]


def test_float16_is_clipped_not_infinite(tmp_path):
    meta = meta_of(dtype="float16")
    signal = np.array([[1e6, -1e6, 65_519, 3.0], [0, 1, 2, 1 / 3]])
    write_recording(tmp_path, meta, recording(), signal)
    found = np.load(tmp_path / "signals" / "a.npy")
    assert found.dtype == np.float16
    assert found.tolist() == [[65_504, -65_504, 65_504, 3], [0, 1, 2, float(np.float16(1 / 3))]]


@pytest.mark.parametrize(("n_times", "expected"), [(2_999, []), (3_000, [-1]), (8_999, [-1, 0])])
def test_labels_are_cut_to_whole_epochs(tmp_path, n_times, expected):
    row = write_recording(tmp_path, meta_of(), recording(), values(n_times))
    assert np.load(tmp_path / "labels" / "a.npy").tolist() == expected
    assert row["n_epochs"] == len(expected)


# Continuing.


def test_the_same_settings_continue(made):
    assert list(create_store(made, meta_of())) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float16"}, r"dtype float32 \(now float16\)"),
        ({"sfreq": 128.0}, r"sfreq 100\.0 \(now 128\.0\)"),
        ({"h_freq": 35.0, "sfreq": 50.0}, r"sfreq 100\.0 \(now 50\.0\); filter .*35\.0"),
        ({"ch_names": CHANNELS[::-1]}, r"ch_names \['C3-M2', 'O1-M2'\] \(now \['O1-M2', 'C3-M2'\]"),
    ],
)
def test_other_settings_are_refused_by_name(made, change, message):
    before = (made / "meta.json").read_bytes()
    with pytest.raises(DataError, match=f"was made with other settings: {message}"):
        create_store(made, meta_of(**change))
    assert (made / "meta.json").read_bytes() == before


def test_a_store_with_nothing_finished_takes_other_settings(tmp_path):
    create_store(tmp_path, meta_of(ch_names=("wrong",)))
    write_index(tmp_path, [failed_row("a", "a", "channel 'wrong' not found")])
    assert create_store(tmp_path, meta_of()) == {}
    assert read_meta(tmp_path) == meta_of()


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="exists and is no store; choose another --store"):
        create_store(tmp_path, meta_of())
    with pytest.raises(DataError, match="exists and is no store"):
        create_store(tmp_path / "thesis.tex", meta_of())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        DataError, match=r"cannot write .*file/store/meta\.json \(Not a directory\)"
    ):
        create_store(tmp_path / "file" / "store", meta_of())


def test_leftovers_of_a_killed_writer_are_removed(made):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = made / "signals" / f".a.npy.{files.HOST}.{ended.pid}.tmp"
    elsewhere = made / "signals" / f".c.npy.other-host.{ended.pid}.tmp"
    alive = made / "signals" / f".b.npy.{files.HOST}.{os.getpid()}.tmp"
    for path in (dead, elsewhere, alive):
        path.write_bytes(b"half")
    create_store(made, meta_of())
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()  # another machine's writer may live


def test_a_writer_killed_at_its_first_file_leaves_a_folder_to_start_in(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".meta.json.{files.HOST}.{ended.pid}.tmp").write_text("{")
    assert create_store(tmp_path, meta_of()) == {}


# Damage.


def test_no_store(tmp_path):
    message = rf"no store at {re.escape(str(tmp_path))} .*partsig preprocess SOURCE"
    with pytest.raises(DataError, match=message):
        open_store(tmp_path)


def test_store_without_an_index(tmp_path):
    create_store(tmp_path, meta_of())
    with pytest.raises(DataError, match=r"has no index\.csv yet: run the same preprocess command"):
        open_store(tmp_path)


def test_store_in_which_everything_failed(tmp_path):
    create_store(tmp_path, meta_of())
    write_index(tmp_path, [failed_row("a", "a", "broken")])
    with pytest.raises(
        DataError, match="holds no readable recording; see the reasons in its index"
    ):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2}', "is a store of format 2; this partsig reads format 1"),
        (b"[]", "is a store of format None"),
        (b'{"format": 1', r"meta\.json is not readable"),
        (b"\xff\xfe\x00", r"meta\.json is not readable"),
    ],
)
@pytest.mark.parametrize("use", [open_store, lambda path: create_store(path, meta_of())])
def test_meta_of_another_kind(made, content, message, use):
    (made / "meta.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        use(made)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace(b"9100", b"many"), r"index\.csv is damaged"),
        (lambda text: text[: text.index(b"9100")], r"index\.csv is damaged"),
        (lambda text: b"\xff\xfe" + text, r"index\.csv is damaged"),
        (lambda text: text.replace(b"subject", b"person"), "expected the columns recording, subj"),
        (lambda text: b"", "expected the columns recording, subject"),
    ],
)
def test_damaged_index(made, spoil, message):
    path = made / "index.csv"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_store(made)


ROWS = [
    ("n_epochs", "100000000000000", r"n_epochs is 100000000000000, and its samples are those of 3"),
    ("n_epochs", "-1", r"n_epochs is '-1', which is no count"),
    ("n_epochs", "4", "n_epochs is 4, and its samples are those of 3"),
    ("n_epochs", "2", "its classes are of 3 epochs, and n_epochs is 2"),
    ("n_samples", "9" * 5000, "n_samples is '99999"),
    ("n_samples", "9" * 15, "n_samples is 999999999999999, more than a year has"),
    ("unscored", "nan", "unscored is 'nan', which is no count"),
    ("N1", "1.0", r"N1 is '1\.0', which is no count"),
    ("start_s", "x", "start_s is 'x', which is no time in a recording"),
    ("start_s", "nan", "start_s is 'nan', which is no time"),
    ("start_s", "-1e99", "start_s is '-1e99', which is no time"),
    ("subject", "\udcff", "invalid start byte, not UTF-8"),
    ("subject", "s" * 200_000, r"field larger than field limit \(131072\)"),
]


@pytest.mark.parametrize(("column", "value", "told"), ROWS)
def test_a_row_that_cannot_be_is_told_by_its_line(made, column, value, told):
    file = made / "index.csv"
    header, *rows = file.read_text().splitlines()
    cells = rows[0].split(",")
    cells[header.split(",").index(column)] = value
    text = "\n".join([header, ",".join(cells), *rows[1:]]) + "\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"index\.csv is damaged \(line 2: .*{told}") as caught:
        open_store(made)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"subject,role\na,test\n\xff,val\n", "line 3: invalid start byte, not UTF-8"),
        (b"subject,role\n" + b"a" * 200_000 + b",test\n", "line 2: field larger than field limit"),
    ],
)
def test_a_split_that_is_no_table_is_told_by_its_line(made, text, told):
    (made / "split.csv").write_bytes(text)
    with pytest.raises(DataError, match=rf"split\.csv is damaged \({told}"):
        _ = open_store(made).roles


@pytest.mark.parametrize("kind", ["signals", "labels"])
def test_damaged_arrays(made, kind):
    found = open_store(made)
    read = found.signal if kind == "signals" else found.labels
    path = made / kind / "a.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"a\.npy cannot be read .*same preprocess command again"):
        read("a")
    np.save(path, np.zeros((1, 5), np.int8))
    with pytest.raises(DataError, match=r"has the shape \(1, 5\), the index says \((2, 9100|3,)\)"):
        read("a")
    path.unlink()
    with pytest.raises(DataError, match=r"a\.npy cannot be read"):
        read("a")


def test_a_store_of_partsig_0_1_is_the_same_store(tmp_path):
    meta = meta_of()
    old = as_in_0_1(meta)
    create_store(tmp_path, old)
    row = write_recording(tmp_path, old, recording(), values())
    write_index(tmp_path, [row])
    assert list(create_store(tmp_path, meta)) == ["a"]  # goes on with it
    assert json.loads((tmp_path / "meta.json").read_text()) == old
    opened = open_store(tmp_path)
    assert (opened.classes, opened.unit_s) == (("W", "N1", "N2", "N3", "REM"), 30.0)
    assert opened.meta["provenance"] == meta["provenance"]


def test_labels_may_be_of_anything(tmp_path):
    labels = Labels(classes=("still", "step"), unit_s=2.0)
    meta = meta_of(labels=labels)
    create_store(tmp_path, meta)
    row = write_recording(tmp_path, meta, recording(stages=(1, 0, -1, 1)), values(900))
    write_index(tmp_path, [row])
    (found,) = read_index(tmp_path)
    assert [found[key] for key in ("n_epochs", "still", "step", "unscored")] == [4, 1, 2, 1]
    assert open_store(tmp_path).classes_of("a") == {0, 1}
    with pytest.raises(DataError, match=r"labels .*still.* .now .*N1"):
        create_store(tmp_path, meta_of())
