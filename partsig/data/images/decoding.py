"""Bytes of an image file to pixels: any mode of Pillow to 8 bits, grey or red, green and blue."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from partsig.errors import DataError

# Decoders that are tried, whatever a file's suffix: none that calls another program, as EPS does.
Image.init()  # Pillow knows only some of them before
FORMATS = tuple(
    kind
    for kind in ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "JPEG2000")
    if kind in Image.OPEN
)
AT_ONCE = 2**18  # pixels that are worked on together
ORIENTATION = 0x0112  # EXIF tag, from 1 (upright) to 8
# Tags of TIFF 6.0, section 4: bits of a value; 0 where the lowest value is white.
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
# JPEG 2000 (ISO 15444-1, annex A.5.1): the markers SOC and SIZ; the first component's precision
# comes 40 bytes after SIZ has begun.
SIZ, PRECISION = b"\xff\x4f\xff\x51", 42
# Bits of a value in Pillow's names of how a PNG stores it.
PNG_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "RGB": 8, "I;16B": 16, "RGB;16B": 16}
# What Pillow and zipfile raise on damaged files.
DAMAGED = (
    *(OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, AttributeError),
    *(OverflowError, MemoryError, EOFError, NotImplementedError, RuntimeError, struct.error),
    *(zlib.error, zipfile.BadZipFile, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def decode(data: bytes, size: int, grey: bool = False) -> np.ndarray:
    """Return an encoded image as (3, size, size) uint8, or (1, size, size) when ``grey``.

    Turned as its EXIF says, alpha over white, 16 bits rounded to 8, the first frame of several. An
    image of that size is copied exactly. Raises DataError for one that is damaged, of more pixels
    than Pillow's limit, or of floats or 32-bit integers, whose range nobody knows.
    """
    with _decoding(), _opened(data) as image:
        image.draft(image.mode, (2 * size, 2 * size))
        stored = _stored(image)
        image.load()
        pixels = _to_bytes(_upright(image), _levels(image, stored, data), grey)
        side = min(pixels.size)
        left, top = ((extent - side) // 2 for extent in pixels.size)
        box = (left, top, left + side, top + side)
        if side == size:
            pixels = pixels.crop(box)
        else:
            pixels = pixels.resize((size, size), Image.Resampling.BICUBIC, box, 2.0)
    return as_array(pixels)


def decode_whole(data: bytes, grey: bool = False) -> Image.Image:
    """Return an encoded image in RGB, or in L when ``grey``, in its own size.

    Not turned by its EXIF: what others have marked is told in the pixels as the file holds them.
    Otherwise as :func:`decode`, and raises DataError as that does.
    """
    with _decoding(), _opened(data) as image:
        stored = _stored(image)
        image.load()
        return _to_bytes(image, _levels(image, stored, data), grey)


def size_of(data: bytes) -> tuple[int, int]:
    """Return width and height of an encoded image, by its header; raises as :func:`decode` does."""
    with _decoding(), _opened(data) as image:
        return image.size


def decode_labels(data: bytes) -> np.ndarray:
    """Return the numbers of an encoded map of labels: (H, W), or (H, W, 3) of one in colour, uint8.

    Those of a palette are its numbers, not its colours; alpha is left out, grey of 1, 2 or 4 bits
    is as the file counts. Raises DataError for what is damaged or has more than 8 bits.
    """
    with _decoding(), _opened(data) as image:
        stored = _stored(image)
        image.load()
        bits = PNG_BITS.get(stored, 8) if image.format == "PNG" and image.mode == "L" else 8
        if image.mode in ("LA", "PA", "RGBA"):
            image = image.convert({"LA": "L", "PA": "P", "RGBA": "RGB"}[image.mode])
        if image.mode not in ("1", "L", "P", "RGB"):
            raise DataError(f"it is no map of labels in 8 bits (Pillow's mode {image.mode})")
        return np.asarray(image).astype(np.uint8) // (255 // (2**bits - 1))


def decode_levels(data: bytes) -> np.ndarray:
    """Return the grey levels (H, W) uint8 of an encoded image; alpha is left out, not blended.

    Raises DataError for what is damaged or has more than 8 bits.
    """
    with _decoding(), _opened(data) as image:
        image.load()
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            image = image.convert({"L": "L", "P": "P"}.get(image.mode[0], "RGB"))
        if image.mode not in ("1", "L", "P", "RGB"):
            raise DataError(f"it is no image of grey levels in 8 bits (Pillow's {image.mode})")
        image.info.pop("transparency", None)
        return np.asarray(image.convert("L"))


def as_array(pixels: Image.Image) -> np.ndarray:
    """Return an image in RGB or L as (3, H, W) or (1, H, W) uint8."""
    array = np.asarray(pixels).reshape(pixels.height, pixels.width, -1)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        n_pixels = image.width * image.height
        if n_pixels > Image.MAX_IMAGE_PIXELS:
            raise DataError(
                f"it has {n_pixels:,} pixels, more than Pillow's limit of "
                f"{Image.MAX_IMAGE_PIXELS:,}: a decompression bomb, or an image to make smaller"
            )
        yield image


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        # Pillow's own sentence holds an address in memory.
        raise DataError(f"it is none of {', '.join(FORMATS)}") from None
    except DAMAGED as error:
        raise DataError(f"it cannot be decoded ({told(error)})") from error


def _stored(image: Image.Image) -> object:
    """Return what Pillow tells its decoder of how values are stored; loading forgets it."""
    return image.tile[0].args if image.tile else None


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except DAMAGED:  # broken EXIF says nothing about the pixels
        return image
    return ImageOps.exif_transpose(image) if turned else image


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """What the numbers of an image mean that Pillow gives in more than 8 bits, or as stored.

    ``scale``: what they are divided by to be those of the file, of which ``top`` is white, or black
    where they are ``inverted``. ``clear`` is the one that is transparent, in 8 bits or in the
    file's; None where none is.
    """

    scale: float = 1.0
    top: int = 65535
    inverted: bool = False
    clear: int | tuple[int, ...] | None = None


def _levels(image: Image.Image, stored: object, data: bytes) -> _Levels:
    """Return what an image's numbers mean; raise DataError where that cannot be known.

    ``stored`` is what Pillow has told its decoder: for PNG a name of bits, for PPM the top value.
    """
    deep = image.mode == "I" or image.mode.startswith("I;16")
    if image.format == "PNG":
        return _Levels(clear=_clear(image, PNG_BITS.get(stored)))
    if image.mode == "I" and image.format != "PPM":  # of which 16 bits come as such too
        raise DataError(
            "its values are 32-bit integers of unknown range; convert it to 8 or 16 bits"
        )
    if deep and image.format == "PPM" and isinstance(stored, tuple):
        return _Levels(scale=65535 / stored[1], top=stored[1])
    if deep and image.format == "JPEG2000":
        bits = (data[data.index(SIZ) + PRECISION] & 0x7F) + 1
        return _Levels(scale=2 ** (16 - bits), top=2**bits - 1)
    if deep and image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0]
        inverted = image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        return _Levels(top=2**bits - 1, inverted=inverted)
    return _Levels()


def _clear(image: Image.Image, bits: int | None) -> int | tuple[int, ...] | None:
    """Return the value of a PNG that is transparent, as large as Pillow gives the others."""
    clear = image.info.get("transparency")
    if clear is None or isinstance(clear, bytes) or image.mode == "P" or bits is None:
        return None
    if isinstance(clear, tuple) and bits == 16:
        raise DataError(
            "one of its colours of 16 bits is transparent, of which 8 bits are read; convert it "
            "to 8 bits"
        )
    return clear * 255 // (2**bits - 1) if bits < 8 else clear


def _to_bytes(image: Image.Image, levels: _Levels, grey: bool) -> Image.Image:
    """Return an image of any mode, whose numbers mean that, in L or RGB."""
    if image.mode == "F":
        raise DataError("its values are floats of unknown range; convert it to 8 or 16 bits")
    clear = levels.clear
    if clear is not None:
        clear = _where(image.convert("L") if image.mode == "1" else image, clear)
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion would cut everything above 255.
        image = _in_eight_bits(image, levels)
    elif clear is None and (
        image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    ):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image.info.pop("transparency", None)  # it is in ``clear``, in other numbers
        image = image.convert("RGB")
    if clear is not None:
        image = Image.composite(Image.new(image.mode, image.size, "white"), image, _mask(clear))
    return image.convert("L" if grey else "RGB")


def _strips(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of an image some at a time: what is made of them is larger than they are."""
    rows = max(AT_ONCE // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), np.asarray(image.crop((0, top, image.width, bottom)))


def _where(image: Image.Image, colour: int | tuple[int, ...]) -> np.ndarray:
    """Return (H, W) bool: which pixels have a colour."""
    held = np.empty((image.height, image.width), bool)
    for rows, part in _strips(image):
        same = part == np.asarray(colour)
        held[rows] = same.all(-1) if same.ndim == 3 else same
    return held


def _in_eight_bits(image: Image.Image, levels: _Levels) -> Image.Image:
    """Return an image of more bits in 8."""
    held = np.empty((image.height, image.width), np.uint8)
    for rows, part in _strips(image):
        values = np.rint(part.astype(np.float64) / levels.scale).astype(np.int64)
        values = (2 * 255 * values + levels.top) // (2 * levels.top)
        held[rows] = np.clip(255 - values if levels.inverted else values, 0, 255)
    return Image.fromarray(held)


def _mask(where: np.ndarray) -> Image.Image:
    return Image.fromarray(where.astype(np.uint8) * np.uint8(255))
