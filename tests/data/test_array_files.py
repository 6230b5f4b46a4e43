"""Arrays read by place: the values, and how few files are open meanwhile."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from partsig.data import array_files
from partsig.data.array_files import ArrayFiles, most_open
from partsig.errors import DataError


def n_open():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.arange(i, i + 24, dtype=np.float32).reshape(2, 12))
    return tmp_path


def files_of(folder, check=lambda *_: None):
    return ArrayFiles(folder, check)


def read(files, name, first, n):
    out = np.empty(n, np.float32)
    files.read(name, first, out)
    return out


def test_values_are_those_of_the_array(folder):
    files = files_of(folder)
    for i in (3, 0, 9, 3):
        np.testing.assert_array_equal(read(files, f"{i}.npy", 5, 8), np.arange(i + 5, i + 13))


def test_no_more_files_are_open_than_allowed_and_none_when_it_is_gone(folder, monkeypatch):
    monkeypatch.setattr(array_files, "most_open", lambda: 3)
    before = n_open()
    files = files_of(folder)
    for turn in range(3):
        for i in range(10):
            assert read(files, f"{i}.npy", turn, 1) == i + turn
            assert n_open() <= before + 3
    del files
    assert n_open() == before


def test_what_was_read_last_stays_open(folder, monkeypatch):
    monkeypatch.setattr(array_files, "most_open", lambda: 2)
    opened = []
    monkeypatch.setattr(
        array_files,
        "_Handle",
        lambda path, kind=array_files._Handle: opened.append(path.name) or kind(path),
    )
    files = files_of(folder)
    for name in ("0.npy", "1.npy", "0.npy", "2.npy", "0.npy", "1.npy"):
        read(files, name, 0, 1)
    assert opened == ["0.npy", "1.npy", "2.npy", "1.npy"]


def test_an_array_is_checked_once_however_often_its_file_is_opened(folder, monkeypatch):
    monkeypatch.setattr(array_files, "most_open", lambda: 1)
    seen = []
    files = files_of(folder, lambda path, shape, dtype: seen.append((path.name, shape, dtype)))
    for name in ("0.npy", "1.npy", "0.npy", "1.npy"):
        read(files, name, 0, 1)
    assert seen == [(f"{i}.npy", (2, 12), np.dtype("float32")) for i in (0, 1)]


def test_threads_that_close_each_others_files_read_what_they_asked_for(folder, monkeypatch):
    monkeypatch.setattr(array_files, "most_open", lambda: 1)
    files, wrong = files_of(folder), []

    def work(i):
        for turn in range(300):
            at = turn % 20
            if read(files, f"{i}.npy", at, 1) != i + at:
                wrong.append((i, turn))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (Path.unlink, "No such file.*run the same preprocess command again"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "it has 223 bytes, and its array takes 224"),
        (lambda p: p.write_bytes(b"not an array"), "cannot be read"),
        (lambda p: np.save(p, np.zeros((4, 3), order="F")), "float64 in Fortran order"),
    ],
)
def test_a_damaged_file_is_told(folder, spoil, sentence):
    spoil(folder / "4.npy")
    with pytest.raises(DataError, match=sentence):
        read(files_of(folder), "4.npy", 0, 1)


def test_a_file_cut_short_while_it_is_open_is_told(folder):
    files = files_of(folder)
    read(files, "4.npy", 0, 1)
    os.truncate(folder / "4.npy", 200)
    with pytest.raises(DataError, match="it ends after 200 bytes"):
        read(files, "4.npy", 12, 12)


def test_a_file_that_was_made_anew_meanwhile_is_refused_not_mixed_in(folder, monkeypatch):
    monkeypatch.setattr(array_files, "most_open", lambda: 1)
    files = files_of(folder)
    read(files, "4.npy", 0, 1)
    read(files, "5.npy", 0, 1)
    np.save(folder / "4.npy", np.zeros((2, 12), np.float32))
    os.utime(folder / "4.npy", (1, 1))
    with pytest.raises(DataError, match=r"4\.npy was changed while it was in use"):
        read(files, "4.npy", 0, 1)


# A store of more recordings than a process may have open files, as a script sees it.
SCRIPT = """
import resource, sys
import numpy as np
limit, path, n = 40, sys.argv[1], 150
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from pathlib import Path
from partsig.data import store as stores
from partsig.data.datasets import Epochs, RandomWindows
from partsig.data.recordings import Recording
path, names = Path(path), ("a", "b")
meta = stores.make_meta(
    source="x", ch_names=names, sfreq=10.0, l_freq=None, h_freq=None, dtype="float16"
)
stores.create(path, meta)
rows = []
for i in range(n):
    recording = Recording(
        name=f"r{i:03d}", subject=f"s{i:03d}", ch_names=names, parts=(), source="",
        stages=np.full(2, 2, np.int8),
    )
    signal = np.full((2, 600), i) + np.array([[0], [1000]])
    rows.append(stores.write_recording(path, meta, recording, signal))
stores.write_index(path, rows)
store = stores.open_store(path)
windows = RandomWindows(store, store.subjects, 50, seed=0, per_epoch=400)
batch = windows.batch(0, 0, 400)
table = windows.drawn(0)
assert len(set(table[:, 0])) > 100
assert (batch == table[:, 0][:, None, None] + np.array([[0], [1000]])).all()
epochs = Epochs(store, list(store.recordings))
assert len(epochs) == 2 * n
assert (epochs.windows(range(2 * n))[:, 1, 0] == 1000 + epochs.recording).all()
"""


def test_more_recordings_than_a_process_may_open_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_too_many_open_files_is_no_reason_to_preprocess_again(folder, monkeypatch):
    def refuse(path):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(array_files, "_Handle", refuse)
    with pytest.raises(DataError, match=r"Too many open files.*`ulimit -n 4096`") as told:
        read(files_of(folder), "4.npy", 0, 1)
    assert "preprocess" not in str(told.value)


def test_a_share_of_the_limit_stays_open(monkeypatch):
    for limit, expected in ((1024, 256), (2, 1), (10**6, 4096), (-1, 4096)):
        monkeypatch.setattr(array_files.resource, "getrlimit", lambda _, n=limit: (n, n))
        assert most_open() == expected


def test_a_pickled_store_opens_its_own_files(tmp_path):
    from partsig.data import store as stores
    from partsig.data.recordings import Recording

    path = tmp_path / "s"
    meta = stores.make_meta(
        source="x", ch_names=("a",), sfreq=10.0, l_freq=None, h_freq=None, dtype="float32"
    )
    stores.create(path, meta)
    recording = Recording(
        name="r", subject="s", ch_names=("a",), parts=(), source="", stages=np.zeros(1, np.int8)
    )
    row = stores.write_recording(path, meta, recording, np.arange(300.0)[None])
    stores.write_index(path, [row])
    store = stores.open_store(path)
    out = np.empty((1, 4), np.float32)
    store.read("r", 7, out)
    copy = pickle.loads(pickle.dumps(store))
    copy.read("r", 296, out)
    assert out.tolist() == [[296, 297, 298, 299]]
    with pytest.raises(IndexError, match="samples 297 to 301 of 300"):
        copy.read("r", 297, out)
