"""Sleep statistics and their agreement: YASA's figures against counts and formulas by hand."""

import sys

import numpy as np
import pytest
from scipy.stats import t as student

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.errors import ConfigError, DataError
from partsig.metrics.agreement import accuracy, confusion, kappa
from partsig.sleep.report import statistics

W, N1, N2, N3, REM, NONE = 0, 1, 2, 3, 4, -1


def epochs(*runs: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(length, code, np.int8) for code, length in runs])


def test_statistics_are_those_counted_by_hand():
    night = epochs((W, 20), (N1, 4), (N2, 60), (W, 6), (N3, 40), (REM, 30), (W, 40))
    found = statistics.sleep_statistics(night)
    expected = {
        "TIB": 100,
        "TST": 67,
        "SE": 67,
        "SOL": 10,
        "REM latency": 55,
        "WASO": 3,
        **{"W": 33, "N1": 2, "N2": 30, "N3": 20, "REM": 15},
        **{"%N1": 200 / 67, "%N2": 3000 / 67, "%N3": 2000 / 67, "%REM": 1500 / 67},
    }
    assert list(found) == list(statistics.STATISTICS)
    assert found == pytest.approx(expected, abs=1e-4)  # YASA rounds to four places


def test_unscored_epochs_are_neither_sleep_nor_wake():
    """Lead-in and end are cut off; gaps count for nothing but the clock of the latencies."""
    night = epochs((NONE, 12), (W, 8), (NONE, 4), (W, 2), (N2, 20), (NONE, 10), (REM, 6), (W, 4))
    found = statistics.sleep_statistics(np.append(night, np.full(7, NONE)))
    assert found["TIB"] == 20
    assert found["TST"] == 13
    assert found["SE"] == 65
    assert found["SOL"] == 7  # 10 epochs of wake, 4 of the clock
    assert found["REM latency"] == 15  # 20 epochs of N2, 10 of the clock
    assert found["WASO"] == 0
    assert found["W"] == 7


@pytest.mark.parametrize(
    ("night", "undefined"),
    [
        (epochs((N2, 4), (W, 2)), {"REM latency"}),
        (epochs((W, 6)), {"SOL", "REM latency", "WASO", "%N1", "%N2", "%N3", "%REM"}),
    ],
)
def test_what_an_excerpt_does_not_define_is_nan(night, undefined):
    found = statistics.sleep_statistics(night)
    assert {key for key, value in found.items() if np.isnan(value)} == undefined


def test_a_hypnogram_without_a_stage_is_refused():
    with pytest.raises(DataError, match="without a scored epoch"):
        statistics.sleep_statistics(np.full(10, NONE))


