"""Looks for words in files as somebody would who wants them: unpacked, in every encoding."""

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
BASE64 = re.compile(rb"base64,([A-Za-z0-9+/=\s]{16,})")
ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
DEEPEST, MOST = 5, 2**26


def without_pixels(data: bytes) -> bytes:
    """Return the chunks of a PNG file that are no picture: where texts are."""
    kept, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4])
        chunk = data[place : place + length + 12]
        kept += [] if chunk[4:8] == b"IDAT" else [chunk]
        place += len(chunk)
    return b"".join(kept)


def parts(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield data, and what it holds packed: members of archives, streams, texts in base64."""
    png = data[:8] == b"\x89PNG\r\n\x1a\n"
    data = without_pixels(data) if png else data
    yield data
    if depth == DEEPEST:
        return
    inner: list[bytes] = []
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inner += [name.encode() for name in archive.namelist()]
            inner += [archive.read(name) for name in archive.namelist()]
            inner.append(archive.comment)
    if data[:2] == b"\x1f\x8b":
        inner.append(gzip.decompress(data))
    if data[:4] == b"PAR1":
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(data))
        inner.append(repr(table.schema.metadata).encode())
        inner += [repr(table.column(i).unique().to_pylist()).encode() for i in range(3)]
    if depth or png:
        whole = memoryview(data)
        for found in ZLIB.finditer(data):
            try:
                inner.append(zlib.decompressobj().decompress(whole[found.start() :], MOST))
            except zlib.error:
                continue
    inner += [base64.b64decode(found[1]) for found in BASE64.finditer(data)]
    for part in inner:
        yield from parts(part, depth + 1)


def find(words: Iterable[str], *places: Path) -> list[str]:
    """Return ``file: word`` for every word that stands in a file of these folders, or in its name.

    Upper and lower case are the same.
    """
    found = []
    wanted = {word: {word.lower().encode(e) for e in ENCODINGS} for word in words}
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            told = str(path.relative_to(place)).encode()
            data = path.read_bytes() if path.is_file() else b""
            for part in (told, *parts(data)):
                low = part.lower()
                found += [
                    f"{path.name}: {word}"
                    for word, ways in wanted.items()
                    if any(way in low for way in ways)
                ]
    return sorted(set(found))
