"""Which epochs a person should look at first, and what agreement is worth after that."""

from collections.abc import Mapping, Sequence

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.data.signals.quality import GOOD, QUALITY
from partsig.data.signals.windows import LabelledWindows
from partsig.metrics.agreement import confusion, confusions, kappa, or_none
from partsig.metrics.calibration import MIN_PROBABILITY
from partsig.metrics.resampling import bootstrap
from partsig.sleep.label_fit import separation
from partsig.sleep.staging import Staging, Suspect

# How often one stage (row) is followed by another (column) in the next 30 s, in the order of
# STAGES: counted in the 994 labelled nights of PhysioNet/CinC Challenge 2018, from the challenge's
# per-sample stages.
TRANSITIONS = np.array(
    [
        [134_373, 22_112, 753, 8, 158],
        [14_108, 93_853, 25_957, 21, 2_924],
        [6_426, 16_518, 339_318, 11_865, 3_523],
        [587, 443, 10_754, 90_676, 100],
        [1_537, 3_984, 1_079, 22, 110_169],
    ]
)
RARE = 0.01  # changes that are a smaller share of the changes from their stage are told
UNSURE = 0.5  # less likely than not to be right
EPOCHS_PER_NIGHT = 960  # eight hours
# Shares of the epochs at which a review is looked at.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def in_context(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return stage probabilities (E, K) that know the stages before and after, too.

    The forward-backward algorithm (Rabiner 1989, section III) over consecutive epochs with
    :data:`TRANSITIONS`; what an epoch itself says is its probability divided by the ``prior`` (K,)
    the stager was trained under. Epochs with nan say nothing.

    >>> n2, rem = [0.01, 0.01, 0.96, 0.01, 0.01], [0.01, 0.01, 0.38, 0.01, 0.59]
    >>> night = np.array([n2] * 3 + [rem] + [n2] * 3)
    >>> STAGES[in_context(night, np.full(5, 0.2))[3].argmax()]
    'N2'
    """
    moves = TRANSITIONS / TRANSITIONS.sum(1, keepdims=True)
    start = TRANSITIONS.sum(1) / TRANSITIONS.sum()
    likelihood = np.nan_to_num(np.maximum(probabilities, MIN_PROBABILITY) / prior, nan=1.0)
    forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
    for e, own in enumerate(likelihood):
        reached = own * (forward[e - 1] @ moves if e else start)
        forward[e] = reached / reached.sum()
    for e in range(len(likelihood) - 2, -1, -1):
        reached = moves @ (likelihood[e + 1] * backward[e + 1])
        backward[e] = reached / reached.sum()
    both = forward * backward
    return both / both.sum(1, keepdims=True)


def doubts(
    probabilities: np.ndarray, prior: np.ndarray, by: str, bad: np.ndarray | None = None
) -> np.ndarray:
    """Return how likely each epoch's stage is wrong (E,), 0 to 1; nan where there is none.

    ``probabilities`` (E, K), calibrated, of consecutive epochs; ``by`` confidence takes an epoch by
    itself, context its neighbours too (:func:`in_context`). Where a share ``bad`` (E,) of the
    channels cannot be used, by so much less than the ``prior`` is known.
    """
    given = probabilities.argmax(1)
    known = in_context(probabilities, prior) if by == "context" else probabilities
    right = np.take_along_axis(known, given[:, None], axis=1)[:, 0]
    if bad is not None:
        right = (1 - bad) * right + bad * prior[given]
    return np.where(np.isnan(probabilities).any(1), np.nan, 1 - right)


def of_nights(
    epochs: LabelledWindows, probabilities: np.ndarray, prior: np.ndarray, by: str
) -> np.ndarray:
    """Return :func:`doubts` (n,) of a store's epochs; what is left out of a night says nothing."""
    doubt = np.empty(len(epochs))
    for name, mine in epochs.by_recording():
        numbers = epochs.epoch[mine]
        night = np.full((epochs.n_epochs[name], probabilities.shape[1]), np.nan)
        night[numbers] = probabilities[mine]
        doubt[mine] = doubts(night, prior, by)[numbers]
    return doubt


