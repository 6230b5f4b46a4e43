"""Events as labels of tokens: by a loop over samples, and the marks of DREAMS as they are."""

from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals.scored_events import ScoredEvents, read_dreams_events, token_labels
from partsig.errors import DataError

DREAMS = Path(__file__).resolve().parents[4] / "shared" / "data" / "dreams"


def events(kind, *spans):
    onset, duration = np.array(spans, np.float64).reshape(-1, 2).T
    return ScoredEvents(kind=kind, onset=onset, duration=duration)


@pytest.mark.parametrize("token_s", [0.1, 1.0, 2.5])
def test_a_token_is_in_an_event_that_shares_half_of_the_shorter(token_s):
    rng = np.random.default_rng(int(10 * token_s))
    spans = np.stack([rng.uniform(0, 95, 30), rng.uniform(0.3, 3, 30)], 1).round(2)
    n = int(100 / token_s)
    found = token_labels([events("spindle", *spans)], ["spindle"], n, token_s)
    fine = 0.01
    for i in range(n):
        time = i * token_s + (np.arange(round(token_s / fine)) + 0.5) * fine
        expected = 0
        for onset, duration in spans:
            shared = ((time > onset) & (time < onset + duration)).sum() * fine
            expected |= shared >= 0.5 * min(token_s, duration) - 1e-6
        assert found[i] == expected


def test_of_kinds_that_overlap_the_later_counts():
    both = [events("k", (2, 2)), events("spindle", (1, 2), (8, 5))]
    assert token_labels(both, ["spindle", "k"], 10, 1.0).tolist() == [0, 1, 2, 2, 0, 0, 0, 0, 1, 1]
    assert token_labels(both, ["k", "spindle"], 10, 1.0).tolist() == [0, 2, 2, 1, 0, 0, 0, 0, 2, 2]
    assert token_labels([], ["k"], 3, 1.0).tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="events are of 'k'; labels are of spindle"):
        token_labels(both, ["spindle"], 10, 1.0)


def test_a_file_of_dreams(tmp_path):
    file = tmp_path / "Visual_scoring1_excerpt1.txt"
    file.write_bytes(b"[vis1_Spindles/C3-A1]\r\n  282.2400\t    0.7200\r\n  311.72  1.54 9\r\n\r\n")
    found = read_dreams_events(file)
    assert (found.kind, found.scorer, found.channel) == ("Spindles", "vis1", "C3-A1")
    assert found.onset.tolist() == [282.24, 311.72]
    assert found.duration.tolist() == [0.72, 1.54]
    file.write_text("[Automatic]\n")
    assert (len(read_dreams_events(file)), read_dreams_events(file).kind) == (0, "Automatic")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with '', not with a name in brackets"),
        ("282.24 0.72\n", "not with a name in brackets"),
        ("[a]\n1.0 two\n", "line 2: '1.0 two' is no event"),
        ("[a]\n1.0\n", "line 2 has no duration"),
        ("[a]\n-1 2\n", "0 s or more"),
        ("[a]\n1 nan\n", "0 s or more"),
    ],
)
def test_other_files_are_refused(tmp_path, text, told):
    file = tmp_path / "events.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=told):
        read_dreams_events(file)


def test_the_marks_of_dreams_as_they_are():
    if not DREAMS.exists():
        pytest.skip(f"no {DREAMS}")
    counts = {"spindles": {}, "kcomplexes": {}}
    for folder, told in counts.items():
        for file in sorted((DREAMS / folder).glob("Visual_scoring*.txt")):
            found = read_dreams_events(file)
            told[file.stem] = len(found)
            assert found.scorer in ("vis1", "vis2")
            assert (found.onset + found.duration).max() < 1805
            assert 0.2 < np.median(found.duration) < 2
            assert token_labels([found], [found.kind], 18050, 0.1).sum() > 5 * len(found) / 2
    assert counts["spindles"]["Visual_scoring1_excerpt1"] == 52
    assert len(counts["spindles"]) == 14
    assert len(counts["kcomplexes"]) == 10