def scorings(n: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Nights of different length and gaps, and a second opinion that errs on a quarter."""
    rng = np.random.default_rng(3)
    first, second = {}, {}
    for i in range(n):
        night = np.repeat(rng.integers(0, 5, 60 + i), 4).astype(np.int8)
        night[:9] = night[100:110] = NONE
        other = night.copy()
        errs = (rng.random(len(night)) < 0.25) & (night != NONE)
        other[errs] = rng.integers(0, 5, errs.sum())
        first[f"night{i}"], second[f"night{i}"] = night, other
    return first, second


@pytest.mark.parametrize("n", [1, 4])
def test_yasas_kappa_is_ours(n):
    first, second = scorings(n)
    pooled, each = statistics.epoch_agreement(first, second)
    tables = {name: confusion(first[name], second[name], len(STAGES)) for name in first}
    total = sum(tables.values())
    assert pooled["kappa"] == pytest.approx(float(kappa(total)))
    assert pooled["accuracy"] == pytest.approx(100 * float(accuracy(total)))
    assert {name: row["kappa"] for name, row in each.items()} == pytest.approx(
        {name: float(kappa(table)) for name, table in tables.items()}
    )


def values(columns: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Statistics by recording, 10 everywhere but in these."""
    n = len(next(iter(columns.values())))
    usual = dict.fromkeys(statistics.STATISTICS, 10.0)
    return {f"r{i}": usual | {key: float(v[i]) for key, v in columns.items()} for i in range(n)}


def test_limits_of_agreement_are_bland_and_altmans():
    rng = np.random.default_rng(0)
    scored, gaps = rng.normal(400, 40, 12), rng.normal(5, 8, 12)
    latency = np.append(np.full(5, np.nan), np.arange(7.0))
    first = values({"TST": scored, "REM latency": np.arange(12.0) ** 2})
    second = values({"TST": scored + gaps, "REM latency": latency})
    found = statistics.bland_altman(first, second, {name: name for name in first})
    row, n, sd = found["TST"], 12, gaps.std(ddof=1)
    reach = student.ppf(0.975, n - 1) * sd / np.sqrt(n)
    assert row["bias"] == pytest.approx(gaps.mean())
    assert (row["lower"], row["upper"]) == pytest.approx(
        gaps.mean() + 1.96 * sd * np.array([-1, 1])
    )
    assert row["bias_interval"] == pytest.approx([gaps.mean() - reach, gaps.mean() + reach])
    # The standard error of a limit is √3 times the mean's (Bland and Altman 1999, section 2).
    wide = np.sqrt(3) * reach
    assert row["upper_interval"] == pytest.approx([row["upper"] - wide, row["upper"] + wide])
    assert row["holds"] == {"normal": True, "constant_bias": True, "homoscedastic": True}
    assert (found["REM latency"]["n"], found["REM latency"]["undefined"]) == (7, 5)
    assert not found["REM latency"]["holds"]["constant_bias"]
    assert found["WASO"] == {"n": 12, "undefined": 0, "why": "the same in every recording"}


def test_too_few_subjects_have_no_limits():
    first, second = values({"TST": np.arange(4.0)}), values({"TST": np.arange(4.0) ** 2})
    found = statistics.bland_altman(first, second, dict(zip(first, "aabb", strict=True)))
    assert found["TST"]["why"] == "defined in both scorings of 2 subjects only"
    assert "bias" not in found["TST"]


def test_several_recordings_of_one_subject_are_no_independent_ones():
    """The SD is of a new night of a new subject: between and within (Bland and Altman 2007)."""
    pytest.importorskip("statsmodels")
    rng = np.random.default_rng(1)
    people, nights = 8, 3
    scored = rng.normal(400, 40, people * nights)
    gaps = np.repeat(rng.normal(0, 10, people), nights) + rng.normal(0, 4, people * nights)
    first, second = values({"TST": scored}), values({"TST": scored + gaps})
    subjects = {f"r{i}": f"s{i // nights}" for i in range(people * nights)}
    row = statistics.bland_altman(first, second, subjects)["TST"]
    table = gaps.reshape(people, nights)
    within = table.var(1, ddof=1).mean()
    between = (nights * table.mean(1).var(ddof=1) - within) / nights
    sd = np.sqrt(within + between)
    assert row["upper"] - row["bias"] == pytest.approx(1.96 * sd)
    # Eight people, not 24 nights.
    reach = student.ppf(0.975, people - 1) * table.mean(1).std(ddof=1) / np.sqrt(people)
    assert row["bias_interval"][1] - row["bias"] == pytest.approx(reach)


def test_without_statsmodels_several_recordings_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    first, second = values({"TST": np.arange(6.0)}), values({"TST": np.arange(6.0) ** 2})
    with pytest.raises(ConfigError, match="several recordings of one subject need statsmodels"):
        statistics.bland_altman(first, second, dict(zip(first, "aabbcc", strict=True)))


def test_without_yasa_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yasa", None)
    with pytest.raises(ConfigError, match=r"report needs YASA: pip install 'partsig\[yasa\]'"):
        statistics.sleep_statistics(epochs((W, 4)))


def test_real_nights(challenge_files):
    """Three real nights: minutes add up, and TST is what the published stages count to."""
    held = np.load(challenge_files / "pc18_hypnograms_30s.npz")
    for name in sorted({key.partition("/")[0] for key in held})[:3]:
        codes = held[f"{name}/stage"].astype(np.int8)
        codes[codes == 5] = NONE
        found = statistics.sleep_statistics(codes)
        assert found["TIB"] == (codes != NONE).sum() / 2
        assert found["TST"] == (codes > 0).sum() / 2
        assert sum(found[stage] for stage in STAGES) == found["TIB"]
        assert found["SE"] == pytest.approx(100 * found["TST"] / found["TIB"], abs=1e-4)