def suspects(
    probabilities: np.ndarray,
    prior: np.ndarray,
    by: str,
    quality: Mapping[str, np.ndarray],
    odd: np.ndarray | None,
    share: float,
) -> tuple[Suspect, ...]:
    """Return the epochs of one recording that a person should look at, the most doubtful first.

    The ``share`` of the epochs with the most doubt, and all that a reason other than low confidence
    speaks against: a rare change of stage, a channel that cannot be used (``quality`` (E,) codes
    per channel), patches that PART finds odd (``odd`` (E,) bool). Epochs without probabilities
    (E, K) are left out: they have no stage. A channel that is of no use in any epoch is no reason
    to look at all of them.
    """
    codes = np.stack(list(quality.values()))  # (C, E)
    doubt = doubts(probabilities, prior, by, (codes != GOOD).mean(0))
    known = np.flatnonzero(~np.isnan(doubt))
    stages = np.where(np.isnan(doubt), UNSCORED, np.nan_to_num(probabilities).argmax(1))
    sometimes = {name: row for name, row in quality.items() if (row == GOOD).any()}
    faults = np.stack(list(sometimes.values())) if sometimes else codes[:0]
    first = set(known[np.argsort(-doubt[known], kind="stable")][: round(share * len(known))])
    suspected = []
    for e in known.tolist():
        reasons = _rare_changes(stages, e)
        if (faults[:, e] != GOOD).any():
            reasons.append(name_faults(tuple(sometimes), faults[:, e]))
        if odd is not None and odd[e]:
            reasons.append("oddity: patches do not fit their surroundings, says PART")
        if e in first or reasons:
            order = np.argsort(-probabilities[e])
            text = f"{STAGES[order[0]]} {probabilities[e, order[0]]:.2f}, "
            text += f"{STAGES[order[1]]} {probabilities[e, order[1]]:.2f}"
            if e in first and (probabilities[e, order[0]] < UNSURE or not reasons):
                reasons.insert(0, f"low confidence: {text}")
            suspected.append(Suspect(epoch=e, score=float(doubt[e]), reasons=tuple(reasons)))
    return tuple(sorted(suspected, key=lambda suspect: -suspect.score))


def _rare_changes(stages: np.ndarray, e: int) -> list[str]:
    """Return what is improbable about the change into epoch ``e``, and out of it."""
    reasons = []
    for a, b in ((e - 1, e), (e, e + 1)):
        if not 0 <= a < b < len(stages) or UNSCORED in (stages[a], stages[b]):
            continue
        one, other = stages[a], stages[b]
        # Of changes: what lasts for hours would make every way out of it look rare.
        share = TRANSITIONS[one, other] / (TRANSITIONS[one].sum() - TRANSITIONS[one, one])
        if one != other and share < RARE:
            reasons.append(
                f"improbable transition: {STAGES[one]} to {STAGES[other]}, "
                f"{100 * share:.2g} % of the changes from {STAGES[one]}"
            )
    return reasons


def name_faults(ch_names: Sequence[str], codes: np.ndarray) -> str:
    """Return which channels are what, of one epoch's codes (C,).

    >>> name_faults(("C3", "C4", "O1"), np.array([1, 0, 1]))
    'artefact: C3, O1 flat'
    """
    faults = []
    for code in sorted({int(c) for c in codes if c != GOOD}):
        names = [name for name, own in zip(ch_names, codes, strict=True) if own == code]
        faults.append(f"{', '.join(names)} {QUALITY[code]}")
    return f"artefact: {'; '.join(faults)}"


def find_errors(doubt: np.ndarray, wrong: np.ndarray) -> float | None:
    """Return how often a wrong epoch has more doubt than a right one (area under the ROC curve)."""
    return separation(doubt, wrong, ~wrong)


def curve(
    truth: np.ndarray, predicted: np.ndarray, doubt: np.ndarray, subjects: np.ndarray, seed: int
) -> dict[str, list]:
    """Return kappa when a share of the epochs, the most doubtful first, is looked at by a person.

    ``kappa_reviewed``: those epochs get the scorer's stage; with its interval over ``subjects``;
    ``kappa_kept``: the other epochs alone (coverage); ``kappa_random``: the same share, drawn at
    random, gets the scorer's stage (kappa of the expected table).
    """
    order = np.argsort(-doubt, kind="stable")
    k = len(STAGES)
    units = np.unique(subjects, return_inverse=True)[1]
    whole = confusion(truth, predicted, k)
    points: dict[str, list] = {"share": list(SHARES)}
    for key in ("kappa_reviewed", "kappa_reviewed_interval_95", "kappa_kept", "kappa_random"):
        points[key] = []
    for share in SHARES:
        n = round(share * len(truth))
        looked_at = np.zeros(len(truth), bool)
        looked_at[order[:n]] = True
        mended = np.where(looked_at, truth, predicted)
        tables = confusions(truth, mended, k, units)
        points["kappa_reviewed"].append(or_none(kappa(tables.sum(0))))
        ends = bootstrap(tables, kappa, seed=seed)
        points["kappa_reviewed_interval_95"].append([or_none(end) for end in ends])
        kept = confusion(truth[~looked_at], predicted[~looked_at], k)
        points["kappa_kept"].append(or_none(kappa(kept)))
        at_random = (1 - share) * whole + share * np.diag(whole.sum(1))
        points["kappa_random"].append(or_none(kappa(at_random)))
    return points


def agreement(staged: Staging) -> np.ndarray:
    """Return the confusion (K, K) of a staging with the stages that came with its recording."""
    truth = np.where(staged.stages >= 0, staged.scored, -1)
    return confusion(truth, np.maximum(staged.stages, 0), len(STAGES))
