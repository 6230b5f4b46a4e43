"""Several scorers of one recording: one of them, or the consensus, against a count by hand."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.scorers import majority
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.errors import ConfigError, DataError

NAMES = ("W", "N1", "N2", "N3", "REM")
REAL = Path(__file__).parents[5] / "shared" / "data" / "scorers" / "dod_five_scorers.npz"


def counted(stages):
    """Return the consensus (E,) of stages (S, E), by loops over epochs and scorers."""
    agreement = []
    for j, own in enumerate(stages):
        shares = []
        for e, code in enumerate(own):
            votes = Counter(int(row[e]) for k, row in enumerate(stages) if k != j)
            shares.append(votes[int(code)] / max(votes.values()))
        agreement.append(float(np.mean(shares)))
    ranked = sorted(range(len(stages)), key=lambda j: -agreement[j])
    found = []
    for e in range(stages.shape[1]):
        votes = Counter(int(row[e]) for row in stages)
        most = max(votes.values())
        found.append(next(int(stages[j][e]) for j in ranked if votes[int(stages[j][e])] == most))
    return found, agreement


def scored(n=60, scorers=5, seed=0):
    """Return stages (S, E) of scorers who differ in a third of the epochs, some unscored."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, n)
    stages = np.where(rng.random((scorers, n)) < 0.35, rng.integers(-1, 5, (scorers, n)), true)
    return stages.astype(np.int8)


def epochs(path, n, **options):
    settings = HypnogramConfig(codes="yasa", **options)
    hypnogram = read_hypnogram(path, settings)
    offset, _ = find_offset("n", hypnogram, datetime(2020, 1, 1, 22), 30.0 * n, settings)
    return to_epochs("n", hypnogram, offset, 30.0 * n)[0].tolist(), hypnogram.notes


@pytest.mark.parametrize("scorers", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(3))
def test_the_consensus_is_that_of_a_count_by_hand(scorers, seed):
    stages = scored(scorers=scorers, seed=seed)
    found = majority(stages)
    expected, agreement = counted(stages)
    assert found.stages.tolist() == expected
    np.testing.assert_allclose(found.agreement, agreement, atol=1e-12)
    votes = [Counter(map(int, column)).most_common() for column in stages.T]
    assert found.tied.tolist() == [len(v) > 1 and v[0][1] == v[1][1] for v in votes]
    assert found.unanimous.tolist() == [len(v) == 1 for v in votes]


def test_a_tie_is_decided_by_one_of_those_tied():
    # The first agrees most with the others, and stands alone where two pairs are tied.
    stages = np.array(
        [[0] * 9 + [4], [0] * 8 + [1, 1], [0] * 8 + [1, 1], [2] * 9 + [3], [2] * 9 + [3]]
    )
    found = majority(stages.astype(np.int8))
    assert found.tied.tolist() == [False] * 8 + [True, True]
    assert found.stages.tolist() == [0] * 8 + [1, 1]


@pytest.mark.parametrize("seed", [0, 1])
def test_all_ways_to_write_several_scorers_give_one_consensus(tmp_path, seed):
    stages = scored(seed=seed)
    stages[:, 0] = 2
    expected, _ = counted(stages)
    n = stages.shape[1]
    rows = [(f"s{j}", e, int(code)) for e in range(n) for j, code in enumerate(stages[:, e])]
    by_row = "onset,duration,stage,scorer\n" + "".join(f"{30 * e},30,{c},{j}\n" for j, e, c in rows)
    columns = ",".join(f"stage_s{j}" for j in range(5))
    by_column = f"onset,duration,{columns}\n" + "".join(
        f"{30 * e},30,{','.join(map(str, stages[:, e]))}\n" for e in range(n)
    )
    lists = {f"s{j}": row.tolist() for j, row in enumerate(stages)}
    (tmp_path / "a.csv").write_text(by_row)
    (tmp_path / "b.csv").write_text(by_column)
    (tmp_path / "c.csv").write_text(by_column.replace("onset,duration", "epoch,number"))
    (tmp_path / "d.json").write_text(json.dumps(lists))
    for name in ("a.csv", "b.csv", "d.json"):
        given, notes = epochs(tmp_path / name, n, scorer="consensus")
        assert given == expected, name
        assert any("consensus of 5 scorers, the majority: all agree for" in note for note in notes)
        for j in range(5):
            own, notes = epochs(tmp_path / name, n, scorer=f"S{j}")
            assert own == stages[j].tolist()
            assert any(f"the stages of s{j}; not used: those of s" in note for note in notes)
        with pytest.raises(DataError, match=r"stages of 5 scorers, s0, s1, .*scorer=s0.*consensus"):
            epochs(tmp_path / name, n)
        with pytest.raises(DataError, match=r"no stages by bea; there are those of s0, s1"):
            epochs(tmp_path / name, n, scorer="bea")


