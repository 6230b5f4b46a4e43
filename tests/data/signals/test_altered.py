"""Epochs with other channels, or cut later: against slices and labels worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from partsig.data.signals.altered import altered
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import ConfigError, DataError
from partsig.modalities.signal_transfer import fitted_channels, missing_channels

NAMES = ("u", "v", "w")
# -1 is unscored; of b a gap lies between its second and its third epoch.
NIGHTS = {"a": [0, 0, 1, -1, 2, 2, 3], "b": [4, 4, 4, 1], "c": [1]}
GAPS = {"b": ((60.0, 61.0),)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("altered") / "store"
    meta = make_meta(
        source="x", ch_names=NAMES, sfreq=10.0, l_freq=None, h_freq=None, dtype="float32"
    )
    create_store(path, meta)
    rng, rows = np.random.default_rng(0), []
    for name, stages in NIGHTS.items():
        recording = Recording(
            name=name, subject=name, ch_names=NAMES, parts=(), stages=np.array(stages, np.int8),
            source="", gaps=GAPS.get(name, ()), filled=("v",) if name == "c" else (),
        )  # fmt: skip
        signal = rng.standard_normal((3, 300 * len(stages) + 17))
        rows.append(write_recording(path, meta, recording, signal))
    write_index(path, rows)
    return open_store(path)


def test_channels_are_taken_in_the_order_that_is_asked_for_and_others_are_silent(store):
    plain = LabelledWindows(store, list(NIGHTS))
    other = altered(plain, ("w", None, "u"))
    whole = np.concatenate(list(plain.in_order(4)))
    found = np.concatenate(list(other.in_order(4)))
    np.testing.assert_array_equal(found[:, 0], whole[:, 2])
    np.testing.assert_array_equal(found[:, 2], whole[:, 0])
    assert not found[:, 1].any()
    np.testing.assert_array_equal(other.signal("a")[2], plain.signal("a")[0])
    np.testing.assert_array_equal(other.labels, plain.labels)
    parts = [np.concatenate(list(part.in_order(9))) for part in other.apart()]
    np.testing.assert_array_equal(np.concatenate(parts), found)
    # Altered again: what is not said stays.
    again = altered(other, later_s=10.0)
    assert again.channels == ("w", None, "u")
    assert not again.windows([0])[:, 1].any()


@pytest.mark.parametrize("later_s", [0.0, 5.0, 15.0, 15.1, 25.0])
def test_a_later_epoch_has_the_label_of_what_covers_most_of_it(store, later_s):
    plain = LabelledWindows(store, list(NIGHTS))
    later = altered(plain, later_s=later_s)
    # a: 0-1, 1-2, 4-5, 5-6; b: 0-1, and not 1-2, which the gap ends, nor 2-3, which it touches.
    where = [(later.names[r], e) for r, e in zip(later.recording, later.epoch, strict=True)]
    assert where == [("a", 0), ("a", 1), ("a", 4), ("a", 5), ("b", 0)]
    covers = [0, 0, 2, 2, 4] if later_s <= 15 else [0, 1, 2, 3, 4]
    assert later.labels.tolist() == covers
    assert later.within.tolist() == [True, False, True, False, True]
    first = round(10 * later_s)
    for number, (name, epoch) in enumerate(where):
        start = 300 * epoch + first
        expected = store.signal(name)[:, start : start + 300]
        np.testing.assert_array_equal(later.windows([number])[0], expected)
    # Whoever stages a whole signal is given one that begins later.
    np.testing.assert_array_equal(later.signal("a"), store.signal("a")[:, first:])
    assert later.units()[1].tolist() == [0, 0, 0, 0, 1]
    assert [name for name, _ in later.by_recording()] == ["a", "b"]


def test_what_cannot_be_cut_is_refused(store):
    plain = LabelledWindows(store, ["a"])
    for later_s in (0.05, -5.0, 30.0):
        with pytest.raises(ConfigError, match="whole samples"):
            altered(plain, later_s=later_s)
    with pytest.raises(DataError, match="follow one another"):
        altered(LabelledWindows(store, ["c"]), later_s=5.0)


def test_a_store_is_fitted_to_the_channels_of_a_run(store):
    def run(*names):
        return SimpleNamespace(ch_names=list(names), path="run", config={})

    assert fitted_channels(store, run("u", "v", "w"), "fill") is None
    assert fitted_channels(store, run("w", "x", "u"), "fill") == ("w", None, "u")
    with pytest.raises(DataError, match="lacks x of the channels"):
        fitted_channels(store, run("w", "x", "u"), "refuse")
    with pytest.raises(DataError, match="none of the channels"):
        fitted_channels(store, run("x", "y"), "fill")
    # What was filled when the store was made is missing, too.
    assert missing_channels(store, run("u", "v", "x"), ["a", "c"]) == {"v": 1, "x": 2}
