"""Boosted trees out of a run: those that could crash or never end are refused."""

import io
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from partsig.errors import CheckpointError
from partsig.modalities import boosted_trees

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))


@pytest.fixture(scope="module", params=[2, 3])
def grown(request):
    y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0) * (request.param > 2)
    return HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)


@pytest.fixture
def trees(grown):
    """Trees of this test's own, to be damaged."""
    return skops.io.loads(boosted_trees.dump(grown), trusted=boosted_trees.TRUSTED)


def test_what_is_written_is_read(grown):
    read = boosted_trees.load(boosted_trees.dump(grown), 6, 3)
    np.testing.assert_array_equal(read.predict_proba(X), grown.predict_proba(X))


def _set(name, value, place=0):
    def change(trees):
        trees._predictors[-1][-1].nodes[name][place] = value

    return change


def _attribute(name, value):
    return lambda trees: setattr(trees, name, value)


DAMAGES = {
    "a child far outside": (_set("left", 2**31), "leads nowhere, or back"),
    "the last child and one": (_set("right", 10**6), "leads nowhere, or back"),
    "a circle": (_set("left", 0), "leads nowhere, or back"),
    "a feature outside": (_set("feature_idx", 6), "a feature that is not there"),
    "a negative feature": (_set("feature_idx", -1), "a feature that is not there"),
    "a value that is none": (_set("value", np.nan, -1), "is not finite"),
    "an endless value": (_set("value", np.inf, -1), "is not finite"),
    "a threshold that is none": (_set("num_threshold", np.nan), "is not finite"),
    "categories": (_set("is_categorical", 1), "are of categories"),
    "a bit set outside": (_set("bitset_idx", 9, 0), None),  # is of no meaning without categories
    "no trees for a class": (lambda t: t._predictors[0].append(t._predictors[0][0]), "one tree"),
    "no rounds": (_attribute("_predictors", {}), "not in rounds"),
    "nodes of other numbers": (
        lambda t: setattr(t._predictors[0][0], "nodes", np.zeros(3)), "cannot be read"),
    "no nodes": (
        lambda t: setattr(t._predictors[0][0], "nodes", t._predictors[0][0].nodes[:0]), "empty"),
    "nodes missing": (lambda t: delattr(t._predictors[0][0], "nodes"), "AttributeError"),
    "another number of features": (_attribute("n_features_in_", 7), "not of 6 features"),
    "classes that are not there": (_attribute("classes_", np.array([0, 9])), "not among 3"),
    "classes that are names": (_attribute("classes_", np.array(["a", "b"])), "their classes"),
    "a beginning of other shape": (_attribute("_baseline_prediction", np.zeros((1, 9))), "begin"),
    "a beginning that is none": (
        lambda t: t._baseline_prediction.fill(np.nan), "begin from is not finite"),
    "something that runs before": (_attribute("_preprocessor", X), "are of categories"),
    "as if while fitting": (_attribute("_in_fit", True), "'_in_fit', which such trees have not"),
    "another loss": (_attribute("_loss", 3), "loss is another"),
    "a value that sums to no number": (_set("value", 1e308, -1), "not finite, or too large"),
    "a beginning that does": (
        lambda t: t._baseline_prediction.fill(-1e308), "not finite, or too large"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_trees_are_refused(damage, trees):
    change, told = DAMAGES[damage]
    change(trees)
    content = boosted_trees.dump(trees)
    if told is None:
        assert boosted_trees.load(content, 6, 3).predict_proba(X).shape[0] == len(X)
        return
    with pytest.raises(CheckpointError, match=told):
        boosted_trees.load(content, 6, 3)


UNUSED = {
    "no bins": _attribute("_bin_mapper", None),
    "bins of something else": lambda t: setattr(t._bin_mapper, "is_categorical_", np.ones(10**6)),
    "no link": lambda t: setattr(t._loss, "link", None),
    "sets of categories": lambda t: setattr(
        t._predictors[0][0], "raw_left_cat_bitsets", np.zeros((3, 1), np.float32)
    ),
    "no sets of categories": lambda t: setattr(t._predictors[0][0], "raw_left_cat_bitsets", None),
    "an encoder": _attribute("_label_encoder", X),
}


@pytest.mark.parametrize("damage", UNUSED)
def test_what_trees_do_not_need_is_not_taken_from_a_file(damage, trees, grown):
    UNUSED[damage](trees)
    read = boosted_trees.load(boosted_trees.dump(trees), 6, 3)
    np.testing.assert_array_equal(read.predict_proba(X), grown.predict_proba(X))
    again = boosted_trees.load(boosted_trees.dump(read), 6, 3)
    np.testing.assert_array_equal(again.predict_proba(X), grown.predict_proba(X))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_other_bytes_are_refused(content):
    with pytest.raises(CheckpointError, match="cannot be read"):
        boosted_trees.load(content, 6, 3)


def test_another_estimator_is_refused():
    forest = RandomForestClassifier(2, random_state=0).fit(X, X[:, 0] > 0)
    with pytest.raises(CheckpointError, match="boosted trees"):
        boosted_trees.load(skops.io.dumps(forest), 6, 3)


def test_an_archive_that_unpacks_to_more_is_refused(grown):
    held = io.BytesIO(boosted_trees.dump(grown))
    packed = io.BytesIO()
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("more", bytes(10**8))
    with pytest.raises(CheckpointError, match="that unpack to 1"):
        boosted_trees.load(packed.getvalue(), 6, 3)
