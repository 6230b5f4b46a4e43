"""Where the temporary files of long recordings lie."""

import os
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from partsig.data import listing as folders
from partsig.data.signals.lazy import room
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
    assert room((2, 10), np.float32).shape == (2, 10)
    with pytest.raises(DataError, match=r"in the system's temporary folder \(TMPDIR\) \(No usable"):
        room((2, 10), np.float32, held=0)


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
