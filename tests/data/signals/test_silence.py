"""Channels of pretraining's windows that are silenced: by the seed, never all, told by no half."""

import numpy as np
import pytest
import torch

from partsig.data.signals.recordings import Recording
from partsig.data.signals.silence import Silenced
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.signals.windows import RandomWindows, ResidentWindows

NAMES = ("u", "v", "w")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("silence") / "store"
    meta = make_meta(
        source="x", ch_names=NAMES, sfreq=10.0, l_freq=None, h_freq=None, dtype="float16"
    )
    create_store(path, meta)
    recording = Recording(
        name="a", subject="a", ch_names=NAMES, parts=(), stages=np.zeros(4, np.int8), source=""
    )
    signal = 1 + np.random.default_rng(0).random((3, 1200))
    write_index(path, [write_recording(path, meta, recording, signal)])
    return open_store(path)


def windows(store, chance=0.0, parts=1, seed=0):
    made = RandomWindows(store, ["a"], 40, seed, per_epoch=600)
    made.silence(chance, parts)
    return made


def test_each_channel_is_dropped_as_often_as_said_and_one_is_always_left(store):
    plain, silent = windows(store).batch(0, 0, 600), windows(store, 0.4).batch(0, 0, 600)
    gone = (silent == 0).all(-1)
    # What is kept is what was there, whole.
    np.testing.assert_array_equal(silent, np.where(gone[..., None], 0, plain))
    assert not gone.all(1).any()
    # A window that would lose all three keeps one: 0.4 - 0.4³ / 3 = 0.379.
    np.testing.assert_allclose(gone.mean(0), 0.379, atol=0.06)
    assert not (windows(store, 0.9).batch(0, 0, 600) == 0).all((1, 2)).any()


def test_what_is_dropped_depends_on_seed_pass_and_place_alone(store):
    first = windows(store, 0.4)
    whole = first.batch(1, 0, 600)
    np.testing.assert_array_equal(windows(store, 0.4).batch(1, 100, 50), whole[100:150])
    assert (whole != first.batch(0, 0, 600)).any()
    kept = Silenced(3, 0.4, 1, 0).kept(1, 600)
    assert (kept != Silenced(3, 0.4, 1, 1).kept(1, 600)).any()


def test_windows_in_a_device_s_memory_lose_the_same_channels(store):
    made = windows(store, 0.4, parts=2)
    resident = ResidentWindows(made, torch.device("cpu"))
    np.testing.assert_array_equal(resident.batch(2, 30, 20).numpy(), made.batch(2, 30, 20))
    # What lies in memory is as it was.
    made.silenced = None
    np.testing.assert_array_equal(resident.batch(2, 30, 20).numpy(), made.batch(2, 30, 20))


def test_halves_that_are_told_by_each_other_lose_channels_of_their_own(store):
    batch = windows(store, 0.5, parts=2).batch(0, 0, 600)
    gone = np.stack([(half == 0).all(-1) for half in (batch[..., :20], batch[..., 20:])])
    assert not gone.all(2).any()
    left, right = gone.reshape(2, -1).astype(float)
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.1
