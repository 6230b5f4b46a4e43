"""LIP, CIHP and CelebAMask-HQ: codes to classes, people apart, masks of single parts in order."""

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.part_datasets import celebamask, cihp, lip
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError

H, W = 48, 64


def codes(*places):
    """Return a map with these codes in boxes (left, top, right, bottom), the later over earlier."""
    labels = np.zeros((H, W), np.uint8)
    for code, (left, top, right, bottom) in places:
        labels[top:bottom, left:right] = code
    return labels


PERSON = codes((5, (10, 10, 40, 40)), (13, (20, 2, 30, 12)), (14, (4, 12, 10, 30)))
OTHER = codes((5, (44, 10, 60, 40)), (10, (48, 10, 56, 16)))


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    image = image if mode is None else image.convert(mode)
    image.save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


def picture(labels):
    return np.repeat((12 * labels)[..., None], 3, 2).astype(np.uint8)


def preprocess(source, raw, store, *overrides):
    settings = ("val_share=0", *overrides)
    result = partsig.preprocess(source, raw, store, overrides=settings, jobs=1)
    return result, open_images(store)


@pytest.fixture
def people(tmp_path):
    root = tmp_path / "LIP"
    for side, name, labels in (("train", "77_1", PERSON), ("val", "100_2", OTHER)):
        images = root / "TrainVal_images" / "TrainVal_images" / f"{side}_images"
        maps = root / "TrainVal_parsing_annotations" / "TrainVal_parsing_annotations"
        save(images / f"{name}.jpg", picture(labels))
        save(maps / f"{side}_segmentations" / f"{name}.png", labels)
        (root / "TrainVal_images" / f"{side}_id.txt").write_bytes(f"{name}\r\n".encode())
    return tmp_path


def test_lip(people, tmp_path):
    # The lists lie in the outer folder of the archives, the images once deeper.
    for side in ("train", "val"):
        name = f"{side}_id.txt"
        (people / "LIP" / "TrainVal_images" / name).rename(people / "LIP" / name)
    _, store = preprocess("lip", people, tmp_path / "s", f"size={H}")
    assert len(store.mask_classes) == 19
    assert store.mask_classes[0] == "Hat"
    assert store.mask_classes[9] == "Jumpsuits"
    assert set(store.mask_objects.values()) == {"person"}
    assert store.meta["masks"]["mirrored"]["Left-arm"] == "Right-arm"
    assert len(store.meta["masks"]["mirrored"]) == 6
    assert store.roles.tolist() == ["train", "test"]
    assert store.labels.tolist() == [-1, -1]
    masks, images = store.masks(np.arange(2)), store.batch(np.arange(2))
    expected = np.where(PERSON == 0, 255, PERSON.astype(int) - 1)[:, 8:56]
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(np.where(masks == 255, 0, 12 * (masks + 1)), images[:, 0])


def test_background_is_a_class_where_it_is_asked_for(people, tmp_path):
    _, store = preprocess("lip", people, tmp_path / "s", "size=16", "background=class")
    assert store.mask_classes[19:] == ("background",)
    assert store.masks(np.arange(1))[0, 0, 0] == 19


def test_parts_are_cut_out_by_their_codes(people, tmp_path):
    _, store = preprocess("lip", people, tmp_path / "s", "cut=parts", "margin=0", "size=10")
    assert store.classes == lip.PARTS
    assert store.names[:3] == (
        *("train/77_1.jpg#1 UpperClothes", "train/77_1.jpg#1 Face", "train/77_1.jpg#1 Left-arm"),
    )
    assert [store.classes[i] for i in store.labels[:3]] == ["UpperClothes", "Face", "Left-arm"]
    face = store.batch(np.array([1]))[0, 0]  # 20…30 by 2…12, of which the clothes hide nothing
    np.testing.assert_array_equal(face, 12 * PERSON[2:12, 20:30])
    assert set(store.groups) == {"train/77_1.jpg", "val/100_2.jpg"}


@pytest.fixture
def crowd(tmp_path):
    root = tmp_path / "instance-level_human_parsing"
    labels = np.maximum(PERSON, OTHER)
    for side, name in (("Training", "0000006"), ("Validation", "0000001")):
        save(root / side / "Images" / f"{name}.jpg", picture(labels))
        save(root / side / "Category_ids" / f"{name}.png", labels)
        humans = (PERSON > 0) + 2 * (OTHER > 0)
        save(root / side / "Human_ids" / f"{name}.png", humans.astype(np.uint8))
    return root


def test_cihp_person_by_person(crowd, tmp_path):
    _, store = preprocess("cihp", crowd, tmp_path / "s", "cut=object", "margin=0", "size=30")
    assert store.names[:2] == ("Training/0000006.jpg#1", "Training/0000006.jpg#2")
    assert store.groups[:2] == ("Training/0000006.jpg",) * 2
    assert store.mask_classes == cihp.PARTS
    assert cihp.PARTS[9] == "Torso-skin"
    mask = store.masks(np.array([1]))[0]  # 44…60 by 10…40: the square is 37…67
    expected = np.where(OTHER == 0, 255, OTHER.astype(int) - 1)[10:40, 37:]
    np.testing.assert_array_equal(mask[:, :27], expected)  # nothing of the first person
    assert (mask[:, 27:] == 255).all()


