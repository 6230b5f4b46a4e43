"""CIFAR's pickles: the official ones byte for byte as Python 2 wrote them, and hostile ones."""

import copyreg
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from partsig.data.images.cifar import LAYOUTS, open_cifar, safe_load, to_grey
from partsig.errors import DataError

NAMES10 = ["airplane", "automobile", "bird", "cat", "deer"]
NAMES10 += ["dog", "frog", "horse", "ship", "truck"]


def python2(value):
    """Return a pickle of protocol 2 with the opcodes that Python 2's cPickle writes."""
    memo = iter(range(1, 10**9))

    def put():
        i = next(memo)
        return b"q" + bytes([i]) if i < 256 else b"r" + struct.pack("<I", i)

    def text(raw):
        head = b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))
        return head + raw + put()

    def number(i):
        if i < 256:
            return b"K" + bytes([i])
        return b"M" + struct.pack("<H", i) if i < 65536 else b"J" + struct.pack("<i", i)

    def put_in(item):
        if isinstance(item, bytes):
            return text(item)
        if isinstance(item, int):
            return number(item)
        if isinstance(item, list):
            return b"]" + put() + b"(" + b"".join(map(put_in, item)) + b"e"
        if isinstance(item, dict):
            inner = b"".join(put_in(k) + put_in(v) for k, v in item.items())
            return b"}" + put() + b"(" + inner + b"u"
        shape = b"".join(map(number, item.shape))
        tuple_ = {1: b"\x85", 2: b"\x86", 3: b"\x87"}[item.ndim]
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put()
        made += b"K\x00\x85" + put() + text(b"b") + b"\x87" + put() + b"R" + put()
        kind = b"cnumpy\ndtype\n" + put() + text(item.dtype.str[1:].encode()) + b"K\x00K\x01\x87"
        kind += put() + b"R" + put() + b"(K\x03" + text(item.dtype.str[:1].encode())
        kind += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + put() + b"b"
        state = b"(K\x01" + shape + tuple_ + put() + kind + b"\x89" + text(item.tobytes())
        return made + state + b"t" + put() + b"b"

    return b"\x80\x02" + put_in(value) + b"."


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def write_cifar10(folder, n=20):
    """Write CIFAR-10's seven files with n images each; return the pixels by file."""
    folder.mkdir(parents=True)
    meta = {b"num_cases_per_batch": 10000, b"label_names": [n.encode() for n in NAMES10]}
    (folder / "batches.meta").write_bytes(python2(meta | {b"num_vis": 3072}))
    data = {}
    for k, name in enumerate(LAYOUTS["cifar10"].files):
        data[name] = pixels(n, k)
        batch = {
            b"batch_label": b"training batch 1 of 5",
            b"labels": [(k + i) % 10 for i in range(n)],
            b"data": data[name],
            b"filenames": [b"leptodactylus_s_%06d.png" % i for i in range(n)],
        }
        (folder / name).write_bytes(python2(batch))
    return data


def write_cifar100(folder, n=30):
    folder.mkdir(parents=True)
    meta = {b"fine_label_names": [b"fine_%02d" % i for i in range(100)]}
    meta[b"coarse_label_names"] = [b"coarse_%02d" % i for i in range(20)]
    (folder / "meta").write_bytes(python2(meta))
    for k, name in enumerate(("train", "test")):
        batch = {
            b"filenames": [b"bos_taurus_s_%06d.png" % i for i in range(n)],
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": [(3 * i + k) % 100 for i in range(n)],
            b"coarse_labels": [i % 20 for i in range(n)],
            b"data": pixels(n, k),
        }
        (folder / name).write_bytes(python2(batch))


# What is read.


def test_the_official_meta_has_its_158_bytes():
    """The length of batches.meta as published: the writer above writes what Python 2 wrote."""
    meta = {b"num_cases_per_batch": 10000, b"label_names": [n.encode() for n in NAMES10]}
    written = python2(meta | {b"num_vis": 3072})
    assert len(written) == 158
    assert pickle.loads(written, encoding="bytes")[b"label_names"][9] == b"truck"


