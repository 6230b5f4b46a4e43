"""``partsig audit``: planted faults in raw records and stores, the tables, the page, exit codes."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

from partsig.data import sample
from partsig.data.signals.hypnograms.stages import STAGES as NAMES
from partsig.data.signals.readers import physionet2018
from partsig.data.signals.recordings import Recording, Rows
from partsig.data.signals.store_index import failed_row, read_index, write_index
from partsig.errors import ConfigError, DataError
from partsig.sleep import html as page
from partsig.sleep.audit import page as audit_pages
from partsig.sleep.audit.measure import read_channel
from partsig.verbs.audit import audit

CHANNELS = ("C3-M2", "Chin1-Chin2")
SFREQ = 128.0
EPOCH = 3840
# Two hours in which every stage is there and N3 comes in blocks.
STAGES = np.repeat([0, 1, 2, 3, 2, 4, 2, 3, 2, 1, 0, 4], 21).astype(np.int8)
OVERRIDES = ("channels=[C3-M2, Chin1-Chin2]",)
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def night(eeg_like) -> np.ndarray:
    """(2, T) µV: noise like EEG whose delta is three times as large in N3."""
    signal = eeg_like(2, len(STAGES) * EPOCH + 1000, SFREQ)
    times = np.arange(signal.shape[1]) / SFREQ
    deep = np.append(np.repeat(STAGES == 3, EPOCH), np.zeros(1000, bool))
    return signal - 10 * np.sin(2 * np.pi * 60 * times) + deep * 60 * np.sin(2 * np.pi * 2 * times)


def write(raw: Path, name: str, signal: np.ndarray, stages=STAGES, **given) -> Path:
    samples = signal.round().astype(np.int16)
    return physionet2018.write_recording(
        raw / name, name, samples, CHANNELS, SFREQ, stages=stages, **given
    )


def findings(raw: Path, tmp_path: Path) -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    found = audit(raw, overrides=OVERRIDES, output=tmp_path / "out", jobs=1)
    return {
        a.recording.name: [(f.level, f.kind, f.channels) for f in a.findings]
        for a in found.recordings
    }


def run(*words: object):
    return CliRunner().invoke(app, ["audit", *map(str, words)])


# Raw records, one fault each.


def test_every_planted_fault_is_found_and_nothing_else(night, tmp_path):
    raw = tmp_path / "raw"
    c3, chin = CHANNELS
    write(raw, "clean", night)
    flat = night.copy()
    flat[0, 30 * EPOCH : 60 * EPOCH] = 0
    write(raw, "flat", flat)
    dead = night.copy()
    dead[1] = 3
    write(raw, "dead", dead)
    cut = night.copy()
    cut[0] = cut[0].clip(-60, 60)
    write(raw, "cut", cut)
    rail = night.copy()
    rail[0, 90 * EPOCH : 92 * EPOCH] = 32767
    write(raw, "rail", rail)
    times = np.arange(night.shape[1]) / SFREQ
    write(raw, "mains", night + 40 * np.sin(2 * np.pi * 50 * times))
    write(raw, "volts", night, units=("V", "V"))
    write(raw, "shifted", night, np.append(STAGES[12:], STAGES[:12]))
    write(raw, "unscored", night, None)
    broken = write(raw, "broken", night).with_suffix(".mat")
    broken.write_bytes(broken.read_bytes()[:-100])
    assert findings(raw, tmp_path) == {
        "clean": [],
        "flat": [("warning", "flat", (c3,))],
        "dead": [("fault", "flat", (chin,))],
        "cut": [("fault", "clipped", (c3,)), ("remark", "unchecked", ())],
        "rail": [("warning", "clipped", (c3,))],
        "mains": [("warning", "line noise", CHANNELS)],
        "volts": [("fault", "unit", CHANNELS)],
        "shifted": [("fault", "shift", ())],
        "unscored": [("remark", "unscored", ())],
        "broken": [("fault", "unreadable", ())],
    }
    recordings = json.loads((tmp_path / "out" / "audit.json").read_text())["recordings"]
    by_name = {row["recording"]: row for row in recordings}
    assert by_name["shifted"]["fit"]["shift"] == 12
    assert by_name["clean"]["fit"]["shift"] == 0
    assert by_name["clean"]["fit"]["n3_above_w"] == 1
    assert by_name["flat"]["channels"][c3]["quality"] == "good*30 flat*30 good*192"
    assert by_name["rail"]["channels"][c3]["quality"] == "good*90 clipped*2 good*160"
    assert by_name["rail"]["channels"][c3]["fault_percent"] == "0*90 100*2 0*160"
    assert by_name["volts"]["channels"][c3]["unit_factor"] == 1e-6
    assert by_name["mains"]["channels"][chin]["line"]["50"]["uv"] == pytest.approx(28.3, rel=0.02)
    assert by_name["clean"]["tail_s"] == pytest.approx(1000 / SFREQ)
    assert "broken.mat" in by_name["broken"]["findings"][0]["text"]


def test_a_shift_is_said_in_epochs_and_direction(night, tmp_path):
    write(tmp_path / "raw", "shifted", night, np.append(STAGES[12:], STAGES[:12]))
    found = audit(tmp_path / "raw", overrides=OVERRIDES, output=tmp_path / "out", jobs=1)
    (text,) = [f.text for f in found.recordings[0].findings]
    assert text.startswith("The stages fit delta power better 12 epochs (360 s) later: N3 above")


# Channels as they are read.


def test_derivations_are_made_and_their_rows_looked_at():
    rng = np.random.default_rng(0)
    fast = rng.integers(-99, 99, (1, 8000)).astype(np.int16)
    fast[0, 10] = 32767
    slow = np.arange(4000, dtype=np.int16)[None]
    limits = {"limits": ((0, 3999),)}

    def rows(signal, sfreq, **given):
        one = {"labels": ("x",), "picks": (0,), "scale": (0.5,), "offset": (2.0,)}
        return Rows(signal=signal, sfreq=sfreq, **one, **given)

    recording = Recording(
        name="n",
        subject="n",
        ch_names=("A-B", "none"),
        parts=(rows(fast, 200.0), rows(slow, 100.0, **limits)),
        mix=np.array([[1.0, -1.0], [0.0, 0.0]]),
        stages=np.zeros(1, np.int8),
        source="",
        start_s=0.01,
    )
    signal, clipped, sfreq = read_channel(recording, 0)
    assert sfreq == 200
    at = np.flatnonzero(clipped[:])
    expected = (fast[0] - np.minimum(np.arange(8000) / 2, 3999)) * 0.5
    assert signal[:] == pytest.approx(expected[2:], abs=1e-3)
    assert at.tolist() == [8, 7996, 7997]  # the lone rail, and the ramp's end
    assert not read_channel(recording, 1)[0][:].any()
    whole = replace(recording, mix=None, start_s=0.0, stop_s=10.0)
    assert read_channel(whole, 1)[0][:].tolist() == ((slow[0, :1000] - 2) * 0.5).tolist()


# Stores, and what is written.


class Walk(HTMLParser):
    """Checks that every tag is closed in its turn; gathers texts, names and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.addresses, self.shapes = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "data", "action")]

    def handle_startendtag(self, tag, attrs):
        self.shapes += tag == "path"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h3":
            self.headings.append(data)


