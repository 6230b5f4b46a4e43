"""Images from files: layouts, ImageNet's lists, every mode of Pillow, and what is refused."""

import io
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from partsig.data.images import decoding as image_files
from partsig.data.images.folders import ImagePreprocessConfig, decode, open_digits, open_images_in
from partsig.errors import ConfigError, DataError


def picture(height=32, width=32, seed=0, mode="RGB"):
    """Smooth colours, so that JPEG keeps them."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def write(root, *names, size=8):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(size, size, i)))


def told(source):
    """Name, class and role of every image."""
    classes = (*source.classes, None)
    return [(item.name, classes[item.label], item.role) for item in source.items]


# Pixels.


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "JPEG"])
def test_an_image_of_the_size_is_copied_exactly(kind):
    data = encoded(picture(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    found = decode(data, 32)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((3, 32, 32), np.uint8, True)
    np.testing.assert_array_equal(found, expected)
    wide = decode(encoded(picture(32, 50)), 32)
    np.testing.assert_array_equal(wide, np.asarray(picture(32, 50))[:, 9:41].transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (300, 200), (20, 41), (33, 33)])
def test_the_short_side_becomes_the_size_and_the_centre_is_kept(height, width):
    image, size = picture(height, width), 32
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    expected = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    found = decode(encoded(image), size)
    assert np.abs(found.astype(int) - expected).max() <= 5


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    image = picture(1200, 1600)
    small = decode(encoded(image, "JPEG", quality=95), 64)
    square = image.crop((200, 0, 1400, 1200)).resize((64, 64), Image.Resampling.BICUBIC)
    error = small.astype(float) - np.asarray(square).transpose(2, 0, 1)
    assert np.abs(error).max() < 10
    assert np.abs(error.mean()) < 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation, kind):
    stored = np.zeros((16, 16), dtype=np.uint8)
    stored[:8, :8] = 255  # a light corner at the top left, as stored
    # Where the first row and the first column of the file are shown (EXIF 2.3, 4.6.4 A).
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(stored), kind, exif=exif), 16, grey=True)[0]
    row, column = corner[orientation]
    assert found[8 * row + 4, 8 * column + 4] > 240
    assert (found > 128).sum() == 64


def test_an_image_is_turned_before_it_is_cut():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(40, 80), "JPEG", exif=exif, quality=95)
    turned = picture(40, 80).transpose(Image.Transpose.ROTATE_270)
    assert turned.size == (40, 80)
    expected = np.asarray(turned.crop((0, 20, 40, 60))).transpose(2, 0, 1)
    assert np.abs(decode(data, 40).astype(int) - expected).max() < 12


def test_grey_is_the_luma_of_the_colours():
    expected = np.asarray(picture().convert("L"))[None]
    np.testing.assert_array_equal(decode(encoded(picture()), 32, grey=True), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_rounded_not_cut(kind):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = decode(encoded(Image.fromarray(values), kind), 16, grey=True)[0]
    np.testing.assert_array_equal(found, np.rint(values / 257))
    assert decode(encoded(Image.fromarray(values), kind), 16).shape == (3, 16, 16)


def test_colours_of_other_modes():
    red = np.array([255, 0, 0])
    cases = {
        "palette": encoded(Image.new("RGB", (8, 8), "red").quantize(4)),
        "GIF": encoded(Image.new("RGB", (8, 8), "red"), "GIF"),
        "opaque": encoded(Image.new("RGBA", (8, 8), "red")),
        "CMYK": encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"),
        "CMYK JPEG": encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95),
    }
    for name, data in cases.items():
        found = decode(data, 8)[:, 4, 4]
        assert np.abs(found - red).max() <= 3, name
    black = decode(encoded(Image.new("1", (8, 8), 0)), 8)
    assert black.max() == 0


def test_alpha_lies_over_white():
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (decode(encoded(clear), 8) == 255).all()
    half = Image.new("LA", (8, 8), (0, 51))  # a fifth of black
    assert (decode(encoded(half), 8, grey=True) == 204).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (decode(encoded(palette, transparency=0), 8) == 255).all()
    assert (decode(encoded(palette, transparency=b"\x00\xff"), 8) == 255).all()


def test_of_several_frames_the_first_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "MPO", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, _, blue = decode(data, 8)[:, 4, 4]
        assert red > 240, kind
        assert blue < 15, kind


def test_a_suffix_does_not_decide_the_format(tmp_path):
    write(tmp_path, "a/x.JPEG", "b/y.jpg")  # PNG inside, as one image of ImageNet is
    assert open_images_in(tmp_path, ImagePreprocessConfig(size=8)).read(0).shape == (3, 8, 8)


# What is refused.


def png_header(width, height):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 50_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_unpacks(side):
    with pytest.raises(DataError, match=r"(?i)decompression bomb"):
        decode(png_header(side, side), 32)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is none of JPEG, PNG"),
        (b"hello, no image", "it is none of JPEG, PNG"),
        (encoded(picture())[:-300], "it cannot be decoded .*truncated"),
        (encoded(picture(), "JPEG")[:-300], "it cannot be decoded .*[Tt]runcated"),
        (encoded(picture(mode="F"), "TIFF"), "its values are floats of unknown range"),
        (encoded(Image.new("I", (8, 8), 200), "TIFF"), "its values are 32-bit integers of unknown"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "it is none of"),
    ],
)
def test_what_cannot_be_decoded_is_told(data, sentence):
    with pytest.raises(DataError, match=sentence):
        decode(data, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_flipped_bytes_give_pixels_or_one_sentence(kind):
    rng = np.random.default_rng(0)
    whole, outcomes = encoded(picture(12, 16), kind), set()
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(min(len(damaged), 400), size=3):
            damaged[at] = rng.integers(256)
        try:
            outcomes.add(decode(bytes(damaged), 8).shape)
        except DataError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {(3, 8, 8), "refused"}


# Layouts.


def test_class_folders_with_roles(tmp_path):
    write(tmp_path, "train/cat/1.png", "train/cat/deep/2.png", "train/dog/1.png", "val/cat/3.png")
    write(tmp_path, "test/dog/4.png", "test/owl/5.png")
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    source = open_images_in(tmp_path, ImagePreprocessConfig(size=8))
    assert source.classes == ("cat", "dog", "owl")
    assert told(source) == [
        ("test/dog/4.png", "dog", "test"),
        ("test/owl/5.png", "owl", "test"),
        ("train/cat/1.png", "cat", "train"),
        ("train/cat/deep/2.png", "cat", "train"),
        ("train/dog/1.png", "dog", "train"),
        ("val/cat/3.png", "cat", "val"),
    ]
    assert source.notes == ("3 classes: cat, dog, owl", "no training image has the class owl")
    kept = open_images_in(tmp_path, ImagePreprocessConfig(size=8, val_role="test"))
    assert told(kept)[-1] == ("val/cat/3.png", "cat", "test")


def test_class_folders_alone_and_a_flat_folder(tmp_path):
    write(tmp_path / "classes", "b/1.png", "a/2.png")
    source = open_images_in(tmp_path / "classes", ImagePreprocessConfig())
    assert told(source) == [("a/2.png", "a", "train"), ("b/1.png", "b", "train")]
    assert source.size == (224, 224)
    write(tmp_path / "flat", "x.png", "y.PNG", "z", "w.txt")
    source = open_images_in(tmp_path / "flat", ImagePreprocessConfig())
    assert told(source) == [(n, None, "train") for n in ("x.png", "y.PNG", "z")]
    assert source.classes == ()
    assert source.notes == ("3 train images have no label: they lie in no class folder",)


def test_a_zip_gives_what_its_folder_gives(tmp_path):
    write(tmp_path / "set", "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "set").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("__MACOSX/set/train/cat/._1.png", b"x")
    packed = open_images_in(tmp_path / "set.zip", ImagePreprocessConfig(size=8))
    plain = open_images_in(tmp_path / "set", ImagePreprocessConfig(size=8))
    assert [(f"set/{n}", c, r) for n, c, r in told(plain)] == told(packed)
    for i in range(3):
        np.testing.assert_array_equal(packed.read(i), plain.read(i))


def test_a_damaged_member_is_an_error_of_that_image(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", encoded(picture(8, 8)))
        archive.writestr("b/2.png", encoded(picture(8, 8)))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 255
    path.write_bytes(data)
    source = open_images_in(path, ImagePreprocessConfig(size=8))
    with pytest.raises(DataError, match=r"it cannot be read .*Bad CRC-32"):
        source.read(0)
    assert source.read(1).shape == (3, 8, 8)
    path.write_bytes(data[:-30])
    with pytest.raises(DataError, match=r"set\.zip is no readable \.zip .*; download it again"):
        open_images_in(path, ImagePreprocessConfig())


def test_a_member_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"\0" * 8001)
    with pytest.raises(DataError, match="it has 8,001 bytes, more than any image"):
        open_images_in(tmp_path / "set.zip", ImagePreprocessConfig()).read(0)


def test_a_test_folder_is_never_a_class(tmp_path):
    write(tmp_path, "train/cat/1.png", "test/cat/2.png", "extra/3.png", "logo.png")
    with pytest.raises(DataError, match=r"holds images in test, train and also in \., extra: move"):
        open_images_in(tmp_path, ImagePreprocessConfig())


def test_roles_may_be_spelt_otherwise(tmp_path):
    write(tmp_path, "Training/cat/1.png", "Training/dog/2.png", "TEST/cat/3.png", "Valid/dog/4.png")
    source = open_images_in(tmp_path, ImagePreprocessConfig(val_role="val"))
    assert source.classes == ("cat", "dog")
    assert [role for *_, role in told(source)] == ["test", "train", "train", "val"]
    write(tmp_path, "Extra/cat/1.png")
    with pytest.raises(DataError, match="holds images in TEST, Training, Valid and also in Extra"):
        open_images_in(tmp_path, ImagePreprocessConfig())


def test_what_lies_beside_images_without_a_suffix_is_no_image(tmp_path):
    write(tmp_path, "cat/one", "dog/two")
    (tmp_path / "cat" / "README").write_text("cats")
    (tmp_path / "LICENSE").write_text("free")
    assert [name for name, *_ in told(open_images_in(tmp_path, ImagePreprocessConfig()))] == [
        "cat/one",
        "dog/two",
    ]


def test_links_are_followed_once(tmp_path):
    write(tmp_path / "real", "1.png")
    (tmp_path / "set" / "b").mkdir(parents=True)
    write(tmp_path / "set", "a/2.png")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "b" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "gone.png").symlink_to(tmp_path / "nothing")
    source = open_images_in(tmp_path / "set", ImagePreprocessConfig(size=8))
    assert [item.name for item in source.items] == ["a/2.png", "a/gone.png", "c/1.png"]
    with pytest.raises(DataError, match=r"it cannot be read .*FileNotFoundError"):
        source.read(1)


def test_a_member_that_lies_about_its_size_is_not_unpacked(tmp_path):
    """It says 100 bytes, and deflate makes 300 MB of what there is."""
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(300_000_000))
    content, told = bytearray(file.read_bytes()), struct.pack("<I", 300_000_000)
    at = content.rindex(told)
    content[at : at + 4] = struct.pack("<I", 100)
    file.write_bytes(content)
    source = open_images_in(file, ImagePreprocessConfig())

    def read():
        with pytest.raises(DataError, match="it cannot be read"):
            source.read(0)

    assert peak_mb(read) < 50


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_unpacks_all_at_once_is_refused(way, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w", way) as archive:
        archive.writestr("a.png", encoded(picture(8, 8)))
    source = open_images_in(tmp_path / "set.zip", ImagePreprocessConfig())
    with pytest.raises(DataError, match="packed by another way than deflate"):
        source.read(0)


def test_links_between_siblings_are_not_walked_without_end(tmp_path, monkeypatch):
    """Of ten folders there are millions of ways from one to another."""
    write(tmp_path, *(f"{i}/{i}.png" for i in range(10)))
    for one in range(10):
        for other in range(10):
            if one != other:
                (tmp_path / str(one) / f"to{other}").symlink_to(tmp_path / str(other))
    monkeypatch.setattr("partsig.data.images.folders.MOST_AGAIN", 20_000)
    begun = time.monotonic()
    with pytest.raises(DataError, match="lead to the same folders again and again") as caught:
        open_images_in(tmp_path, ImagePreprocessConfig())
    assert time.monotonic() - begun < 30
    assert len(str(caught.value)) < 1000


def test_a_tree_of_any_depth_is_walked(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("a")
            os.chdir("a")
        Path("x.png").write_bytes(encoded(picture(8, 8)))
        source = open_images_in(tmp_path, ImagePreprocessConfig(size=8))
        assert [item.name for item in source.items] == ["a/" * 1500 + "x.png"]
        assert source.read(0).shape == (3, 8, 8)
        os.remove("x.png")
        for _ in range(1500):  # what removes trees goes down by calling itself
            os.chdir("..")
            os.rmdir("a")
    finally:
        os.chdir(here)


def test_two_links_to_one_folder_are_two_folders(tmp_path):
    write(tmp_path, "real/1.png", "set/a/2.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "real")
    found = told(open_images_in(tmp_path / "set", ImagePreprocessConfig()))
    assert [name for name, _, _ in found] == ["a/2.png", "b/1.png", "c/1.png"]


def peak_mb(work):
    """Return what this process had at most beside what it had before, in MB."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")
    before = int(status.read_text().partition("VmRSS:")[2].split()[0])
    work()
    return (int(status.read_text().partition("VmHWM:")[2].split()[0]) - before) / 1024


