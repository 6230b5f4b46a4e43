"""Baselines of part discovery: by hand, by scikit-learn, and on maps with one to three axes."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from partsig.errors import DataError
from partsig.metrics.clustering import nmi
from partsig.metrics.part_places import part_centres
from partsig.tasks import part_baselines, published_parts
from partsig.tasks.part_baselines import BASELINES, PartMaps

GRIDS = [(12,), (6, 8), (4, 4, 8)]


def striped(grid, n=6, seed=0):
    """Maps whose four parts have features of their own, with a foreground; and the truth."""
    rng = np.random.default_rng(seed)
    truth = np.broadcast_to(np.arange(grid[-1]) * 4 // grid[-1], (n, *grid))
    directions = np.abs(np.random.default_rng(9).normal(size=(4, 7))) + 3 * np.eye(4, 7)
    maps = np.moveaxis(directions[truth], -1, 1) + 0.1 * rng.random((n, 7, *grid))
    mask = np.zeros((n, *grid), bool)
    mask[(slice(None), *[slice(1, -1)] * len(grid))] = True
    return PartMaps(maps=maps.astype(np.float32), foreground=mask), truth


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_a_part_to_each_cell_and_the_same_by_one_seed(name, grid):
    (train, _), (test, truth) = striped(grid), striped(grid, 3, 1)
    found = BASELINES[name](train, test, 4, 5)
    assert found.shape == (3, *grid)
    assert found.dtype == np.int64
    assert found.min() >= 0
    assert found.max() < (1 if name == "one part" else 4)
    np.testing.assert_array_equal(found, BASELINES[name](train, test, 4, 5))
    if name in ("k-means", "NMF (DFF)"):
        assert nmi(truth, found) == pytest.approx(1.0)


def test_a_grid_lies_in_the_box_of_the_foreground():
    mask = np.zeros((3, 4, 6), bool)
    mask[0, 1:3, 2:6] = True
    mask[1, 0, 0] = True
    test = PartMaps(maps=np.zeros((3, 1, 4, 6)), foreground=mask)
    found = part_baselines.grid_parts(test, test, 4, 0)
    assert found[0].tolist() == [[0, 0, 0, 0, 1, 1]] * 2 + [[2, 2, 2, 2, 3, 3]] * 2
    # One cell is cut through its middle; of nothing the whole is cut.
    assert found[2].tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
    signal = PartMaps(maps=np.zeros((1, 1, 8)))
    assert part_baselines.grid_parts(signal, signal, 4, 0).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    flat = PartMaps(maps=np.zeros((1, 1, 1, 8)))
    assert part_baselines.grid_parts(flat, flat, 4, 0).shape == (1, 1, 8)


def test_kmeans_is_of_the_foreground_in_units_of_its_variance():
    train, _ = striped((6, 8))
    maps = train.maps * np.array([1, 1, 100, 1, 1, 1, 1e-3], np.float32)[:, None, None]
    maps[~np.broadcast_to(train.mask[:, None], maps.shape)] = 1e3  # of no account
    scaled = PartMaps(maps=maps, foreground=train.mask)
    found = part_baselines.kmeans_parts(scaled, scaled, 4, 0)
    cells = scaled.cells()[scaled.mask.reshape(-1)]
    expected = KMeans(4, n_init=10, random_state=0).fit_predict(
        (cells - cells.mean(0)) / cells.std(0)
    )
    assert nmi(expected, found[scaled.mask]) == pytest.approx(1.0)


def test_where_there_are_many_cells_some_are_drawn(monkeypatch):
    train, truth = striped((6, 8), 20)
    monkeypatch.setattr(part_baselines, "MOST_CELLS", 60)
    assert part_baselines._fitted(train, 4, 0).shape == (60, 7)
    assert nmi(truth, part_baselines.kmeans_parts(train, train, 4, 0)) == pytest.approx(1.0)
    drawn = [part_baselines._fitted(train, 4, seed)[:, 0].sum() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["k-means", "NMF (DFF)"])
def test_too_little_foreground_is_refused(name):
    test = PartMaps(maps=np.ones((1, 2, 3)), foreground=np.array([[True, True, False]]))
    with pytest.raises(DataError, match="2 cells of foreground are no 4 parts"):
        BASELINES[name](test, test, 4, 0)


def test_there_may_be_more_factors_than_channels():
    train, truth = striped((6, 8))
    found = part_baselines.factor_parts(train, train, 8, 0)
    assert len(np.unique(found)) > 4
    assert nmi(truth, found) > 0.6


def test_factors_of_nothing_positive_are_refused():
    test = PartMaps(maps=-np.ones((1, 2, 8)))
    with pytest.raises(DataError, match="no feature of the foreground is above 0"):
        part_baselines.factor_parts(test, test, 4, 0)


def test_what_is_below_0_is_0_to_factors_and_its_share_is_told():
    train, _ = striped((6, 8))
    shifted = PartMaps(maps=train.maps - 1.0, foreground=train.mask)
    rectified = PartMaps(maps=np.maximum(shifted.maps, 0), foreground=train.mask)
    below = np.moveaxis(shifted.maps, 1, -1)[train.mask] < 0
    assert part_baselines.rectified_share(shifted) == pytest.approx(below.mean())
    assert 0.1 < part_baselines.rectified_share(shifted) < 0.9
    assert part_baselines.rectified_share(rectified) == 0
    assert part_baselines.rectified_share(PartMaps(maps=-np.ones((1, 2, 3)))) == 1
    # Channels are divided by the SD that they have before; factors are of the same cells.
    found = part_baselines.factor_parts(shifted, shifted, 4, 0)
    assert nmi(part_baselines.factor_parts(rectified, rectified, 4, 0), found) > 0.9


def test_factors_that_have_not_settled_are_used_as_they_stand(monkeypatch):
    """Its time is bounded, and no warning (an error here) is told of it."""
    train, truth = striped((6, 8))
    monkeypatch.setattr(part_baselines, "MOST_ROUNDS", 1)
    monkeypatch.setattr(part_baselines, "JUDGING_ROUNDS", 1)
    early = part_baselines.factor_parts(train, train, 4, 0)
    assert early.shape == truth.shape


def test_labels_as_maps_have_their_centres():
    maps = part_baselines.as_maps(np.array([[0, 0, 1, 1]]), 3)
    assert part_centres(maps)[0, :, 0].tolist() == [0.25, 0.75, 0.5]


def test_published_rows_are_those_of_the_tables():
    rows = {(row.method, row.n_parts): row.values for row in published_parts.published("cub200")}
    best = rows["contrastive reconstruction", 4]
    assert [best[name] for name in published_parts.MEASURES] == [46.0, 21.65, 43.5, 19.6]
    assert [best[name] for name in published_parts.ERRORS] == [11.3, 15.0, 10.6, 9.2]
    assert set(rows["ULD", 0]) == {"error_001", "error_002", "error_003"}
    assert rows["DFF", 0]["ari"] == 12.4
    told = [row.method for row in published_parts.published("cub200", 8) if row.n_parts]
    assert told == [
        *("image midpoint", "mean true keypoint", "true throat alone"),
        "contrastive reconstruction",
    ]
    for label in published_parts.CATEGORIES:
        assert len(published_parts.published(f"pascal-part {label}")) == 4
    assert published_parts.published("pets") == ()
    assert "21.65" in "".join(published_parts.lines("cub200", 4))
