"""Maps of labels, and images in which places are marked: read as the file holds them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from partsig.data.images.decoding import decode_labels, decode_whole, size_of
from partsig.errors import DataError


def test_maps_of_labels_are_read_as_they_are_stored():
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([255 - k % 256 for k in range(768)])
    palette.putdata(labels.ravel().tolist())
    alpha = Image.merge("LA", [Image.fromarray(labels), Image.new("L", (4, 4), 9)])
    colours = np.stack([labels, labels + 1, labels + 2], -1)
    for image, expected in (
        (Image.fromarray(labels), labels),
        (palette, labels),
        (alpha, labels),
        (Image.fromarray(labels > 7), labels > 7),
        (Image.fromarray(colours), colours),
        (Image.fromarray(colours).convert("RGBA"), colours),
    ):
        np.testing.assert_array_equal(decode_labels(as_png(image)), expected)
    with pytest.raises(DataError, match=r"no map of labels in 8 bits \(Pillow's mode I;16\)"):
        decode_labels(as_png(Image.fromarray(labels.astype(np.uint16))))
    # Four bits, as the file counts: Pillow makes 17 of each.
    few = png_of_four_bits(labels)
    assert np.asarray(Image.open(io.BytesIO(few))).max() == 255
    np.testing.assert_array_equal(decode_labels(few), labels)


def as_png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def png_of_four_bits(labels):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = labels.shape
    rows = b"".join(b"\0" + bytes(row[::2] * 16 + row[1::2]) for row in labels)
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_what_is_marked_is_told_in_the_pixels_of_the_file():
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    assert decode_whole(file.getvalue()).size == size_of(file.getvalue()) == (6, 4)
    np.testing.assert_array_equal(np.asarray(decode_whole(file.getvalue(), grey=True)), image)
    with pytest.raises(DataError, match="it is none of JPEG"):
        size_of(b"no image")
