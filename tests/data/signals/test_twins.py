"""One night under two names is found, is one sleeper in every split, and two nights are two."""

import csv
import json

import numpy as np
import pytest
from partsig.cli import app
from scipy.signal import resample_poly
from typer.testing import CliRunner

import partsig
from partsig.data import splits
from partsig.data.signals import landmarks, peaks
from partsig.data.signals.filters import bandpass_resample
from partsig.data.signals.landmarks import agreement, find_pairs, find_twins, fingerprint
from partsig.data.signals.lazy import OnDisk, room
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.store_index import read_index, write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.runs.run import Run

RATE = 200.0


def band_passed(x, sfreq=RATE):
    return bandpass_resample(np.ascontiguousarray(x, np.float32), sfreq, 100.0)


@pytest.fixture(scope="module")
def nights(request):
    """Twelve recordings of 4 min, three channels, 200 Hz."""
    return [request.getfixturevalue("eeg_like")(3, 48_000, RATE, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def prints(nights):
    return [fingerprint(band_passed(x), 100.0) for x in nights]


def noisy(x):
    return x + 0.03 * x.std() * np.random.default_rng(1).standard_normal(x.shape)


COPIES = {
    "the same": lambda x: (x, RATE),
    "rounded to µV": lambda x: (np.round(x), RATE),
    "noise": lambda x: (noisy(x), RATE),
    "256 Hz": lambda x: (resample_poly(x, 32, 25, axis=1), 256.0),
    "128 Hz": lambda x: (resample_poly(x, 16, 25, axis=1), 128.0),
    "order": lambda x: (x[::-1], RATE),
    "one channel": lambda x: (x[1:2], RATE),
    "gain and offset": lambda x: (0.4 * x + 300, RATE),
    "polarity": lambda x: (-x, RATE),
    "shifted": lambda x: (x[:, 1733:], RATE),
    "cut": lambda x: (x[:, 2_000:-9_001], RATE),
    "a third": lambda x: (x[:, 30_000:46_000], RATE),
    "all": lambda x: (resample_poly(-2 * x[::-1, 1733:], 16, 25, axis=1) + 50, 128.0),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_and_nothing_else(copy, nights, prints):
    for number in (0, 5):
        own = fingerprint(band_passed(*COPIES[copy](nights[number])), 100.0)
        assert find_pairs([*prints, own]) == [(number, len(prints))]


def test_two_recordings_are_two(prints):
    assert find_pairs(prints) == []
    assert {len(p) for p in prints} == {landmarks.KEPT}


@pytest.fixture(scope="module")
def long_nights(request):
    """Three recordings of 15 min, three channels, 200 Hz: not everything is looked at closely."""
    return [request.getfixturevalue("eeg_like")(3, 180_000, RATE, 50 + k) for k in range(3)]


@pytest.fixture(scope="module")
def long_prints(long_nights):
    return [fingerprint(band_passed(x), 100.0) for x in long_nights]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_long_recording_is_found_and_nothing_else(copy, long_nights, long_prints):
    assert long_nights[0].size / RATE > peaks.SHORT_S
    own = fingerprint(band_passed(*COPIES[copy](long_nights[1])), 100.0)
    assert find_pairs([*long_prints, own]) == [(1, 3)]


def test_a_long_recording_is_read_in_pieces_with_the_same_result(long_nights, monkeypatch):
    x = band_passed(long_nights[0])
    whole = fingerprint(x, 100.0)
    on_disk = room(x.shape, np.float32, held=0)
    on_disk[:, :] = x
    assert isinstance(on_disk, OnDisk)
    np.testing.assert_array_equal(fingerprint(on_disk, 100.0), whole)
    monkeypatch.setattr(peaks, "PIECE", 7_000)
    monkeypatch.setattr(peaks, "READ", 3_001)
    np.testing.assert_array_equal(fingerprint(on_disk, 100.0), whole)


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros((2, 24_000)),
        np.full((2, 24_000), 1e5),
        50 * np.sin(np.arange(48_000) * 2 * np.pi / 100).reshape(2, -1),
        np.zeros((2, 3)),
        np.zeros((2, 0)),
        1e-3 * np.random.default_rng(0).standard_normal((2, 24_000)),
    ],
    ids=["zero", "flat", "sine", "short", "empty", "numerical noise"],
)
def test_what_has_no_landmarks_is_nobodys_twin(signal):
    found = fingerprint(signal.astype(np.float32), 100.0)
    assert found.shape == (0, 2)
    assert find_pairs([found, found]) == []
    assert landmarks.decode(landmarks.encode(found)).shape == (0, 2)


def test_the_same_calibration_in_two_nights_is_no_copy(nights):
    """Ten seconds that are in every recording of an amplifier do not make them one."""
    first, second = (band_passed(nights[i]) for i in (0, 1))
    second = second.copy()
    second[:, :1000] = first[:, :1000]
    count, share = agreement(fingerprint(first, 100.0), fingerprint(second, 100.0))
    assert share < landmarks.SHARE or count < landmarks.AGREE
    assert find_pairs([fingerprint(first, 100.0), fingerprint(second, 100.0)]) == []


def test_many_copies_of_one_are_joined(nights):
    copies = [band_passed(nights[0])[:, 50 * k :] for k in range(20)]
    rows = [
        {
            "recording": f"r{k:02}",
            "sha256": f"{k}",
            "n_samples": 1,
            "fingerprint": landmarks.encode(fingerprint(x, 100.0)),
        }
        for k, x in enumerate(copies)
    ]
    assert find_twins(rows) == [("r00", f"r{k:02}") for k in range(1, 20)]


# Stores.

META = make_meta(
    source="edf", ch_names=("A", "B", "C"), sfreq=100.0, l_freq=0.1, h_freq=30.0, dtype="float32"
)


def stored(path, signals, labels=None):
    """Write a store of recordings by name, of a subject each; return it opened."""
    create_store(path, META)
    rows = []
    for name, signal in signals.items():
        n_epochs = signal.shape[1] // 3000
        stages = np.full(n_epochs, 2, np.int8) if labels is None else labels[name]
        recording = Recording(
            name=name,
            subject=f"s-{name}",
            ch_names=META["ch_names"],
            parts=(),
            stages=np.asarray(stages, np.int8),
            source="",
        )
        rows.append(write_recording(path, META, recording, signal.astype(np.float32)))
    write_index(path, rows)
    return open_store(path)


@pytest.fixture(scope="module")
def signals(nights):
    found = {f"n{i:02}": band_passed(x) for i, x in enumerate(nights)}
    found["x-same"] = found["n03"]
    found["x-near"] = -found["n07"][::-1, 333:]
    return found


TWINS = {"s-x-same": "s-n03", "s-x-near": "s-n07"}


def test_a_store_knows_whom_it_holds_twice(signals, tmp_path):
    store = stored(tmp_path / "s", signals)
    assert store.twins == TWINS
    for seed in range(5):
        config = splits.SplitConfig()
        split = splits.split_finetuning(store.labelled_subjects, 4, seed, config, {}, store.twins)
        side = {name: role for role, names in split.items() for name in names}
        for twin, own in TWINS.items():
            assert side.get(twin) == side.get(own)
        groups = {store.twins.get(name, name) for name in split["train"]}
        assert len(groups) == 4


def test_a_store_of_earlier_days_has_equal_samples_alone_and_audit_finds_the_others(
    signals, tmp_path
):
    path = tmp_path / "s"
    stored(path, signals)
    with open(path / "index.csv", newline="") as handle:
        rows = [row[:-2] for row in csv.reader(handle)]
    with open(path / "index.csv", "w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)
    assert {row["fingerprint"] for row in read_index(path)} == {""}
    assert open_store(path).twins == {"s-x-same": "s-n03"}
    found = partsig.audit(path, output=tmp_path / "audit", jobs=1)
    assert found.twins == [("n07", "x-near"), ("n03", "x-same")]
    assert json.loads((tmp_path / "audit/audit.json").read_text())["twins"][0] == ["n07", "x-near"]
    assert "n07 = x-near" in found.page.read_text(encoding="utf-8")


def as_earlier(path, names):
    """Give recordings of a store fingerprints of the earlier kind, of other keys."""
    rows = read_index(path)
    for row in rows:
        if row["recording"] in names:
            other = landmarks.decode(row["fingerprint"]) ^ [[5, 0]]
            text = landmarks.encode(other[np.argsort(other[:, 0])])
            row["fingerprint"] = landmarks.EARLIER + text.removeprefix(landmarks.MARK)
    write_index(path, rows)


def test_two_kinds_of_fingerprints_are_told_apart(signals, tmp_path):
    path = tmp_path / "s"
    stored(path, signals)
    as_earlier(path, set(signals))
    assert open_store(path).twins == TWINS  # those of one earlier kind, among themselves
    assert landmarks.how_many_apart(read_index(path)) == 0
    stored(tmp_path / "m", signals)
    as_earlier(tmp_path / "m", {"n03", "n07"})
    assert open_store(tmp_path / "m").twins == {"s-x-same": "s-n03"}  # by its samples
    assert landmarks.how_many_apart(read_index(tmp_path / "m")) == 2
    found = partsig.audit(tmp_path / "m", output=tmp_path / "audit", jobs=1)
    assert found.twins == [("n07", "x-near"), ("n03", "x-same")]


def test_preprocess_and_audit_tell_of_it(write_night, tmp_path):
    """Also where shards are written by several machines and merged."""
    raw = tmp_path / "raw"
    for name in ("tr03-0005", "tr03-0012", "tr03-0021"):  # the last two have the same noise
        write_night(raw, name)
    done = partsig.preprocess("physionet2018", raw, tmp_path / "s", jobs=1)
    line = "the same recording under two names, which count as one sleeper: tr03-0012 = tr03-0021"
    assert done.notes.count(line) == 1
    for shard in ("1/2", "2/2"):
        partsig.preprocess("physionet2018", raw, tmp_path / "m", jobs=1, shard=shard)
    merged = partsig.preprocess("physionet2018", raw, tmp_path / "m", jobs=1, merge=True)
    assert line in merged.notes
    assert open_store(tmp_path / "m").twins == {"tr03-0021": "tr03-0012"}
    audit = partsig.audit(raw, output=tmp_path / "audit", jobs=1)
    assert audit.twins == [("tr03-0012", "tr03-0021")]
    done = CliRunner().invoke(app, ["audit", str(raw), "--output", str(tmp_path / "cli")])
    assert line in done.output


def test_random_labels_of_a_doubled_store_cannot_be_learned(eeg_like, tmp_path, monkeypatch):
    """Every night is there twice: who remembers one knows nothing of sleepers that are unseen."""
    rng = np.random.default_rng(0)
    signals, labels = {}, {}
    for number in range(24):
        x = band_passed(eeg_like(3, 60_000, RATE, 100 + number))  # ten epochs
        stages = rng.integers(5, size=10)
        for name, own in ((f"a{number:02}", x), (f"b{number:02}", 1.01 * x)):
            signals[name], labels[name] = own, stages
    store = stored(tmp_path / "s", signals, labels)
    assert store.twins == {f"s-b{n:02}": f"s-a{n:02}" for n in range(24)}
    knn = {
        "train": "knn",
        "neighbours": 1,
        "encoder.width": 32,
        "encoder.depth": 1,
        "encoder.heads": 2,
    }
    knn |= {"split.val_subjects": 1}

    def kappa(name):
        run = partsig.finetune(
            "scratch", store.path, tmp_path / name, subjects=0, overrides=knn, device="cpu"
        )
        return partsig.evaluate(run, device="cpu", figures=False).metrics["kappa"]

    told = partsig.finetune(
        "scratch", store.path, tmp_path / "r", subjects=4, overrides=knn, device="cpu"
    )
    split = Run.read(told).split
    for names in split.values():
        assert {n.replace("b", "a") for n in names} == {n for n in names if n[2] == "a"}
    assert len(split["train"]) == 8
    assert abs(kappa("joined")) < 0.25
    monkeypatch.setattr(Store, "twins", {})
    assert kappa("apart") > 0.25
