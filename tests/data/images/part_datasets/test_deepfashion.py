"""DeepFashion's parsing in its layout: colours to classes, lists to roles, items to groups."""

import json

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.part_datasets import deepfashion
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError

H, W = 60, 40
WORN = {"red": (5, 10, 35, 30), "snow": (10, 2, 30, 10), "dodger blue 4": (10, 30, 30, 58)}
# Name in the list, and which.
LISTED = {
    "img_highres/WOMEN/Dresses/id_00000002/02_1_front.jpg": "train",
    "img_highres/WOMEN/Dresses/id_00000002/02_2_side.jpg": "train",
    "img/MEN/Denim/id_00000080/01_1_front.jpg": "query",
    "MEN/Denim/id_00000080/01_2_side.jpg": "gallery",
}


def colours():
    pixels = np.zeros((H, W, 3), np.uint8)
    for name, (left, top, right, bottom) in WORN.items():
        pixels[top:bottom, left:right] = deepfashion.COLOURS[name]
    return pixels


def expected_codes():
    codes = np.full((H, W), 255)
    for name, (left, top, right, bottom) in WORN.items():
        codes[top:bottom, left:right] = deepfashion.PARTS.index(name)
    return codes


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw" / "DeepFashion" / deepfashion.BENCHMARK / "Anno" / "segmentation"
    for number, name in enumerate(LISTED):
        own = name.removeprefix("img_highres/").removeprefix("img/")
        photograph = root / "img_highres" / own
        photograph.parent.mkdir(parents=True, exist_ok=True)
        picture = np.where(colours().any(2, keepdims=True), 100 + number, 255)
        image = Image.fromarray(np.repeat(picture, 3, 2).astype(np.uint8))
        image.save(photograph.with_suffix(".png"))
        photograph.with_suffix(".png").rename(photograph)  # lossless, whatever it is called
        labels = photograph.with_name(f"{photograph.stem}_segment.png")
        mode = "RGBA" if number == 1 else "RGB"
        Image.fromarray(colours()).convert(mode).save(labels)
    for side in deepfashion.LISTS:
        names = [name for name, of in LISTED.items() if of == side]
        told = {"images": [{"file_name": name, "id": 1} for name in names], "annotations": []}
        (root / f"DeepFashion_segmentation_{side}.json").write_text(json.dumps(told))
    return tmp_path / "raw"


def segmentation(raw):
    return raw / "DeepFashion" / deepfashion.BENCHMARK / "Anno" / "segmentation"


def preprocess(raw, store, *overrides):
    settings = ("val_share=0", *overrides)
    result = partsig.preprocess("deepfashion", raw, store, overrides=settings, jobs=1)
    return result, open_images(store)


def test_there_are_15_colours_and_black():
    assert len(set(deepfashion.COLOURS.values())) == 15
    assert (0, 0, 0) not in deepfashion.COLOURS.values()
    assert len({sum(colour) for colour in deepfashion.COLOURS.values()}) == 15


def test_the_whole_photograph_in_a_square(raw, tmp_path):
    result, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", f"size={H}")
    assert not result.failed
    assert [name.partition("#")[0] for name in store.names] == [
        name.removeprefix("img_highres/").removeprefix("img/") for name in LISTED
    ]
    assert store.roles.tolist() == ["train", "train", "test", "test"]
    assert store.groups == ("WOMEN/Dresses/id_00000002",) * 2 + ("MEN/Denim/id_00000080",) * 2
    assert store.mask_classes == deepfashion.PARTS
    masks, images = store.masks(np.arange(4)), store.batch(np.arange(4))
    side = (H - W) // 2
    for mask in masks:  # of RGBA, too
        np.testing.assert_array_equal(mask[:, side:-side], expected_codes())
        assert (mask[:, :side] == 255).all()
    assert (images[2, :, 20, 30] == 102).all()
    assert not images[:, :, :, :side].any()


def test_the_background_can_be_a_class_and_what_is_worn_cut_out(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", f"size={W}", "background=class")
    mask = store.masks(np.array([0]))[0]  # the middle: rows 10 to 50
    codes = np.where(expected_codes() == 255, 15, expected_codes())
    np.testing.assert_array_equal(mask, codes[10:50])
    assert store.mask_classes[15] == "background"
    settings = ("cut=parts", "margin=0", "parts=[red]", "size=30")
    _, parts = preprocess(raw, tmp_path / "p", *settings)
    assert parts.classes == ("red",)
    assert parts.groups == store.groups
    assert (parts.batch(np.array([0]))[0, :, 5:25] == 100).all()


def test_photographs_may_lie_with_the_others_of_the_benchmark(raw, tmp_path):
    root = segmentation(raw)
    elsewhere = root.parents[1] / "Img" / "img_highres"
    for photograph in (root / "img_highres").rglob("*.jpg"):
        place = elsewhere / photograph.relative_to(root / "img_highres")
        place.parent.mkdir(parents=True, exist_ok=True)
        photograph.rename(place)
    result, store = preprocess(raw / "DeepFashion", tmp_path / "s", "cut=object", "size=16")
    assert len(store) == 4
    assert not result.failed


def test_colours_of_no_class(raw, tmp_path):
    root = segmentation(raw)
    pixels = colours()
    pixels[:20] = (1, 2, 3)
    labels = root / "img_highres/WOMEN/Dresses/id_00000002/02_1_front_segment.png"
    Image.fromarray(pixels).save(labels)
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", f"size={H}")
    assert (store.masks(np.array([0]))[0, :20] == 255).all()
    pixels[:40] = (1, 2, 3)
    Image.fromarray(pixels).save(labels)
    result, _ = preprocess(raw, tmp_path / "t", "cut=object", "size=16")
    (reason,) = result.failed.values()
    assert "67% of its pixels in none of the 16 colours" in reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"images": 3}', "no list of images with file_name"),
        ('{"images": [{"file_name": 3}]}', "no text"),
        ('{"images": [{"file_name": "../../x.jpg"}]}', "no name of a file"),
        ("{", "is no JSON"),
        ('{"images": []}', "has no photograph listed"),
    ],
)
def test_lists_that_tell_nothing_are_refused(raw, tmp_path, text, told):
    root = segmentation(raw)
    for side in deepfashion.LISTS:
        (root / f"DeepFashion_segmentation_{side}.json").unlink()
    (root / "DeepFashion_segmentation_query.json").write_text(text)
    with pytest.raises(DataError, match=told):
        preprocess(raw, tmp_path / "s")


def test_what_is_missing_is_told(raw, tmp_path):
    root = segmentation(raw)
    (root / "DeepFashion_segmentation_gallery.json").unlink()
    next((root / "img_highres" / "MEN").rglob("*_segment.png")).unlink()
    result, store = preprocess(raw, tmp_path / "s", "cut=object", "size=16")
    assert len(store) == 2
    assert len(result.failed) == 1
    with pytest.raises(ConfigError, match="classes means nothing to deepfashion"):
        preprocess(raw, tmp_path / "t", "classes=[red]")
    with pytest.raises(DataError, match="has no Anno/segmentation"):
        preprocess(tmp_path / "nowhere", tmp_path / "t")
