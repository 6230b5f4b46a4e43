"""A share of the campaign: nothing is read as another signal, or other stages, without a word."""

import json
import warnings


def test_every_change_once(script):
    campaign = script("fuzz_recordings")
    ways = sum(len(changes) + 1 for changes in campaign.CHANGES.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb's own use of pandas
        table, odd = campaign.campaign(ways, seed=3)
    assert odd == []
    counts = {
        (kind, name): next(iter(each))
        for kind, rows in table.items()
        for name, each in rows.items()
    }
    assert len(counts) == ways
    # What contradicts itself is refused or told; what nobody can know is named as that.
    refused = [
        *(("WFDB", "samples shifted"), ("WFDB", "samples zeroed"), ("WFDB", "marks cut")),
        *(("EEGLAB", "a name more"), ("EEGLAB", "transposed"), ("EEGLAB", "millivolts")),
        *(("BrainVision", "a channel's line lost"), ("FIF", "cut")),
    ]
    assert [counts[key] for key in refused] == ["refused"] * len(refused)
    told = [("EEGLAB", "shorter data"), ("BrainVision", "marks lost"), ("WFDB", "samples cut")]
    assert [counts[key] for key in told] == ["told"] * len(told)
    assert counts["FIF", "names exchanged"] == "untellable"


def test_the_results_that_are_kept_have_nothing_silent(script):
    kept = json.loads(script("fuzz_recordings").RESULTS.read_text())
    assert kept["totals"]["escaped"] == kept["totals"]["silent"] == 0
    assert sum(kept["totals"].values()) >= 2000
    assert kept["untellable because"]
