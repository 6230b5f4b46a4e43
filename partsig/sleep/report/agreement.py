"""Agreement of a model with one scorer or several, on the same epochs; intervals over subjects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.data.signals.store import Store
from partsig.errors import DataError
from partsig.files import read_columns
from partsig.metrics.agreement import confusion, f1_per_class, kappa, or_none
from partsig.metrics.resampling import bootstrap

# With fewer subjects a percentile interval is visibly too narrow: at 10 by about a sixth
# (Hesterberg 2015, doi 10.1080/00031305.2015.1089789).
FEW = 10
AGES = ((0, 40, "under 40"), (40, 60, "40 to 59"), (60, np.inf, "60 and older"))
COLUMNS = ("recording", "epoch", "truth", "prediction", "confidence")
CODES = {stage: code for code, stage in enumerate(STAGES)}
SEXES = {"M": "men", "F": "women"}
MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "f1": f1_per_class,
    # Of the epochs that were scored so, the share that was predicted so; and the other way round.
    "recall": lambda matrix: _share(matrix, -1),
    "precision": lambda matrix: _share(matrix, -2),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRecording:
    """One tested recording on the store's epochs: (E,) stages, -1 where the scorer gave none."""

    name: str
    subject: str
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray  # of the predicted stage, nan where there is none
    start_s: float  # from the recording's first sample to epoch 0
    age: float | None
    sex: str

    @property
    def n_scored(self) -> int:
        """Number of epochs that count."""
        return int((self.truth != UNSCORED).sum())

    @property
    def n_gaps(self) -> int:
        """Unscored epochs between the first scored one and the last."""
        at = np.flatnonzero(self.truth != UNSCORED)
        return int(at[-1] - at[0] + 1 - len(at))


def read_predictions(path: Path, store: Store) -> list[ScoredRecording]:
    """Return the nights of an evaluation's ``predictions.csv``, in its order.

    Raises DataError when it is not of this store, or damaged.
    """
    nights: dict[str, ScoredRecording] = {}
    again = f"delete {path.parent} and run the same command again."
    try:
        for name, rows in groupby(read_columns(path, COLUMNS), key=itemgetter(0)):
            _, at, truth, predicted, confidence = zip(*rows, strict=True)
            known, at = store.recordings.get(name), np.array(at, np.int64)
            if known is None or at.max() >= known["n_epochs"]:
                raise DataError(f"{path} has epochs of {name} that {store.path} has not; {again}")
            night = nights[name] if name in nights else _unscored(known)
            nights[name] = night
            night.truth[at] = [CODES[stage] for stage in truth]
            night.predicted[at] = [CODES[stage] for stage in predicted]
            night.confidence[at] = np.array(confidence, np.float64)
    except (LookupError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); {again}") from None
    return list(nights.values())


def _unscored(row: Mapping[str, object]) -> ScoredRecording:
    """Return the night of a store's row without a scored epoch."""
    n = row["n_epochs"]
    return ScoredRecording(
        name=row["recording"],
        subject=row["subject"],
        truth=np.full(n, UNSCORED, np.int8),
        predicted=np.full(n, UNSCORED, np.int8),
        confidence=np.full(n, np.nan),
        start_s=float(row["start_s"] or 0.0),
        age=age_of(row),
        sex=str(row["sex"] or ""),
    )


def age_of(row: Mapping[str, object]) -> float | None:
    """Return the age in a row of a store's index, None where it holds none.

    Of a group (90+) that is its youngest.
    """
    try:
        return float(str(row["age"]).removesuffix("+"))
    except ValueError:
        return None


def by_subject(
    nights: Sequence[ScoredRecording], pairs: Sequence[tuple[Mapping, Mapping]] | None = None
) -> list[np.ndarray]:
    """Return per subject the confusion matrices (P, K, K) of each pair of scorings.

    A scoring holds stages (E,) by recording; an epoch counts where all of them have a stage. By
    default one pair: the scorer's and the model's.
    """
    if pairs is None:
        truth = {night.name: night.truth for night in nights}
        pairs = [(truth, {night.name: night.predicted for night in nights})]
    units: dict[str, np.ndarray] = {}
    for night in nights:
        scorings = [scoring[night.name] for pair in pairs for scoring in pair]
        count = np.all([stages != UNSCORED for stages in scorings], axis=0)
        tables = [
            confusion(a[night.name][count], b[night.name][count], len(STAGES)) for a, b in pairs
        ]
        units[night.subject] = units.get(night.subject, 0) + np.stack(tables)
    return list(units.values())