def walk(text: str, linked: bool = False) -> Walk:
    walked = Walk()
    walked.feed(text)
    walked.close()
    assert walked.open == []
    assert linked or walked.addresses == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    return walked


def test_the_bundled_sample_has_no_faults(sample_store, tmp_path):
    ended = run(sample_store, "--output", tmp_path / "out", "--jobs", 1)
    assert ended.exit_code == 0, ended.output
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    index = read_index(sample_store)
    counts = {key: sum(row[key] for row in index) for key in (*NAMES, "unscored")}
    assert report["summary"]["recordings"] == 83
    assert report["summary"]["stages"] == counts
    assert report["summary"]["findings"] == {"fault": 0, "warning": 0, "remark": 12}
    for recording in report["recordings"]:
        assert list(recording["channels"]) == list(sample.CHANNELS)
    with open(tmp_path / "out" / "audit.csv", newline="", encoding="utf-8") as handle:
        rows = {row["recording"]: row for row in csv.DictReader(handle)}
    assert {name: int(row["N3"]) for name, row in rows.items()} == {
        row["recording"]: row["N3"] for row in index
    }
    text = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert walk(text).headings == [recording["recording"] for recording in report["recordings"]]
    assert set(rows) == set(walk(text).headings)
    assert ended.stdout.splitlines()[-2:] == [
        "83 recordings, 8.4 h, 962 scored epochs: 0 faults, 0 warnings, 12 remarks "
        "(the worst 12 above)",
        f"page: {tmp_path / 'out' / 'audit.html'}",
    ]


def test_what_a_store_could_not_read_stays_visible(night, tmp_path):
    import partsig

    raw, store = tmp_path / "raw", tmp_path / "store"
    write(raw, "good", night)
    partsig.preprocess("physionet2018", raw, store, overrides=OVERRIDES, jobs=1)
    rows = [*read_index(store), failed_row("bad<&>", "bad", "bad.mat: truncated.")]
    write_index(store, rows)
    ended = run(store, "--output", tmp_path / "out", "--jobs", 1)
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1] == (
        "partsig: error: 1 of 2 recordings have faults; all findings are in "
        f"{tmp_path / 'out' / 'audit.csv'}."
    )
    lines = ended.stdout.splitlines()
    assert lines[0].split() == [
        "recording",
        "hours",
        "faults",
        "warnings",
        "remarks",
        "worst",
        "finding",
    ]
    assert lines[1].endswith("Not readable: bad.mat: truncated.")
    text = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert walk(text).headings == ["bad<&>", "good"]
    assert "bad<&>" not in text  # escaped
    (store / "signals" / "good.npy").write_bytes(b"")
    again = audit(store, output=tmp_path / "out", jobs=1)
    assert again.n_faulty == 2


