"""CUB-200-2011 in its official layout, with every quirk of it, in a folder of four images."""

import csv

import numpy as np
import pytest
from PIL import Image

import partsig
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError

PARTS = (
    *("back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing"),
    *("nape", "right eye", "right leg", "right wing", "tail", "throat"),
)
CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
# Ids from 1, not in the order of the names; the third is grey, the fourth is not there.
IMAGES = {
    1: ("001.Black_footed_Albatross/Bird_0046.jpg", 1, 0),
    2: ("001.Black_footed_Albatross/Bird_0009.jpg", 1, 1),
    3: ("003.Sooty_Albatross/Bird_0001.png", 3, 1),
    4: ("003.Sooty_Albatross/Missing.jpg", 3, 1),
}
# Of each image: box, and what is seen, by part.
BOXES = {1: (40, 20, 120, 80), 2: (0, 0, 200, 100), 3: (10, 10, 50, 50), 4: (1, 1, 9, 9)}
SEEN = {
    1: {"right eye": (60, 40), "tail": (150, 40), "left wing": (105, 40), "beak": (61, 40)},
    2: {"right eye": (20.0, 50.5), "right leg": (20, 20), "tail": (190, 80)},
    3: {"tail": (30, 30)},
    4: {"tail": (30, 30), "right eye": (90, 90)},
}
SIZE = (200, 100)


