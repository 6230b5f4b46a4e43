"""Agreement of parts against scikit-learn's, which is given labels while ours is given counts."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from partsig.errors import DataError
from partsig.metrics import clustering
from partsig.metrics.part_places import middle_centres
from partsig.metrics.resampling import bootstrap

FUNCTIONS = [
    (clustering.nmi, clustering.nmi_of, normalized_mutual_info_score),
    (clustering.ari, clustering.ari_of, adjusted_rand_score),
]


@pytest.mark.parametrize(("ours", "of_table", "theirs"), FUNCTIONS)
@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.9, 1.0])
def test_it_is_scikit_learns(ours, of_table, theirs, likeness):
    rng = np.random.default_rng(int(10 * likeness))
    truth = rng.integers(0, 7, 500)
    found = np.where(rng.random(500) < likeness, truth, rng.integers(0, 4, 500))
    assert ours(truth, found) == pytest.approx(theirs(truth, found), abs=1e-12)
    both = np.stack([clustering.contingency(t, f, (7, 7)) for t, f in
                     zip(truth.reshape(5, 100), found.reshape(5, 100), strict=True)])  # fmt: skip
    assert of_table(both.sum(0)) == pytest.approx(theirs(truth, found), abs=1e-12)
    each = [theirs(t, f) for t, f in zip(truth.reshape(5, 100), found.reshape(5, 100), strict=True)]
    np.testing.assert_allclose(of_table(both), each, atol=1e-12)


@pytest.mark.parametrize(("ours", "of_table", "theirs"), FUNCTIONS)
def test_one_part_is_0_and_all_apart_are_as_scikit_learn_says(ours, of_table, theirs):
    truth, apart = np.arange(6) % 3, np.arange(6)
    one = np.zeros(6, int)
    assert ours(truth, one) == 0 == ours(one, truth) == ours(one, one)
    assert theirs(truth, one) == 0
    assert ours(truth, apart) == pytest.approx(theirs(truth, apart))
    assert ours(apart, apart) == pytest.approx(theirs(apart, apart))
    assert np.isnan(of_table(np.zeros((2, 3))))
    counts = np.random.default_rng(0).integers(0, 99, (200, 15))  # whose shares do not add up to 1
    assert not of_table(np.stack([counts, 0 * counts], 2)).any()


@pytest.mark.parametrize(("ours", "of_table", "theirs"), FUNCTIONS)
def test_the_order_of_parts_means_nothing(ours, of_table, theirs):
    rng = np.random.default_rng(3)
    truth, found = rng.integers(0, 5, 300), rng.integers(0, 8, 300)
    other = rng.permutation(8)[found]
    assert ours(truth, other) == pytest.approx(ours(truth, found), abs=1e-14)
    assert ours(found, truth) == pytest.approx(ours(truth, found), abs=1e-14)


@pytest.mark.parametrize(("ours", "of_table", "theirs"), FUNCTIONS)
def test_a_hundred_million_labels_do_not_overflow(ours, of_table, theirs):
    small = np.array([[30, 5, 0], [2, 40, 3], [1, 1, 18]])  # 100 labels
    truth, found = (np.repeat(index.ravel(), small.ravel()) for index in np.indices(small.shape))
    assert of_table(small) == pytest.approx(theirs(truth, found))
    large = of_table(small * 10**6)
    assert large == pytest.approx(of_table(small * 10**5), abs=1e-6)  # no longer changes
    assert 0.3 < large < 1
    # In Python's whole numbers, which have no end.
    if ours is clustering.ari:
        table = [[int(n) * 10**6 for n in row] for row in small]
        pairs = [sum(n * (n - 1) for n in group) for group in (
            [n for row in table for n in row], [sum(row) for row in table],
            [sum(column) for column in zip(*table, strict=True)], [10**8],
        )]  # fmt: skip
        above = pairs[0] * pairs[3] - pairs[1] * pairs[2]
        below = (pairs[1] + pairs[2]) * pairs[3] - 2 * pairs[1] * pairs[2]
        assert large == pytest.approx(2 * above / below, abs=1e-12)


def test_labels_are_counted_block_by_block(monkeypatch):
    rng = np.random.default_rng(4)
    truth, found = rng.integers(-1, 4, 1000).astype(np.int16), rng.integers(0, 3, 1000)
    whole = clustering.contingency(truth, found)
    monkeypatch.setattr(clustering, "BLOCK", 7)
    np.testing.assert_array_equal(clustering.contingency(truth, found), whole)
    assert whole.sum() == (truth >= 0).sum()
    assert whole[2, 1] == ((truth == 2) & (found == 1)).sum()


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"go up to 3 and 0; there are 3 and 2"):
        clustering.contingency(np.array([0, 3]), np.zeros(2, int), (3, 2))
    with pytest.raises(ValueError, match=r"2 labels of the truth and 3 that were found"):
        clustering.contingency(np.zeros(2, int), np.zeros(3, int))


def test_the_foreground_and_the_whole_are_two_questions():
    """By hand: an object of 4 of 6 pixels; the mask that was found misses one of them."""
    truth = np.array([[0, 0, 1, 1, 2, 2]])
    found, mask = np.array([[1, 0, 0, 0, 1, 1]]), np.array([[0, 0, 1, 1, 1, 0]])
    fg = clustering.map_tables(truth, found, (3, 2), background=0)
    assert fg[0].tolist() == [[0, 0], [2, 0], [0, 2]]
    assert clustering.nmi_of(fg[0]) == pytest.approx(1.0)
    whole = clustering.with_background(found, mask)
    assert whole.tolist() == [[0, 0, 1, 1, 2, 0]]
    full = clustering.map_tables(truth, whole, (3, 3))
    expected = normalized_mutual_info_score(truth[0], whole[0])
    assert clustering.nmi_of(full[0]) == pytest.approx(expected)
    assert expected < 0.9
    # Counted for fg with the prediction of the whole it is another figure: the published error.
    wrong = clustering.map_tables(truth, whole, (3, 3), background=0)
    assert clustering.ari_of(wrong[0]) < clustering.ari_of(fg[0])


def test_scores_have_intervals_over_images():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, (20, 50))
    found = np.where(rng.random(truth.shape) < 0.7, truth, 0)
    tables = clustering.map_tables(truth, found, (4, 4))
    told = clustering.scores(tables, seed=1)
    assert told["nmi"] == pytest.approx(normalized_mutual_info_score(truth.ravel(), found.ravel()))
    low, high = told["ari_interval_95"]
    assert low < told["ari"] < high
    assert (low, high) == bootstrap(list(tables), clustering.ari_of, seed=1)
    one = clustering.scores(tables[:1])
    assert one["nmi_interval_95"] == [None, None]
    assert clustering.scores(tables * 0)["nmi"] is None
    assert clustering.in_words(clustering.scores(tables * 0)) == "NMI undefined, ARI undefined"


def test_dead_parts_are_told_by_their_share_of_the_foreground():
    found, mask = np.zeros((2, 1000), int), np.ones((2, 1000), bool)
    found[0, :9], found[:, 500:], found[:, 600:610] = 1, 2, 3
    found[1, 605:], mask[1, 605:] = 4, False
    shares = clustering.part_shares(found, mask, 5)
    within = found[mask]
    np.testing.assert_allclose(shares, [(within == k).mean() for k in range(5)])
    assert clustering.dead_parts(shares) == [1, 3, 4]


@pytest.fixture
def known():
    """Keypoints that are linear in the centres of three parts, some unseen, in two axes."""
    rng = np.random.default_rng(2)
    centres, weights = rng.random((40, 3, 2)), rng.normal(size=(6, 5, 2))
    keypoints = np.einsum("nf,fpd->npd", centres.reshape(40, 6), weights) + rng.normal(size=(5, 2))
    return centres, keypoints, rng.random((40, 5)) < 0.7


def test_what_is_linear_is_told_exactly(known):
    centres, keypoints, visible = known
    sides = (slice(None, 25), slice(25, None))
    told = [x[side] for side in sides for x in (centres, keypoints, visible)]
    assert clustering.keypoint_regression_error(*told, np.ones(15)) == pytest.approx(0, abs=1e-9)
    # A constant distance of 3 and 4 is 5, of objects of extent 10 half of 1 %.
    told[4] = told[4] + (3.0, 4.0)
    error = clustering.keypoint_regression_error(*told, np.full(15, 10.0))
    assert error == pytest.approx(50.0)
    uneven = clustering.keypoint_regression_error(*told, np.tile([3.0, 2.0], (15, 1)))
    assert uneven == pytest.approx(100 * np.hypot(1, 2))


def test_the_regression_is_scikit_learns(known):
    centres, keypoints, visible = known
    keypoints = keypoints + np.random.default_rng(3).normal(size=keypoints.shape)
    x, new = centres[:25].reshape(25, -1), centres[25:].reshape(15, -1)
    off = []
    for k in range(5):
        fit, judged = visible[:25, k], visible[25:, k]
        line = LinearRegression().fit(x[fit], keypoints[:25][fit, k])
        rest = line.predict(new[judged]) - keypoints[25:][judged, k]
        off += np.sqrt((rest**2).sum(1)).tolist()
    sides = (slice(None, 25), slice(25, None))
    told = [x[side] for side in sides for x in (centres, keypoints, visible)]
    error = clustering.keypoint_regression_error(*told, np.ones(15))
    assert error == pytest.approx(100 * np.mean(off))


def test_a_part_that_never_moves_tells_the_mean(known):
    """A part that never moves tells each keypoint's mean, and nothing else."""
    _, keypoints, visible = known
    middle = middle_centres(40, 2)
    sides = (slice(None, 25), slice(25, None))
    told = [x[side] for side in sides for x in (middle, keypoints, visible)]
    error = clustering.keypoint_regression_error(*told, np.ones(15))
    off = []
    for k in range(5):
        mean = keypoints[:25][visible[:25, k], k].mean(0)
        off += np.linalg.norm(keypoints[25:][visible[25:, k], k] - mean, axis=1).tolist()
    assert error == pytest.approx(100 * np.mean(off))


def test_what_cannot_be_told_is_left_out_or_refused(known):
    centres, keypoints, visible = known
    none = np.zeros((25, 5), bool)
    told = [centres[:25], keypoints[:25], none, centres[25:], keypoints[25:], visible[25:]]
    assert np.isnan(clustering.keypoint_regression_error(*told, np.ones(15)))
    told[2] = visible[:25]
    with pytest.raises(DataError, match="finite numbers"):
        clustering.keypoint_regression_error(centres[:25] * np.nan, *told[1:], np.ones(15))
    with pytest.raises(DataError, match="extent"):
        clustering.keypoint_regression_error(*told, np.zeros(15))
