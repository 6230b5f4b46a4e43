"""Subjects of a BIDS tree, whatever the folders above it are called."""

from pathlib import Path

import edfio
import numpy as np
import pytest

from partsig.data.signals.readers import bids
from partsig.data.signals.recordings import ReadConfig
from partsig.data.signals.store import open_store
from partsig.verbs.preprocess import preprocess

SETTINGS = ReadConfig(channels=("C4-M1",))


def write_tree(root: Path) -> Path:
    """A tree of two sleepers, one with a session."""
    for place in ("sub-01/eeg/sub-01_task-sleep", "sub-02/ses-a/eeg/sub-02_ses-a_task-sleep"):
        path = root / f"{place}_eeg.edf"
        path.parent.mkdir(parents=True)
        samples = np.random.default_rng(0).normal(0, 30, 9000)
        edfio.Edf([edfio.EdfSignal(samples, 100, label="C4-M1", physical_dimension="uV")]).write(
            path
        )
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t31\tF\nsub-02\t42\tM\nsub-study\t99\tX\n"
    )
    return root


@pytest.mark.parametrize(
    "above", ["sub-study", "sub-study/sub-x", "sub-01", "sub-02/tree", "sub-", "sub-01_old/sub-02"]
)
def test_folders_above_the_tree_are_no_subjects(tmp_path, above, monkeypatch):
    raw = write_tree(tmp_path / above)
    done = preprocess("bids", raw, tmp_path / "store", overrides={"channels": ["C4-M1"]}, jobs=1)
    assert not done.failed
    rows = [(r["subject"], r["age"], r["sex"]) for r in open_store(tmp_path / "store").rows]
    assert rows == [("sub-01", "31", "F"), ("sub-02", "42", "M")]
    monkeypatch.chdir(raw)
    found = [bids.read_recording(path, SETTINGS) for path in bids.find_records(Path())]
    assert [(r.subject, r.age) for r in found] == [("sub-01", "31"), ("sub-02", "42")]


def test_an_odd_name_is_its_own_reason(tmp_path):
    raw = write_tree(tmp_path / "tree")
    for name in ("sub-01_task-a-b_eeg.edf", "sub-_eeg.edf", "sub-01_task-$x\n_eeg.edf"):
        (raw / "sub-01" / "eeg" / name).write_text("no recording")
    done = preprocess("bids", raw, tmp_path / "store", overrides={"channels": ["C4-M1"]}, jobs=1)
    assert len(done.failed) == 3
    assert len(open_store(tmp_path / "store").rows) == 2


def test_what_is_derived_is_no_recording(tmp_path):
    raw = write_tree(tmp_path / "tree")
    write_tree(raw / "derivatives" / "cleaned")
    assert [path.stem for path in bids.find_records(raw)] == [
        "sub-01_task-sleep_eeg",
        "sub-02_ses-a_task-sleep_eeg",
    ]