SIDE = 3000
DEEP = np.arange(SIDE, dtype=np.uint16) * np.ones((SIDE, 1), np.uint16)
LARGE = {
    "16 bits": lambda: encoded(Image.fromarray(DEEP)),
    "16 bits, one clear": lambda: encoded(Image.fromarray(DEEP), transparency=7),
    "8 bits": lambda: encoded(Image.new("L", (SIDE, SIDE), 7)),
    "8 bits, one clear": lambda: encoded(Image.new("L", (SIDE, SIDE), 7), transparency=7),
    "colours": lambda: encoded(Image.new("RGB", (SIDE, SIDE), "red")),
    "colours, one clear": lambda: encoded(
        Image.new("RGB", (SIDE, SIDE), "red"), transparency=(255, 0, 0)
    ),
    "alpha": lambda: encoded(Image.new("RGBA", (SIDE, SIDE), "red")),
    "one bit": lambda: encoded(Image.new("1", (SIDE, SIDE), 1)),
    "TIFF of 16 bits": lambda: encoded(Image.fromarray(DEEP), "TIFF"),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="of Linux")
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_image_takes_a_few_times_its_pixels(kind):
    """Pillow holds colours in 4 bytes a pixel, of which a step makes a new image."""
    data = LARGE[kind]()
    decode(data, 32)  # what is loaded once
    took = peak_mb(lambda: decode(data, 32)) * 2**20 / SIDE**2
    assert took < 20, f"{took:.1f} bytes a pixel"


