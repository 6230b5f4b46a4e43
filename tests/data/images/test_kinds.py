"""What cameras, scanners and other systems write: suffixes, Unicode, archives, bits, one colour."""

import io
import struct
import unicodedata
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, features

import partsig
from partsig.data.images.decoding import decode
from partsig.data.images.folders import ImagePreprocessConfig, open_images_in
from partsig.errors import ConfigError, DataError
from partsig.modalities.image_dataset import ImageDataset, open_dataset

SMALL = ImagePreprocessConfig(size=8)


def encoded(seed, kind="PNG", size=8):
    coarse = np.random.default_rng(seed).integers(256, size=(size, size, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).save(data, kind)
    return data.getvalue()


def write(root, *names, kind="PNG"):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(i, kind))


def zipped(path, names, folders=()):
    with zipfile.ZipFile(path, "w") as archive:
        for folder in folders:
            archive.writestr(folder, b"")
        for i, name in enumerate(names):
            archive.writestr(name, encoded(i))
    return open_images_in(path, SMALL)


def told(source):
    classes = (*source.classes, None)
    return [(item.name, classes[item.label], item.role) for item in source.items]


NAMES = ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")


@pytest.mark.parametrize("front", ["", "\\", ".\\", "set\\", "C:\\set\\"])
def test_an_archive_with_backslashes_is_the_one_with_slashes(front, tmp_path):
    names = [front + name.replace("/", "\\") for name in NAMES]
    source = zipped(tmp_path / "w.zip", names, [f"{front}train\\", f"{front}train\\cat\\"])
    plain = zipped(tmp_path / "p.zip", NAMES)
    assert [t[1:] for t in told(source)] == [t[1:] for t in told(plain)]
    assert {role for _, _, role in told(source)} == {"train", "test"}
    assert None not in {label for _, label, _ in told(source)}
    for i in range(4):
        np.testing.assert_array_equal(source.read(i), plain.read(i))


def test_backslashes_and_slashes_in_one_archive(tmp_path):
    names = [NAMES[0], *(name.replace("/", "\\") for name in NAMES[1:])]
    assert told(zipped(tmp_path / "m.zip", names)) == told(zipped(tmp_path / "p.zip", NAMES))


def test_a_backslash_in_a_folder_of_linux_is_a_letter(tmp_path):
    write(tmp_path, "a\\b/1.png", "c/2.png")
    assert open_images_in(tmp_path, SMALL).classes == ("a\\b", "c")


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(s, "JPEG") for s in (".jfif", ".JFIF", ".jif", ".pjpeg", ".jpe")]
    + [(".apng", "PNG"), (".dib", "BMP"), (".pnm", "PPM"), (".avif", "AVIF"), (".AVIF", "AVIF")]
    + [(s, "JPEG2000") for s in (".j2k", ".jpf", ".jpx", ".j2c", ".jpc")],
)
def test_images_by_their_less_usual_suffixes(suffix, kind, tmp_path):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    write(tmp_path, f"a/1{suffix}", f"b/2{suffix}", kind=kind)
    source = open_images_in(tmp_path, SMALL)
    assert [label for _, label, _ in told(source)] == ["a", "b"]
    expected = np.asarray(Image.open(tmp_path / f"a/1{suffix}").convert("RGB"))
    np.testing.assert_array_equal(source.read(0), expected.transpose(2, 0, 1))


def test_what_is_left_out_is_counted(tmp_path):
    write(tmp_path, "a/1.png", "a/2.heic", "b/3.HEIC", "b/4.tga", "b/5.png", "b/notes.txt")
    source = open_images_in(tmp_path, SMALL)
    assert source.notes[-1] == "3 files are left out by their suffix: 2 .heic, 1 .tga"
    (tmp_path / "b/4.tga").unlink()
    (tmp_path / "b/3.HEIC").unlink()
    assert open_images_in(tmp_path, SMALL).notes[-1].startswith("1 file is left out by its suffix")
    for name in ("a/1.png", "b/5.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"no images in .* \(1 file is left out .*: 1 \.heic\)"):
        open_images_in(tmp_path, SMALL)


@pytest.mark.parametrize("packed", [False, True])
def test_one_folder_name_in_two_forms_of_unicode_is_one_class(packed, tmp_path):
    one, other = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    names = [f"train/{one}/1.png", "train/b/2.png", f"test/{other}/3.png", f"train/{other}/4.png"]
    if packed:
        source = zipped(tmp_path / "u.zip", names)
    else:
        write(tmp_path, *names)
        source = open_images_in(tmp_path, SMALL)
    assert source.classes == (one, "b") or source.classes == ("b", one)
    assert sorted(label for _, label, _ in told(source)) == sorted([one, one, one, "b"])
    assert len({name for name, _, _ in told(source)}) == 4


def test_a_class_of_the_test_set_alone_does_not_stop_a_budget(tmp_path):
    names = [f"{r}/{c}/{i}.png" for r in ("train", "val") for c in "ab" for i in range(3)]
    write(tmp_path / "raw", *names, "test/a/1.png", "test/c/2.png")
    done = partsig.preprocess("images", tmp_path / "raw", tmp_path / "s", overrides=["size=8"])
    assert "no training image has the class c" in done.notes
    dataset: ImageDataset = open_dataset(tmp_path / "s")
    train, _ = dataset.draw(2, seed=0)
    assert dataset.store.labels[train].tolist() == [0, 0, 1, 1]
    assert len(dataset.draw(0, seed=0)[0]) == 6
    with pytest.raises(ConfigError, match="only 3 training images of class a"):
        dataset.draw(4, seed=0)
    settings = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "patch_px": 4}
    settings |= {"fit.epochs": 1, "fit.batch_size": 4, "optim.warmup_epochs": 0}
    run = partsig.finetune(
        "scratch", tmp_path / "s", tmp_path / "r", segments_per_class=2, overrides=settings, gpus=0
    )
    found = partsig.evaluate(run, device="cpu", figures=False)
    assert found.metrics["accuracy"] <= 0.5  # the image of class c is wrong


