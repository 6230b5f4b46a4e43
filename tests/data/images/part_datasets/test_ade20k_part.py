"""ADE20K: classes in red and green, parts of objects by pairs, rare classes, damaged JSON."""

import json

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.part_datasets import ade20k_part
from partsig.data.images.store import open_images
from partsig.errors import DataError

CAR, WHEEL, WINDOW, BUILDING, TREE = 401, 774, 3050, 312, 2855
NAMES = {CAR: "car, auto", WHEEL: "wheel", WINDOW: "window", BUILDING: "building", TREE: "tree"}
H, W = 40, 60
# Boxes of objects and of parts: left, top, right, bottom; part of which.
OBJECTS = {0: (BUILDING, (0, 0, 30, 30)), 1: (CAR, (30, 20, 60, 40)), 2: (TREE, (30, 0, 60, 20))}
PARTS = {
    **{5: (WINDOW, (4, 4, 10, 10), 0), 6: (WHEEL, (34, 30, 40, 36), 1)},
    **{7: (WHEEL, (50, 30, 56, 36), 1), 8: (WINDOW, (42, 22, 48, 26), 1)},
}


def coded(codes, rest=3):
    """Return codes in colours: tens of red, green, and blue for what differs otherwise."""
    colours = np.zeros((*codes.shape, 3), np.uint8)
    colours[..., 0] = codes // 256 * 10 + np.where(codes > 0, rest, 0)  # tens alone count
    colours[..., 1], colours[..., 2] = codes % 256, np.arange(codes.shape[1]) % 7
    return colours


def maps():
    objects, parts = np.zeros((H, W), int), np.zeros((H, W), int)
    for code, (left, top, right, bottom) in OBJECTS.values():
        objects[top:bottom, left:right] = code
    for code, (left, top, right, bottom), _ in PARTS.values():
        parts[top:bottom, left:right] = code
    return objects, parts


def told():
    """Return what the JSON says: polygons of the pixels' centres, and levels of parts."""
    entries = []
    for number, (code, (left, top, right, bottom), *of) in {**OBJECTS, **PARTS}.items():
        polygon = {"x": [left, right - 1, right - 1, left], "y": [top, top, bottom - 1, bottom - 1]}
        parts = {"hasparts": [], "ispartof": of[0] if of else [], "part_level": len(of)}
        entries.append(
            {"id": number, "name": NAMES[code], "name_ndx": code, "polygon": polygon}
            | {"parts": parts}
        )
    entries.append(entries[3] | {"id": 9, "parts": {"ispartof": 5, "part_level": 2}})
    return {"annotation": {"object": entries}}


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw" / "ADE20K_2021_17_01" / "images" / "ADE"
    objects, parts = maps()
    for side, name in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
        folder = root / side / "urban" / "street"
        folder.mkdir(parents=True)
        image = np.repeat((20 * (parts % 13))[..., None], 3, 2).astype(np.uint8)
        Image.fromarray(image + (side == "training")).save(folder / f"{name}.png")
        (folder / f"{name}.png").rename(folder / f"{name}.jpg")
        Image.fromarray(coded(objects)).save(folder / f"{name}_seg.png")
        Image.fromarray(coded(parts)).save(folder / f"{name}_parts_1.png")
        (folder / f"{name}.json").write_text(json.dumps(told()))
    return tmp_path / "raw"


def preprocess(raw, store, *overrides):
    settings = ("val_share=0", *overrides)
    result = partsig.preprocess("ade20k-part", raw, store, overrides=settings, jobs=1)
    return result, open_images(store)


def test_scenes_with_the_parts_of_their_objects(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", f"size={H}")
    assert store.names[0] == "training/urban/street/ADE_train_1.jpg"
    assert store.classes == ("street",)
    # Two wheels are more frequent than either window.
    assert store.mask_classes == ("car, auto / wheel", "building / window", "car, auto / window")
    assert store.mask_objects["building / window"] == "building"
    _, parts = maps()
    expected = np.full((H, W), 255)
    expected[parts == WHEEL] = 0
    expected[4:10, 4:10], expected[22:26, 42:48] = 1, 2
    np.testing.assert_array_equal(store.masks(np.array([0]))[0], expected[:, 10:50])


def test_objects_and_parts_are_cut_out_by_their_polygons(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=30")
    assert [store.classes[i] for i in store.labels[:2]] == ["building", "car, auto"]
    assert store.boxes(np.array([1])).tolist() == [[0, 5, 30, 20]]  # no tree: it has no parts
    assert set(store.groups) == {f"{side}.jpg" for side in (SCENE, SCENE_VAL)}
    _, store = preprocess(raw, tmp_path / "t", "cut=parts", "margin=0", "size=6")
    assert [store.classes[i] for i in store.labels[:4]] == [
        *("building / window", "car, auto / wheel", "car, auto / wheel", "car, auto / window")
    ]
    wheel = store.batch(np.array([1]))[0, 0]
    assert (wheel == 20 * (WHEEL % 13) + 1).all()


SCENE, SCENE_VAL = "training/urban/street/ADE_train_1", "validation/urban/street/ADE_val_1"


def test_classes_can_be_chosen_and_rare_ones_are_left_out(raw, tmp_path, monkeypatch):
    _, store = preprocess(raw, tmp_path / "s", "size=16", "classes=[building]")
    assert store.mask_classes == ("building / window",)
    monkeypatch.setattr(ade20k_part, "MOST_CLASSES", 2)
    result, store = preprocess(raw, tmp_path / "t", "size=16", "background=class")
    assert store.mask_classes == ("car, auto / wheel", "building / window", "background")
    assert "1 classes of parts are left out, being rare" in result.notes


def test_damaged_pieces_are_told_one_by_one(raw, tmp_path):
    base = raw / "ADE20K_2021_17_01" / "images" / "ADE" / SCENE
    base.with_suffix(".json").write_text('{"annotation": 3}')
    result, store = preprocess(raw, tmp_path / "s", "size=16")
    assert "ADE_train_1.json cannot be read (TypeError" in result.failed[f"{SCENE}.jpg"]
    assert len(store) == 1
    base.with_suffix(".json").write_text(json.dumps(told()))
    grey = Image.fromarray(np.zeros((H, W), np.uint8))
    grey.save(base.with_name("ADE_train_1_seg.png"))
    result, store = preprocess(raw, tmp_path / "t", "size=16")
    assert "its labels are told by colours" in result.failed[f"{SCENE}.jpg"]
    (tmp_path / "empty" / "images" / "ADE").mkdir(parents=True)
    with pytest.raises(DataError, match="has no images ADE_"):
        preprocess(tmp_path / "empty", tmp_path / "u")
