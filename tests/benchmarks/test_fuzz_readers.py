"""A share of the fuzz campaign: no reader lets an exception through, hangs, or ends its process."""

import json
import warnings

import pytest

pytestmark = pytest.mark.slow


def test_a_share_of_the_campaign(script):
    campaign = script("fuzz_readers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb's own use of pandas
        table, odd = campaign.campaign(200, seed=1)
    assert not odd
    assert sum(row["inputs"] for row in table.values()) == 200
    for kind, row in table.items():
        assert row["inputs"] == row["read"] + row["refused"], kind
        assert row["most_mb"] < 1000
        if kind in campaign.OF_MNE:  # with MNE itself, some 100 MB
            assert 0 < row["mne_loaded_mb"] < 1000
            assert 0 < row["mne_most_mb"] < 3000
    assert sum(row["read"] for row in table.values()) > 10


def test_what_is_damaged_was_whole(script, tmp_path):
    files = script("fuzz_files")
    (tmp_path / "c").mkdir()
    for kind, (sets, read) in files.formats(tmp_path).items():
        folder = tmp_path / kind
        folder.mkdir()
        for valid in sets:
            for name, data in valid.items():
                (folder / name).write_bytes(data)
            assert read(folder / next(iter(valid)), files.SETTINGS) is not None
            (folder / next(iter(valid))).unlink()


def test_the_results_that_are_kept_have_no_escape(script):
    campaign = script("fuzz_readers")
    totals = json.loads(campaign.RESULTS.read_text())["totals"]
    assert totals["inputs"] >= 10_000
    assert [totals[key] for key in ("escaped", "hangs", "ended", "refused by the guard")] == [0] * 4
