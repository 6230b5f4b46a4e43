"""Where a scorer's file lies on a store's epochs: told by the file, stated, or refused."""

import json
from types import SimpleNamespace

import pytest

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.errors import DataError
from partsig.sleep.report.scorers import find_files, read_scorer

STAGES = [0, 1, 2, 2, 3, 3, 4, 4, 2, 0]
CONCEPTS = ("Wake|0", "Stage 1 sleep|1", "Stage 2 sleep|2", "Stage 3 sleep|3", "REM sleep|5")
WORDS = ("W", "N1", "N2", "N3", "REM")


def store(start_s=0.0):
    n = len(STAGES)
    row = {"start_s": start_s, "n_epochs": n, "n_samples": 3000 * n, "subject": "s1"}
    return SimpleNamespace(recordings={"n": row}, sfreq=100.0)


def nsrr(lead_s, stages=STAGES):
    events = "".join(
        f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{CONCEPTS[s]}"
        f"</EventConcept><Start>{lead_s + 30 * k}.0</Start><Duration>30.0</Duration></ScoredEvent>"
        for k, s in enumerate(stages)
    )
    return f"<PSGAnnotation><ScoredEvents>{events}</ScoredEvents></PSGAnnotation>"


def read(folder, held=None, **options):
    settings = HypnogramConfig(**options)
    return read_scorer("anna", folder, held or store(), ["n"], settings)["n"].tolist()


def test_seconds_from_a_header_are_those_of_the_recording_where_their_ends_are_one(tmp_path):
    (tmp_path / "n.xml").write_text(nsrr(0))
    assert read(tmp_path) == STAGES
    (tmp_path / "n.xml").write_text(nsrr(0, [0, *STAGES]))
    assert read(tmp_path, store(start_s=30.0)) == STAGES


@pytest.mark.parametrize(
    ("lead_s", "stages"), [(600, STAGES), (60, STAGES), (60, STAGES[:6]), (0, STAGES[:6])]
)
def test_a_late_first_sample_is_asked_for(lead_s, stages, tmp_path):
    """Stages that end early do not tell whether the recording began with its header's time."""
    (tmp_path / "n.xml").write_text(nsrr(lead_s, stages))
    message = (
        r"--scorer anna: n: the seconds of n\.xml count from the time in the recording's header "
        r"and end at \d+ s, the store's at 300 s, and no store keeps .*"
        r"offset_s=\{n: MINUS_SECONDS\}"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    expected = [*stages, *[-1] * (len(STAGES) - len(stages))]
    assert read(tmp_path, offset_s={"n": -lead_s}) == expected


def test_a_consensus_of_a_folder(tmp_path):
    other = [0, 1, 1, 2, 3, 3, 4, 0, 2, 0]
    for who, stages in (("a", STAGES), ("b", STAGES), ("c", other)):
        (tmp_path / f"n-{who}.json").write_text(json.dumps([WORDS[s] for s in stages]))
    told = {"pattern": "{name}-{scorer}.json", "scorer": "consensus"}
    assert read(tmp_path, **told) == STAGES
    assert read(tmp_path, **told | {"scorer": "c"}) == other
    files = find_files("anna", tmp_path, ["n"], HypnogramConfig(**told), store())
    assert list(files["n"]) == ["a", "b", "c"]
