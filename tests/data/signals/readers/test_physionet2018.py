"""The challenge's records: held against wfdb, SciPy and the challenge's own stage vectors."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import wfdb

from partsig.data.signals.hypnograms.stages import count_stages
from partsig.data.signals.readers import physionet2018 as challenge
from partsig.data.signals.readers.wfdb_annotations import (
    read_annotations,
    stages_from_marks,
    write_annotations,
)
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

VECTORS = ("wake", "nonrem1", "nonrem2", "nonrem3", "rem", "undefined")
UNDEFINED = 5


def microvolts(recording) -> np.ndarray:
    """(C, T) µV by the definition in Rows."""
    (part,) = recording.parts
    rows = [
        (part.signal[pick].astype(float) - offset) * scale
        for pick, scale, offset in zip(part.picks, part.scale, part.offset, strict=True)
    ]
    return np.array(rows)


def edit(path: Path, old: bytes, new: bytes, count: int = -1) -> None:
    before = path.read_bytes()
    assert old in before
    path.write_bytes(before.replace(old, new, count))


# Real files.


@pytest.fixture
def real_record(challenge_files, tmp_path) -> Path:
    """The real header and annotations of tr03-0005 beside a signal of zeros (a sparse file)."""
    for suffix in (".hea", ".arousal"):
        shutil.copy(challenge_files / f"tr03-0005{suffix}", tmp_path)
    (tmp_path / "tr03-0005-arousal.mat").symlink_to(challenge_files / "tr03-0005-arousal.mat")
    with open(tmp_path / "tr03-0005.mat", "wb") as handle:
        handle.write(np.array([30, 13, 5_147_000, 0, 4], "<i4").tobytes() + b"val\0")
        handle.truncate(24 + 5_147_000 * 13 * 2)
    return tmp_path / "tr03-0005.hea"


def test_real_header(real_record):
    assert real_record.read_bytes().count(b"\r\n") == 14
    assert challenge.find_records(real_record.parent) == [real_record]
    found = challenge.read_recording(real_record, ReadConfig(verify=False))
    (part,) = found.parts
    assert (found.name, found.subject, part.sfreq) == ("tr03-0005", "tr03-0005", 200.0)
    assert part.signal.shape == (13, 5_147_000)
    assert part.picks == (0, 1, 2, 3, 4, 5)
    assert part.scale == (1.0,) * 6
    assert part.offset == (0.0,) * 6
    assert found.mix is None
    assert count_stages(found.stages)["unscored"] == 12  # scoring starts at 360 s
    assert len(found.stages) == 857  # 5,147,000 samples are 857.83 epochs


def test_real_checksums_tell_zeros_from_the_night(real_record):
    with pytest.raises(DataError, match="'F3-M2' starts with 0, the header says -9"):
        challenge.read_recording(real_record)


def test_a_millivolt_channel_is_scaled(real_record):
    settings = ReadConfig(channels=("ECG",), verify=False)
    assert challenge.read_recording(real_record, settings).parts[0].scale == (1.0,)


def test_a_percentage_is_no_voltage(real_record):
    with pytest.raises(DataError, match=r"tr03-0005: channel 'SaO2' is in '%', not a voltage"):
        challenge.read_recording(real_record, ReadConfig(channels=("SaO2",)))


@pytest.mark.parametrize(
    ("name", "n_times", "lead_in"), [("tr03-0005", 5_147_000, 12), ("tr03-0029", 4_770_000, 18)]
)
def test_real_stages_equal_the_per_sample_vectors(challenge_files, name, n_times, lead_in):
    with h5py.File(challenge_files / f"{name}-arousal.mat") as file:
        group = file["data/sleep_stages"]
        vectors = np.stack([group[vector][0] for vector in VECTORS])  # (6, T), one-hot
    assert vectors.shape == (6, n_times)
    samples, texts, _ = read_annotations(challenge_files / f"{name}.arousal")
    stages = stages_from_marks(name, samples, texts, challenge.STAGE_CODES, n_times, 200.0)
    # The vectors switch one sample before each mark (counted from 1), so an epoch is compared
    # by its majority, which is all of it but one sample.
    per_epoch = vectors[:, : len(stages) * 6000].reshape(6, -1, 6000).sum(axis=2)
    assert per_epoch.max(axis=0).min() == 5999
    expected = per_epoch.argmax(axis=0)
    np.testing.assert_array_equal(stages, np.where(expected == UNDEFINED, -1, expected))
    assert (stages[:lead_in] == -1).all()
    assert (stages[lead_in:] >= 0).all()


@pytest.mark.slow
def test_the_hypnograms_of_all_nights_survive_writing_and_reading(challenge_files, tmp_path):
    totals, n_nights, undefined = dict.fromkeys(challenge.PUBLISHED, 0), 0, 0
    with np.load(challenge_files / "pc18_hypnograms_30s.npz") as nights:
        for key in nights:
            if not key.endswith("/stage"):
                continue
            name = key.removesuffix("/stage")
            stages = nights[key].astype(np.int8)
            stages[stages == UNDEFINED] = -1
            signal = np.zeros((1, len(stages) * 30 + 17), np.int16)  # 1 Hz, and a tail
            header = challenge.write_recording(tmp_path, name, signal, ("C3-M2",), 1, stages=stages)
            found = challenge.read_recording(header, ReadConfig(channels=("C3-M2",))).stages
            np.testing.assert_array_equal(found, stages, err_msg=name)
            counts = count_stages(found)
            undefined += counts.pop("unscored")
            totals = {stage: totals[stage] + n for stage, n in counts.items()}
            n_nights += 1
    assert n_nights == challenge.N_TRAINING
    assert totals == challenge.PUBLISHED
    assert (sum(totals.values()), undefined) == (892_262, 26_984)


def test_real_demographics(challenge_files, tmp_path):
    shutil.copy(challenge_files / "age-sex.csv", tmp_path)
    found = challenge.read_demographics(tmp_path)
    assert len(found) == 1983
    assert found["te03-0024"] == ("31", "M")
    (tmp_path / "training").mkdir()
    assert challenge.read_demographics(tmp_path / "training") == found


# Written files, judged by wfdb and SciPy.


@pytest.mark.parametrize(
    ("gain", "per_unit"),
    [
        (b"1/uV", 1.0),
        (b"200/mV", 1e3),
        (b"655.35(-3276)/mV", 1e3),
        (b"2.5(40)/uV", 1.0),
        (b"0/uV", 1.0),  # the format's word for its default, 200 per unit
    ],
)
def test_samples_equal_wfdb(write_night, tmp_path, gain, per_unit):
    header = write_night(tmp_path)
    edit(header, b"1/uV", gain)
    expected = wfdb.rdrecord(str(header.with_suffix("")))
    channels = ("O2-M1", "F3-M2", "C4-M1")
    found = challenge.read_recording(header, ReadConfig(channels=channels))
    order = [expected.sig_name.index(channel) for channel in channels]
    np.testing.assert_allclose(
        microvolts(found), expected.p_signal.T[order] * per_unit, rtol=1e-12, atol=1e-9
    )
    assert found.parts[0].signal.shape == (7, 31_000)
    assert isinstance(found.parts[0].signal, np.memmap)


def test_written_record_is_read_by_wfdb_and_scipy(write_night, tmp_path):
    header = write_night(tmp_path)
    digital = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    val = scipy.io.loadmat(header.with_suffix(".mat"))["val"]
    np.testing.assert_array_equal(digital.d_signal.T, val)
    differences = np.subtract(digital.checksum, digital.calc_checksum())
    assert (differences % 2**16).tolist() == [0] * 7  # headers of the challenge hold them signed
    assert digital.init_value == val[:, 0].tolist()
    assert digital.sig_name == [*challenge.CHANNELS, "E1-M2"]
    marks = wfdb.rdann(str(header.with_suffix("")), "arousal")
    assert marks.sample.tolist() == [6000, 12_000, 18_000, 24_000]
    assert marks.aux_note == ["W", "N1", "N2", "R"]


def test_lead_in_is_unscored_and_the_tail_dropped(write_night, tmp_path):
    found = challenge.read_recording(write_night(tmp_path, stages=(-1, -1, 0, 3), seconds=179.995))
    assert found.stages.tolist() == [-1, -1, 0, 3, 3]  # the last mark holds; 29.995 s are dropped


def test_scored_from_sample_0(write_night, tmp_path):
    found = challenge.read_recording(write_night(tmp_path, stages=(2, 2, 4, 4, 0)))
    assert found.stages.tolist() == [2, 2, 4, 4, 0]


def test_record_without_annotations_is_unscored(write_night, tmp_path):
    found = challenge.read_recording(write_night(tmp_path, "te03-0001", stages=None))
    assert found.stages.tolist() == [-1] * 5


def test_arousal_mat_is_never_read(write_night, tmp_path):
    header = write_night(tmp_path)
    header.with_name("tr03-0001-arousal.mat").write_bytes(b"not a signal")
    assert challenge.find_records(tmp_path) == [header]
    assert challenge.read_recording(header).parts[0].signal.shape == (7, 31_000)


@pytest.mark.parametrize("below", ["", "training", "training/night"])
def test_records_are_found_at_three_depths(write_night, tmp_path, below):
    names = ["tr03-0002", "tr03-0001"]
    folder = tmp_path / below
    for name in names:
        header = write_night(tmp_path / "made", name)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(header, folder)
    shutil.rmtree(tmp_path / "made")
    found = challenge.find_records(tmp_path)
    assert [path.stem for path in found] == sorted(names)


def test_unscored_after_a_stage_cannot_be_written(write_night, tmp_path):
    with pytest.raises(DataError, match="cannot mark an unscored epoch after the first stage"):
        write_night(tmp_path, stages=(0, 1, -1, 2, 2))


# Damage. Each case spoils one good record and names what the user must be told.


def cut(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])


def swap_sample(path: Path, sample: int) -> None:
    """Change one sample of the first channel by one."""
    data = bytearray(path.read_bytes())
    data[24 + sample * 14] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "truncated signal": (
        lambda h: cut(h.with_suffix(".mat"), 24 + 14 * 20_000 + 3),
        r"tr03-0001\.mat: 20000 of 31000 samples \(truncated\); download it again",
    ),
    "signal shorter than its header": (
        lambda h: cut(h.with_suffix(".mat"), 10),
        r"0 of 31000 samples \(truncated\)",
    ),
    "signal too long": (
        lambda h: h.with_suffix(".mat").write_bytes(h.with_suffix(".mat").read_bytes() + bytes(14)),
        r"31001 of 31000 samples \(too long\)",
    ),
    "signal missing": (
        lambda h: h.with_suffix(".mat").unlink(),
        r"tr03-0001\.mat: the header names this file and it is not there",
    ),
    "signal of another type": (
        lambda h: edit(h.with_suffix(".mat"), b"\x1e\0\0\0", b"\0\0\0\0", 1),
        r"not an int16 MATLAB-v4 matrix of 7 x 31000",
    ),
    "one sample changed": (
        lambda h: swap_sample(h.with_suffix(".mat"), 12_345),
        r"tr03-0001: wrong checksum of channel 'F3-M2' \(-?\d+, the header says -?\d+\)",
    ),
    "last sample changed": (
        lambda h: swap_sample(h.with_suffix(".mat"), 30_999),
        r"wrong checksum of channel 'F3-M2'",
    ),
    "first sample changed": (
        lambda h: swap_sample(h.with_suffix(".mat"), 0),
        r"channel 'F3-M2' starts with -?\d+, the header says -?\d+",
    ),
    "garbage header": (
        lambda h: h.write_bytes(bytes(range(256))),
        r"tr03-0001\.hea: ",
    ),
    "empty header": (lambda h: h.write_bytes(b""), r"tr03-0001\.hea: not a WFDB header"),
    "header cut after its first line": (
        lambda h: cut(h, h.read_bytes().index(b"\r\n") + 2),
        r"tr03-0001\.hea: ",
    ),
    "no signals": (
        lambda h: h.write_bytes(b"tr03-0001 0 200 31000\r\n"),
        r"the header names no signals",
    ),
    "no length": (
        lambda h: edit(h, b" 200 31000", b" 200"),
        r"the header gives None samples at 200\.? ?.*Hz",
    ),
    "rate of nearly nothing": (
        lambda h: edit(h, b" 200 31000", b" 0.001 31000"),
        r"31000 samples at 0\.001 Hz; expected at least one, at 1 Hz or more",
    ),
    "another sample format": (
        lambda h: edit(h, b"16+24", b"212"),
        r"not in the challenge's layout",
    ),
    "several samples per frame": (
        lambda h: edit(h, b"16+24", b"16x2+24"),
        r"not in the challenge's layout",
    ),
    "skew": (lambda h: edit(h, b"16+24", b"16:5+24"), r"not in the challenge's layout"),
    "signal of no name": (
        lambda h: edit(h, b"tr03-0001.mat", b"."),
        r"not in the challenge's layout",
    ),
    "several segments": (
        lambda h: edit(h, b"tr03-0001 7", b"tr03-0001/3 7"),
        r"tr03-0001\.hea: (not a WFDB header|a header of several segments)",
    ),
    "another number of signals": (
        lambda h: edit(h, b"tr03-0001 7", b"tr03-0001 8"),
        r"not in the challenge's layout",
    ),
    "infinite gain": (lambda h: edit(h, b"1/uV", b"1e999/uV"), r"not in the challenge's layout"),
    "gain of nearly nothing": (
        lambda h: edit(h, b"1/uV", b"1e-320/uV"),
        r"not in the challenge's layout",
    ),
    "zero beyond any sample": (
        lambda h: edit(h, b"1/uV", b"1(9999999999)/uV"),
        r"not in the challenge's layout",
    ),
    "endless rate": (lambda h: edit(h, b" 200 ", b" %s " % (b"9" * 400)), r"not a WFDB header"),
    "missing channel": (
        lambda h: edit(h, b"C4-M1", b"C4-X1"),
        r"tr03-0001: channel 'C4-M1' not found; it has F3-M2, F4-M1, C3-M2, C4-X1, O1-M2, O2-M1, "
        r"E1-M2\. Pass --set channels=\[…\]",
    ),
    "channel in per cent": (
        lambda h: edit(h, b"1/uV", b"1/%", 1),
        r"channel 'F3-M2' is in '%', not a voltage",
    ),
    "annotations cut off": (
        lambda h: cut(h.with_suffix(".arousal"), 50),
        r"tr03-0001\.arousal: the annotation file is cut off",
    ),
    "annotations at another rate": (
        lambda h: write_annotations(h.with_suffix(".arousal"), [0], ["W"], 100),
        r"tr03-0001: annotations count at 100 Hz, the header at 200 Hz",
    ),
    "stage off the grid": (
        lambda h: write_annotations(h.with_suffix(".arousal"), [6100], ["W"], 200),
        r"tr03-0001: stage mark 'W' at 30\.5 s lies off the 30-s grid",
    ),
    "unknown stage": (
        lambda h: write_annotations(h.with_suffix(".arousal"), [6000], ["S2"], 200),
        r"tr03-0001: unknown stage 'S2' at 30 s; known stages are W, N1, N2, N3, R",
    ),
    "mark beyond the end": (
        lambda h: write_annotations(h.with_suffix(".arousal"), [36_000], ["W"], 200),
        r"tr03-0001: stage mark 'W' at 180 s lies outside the record \(record of 155 s\)",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(write_night, tmp_path, case):
    header = write_night(tmp_path)
    spoil, message = DAMAGE[case]
    spoil(header)
    with pytest.raises(DataError, match=message):
        challenge.read_recording(header)


@pytest.mark.parametrize("case", ["one sample changed", "first sample changed"])
def test_verification_can_be_left_out(write_night, tmp_path, case):
    header = write_night(tmp_path)
    DAMAGE[case][0](header)
    found = challenge.read_recording(header, ReadConfig(verify=False))
    assert found.parts[0].signal.shape == (7, 31_000)


def test_an_unused_channel_may_be_damaged(write_night, tmp_path):
    header = write_night(tmp_path)
    swap_sample(header.with_suffix(".mat"), 12_345)
    assert challenge.read_recording(header, ReadConfig(channels=("F4-M1",))).parts[0].picks == (1,)


def test_record_twice(write_night, tmp_path):
    write_night(tmp_path)
    write_night(tmp_path / "copy")
    with pytest.raises(DataError, match=r"record tr03-0001 is there twice: .* and .*; keep one"):
        challenge.find_records(tmp_path)


def test_missing_and_empty_folder(tmp_path):
    with pytest.raises(DataError, match=f"no folder {re.escape(str(tmp_path / 'no'))}: pass --raw"):
        challenge.find_records(tmp_path / "no")
    with pytest.raises(DataError, match=f"no records in {re.escape(str(tmp_path))}: expected head"):
        challenge.find_records(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,years\nx,3\n", "expected the columns Record, Sex, Age"),
        (b"Record,Sex,Age\n\xff\xfe,M,3\n", "is not a readable table"),
    ],
)
def test_demographics_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "age-sex.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"age-sex\.csv.*{message}"):
        challenge.read_demographics(tmp_path)


def test_demographics_are_optional(tmp_path):
    (tmp_path / "raw").mkdir()
    assert challenge.read_demographics(tmp_path / "raw") == {}


def test_the_three_nights_scored_from_sample_0(challenge_files):
    with np.load(challenge_files / "pc18_hypnograms_30s.npz") as nights:
        stages = {key.removesuffix("/stage"): nights[key] for key in nights if "/stage" in key}
    first = {name: night for name, night in stages.items() if night[0] != UNDEFINED}
    runs = {
        name: (challenge.STAGES[night[0]], int(np.flatnonzero(night != night[0])[0]))
        for name, night in first.items()
    }
    assert runs == challenge.SCORED_FROM_0


def test_counts_are_held_against_the_published_ones():
    # Without the three first runs the sum is the one that readers built on wfdb report.
    without = challenge.PUBLISHED | {"N2": 377_821, "REM": 116_864}
    assert sum(without.values()) == 892_200
    (sentence,) = challenge.check_published(without)
    assert sentence == (
        "Counts equal the published ones, but for 62 epochs before the first mark of "
        "tr03-0314 (13 REM), tr05-0326 (47 N2), tr07-0602 (2 N2)."
    )
    assert challenge.check_published(challenge.PUBLISHED | {"W": 1}) == [
        "W: 1 epochs, published are 157,945."
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"tr03-{i:04d}" for i in range(994)], True),
        ([f"tr03-{i:04d}" for i in range(993)], False),
        ([f"te03-{i:04d}" for i in range(994)], False),
    ],
)
def test_training_set_is_recognised(names, expected):
    assert challenge.is_training_set(names) is expected
