"""MATLAB files of version 5: what SciPy writes and reads, and every damage in a sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from partsig.data.images.part_datasets import matlab
from partsig.errors import DataError

RNG = np.random.default_rng(0)


def struct_of(*rows):
    """Return a struct array (1, n) as SciPy writes it."""
    table = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for k, row in enumerate(rows):
        table[0, k] = tuple(row.values())
    return table


MASK = RNG.integers(0, 2, (7, 5)).astype(np.uint8)
CONTENT = {
    "anno": struct_of(
        {"name": "left wing", "mask": MASK, "parts": np.zeros((0, 0)), "n": 3},
        {"name": "ä", "mask": MASK.T, "parts": struct_of({"a": "b"}, {"a": ""}), "n": -1.5},
    ),
    "x": RNG.normal(size=(2, 3, 4)),
    "long_name_of_a_variable": np.arange(5, dtype=np.int64),
}


def data(compressed=True, content=CONTENT):
    file = io.BytesIO()
    savemat(file, content, do_compression=compressed)
    return file.getvalue()


def read(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    return matlab.read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [True, False])
def test_what_scipy_writes(tmp_path, compressed):
    told = read(tmp_path, data(compressed))
    assert list(told) == ["anno", "x", "long_name_of_a_variable"]
    first, second = told["anno"]
    assert (first["name"], second["name"]) == ("left wing", "ä")
    np.testing.assert_array_equal(first["mask"], MASK)
    np.testing.assert_array_equal(second["mask"], MASK.T)
    assert first["parts"].shape == (0, 0)
    assert second["parts"] == [{"a": "b"}, {"a": ""}]
    assert (first["n"].item(), second["n"].item()) == (3, -1.5)
    np.testing.assert_array_equal(told["x"], CONTENT["x"])
    assert told["long_name_of_a_variable"].tolist() == [list(range(5))]


def test_the_other_order_of_bytes(tmp_path):
    def element(kind, body):
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    flags = element(6, struct.pack(">II", 6, 0))
    body = flags + element(5, struct.pack(">ii", 1, 2)) + element(1, b"x")
    body += element(9, struct.pack(">dd", 1.5, -2.0))
    header = b" " * 124 + b"\x01\x00" + b"MI"
    assert read(tmp_path, header + element(14, body))["x"].tolist() == [[1.5, -2.0]]


def test_every_damage_is_one_sentence(tmp_path):
    whole = [data(True), data(False)]
    rng = np.random.default_rng(1)
    n_told = 0
    for k in range(400):
        damaged = bytearray(whole[k % 2])
        if k % 4 == 0:
            del damaged[rng.integers(len(damaged)) :]
        for at in rng.integers(120, max(121, len(damaged)), 1 + k % 5).tolist():
            if at < len(damaged):
                damaged[at] = rng.integers(256)
        if k % 8 == 7:  # in what is compressed: unpacked, changed, and packed again
            n = struct.unpack_from("<I", whole[0], 132)[0]
            inner = bytearray(zlib.decompress(whole[0][136 : 136 + n]))
            inner[rng.integers(len(inner))] = rng.integers(256)
            packed = zlib.compress(inner)
            damaged = whole[0][:128] + struct.pack("<II", 15, len(packed)) + packed
        try:
            read(tmp_path, bytes(damaged))
        except DataError as error:
            n_told += str(error).startswith("a.mat is no whole MATLAB file of version 5 (")
    assert 100 < n_told < 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "its header is another"),
        (b"MATLAB 5.0" * 20, "its header is another"),
        (data(content={"x": np.array([1, "b"], object)}), "it holds a matrix of class 1"),  # cells
        (data(content={"x": 1j * np.ones(3)}), "it holds complex numbers"),
        (data()[:-9], "an element reaches beyond its end"),
    ],
)
def test_other_files_are_refused(tmp_path, content, told):
    with pytest.raises(DataError, match=told):
        read(tmp_path, content)


def test_what_unpacks_or_nests_without_end_is_refused(tmp_path, monkeypatch):
    nested = CONTENT["x"]
    for _ in range(30):
        nested = struct_of({"a": nested})
    with pytest.raises(DataError, match="it is nested without end"):
        read(tmp_path, data(content={"x": nested}))
    monkeypatch.setattr(matlab, "MOST_UNPACKED", 10_000)
    with pytest.raises(DataError, match="it unpacks to more than 10,000 bytes"):
        read(tmp_path, data(content={"x": np.zeros(100_000)}))
