"""Overlap of areas against scikit-learn's, and a loop over classes."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score

from partsig.metrics import segmentation


@pytest.fixture
def maps():
    """Truth and prediction (5, 9, 11) of 6 classes, of which one is nowhere, and one predicted."""
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 1, 2, 4], (5, 9, 11))
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice([0, 2, 5], truth.shape))
    truth[rng.random(truth.shape) < 0.2] = segmentation.IGNORED
    return truth.astype(np.uint8), predicted.astype(np.uint8)


def test_the_table_is_scikit_learns_without_ignored_pixels(maps):
    truth, predicted = maps
    seen = truth != 255
    expected = confusion_matrix(truth[seen], predicted[seen], labels=range(6))
    found = segmentation.pixel_confusion(truth, predicted, 6)
    np.testing.assert_array_equal(found, expected)
    # Image by image, it adds up: the mean is of the data set, not of images.
    parts = [segmentation.pixel_confusion(t, p, 6) for t, p in zip(truth, predicted, strict=True)]
    np.testing.assert_array_equal(np.sum(parts, 0), expected)


def test_overlap_and_accuracy(maps):
    truth, predicted = maps
    seen = truth != 255
    table = segmentation.covered(segmentation.pixel_confusion(truth, predicted, 6))
    each = segmentation.intersection_over_union(table)
    for k in (0, 1, 2, 4, 5):
        both = np.sum((truth == k) & (predicted == k))
        either = np.sum(((truth == k) | (predicted == k)) & seen)
        assert each[k] == pytest.approx(both / either)
    assert np.isnan(each[3])
    expected = jaccard_score(truth[seen], predicted[seen], average="macro")
    assert segmentation.mean_iou(table) == pytest.approx(expected)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = balanced_accuracy_score(truth[seen], predicted[seen])
    assert segmentation.mean_accuracy(table) == pytest.approx(balanced)
    assert np.nanmean(segmentation.class_accuracy(table)) == pytest.approx(balanced)
    assert segmentation.pixel_accuracy(table) == pytest.approx((truth == predicted)[seen].mean())


def test_it_is_torchmetrics(maps):
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch")
    truth, predicted = (torch.from_numpy(m.astype(np.int64)) for m in maps)
    theirs = torchmetrics.classification.MulticlassJaccardIndex(
        6, average="macro", ignore_index=255
    )
    expected = theirs(predicted, truth).item()
    found = segmentation.mean_iou(segmentation.covered(segmentation.pixel_confusion(*maps, 6)))
    assert found == pytest.approx(expected, abs=1e-6)


def test_nothing_at_all_is_not_a_number():
    table = segmentation.covered(segmentation.pixel_confusion(np.full(4, 255), np.zeros(4, int), 3))
    for figure in (segmentation.mean_iou, segmentation.mean_accuracy, segmentation.pixel_accuracy):
        assert np.isnan(figure(table))


@pytest.mark.parametrize("wrong", [7, -1])
def test_labels_of_no_class_are_refused(wrong):
    with pytest.raises(ValueError, match=r"labels of the prediction go from .* there are 3"):
        segmentation.pixel_confusion(np.array([0, 1]), np.array([0, wrong]), 3)


def test_many_pixels_do_not_overflow():
    table = np.array([[10**12, 1], [0, 10**12]])
    assert segmentation.mean_iou(segmentation.covered(table)) == pytest.approx(1.0)
