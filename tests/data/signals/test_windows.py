"""Windows and epochs of a store against plain loops over its arrays."""

import numpy as np
import pytest

from partsig.data import shuffling
from partsig.data.shuffling import Shuffled, balanced_order
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.signals.windows import LabelledWindows, RandomWindows
from partsig.errors import ConfigError, DataError
from partsig.seeds import Stream, rng_of

# Stages of each recording; subjects s0 and s1 have two recordings each.
NIGHTS = {"a": [2, -1, 3], "b": [-1, -1], "c": [0, 4, 4, -1], "d": [1]}
SUBJECTS = {"a": "s1", "b": "s0", "c": "s0", "d": "s1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("datasets") / "store"
    meta = make_meta(
        source="x", ch_names=("u", "v"), sfreq=10.0, l_freq=None, h_freq=None, dtype="float32"
    )
    create_store(path, meta)
    rng, rows = np.random.default_rng(0), []
    for name, stages in NIGHTS.items():
        recording = Recording(
            name=name,
            subject=SUBJECTS[name],
            ch_names=("u", "v"),
            parts=(),
            stages=np.array(stages, np.int8),
            source="",
        )
        signal = rng.standard_normal((2, 300 * len(stages) + 17))
        rows.append(write_recording(path, meta, recording, signal))
    write_index(path, rows)
    return open_store(path)


def test_scored_epochs_are_numbered_by_recording(store):
    epochs = LabelledWindows(store, ["c", "b", "a", "d"])
    assert epochs.names == ("c", "a", "d")  # b has none
    found = [(epochs.names[r], e) for r, e in zip(epochs.recording, epochs.epoch, strict=True)]
    assert found == [("c", 0), ("c", 1), ("c", 2), ("a", 0), ("a", 2), ("d", 0)]
    assert epochs.labels.tolist() == [0, 4, 4, 2, 3, 1]
    assert epochs.n_epochs == {"c": 4, "b": 2, "a": 3, "d": 1}
    assert [(n, s.start, s.stop) for n, s in epochs.by_recording()] == [
        ("c", 0, 3),
        ("a", 3, 5),
        ("d", 5, 6),
    ]
    names, numbers = epochs.units()
    assert (names, numbers.tolist()) == (["s0", "s1"], [0, 0, 0, 1, 1, 1])


def test_all_epochs_are_there_when_asked_for(store):
    epochs = LabelledWindows(store, list(NIGHTS), labelled=False)
    assert epochs.labels.tolist() == [code for codes in NIGHTS.values() for code in codes]
    with pytest.raises(DataError, match="no scored epoch among recordings b"):
        LabelledWindows(store, ["b"])


def test_windows_of_epochs_are_cut_from_the_signal(store):
    epochs = LabelledWindows(store, list(NIGHTS))
    for i, window in enumerate(epochs.windows(range(len(epochs)))):
        first = 300 * epochs.epoch[i]
        signal = np.array(store.signal(epochs.names[epochs.recording[i]]))
        np.testing.assert_array_equal(window, signal[:, first : first + 300])


def test_an_epoch_takes_few_bytes(store):
    epochs = LabelledWindows(store, list(NIGHTS), labelled=False)
    arrays = (epochs.recording, epochs.epoch, epochs.labels)
    assert sum(array.nbytes for array in arrays) == 16 * len(epochs)


def test_random_windows_are_cut_from_the_signals(store):
    windows = RandomWindows(store, ["s0", "s1"], 99, seed=3, per_epoch=64)
    assert windows.names == ["b", "c", "a", "d"]
    assert windows.nbytes == sum(store.signal(name).nbytes for name in windows.names)
    batch, table = windows.batch(2, 8, 40), windows.drawn(2)[8:48]
    assert set(table[:, 0].tolist()) == {0, 1, 2, 3}
    for window, (recording, first) in zip(batch, table, strict=True):
        signal = np.array(store.signal(windows.names[recording]))
        np.testing.assert_array_equal(window, signal[:, first : first + 99])


@pytest.mark.parametrize("make", [lambda s: RandomWindows(s, ["s1"], 99, 0), LabelledWindows])
def test_a_lost_signal_is_told_before_work_begins(store, tmp_path, make):
    import shutil

    shutil.copytree(store.path, tmp_path / "s")
    (tmp_path / "s" / "signals" / "a.npy").write_bytes(b"\x93NUMPY")
    broken = open_store(tmp_path / "s")
    with pytest.raises(DataError, match=r"a\.npy cannot be read \(6 bytes, too few for its 7,336"):
        make(broken) if make is not LabelledWindows else LabelledWindows(broken, ["a"])


def test_a_pass_has_every_number_once_in_an_order_of_its_own():
    batch = Shuffled(103, 10, seed=7)
    passes = [[batch(11 * number + i) for i in range(11)] for number in range(2)]
    assert [len(part) for part in passes[0]] == [10] * 10 + [3]
    for number, parts in enumerate(passes):
        expected = rng_of(Stream.ITEMS, 7, number).permutation(103)
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        assert sorted(expected) == list(range(103))


def test_a_batch_does_not_depend_on_what_was_asked_before():
    stages = np.array([0] * 50 + [1] * 10 + [4] * 4)
    for balance in (None, stages):
        one, other = (Shuffled(64, 5, 1, balance) for _ in range(2))
        for step in (40, 3, 13, 2, 40):
            np.testing.assert_array_equal(one(step), Shuffled(64, 5, 1, balance)(step))
        np.testing.assert_array_equal(one(3), other(3))
    order = np.concatenate([Shuffled(64, 5, 1, stages)(13 + i) for i in range(13)])
    np.testing.assert_array_equal(order, balanced_order(stages, 1, 1))


@pytest.mark.parametrize("balance", [None, np.arange(1000) % 5])
def test_an_order_is_drawn_once_a_pass(balance, monkeypatch):
    drawn = []
    monkeypatch.setattr(shuffling, "rng_of", lambda *parts: drawn.append(parts) or rng_of(*parts))
    batch = Shuffled(1000, 10, 0, balance)
    for step in range(250):
        batch(step)
    assert [number for _stream, _seed, number in drawn] == [0, 1, 2]


def test_a_batch_of_none_is_refused():
    with pytest.raises(ConfigError, match="batch size 0"):
        Shuffled(5, 0, 0)
