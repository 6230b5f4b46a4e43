"""Clustering: how far parts that were found without labels agree with those that people marked.

Normalised mutual information and the adjusted Rand index need no matching and hold for any number
of parts. Both are told by the counts of a table (R, K), rows being the truth, which add up over
images, so that any number of labels takes no memory. Parts found may have any order: neither
changes.

Two questions are asked of the same parts (Choudhury et al., Unsupervised part discovery from
contrastive reconstruction, NeurIPS 2021). ``fg``: within the foreground, which part is it? The
prediction is the most likely of K parts (:mod:`partsig.metrics.part_places` for keypoints).
``full``: the background is a further part, number 0, of the prediction. Each figure is of its own
prediction: the FG-ARI of 21.0 that was published for CUB scored the prediction with background, an
error that its authors have mended; right is 21.65.

Beside them the older question: how well the centres of parts tell keypoints, by a regression.
"""

from collections.abc import Mapping

import numpy as np

from partsig.errors import DataError
from partsig.metrics.resampling import BOOTSTRAP_DRAWS, bootstrap

BLOCK = 2**22  # labels that are counted at a time
# A part with less of the foreground than this is said to be dead.
LEAST_SHARE = 0.01


def contingency(
    truth: np.ndarray, found: np.ndarray, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Return how often each pair of labels occurs, (R, K) int64, of labels of any equal shape.

    Where either is below 0 nothing is counted. ``shape``: so many labels of both; None, as many as
    occur. Raises ValueError for labels beyond it.

    >>> contingency(np.array([0, 0, 1, -1]), np.array([1, 1, 0, 0])).tolist()
    [[0, 2], [1, 0]]
    """
    truth, found = np.ravel(truth), np.ravel(found)
    if truth.shape != found.shape:
        raise ValueError(f"{len(truth)} labels of the truth and {len(found)} that were found.")
    rows, columns = shape or (int(one.max(initial=-1)) + 1 for one in (truth, found))
    table = np.zeros(rows * columns, np.int64)
    for at in range(0, len(truth), BLOCK):
        a, b = (one[at : at + BLOCK].astype(np.int64) for one in (truth, found))
        counted = (a >= 0) & (b >= 0)
        a, b = a[counted], b[counted]
        if a.max(initial=-1) >= rows or b.max(initial=-1) >= columns:
            raise ValueError(
                f"labels go up to {a.max()} and {b.max()}; there are {rows} and {columns}."
            )
        table += np.bincount(a * columns + b, minlength=rows * columns)
    return table.reshape(rows, columns)


def nmi(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the normalised mutual information of labels (n,), 0 to 1; see :func:`nmi_of`.

    >>> nmi(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    return float(nmi_of(contingency(truth, found)))


def ari(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the adjusted Rand index of labels (n,), 0 by chance; see :func:`ari_of`.

    >>> round(ari(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])), 3)
    0.571
    """
    return float(ari_of(contingency(truth, found)))


def nmi_of(table: np.ndarray) -> np.ndarray:
    """Return the normalised mutual information (…,) of tables of counts (…, R, K).

    Mutual information over the arithmetic mean of both entropies, as scikit-learn's
    ``normalized_mutual_info_score``. *Differs from it*: one part for everything is 0 also where
    the truth has one class only (scikit-learn: 1), since nothing was told apart. NaN of no label.
    """
    table = np.asarray(table, np.float64)
    total = table.sum((-2, -1))
    share = _over(table, total[..., None, None])
    rows, columns = share.sum(-1), share.sum(-2)
    each = _entropy(rows, -1), _entropy(columns, -1)
    mutual = each[0] + each[1] - _entropy(share, (-2, -1))
    # The difference of entropies is not 0 to the last bit where it is 0.
    mutual = np.where(_several(table), np.maximum(mutual, 0.0), 0.0)
    value = np.minimum(_over(mutual, (each[0] + each[1]) / 2), 1.0)
    return np.where(total > 0, value, np.nan)


def ari_of(table: np.ndarray) -> np.ndarray:
    """Return the adjusted Rand index (…,) of tables of counts (…, R, K) (Hubert and Arabie 1985).

    The share of pairs that both put together, from 0 by chance to 1; below 0 where fewer than by
    chance. *Differs from scikit-learn's* ``adjusted_rand_score`` as :func:`nmi_of` does. In
    floating point: pairs of 10^8 labels are more than a signed integer of 64 bits can multiply.
    NaN of no label.
    """
    table = np.asarray(table, np.float64)
    total = table.sum((-2, -1))
    both = _pairs(table).sum((-2, -1))
    rows, columns = _pairs(table.sum(-1)).sum(-1), _pairs(table.sum(-2)).sum(-1)
    by_chance = _over(rows, _pairs(total)) * columns
    most = (rows + columns) / 2
    several = _several(table)
    value = np.where(several, _over(both - by_chance, most - by_chance), 0.0)
    # No pair is together, neither in truth nor found: every label by itself, in both.
    value = np.where((most == 0) & several, 1.0, value)
    return np.where(total > 0, value, np.nan)


def scores(tables: np.ndarray, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> dict[str, object]:
    """Return ``nmi`` and ``ari`` of tables (n, R, K), one for each image, and their intervals.

    All labels count alike; the 95 % intervals are of a bootstrap over images.
    """
    tables = np.asarray(tables)
    told: dict[str, object] = {}
    for name, statistic in (("nmi", nmi_of), ("ari", ari_of)):
        value = float(statistic(tables.sum(0)))
        ends = bootstrap(list(tables), statistic, draws=draws, seed=seed)
        told[name] = None if np.isnan(value) else value
        told[f"{name}_interval_95"] = [None if np.isnan(end) else end for end in ends]
    return told


def map_tables(
    truth: np.ndarray, found: np.ndarray, shape: tuple[int, int], *, background: int | None = None
) -> np.ndarray:
    """Return the tables (n, R, K) of maps of labels (n, *L), by image; below 0 is not counted.

    ``background``: the number of the truth that is left out, for ``fg`` by pixel.

    >>> truth, found = np.array([[0, 1, 2]]), np.array([[1, 0, 1]])
    >>> map_tables(truth, found, (3, 2), background=0).tolist()
    [[[0, 0], [1, 0], [0, 1]]]
    """
    if background is not None:
        truth = np.where(truth == background, -1, truth)
    each = [contingency(a, b, shape) for a, b in zip(truth, found, strict=True)]
    return np.stack(each) if each else np.zeros((0, *shape), np.int64)


def with_background(found: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Return parts (n, *L) counted from 1, and 0 outside of a foreground (n, *L): ``full``.

    Of pixels, as published for DeepFashion and PASCAL-Part: mask × (part + 1).

    >>> with_background(np.array([[0, 3, 1]]), np.array([[True, True, False]])).tolist()
    [[1, 4, 0]]
    """
    return np.where(foreground, np.asarray(found) + 1, 0)


def part_shares(found: np.ndarray, foreground: np.ndarray, n_parts: int) -> np.ndarray:
    """Return each part's share (K,) of all foregrounds (n, *L), of parts as labels (n, *L).

    >>> part_shares(np.array([[0, 0, 2, 1]]), np.array([[True, True, True, False]]), 3).round(2)
    array([0.67, 0.  , 0.33])
    """
    within = np.asarray(found)[np.asarray(foreground, bool)]
    counts = np.bincount(within[within >= 0], minlength=n_parts)
    return counts / max(counts.sum(), 1)


def dead_parts(shares: np.ndarray) -> list[int]:
    """Return the numbers of parts that have less than 1 % of the foreground.

    >>> dead_parts(np.array([0.6, 0.395, 0.005]))
    [2]
    """
    return np.flatnonzero(np.asarray(shares) < LEAST_SHARE).tolist()


def keypoint_regression_error(
    train_centres: np.ndarray,
    train_keypoints: np.ndarray,
    train_visible: np.ndarray,
    test_centres: np.ndarray,
    test_keypoints: np.ndarray,
    test_visible: np.ndarray,
    scale: np.ndarray,
) -> float:
    """Return how far keypoints lie from where the centres of parts tell them, in % of the object.

    Of centres (n, K, D), keypoints (n, P, D) and whether they are seen (n, P), each for training
    and for test; ``scale`` (n,) or (n, D) is the extent of each test image's object, in the same
    units. A linear regression for each keypoint is fitted on the training images that show it, and
    the mean Euclidean distance is taken over all test keypoints that are seen, each axis divided
    by ``scale``. A keypoint that no training image shows is left out; NaN where none is left.

    Centres are standardised and the regression has no intercept, as published. *Differs from the
    published code* in that means and SD are of the images that show the keypoint, and that the
    keypoint's own mean is taken off as well: the two together are the intercept. Raises DataError
    for numbers that are not finite.
    """
    train_visible, test_visible = (np.asarray(v, bool) for v in (train_visible, test_visible))
    scale = np.asarray(scale, np.float64)
    scale = scale[:, None] if scale.ndim == 1 else scale  # (n, 1 or D)
    x, new = (np.asarray(c, np.float64).reshape(len(c), -1) for c in (train_centres, test_centres))
    if not (np.isfinite(x).all() and np.isfinite(new).all() and (scale > 0).all()):
        raise DataError("centres of parts must be finite numbers, and every object has an extent.")
    distances = []
    for k in range(train_visible.shape[1]):
        fitted, judged = train_visible[:, k], test_visible[:, k]
        if not fitted.any() or not judged.any():
            continue
        mean, sd = x[fitted].mean(0), x[fitted].std(0)
        sd = np.where(sd > 1e-12, sd, 1.0)
        y = np.asarray(train_keypoints, np.float64)[fitted, k]
        weights = np.linalg.lstsq((x[fitted] - mean) / sd, y - y.mean(0), rcond=None)[0]
        told = (new[judged] - mean) / sd @ weights + y.mean(0)
        off = (told - np.asarray(test_keypoints, np.float64)[judged, k]) / scale[judged]
        distances.append(np.linalg.norm(off, axis=-1))
    return float(100 * np.concatenate(distances).mean()) if distances else float("nan")


def in_words(told: Mapping[str, object]) -> str:
    """Return scores in one line, in per cent as they are usually printed.

    >>> in_words({"nmi": 0.4603, "ari": 0.21653, "nmi_interval_95": [0.44, 0.481]})
    'NMI 46.0 [44.0, 48.1], ARI 21.7'
    """
    parts = []
    for name in ("nmi", "ari"):
        value, ends = told.get(name), told.get(f"{name}_interval_95") or [None]
        text = "undefined" if value is None else f"{100 * value:.1f}"
        if None not in ends:
            text += f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
        parts.append(f"{name.upper()} {text}")
    return ", ".join(parts)


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return a quotient, 0 where it is none."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.zeros(shape), where=np.asarray(below) != 0)


def _several(table: np.ndarray) -> np.ndarray:
    """Return whether (…,) both truth and prediction have more than one label."""
    return ((table.sum(-1) > 0).sum(-1) > 1) & ((table.sum(-2) > 0).sum(-1) > 1)


def _entropy(shares: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(axis)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2
