"""PASCAL-Part: objects and overlapping parts of MATLAB files, painted in either order."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import partsig
from partsig.data.images.part_datasets import pascal_part
from partsig.data.images.store import open_images
from partsig.errors import ConfigError

H, W = 40, 60


def box(left, top, right, bottom):
    mask = np.zeros((H, W), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


CAT = box(4, 4, 36, 36)
# In the file's order: the head first, and what lies in it after.
CAT_PARTS = {
    **{"head": box(4, 4, 24, 24), "leye": box(6, 8, 10, 12), "reye": box(14, 8, 18, 12)},
    **{"torso": box(24, 4, 36, 30), "tentacle": box(30, 30, 34, 34)},
}
CAR = box(40, 10, 58, 30)
CAR_PARTS = {"wheel_1": box(42, 24, 46, 28), "wheel_2": box(52, 24, 56, 28)}


def annotation(path, name, *objects):
    """Write an annotation as the archive has it: parts of 0 x 0 where an object has none."""
    kinds = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    table = np.empty((1, len(objects)), dtype=kinds)
    for k, (label, mask, parts) in enumerate(objects):
        inner = np.empty((1, len(parts)), dtype=[("part_name", object), ("mask", object)])
        for i, (part, where) in enumerate(parts.items()):
            inner[0, i] = (part, where)
        table[0, k] = (label, 1, mask, inner if parts else np.zeros((0, 0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    anno = np.empty((1, 1), dtype=[("imname", object), ("objects", object)])
    anno[0, 0] = (name, table)
    savemat(path, {"anno": anno}, do_compression=True)


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "VOCdevkit_2010"
    told = {
        "2008_000001": [("cat", CAT, CAT_PARTS)],
        "2008_000002": [("cat", CAT, CAT_PARTS), ("car", CAR, CAR_PARTS)],
        "2008_000003": [("sofa", box(0, 0, 30, 30), {})],
    }
    for name, objects in told.items():
        annotation(root / "Annotations_Part" / f"{name}.mat", name, *objects)
        path = root / "VOC2010" / "JPEGImages" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.repeat((120 * CAT + 60 * CAR)[..., None], 3, 2).astype(np.uint8)
        Image.fromarray(image).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    lists = root / "VOC2010" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000001\n2008_000003\n")
    (lists / "val.txt").write_text("2008_000002\n")
    return tmp_path


def preprocess(raw, store, *overrides):
    settings = ("val_share=0", *overrides)
    result = partsig.preprocess("pascal-part", raw, store, overrides=settings, jobs=1)
    return result, open_images(store)


def test_the_classes_of_parts_are_the_193():
    counts = {label: len(parts.split()) for label, parts in pascal_part.PARTS.items()}
    assert sum(counts.values()) == 193
    assert counts == {
        **{"aeroplane": 7, "bicycle": 6, "bird": 13, "bottle": 2, "bus": 13, "car": 13},
        **{"cat": 17, "cow": 19, "dog": 18, "horse": 21, "motorbike": 5, "person": 24},
        **{"pottedplant": 2, "sheep": 19, "train": 13, "tvmonitor": 1},
    }
    assert len(pascal_part.CLASSES) == 20


@pytest.mark.parametrize("paint", ["in_order", "reversed"])
def test_overlapping_parts_are_painted_in_the_order_that_is_asked_for(raw, tmp_path, paint):
    settings = ("cut=object", "margin=0", f"paint={paint}", "size=32", "classes=[cat]")
    _, store = preprocess(raw, tmp_path / "s", *settings)
    names = store.mask_classes
    assert len(names) == 17
    assert set(store.mask_objects.values()) == {"cat"}
    mask = store.masks(np.array([0]))[0]
    head, eye = names.index("cat head"), names.index("cat leye")
    assert mask[4, 2] == (eye if paint == "in_order" else head)
    # By hand, on the square 4…36 of both axes.
    expected = np.full((H, W), 255)
    order = list(CAT_PARTS.items())[: 4 if paint == "in_order" else None]
    for part, where in order if paint == "in_order" else order[::-1]:
        if part != "tentacle":  # of no class: the object's, and of no part
            expected[where > 0] = names.index(f"cat {part}")
    np.testing.assert_array_equal(mask, expected[4:36, 4:36])


def test_objects_are_cut_out_and_labelled(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=32")
    assert [store.classes[i] for i in store.labels] == ["cat", "cat", "car", "sofa"]
    first, second, third = (f"2008_00000{i}.jpg" for i in (1, 2, 3))
    assert store.groups == (first, second, second, third)
    assert store.names[1:3] == (f"{second}#0 cat", f"{second}#1 car")
    # The first two are the same picture: what is trained on is left out with all of its image.
    assert store.roles.tolist() == ["twin", "test", "test", "train"]
    car = store.masks(np.array([2]))[0]  # 18 by 20 pixels, a square of 20
    assert set(np.unique(car)) == {store.mask_classes.index("car wheel"), 255}
    assert (store.masks(np.array([3])) == 255).all()  # a sofa has no parts
    image = store.batch(np.array([0]))[0]
    assert (image == 120).all()  # the cat alone


def test_whole_images_have_the_label_that_all_their_objects_have(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "size=40", "background=class")
    names = [store.classes[i] if i >= 0 else "" for i in store.labels]
    assert names == ["cat", "", "sofa"]
    assert store.groups == ()
    assert store.mask_classes[-1] == "background"
    mask = store.masks(np.array([1]))[0]  # columns 10 to 50
    assert mask[0, 0] == 193
    assert mask[32, 22] == 255  # of the cat, and of no class of parts
    assert mask[26, 34] == store.mask_classes.index("car wheel")


def test_parts_are_cut_out_by_their_masks(raw, tmp_path):
    _, store = preprocess(
        raw, tmp_path / "s", "cut=parts", "margin=0", "size=8", "parts=[car wheel, cat head]"
    )
    assert store.classes == ("car wheel", "cat head")
    assert [store.classes[i] for i in store.labels] == ["cat head", "cat head", *["car wheel"] * 2]
    assert store.names[2] == "2008_000002.jpg#1.0 car wheel"
    assert store.groups[1:] == ("2008_000002.jpg",) * 3
    assert not store.mask_classes


def test_small_objects_can_be_left_out(raw, tmp_path):
    # The car's box is 18 by 20 of 40 by 60 pixels: 0.15.
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "size=8", "least_area=0.2")
    assert "car" not in [store.classes[i] for i in store.labels]


def test_damaged_annotations_are_told_and_the_others_read(raw, tmp_path):
    folder = raw / "VOCdevkit_2010" / "Annotations_Part"
    whole = (folder / "2008_000001.mat").read_bytes()
    (folder / "2008_000001.mat").write_bytes(whole[: len(whole) // 2])
    annotation(folder / "2008_000003.mat", "x", ("cat", CAT, {"head": np.ones((5, 5), np.uint8)}))
    result, store = preprocess(raw, tmp_path / "s", "cut=object", "size=8")
    assert [store.classes[i] for i in store.labels] == ["cat", "car"]
    assert "2008_000001.mat" in result.failed["2008_000001.jpg"]
    assert "a part of another size than its object" in result.failed["2008_000003.jpg"]


def test_the_least_area_of_tests_may_be_another(raw, tmp_path):
    """The cat's box covers .43 of its image, the car's .15, of which the test image has both."""
    settings = ("cut=object", "size=8", "least_area=0.1")
    labels = {}
    for name, of_test in (("same", "null"), ("more", "0.2"), ("most", "0.5")):
        _, store = preprocess(raw, tmp_path / name, *settings, f"least_area_test={of_test}")
        labels[name] = [
            store.classes[label]
            for label, group in zip(store.labels, store.groups, strict=True)
            if group == "2008_000002.jpg"
        ]
    assert labels == {"same": ["cat", "car"], "more": ["cat"], "most": []}
    assert store.meta["cut"]["least_area_test"] == 0.5
    with pytest.raises(ConfigError, match="least_area_test means nothing to pascal-part cut to im"):
        preprocess(raw, tmp_path / "t", "least_area_test=0.2")


def test_the_ten_classes_of_part_discovery(raw, tmp_path):
    settings = ("cut=object", "size=16", "margin=0", "classes=[discovery]", "paint=reversed")
    _, store = preprocess(raw, tmp_path / "s", *settings)
    assert store.classes == pascal_part.DISCOVERY
    assert len(store.classes) == 10
    assert [store.classes[i] for i in store.labels] == ["cat", "cat", "car"]
    assert store.meta["cut"]["classes"] == list(pascal_part.DISCOVERY)
    names = {store.mask_classes[k] for k in np.unique(store.masks(np.array([0]))) if k < 255}
    assert names == {"cat head", "cat torso"}  # the head hides both eyes
