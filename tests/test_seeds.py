"""Random streams: none is another's, and what partsig 0.1 drew is drawn as before."""

import itertools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from partsig import seeds
from partsig.seeds import OldSeed, Stream, fixed, rng_of, seed_of

SOURCES = Path(seeds.__file__).parent
COUNTS = [(), *itertools.product(range(12)), *itertools.product(range(12), repeat=2)]


def test_no_two_streams_are_one():
    """Whatever the stream, the seed, and how many counts there are: all are different draws."""
    asked = [
        (stream, seed, counts)
        for stream in Stream
        if stream not in seeds.FOR_EVER
        for seed in (0, 1, 7, 11, 70, 2**32, 2**40)
        for counts in COUNTS
    ]
    assert len({seed_of(stream, seed, *counts) for stream, seed, counts in asked}) == len(asked)
    firsts = {int(rng_of(stream, seed, *counts).integers(2**63)) for stream, seed, counts in asked}
    assert len(firsts) == len(asked)


def test_names_are_told_apart():
    assert len({stream.name for stream in Stream}) == len(Stream) == len({s.value for s in Stream})


def test_a_seed_is_one_for_torch():
    for seed in range(50):
        assert 0 <= seed_of(Stream.OBJECTIVE, seed, 3) < 2**63


@pytest.mark.parametrize(
    ("stream", "seed", "counts", "expected"),
    [
        # Written down from partsig 0.1, by its own formulas.
        (Stream.PRETRAINED_WEIGHTS, 0, (), [0, 7]),
        (Stream.HEAD_WEIGHTS, 3, (), [3, 8]),
        (Stream.ENCODER_WEIGHTS, 3, (), [3, 9]),
        (Stream.OBJECTIVE, 5, (12,), [5, 12, 0]),
        (Stream.DROP_PATH, 5, (12, 2), [5, 12, 3]),
        (Stream.WINDOWS, 5, (4,), [5, 4, 30]),
        (Stream.ITEMS, 5, (4,), [5, 4, 31]),
        (Stream.BALANCED_ITEMS, 5, (4,), [5, 4, 32]),
        (Stream.SHIFTS, 5, (4,), [5, 4, 33]),
        (Stream.IMAGES, 5, (4,), [5, 4, 34]),
        (Stream.AUGMENTATION, 5, (4, 9), [5, 4, 9, 34]),
    ],
)
def test_what_partsig_0_1_began_goes_on_as_it_drew(stream, seed, counts, expected):
    state = np.random.SeedSequence(expected).generate_state(1, np.uint64)[0]
    assert seed_of(stream, OldSeed(seed), *counts) == int(state >> np.uint64(1))
    drawn = rng_of(stream, OldSeed(seed), *counts).integers(2**63, size=3)
    np.testing.assert_array_equal(drawn, np.random.default_rng(expected).integers(2**63, size=3))
    assert seed_of(stream, seed, *counts) != seed_of(stream, OldSeed(seed), *counts)


def test_labels_are_drawn_alike_for_ever():
    for seed in (0, 5):
        for kind in (int, OldSeed):
            mine = rng_of(Stream.LABELLED_SUBJECTS, kind(seed)).permutation(9)
            np.testing.assert_array_equal(mine, np.random.default_rng([seed, 2018]).permutation(9))
            mine = rng_of(Stream.LABELLED_ITEMS, kind(seed), 2).permutation(9)
            expected = np.random.default_rng([seed, 2, 2019]).permutation(9)
            np.testing.assert_array_equal(mine, expected)


def test_an_old_seed_survives_what_a_seed_goes_through():
    old = OldSeed(4)
    assert isinstance(pickle.loads(pickle.dumps(old)), OldSeed)
    assert json.dumps({"seed": old}) == '{"seed": 4}'
    assert isinstance(fixed(old), OldSeed)
    assert fixed(old) == fixed(4) == 0
    assert not isinstance(fixed(4), OldSeed)


def test_every_draw_has_its_stream():
    """No generator is made or seeded in the package but by a stream's name."""
    made = re.compile(r"default_rng\(|SeedSequence\(|RandomState\(|np\.random\.seed|random\.seed\(")
    seeded = re.compile(r"manual_seed\((?!seed_of\(Stream\.)")
    for file in SOURCES.rglob("*.py"):
        if file.name == "seeds.py":
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.lstrip().startswith(">>>"):
                assert not made.search(line), (file, line)
                assert not seeded.search(line), (file, line)
