"""Splits: whole subjects, each in one place, decided before anything is seen."""

import hashlib
import re
from itertools import chain, combinations, pairwise

import numpy as np
import pytest

from partsig.data.splits import (
    SplitConfig,
    draw_segments,
    split_finetuning,
    split_pretraining,
    test_subjects,
)
from partsig.errors import ConfigError, DataError

CONFIG = SplitConfig()
NIGHTS = [f"tr03-{i:04d}" for i in range(994)]
UNLABELLED = [f"te03-{i:04d}" for i in range(989)]


def assert_disjoint(split: dict[str, list[str]]) -> None:
    for left, right in combinations(split.values(), 2):
        assert set(left) & set(right) == set()


@pytest.mark.parametrize(
    ("n", "config", "expected"),
    [
        (994, CONFIG, 199),
        (5000, CONFIG, 200),
        (12, CONFIG, 2),
        (10, SplitConfig(test_fraction=0.5), 5),
        (994, SplitConfig(test_max=7), 7),
        (2, CONFIG, 0),
    ],
)
def test_size_of_the_test_set(n, config, expected):
    assert len(test_subjects([f"s{i}" for i in range(n)], config)) == expected


def test_the_test_set_is_the_first_by_hash():
    expected = sorted(NIGHTS, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:199]
    assert test_subjects(NIGHTS, CONFIG) == sorted(expected)


def test_the_test_set_ignores_order_repetition_and_seed():
    expected = test_subjects(NIGHTS, CONFIG)
    shuffled = np.random.default_rng(0).permutation(NIGHTS * 2).tolist()
    assert test_subjects(shuffled, CONFIG) == expected
    assert split_pretraining(NIGHTS + UNLABELLED, NIGHTS, CONFIG)["test"] == expected
    for seed in range(5):
        assert split_finetuning(NIGHTS, 10, seed, CONFIG)["test"] == expected


def test_a_larger_test_fraction_only_adds():
    small = set(test_subjects(NIGHTS, SplitConfig(test_fraction=0.1)))
    large = set(test_subjects(NIGHTS, SplitConfig(test_fraction=0.15)))
    assert (len(small), len(large)) == (99, 149)
    assert small < large


def test_pretraining_uses_everyone_once():
    split = split_pretraining(NIGHTS + UNLABELLED, NIGHTS, CONFIG)
    assert_disjoint(split)
    assert {role: len(members) for role, members in split.items()} == {
        "train": 1983 - 199 - 20,
        "monitor": 20,
        "test": 199,
    }
    assert sorted(chain(*split.values())) == sorted(NIGHTS + UNLABELLED)


