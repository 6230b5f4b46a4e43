"""Parts at keypoints, and centres of parts, by loops and by hand."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from partsig.metrics import part_places


@pytest.mark.parametrize("grid", [(6,), (4, 6), (3, 4, 5)])
def test_parts_at_places_are_scipys_interpolation(grid):
    rng = np.random.default_rng(len(grid))
    maps = rng.random((3, 4, *grid))
    places, visible = rng.random((3, 5, len(grid))), rng.random((3, 5)) < 0.8
    found = part_places.most_likely_at(maps, places, visible)
    nearest = part_places.labels_at(maps.argmax(1), places, visible)
    for n in range(3):
        for p in range(5):
            at = places[n, p] * grid
            value = [map_coordinates(m, at[:, None] - 0.5, order=1, mode="nearest")[0]
                     for m in maps[n]]  # fmt: skip
            cell = tuple(at.astype(int))
            assert found[n, p] == (np.argmax(value) if visible[n, p] else -1)
            assert nearest[n, p] == (
                maps[n][(slice(None), *cell)].argmax() if visible[n, p] else -1
            )


def test_the_background_is_the_first_of_all():
    maps = np.array([[[0.9, 0.2], [0.1, 0.8]]])
    whole = part_places.background_first(maps, np.array([[1.0, 0.3]]))
    np.testing.assert_allclose(whole, [[[0, 0.7], [0.9, 0.06], [0.1, 0.24]]])
    places, visible = np.array([[[0.25], [0.75]]]), np.array([[True, True]])
    assert part_places.most_likely_at(maps, places, visible).tolist() == [[0, 1]]
    assert part_places.most_likely_at(whole, places, visible).tolist() == [[1, 0]]


def test_keypoints_of_a_store_become_places():
    places, visible = part_places.places_of(np.array([[[9.5, 4.5, 1], [-0.5, 19.5, 0]]]), (20, 40))
    np.testing.assert_allclose(places[0], [[0.25, 0.25], [1.0, 0.0]])
    assert visible.tolist() == [[True, False]]


def test_centres_are_centres_of_mass_within_the_foreground():
    rng = np.random.default_rng(1)
    maps, mask = rng.random((2, 3, 4, 5)), rng.random((2, 4, 5)) < 0.5
    maps[1, 2] = 0
    centres = part_places.part_centres(maps, mask)
    for n in range(2):
        for k in range(3):
            weight = maps[n, k] * mask[n]
            row, column = ((np.arange(length) + 0.5) / length for length in (4, 5))
            expected = [0.5, 0.5]
            if weight.sum():
                total = weight.sum()
                expected = [(weight.sum(1) @ row) / total, (weight.sum(0) @ column) / total]
            np.testing.assert_allclose(centres[n, k], expected)


def test_baselines_that_know_one_place():
    rng = np.random.default_rng(2)
    keypoints, visible = rng.random((40, 5, 2)), rng.random((40, 5)) < 0.5
    visible[3] = False
    mean = part_places.mean_centres(keypoints, visible)
    for n in range(40):
        expected = keypoints[n][visible[n]].mean(0) if visible[n].any() else [0.5, 0.5]
        np.testing.assert_allclose(mean[n, 0], expected)
    one = part_places.keypoint_as_centre(keypoints, visible, 1)
    seen = visible[:, 1]
    np.testing.assert_allclose(one[seen, 0], keypoints[seen, 1])
    np.testing.assert_allclose(one[~seen], mean[~seen])
