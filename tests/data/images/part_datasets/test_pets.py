"""Oxford-IIIT Pet: breeds from names, trimaps on their images, official lists and own split."""

import csv

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError

NAMES = ("Abyssinian_1", "Abyssinian_2", "american_bulldog_7", "american_bulldog_10", "Bengal_3")


def trimap(seed):
    """Return 1 pet in a box, 3 border about it, 2 background."""
    labels = np.full((60, 90), 2, np.uint8)
    labels[15:40, 20 + seed : 60 + seed] = 3
    labels[20:35, 25 + seed : 55 + seed] = 1
    return labels


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "pets"
    for folder in ("images", "annotations/trimaps"):
        (root / folder).mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        labels = trimap(seed)
        image = np.repeat((80 * labels)[..., None], 3, 2)  # a function of its mask
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        (root / "images" / f"{name}.png").rename(root / "images" / f"{name}.jpg")
        Image.fromarray(labels).save(root / "annotations" / "trimaps" / f"{name}.png")
    # What the official archives hold besides.
    (root / "annotations" / "trimaps" / "._Abyssinian_1.png").write_bytes(b"\0\5\x16\7")
    (root / "images" / "Abyssinian_101.mat").write_bytes(b"MATLAB 5.0")
    return root


def preprocess(raw, store, *overrides):
    result = partsig.preprocess("pets", raw, store, overrides=overrides, jobs=1)
    return result, open_images(store)


def test_masks_lie_on_their_images(raw, tmp_path):
    result, store = preprocess(raw, tmp_path / "s", "size=60")
    assert store.classes == ("Abyssinian", "Bengal", "american_bulldog")
    assert store.names == tuple(sorted(f"{name}.jpg" for name in NAMES))
    labels = dict(zip(store.names, store.labels.tolist(), strict=True))
    assert [labels[f"{name}.jpg"] for name in NAMES] == [0, 0, 2, 2, 1]
    assert store.mask_classes == ("pet", "background", "border")
    masks, images = store.masks(np.arange(5)), store.batch(np.arange(5))
    np.testing.assert_array_equal(images[:, 0], 80 * (masks + 1))
    expected = trimap(NAMES.index("Bengal_3"))[:, 15:75] - 1
    np.testing.assert_array_equal(masks[store.names.index("Bengal_3.jpg")], expected)
    assert result.notes[1] == "no trainval.txt and test.txt: a fifth of each breed is the test"


def test_squares_about_the_animal(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=40")
    masks, images = store.masks(np.arange(5)), store.batch(np.arange(5))
    assert store.boxes(np.arange(5)).tolist() == [[0, 7, 40, 25]] * 5
    # Rows 15 to 40 about their middle in 40: from 7.5, rounded to even.
    expected = trimap(0)[8:48, 20:60] - 1
    for mask, image in zip(masks, images, strict=True):
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(image[0], 80 * (mask + 1))


def test_official_lists(raw, tmp_path):
    lists = {"trainval.txt": NAMES[:3], "test.txt": NAMES[3:4]}
    for name, members in lists.items():
        text = "#Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{m} 1 1 1\n" for m in members)
        (raw / "annotations" / name).write_text(text)
    result, _ = preprocess(raw, tmp_path / "s", "size=16", "val_share=0")
    with open(tmp_path / "s" / "index.csv", newline="") as file:
        roles = {row["image"]: row["role"] for row in csv.DictReader(file)}
    assert roles == {f"{name}.jpg": "train" for name in NAMES[:3]} | {f"{NAMES[3]}.jpg": "test"}
    assert "1 images are in no list and left out" in result.notes
    (raw / "annotations" / "test.txt").write_text(f"{NAMES[0]} 1 1 1\n")
    with pytest.raises(DataError, match=r"test.txt lists Abyssinian_1, which another list has"):
        preprocess(raw, tmp_path / "t", "size=16")


def test_breeds_can_be_chosen_and_parts_cannot_be_cut(raw, tmp_path):
    partsig.preprocess("pets", raw, tmp_path / "s", overrides={"classes": ["Bengal"], "size": 16})
    assert open_images(tmp_path / "s").names == ("Bengal_3.jpg",)
    with pytest.raises(ConfigError, match="pets cannot be cut to parts; it can be image, object"):
        preprocess(raw, tmp_path / "t", "cut=parts")
    with pytest.raises(ConfigError, match="cut is for part data sets"):
        partsig.preprocess("images", raw, tmp_path / "t", overrides=["cut=object"])


def test_trimaps_that_do_not_fit_are_told(raw, tmp_path):
    folder = raw / "annotations" / "trimaps"
    Image.fromarray(trimap(0)[:50]).save(folder / f"{NAMES[0]}.png")
    (folder / f"{NAMES[1]}.png").write_bytes(b"no image")
    (folder / f"{NAMES[2]}.png").unlink()
    Image.fromarray(np.full((60, 90), 2, np.uint8)).save(folder / f"{NAMES[3]}.png")
    result, store = preprocess(raw, tmp_path / "s", "cut=object", "size=16")
    assert store.names == ("Bengal_3.jpg",)
    told = [result.failed[f"{name}.jpg"] for name in NAMES[:4]]
    for sentence, part in zip(
        told,
        ("has 90 x 50 pixels, the image 90 x 60", "none of JPEG", "No such file", "is marked"),
        strict=True,
    ):
        assert part in sentence


def test_without_trimaps_there_are_images_and_breeds(raw, tmp_path):
    for path in (raw / "annotations" / "trimaps").iterdir():
        path.unlink()
    (raw / "annotations" / "trimaps").rmdir()
    _, store = preprocess(raw, tmp_path / "s", "size=16")
    assert len(store) == 5
    assert store.mask_classes == ()
    assert not (tmp_path / "s" / "masks").exists()
