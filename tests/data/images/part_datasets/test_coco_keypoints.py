"""COCO's keypoints: visibility, crowds, empty boxes, and the published rule by person."""

import json

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError

PARTS = [
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip"),
    *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
]
CATEGORIES = [
    {"id": 1, "name": "person", "keypoints": PARTS},
    {"id": 90, "name": "toothbrush"},  # numbers have gaps, and most have no keypoints
]


def keypoints(**places):
    flat = []
    for part in PARTS:
        flat += places.get(part, (0, 0, 0))
    return flat


def person(number, bbox=(20, 10, 100, 160), crowd=0, image=139, **places):
    points = keypoints(**places)
    return {
        **{"id": number, "image_id": image, "category_id": 1, "iscrowd": crowd},
        **{"bbox": list(bbox), "keypoints": points, "num_keypoints": sum(map(bool, points[2::3]))},
    }


PEOPLE = [
    person(7, nose=(60, 30, 2), right_wrist=(60, 130, 2), left_ankle=(60, 240, 1)),
    person(8, nose=(61, 30, 2)),  # nearer to the other's nose than anything of that one
    person(9, crowd=1, nose=(5, 5, 2)),
    person(10),
    person(11, bbox=(5, 5, 0, 20), nose=(5, 5, 2)),
    {"id": 12, "image_id": 139, "category_id": 90, "bbox": [0, 0, 9, 9], "iscrowd": 0},
]


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    sides = {"train2017": (139, PEOPLE), "val2017": (285, [person(13, image=285, nose=(9, 9, 2))])}
    for side, (image, people) in sides.items():
        (root / "images" / side).mkdir(parents=True)
        rng = np.random.default_rng(image)
        pixels = rng.integers(0, 256, (200, 150, 3), dtype=np.uint8)
        name = f"{image:012d}.jpg"
        Image.fromarray(pixels).save(root / "images" / side / f"{image}.png")
        (root / "images" / side / f"{image}.png").rename(root / "images" / side / name)
        told = {"images": [{"id": image, "file_name": name, "width": 150, "height": 200}]}
        told |= {"annotations": people, "categories": CATEGORIES}
        (root / "annotations" / f"person_keypoints_{side}.json").write_text(json.dumps(told))
    return root


def preprocess(raw, store, *overrides):
    settings = ("val_share=0", *overrides)
    result = partsig.preprocess("coco-keypoints", raw, store, overrides=settings, jobs=1)
    return result, open_images(store)


def test_people_with_boxes_and_keypoints(raw, tmp_path):
    result, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=80")
    image = "train2017/000000000139.jpg"
    assert store.names == (f"{image}#7", f"{image}#8", "val2017/000000000285.jpg#13")
    assert store.groups == (image, image, "val2017/000000000285.jpg")
    assert store.roles.tolist() == ["train", "train", "test"]
    assert store.classes == ("person",)
    points = store.keypoints(np.array([0]))[0]
    # The square is -10…150 by 10…170, in half its size.
    assert points[PARTS.index("nose")].tolist() == [(60.5 + 10) / 2 - 0.5, 20.5 / 2 - 0.5, 1]
    ankle = points[PARTS.index("left_ankle")]
    assert ankle.tolist() == [(60.5 + 10) / 2 - 0.5, (240.5 - 10) / 2 - 0.5, 0]  # hidden
    assert not points[PARTS.index("left_eye")].any()
    assert store.boxes(np.array([0])).tolist() == [[15, 0, 50, 80]]
    assert "3 people without a keypoint or a box, and crowds, are left out" in result.notes


def test_distances_are_those_of_one_person(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=parts", "size=50")
    # Person 8 has one keypoint alone; of person 7 nose and wrist are 100 apart, the ankle hidden.
    assert [name.partition("#")[2] for name in store.names] == ["7 nose", "7 right_wrist"]
    assert store.classes == ("nose", "right_wrist", "left_ankle")
    pixels = np.random.default_rng(139).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    # Half of 100 is the side, 50: from 35 to 85 and from 5 to 55.
    np.testing.assert_array_equal(
        store.batch(np.array([0]))[0], pixels[5:55, 35:85].transpose(2, 0, 1)
    )


def test_whole_images_have_no_label(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "size=16")
    assert len(store) == 2
    assert store.labels.tolist() == [-1, -1]
    assert not store.keypoint_parts


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told["images"][0].update(file_name="../../secret.jpg"), "is no name of a"),
        (lambda told: told["annotations"][0].update(keypoints=[1, 2]), "is no annotation of COCO"),
        (lambda told: told["annotations"][0].update(bbox=["a", 1, 2, 3]), "is no annotation of"),
        (lambda told: told.pop("images"), "is no annotation of COCO .*images"),
        (lambda told: told.update(categories=[]), "no category of the annotations has keypoints"),
    ],
)
def test_annotations_that_are_not_right_are_refused(raw, tmp_path, change, told):
    file = raw / "annotations" / "person_keypoints_train2017.json"
    known = json.loads(file.read_text())
    change(known)
    file.write_text(json.dumps(known))
    with pytest.raises(DataError, match=told):
        preprocess(raw, tmp_path / "s", "cut=object", "size=8")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"images": NaN}', "[]", "3"])
def test_json_of_something_else_is_refused(raw, tmp_path, text):
    (raw / "annotations" / "person_keypoints_train2017.json").write_text(text)
    with pytest.raises(DataError, match=r"is no JSON|is no annotation of COCO"):
        preprocess(raw, tmp_path / "s")


def test_what_is_not_there_is_told(raw, tmp_path):
    with pytest.raises(ConfigError, match="classes has 'cat', which is not there"):
        preprocess(raw, tmp_path / "s", "classes=[cat]", "cut=object")
    for file in (raw / "annotations").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"has no person_keypoints_train2017.json"):
        preprocess(raw, tmp_path / "s")
