"""Checksums, counts and ranges that lie: held against the file, told, or refused."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals.readers import edf_recordings, wfdb_records
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError
from partsig.verbs.preprocess import preprocess

PLACE = Path(__file__).parents[3] / "edf_bytes.py"
spec = importlib.util.spec_from_file_location("edf_bytes", PLACE)
edf_bytes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(edf_bytes)
signal, write_edf = edf_bytes.signal, edf_bytes.write_edf

SETTINGS = ReadConfig(channels=("C4-M1",))
RNG = np.random.default_rng(3)


def write_record(folder: Path, data: np.ndarray, held: bytes | None = None, **fields) -> Path:
    """Write (T, C) as a record in format 16; ``held`` is what the file has instead."""
    rows = []
    for c, label in enumerate(("C4-M1", "O2-M1")[: data.shape[1]]):
        first = fields.get("first", int(data[0, c]))
        checksum = fields.get("checksum", int(data[:, c].sum(dtype=np.int16)))
        rows.append(f"r.dat 16 10/uV 16 0 {first} {checksum} 0 {label}")
    head = f"r {data.shape[1]} 100 {len(data)}"
    (folder / "r.hea").write_text("\n".join([head, *rows]) + "\n")
    (folder / "r.dat").write_bytes(data.astype("<i2").tobytes() if held is None else held)
    return folder / "r.hea"


@pytest.fixture
def data() -> np.ndarray:
    return np.round(RNG.normal(size=(6000, 2)) * 300).astype("<i2")


def test_a_record_whose_checksums_fit(tmp_path, data):
    night = wfdb_records.read_recording(write_record(tmp_path, data), SETTINGS)
    np.testing.assert_allclose(night.parts[0].microvolts(0), data[:, 0] / 10, atol=1e-4)


def test_samples_that_the_checksum_does_not_fit_are_refused(tmp_path, data):
    held = bytearray(data.tobytes())
    held[4000:6000] = bytes(2000)
    header = write_record(tmp_path, data, bytes(held))
    with pytest.raises(DataError, match=r"r: wrong checksum of channel 'C4-M1' .*verify=false"):
        wfdb_records.read_recording(header, SETTINGS)
    unverified = ReadConfig(channels=("C4-M1",), verify=False)
    assert len(wfdb_records.read_recording(header, unverified).parts) == 1


def test_a_file_that_begins_late_is_refused(tmp_path, data):
    header = write_record(tmp_path, data, data.tobytes()[2:] + b"\0\0")
    with pytest.raises(DataError, match=rf"starts with {data[0, 1]}, the header says {data[0, 0]}"):
        wfdb_records.read_recording(header, SETTINGS)
    # Cut off, too: the first value is all there is to hold it against.
    header = write_record(tmp_path, data, data.tobytes()[2:4002])
    with pytest.raises(DataError, match="the header says"):
        wfdb_records.read_recording(header, SETTINGS)


def test_zeros_in_the_header_tell_nothing(tmp_path, data):
    header = write_record(tmp_path, data, first=0, checksum=0)
    assert wfdb_records.read_recording(header, SETTINGS).notes == ()


@pytest.mark.parametrize("sum_of_missing", [-(2**15), -(2**11)])
def test_samples_that_were_not_digitised_count_either_way(tmp_path, sum_of_missing):
    values = np.round(RNG.normal(size=6000) * 300).astype(int)
    values[1000:1100] = -(2**11)
    a, b = values[0::2] & 0xFFF, values[1::2] & 0xFFF
    packed = np.stack([a & 0xFF, (a >> 8) | ((b >> 8) << 4), b & 0xFF], 1).astype(np.uint8)
    told = values.sum() + 100 * (sum_of_missing + 2**11)
    checksum = (int(told) + 2**15) % 2**16 - 2**15
    (tmp_path / "r.dat").write_bytes(packed.tobytes())
    line = f"r.dat 212 10/uV 12 0 {values[0]} {checksum} 0 C4-M1"
    (tmp_path / "r.hea").write_text(f"r 1 100 6000\n{line}\n")
    night = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
    assert night.notes == ("100 missing samples of C4-M1 are bridged",)
    (tmp_path / "r.hea").write_text(f"r 1 100 6000\n{line.replace(str(checksum), '77')}\n")
    with pytest.raises(DataError, match="wrong checksum"):
        wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)


def test_format_8_has_no_sample_that_was_not_digitised(tmp_path):
    values = np.cumsum(RNG.integers(-9, 10, 6000))
    values -= values[3000] + 128  # passes -128
    differences = np.diff(values, prepend=values[0]).astype(np.int8)
    (tmp_path / "r.dat").write_bytes(differences.tobytes())
    checksum = (int(values.sum()) + 2**15) % 2**16 - 2**15
    line = f"r.dat 8 1/uV 12 0 {values[0]} {checksum} 0 C4-M1"
    (tmp_path / "r.hea").write_text(f"r 1 100 6000\n{line}\n")
    night = wfdb_records.read_recording(tmp_path / "r.hea", SETTINGS)
    np.testing.assert_allclose(night.parts[0].microvolts(0), values)
    assert night.notes == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"least": "0", "most": "0"},
        {"low": "0", "high": "0"},
        {"low": "", "high": "", "least": "", "most": ""},
        {"least": "nan", "most": "x"},
    ],
)
def test_a_channel_that_is_not_asked_for_may_have_any_range(tmp_path, fields):
    eeg = signal("C4-M1", 100, 60)
    path = write_edf(tmp_path / "n.edf", [eeg, signal("Position", 1, 60, **fields)])
    night = edf_recordings.read_recording(path, SETTINGS)
    np.testing.assert_allclose(
        night.parts[0].microvolts(0), eeg["data"] * (500 / 32767), rtol=1e-5, atol=1e-3
    )
    with pytest.raises(DataError, match=r"n\.edf: .*Position"):
        edf_recordings.read_recording(path, ReadConfig(channels=("Position",)))


@pytest.mark.parametrize(
    ("n_records", "tail", "told"),
    [
        (-1, b"", "does not say how many records there are; 60 were found"),
        (70, b"", "cut off: 60 of 70 records are there"),
        (50, b"", "2000 bytes after the last record are left out"),
        (60, b"\x1a" * 37, "37 bytes after the last record are left out"),
    ],
)
def test_counts_of_records_that_do_not_fit_are_told(tmp_path, n_records, tail, told):
    raw = tmp_path / "raw"
    raw.mkdir()
    path = write_edf(raw / "n.edf", [signal("C4-M1", 100, 60)], n_records=n_records)
    path.write_bytes(path.read_bytes() + tail)
    result = preprocess("edf", raw, tmp_path / "s", overrides={"channels": ["C4-M1"]}, jobs=1)
    assert told in " ".join(result.notes)
