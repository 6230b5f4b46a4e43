"""What a run has learned from is known in another store, also where an earlier partsig wrote it."""

import shutil
from types import SimpleNamespace

import pytest

from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import read_index, write_index
from partsig.modalities.signal_transfer import learned_from


@pytest.mark.parametrize("earlier", [None, "", ":BwAAAAoAAAA="], ids=["today's", "none", "kind 1"])
def test_what_was_learned_from_is_known_by_its_fingerprint(earlier, sample_store, tmp_path):
    other = shutil.copytree(sample_store, tmp_path / "other")
    rows = read_index(other)
    for row in rows:
        row["sha256"] = row["sha256"][::-1]  # as of another export
        row["fingerprint"] = row["fingerprint"] if earlier is None else earlier
    write_index(other, rows)
    subject = open_store(sample_store).labelled_subjects[1]
    run = SimpleNamespace(store=sample_store, seen_labelled=[subject])
    theirs = open_store(other)
    assert len(theirs.subjects) > 2
    assert learned_from(run, theirs, list(theirs.recordings)) == theirs.subjects[subject]
