"""Mapped arrays: their values, no open files, and what is told of files that are not whole."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from partsig.data import mapped
from partsig.data.mapped import MappedArrays
from partsig.data.signals.lazy import forget
from partsig.errors import DataError


def n_open():
    return len(os.listdir("/proc/self/fd"))


def n_maps(folder):
    return Path("/proc/self/maps").read_text().count(f"{folder}/")


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.arange(i, i + 24, dtype=np.float32).reshape(2, 12))
    return tmp_path


def arrays_of(folder, check=lambda *_: None, most=mapped.MOST_MAPS):
    return MappedArrays(folder, check, most)


def test_values_are_those_of_the_file_and_cannot_be_written(folder):
    arrays = arrays_of(folder)
    for i in (3, 0, 9, 3):
        np.testing.assert_array_equal(arrays[f"{i}.npy"], np.load(folder / f"{i}.npy"))
    assert arrays["3.npy"].dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        arrays["3.npy"][0, 0] = 1


def test_no_file_stays_open_and_no_more_maps_than_allowed(folder):
    before = n_open()
    arrays = arrays_of(folder, most=3)
    for turn in range(3):
        for i in range(10):
            assert arrays[f"{i}.npy"][0, turn] == i + turn
            assert n_open() == before
            assert n_maps(folder) <= 3
    del arrays
    assert n_maps(folder) == 0


def test_a_part_that_is_held_outlives_everything_else(folder):
    arrays = arrays_of(folder, most=1)
    held = arrays["4.npy"][1, 3:7]
    assert arrays["5.npy"][0, 0] == 5
    del arrays
    assert n_maps(folder) == 1
    assert held.tolist() == [19, 20, 21, 22]
    del held
    assert n_maps(folder) == 0


def resident_kib(path):
    """KiB of a file's map that are in memory, as the system counts them."""
    lines = Path("/proc/self/smaps").read_text().split(str(path), 1)[1].splitlines()
    return int(next(line for line in lines if line.startswith("Rss:")).split()[1])


def test_what_was_read_can_be_given_back_and_read_again(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(2**20, dtype=np.float32))
    array = arrays_of(tmp_path)["a.npy"]
    total = float(array.sum(dtype=np.float64))
    assert resident_kib(tmp_path / "a.npy") >= 4096
    forget(array[5:100])
    assert resident_kib(tmp_path / "a.npy") == 0
    assert float(array.sum(dtype=np.float64)) == total == 2**19 * (2**20 - 1)


def test_what_was_used_last_stays_mapped(folder, monkeypatch):
    done, real = [], mapped.map_array
    monkeypatch.setattr(mapped, "map_array", lambda path: done.append(path.name) or real(path))
    arrays = arrays_of(folder, most=2)
    for name in ("0.npy", "1.npy", "0.npy", "2.npy", "0.npy", "1.npy"):
        _ = arrays[name]
    assert done == ["0.npy", "1.npy", "2.npy", "1.npy"]


def test_an_array_is_checked_once_however_often_it_is_mapped(folder):
    seen = []
    check = lambda path, shape, dtype: seen.append((path.name, shape, dtype))  # noqa: E731
    arrays = arrays_of(folder, check, most=1)
    for name in ("0.npy", "1.npy", "0.npy", "1.npy"):
        _ = arrays[name]
    assert seen == [(f"{i}.npy", (2, 12), np.dtype("float32")) for i in (0, 1)]


def test_threads_that_unmap_each_others_arrays_read_what_they_asked_for(folder):
    arrays, wrong = arrays_of(folder, most=1), []

    def work(i):
        for turn in range(300):
            if arrays[f"{i}.npy"][turn % 2, turn % 12] != i + 12 * (turn % 2) + turn % 12:
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
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "it has 223 bytes, and its array ends at"),
        (lambda p: p.write_bytes(b"not an array"), "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: np.save(p, np.zeros((4, 3), order="F")), "float64 in Fortran order"),
        (lambda p: np.save(p, np.array([None])), "it holds object"),
    ],
)
def test_a_damaged_file_is_told(folder, spoil, sentence):
    spoil(folder / "4.npy")
    with pytest.raises(DataError, match=rf"4\.npy cannot be read.*{sentence}|{sentence}"):
        _ = arrays_of(folder)["4.npy"]


