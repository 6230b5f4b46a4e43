"""What is cut out of an image, and what is marked there, lie in the same places."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from partsig.data.images.part_datasets import cutting
from partsig.data.images.part_datasets.cutting import Square
from partsig.errors import DataError


def picture(mask):
    """Return an image that is a function of its mask: 60 times the number, in all channels."""
    return Image.fromarray(np.repeat((60 * mask)[..., None], 3, 2).astype(np.uint8))


def blocks(height, width, side):
    """Return a mask of blocks numbered 0 to 3."""
    rows, columns = np.indices((height, width)) // side
    return ((rows + 2 * columns) % 4).astype(np.uint8)


@pytest.mark.parametrize(
    ("square", "size"),
    [
        (Square(0, 0, 40), 40),
        (Square(3, 1, 20), 20),
        (Square(0, 0, 40), 120),
        (Square(4, 8, 32), 64),
        (Square(-8, 4, 56), 112),
        (Square(30, 30, 40), 80),
    ],
)
def test_a_mask_lies_on_its_image(square, size):
    mask = blocks(40, 60, 8)
    pixels = cutting.cut_image(picture(mask), square, size)
    labels = cutting.cut_labels(mask, square, size)
    assert pixels.shape == (3, size, size)
    assert labels.shape == (size, size)
    assert labels.dtype == np.uint8
    expected = np.where(labels == 255, 0, 60 * labels.astype(int))
    # Bicubic interpolation rounds what it takes near borders of blocks; inside they are exact.
    reach = 4 * max(1, size // square.side) + 1
    near = maximum_filter(labels, reach) != minimum_filter(labels, reach)
    assert (~near).mean() > 0.1
    np.testing.assert_array_equal(pixels[0][~near], expected[~near])
    if size == square.side:
        np.testing.assert_array_equal(pixels[0], expected)


def test_each_pixel_of_a_mask_is_the_nearest_by_exact_arithmetic():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(3, 40, 2).tolist()
        square = Square(*rng.integers(-5, 20, 2).tolist(), int(rng.integers(1, 50)))
        size = int(rng.integers(1, 30))
        labels = rng.integers(0, 200, (height, width)).astype(np.uint8)
        cut = cutting.cut_labels(labels, square, size)
        for i in range(size):
            for j in range(size):
                centre = [Fraction(2 * k + 1, 2) * square.side / size for k in (i, j)]
                row, column = square.top + int(centre[0]), square.left + int(centre[1])
                inside = 0 <= row < height and 0 <= column < width
                assert cut[i, j] == (labels[row, column] if inside else 255)


def test_a_keypoint_stays_on_the_pixel_that_it_marks():
    image = np.zeros((50, 70, 3), np.uint8)
    image[33, 21] = 255
    points = np.array([[21.0, 33.0, 1.0], [0.0, 0.0, 0.0], [5.0, 33.0, 1.0]])
    square = Square(11, 13, 30)
    for size in (30, 90, 150):
        pixels = cutting.cut_image(Image.fromarray(image), square, size)[0]
        (x, y, seen), unmarked, outside = cutting.cut_points(points, square, size).tolist()
        brightest = np.argwhere(pixels == pixels.max()).mean(0)
        assert brightest.tolist() == [y, x]
        assert seen == 1
        assert unmarked == [0, 0, 0]
        assert outside[2] == 0
    # By hand: (21 + .5 - 11) * 3 - .5 and (33 + .5 - 13) * 3 - .5
    assert cutting.cut_points(points, square, 90)[0].tolist() == [31.0, 61.0, 1.0]


def test_boxes_are_told_in_pixels_of_the_crop_and_cut_at_its_borders():
    square = Square(10, 20, 50)
    assert cutting.cut_box((20, 30, 10, 20), square, 100).tolist() == [20, 20, 20, 40]
    assert cutting.cut_box((0, 0, 15, 100), square, 100).tolist() == [0, 0, 10, 100]
    assert cutting.cut_box((200, 0, 5, 5), square, 100)[2:].tolist() == [0, 0]


def test_a_square_about_a_box_is_as_long_as_its_longer_side_within_the_image():
    assert cutting.about_box((10, 10, 20, 40), 100, 100, 0.0) == Square(0, 10, 40)
    assert cutting.about_box((10, 10, 20, 40), 100, 100, 0.25) == Square(-10, 0, 60)
    assert cutting.about_box((-1e30, 10, 2e30, 40), 100, 100, 0.0) == Square(0, -20, 100)
    for box in ((100, 0, 5, 5), (0, 0, 0, 5), (np.nan, 0, 5, 5), (-9, -9, 5, 5)):
        with pytest.raises(DataError, match="has no pixel of the image"):
            cutting.about_box(box, 100, 100, 0.0)


def test_a_square_that_no_memory_holds_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    image = Image.new("RGB", (200, 2))
    square = cutting.about_box((0, 0, 200, 2), 200, 2, 0.0)
    with pytest.raises(DataError, match="has 200 pixels a side, more than Pillow's limit of 10,0"):
        cutting.cut_image(image, square, 8)


def test_lengths_by_both_rules_with_their_limits():
    far = {"a": (0.0, 0.0), "b": (41.0, 0.0), "c": (41.0, 40.0)}
    assert cutting.patch_lengths(far, "code") == {"a": 20.5}  # 20 itself is too short
    assert cutting.patch_lengths(far, "paper") == {"a": 41.0, "b": 40.0, "c": 40.0}
    assert cutting.patch_lengths({"a": (0, 0), "b": (1998, 0)}, "code") == {"a": 999, "b": 999}
    assert cutting.patch_lengths({"a": (0, 0), "b": (1998, 0)}, "paper") == {}
    assert cutting.patch_lengths({"a": (0, 0)}, "code") == {}
    assert cutting.patch_lengths({"a": (0, 0), "b": (0, 0), "c": (0, 90)}, "code") == {
        **{"a": 45, "b": 45, "c": 45}
    }


def test_the_square_about_a_keypoint_is_the_published_one():
    # crop((x - h, y - h, x + h, y + h)) with h = round(length / 2): Pillow rounds each border.
    for x, y, length in ((50.0, 40.0, 21.0), (10.5, 11.5, 42.2), (99.49, 3.51, 37.0)):
        half = round(length / 2)
        box = tuple(map(round, (x - half, y - half, x + half, y + half)))
        left, top, side = cutting.about_point(x, y, length)
        assert (left, top, left + side, top + side) == box
