"""Recordings in several files: one recording, once, its pauses where they were."""

from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from partsig.data.signals.readers import bids, edf_recordings, psg, wfdb_records
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError
from partsig.sleep.staging_files import find_recordings

SETTINGS = ReadConfig(channels=("C4-M1",))
RNG = np.random.default_rng(5)
N, SFREQ = 120, 256  # seconds


def write_split(path: Path, **options) -> Path:
    """Write two minutes of 20 channels in parts of 2 MB, a stage each 30 s."""
    labels = ["C4-M1", *(f"X{k}" for k in range(19))]
    data = RNG.normal(size=(20, N * SFREQ)) * 2e-5
    raw = mne.io.RawArray(data, mne.create_info(labels, SFREQ, "eeg"), verbose="error")
    words = [f"Sleep stage {s}" for s in ("W", "N2", "N3", "R")]
    raw.set_annotations(mne.Annotations(30 * np.arange(4), np.full(4, 30.0), words))
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, split_size="2MB", verbose="error", **options)
    return path


def test_parts_of_a_fif_file_are_one_recording(tmp_path):
    path = write_split(tmp_path / "n_raw.fif")
    others = sorted(tmp_path.glob("n_raw-*.fif"))
    assert others
    assert edf_recordings.find_records(tmp_path) == [path]
    assert find_recordings([tmp_path]) == [path]
    night = edf_recordings.read_recording(path, SETTINGS)
    assert night.stages.tolist() == [0, 2, 3, 4]
    assert night.parts[0].signal.shape == (1, N * SFREQ)
    with pytest.raises(DataError, match=r"n_raw-1\.fif continues 'n_raw\.fif'.*name that one"):
        edf_recordings.read_recording(others[0], SETTINGS)
    before = psg.fingerprint(path)
    others[-1].write_bytes(others[-1].read_bytes()[:-1] + b"\1")
    assert psg.fingerprint(path) != before


def test_parts_in_the_names_of_bids_are_one_recording(tmp_path):
    base = tmp_path / "sub-01/eeg/sub-01_task-sleep_eeg.fif"
    write_split(base, split_naming="bids")
    found = bids.find_records(tmp_path)
    assert [path.name for path in found] == ["sub-01_task-sleep_split-01_eeg.fif"]
    night = bids.read_recording(found[0], SETTINGS)
    assert night.parts[0].signal.shape == (1, N * SFREQ)


def test_a_part_whose_first_is_elsewhere_is_told(tmp_path):
    path = write_split(tmp_path / "n_raw.fif")
    path.rename(tmp_path / "other_raw.fif")
    names = [found.name for found in edf_recordings.find_records(tmp_path)]
    assert names[:2] == ["n_raw-1.fif", "other_raw.fif"]


def test_files_that_are_numbered_and_no_parts_are_recordings(tmp_path):
    for name in ("n_raw.fif", "n_raw-1.fif"):
        info = mne.create_info(["C4-M1"], 100.0, "eeg")
        raw = mne.io.RawArray(RNG.normal(size=(1, 6000)) * 2e-5, info, verbose="error")
        raw.save(tmp_path / name, verbose="error")
    assert len(edf_recordings.find_records(tmp_path)) == 2


def write_segment(folder: Path, name: str, data: np.ndarray, labels=("C4-M1", "O2-M1")) -> None:
    rows = [
        f"{name}.dat 16 10/uV 16 0 {row[0]} {int(row.sum(dtype=np.int16))} 0 {label}"
        for row, label in zip(data, labels, strict=True)
    ]
    head = f"{name} {len(data)} 100 {data.shape[1]}"
    (folder / f"{name}.hea").write_text("\n".join([head, *rows]) + "\n")
    (folder / f"{name}.dat").write_bytes(data.T.astype("<i2").tobytes())


@pytest.fixture
def data() -> np.ndarray:
    return np.round(RNG.normal(size=(2, 18_000)) * 300).astype("<i2")


def test_a_record_of_fixed_layout(tmp_path, data):
    for k in range(3):
        write_segment(tmp_path, f"r_{k}", data[:, 6000 * k : 6000 * (k + 1)])
    lines = ["r/3 2 100 18000 22:00:00 01/02/2020", *(f"r_{k} 6000" for k in range(3))]
    (tmp_path / "r.hea").write_text("\n".join(lines) + "\n")
    assert wfdb_records.find_records(tmp_path) == [tmp_path / "r.hea"]
    assert find_recordings([tmp_path]) == [tmp_path / "r.hea"]
    night = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
    assert night.start == datetime(2020, 2, 1, 22)
    assert (night.gaps, night.notes) == ((), ())
    np.testing.assert_allclose(night.parts[0].microvolts(0), data[0] / 10, atol=1e-4)
    before = night.source
    write_segment(tmp_path, "r_2", data[:, :6000])
    assert wfdb_records.fingerprint(tmp_path / "r.hea") != before


def test_a_record_of_variable_layout_with_a_pause(tmp_path, data):
    layout = "~ 0 10/uV 16 0 0 0 0 {}"
    rows = [layout.format(label) for label in ("O2-M1", "C4-M1")]
    (tmp_path / "r_layout.hea").write_text("\n".join(["r_layout 2 100 0", *rows]) + "\n")
    write_segment(tmp_path, "r_1", data[:, :6000])
    write_segment(tmp_path, "r_2", data[1:, 6000:9000], ("O2-M1",))
    write_segment(tmp_path, "r_3", data[::-1, 9000:], ("O2-M1", "C4-M1"))
    segments = ["r_layout 0", "r_1 6000", "~ 1000", "r_2 3000", "r_3 9000"]
    (tmp_path / "r.hea").write_text("\n".join(["r/5 2 100 19000", *segments]) + "\n")
    assert wfdb_records.find_records(tmp_path) == [tmp_path / "r.hea"]
    night = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
    assert night.gaps == ((60.0, 100.0),)
    values = night.parts[0].microvolts(0)
    np.testing.assert_allclose(values[:6000], data[0, :6000] / 10, atol=1e-4)
    np.testing.assert_allclose(values[10_000:], data[0, 9000:] / 10, atol=1e-4)
    assert "40 s between its segments are bridged and unscored" in night.notes
    assert "1 segments lack a channel and are gaps, first r_2" in night.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../r_1 6000", "not a WFDB header"),
        ("r_1 -5", "not a WFDB header"),
        ("r_1 5000", "segment r_1 has 6000 of 5000 frames"),
        ("nowhere 6000", "nowhere.hea"),
    ],
)
def test_damaged_segments_are_refused(tmp_path, data, line, message):
    write_segment(tmp_path, "r_1", data[:, :6000])
    (tmp_path / "r.hea").write_text(f"r/1 2 100 6000\n{line}\n")
    with pytest.raises(DataError, match=message):
        wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