def test_the_worst_twenty_are_printed(night, tmp_path):
    for number in range(23):
        write(tmp_path / "raw", f"n{number:02d}", night[:, : 3 * EPOCH], None)
    found = audit(tmp_path / "raw", overrides=OVERRIDES, output=tmp_path / "out", jobs=2)
    lines = found.table.splitlines()
    assert len(lines) == 22
    assert lines[-1].startswith("23 recordings, 0.6 h, 0 scored epochs: 0 faults, 0 warnings, 23 ")
    assert lines[-1].endswith("(the worst 20 above)")


def test_many_are_on_several_pages_the_worst_first(sample_store, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_pages, "ON_ONE_PAGE", 20)
    found = audit(sample_store, output=tmp_path / "out", jobs=1)
    places = [found.page, *(tmp_path / "out" / "pages" / f"{k}.html" for k in range(2, 6))]
    assert sorted((tmp_path / "out" / "pages").iterdir()) == places[1:]
    names = []
    for number, place in enumerate(places):
        walked = walk(place.read_text(encoding="utf-8"), linked=True)
        names += walked.headings
        assert len(walked.headings) == (20 if number < 4 else 3)
        reached = {(place.parent / address).resolve() for address in walked.addresses}
        beside = {places[k].resolve() for k in (0, number - 1, number + 1) if 0 <= k < 5}
        assert reached == beside - {place.resolve()}
    assert names == [a.recording.name for a in found.recordings]
    told = "Recordings 81 to 83 of 83."
    assert told in places[-1].read_text(encoding="utf-8")


@pytest.mark.slow
def test_pages_of_a_larger_audit_before_are_removed(sample_store, tmp_path, monkeypatch):
    folder = tmp_path / "out" / "pages"

    def pages(on_one_page):
        monkeypatch.setattr(audit_pages, "ON_ONE_PAGE", on_one_page)
        audit(sample_store, output=tmp_path / "out", jobs=1)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else None

    assert pages(20) == ["2.html", "3.html", "4.html", "5.html"]
    assert pages(40) == ["2.html", "3.html"]
    assert pages(83) is None
    pages(20)
    (folder / "4.html").write_text("<title>mine</title>")
    (folder / "notes.html").write_text("<title>mine, too</title>")
    assert pages(83) == ["4.html", "notes.html"]


def test_a_restless_night_of_six_channels_is_a_few_kilobytes():
    """So that a page of 1,000 nights stays below 30 MB."""
    rng = np.random.default_rng(0)
    stages = np.repeat(rng.integers(-1, 5, 300), 3)  # a change every 90 s, as in the worst nights
    codes = np.repeat(rng.choice(4, 90, p=[0.7, 0.1, 0.1, 0.1]), 10)
    drawing = page.strip("n", stages, {f"EEG {c}": np.roll(codes, c) for c in range(6)}, 900)
    assert walk(f"<div>{drawing}</div>").shapes < 25
    assert len(drawing) < 30_000


def test_a_strip_is_runs_at_the_right_places():
    drawing = page.strip("n", np.array([-1, 0, 0, 3]), {"C3": np.array([0, 1, 1, 2])}, 8)
    assert 'viewBox="0 0 4 66"' in drawing
    assert "width:50%" in drawing
    assert '<path fill="#E3E3E3" d="M0 0h1v50h-1z"/>' in drawing
    assert '<path fill="#E69F00" d="M1 2h2v6h-2z"/>' in drawing  # wake, on top
    assert '<path fill="#0B3C6F" d="M3 42h1v6h-1z"/>' in drawing  # N3, at the bottom
    assert '<path fill="#000000" d="M1 53h2v10h-2z"/>' in drawing
    assert '<path fill="#D55E00" d="M3 53h1v10h-1z"/>' in drawing


# Mistakes.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no folder nowhere: pass a store, or the folder of raw recordings."),
        ([], "no folder data/raw/physionet2018: pass a store"),
        (["empty"], "no records in empty: expected headers"),
        (["empty", "--source", "floppy"], "source is 'floppy'; it can be 'physionet2018'"),
        (["empty", "--set", "chanels=[A]"], "unknown key 'chanels'; nearest is 'channels'"),
        (["empty", "--jobs", "0"], "--jobs is 0; it can be a number of threads"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ended = run(*words)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"partsig: error: {message}")
    assert ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_store_takes_no_settings_of_reading(sample_store, tmp_path):
    with pytest.raises(ConfigError, match="is a store, read already; --set is for raw recordings"):
        audit(sample_store, overrides=OVERRIDES, output=tmp_path / "out")
    with pytest.raises(DataError, match="no folder"):
        audit(tmp_path / "none")