def write(folder, name, lines):
    """Write a table with the line endings of copies that went through Windows."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw" / "CUB_200_2011"
    write(root, "images.txt", [f"{i} {name}" for i, (name, _, _) in IMAGES.items()])
    write(root, "image_class_labels.txt", [f"{i} {k}" for i, (_, k, _) in IMAGES.items()])
    write(root, "classes.txt", [f"{i} {name}" for i, name in enumerate(CLASSES, 1)])
    write(root, "train_test_split.txt", [f"{i} {role}" for i, (_, _, role) in IMAGES.items()])
    write(root, "bounding_boxes.txt", [f"{i} {' '.join(map(str, b))}" for i, b in BOXES.items()])
    write(root, "parts/parts.txt", [f"{i} {part}" for i, part in enumerate(PARTS, 1)])
    lines = []
    for image in IMAGES:
        for number, part in enumerate(PARTS, 1):
            x, y = SEEN[image].get(part, (0.0, 0.0))
            lines.append(f"{image} {number} {x} {y} {int(part in SEEN[image])}")
    write(root, "parts/part_locs.txt", lines)
    for i, (name, _, _) in IMAGES.items():
        if "Missing" not in name:
            path = root / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels(i))
            (image.convert("L") if i == 3 else image).save(path.with_suffix(".png"))
            path.with_suffix(".png").rename(path)  # lossless, whatever it is called
    return tmp_path / "raw"


def pixels(seed):
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 256, (SIZE[1], SIZE[0], 1), dtype=np.uint8), 3, 2)


def preprocess(raw, store, *overrides):
    result = partsig.preprocess("cub200", raw, store, overrides=overrides, jobs=1)
    return result, open_images(store)


def test_whole_images_with_keypoints_and_boxes(raw, tmp_path):
    result, store = preprocess(raw, tmp_path / "s", "size=50")
    assert list(result.failed) == ["003.Sooty_Albatross/Missing.jpg"]
    assert "No such file" in result.failed["003.Sooty_Albatross/Missing.jpg"]
    assert store.names == tuple(name for name, _, _ in list(IMAGES.values())[:3])
    assert store.roles.tolist() == ["test", "train", "train"]
    assert store.classes == (CLASSES[0], CLASSES[2])  # of those that occur
    assert store.labels.tolist() == [0, 0, 1]
    assert store.groups == ()
    assert store.keypoint_parts == PARTS
    assert store.meta["keypoints"]["mirrored"]["left wing"] == "right wing"
    points = store.keypoints(np.arange(3))
    assert points.shape == (3, 15, 3)
    assert points.dtype == np.float32
    # The middle, from 50 to 150, in half the size: (x + .5 - 50) / 2 - .5
    assert points[0, PARTS.index("right eye")].tolist() == [4.75, 19.75, 1]
    assert points[0, PARTS.index("tail")].tolist() == [49.75, 19.75, 0]  # just cut off
    assert points[1, PARTS.index("right eye")].tolist() == [-15.25, 25.0, 0]
    assert points[0, PARTS.index("left eye")].tolist() == [0, 0, 0]
    assert points[:, :, 2].sum(1).tolist() == [3, 0, 0]
    assert store.boxes(np.arange(2)).tolist() == [[0, 10, 50, 40], [0, 0, 50, 50]]
    with pytest.raises(DataError, match="has no masks"):
        store.masks(np.arange(3))


def test_birds_are_cut_out_by_their_box(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=120")
    # Box 40…160 x 20…100: the square is 40…160 x 0…120, of which 20 rows lie beyond the image.
    crop = store.batch(np.array([0]))[0]
    np.testing.assert_array_equal(crop[0, :100], pixels(1)[:, 40:160, 0])
    assert not crop[:, 100:].any()
    eye = store.keypoints(np.array([0]))[0, PARTS.index("right eye")]
    assert eye.tolist() == [20, 40, 1]
    assert store.boxes(np.array([0])).tolist() == [[0, 20, 120, 80]]
    assert store.groups == ()


def test_parts_by_the_published_rule(raw, tmp_path):
    result, store = preprocess(raw, tmp_path / "s", "cut=parts", "size=22")
    first, second = IMAGES[1][0], IMAGES[2][0]
    # Eye and wing are 45 apart, wing and tail 45: half of that is 22.5, half of that rounds to 11.
    # The beak is nearer to the eye, but was not chosen. The other bird's eye is 30.5 from its leg,
    # half of that is too little; its tail is 172.5 from the eye. One keypoint alone has no length.
    assert store.names == tuple(
        f"{name}#{part}"
        for name, parts in ((first, ("left wing", "right eye", "tail")), (second, ("tail",)))
        for part in parts
    )
    assert store.classes == ("right eye", "right leg", "left wing", "tail")
    assert [store.classes[i] for i in store.labels] == ["left wing", "right eye", "tail", "tail"]
    assert store.groups == (first, first, first, second)
    assert store.roles.tolist() == ["test", "test", "test", "train"]
    eye = store.batch(np.array([1]))[0]
    np.testing.assert_array_equal(eye[0], pixels(1)[29:51, 49:71, 0])
    assert store.meta["cut"]["patch_rule"] == "code"
    assert not store.keypoint_parts
    assert set(result.failed) == {f"{IMAGES[4][0]}#right eye", f"{IMAGES[4][0]}#tail"}


def test_parts_by_the_paper_s_rule(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=parts", "size=44", "patch_rule=paper")
    assert [name.partition("#")[2] for name in store.names[:3]] == [
        "left wing",
        "right eye",
        "tail",
    ]
    # The whole distance, 45: half of it rounds to 22.
    eye = store.batch(np.array([1]))[0]
    np.testing.assert_array_equal(eye[0], pixels(1)[18:62, 38:82, 0])
    assert [n.partition("#")[2] for n in store.names[3:]] == ["right eye", "right leg", "tail"]


def test_species_and_parts_can_be_chosen(raw, tmp_path):
    overrides = {"cut": "parts", "parts": ["tail", "beak"], "size": 16}
    overrides["classes"] = ["001.Black_footed_Albatross"]
    partsig.preprocess("cub200", raw, tmp_path / "s", overrides=overrides)
    store = open_images(tmp_path / "s")
    assert store.classes == ("tail", "beak")
    assert set(store.groups) == {IMAGES[1][0]}
    for wrong, told in (
        ({"classes": ["003.Sooty_Albatros"]}, "nearest is '003.Sooty_Albatross'"),
        ({"classes": ["002.Laysan_Albatross"]}, "which is not there"),  # no image of it
        ({"cut": "parts", "parts": ["wing"]}, "parts has 'wing', which is not there"),
        ({"margin": 0.1}, "margin means nothing to cub200 cut to image"),
        ({"parts": ["tail"]}, "parts means nothing to cub200 cut to image"),
        ({"background": "class"}, "background means nothing to cub200"),
    ):
        with pytest.raises(ConfigError, match=told):
            partsig.preprocess("cub200", raw, tmp_path / "t", overrides=wrong)


def test_votes_on_the_outline(raw, tmp_path):
    folder = raw / "CUB_200_2011" / "segmentations"
    votes = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    votes[:, 60:80], votes[:, 80:100] = 204, 255
    for i, mode in ((1, "L"), (2, "RGBA"), (3, "LA")):
        path = (folder / IMAGES[i][0]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(votes).convert(mode).save(path)
    _, store = preprocess(raw, tmp_path / "s", "size=100")
    assert store.mask_classes == ("bird", "background")
    masks = store.masks(np.arange(3))
    assert masks.dtype == np.uint8
    expected = np.select([votes == 255, votes == 0], [0, 1], 255)[:, 50:150]
    for mask in masks:
        np.testing.assert_array_equal(mask, expected)


def test_pieces_that_are_missing_are_told_one_by_one(raw, tmp_path):
    root = raw / "CUB_200_2011"
    write(root, "train_test_split.txt", ["2 1", "3 1"])
    write(root, "bounding_boxes.txt", ["2 1 1 9 9"])
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "size=16")
    assert store.names == (IMAGES[2][0],)
    with open(tmp_path / "s" / "index.csv", newline="") as file:
        reasons = {row["image"]: row["reason"] for row in csv.DictReader(file)}
    assert "train_test_split.txt does not tell" in reasons[IMAGES[1][0]]
    assert reasons[IMAGES[3][0]] == "its box is not known"


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("images.txt", "1 ../../etc/passwd", "is no name of a file in"),
        ("images.txt", "1 /etc/passwd", "is no name of a file in"),
        ("images.txt", "1", "line 1 has 1 columns, not 2"),
        ("bounding_boxes.txt", "1 1 1 nan 4", "has 'nan' in place of a number"),
        ("bounding_boxes.txt", "1 1 x 3 4", "has 'x' in place of a number"),
        ("parts/part_locs.txt", "1 99 1 1 1", "has part 99, which is not in parts.txt"),
    ],
)
def test_tables_that_cannot_be_followed_are_refused(raw, tmp_path, file, line, told):
    write(raw / "CUB_200_2011", file, [line])
    with pytest.raises(DataError, match=told):
        preprocess(raw, tmp_path / "s", "size=8")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no images.txt and classes.txt: pass --raw"):
        preprocess(tmp_path, tmp_path / "s")


def test_marks_that_have_changed_are_cut_out_anew(raw, tmp_path):
    _, store = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=120")
    boxes = raw / "CUB_200_2011" / "bounding_boxes.txt"
    boxes.write_bytes(boxes.read_bytes().replace(b"1 40 20 120 80", b"1 0 0 100 100"))
    _, again = preprocess(raw, tmp_path / "s", "cut=object", "margin=0", "size=120")
    assert again.boxes(np.array([0])).tolist() == [[0, 0, 120, 120]]
    np.testing.assert_array_equal(again.batch(np.array([1, 2])), store.batch(np.array([1, 2])))
    with pytest.raises(DataError, match="was made with other settings: cut"):
        preprocess(raw, tmp_path / "s", "cut=image", "size=120")


def test_what_some_people_called_bird_may_be_background(raw, tmp_path):
    """Bird is 255 exactly, whatever alpha says and however grey is stored."""
    folder = raw / "CUB_200_2011" / "segmentations"
    votes = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    votes[:, 60:80], votes[:, 80:100] = 204, 255
    alpha = np.where(np.arange(SIZE[0]) < 70, 0, 255).astype(np.uint8) + 0 * votes
    palette = Image.fromarray(votes).convert("P")
    images = {
        1: Image.merge("RGBA", [Image.fromarray(band) for band in (votes, votes, votes, alpha)]),
        2: Image.merge("LA", [Image.fromarray(band) for band in (votes, alpha)]),
        3: palette,
    }
    for i, image in images.items():
        path = (folder / IMAGES[i][0]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    _, store = preprocess(raw, tmp_path / "s", "size=100", "disputed=background")
    expected = np.where(votes == 255, 0, 1)[:, 50:150]
    for mask in store.masks(np.arange(3)):
        np.testing.assert_array_equal(mask, expected)
    assert store.meta["cut"]["disputed"] == "background"
    with pytest.raises(ConfigError, match="disputed means nothing to cub200 cut to parts"):
        preprocess(raw, tmp_path / "t", "cut=parts", "disputed=background")


@pytest.mark.parametrize("told", ["classes=[CUB-001]", "classes=['1']", f"classes=[{CLASSES[0]}]"])
def test_species_by_their_number(raw, tmp_path, told):
    _, store = preprocess(raw, tmp_path / "s", "size=16", told)
    assert store.classes == (CLASSES[0],)
    assert len(store) == 2
    with pytest.raises(ConfigError, match="classes has '4', which is not there"):
        preprocess(raw, tmp_path / "t", "classes=['4']")
