"""Parts as colours: the palette under colour-blindness, parts in one order, pictures by pixel."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.ndimage import zoom

from partsig.figures import parts as figures
from partsig.figures.parts import PartColumn, Truth
from partsig.figures.parts_in_time import PartsInTime, draw_recording

# Machado, Oliveira and Fernandes 2009, severity 1: what is seen without one kind of cone.
SEEN = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colours, seen):
    """Return CIELAB of colours (n, 3) of sRGB, as somebody sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(seen).T, 0, 1)
    xyz = linear @ np.array(TO_XYZ).T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(("n_parts", "least"), [(4, 42), (6, 28), (8, 24)])
def test_colours_stay_apart_whoever_looks(seen, n_parts, least):
    colours = np.array([to_rgb(figures.colour_of(k)) for k in range(n_parts)])
    values = lab(colours, SEEN[seen])
    pairs = itertools.combinations(range(n_parts), 2)
    assert min(np.linalg.norm(values[a] - values[b]) for a, b in pairs) >= least


def test_parts_are_brought_into_the_order_of_a_reference():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 6, 6))
    reference = (labels[:, None] == np.arange(4).reshape(1, 4, 1, 1)).astype(float)
    order = [2, 0, 3, 1]
    extra = np.zeros((5, 2, 6, 6))
    mixed = np.concatenate([extra[:, :1], reference[:, order], extra[:, 1:]], 1)
    found = figures.matched(mixed, reference)
    assert found.shape == (5, 6, 6, 6)
    np.testing.assert_array_equal(found[:, :4], reference)


def test_a_pixel_has_the_colour_of_its_most_likely_part():
    maps = np.zeros((3, 2, 2))
    maps[1], maps[2, :, 1] = 0.5, 1.0
    picture = np.full((8, 8, 3), 0.5)
    shown = figures.overlaid(picture, maps)
    tint = [np.array(to_rgb(figures.colour_of(k))) for k in range(3)]
    strength = figures.STRENGTH
    np.testing.assert_allclose(shown[4, 0], (1 - strength) * 0.5 + strength * tint[1])
    np.testing.assert_allclose(shown[4, 7], (1 - strength) * 0.5 + strength * tint[2])
    labels = zoom(maps, (1, 4, 4), order=1, mode="nearest", grid_mode=True).argmax(0)
    border = np.flatnonzero(np.diff(labels[4])).item() + 1
    assert (shown[4, border] > 0.75).all()  # a light line
    mask = np.ones((8, 8), bool)
    mask[:4] = False
    pale = figures.overlaid(picture, maps, mask)
    np.testing.assert_allclose(pale[0, 0], 1 - figures.OUTSIDE * 0.5)
    np.testing.assert_allclose(pale[5], shown[5])


def test_a_patch_lies_about_its_part_and_within_the_image():
    part = np.zeros((10, 10))
    part[7:9, 1:3] = 1
    (top, left), side = figures.patch_of(part, (100, 100))
    assert side == 24
    assert (top + side / 2, left + side / 2) == (80, 20)
    assert figures.patch_of(part * 0, (100, 100)) == ((0, 0), 20)
    assert figures.patch_of(np.ones((10, 10)), (40, 60)) == ((0, 10), 40)


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8), rng.random((5, 4, 8, 8))


def test_pictures_are_written_and_are_the_same_again(images, tmp_path):
    pictures, maps = (these[:2] for these in images)
    columns = [PartColumn(title="K = 4 $x$", maps=maps)]
    truth = Truth(keypoints=np.full((2, 3, 3), 10.0))
    written = figures.draw_grid(pictures, columns, tmp_path / "grid", truth=truth, notes=["a"])
    assert [path.name for path in written] == ["grid.png", "grid.svg"]
    again = figures.draw_grid(pictures, columns, tmp_path / "again", truth=truth, notes=["a"])
    assert written[0].read_bytes() == again[0].read_bytes()
    with Image.open(written[0]) as image:
        assert image.width > image.height  # two rows of three columns
    masks = np.tile(np.array([[0, 1], [2, 255]]).repeat(16, 0).repeat(16, 1), (1, 1, 1))
    truth = Truth(masks=masks, names=("pet", "background", "border"))
    one = [PartColumn(title="K = 4", maps=maps[:1])]
    (drawn, _) = figures.draw_grid(pictures[:1], one, tmp_path / "masks", truth=truth)
    with Image.open(drawn) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(10**7)}
    legend = {tuple(round(255 * c) for c in to_rgb(figures.colour_of(k))) for k in range(4)}
    assert legend <= colours


def test_failures_are_the_images_that_agree_least(images, tmp_path, monkeypatch):
    pictures, maps = images
    shown = {}
    monkeypatch.setattr(figures, "draw_grid", lambda i, c, p, **k: shown.update(i=i, c=c, **k))
    truth = Truth(keypoints=np.arange(5.0).repeat(9).reshape(5, 3, 3))
    agreement = np.array([0.5, np.nan, 0.1, 0.9, 0.0])
    column = PartColumn(title="K = 4", maps=maps)
    figures.draw_failures(pictures, [column], agreement, tmp_path / "f", truth=truth, most=3)
    np.testing.assert_array_equal(shown["i"], pictures[[4, 2, 0]])
    np.testing.assert_array_equal(shown["c"][0].maps, maps[[4, 2, 0]])
    assert shown["truth"].keypoints[:, 0, 0].tolist() == [4, 2, 0]
    assert shown["notes"] == ["NMI 0", "NMI 10", "NMI 50"]


def test_prototypes_leave_out_what_is_not_there(images, tmp_path):
    pictures, maps = images
    strength = np.random.default_rng(2).random((5, 4))
    strength[:, 2] = np.nan
    written = figures.draw_prototypes(pictures, maps, strength, tmp_path / "p", top=3)
    assert all(path.stat().st_size > 2000 for path in written)


def test_parts_along_a_recording(tmp_path):
    rng = np.random.default_rng(3)
    shown = PartsInTime(
        parts=rng.integers(-1, 4, 605),
        step_s=1.0,
        power=rng.random((20, 100)),
        frequency=np.linspace(0, 30, 20),
        power_step_s=6.05,
        stages=np.array([0, 1, -1, 2, 1]),
        stage_names=("W", "R", "N"),
        stage_s=120.0,
        events={"spindle (expert 1)": np.array([[3.0, 1.0], [40, 2]]), "none": np.zeros((0, 2))},
    )
    written = draw_recording(shown, 4, tmp_path / "r", title="a recording")
    assert [path.suffix for path in written] == [".png", ".svg"]
    with Image.open(written[0]) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(10**7)}
    shades = {tuple(round(255 * c) for c in to_rgb(figures.colour_of(k))) for k in range(4)}
    assert shades <= colours
    bare = PartsInTime(
        parts=shown.parts,
        step_s=60.0,
        power=shown.power,
        frequency=shown.frequency,
        power_step_s=363.0,
    )
    assert draw_recording(bare, 4, tmp_path / "b")[0].exists()