def test_the_vote_needs_no_grid(tmp_path):
    """Change points of three scorers, at their own times, to the end of the recording."""
    rows = [("a", 0, "W"), ("a", 90, "N2"), ("b", 0, "W"), ("b", 120, "N2")]
    rows += [("c", 0, "N1"), ("c", 60, "N2")]
    text = "onset,stage,scorer\n" + "".join(f"{at},{s},{who}\n" for who, at, s in rows)
    (tmp_path / "a.csv").write_text(text)
    given, _ = epochs(tmp_path / "a.csv", 6, scorer="consensus")
    assert given == [0, 0, 0, 2, 2, 2]


def test_scorers_by_the_clock_past_midnight_one_block_after_another(tmp_path):
    clock = ["23:59:30", "00:00:00", "00:00:30"]
    stages = {"a": ["W", "N1", "N2"], "b": ["W", "N2", "N2"], "c": ["N1", "N2", "N2"]}
    text = "time,duration,stage,scorer\n" + "".join(
        f"{at},30,{s},{who}\n"
        for who, own in stages.items()
        for at, s in zip(clock, own, strict=True)
    )
    (tmp_path / "a.csv").write_text(text)
    settings = HypnogramConfig(scorer="consensus")
    hypnogram = read_hypnogram(tmp_path / "a.csv", settings)
    offset, _ = find_offset("n", hypnogram, datetime(2020, 1, 1, 23, 59), 120.0, settings)
    assert to_epochs("n", hypnogram, offset, 120.0)[0].tolist() == [-1, 0, 2, 2]


def test_scorers_in_turns_are_one_hypnogram(tmp_path):
    text = "onset,duration,stage,scorer\n0,30,W,a\n30,30,N1,a\n60,30,N2,b\n90,30,N3,b\n"
    (tmp_path / "a.csv").write_text(text)
    given, notes = epochs(tmp_path / "a.csv", 4)
    assert (given, notes) == ([0, 1, 2, 3], ("scored in turns by a, b",))


@pytest.mark.parametrize(
    ("name", "text", "scorer", "message"),
    [
        (
            "a.csv",
            "onset,duration,stage,scorer\n0,30,W,a\n0,30,W,b\n",
            "consensus",
            "of 3 scorers or",
        ),
        (
            "a.csv",
            "onset,duration,stage,scorer\n0,30,W,a\n0,30,W,b\n30,30,W,n/a\n",
            "a",
            "1 stages have no",
        ),
        ("a.csv", "stage,scorer\nW,a\nW,b\n", "a", "no column of onsets or epochs"),
        ("a.csv", "epoch,stage,scorer\n0,W,a\n0,W,b\n1,W,b\n", "a", "not scored the same epochs"),
        ("a.txt", "W\nN1\n", "a", "does not tell whose its stages are, and .* asks for a"),
        ("a.txt", "W\nN1\n", "consensus", "does not tell whose its stages are"),
        ("a.json", '{"a": ["W"], "b": ["W", "W"]}', "a", "lists of 1 to 2 epochs"),
        (
            "a.csv",
            "onset,duration,stage,scorer\n0,30,W,a\n0,30,N1,a\n0,30,W,b\n0,30,W,c\n",
            "consensus",
            r"a\.csv \(by a\) has two stages at 0 s",
        ),
    ],
)
def test_what_is_no_choice_is_refused(tmp_path, name, text, scorer, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_hypnogram(tmp_path / name, HypnogramConfig(scorer=scorer))


def test_one_named_scorer_needs_no_choice(tmp_path):
    (tmp_path / "a.csv").write_text("onset,duration,stage,scorer\n0,30,W,a\n30,30,N1,a\n")
    assert epochs(tmp_path / "a.csv", 2)[0] == [0, 1]
    assert epochs(tmp_path / "a.csv", 2, scorer="a")[0] == [0, 1]


def test_a_label_above_a_list_is_no_column_of_a_scorer(tmp_path):
    (tmp_path / "a.txt").write_text("Stage 1\nStage 2\nStage W\n")
    assert epochs(tmp_path / "a.txt", 3)[0] == [1, 2, 0]


def test_a_column_of_numbers_that_are_no_stages_is_nobodys(tmp_path):
    (tmp_path / "a.csv").write_text(
        "onset,duration,stage,stage_confidence\n0,30,W,0.9\n30,30,N1,1\n"
    )
    assert epochs(tmp_path / "a.csv", 2)[0] == [0, 1]


def test_wrong_expressions_are_told_at_once():
    with pytest.raises(ConfigError, match=r"hypnogram\.part is no regular expression"):
        HypnogramConfig(part="(")
    with pytest.raises(ConfigError, match="is its first group"):
        HypnogramConfig(part="abc")


@pytest.mark.skipif(not REAL.is_file(), reason="five scorers of real nights are not here")
def test_five_real_scorers(tmp_path):
    with np.load(REAL) as nights:
        for name in list(nights)[::20]:
            stages = nights[name]
            path = tmp_path / "n.json"
            path.write_text(json.dumps({f"s{j}": row.tolist() for j, row in enumerate(stages)}))
            given, _ = epochs(path, stages.shape[1], scorer="consensus")
            assert given == counted(stages)[0]
