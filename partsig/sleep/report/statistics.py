"""Sleep statistics of hypnograms, and how two scorings of them agree: YASA's classes on our arrays.

A hypnogram is (E,) int8 on 30-s epochs, -1 unscored. What the reference leaves unscored is unscored
in both scorings, so that neither counts it as sleep or as wake.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.errors import ConfigError, DataError

# What is reported, in this order: name -> (unit, what it is).
STATISTICS = {
    "TIB": ("min", "time scored"),
    "TST": ("min", "total sleep time"),
    "SE": ("%", "sleep efficiency: total sleep time as a share of the time scored"),
    "SOL": ("min", "sleep latency: from the first scored epoch to the first of sleep"),
    "REM latency": ("min", "from the first epoch of sleep to the first of REM"),
    "WASO": ("min", "wake between the first epoch of sleep and the last"),
    **{stage: ("min", f"minutes of {stage}") for stage in STAGES},
    **{f"%{stage}": ("%", f"{stage} as a share of total sleep time") for stage in STAGES[1:]},
}
# A standard deviation and its interval need more than two subjects.
FEWEST = 3
# Hours. Less is no polysomnography: CPT 95808 to 95811 ask for six hours of recording.
NIGHT_H = 6.0


def import_yasa():
    """Return YASA; raise ConfigError where it is not installed."""
    try:
        import yasa
    except ImportError:
        raise ConfigError("report needs YASA: pip install 'partsig[yasa]'.") from None
    return yasa


def hypnogram(stages: np.ndarray, scorer: str):
    """Return stages (E,) as a ``yasa.Hypnogram``, the unscored as its UNS."""
    # YASA's codes are ours but for the unscored: -1 is its artefact, -2 its unscored.
    codes = np.where(np.asarray(stages) == UNSCORED, -2, stages).astype(np.int64)
    return import_yasa().Hypnogram.from_integers(codes, scorer=scorer)


def sleep_statistics(stages: np.ndarray) -> dict[str, float]:
    """Return :data:`STATISTICS` of a hypnogram (E,); nan where one is undefined.

    From the first scored epoch to the last. Latencies are on the clock, so that unscored epochs on
    the way count as time; time scored and efficiency leave them out. REM latency counts from sleep
    onset, as the AASM manual has it (YASA's counts from the start).

    Raises DataError when nothing is scored.

    >>> night = np.array([-1, 0, 0, 2, 2, -1, 4, 0])
    >>> values = sleep_statistics(night)
    >>> [float(values[key]) for key in ("TIB", "TST", "SE", "SOL", "REM latency", "WASO")]
    [3.0, 1.5, 50.0, 1.0, 1.5, 0.0]
    """
    stages = np.asarray(stages)
    scored = np.flatnonzero(stages != UNSCORED)
    if not len(scored):
        raise DataError("a hypnogram without a scored epoch has no sleep statistics.")
    clock = hypnogram(stages[scored[0] : scored[-1] + 1], "clock").sleep_statistics()
    dense = hypnogram(stages[scored], "dense").sleep_statistics()
    values = {key: clock[key] for key in ("TST", "SOL", "WASO", "N1", "N2", "N3", "REM")}
    values |= {key: dense[key] for key in ("TIB", "SE", "%N1", "%N2", "%N3", "%REM")}
    values |= {"W": clock["WAKE"], "REM latency": clock["Lat_REM"] - clock["SOL"]}
    return {key: float(values[key]) for key in STATISTICS}


def epoch_agreement(
    reference: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return YASA's agreement of hypnograms by recording, pooled and per recording.

    Keys are accuracy (%), kappa and mcc (Matthews' correlation); nan where one is undefined.
    """
    yasa = import_yasa()
    pair = [
        {name: hypnogram(stages, scorer) for name, stages in scoring.items()}
        for scorer, scoring in (("reference", reference), ("observed", observed))
    ]
    with _quiet():
        agreement = yasa.EpochByEpochAgreement(*pair)
        pooled = agreement.get_agreement(pooled=True)
        each = agreement.get_agreement()
    keys = ("accuracy", "kappa", "mcc")
    if len(reference) == 1:  # YASA then returns one series
        return _numbers(pooled, keys), {next(iter(reference)): _numbers(each, keys)}
    return _numbers(pooled, keys), {name: _numbers(each.loc[name], keys) for name in reference}


def _numbers(series, keys: tuple[str, ...]) -> dict[str, float]:
    return {key: float(series[key]) for key in keys}


def bland_altman(
    reference: Mapping[str, Mapping[str, float]],
    observed: Mapping[str, Mapping[str, float]],
    subjects: Mapping[str, str],
) -> dict[str, dict]:
    """Return bias and limits of agreement per statistic, by ``yasa.SleepStatsAgreement``.

    ``reference`` and ``observed`` are :func:`sleep_statistics` by recording. A difference is
    observed minus reference. Each statistic has ``n`` recordings in which both are defined,
    ``undefined``, how many others, and ``bias``, ``lower`` and ``upper`` limits (mean ± 1.96 SD of
    the differences) with 95 % intervals (``…_interval``, by t; Bland and Altman 1999; Menghini et
    al. 2021). Where subjects have several recordings, YASA's repeated-measures forms are used
    (Bland and Altman 2007; Zou 2013). ``holds``: whether, by YASA's tests, the differences are
    normal, and neither their mean nor their spread changes with the reference; limits mislead where
    they are not. ``why`` says why there is no bias; "" elsewhere.
    """
    rows = {}
    for key in STATISTICS:
        both = [
            name
            for name in reference
            if np.isfinite(reference[name][key]) and np.isfinite(observed[name][key])
        ]
        row = {"n": len(both), "undefined": len(reference) - len(both), "why": ""}
        people = {subjects[name] for name in both}
        pairs = np.array([(reference[name][key], observed[name][key]) for name in both])
        if len(people) < FEWEST:
            row["why"] = f"defined in both scorings of {len(people)} subjects only"
        elif (pairs[:, 0] == pairs[:, 1]).all():
            row["why"] = "the same in every recording"
        else:
            row |= _limits(key, both, pairs, subjects)
        rows[key] = row
    return rows


def _limits(key: str, names: list[str], pairs: np.ndarray, subjects: Mapping[str, str]) -> dict:
    yasa = import_yasa()
    import pandas as pd

    tables = [pd.DataFrame({key: column}, index=names) for column in pairs.T]
    repeated = len({subjects[name] for name in names}) < len(names)
    own = {name: subjects[name] for name in names} if repeated else None
    try:
        with _quiet():
            agreement = yasa.SleepStatsAgreement(*tables, subjects=own)
            row = agreement.summary(ci_method="param").loc[key]
            holds = agreement.assumptions.xs("passed", level="metric", axis=1).loc[key]
    except ImportError:
        raise ConfigError(
            "several recordings of one subject need statsmodels: pip install 'partsig[yasa]'."
        ) from None
    names_of = {"bias": "bias_mean", "lower": "loa_lower", "upper": "loa_upper"}
    values = {ours: float(row[theirs, "center"]) for ours, theirs in names_of.items()}
    ends = {
        f"{ours}_interval": [float(row[theirs, end]) for end in ("lower", "upper")]
        for ours, theirs in names_of.items()
    }
    kept = {name: bool(holds[name]) for name in ("normal", "constant_bias", "homoscedastic")}
    return values | ends | {"holds": kept}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of YASA and scikit-learn on undefined values: they are nan."""
    logger = logging.getLogger("yasa")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