def test_cihp_parts_are_those_of_one_person(crowd, tmp_path):
    _, store = preprocess(
        "cihp", crowd, tmp_path / "s", "cut=parts", "parts=[UpperClothes]", "size=8"
    )
    assert [name.partition("#")[2] for name in store.names] == 2 * [
        *("1 UpperClothes", "2 UpperClothes")
    ]


def test_cihp_without_people(crowd, tmp_path):
    for side in ("Training", "Validation"):
        (crowd / side / "Human_ids").rename(crowd / side / "elsewhere")
    _, store = preprocess("cihp", crowd, tmp_path / "s", "size=16")
    assert len(store) == 2
    with pytest.raises(ConfigError, match="cut=object needs the folder Human_ids"):
        preprocess("cihp", crowd, tmp_path / "t", "cut=object")


def test_people_of_lip_are_cut_out_already(people, tmp_path):
    with pytest.raises(ConfigError, match="lip cannot be cut to object; it can be image, parts"):
        preprocess("lip", people, tmp_path / "s", "cut=object")


def test_maps_that_are_damaged_are_told(crowd, tmp_path):
    file = crowd / "Training" / "Category_ids" / "0000006.png"
    save(file, np.zeros((5, 5, 3), np.uint8) + np.arange(3, dtype=np.uint8))
    for cut in ("image", "object"):
        result, store = preprocess("cihp", crowd, tmp_path / cut, f"cut={cut}", "size=8")
        assert result.failed == {
            "Training/0000006.jpg": "0000006.png is in colours; its labels are told by grey"
        }
        assert len(store) == (1 if cut == "image" else 2)


def test_lists_that_lead_out_are_refused(people, tmp_path):
    (people / "LIP" / "TrainVal_images" / "train_id.txt").write_text("../../../secret\n")
    with pytest.raises(DataError, match="is no name of a file in"):
        preprocess("lip", people, tmp_path / "s")


@pytest.fixture
def faces(tmp_path):
    root = tmp_path / "CelebAMask-HQ"
    skin, nose, hair = (np.zeros((H // 2, W // 2), np.uint8) for _ in range(3))
    skin[4:20, 4:28], nose[10:14, 14:18], hair[2:8, 2:30] = 255, 255, 255
    for n in (0, 2001):
        save(root / "CelebA-HQ-img" / f"{n}.jpg", np.full((H, W, 3), n % 251, np.uint8))
        folder = root / "CelebAMask-HQ-mask-anno" / str(n // 2000)
        for part, mask in (("skin", skin), ("nose", nose), ("hair", hair)):
            save(folder / f"{n:05d}_{part}.png", mask, "RGB")  # as some of the archive are
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx                 orig_idx            orig_file\n"
        "0                   119613              119614.jpg\n"
        "2001                182638              182639.jpg\n"
    )
    return root


def test_celebamask(faces, tmp_path):
    _, store = preprocess("celebamask", faces, tmp_path / "s", f"size={H}")
    assert store.names == ("0.jpg", "2001.jpg")
    assert store.roles.tolist() == ["train", "test"]
    assert store.mask_classes == celebamask.PARTS
    assert set(store.mask_objects.values()) == {"face"}
    mirrored = store.meta["masks"]["mirrored"]
    assert mirrored["l_eye"] == "r_eye"
    assert "l_lip" not in mirrored  # the lower lip
    small = np.full((H // 2, W // 2), 255)
    for part, (top, bottom, left, right) in {
        **{"skin": (4, 20, 4, 28), "nose": (10, 14, 14, 18), "hair": (2, 8, 2, 30)}
    }.items():
        small[top:bottom, left:right] = celebamask.PARTS.index(part)
    expected = small.repeat(2, 0).repeat(2, 1)[:, 8:56]
    np.testing.assert_array_equal(store.masks(np.array([0]))[0], expected)


def test_faces_of_no_mask_are_told_and_maps_of_codes_are_read(faces, tmp_path):
    for file in (faces / "CelebAMask-HQ-mask-anno" / "1").iterdir():
        file.unlink()
    result, _ = preprocess("celebamask", faces, tmp_path / "s", "size=16")
    assert result.failed == {"2001.jpg": "none of its parts has a mask"}
    flat = tmp_path / "flat"
    save(flat / "0.jpg", picture(PERSON))
    Image.fromarray(PERSON[::2, ::2]).save(flat / "0.png")
    _, store = preprocess("celebamask", flat, tmp_path / "t", f"size={H}")
    doubled = PERSON[::2, ::2].repeat(2, 0).repeat(2, 1)[:, 8:56].astype(int)
    np.testing.assert_array_equal(
        store.masks(np.array([0]))[0], np.where(doubled == 0, 255, doubled - 1)
    )
