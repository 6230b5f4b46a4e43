"""WFDB annotations: the judge is wfdb, and the format's own definition."""

import numpy as np
import pytest
import wfdb

from partsig.data.signals.readers.physionet2018 import STAGE_CODES
from partsig.data.signals.readers.wfdb_annotations import (
    read_annotations,
    stages_from_marks,
    write_annotations,
)
from partsig.errors import DataError

# An odd and an even text, intervals below and above 2**10 and 2**16, two marks at one sample.
SAMPLES = [1, 6000, 6000, 7023, 80_000, 5_000_000]
TEXTS = ["W", "N1", "(resp_hypopnea", "resp_hypopnea)", "R", "N3"]


@pytest.mark.parametrize(("name", "count"), [("tr03-0005", 240), ("tr03-0029", 496)])
def test_real_file_reads_as_wfdb_reads_it(challenge_files, name, count):
    expected = wfdb.rdann(str(challenge_files / name), "arousal")
    samples, texts, resolution = read_annotations(challenge_files / f"{name}.arousal")
    assert len(samples) == count
    np.testing.assert_array_equal(samples, expected.sample)
    assert texts == expected.aux_note
    assert resolution == expected.fs == 200


def test_written_file_is_read_by_wfdb(tmp_path):
    write_annotations(tmp_path / "night.arousal", SAMPLES, TEXTS, 200)
    found = wfdb.rdann(str(tmp_path / "night"), "arousal")
    assert found.sample.tolist() == SAMPLES
    assert found.aux_note == TEXTS
    assert found.fs == 200


def test_file_written_by_wfdb_is_read(tmp_path):
    wfdb.wrann(
        "night",
        "arousal",
        np.array(SAMPLES),
        symbol=['"'] * len(SAMPLES),
        aux_note=TEXTS,
        fs=200,
        write_dir=str(tmp_path),
    )
    samples, texts, resolution = read_annotations(tmp_path / "night.arousal")
    assert (samples.tolist(), texts, resolution) == (SAMPLES, TEXTS, 200)


def test_annotation_at_sample_0_is_kept(tmp_path):
    write_annotations(tmp_path / "night.arousal", [0, 6000], ["W", "N1"], 200)
    samples, texts, _ = read_annotations(tmp_path / "night.arousal")
    assert (samples.tolist(), texts) == ([0, 6000], ["W", "N1"])


@pytest.mark.skipif(wfdb.__version__ != "4.3.1", reason="known of wfdb 4.3.1 only")
def test_why_wfdb_does_not_read_them(tmp_path):
    write_annotations(tmp_path / "night.arousal", [0, 6000], ["W", "N1"], 200)
    assert wfdb.rdann(str(tmp_path / "night"), "arousal").sample.tolist() == [6000]


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "night.arousal"
    write_annotations(path, SAMPLES, TEXTS, 200)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"night\.arousal: the annotation file is cut off"):
            read_annotations(path)


def test_unreadable_resolution_is_named(tmp_path):
    path = tmp_path / "night.arousal"
    write_annotations(path, [0], ["W"], 200)
    path.write_bytes(path.read_bytes().replace(b"resolution: 200", b"resolution: two"))
    with pytest.raises(DataError, match="cannot read the time resolution in '## time resolution"):
        read_annotations(path)


def naive_stages(marks: dict[int, int], n_times: int, per_epoch: int) -> list[int]:
    """Sample by sample: the last mark holds; an epoch has the stage of its first sample."""
    current, per_sample = -1, []
    for sample in range(n_times):
        current = marks.get(sample, current)
        per_sample.append(current)
    return per_sample[: n_times // per_epoch * per_epoch : per_epoch]


@pytest.mark.parametrize("seed", range(8))
def test_stages_equal_a_walk_over_the_samples(seed):
    rng = np.random.default_rng(seed)
    n_epochs = int(rng.integers(1, 30))
    n_times = n_epochs * 60 + int(rng.integers(60))  # 2 Hz
    at = rng.choice(n_epochs, size=int(rng.integers(0, n_epochs + 1)), replace=False) * 60
    names = list(STAGE_CODES)
    texts = [names[i] for i in rng.integers(5, size=len(at))]
    marks = {int(s): STAGE_CODES[t] for s, t in zip(at, texts, strict=True)}
    events = ["(resp_hypopnea", "resp_hypopnea)", "(arousal_rera"]
    samples, texts = [*at, 17, 19, 3], [*texts, *events]  # unsorted, off the grid
    found = stages_from_marks("n", samples, texts, STAGE_CODES, n_times, 2.0)
    assert found.dtype == np.int8
    assert found.tolist() == naive_stages(marks, n_times, 60)


@pytest.mark.parametrize(
    ("samples", "texts", "message"),
    [
        ([6000], ["N4"], r"n: unknown stage 'N4' at 30 s; known stages are W, N1, N2, N3, R\."),
        ([6001], ["W"], r"n: stage mark 'W' at 30\.005 s lies off the 30-s grid"),
        ([18_000], ["W"], r"lies outside the record \(record of 60 s\)"),
        ([-6000], ["W"], r"lies outside the record"),
        ([6000, 6000], ["W", "R"], r"n: two stages, 'W' and 'R', at 30 s"),
    ],
)
def test_marks_that_cannot_be_placed(samples, texts, message):
    with pytest.raises(DataError, match=message):
        stages_from_marks("n", samples, texts, STAGE_CODES, 12_000, 200.0)
