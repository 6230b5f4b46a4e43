"""Samples of the real data sets: as many pieces as are known to be there, where they should be."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import partsig
from partsig.contracts import IGNORED
from partsig.data.images.part_datasets.cub200 import open_cub200
from partsig.data.images.part_datasets.pascal_part import open_pascal_part, read_objects
from partsig.data.images.part_datasets.pets import open_pets
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.store import open_images

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"


def sample(name):
    """Return the folder of a sample; skip where it is missing."""
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}")
    return SHARED / name


def opened(source, raw, store, *overrides):
    return open_images(partsig.preprocess(source, raw, store, overrides=overrides, jobs=1).path)


def labels_of(store):
    return Counter(store.classes[i] for i in store.labels)


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        ("code", {"tail": 847, "right leg": 583, "left wing": 537, "right eye": 527}),
        ("paper", {"tail": 949, "right leg": 696, "left wing": 629, "right eye": 544}),
    ],
)
def test_parts_of_twenty_species(rule, counts):
    """The counts are those of a loop over part_locs.txt of its own."""
    made = open_cub200(sample("cub"), ImagePreprocessConfig(cut="parts", patch_rule=rule))
    assert Counter(made.classes[item.label] for item in made.items) == counts
    sides = {role: {i.group for i in made.items if i.role == role} for role in ("train", "test")}
    assert not sides["train"] & sides["test"]
    assert made.read(0)[0].shape == (3, 112, 112)


def test_birds_of_twenty_species(tmp_path):
    overrides = ("cut=object", "size=32", "classes=[001.Black_footed_Albatross]")
    store = opened("cub200", sample("cub"), tmp_path / "s", *overrides)
    assert len(store) == 60
    points = store.keypoints(np.arange(60))
    boxes = store.boxes(np.arange(60))[:, None]
    seen = points[..., 2] > 0
    # Nearly all keypoints lie in the box of their bird.
    inside = (points[..., :2] >= boxes[..., :2] - 1).all(2)
    inside &= (points[..., :2] <= boxes[..., :2] + boxes[..., 2:]).all(2)
    assert seen.sum() > 500
    assert inside[seen].mean() > 0.98


def test_pets(tmp_path):
    made = open_pets(sample("pets"), ImagePreprocessConfig())
    counts = Counter(made.classes[item.label] for item in made.items)
    assert counts == {"Abyssinian": 200, "Bengal": 200, "american_bulldog": 200}
    store = opened("pets", sample("pets"), tmp_path / "s", "size=32", "classes=[Bengal]")
    masks = store.masks(np.arange(200))
    assert set(np.unique(masks)) == {0, 1, 2}
    assert 0.2 < (masks == 0).mean() < 0.6


def test_pascal_part(tmp_path):
    raw = sample("pascal_part")
    folder = raw / "VOCdevkit_2010" / "Annotations_Part"
    objects = [each for path in sorted(folder.glob("*.mat")) for each in read_objects(path)]
    assert len(objects) == 62
    assert sum(len(each.parts) for each in objects) == 517
    assert len({each.label for each in objects}) == 14
    store = opened("pascal-part", raw, tmp_path / "s", "cut=object", "size=64")
    assert len(store) == 62
    masks = store.masks(np.arange(62))
    with_parts = [i for i in range(62) if objects[i].parts]
    assert all((masks[i] != IGNORED).any() for i in with_parts)
    for i in with_parts:  # the parts of each are those of its class
        names = {store.mask_classes[n] for n in np.unique(masks[i]) if n != IGNORED}
        assert {store.mask_objects[name] for name in names} == {objects[i].label}
    made = open_pascal_part(raw, ImagePreprocessConfig(cut="parts"))
    assert len(made.items) == 517


def test_coco_keypoints(tmp_path):
    raw = sample("mmpose_samples/coco")
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    link = root / "annotations" / "person_keypoints_val2017.json"
    link.symlink_to(raw / "test_coco.json")
    (root / "val2017").symlink_to(raw)
    store = opened("coco-keypoints", root, tmp_path / "s", "cut=object", "size=64")
    assert len(store) == 12
    assert store.keypoint_parts[0] == "nose"
    parts = opened("coco-keypoints", root, tmp_path / "p", "cut=parts", "size=8")
    assert labels_of(parts) == {"nose": 8, "left_ankle": 8, "right_wrist": 5}


def test_ade20k_part(tmp_path):
    store = opened("ade20k-part", sample("ade20k"), tmp_path / "s", "size=256")
    assert store.classes == ("street",)
    assert store.mask_classes[0] == "building, edifice / window"
    found = np.unique(store.masks(np.arange(3)))
    assert "car, auto, automobile, machine, motorcar / wheel" in store.mask_classes
    assert len(found) > 10


@pytest.mark.parametrize(
    ("source", "name", "n", "parts"),
    [
        ("cihp", "cihp", 5, ("Hair", "Face", "UpperClothes", "Torso-skin")),
        ("celebamask", "celebamask", 4, ("skin", "nose", "hair", "l_eye", "r_eye", "neck")),
    ],
)
def test_people(tmp_path, source, name, n, parts):
    store = opened(source, sample(name), tmp_path / "s", "size=128")
    assert len(store) == n
    masks = store.masks(np.arange(n))
    found = {store.mask_classes[k] for k in np.unique(masks) if k != IGNORED}
    assert set(parts) <= found
    if source == "celebamask":  # the person's own left is on the right of a portrait
        codes = [store.mask_classes.index(eye) for eye in ("l_eye", "r_eye")]
        left, right = (np.nonzero(masks == code)[2].mean() for code in codes)
        assert left > right