def measure(
    units: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray], seed: int
) -> dict:
    """Return a statistic of the pooled tables, with its 95 % interval over subjects."""
    value = float(statistic(np.sum(units, axis=0)))
    ends = bootstrap(units, statistic, seed=seed)
    return {"value": or_none(value), "interval_95": [or_none(end) for end in ends]}


def kappa_of(pair: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return kappa of one pair of tables (…, P, K, K), as a statistic."""
    return lambda tables: kappa(tables[..., pair, :, :])


def per_stage(units: Sequence[np.ndarray], seed: int) -> list[dict]:
    """Return F1, recall and precision of every stage, with intervals, and its scored epochs."""
    pooled = np.sum(units, axis=0)[0]
    rows = []
    for k, stage in enumerate(STAGES):
        row = {"stage": stage, "epochs": int(pooled[k].sum())}
        for key, function in MEASURES.items():
            row[key] = measure(units, lambda t, f=function, k=k: f(t[..., 0, :, :])[..., k], seed)
        rows.append(row)
    return rows


def subgroups(nights: Sequence[ScoredRecording], seed: int) -> list[dict]:
    """Return kappa by age and by sex; nothing of what is not known of anybody.

    Recordings count, not subjects: a sleeper may be recorded at two ages.
    """
    groups: list[tuple[str, str, list[ScoredRecording]]] = []
    if any(night.age is not None for night in nights):
        for low, high, label in AGES:
            members = [n for n in nights if n.age is not None and low <= n.age < high]
            groups.append(("age", label, members))
        groups.append(("age", "unknown", [night for night in nights if night.age is None]))
    if any(night.sex in SEXES for night in nights):
        for code, label in SEXES.items():
            groups.append(("sex", label, [night for night in nights if night.sex == code]))
        groups.append(("sex", "unknown", [night for night in nights if night.sex not in SEXES]))
    rows = []
    for kind, label, members in groups:
        if not members:
            continue
        units = by_subject(members)
        kappa = measure(units, kappa_of(0), seed)
        counts = {"subjects": len(units), "recordings": len(members)}
        counts["epochs"] = int(np.sum(units))
        few = len(units) < FEW
        rows.append({"by": kind, "group": label, **counts, "kappa": kappa, "few": few})
    return rows


def beside_scorer(
    nights: Sequence[ScoredRecording], second: Mapping[str, np.ndarray], seed: int
) -> dict:
    """Return kappa of model, first and second scorer with each other, on exactly the same epochs.

    ``gain_first`` is kappa(model, first) − kappa(second, first): whether the model is as near to
    the first scorer as another human is; ``gain_second`` the same of the second. Both are paired:
    each draw of subjects gives both kappas.
    """
    first = {night.name: night.truth for night in nights}
    model = {night.name: night.predicted for night in nights}
    units = by_subject(nights, [(first, model), (second, model), (first, second)])
    total = np.sum(units, axis=0)
    if not total.sum():
        raise DataError("the two scorers have no scored epoch in common.")
    # Subjects without a common epoch add nothing, and are no draws.
    units = [unit for unit in units if unit.sum()]
    return {
        "n_subjects": len(units),
        "n_epochs": int(total[0].sum()),
        "model_first": measure(units, kappa_of(0), seed),
        "model_second": measure(units, kappa_of(1), seed),
        "first_second": measure(units, kappa_of(2), seed),
        "gain_first": measure(units, lambda t: kappa_of(0)(t) - kappa_of(2)(t), seed),
        "gain_second": measure(units, lambda t: kappa_of(1)(t) - kappa_of(2)(t), seed),
        "confusion_first_second": total[2].tolist(),
    }


def _share(matrix: np.ndarray, axis: int) -> np.ndarray:
    """Return the diagonal as a share of the sums along an axis; nan for an empty one."""
    whole = matrix.sum(axis)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, right / whole, np.nan)
