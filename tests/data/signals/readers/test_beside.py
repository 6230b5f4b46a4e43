"""Which files beside a recording hold its stages, and which of them are told of."""

import importlib.util
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import edfio
import pytest

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import bids, edf_recordings
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

PLACE = Path(__file__).parents[3] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)

SETTINGS = ReadConfig(channels=("C4-M1",))
STAGES = [0, 2, 3, 4]
WORDS = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R"}


def record(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    return edf_bytes.write_edf(folder / f"{name}.edf", [edf_bytes.signal("C4-M1", 100, 120)])


def listed(codes=STAGES):
    return "\n".join(WORDS[code] for code in codes) + "\n"


def read(path, **options):
    settings = replace(SETTINGS, subject=options.pop("subject", ""))
    return edf_recordings.read_recording(
        path, replace(settings, hypnogram=HypnogramConfig(**options))
    )


@pytest.mark.parametrize(
    ("name", "beside", "options"),
    [
        ("n1", "n1.txt", {"pattern": "{stem}.txt"}),
        ("n1 raw", "scores/n1.txt", {"pattern": "scores/{part}.txt", "part": "^(n[0-9]+)"}),
        ("SC4001E0-PSG", "SC4001EC.txt", {"pattern": "{part}*.txt", "part": "^(SC....)"}),
        ("ab_2", "ab.txt", {"pattern": "{subject}.txt", "subject": "^(.+)_"}),
        ("n[1]", "n[1]_x2.txt", {"pattern": "{name}_x*.txt"}),
        ("é1", "é1.txt", {}),
        ("é1", "é1_ü2.txt", {"pattern": "{name}_ü*.txt"}),
        ("é1", "é1_ü.txt", {"pattern": "{name}_ü.txt"}),
        ("n1", "x/anna/n1.txt", {"pattern": "x/{scorer}/{name}.txt"}),
        ("n1", "n1_anna.txt", {"pattern": "{name}_{scorer}.txt", "scorer": "anna"}),
        ("n1", "n1.eannot", {}),
        ("n1_raw", "n1.csv", {}),
    ],
)
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_are_found(tmp_path, name, beside, options, forms):
    path = record(tmp_path, unicodedata.normalize(forms[0], name))
    file = tmp_path / unicodedata.normalize(forms[1], beside)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(("stage\n" if beside.endswith("csv") else "") + listed())
    assert read(path, **options).stages.tolist() == STAGES
    assert len(edf_recordings.find_records(tmp_path)) == 1


def test_a_base_beside_a_psg(tmp_path):
    path = record(tmp_path, "01-01-0001 PSG")
    marks = [(30.0 * k, 30.0, f"Sleep stage {WORDS[c]}") for k, c in enumerate(STAGES)]
    told = [edfio.EdfAnnotation(*mark) for mark in marks]
    edfio.Edf([], annotations=told).write(tmp_path / "01-01-0001 Base.edf")
    night = read(path, offset_s={"01-01-0001 PSG": 0})
    assert night.stages.tolist() == STAGES
    assert "stages from 01-01-0001 Base.edf" in night.notes[0]
    assert [p.stem for p in edf_recordings.find_records(tmp_path)] == ["01-01-0001 PSG"]


def test_the_place_of_a_recording_is_stated_in_any_composition(tmp_path):
    path = record(tmp_path, unicodedata.normalize("NFD", "é1"))
    (tmp_path / "é1.txt").write_text(listed([2]))
    stated = {unicodedata.normalize("NFC", "é1"): 60.0}
    assert read(path, offset_s=stated).stages.tolist() == [-1, -1, 2, -1]


def test_what_was_not_used_is_told(tmp_path):
    path = record(tmp_path, "n")
    (tmp_path / "n.txt").write_text(listed())
    assert read(path).notes == ("stages from n.txt, placed by its length, that of the recording",)
    (tmp_path / "n.annot").write_text("W\t0\t120\n")
    night = read(path)
    assert night.stages.tolist() == STAGES
    assert night.notes[-1] == (
        "found n.annot beside it that was not used: the stages are those of n.txt; pass "
        "--set 'hypnogram.pattern={name}.annot' for the other"
    )
    assert read(path, pattern="{name}.annot").stages.tolist() == [0] * 4
    assert len(read(path, pattern="{name}.annot").notes) == 1


def scorers(folder, name, *others):
    for k, codes in enumerate([STAGES, *others]):
        (folder / f"by {k}").mkdir(parents=True, exist_ok=True)
        (folder / f"by {k}" / f"{name}.json").write_text(json.dumps([WORDS[c] for c in codes]))


def test_a_folder_for_each_scorer(tmp_path):
    path = record(tmp_path / "raw", "n")
    scorers(tmp_path, "n", [0, 1, 3, 4], [0, 2, 2, 2])
    pattern = "../by {scorer}/{name}.json"
    with pytest.raises(
        DataError, match=r"n: the stages of 3 scorers, 0, 1, 2: say whose, with --set"
    ):
        read(path, pattern=pattern)
    assert read(path, pattern=pattern, scorer="1").stages.tolist() == [0, 1, 3, 4]
    night = read(path, pattern=pattern, scorer="consensus")
    assert night.stages.tolist() == STAGES
    assert "consensus of 3 scorers" in " ".join(night.notes)
    with pytest.raises(DataError, match=r"no stages by 7"):
        read(path, pattern=pattern, scorer="7")
    one = edf_recordings.fingerprint(
        path, replace(SETTINGS, hypnogram=HypnogramConfig(pattern=pattern, scorer="1"))
    )
    (tmp_path / "by 2" / "n.json").write_text("[]")
    settings = replace(SETTINGS, hypnogram=HypnogramConfig(pattern=pattern, scorer="1"))
    assert edf_recordings.fingerprint(path, settings) == one  # the others' files are not read


def test_scorers_in_files_of_their_own_formats_and_places(tmp_path):
    """Each file is put in its own place before the vote is taken."""
    path = record(tmp_path, "n")
    (tmp_path / "n_a.txt").write_text(listed())
    rows = "".join(f"22:00:{30 * k:02d},{WORDS[c]},30\n" for k, c in enumerate(STAGES[:2]))
    rows += "22:01:00,N3,30\n22:01:30,R,30\n"
    (tmp_path / "n_b.csv").write_text("time,stage,duration\n" + rows)
    (tmp_path / "n_c.annot").write_text("N1\t0\t120\n")
    night = read(path, pattern="{name}_{scorer}.*", scorer="consensus")
    assert night.stages.tolist() == STAGES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "{nome}.txt"}, r"it may hold \{name\}, .* and \*, and no other"),
        ({"pattern": "{part}.txt"}, r"hypnogram\.part, a regular expression .*, is not set"),
        ({"pattern": "{part}.txt", "part": "^(x+)"}, r"n: hypnogram\.part .* finds nothing"),
        ({"pattern": "{scorer}/{scorer}.txt"}, r"\{scorer\} may stand in it once"),
        ({"scorer": "anna"}, r"n\.txt does not tell whose its stages are"),
    ],
)
def test_patterns_that_are_none(tmp_path, options, message):
    path = record(tmp_path, "n")
    (tmp_path / "n.txt").write_text(listed())
    with pytest.raises(DataError, match=message):
        read(path, **options)


