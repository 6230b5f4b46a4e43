"""Crops, masks, keypoints and boxes in a store of images: written, split, read, damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from partsig.data.images import arrays, preprocessing
from partsig.data.images import store as images
from partsig.data.images.examples import LabelledImages
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import Item, Source, open_images
from partsig.errors import DataError
from partsig.modalities.image_dataset import ImageDataset

N, SIZE, PARTS = 24, 16, 5
FACTS = {
    "cut": {"cut": "object"},
    "masks": {"classes": ["eye", "wheel"], "objects": {"eye": "cat", "wheel": "car"}},
    "keypoints": {"parts": list("abcde"), "mirrored": {}},
    "boxes": {},
}


def content(i):
    """Return image, mask, keypoints and box of a number; all are functions of it."""
    rng = np.random.default_rng(i)
    mask = rng.integers(0, 3, (SIZE, SIZE)).astype(np.uint8)
    image = np.repeat(rng.integers(0, 256, (1, SIZE, SIZE)), 3, 0).astype(np.uint8)
    points = np.c_[rng.random((PARTS, 2)) * SIZE, np.arange(PARTS) % 2].astype(np.float32)
    return image, mask - 1, points, np.array([i, 1, 2, 3], np.float32)


def source(n=N, read=content, facts=None, groups=True):
    """Return crops, three an image; those of images 0, 1 and 7 are the test."""
    items = [
        Item(
            *(f"{i // 3}.jpg#{i % 3}", i % 2, "test" if i // 3 in (0, 1, 7) else "train", f"v{i}"),
            f"{i // 3}.jpg" if groups else "",
        )
        for i in range(n)
    ]
    return Source(
        **{"name": "made", "size": (SIZE, SIZE), "ch_names": ("red", "green", "blue")},
        **{"classes": ("cat", "car"), "items": items, "read": read},
        facts=FACTS if facts is None else facts,
    )


@pytest.fixture(autouse=True)
def short_arrays(monkeypatch):
    monkeypatch.setattr(images, "PER_FILE", 10)


@pytest.fixture
def preprocess(monkeypatch, tmp_path):
    """Return what writes a source to a store, by the same way as ``partsig preprocess``."""

    def write(made, name="s", val_share=0.3):
        monkeypatch.setattr(preprocessing, "_open", lambda *_: made)
        request = preprocessing.PreprocessRequest(
            **{"source": "digits", "raw": tmp_path, "store": tmp_path / name},
            **{"overrides": [f"val_share={val_share}"], "jobs": 2},
        )
        preprocessing.preprocess_images(request)
        return open_images(tmp_path / name)

    return write


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def check(store, numbers):
    index = np.arange(len(store))
    expected = [np.stack(some) for some in zip(*map(content, numbers), strict=True)]
    for read, wanted in zip(
        (store.batch, store.masks, store.keypoints, store.boxes), expected, strict=True
    ):
        found = read(index)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(read(index[::-2]), wanted[::-2])


def test_what_lies_beside_the_images_is_read_with_them(preprocess):
    store = preprocess(source())
    check(store, range(N))
    assert store.mask_classes == ("eye", "wheel")
    assert store.mask_objects == {"eye": "cat", "wheel": "car"}
    assert store.keypoint_parts == tuple("abcde")
    assert store.groups == tuple(f"{i // 3}.jpg" for i in range(N))
    assert store.masks(np.arange(0)).shape == (0, SIZE, SIZE)
    assert sorted(path.name for path in (store.path / "masks").iterdir()) == [
        *("00000.npy", "00001.npy", "00002.npy")
    ]


def test_a_group_lies_on_one_side(preprocess):
    store = preprocess(source(), val_share=0.4)
    roles = {}
    for group, role in zip(store.groups, store.roles.tolist(), strict=True):
        assert roles.setdefault(group, role) == role
    assert {roles[f"{i}.jpg"] for i in (0, 1, 7)} == {"test"}
    assert set(roles.values()) == {"train", "val", "test"}
    assert [roles[f"{i}.jpg"] == "val" for i in range(2, 7)] == [
        bool(images.share_of([f"{i}.jpg"], 0.4)[0]) for i in range(2, 7)
    ]


def test_images_of_which_a_crop_is_the_same_are_on_one_side(preprocess):
    def read(i):
        return content(2 if i == 10 else i)  # a crop of image 3 is one of image 0, of the test

    store = preprocess(source(read=read))
    roles = dict(zip(store.groups, store.roles.tolist(), strict=True))
    assert roles["0.jpg"] == "test"
    assert roles["3.jpg"] == images.LEFT_OUT
    assert store.roles.tolist().count(images.LEFT_OUT) == 3


def test_without_groups_and_facts_a_store_is_as_it_was(preprocess):
    made = source(read=lambda i: content(i)[0], facts={}, groups=False)
    store = preprocess(made)
    header = (store.path / "index.csv").read_text().splitlines()[0]
    assert header == "image,label,role,status,reason,row,source,fingerprint,same_as"
    assert list(json.loads((store.path / "meta.json").read_text())) == [
        *("format", "modality", "source", "size", "ch_names", "dtype", "classes", "val_share"),
        "provenance",
    ]
    assert sorted(p.name for p in store.path.iterdir()) == ["images", "index.csv", "meta.json"]
    assert store.groups == ()
    for read in (store.masks, store.keypoints, store.boxes):
        with pytest.raises(DataError, match=r"has no (masks|keypoints|boxes): preprocess a source"):
            read(np.arange(2))
    examples = LabelledImages(store, np.arange(4), SIZE)
    assert (examples.grouped, examples.item) == (False, "image")


def test_provenance_covers_what_is_marked(preprocess):
    first = preprocess(source()).meta["provenance"]
    other = {**FACTS, "masks": {"classes": ["eye", "tyre"], "objects": {}}}
    assert preprocess(source(facts=other), "t").meta["provenance"] != first
    with pytest.raises(DataError, match="was made with other settings: masks"):
        preprocess(source(facts=other))
    without = {key: value for key, value in FACTS.items() if key != "boxes"}
    with pytest.raises(DataError, match=r"was made with other settings: boxes \{\} \(now None\)"):
        preprocess(source(facts=without, read=lambda i: content(i)[:3]))


def test_an_interrupted_run_is_continued_to_the_same_bytes(preprocess, tmp_path):
    preprocess(source(), "whole")

    def stops(i):
        if i == 14:
            raise KeyboardInterrupt
        return content(i)

    with pytest.raises(KeyboardInterrupt):
        preprocess(source(read=stops))
    asked = []

    def counts(i):
        asked.append(i)
        return content(i)

    check(preprocess(source(read=counts)), range(N))
    assert sorted(asked) == list(range(10, N))  # the first array was whole
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize("folder", ["masks", "keypoints", "boxes"])
def test_an_array_that_is_missing_or_cut_short_is_made_again(preprocess, tmp_path, folder):
    whole = contents(preprocess(source()).path)
    file = tmp_path / "s" / folder / "00001.npy"
    file.write_bytes(file.read_bytes()[:-1])
    store = open_images(tmp_path / "s")
    read = getattr(store, folder)
    read(np.arange(10))
    with pytest.raises(DataError, match=rf"{folder}/00001.npy cannot be read .*its array ends at"):
        read(np.arange(10, 12))
    preprocess(source())
    assert contents(tmp_path / "s") == whole
    np.save(file, np.zeros((10, 3)))
    with pytest.raises(DataError, match=r"has the shape \(10, 3\) in float64, the index asks for"):
        getattr(open_images(tmp_path / "s"), folder)(np.arange(10, 12))
    file.unlink()
    preprocess(source())
    assert contents(tmp_path / "s") == whole


def test_a_crop_of_another_image_now_is_made_again(preprocess):
    preprocess(source())
    made = source()
    made.items[4] = made.items[4]._replace(group="9.jpg")
    asked = []
    again = replace(made, read=lambda i: asked.append(i) or content(i))
    assert preprocess(again).groups[4] == "9.jpg"
    assert asked == [4]


def test_crops_as_examples_and_as_labels(preprocess):
    store = preprocess(source())
    examples = LabelledImages(store, np.array([7, 0, 8, 2]), SIZE)
    assert (examples.grouped, examples.item, examples.unit) == (True, "crop", "image")
    names, numbers = examples.units()
    assert (list(names), numbers.tolist()) == (["2.jpg", "0.jpg"], [0, 1, 0, 1])
    columns, rows = examples.columns()
    assert columns == ["crop", "image"]
    assert list(rows)[:2] == [("2.jpg#1", "2.jpg"), ("0.jpg#0", "0.jpg")]
    joined = examples.joined([LabelledImages(store, np.array([1]), SIZE)])
    assert joined.units()[1].tolist() == [0, 1, 0, 1, 1]
    split = ImageDataset(store).split_labels(
        **{"budget": Budget(), "settings": Settings(), "seed": 0}
    )
    assert split.facts["n_groups"]["test"] == 3
    assert split.facts["n_images"]["test"] == 9


class Budget:
    per_class = 0


class Settings:
    size, patch_px = SIZE, 4
    augment = type("Augment", (), {"crop": "none"})


def test_settings_are_checked():
    for wrong in ({"margin": -0.1}, {"margin": 3.0}, {"least_area": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ImagePreprocessConfig(**wrong)


def test_places_are_told_by_meta():
    layers = arrays.layers_of({"size": [4, 6], "ch_names": ["grey"], **FACTS})
    assert [(layer.folder, layer.shape, str(layer.dtype)) for layer in layers] == [
        ("images", (1, 4, 6), "uint8"),
        ("masks", (4, 6), "uint8"),
        ("keypoints", (5, 3), "float32"),
        ("boxes", (4,), "float32"),
    ]