def test_arrays_are_numpys():
    content = {b"data": pixels(7), b"labels": list(range(7)), b"many": [70_000, 300, 3]}
    data = python2(content)
    judged = pickle.loads(data, encoding="bytes")
    found = safe_load(data)
    assert found.keys() == judged.keys()
    assert found[b"labels"] == judged[b"labels"] == list(range(7))
    assert found[b"many"] == [70_000, 300, 3]
    np.testing.assert_array_equal(found[b"data"], judged[b"data"])
    np.testing.assert_array_equal(found[b"data"], content[b"data"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_what_python_3_saved_again_is_read_too(protocol, order):
    content = {"data": np.asarray(pixels(5), order=order), "labels": [1, 2, 3, 4, 5]}
    found = safe_load(pickle.dumps(content, protocol))
    np.testing.assert_array_equal(found["data"], content["data"])
    assert found["labels"] == content["labels"]


def test_cifar10(tmp_path):
    data = write_cifar10(tmp_path / "cifar-10-batches-py")
    source = open_cifar("cifar10", tmp_path)
    assert source.classes == tuple(NAMES10)
    assert (source.size, source.ch_names) == ((32, 32), ("red", "green", "blue"))
    assert [item.name for item in source.items[19:22]] == [
        *("data_batch_1/00019", "data_batch_2/00000", "data_batch_2/00001")
    ]
    assert [item.role for item in source.items] == ["train"] * 100 + ["test"] * 20
    assert [item.label for item in source.items[20:25]] == [1, 2, 3, 4, 5]
    # 1024 reds, then greens, then blues, each row by row.
    assert source.read(23)[1, 2, 5] == data["data_batch_2"][3, 1024 + 2 * 32 + 5]
    assert source.notes == (
        "100 train images; the official cifar10 has 50,000",
        "20 test images; the official cifar10 has 10,000",
    )


def test_cifar100_has_its_fine_labels(tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    source = open_cifar("cifar100", tmp_path / "cifar-100-python")
    assert len(source.classes) == 100
    assert source.classes[42] == "fine_42"
    assert [item.label for item in source.items[:4]] == [0, 3, 6, 9]
    assert [item.label for item in source.items[30:33]] == [1, 4, 7]
    np.testing.assert_array_equal(source.read(31).reshape(-1), pixels(30, 1)[1])


@pytest.mark.parametrize("given", ["the archive", "its folder"])
def test_the_archive_is_read_as_downloaded(given, tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    archive = tmp_path / "down" / "cifar-100-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-100-python", "cifar-100-python")
    packed = open_cifar("cifar100", archive if given == "the archive" else archive.parent)
    plain = open_cifar("cifar100", tmp_path)
    assert packed.items == plain.items
    assert all((packed.read(i) == plain.read(i)).all() for i in range(60))
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"tar\.gz is damaged .*; download it again\."):
        open_cifar("cifar100", archive)


def test_grey_is_pillows():
    colours = pixels(50).reshape(50, 3, 32, 32)
    grey = to_grey(colours)
    assert grey.shape == (50, 1, 32, 32)
    for one, found in zip(colours, grey, strict=True):
        expected = np.asarray(Image.fromarray(one.transpose(1, 2, 0)).convert("L"))
        np.testing.assert_array_equal(found[0], expected)


# What is refused.


class Runs:
    def __init__(self, function, *arguments):
        self.made = (function, arguments)

    def __reduce__(self):
        return self.made


TOUCH = b"touch hacked"
HOSTILE = {
    "REDUCE": b"cposix\nsystem\n(U\x0c" + TOUCH + b"tR.",
    "BUILD": b"cposix\nsystem\n}U\x01aK\x01sb.",
    "INST": b"(S'touch hacked'\niposix\nsystem\n.",
    "OBJ": b"(cposix\nsystem\nU\x0c" + TOUCH + b"o.",
    "NEWOBJ": b"\x80\x02cposix\nsystem\n(U\x0c" + TOUCH + b"t\x81.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93(U\x0c" + TOUCH + b"tR.",
    "memoised": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93(U\x0c"
    + TOUCH
    + b"tR.",
    "nested": python2({b"data": [[b"x"]]})[:-1] + b"0cposix\nsystem\n(U\x0c" + TOUCH + b"tR.",
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"(builtins|__builtin__)\.eval")],
)
def test_a_function_is_named_and_not_called(function, named, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = "touch hacked" if function is os.system else "__import__('os').mkdir('hacked')"
    for content in (Runs(function, order), {"data": [{"labels": (Runs(function, order),)}]}):
        data = pickle.dumps(content, protocol)
        with pytest.raises(DataError, match=rf"f: the pickle asks for {named}, which .* not run"):
            safe_load(data, "f")
        assert not any(tmp_path.iterdir())
    pickle.loads(data)  # it would have
    assert (tmp_path / "hacked").exists()


@pytest.mark.parametrize("opcode", HOSTILE)
def test_no_opcode_runs_anything(opcode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"posix\.system.*it was not run"):
        safe_load(HOSTILE[opcode])
    assert not any(tmp_path.iterdir())


def test_a_registered_extension_is_refused_although_the_unpickler_would_not_ask():
    copyreg.add_extension("posix", "system", 77)
    try:
        data = pickle.dumps(os.system, 2)
        assert data == b"\x80\x02\x82M."
        pickle.loads(data)  # from here on it is in the cache that find_class never sees
        with pytest.raises(DataError, match=r"the pickle uses EXT1 77, which"):
            safe_load(data)
    finally:
        copyreg.remove_extension("posix", "system", 77)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("reference", [b"Pposix\n.", b"U\x01aQ.", b"\x97."])
def test_references_to_elsewhere_are_refused(reference):
    with pytest.raises(DataError, match=r"uses (PERSID|BINPERSID|NEXT_BUFFER).* it was not run"):
        safe_load(reference)


@pytest.mark.parametrize(
    "name", ["numpy\nload", "numpy.core.multiarray\nscalar", "numpy\nndarray.tofile"]
)
def test_only_three_names_of_numpy_are_known(name):
    asked = name.replace("\n", r"\.")
    with pytest.raises(DataError, match=f"asks for {asked}, which"):
        safe_load(f"c{name}\n.".encode())


def test_stand_ins_do_nothing_and_one_pickle_cannot_alter_the_next():
    # BUILD sets an attribute of whatever lies on the stack.
    for name in (b"numpy.core.multiarray\n_reconstruct", b"_codecs\nencode"):
        altered = safe_load(
            b"\x80\x02c" + name + b"\nN}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xs\x86b."
        )
        assert altered.__name__ == "x"
    with pytest.raises(DataError, match="is no whole pickle"):
        safe_load(b"\x80\x02cnumpy\nndarray\nN}X\x05\x00\x00\x00valueK\x07s\x86b.")
    found = safe_load(python2({b"data": pixels(2)}))
    np.testing.assert_array_equal(found[b"data"], pixels(2))
    assert np.ndarray.__name__ == "ndarray"


def test_every_truncation_is_one_sentence():
    data = python2({b"data": pixels(1), b"labels": [3], b"filenames": [b"a.png"]})
    for n in [*range(200), *range(200, len(data), 97)]:
        with pytest.raises(DataError, match=r"^f is no whole pickle \(.*\); fetch it again\.$"):
            safe_load(data[:n], "f")


def test_flipped_bytes_give_data_or_one_sentence():
    data = bytearray(python2({b"data": pixels(1)[:, :12], b"labels": [3], b"filenames": [b"a"]}))
    rng = np.random.default_rng(0)
    sentences = 0
    for _ in range(3000):
        damaged = bytearray(data)
        for at in rng.integers(len(data), size=2):
            damaged[at] = rng.integers(256)
        try:
            safe_load(bytes(damaged))
        except DataError:
            sentences += 1
    assert sentences > 1000


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # a memo of four billion places
        b"\x80\x02}" + b"p4000000000\n.",
        python2({b"data": pixels(1)}).replace(b"M\x00\x0c\x86", b"J\xff\xff\xff\x7f\x86"),
        python2({b"data": pixels(1)}).replace(b"K\x01M\x00\x0c\x86", b"U\x01aM\x00\x0c\x86"),
    ],
)
def test_a_bomb_takes_no_memory(data):
    with pytest.raises(DataError, match="is no whole pickle"):
        safe_load(data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({b"data": pixels(5)[:, :3000]}, r"data is an array \(5, 3000\); it must be \(n, 3072\)"),
        ({b"data": pixels(5)[0]}, r"data is an array \(3072,\); it must be"),
        ({b"data": b"abc"}, r"data is bytes; it must be \(n, 3072\) uint8"),
        ({b"data": pixels(5).astype("i2")}, "is no whole pickle .*type b'i2', not uint8"),
        ({b"labels": [1, 2]}, "labels is 2 labels; it must be a list of 5"),
        ({b"labels": [1, 2, 3, 4, 10]}, "labels must be whole numbers below 10"),
        ({b"labels": [1, 2, 3, 4, b"5"]}, "labels must be whole numbers below 10"),
        ({b"labels": 7}, "labels is int; it must be a list of 5"),
    ],
)
def test_a_file_that_holds_something_else_is_told(change, sentence, tmp_path):
    write_cifar10(tmp_path / "raw", 5)
    content = {b"data": pixels(5), b"labels": [0] * 5} | change
    (tmp_path / "raw" / "data_batch_3").write_bytes(python2(content))
    with pytest.raises(DataError, match="data_batch_3.*" + sentence):
        open_cifar("cifar10", tmp_path / "raw")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no cifar-10-batches-py/ and no cifar-10-python\.tar\.gz"):
        open_cifar("cifar10", tmp_path)
    write_cifar10(tmp_path / "raw", 2)
    (tmp_path / "raw" / "data_batch_4").unlink()
    with pytest.raises(DataError, match="lacks data_batch_4; unpack or download all of it again"):
        open_cifar("cifar10", tmp_path / "raw")
    (tmp_path / "raw" / "batches.meta").write_bytes(python2([1]))
    with pytest.raises(DataError, match="meta holds a list, not a dict"):
        open_cifar("cifar10", tmp_path / "raw")
    (tmp_path / "raw" / "batches.meta").write_bytes(python2({b"label_names": [b"one"]}))
    with pytest.raises(DataError, match="label_names must list 10 names; is this cifar10"):
        open_cifar("cifar10", tmp_path / "raw")


def test_an_archive_with_hostile_pickles_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../../cifar-10-batches-py/batches.meta")
        member.size = len(HOSTILE["REDUCE"])
        tar.addfile(member, io.BytesIO(HOSTILE["REDUCE"]))
    with pytest.raises(DataError, match=r"batches\.meta: the pickle asks for posix\.system"):
        open_cifar("cifar10", archive)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