# Bits and the one colour that is transparent.


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def packed_rows(values, bits):
    """Return the rows of (H, W) numbers, each of so many bits, filled up to whole bytes."""
    rows = []
    for row in np.asarray(values):
        digits = "".join(f"{int(value):0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8)))
    return rows


def png(values, bits, colour=0, clear=None):
    """Return a PNG of numbers (H, W) of so many bits, of which ``clear`` is transparent."""
    height, width = values.shape[:2]
    rows = packed_rows(values.reshape(height, -1), bits)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if clear is not None:
        out += chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    body = zlib.compress(b"".join(b"\x00" + row for row in rows))
    return out + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(values, bits, photometric):
    """Return an uncompressed little-endian TIFF of numbers (H, W), one strip (TIFF 6.0)."""
    height, width = values.shape
    data = values.astype("<u2").tobytes() if bits == 16 else b"".join(packed_rows(values, bits))
    data += b"\x00" * (len(data) % 2)
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    out = b"II*\x00" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        out += struct.pack("<HHI", tag, kind, 1)
        out += struct.pack("<I", value) if kind == 4 else struct.pack("<HH", value, 0)
    return out + struct.pack("<I", 0)


def jpeg2000(values, bits):
    """Return a codestream of so many bits: one of 16, whose level shift and precision are moved."""
    data = io.BytesIO()
    moved = (values + 2**15 - 2 ** (bits - 1)).astype(np.uint16)
    Image.fromarray(moved).save(data, "JPEG2000", no_jp2=True)
    out = bytearray(data.getvalue())
    assert out[42] == 15  # Ssiz of ISO 15444-1, table A.9
    out[42] = bits - 1
    return bytes(out)


def every(top):
    """All numbers from 0 to ``top``, in a square."""
    side = int(np.ceil(np.sqrt(top + 1)))
    return np.minimum(np.arange(side * side), top).reshape(side, side)


def rounded(values, top):
    return np.floor(values * 255 / top + 0.5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_the_transparent_grey_is_white_whatever_the_bits(bits, grey):
    top = 2**bits - 1
    values = np.tile([0, top // 3, (top + 1) // 2, top - top // 4], (4, 1))
    for clear in {0, top // 3, top}:
        found = decode(png(values, bits, clear=[clear]), 4, grey)[0]
        expected = np.where(values == clear, 255, rounded(values, top))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(decode(png(values, bits), 4, grey)[0], rounded(values, top))


def test_a_transparent_grey_of_sixteen_bits_is_that_one_alone():
    """Not its neighbours, which are the same in eight bits; and not one of another low byte."""
    values = np.tile([0x1234, 0x1235, 0x3434, 0x0034], (4, 1))
    found = decode(png(values, 16, clear=[0x1234]), 4, True)[0]
    assert found[0].tolist() == [255, 18, 52, 0]


def test_a_transparent_colour():
    values = np.tile(np.array([[1, 2, 3], [18, 52, 86], [0, 0, 0], [255] * 3]), (4, 1, 1))
    found = decode(png(values, 8, 2, [18, 52, 86]), 4)
    assert found[:, 0].T.tolist() == [[1, 2, 3], [255] * 3, [0, 0, 0], [255] * 3]
    with pytest.raises(DataError, match="one of its colours of 16 bits is transparent"):
        decode(png(values * 257, 16, 2, [18 * 257, 52 * 257, 86 * 257]), 4)
    plain = decode(png(values * 257, 16, 2), 4)
    np.testing.assert_array_equal(plain, values.transpose(2, 0, 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_where_white_is_zero(bits):
    top = 2**bits - 1
    values = np.tile([0, top // 3, (top + 1) // 2, top], (4, 1))
    found = decode(tiff(values, bits, 0), 4, True)[0]
    np.testing.assert_array_equal(found, 255 - rounded(values, top))
    np.testing.assert_array_equal(decode(tiff(values, bits, 1), 4, True)[0], rounded(values, top))


@pytest.mark.parametrize("bits", [9, 10, 12, 15, 16])
def test_bits_between_eight_and_sixteen(bits):
    """The whole range is that of the file's bits, and every number is rounded once."""
    top = 2**bits - 1
    values = every(top)
    expected, side = rounded(values, top), len(values)
    np.testing.assert_array_equal(decode(jpeg2000(values, bits), side, True)[0], expected)
    pgm = b"P5\n%d %d\n%d\n" % (side, side, top) + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(pgm, side, True)[0], expected)
    if bits == 12:
        np.testing.assert_array_equal(decode(tiff(values, 12, 1), side, True)[0], expected)
