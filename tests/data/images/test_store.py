"""The store of images: what is written, read back in batches, and told when it is not right."""

import pickle

import numpy as np
import pytest

from partsig.data.images import store as images
from partsig.data.images.arrays import array_path, layers_of, write_arrays
from partsig.data.images.store import (
    Item,
    Source,
    create,
    index_row,
    make_meta,
    open_images,
    share_of,
    write_index,
)
from partsig.data.images.windows import RandomImages
from partsig.errors import DataError

PER_FILE = 50
N = 130
FAILED = (3, 70)


def make(path, roles, failed=FAILED, val_share=0.2):
    """Write a store of N random images of 2 x 5 in colour; return their pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 3, 2, 5), dtype=np.uint8)
    items = [Item(f"c/{i:03d}.png", i % 4 - 1, role, "") for i, role in enumerate(roles)]
    source = Source(
        name="images",
        size=(2, 5),
        ch_names=("red", "green", "blue"),
        classes=("a", "b", "c"),
        items=items,
        read=pixels.__getitem__,
    )
    meta = make_meta(source, val_share)
    create(path, meta)
    for k in range(3):
        part = range(k * PER_FILE, min((k + 1) * PER_FILE, N))
        some = ((i - k * PER_FILE, [pixels[i]]) for i in part if i not in failed)
        write_arrays(path, k, layers_of(meta), len(part), some, fresh=True)
    rows = [index_row(x, i, "broken" if i in failed else None) for i, x in enumerate(items)]
    write_index(path, rows)
    return pixels


@pytest.fixture(autouse=True)
def short_arrays(monkeypatch):
    monkeypatch.setattr(images, "PER_FILE", PER_FILE)


def test_what_was_written_is_read(tmp_path):
    pixels = make(tmp_path / "s", ["train"] * 100 + ["val"] * 10 + ["test"] * 20)
    store = open_images(tmp_path / "s")
    kept = [i for i in range(N) if i not in FAILED]
    assert len(store) == 128
    assert (store.size, store.ch_names, store.classes) == (
        *((2, 5), ("red", "green", "blue")),
        ("a", "b", "c"),
    )
    assert store.labels.tolist() == [i % 4 - 1 for i in kept]
    assert store.labels.dtype == np.int64
    assert store.names[3] == "c/004.png"
    assert [len(store.members(role)) for role in images.ROLES] == [98, 10, 20]
    assert store.members("val").tolist() == list(range(98, 108))
    batch = store.batch(np.arange(128))
    assert (batch.shape, batch.dtype) == ((128, 3, 2, 5), np.uint8)
    np.testing.assert_array_equal(batch, pixels[kept])


def test_a_batch_over_several_arrays_keeps_its_order(tmp_path):
    pixels = make(tmp_path / "s", ["train"] * N, failed=())
    store = open_images(tmp_path / "s")
    index = np.random.default_rng(1).integers(0, N, 400)  # with repetitions
    np.testing.assert_array_equal(store.batch(index), pixels[index])
    assert store.batch(index[:0]).shape == (0, 3, 2, 5)
    batch = store.batch(index[:3])
    batch[:] = 0  # a copy: the store is not written
    np.testing.assert_array_equal(store.batch(index[:3]), pixels[index[:3]])


def test_without_validation_images_a_share_of_training_is_held_out(tmp_path):
    make(tmp_path / "s", ["train"] * 100 + ["test"] * 30)
    store = open_images(tmp_path / "s")
    train, val, test = (set(store.members(role).tolist()) for role in images.ROLES)
    expected = share_of([n for n in store.names if n < "c/100.png"], 0.2)
    assert val == set(np.flatnonzero(expected).tolist())
    assert 10 <= len(val) <= 30
    assert len(train) + len(val) == 98
    assert test == set(range(98, 128))
    assert set(open_images(tmp_path / "s").members("val").tolist()) == val


def test_the_held_out_share_follows_the_name_not_the_place():
    names = [f"{i}.png" for i in range(2000)]
    chosen = dict(zip(names, share_of(names, 0.05), strict=True))
    again = share_of(names[::-1], 0.05)
    assert [chosen[name] for name in names[::-1]] == again.tolist()
    more = share_of(names, 0.1)
    assert all(more[i] for i, name in enumerate(names) if chosen[name])
    assert 70 <= sum(chosen.values()) <= 130
    assert share_of(names, 0.0).sum() == 0


def test_every_image_comes_once_an_epoch_in_an_order_of_seed_and_epoch(tmp_path):
    pixels = make(tmp_path / "s", ["train"] * N, failed=(), val_share=0.0)
    store = open_images(tmp_path / "s")
    members = store.members("train")[10:100]
    windows = RandomImages(store, members, seed=5)
    assert (windows.per_epoch, windows.nbytes) == (90, 90 * 30)
    drawn = windows.drawn(3)
    assert sorted(drawn.tolist()) == list(range(10, 100))
    assert drawn.tolist() != windows.drawn(4).tolist()
    assert drawn.tolist() == RandomImages(store, members, seed=5).drawn(3).tolist()
    assert drawn.tolist() != RandomImages(store, members, seed=6).drawn(3).tolist()
    parts = [windows.batch(3, first, 32) for first in (0, 32, 64)]
    assert [len(part) for part in parts] == [32, 32, 26]
    np.testing.assert_array_equal(np.concatenate(parts), pixels[drawn])


@pytest.mark.parametrize(("per_epoch", "most"), [(40, 1), (300, 4)])
def test_an_epoch_may_be_shorter_or_longer(tmp_path, per_epoch, most):
    make(tmp_path / "s", ["train"] * N, failed=())
    store = open_images(tmp_path / "s")
    drawn = RandomImages(store, np.arange(90), seed=0, per_epoch=per_epoch).drawn(0)
    counts = np.bincount(drawn, minlength=90)
    assert len(drawn) == per_epoch
    assert counts.max() == most
    assert counts.max() - counts.min() == 1


def test_the_images_of_a_batch_are_named(tmp_path):
    make(tmp_path / "s", ["train"] * N)
    windows = RandomImages(open_images(tmp_path / "s"), np.arange(2), seed=0)
    names = [windows.store.names[i] for i in windows.drawn(0)]
    assert (
        windows.describe_batch(0, 0, 2) == f", images {names[0]}, {names[1]}, none of them damaged"
    )
    with pytest.raises(DataError, match=r"no image of .* was chosen to train on"):
        RandomImages(windows.store, np.arange(0), seed=0)


def test_a_pickled_store_carries_no_pixels(tmp_path):
    pixels = make(tmp_path / "s", ["train"] * N, failed=())
    store = open_images(tmp_path / "s")
    before = len(pickle.dumps(store))
    store.batch(np.arange(N))
    assert len(pickle.dumps(store)) == before
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.batch(np.arange(N)), pixels)


def test_rewriting_keeps_the_other_places(tmp_path):
    pixels = make(tmp_path / "s", ["train"] * N)
    file, layers = array_path(tmp_path / "s", 0), layers_of(open_images(tmp_path / "s").meta)
    assert np.load(file)[3].max() == 0
    write_arrays(tmp_path / "s", 0, layers, 50, [(3, [pixels[3]])], fresh=False)
    np.testing.assert_array_equal(np.load(file), pixels[:50])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda p: (p / "meta.json").unlink(), "no store at .*it has no meta.json"),
        (lambda p: (p / "index.csv").unlink(), "has no index.csv yet: run the same preprocess"),
        (lambda p: (p / "index.csv").write_text("image,label\n"), "expected the columns image, "),
        (
            lambda p: (p / "index.csv").write_text(",".join(images.COLUMNS) + "\na,b\n"),
            r"index.csv is damaged \(line 2: 2 cells, not 7",
        ),
        (
            lambda p: (p / "index.csv").write_text(
                ",".join(images.COLUMNS) + "\na,x,train,ok,,0,\n"
            ),
            r"index.csv is damaged \(line 2: label is 'x', which is none",
        ),
        (lambda p: write_index(p, []), "holds no readable image"),
        (
            lambda p: (p / "meta.json").write_text('{"format": 1, "modality": "eeg"}'),
            "is a store of eeg, and images are needed here; pass another --store",
        ),
    ],
)
def test_a_store_that_is_none_is_told(tmp_path, spoil, sentence):
    make(tmp_path / "s", ["train"] * N)
    spoil(tmp_path / "s")
    with pytest.raises(DataError, match=sentence):
        open_images(tmp_path / "s")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b",1,train,ok,,2,", b",1,train,ok,,-2,", r"line 4: row is '-2', which is none"),
        (b",1,train,ok,,2,", b",1,train,ok,,99999999999,", "line 4: row is '99999999999'"),
        (b",1,train,ok,,2,", b",1.5,train,ok,,2,", r"line 4: label is '1\.5', which is none"),
        (b",1,train,ok,,2,", b",3,train,ok,,2,", "has the label 3, and meta.json 3 classes"),
        (b",1,train,ok,,2,", b",1,all,ok,,2,", "line 4: role is 'all', not train, val, test"),
        (b",1,train,ok,,2,", b",1,train,ok,,2", "line 4: 8 cells, not 9"),
        (b"c/002.png", b"c/\xff.png", "line 4: invalid start byte, not UTF-8"),
        (b"c/002.png", b"c" * 200_000, r"line 4: field larger than field limit \(131072\)"),
    ],
)
def test_a_row_that_is_none_is_told_by_its_line(tmp_path, old, new, told):
    make(tmp_path / "s", ["train"] * N)
    file = tmp_path / "s" / "index.csv"
    assert file.read_bytes().count(old) == 1
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=f"index.csv .*{told}"):
        open_images(tmp_path / "s")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda file: file.unlink(), "00001.npy cannot be read .*run the same preprocess command"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "00001.npy cannot be read"),
        (lambda file: np.save(file, np.zeros((50, 3, 5, 2), "u1")), r"shape \(50, 3, 5, 2\) in"),
        (lambda file: np.save(file, np.zeros((49, 3, 2, 5), "u1")), r"at least \(50, 3, 2, 5\)"),
        (lambda file: np.save(file, np.zeros((50, 3, 2, 5), "i2")), "in int16"),
    ],
)
def test_a_damaged_array_is_told_when_it_is_needed(tmp_path, spoil, sentence):
    pixels = make(tmp_path / "s", ["train"] * N, failed=())
    spoil(array_path(tmp_path / "s", 1))
    store = open_images(tmp_path / "s")
    np.testing.assert_array_equal(store.batch(np.array([101])), pixels[[101]])
    with pytest.raises(DataError, match=sentence):
        store.batch(np.array([49, 50]))