def test_names_that_are_no_text_can_be_written(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    with open(folder + b"/a.png", "wb") as handle:
        handle.write(encoded(picture(8, 8)))
    write(tmp_path, "b/1.png")
    source = open_images_in(tmp_path, ImagePreprocessConfig(size=8))
    assert [item.name for item in source.items] == ["b/1.png", "\\udcff/a.png"]
    assert all(name.encode() for name in source.classes)
    assert source.read(1).shape == (3, 8, 8)


def test_an_empty_folder_and_a_missing_one_are_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no images in .*; pass --raw with a folder or a \.zip of"):
        open_images_in(tmp_path, ImagePreprocessConfig())
    with pytest.raises(DataError, match=r"no folder or \.zip of images at .*gone; pass --raw"):
        open_images_in(tmp_path / "gone", ImagePreprocessConfig())


# ImageNet.

WNIDS = ("n01440764", "n01443537", "n02105855")
VAL = [f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{i}.JPEG" for i in range(1, 5)]


@pytest.fixture
def imagenet(tmp_path):
    """Three classes, four validation images, in the folders of the challenge."""
    write(tmp_path, *(f"ILSVRC/Data/CLS-LOC/train/{w}/{w}_10026.JPEG" for w in WNIDS), *VAL)
    (tmp_path / "ILSVRC" / "Annotations").mkdir()
    (tmp_path / "ILSVRC" / "Annotations" / "a.xml").write_text("<annotation/>")
    return tmp_path


def validation(root):
    return [
        label
        for _, label, role in told(open_images_in(root, ImagePreprocessConfig()))
        if role == "val"
    ]


def test_imagenets_validation_list(imagenet):
    rows = [f"ILSVRC2012_val_0000000{i},{WNIDS[k]} 1 2 3 4 {WNIDS[0]} 5 6 7 8" for i, k in
            ((3, 0), (1, 2), (2, 1), (4, 2))]  # in any order, as published  # fmt: skip
    (imagenet / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    assert validation(imagenet) == [WNIDS[2], WNIDS[1], WNIDS[0], WNIDS[2]]
    assert open_images_in(imagenet, ImagePreprocessConfig()).classes == WNIDS


def test_the_development_kit_numbers_classes_in_its_own_order(imagenet):
    kit = imagenet / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n3\n2\n1\n")
    with pytest.raises(DataError, match=r"in the order of the development kit's meta\.mat, which"):
        validation(imagenet)
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    synsets = np.zeros((4, 1), dtype=kinds)
    order = (WNIDS[2], WNIDS[0], WNIDS[1], "n00001740")  # the last: above the leaves
    for k, wnid in enumerate(order):
        synsets[k, 0] = (float(k + 1), wnid, "words")
    scipy.io.savemat(kit / "meta.mat", {"synsets": synsets})
    assert validation(imagenet) == [WNIDS[2], WNIDS[1], WNIDS[0], WNIDS[2]]
    (kit / "meta.mat").write_bytes(b"MATLAB no more")
    with pytest.raises(DataError, match=r"ground_truth\.txt.*is damaged .*; fetch it again"):
        validation(imagenet)


def test_validation_in_class_folders_needs_no_list_and_without_either_it_is_told(imagenet):
    source = open_images_in(imagenet, ImagePreprocessConfig())
    assert validation(imagenet) == [None] * 4
    assert source.notes[-1] == "4 val images have no label: they lie in no class folder"
    base = imagenet / "ILSVRC" / "Data" / "CLS-LOC"
    for i, path in enumerate(sorted((base / "val").iterdir())):
        (base / "val" / WNIDS[i % 3]).mkdir(exist_ok=True)
        path.rename(base / "val" / WNIDS[i % 3] / path.name)
    assert sorted(validation(imagenet)) == [WNIDS[0], WNIDS[0], WNIDS[1], WNIDS[2]]


# Digits and settings.


def test_digits():
    from sklearn.datasets import load_digits

    digits, source = load_digits(), open_digits()
    assert len(source.items) == 1797
    pixels = np.stack([source.read(i) for i in range(1797)])
    assert (pixels.shape, pixels.dtype) == ((1797, 1, 8, 8), np.uint8)
    assert np.abs(pixels[:, 0] / 255 - digits.images / 16).max() < 0.5 / 255 + 1e-9
    assert [item.label for item in source.items] == digits.target.tolist()
    for label in range(10):
        roles = [item.role for item in source.items if item.label == label]
        assert roles.count("test") == round(0.2 * len(roles))
    assert source.items == open_digits().items


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "size is 0; it must be between 1 and 4096"),
        ({"val_share": 1.0}, "val_share is 1.0; it must be between 0 and 0.9"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ImagePreprocessConfig(**settings)


def test_the_formats_call_no_other_program():
    assert not {"EPS", "WMF", "GBR", "HDF5", "FITS"} & set(image_files.FORMATS)