def test_the_monitor_takes_at_most_a_tenth():
    split = split_pretraining(UNLABELLED[:35], [], CONFIG)
    assert {role: len(members) for role, members in split.items()} == {
        "train": 32,
        "monitor": 3,
        "test": 0,
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_subjects", [1, 10, 790])
def test_finetuning_is_disjoint(seed, n_subjects):
    split = split_finetuning(NIGHTS, n_subjects, seed, CONFIG)
    assert_disjoint(split)
    assert {role: len(members) for role, members in split.items()} == {
        "train": n_subjects,
        "val": 5,
        "test": 199,
    }
    assert all(members == sorted(set(members)) for members in split.values())


def test_draws_are_nested_and_share_their_validation_subjects():
    splits = [split_finetuning(NIGHTS, n, 3, CONFIG) for n in (1, 5, 10, 100)]
    for fewer, more in pairwise(splits):
        assert set(fewer["train"]) < set(more["train"])
        assert fewer["val"] == more["val"]


def test_seeds_draw_others():
    draws = {tuple(split_finetuning(NIGHTS, 10, seed, CONFIG)["train"]) for seed in range(20)}
    assert len(draws) == 20
    assert split_finetuning(NIGHTS, 10, 7, CONFIG) == split_finetuning(NIGHTS[::-1], 10, 7, CONFIG)


def test_every_subject_is_drawn_equally_often():
    rest = sorted(set(NIGHTS[:60]) - set(test_subjects(NIGHTS[:60], CONFIG)))
    counts = dict.fromkeys(rest, 0)
    for seed in range(480):
        for subject in split_finetuning(NIGHTS[:60], 10, seed, CONFIG)["train"]:
            counts[subject] += 1
    # 48 subjects, 10 of them in each of 480 draws: 100 expected, SD sqrt(480 p (1-p)) = 8.9.
    assert len(counts) == 48
    assert max(abs(count - 100) for count in counts.values()) < 4.5 * 8.9


def test_too_few_subjects_says_how_many_can_be_asked_for():
    with pytest.raises(ConfigError) as caught:
        split_finetuning(NIGHTS[:20], 12, 0, CONFIG)
    assert str(caught.value) == (
        "--subjects 12 and 5 validation subjects need 17, but the store has 16 labelled subjects "
        "outside the 4 test subjects; at most 11 can be asked for, more with a smaller "
        "--set split.val_subjects=N."
    )
    assert len(split_finetuning(NIGHTS[:20], 11, 0, CONFIG)["train"]) == 11


def test_none_is_all_and_less_is_refused():
    everyone = split_finetuning(NIGHTS, 0, 0, CONFIG)
    assert_disjoint(everyone)
    assert len(everyone["train"]) == 994 - 199 - 5
    assert set(split_finetuning(NIGHTS, 10, 0, CONFIG)["train"]) < set(everyone["train"])
    with pytest.raises(ConfigError, match="--subjects is -1; it must be at least 0"):
        split_finetuning(NIGHTS, -1, 0, CONFIG)


def test_a_test_set_of_the_stores_own_holds():
    own = NIGHTS[10:30]
    roles = {"test": own, "val": NIGHTS[40:44]}
    split = split_finetuning(NIGHTS, 10, 3, CONFIG, roles)
    assert split["test"] == sorted(own)
    assert split["val"] == NIGHTS[40:44]
    assert_disjoint(split)
    assert len(split_finetuning(NIGHTS, 0, 3, CONFIG, roles)["train"]) == 994 - 20 - 4
    assert split_pretraining(NIGHTS, NIGHTS, CONFIG, roles)["test"] == sorted(own)


def test_segments_are_drawn_per_class_nested_and_never_twice():
    segments = {"W": [f"w{i}" for i in range(30)], "N1": [f"n{i}" for i in range(12)]}
    few, more, every = (draw_segments(segments, n, 5) for n in (4, 10, 0))
    assert [sum(name[0] == c for name in few) for c in "wn"] == [4, 4]
    assert set(few) < set(more) < set(every)
    assert len(every) == len(set(every)) == 42
    assert draw_segments(segments, 4, 6) != few
    with pytest.raises(ConfigError, match="only 12 recordings of training subjects are N1"):
        draw_segments(segments, 13, 0)


def test_a_class_of_the_test_alone_keeps_no_budget_from_being_drawn():
    segments = {"W": ["a", "b"], "N1": [], "N2": ["c", "d", "e"]}
    assert len(draw_segments(segments, 2, 0)) == 4
    assert draw_segments(segments, 0, 0) == ["a", "b", "c", "d", "e"]
    # The draws of the others are those that they were.
    assert set(draw_segments(segments, 2, 3)) == set(
        draw_segments(segments | {"N1": ["x", "y"]}, 2, 3)
    ) - {"x", "y"}
    with pytest.raises(ConfigError, match="no recording of a training subject is of one class"):
        draw_segments({"W": [], "N1": []}, 0, 0)


@pytest.mark.parametrize("labelled", [[], ["a"], ["a", "b"]])
def test_no_one_to_test_on(labelled):
    message = f"{len(labelled)} labelled subjects leave none to test on; score more recordings"
    with pytest.raises(DataError, match=message):
        split_finetuning(labelled, 1, 0, CONFIG)


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize(
    "given", [{}, {"test_fraction": 0.01}, {"test_max": 0}, {"test_fraction": 0.9}]
)
def test_advice_can_be_followed_to_the_end(n, given):
    """What is told is done, again and again: it ends with a split, or with too few subjects."""
    labelled, subjects, config = NIGHTS[:n], 10, dict(given)
    for _ in range(4):
        try:
            split = split_finetuning(labelled, subjects, 0, SplitConfig(**config))
        except (ConfigError, DataError) as error:
            told = str(error)
        else:
            assert n >= 3
            assert min(map(len, split.values())) >= 1
            return
        if "are the least" in told:
            assert n < 3 or "lower split.test_fraction" in told
            if n < 3:
                return
            config["test_fraction"] = 0.2
        elif "raise split.test_fraction" in told:
            fraction, most = re.search(
                r"test_fraction to ([\d.]+), split.test_max to (\d)", told
            ).groups()
            config |= {"test_fraction": float(fraction), "test_max": int(most)}
        elif "pass --subjects" in told:
            number, val = re.search(
                r"--subjects (\d+) --set split.val_subjects=(\d+)", told
            ).groups()
            subjects, config["val_subjects"] = int(number), int(val)
        else:
            subjects = int(re.search(r"at most (\d+) can be asked for", told)[1])
    pytest.fail(told)


def test_store_too_small_to_pretrain():
    config = SplitConfig(test_fraction=0.9)
    with pytest.raises(DataError, match="no subject is left to train on; the store is too small"):
        split_pretraining(["a"], ["a"], config)
    with pytest.raises(DataError, match="the store is too small for this split"):
        split_pretraining([], [], CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_fraction": 0.95}, r"split\.test_fraction is 0\.95; it must be between 0 and 0\.9"),
        ({"val_subjects": 0}, r"split\.val_subjects is 0; it must be at least 1"),
        ({"test_max": -1}, r"split\.test_max is -1"),
        ({"monitor_subjects": -1}, r"split\.monitor_subjects is -1"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        SplitConfig(**values)
