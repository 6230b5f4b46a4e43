"""Gradient-boosted trees as bytes, read back only where walking them can do no harm.

scikit-learn walks trees in compiled code that trusts their node numbers: one that is out of range
reads other memory or ends the interpreter, and a circle never ends.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from partsig.errors import CheckpointError
from partsig.train.checkpoint import check_unpacked

if TYPE_CHECKING:  # scikit-learn brings pandas along, 100 MB
    from sklearn.ensemble import HistGradientBoostingClassifier

TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
# What a tree adds to the logarithm of odds is far below it; sums of larger ones may be endless.
MOST = 1e6
LOSSES = ("HalfBinomialLoss", "HalfMultinomialLoss")


def dump(trees: "HistGradientBoostingClassifier") -> bytes:
    """Return trees as bytes in skops' format, which can be read without executing it."""
    import skops.io

    return skops.io.dumps(trees)


def load(content: bytes, n_features: int, n_classes: int) -> "HistGradientBoostingClassifier":
    """Return trees from :func:`dump` for so many features and classes.

    Raises CheckpointError for anything else, and for trees that cannot be walked safely.
    """
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier

    check_unpacked(io.BytesIO(content), len(content))
    try:
        trees = skops.io.loads(content, trusted=TRUSTED)
    except Exception as error:  # noqa: BLE001 (whatever skops meets in bytes that are not its own)
        raise CheckpointError(
            f"the boosted trees cannot be read ({type(error).__name__})."
        ) from None
    if type(trees) is not HistGradientBoostingClassifier:
        raise CheckpointError(f"boosted trees are needed here, not a {type(trees).__name__}.")
    try:
        wrong = _wrong_with(trees, n_features, n_classes)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        wrong = f"{type(error).__name__} where their numbers should be"
    if wrong:
        raise CheckpointError(f"the boosted trees are damaged or not partsig's: {wrong}.")
    return _rebuilt(trees)


def _rebuilt(trees: "HistGradientBoostingClassifier") -> "HistGradientBoostingClassifier":
    """Return trees that have nothing of a file but what was checked: classes, start and nodes.

    All else that predicting asks (bins, links, sets of categories) is as scikit-learn makes it for
    features that are numbers.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    n_features, classes = int(trees.n_features_in_), np.array(trees.classes_)
    no_categories = np.zeros((0, 8), np.uint32)
    own = HistGradientBoostingClassifier()
    own._preprocessor = own.is_categorical_ = None
    own.n_features_in_ = own._n_features = n_features
    own.classes_ = classes
    own.n_trees_per_iteration_ = len(classes) if len(classes) > 2 else 1
    own._loss = own._get_loss(sample_weight=None)
    own._baseline_prediction = np.array(trees._baseline_prediction, np.float64)
    own._bin_mapper = _BinMapper()
    own._bin_mapper.is_categorical_ = np.zeros(n_features, np.uint8)
    own._bin_mapper.bin_thresholds_ = []
    own._predictors = [
        [TreePredictor(np.array(tree.nodes), no_categories, no_categories) for tree in step]
        for step in trees._predictors
    ]
    return own


def _wrong_with(
    trees: "HistGradientBoostingClassifier", n_features: int, n_classes: int
) -> str | None:
    """Return what would make trees unsafe or senseless to walk, None where nothing does."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known = vars(HistGradientBoostingClassifier()).keys() | {
        *("is_categorical_", "_preprocessor", "_is_categorical_remapped", "n_features_in_"),
        *("_label_encoder", "classes_", "n_trees_per_iteration_", "_random_seed", "_loss"),
        *("_feature_subsample_rng", "_n_features", "do_early_stopping_", "_use_validation_data"),
        *("_bin_mapper", "_baseline_prediction", "_predictors", "_scorer", "train_score_"),
        "validation_score_",
    }
    if strange := sorted(vars(trees).keys() - known):
        return f"they have {strange[0][:40]!r}, which such trees have not"
    if trees._preprocessor is not None or trees.is_categorical_ is not None:
        return "they are of categories"
    if trees.n_features_in_ != n_features or trees._n_features != n_features:
        return f"they are not of {n_features} features"
    classes, several = np.asarray(trees.classes_), len(trees.classes_) > 2
    if classes.dtype.kind not in "iu" or classes.ndim != 1 or len(set(classes.tolist())) < 2:
        return "they do not say their classes"
    if not (classes.min() >= 0 and classes.max() < n_classes and (np.diff(classes) > 0).all()):
        return f"their classes are not among {n_classes}"
    if type(trees._loss).__name__ != LOSSES[several]:
        return "their loss is another"
    each = len(classes) if several else 1
    first = np.asarray(trees._baseline_prediction)
    if first.shape != (1, each) or first.dtype.kind != "f" or not (abs(first) <= MOST).all():
        return "what they begin from is not finite, or too large"
    if trees.n_trees_per_iteration_ != each or not isinstance(trees._predictors, list):
        return "they are not in rounds"
    for step in trees._predictors:
        if not isinstance(step, list) or len(step) != each:
            return "a round has not one tree for each class"
        for tree in step:
            if wrong := _wrong_with_nodes(tree.nodes, n_features):
                return wrong
    return None


def _wrong_with_nodes(nodes: np.ndarray, n_features: int) -> str | None:
    """Return what is wrong with a tree's nodes: each points to later ones, so that walks end."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    if not isinstance(nodes, np.ndarray) or nodes.dtype != PREDICTOR_RECORD_DTYPE:
        return "a tree is of other numbers"
    if nodes.ndim != 1 or not len(nodes):
        return "a tree is empty"
    leaf = nodes["is_leaf"] != 0
    if not (abs(nodes["value"]) <= MOST).all() or np.isnan(nodes["num_threshold"]).any():
        return "a number of a tree is not finite, or too large"
    if nodes["is_categorical"].any():
        return "they are of categories"
    inner, place = nodes[~leaf], np.flatnonzero(~leaf)
    for side in ("left", "right"):
        child = inner[side].astype(np.int64)
        if (child <= place).any() or (child >= len(nodes)).any():
            return "a node of a tree leads nowhere, or back"
    feature = inner["feature_idx"]
    if (feature < 0).any() or (feature >= n_features).any():
        return "a node of a tree asks for a feature that is not there"
    return None
