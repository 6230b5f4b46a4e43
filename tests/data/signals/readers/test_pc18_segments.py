from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score

from partsig.data.signals.filters import bandpass_resample
from partsig.data.signals.readers import pc18_segments
from partsig.data.signals.store import open_store
from partsig.errors import DataError
from partsig.verbs.preprocess import preprocess

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "pc18_segments"
CHANNELS = ("O2-M1", "E1-M2", "Chin1-Chin2")


def write(path, stages, groups, numbers, seconds=60, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    x = (20 * rng.standard_normal((len(stages), 3, 200 * seconds))).astype(np.int16)
    np.savez(
        path,
        x=x,
        y=np.array(stages, dtype=np.int8),
        group=np.array(groups, dtype=np.int32),
        segment=np.array(numbers, dtype=np.int32),
        ch_names=np.array(CHANNELS),
        sfreq=np.float64(200),
    )
    return x


@pytest.fixture
def raw(tmp_path):
    stages = np.repeat(np.arange(5), 20)
    write(tmp_path / "raw" / "labelled.npz", stages, np.arange(100) // 2, np.arange(100))
    write(tmp_path / "raw" / "unlabelled.npz", [-1] * 6, [0, 49, 70, 71, 72, 73], range(200, 206))
    return tmp_path / "raw"


def test_segments_become_recordings_of_their_stage_and_group(raw, tmp_path):
    result = preprocess("pc18-segments", raw, tmp_path / "store", jobs=1)
    assert result.n_recordings == 106
    assert result.counts == {"W": 40, "N1": 40, "N2": 40, "N3": 40, "REM": 40, "unscored": 12}
    store = open_store(tmp_path / "store")
    assert store.ch_names == CHANNELS
    assert store.labels("segment-00045").tolist() == [2, 2]
    assert store.labels("segment-00203").tolist() == [-1, -1]
    assert store.classes_of("segment-00045") == {2}
    assert store.recordings["segment-00045"]["subject"] == "group-00022"
    with np.load(raw / "labelled.npz") as content:
        signal = content["x"][45].astype(float)
    settings = {"l_freq": 0.1, "h_freq": 30.0, "reflect": "even"}
    expected = bandpass_resample(signal, 200.0, 100.0, **settings)
    np.testing.assert_allclose(store.signal("segment-00045"), expected, atol=1e-4)


def test_test_and_validation_are_blocks_of_numbers_and_whole_groups(raw, tmp_path):
    """Twenty numbers a stage: the last four are test, the one before validation; two a group."""
    roles = pc18_segments.roles(pc18_segments.find_records(raw))
    test = {f"group-{10 * stage + k:05d}" for stage in range(5) for k in (8, 9)}
    assert {subject for subject, role in roles.items() if role == "test"} == test
    val = {f"group-{10 * stage + 7:05d}" for stage in range(5)}
    assert {subject for subject, role in roles.items() if role == "val"} == val
    preprocess("pc18-segments", raw, tmp_path / "store", jobs=1)
    assert open_store(tmp_path / "store").roles == {"test": sorted(test), "val": sorted(val)}


def test_a_test_file_is_the_test_set(raw):
    write(raw / "test.npz", [0, 1], [3, 99], [500, 501])
    roles = pc18_segments.roles(pc18_segments.find_records(raw))
    assert {s for s, role in roles.items() if role == "test"} == {"group-00003", "group-00099"}
    assert {s for s, role in roles.items() if role == "val"} == {
        f"group-{10 * stage + 9:05d}" for stage in range(5)
    }


def test_mistakes_are_told(raw, tmp_path):
    with pytest.raises(DataError, match=r"no \.npz file of segments in .*; pass --raw"):
        preprocess("pc18-segments", tmp_path, tmp_path / "store")
    write(raw / "again.npz", [0], [1], [45])
    with pytest.raises(DataError, match=r"segment-00045 is in .*again\.npz and in .*labelled\.npz"):
        pc18_segments.find_records(raw)
    again = raw / "again2.npz"
    (raw / "again.npz").unlink()
    again.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"again2\.npz is not a file of segments"):
        pc18_segments.find_records(raw)
    np.savez(again, x=np.zeros((2, 3)), y=[0, 0])
    with pytest.raises(DataError, match=r"again2\.npz is not a file of segments"):
        pc18_segments.find_records(raw)


def test_filtering_a_segment_leaks_no_position(eeg_like):
    """Nothing tells the first or last second of a filtered segment from the others.

    Coloured noise; from each second, turned so that it starts at the edge: how large its first
    samples are, its slope there, its mean and SD. A classifier of "at an edge" is near chance for
    an excerpt, and finds nearly every edge that odd reflection leaves.
    """
    raw = eeg_like(200, 12_000, 200.0)

    def accuracy(reflect):
        x = bandpass_resample(raw, 200.0, 100.0, l_freq=0.1, h_freq=30.0, reflect=reflect)
        x = x.reshape(200, 60, 100)[:, [0, 59, 20, 40]]
        x[:, [1, 3]] = x[:, [1, 3], ::-1]
        first = np.abs(x[..., :3]) / x.std(-1, keepdims=True)
        slope = np.abs(np.diff(x[..., :3], axis=-1)) / x.std(-1, keepdims=True)
        rest = np.stack([np.abs(x.mean(-1)), x.std(-1)], -1)
        features = np.concatenate([first, slope, rest], -1).reshape(-1, 7)
        edge = np.tile([1, 1, 0, 0], 200)
        judge = HistGradientBoostingClassifier(max_iter=40, random_state=0)
        order = np.random.default_rng(0).permutation(len(edge))
        return cross_val_score(judge, features[order], edge[order], cv=4).mean()

    assert accuracy("odd") > 0.9
    assert accuracy("even") < 0.62


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real segments are not at hand")
def test_the_real_segments_are_split_without_leaks():
    segments = pc18_segments.find_records(SHARED)
    assert len(segments) == 3118 + 855
    roles = pc18_segments.roles(segments)
    by_role = {"test": set(), "val": set(), None: set()}
    for segment in segments:
        by_role[roles.get(segment.subject)].add(segment.number % 800)
    labelled = [s for s in segments if s.stage >= 0]
    in_test = [s for s in labelled if roles.get(s.subject) == "test"]
    assert 600 < len(in_test) < 800
    block = {s.number for s in labelled if s.number % 800 >= 520}
    assert block <= {s.number for s in in_test}


def test_files_whose_numbers_interleave_are_read_twice_each(tmp_path, monkeypatch):
    """Eight files, number after number in another one; room for two of them in memory."""
    raw, n = tmp_path / "raw", 8
    for file in range(n):
        numbers = np.arange(6) * n + file
        write(raw / f"part{file}.npz", numbers % 5, numbers // 2, numbers, seconds=30, seed=file)
    segments = pc18_segments.find_records(raw)
    assert [s.path.name for s in segments] == [f"part{f}.npz" for f in range(n) for _ in range(6)]
    assert [s.number for s in segments[:6]] == [0, 8, 16, 24, 32, 40]
    monkeypatch.setattr(pc18_segments, "KEPT_BYTES", 0)
    read, real = [], pc18_segments._read
    monkeypatch.setattr(pc18_segments, "_read", lambda path: read.append(path) or real(path))
    pc18_segments._kept.clear()
    preprocess("pc18-segments", raw, tmp_path / "store", jobs=1)
    assert len(read) == 2 * n  # to find the segments, and to read them
    assert len(pc18_segments._kept) == 2
    read.clear()
    preprocess("pc18-segments", raw, tmp_path / "store", jobs=1)
    assert len(read) == 2 * n  # to find the segments, and to compare them
    store = open_store(tmp_path / "store")
    assert list(store.recordings) == [f"segment-{i:05d}" for i in range(6 * n)]
    with np.load(raw / "part3.npz") as content:
        signal = content["x"][2].astype(float)  # number 19
    settings = {"l_freq": 0.1, "h_freq": 30.0, "reflect": "even"}
    expected = bandpass_resample(signal, 200.0, 100.0, **settings)
    np.testing.assert_allclose(store.signal("segment-00019"), expected, atol=1e-4)


def test_a_file_that_was_replaced_is_read_anew(raw):
    path = raw / "labelled.npz"
    before = pc18_segments.fingerprint(pc18_segments.find_records(raw)[0])
    stages = np.repeat(np.arange(5), 20)
    write(path, stages, np.arange(100) // 2, np.arange(100), seed=1)
    assert pc18_segments.fingerprint(pc18_segments.find_records(raw)[0]) != before
