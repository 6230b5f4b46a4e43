"""Where the temporary files of long recordings lie."""

import copy
import os
import pickle
import tempfile
from types import SimpleNamespace

import joblib
import numpy as np
import pytest

from partsig.data import listing as folders
from partsig.data.signals import lazy
from partsig.data.signals.lazy import beside, room
from partsig.errors import DataError, DiskFullError
from partsig.sleep import stager as staging
from partsig.sleep.audit import measure as nights


def test_a_folder_that_is_not_there_is_made(tmp_path):
    made = room((2, 10), np.float32, tmp_path / "data" / "store", held=0)
    made[:, 3:5] = np.ones((2, 2))
    assert np.asarray(made).sum() == 4
    assert list((tmp_path / "data" / "store").iterdir()) == []  # it has no name there


def test_what_fits_into_memory_needs_no_temporary_folder(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert room((2, 10), np.float32).shape == (2, 10)
    with pytest.raises(DataError, match=r"in the system's temporary folder \(TMPDIR\) \(No usable"):
        room((2, 10), np.float32, held=0)


def test_temporary_files_lie_beside_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "system"))
    monkeypatch.delenv("TMPDIR", raising=False)

    def place():
        return room((1, 2), np.float32, held=0).folder

    assert place() == str(tmp_path / "system")
    with beside(tmp_path / "out"):
        assert place() == str(tmp_path / "out")
        with beside(None):
            assert place() == str(tmp_path / "system")
        monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
        assert place() == str(tmp_path / "scratch")
        assert room((1, 2), np.float32, tmp_path, held=0).folder == str(tmp_path)
    monkeypatch.delenv("TMPDIR")
    assert place() == str(tmp_path / "system")


def test_what_lies_in_a_file_without_a_name_can_be_sent(tmp_path):
    """By pickle, copy and joblib, which writes large arrays itself and maps those."""
    made = room((2, 1000), np.float32, tmp_path, held=0)
    made[:] = np.arange(2000.0).reshape(2, 1000)
    array = made[1:, 500:].mapped()
    for other in (pickle.loads(pickle.dumps(array)), copy.deepcopy(array)):
        np.testing.assert_array_equal(other, np.arange(1500.0, 2000)[None])
    work = [joblib.delayed(np.sum)(array)] * 2
    assert joblib.Parallel(n_jobs=2, max_nbytes=100)(work) == [np.arange(1500.0, 2000).sum()] * 2


def test_a_file_that_cannot_be_mapped_is_told(tmp_path, monkeypatch):
    def refused(number, layout):
        raise OSError(12, "Cannot allocate memory")

    made = room((1, 2), np.float32, tmp_path, held=0)
    monkeypatch.setattr(lazy, "FileMap", refused)
    with pytest.raises(DataError, match=f"temporary file in {tmp_path} cannot be mapped into mem"):
        made.mapped()


def full(*_, **__):
    raise DiskFullError("no space left")


def test_a_full_disk_is_no_fault_of_a_recording(monkeypatch):
    monkeypatch.setattr(staging, "filtered", full)
    recording = SimpleNamespace(name="a", parts=())
    with pytest.raises(DiskFullError):
        staging._filtered(recording, SimpleNamespace(h_freq=30.0))
    with pytest.raises(DiskFullError):
        nights.read_raw(SimpleNamespace(stem="a"), full, SimpleNamespace())


def test_a_folder_whose_time_is_put_back_is_listed_anew(tmp_path):
    (tmp_path / "a.csv").touch()
    os.utime(tmp_path, (1e9, 1e9))
    assert folders.names(tmp_path) == ["a.csv"]
    (tmp_path / "b.csv").touch()
    os.utime(tmp_path, (1e9, 1e9))
    assert folders.names(tmp_path) == ["a.csv", "b.csv"]