def test_annotations_name_no_scorer(tmp_path):
    path = tmp_path / "n.edf"
    record(tmp_path, "n")
    assert (read(path, scorer="anna").stages == -1).all()  # there are none to choose among


def test_annotators_of_bids(tmp_path):
    folder = tmp_path / "sub-01" / "eeg"
    path = record(folder, "sub-01_task-sleep_eeg")
    other = [0, 1, 3, 4]
    rows = "".join(
        f"{30 * k}\t30\t{WORDS[c]}\t{who}\n"
        for who, codes in (("expert", STAGES), ("yasa", other))
        for k, c in enumerate(codes)
    )
    events = folder / "sub-01_task-sleep_events.tsv"
    events.write_text("onset\tduration\ttrial_type\tannotator\n" + rows)
    with pytest.raises(DataError, match=r"2 scorers, expert, yasa: say whose, .*scorer=expert"):
        bids.read_recording(path, SETTINGS)
    for who, codes in (("expert", STAGES), ("YASA", other)):
        settings = replace(SETTINGS, hypnogram=HypnogramConfig(scorer=who))
        assert bids.read_recording(path, settings).stages.tolist() == codes
    rows = "".join(f"{30 * k}\t30\t{3000 * k}\t{c}\t1\n" for k, c in enumerate(STAGES))
    events.write_text("onset\tduration\tbegsample\tstage_hum\tstage_ai\n" + rows)
    settings = replace(SETTINGS, hypnogram=HypnogramConfig(scorer="hum", codes="yasa"))
    assert bids.read_recording(path, settings).stages.tolist() == STAGES