def test_a_file_that_was_made_anew_meanwhile_is_refused_not_mixed_in(folder):
    arrays = arrays_of(folder, most=1)
    _ = arrays["4.npy"], arrays["5.npy"]
    np.save(folder / "4.npy", np.zeros((2, 12), np.float32))
    os.utime(folder / "4.npy", (1, 1))
    with pytest.raises(DataError, match=r"4\.npy was changed while it was in use"):
        _ = arrays["4.npy"]


# A store of more recordings than a process may have open files, as a script sees it.
SCRIPT = """
import resource, sys
import numpy as np
limit, path, n = 32, sys.argv[1], 150
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from pathlib import Path
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.signals.windows import LabelledWindows, RandomWindows
from partsig.data.signals.recordings import Recording
path, names = Path(path), ("a", "b")
meta = make_meta(
    source="x", ch_names=names, sfreq=10.0, l_freq=None, h_freq=None, dtype="float16"
)
create_store(path, meta)
rows = []
for i in range(n):
    recording = Recording(
        name=f"r{i:03d}", subject=f"s{i:03d}", ch_names=names, parts=(), source="",
        stages=np.full(2, 2, np.int8),
    )
    signal = np.full((2, 600), i) + np.array([[0], [1000]])
    rows.append(write_recording(path, meta, recording, signal))
write_index(path, rows)
store = open_store(path)
windows = RandomWindows(store, store.subjects, 50, seed=0, per_epoch=400)
batch = windows.batch(0, 0, 400)
table = windows.drawn(0)
assert len(set(table[:, 0])) > 100
assert (batch == table[:, 0][:, None, None] + np.array([[0], [1000]])).all()
epochs = LabelledWindows(store, list(store.recordings))
assert len(epochs) == 2 * n
assert (epochs.windows(range(2 * n))[:, 1, 0] == 1000 + epochs.recording).all()
"""


def test_more_recordings_than_a_process_may_open_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_too_many_open_files_is_no_reason_to_preprocess_again():
    told = str(mapped.unreadable(Path("a.npy"), OSError(24, "Too many open files")))
    assert told == (
        "a.npy cannot be opened (Too many open files): let a process open more files, with "
        "`ulimit -n 4096`, say."
    )


def test_too_many_maps_are_no_reason_to_preprocess_again(tmp_path, monkeypatch):
    """mmap(2): ENOMEM is the process's memory or its number of maps; the file is as it was."""
    np.save(tmp_path / "a.npy", np.arange(3.0))

    def refused(number, layout):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mapped, "FileMap", refused)
    with pytest.raises(DataError) as caught:
        mapped.map_array(tmp_path / "a.npy")
    assert str(caught.value) == (
        f"{tmp_path / 'a.npy'} cannot be mapped into memory (Cannot allocate memory): the process "
        "may have no more of it (`ulimit -v`), or has as many maps as Linux allows one (`sysctl "
        "vm.max_map_count`): raise that limit."
    )


def test_a_real_lack_of_address_space_is_told(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2**23))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from partsig.data import mapped\n"
        "from partsig.errors import DataError\n"
        "held = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**24,) * 2)\n"
        "try: mapped.map_array(Path(sys.argv[1]))\n"
        "except DataError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be mapped into memory (Cannot allocate memory)" in done.stdout
    assert "preprocess" not in done.stdout


def test_a_file_that_may_not_be_read_is_no_reason_to_preprocess_again():
    told = str(mapped.unreadable(Path("a.npy"), PermissionError(13, "Permission denied", "a.npy")))
    assert told == "a.npy cannot be read (Permission denied)."


def test_a_pickled_store_makes_its_own_maps(tmp_path):
    from partsig.data.signals.recordings import Recording
    from partsig.data.signals.store import open_store
    from partsig.data.signals.store_index import write_index
    from partsig.data.signals.store_writing import create_store, make_meta, write_recording

    path = tmp_path / "s"
    meta = make_meta(
        source="x", ch_names=("a",), sfreq=10.0, l_freq=None, h_freq=None, dtype="float32"
    )
    create_store(path, meta)
    recording = Recording(
        name="r", subject="s", ch_names=("a",), parts=(), source="", stages=np.zeros(1, np.int8)
    )
    row = write_recording(path, meta, recording, np.arange(300.0)[None])
    write_index(path, [row])
    store = open_store(path)
    held = store.signal("r")
    carried = pickle.dumps(store)
    assert len(carried) < 3000
    copy = pickle.loads(carried)
    assert copy.signal("r")[0, 296:].tolist() == held[0, 296:].tolist() == [296, 297, 298, 299]
