"""MATLAB files of version 5: structs, text and numbers, read within the bytes that are there.

SciPy's reader believes what a file claims, and a damaged one can end the process. This one takes
nothing on trust: no element reaches beyond the one that holds it, and what a compressed one unpacks
to is bounded.

Source: MAT-File Format, MathWorks. A file is a header of 128 bytes, and elements: a type and a
length, 4 bytes each, and data, padded to 8 bytes; data of up to 4 bytes may lie in the tag itself,
whose first half then tells their length. A matrix is an element of elements: flags, dimensions,
name, and content by its class.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.errors import DataError

MOST_BYTES, MOST_UNPACKED, DEEPEST = 2**24, 2**28, 16
HEADER = 128
MATRIX, COMPRESSED = 14, 15
# Types of data, and classes of matrices.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
NUMBERS |= {13: "u8"}
TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
COMPLEX = 0x800  # of a matrix's flags
STRUCT, CHAR, FIRST_NUMBER, LAST_NUMBER = 2, 4, 6, 15

# A struct array is the list of its elements, an empty matrix an empty array.
Value = "np.ndarray | str | list[dict[str, Value]]"


class _Damaged(Exception):
    """What a file claims does not fit its bytes."""


@dataclass(frozen=True)
class _Element:
    kind: int
    data: memoryview


def read_mat(file: Path) -> dict[str, object]:
    """Return the variables of a file: structs as lists of dicts, text, and arrays of numbers.

    Raises DataError where it is damaged, too large, or holds what is neither.
    """
    data = read_bytes(file, MOST_BYTES, "annotation of an image")
    try:
        return dict(_variables(data))
    except (_Damaged, struct.error, UnicodeError, zlib.error) as error:
        raise DataError(f"{file.name} is no whole MATLAB file of version 5 ({error})") from None


def _variables(data: bytes) -> Iterator[tuple[str, object]]:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if order is None:
        raise _Damaged("its header is another")
    for element in _elements(memoryview(data)[HEADER:], order):
        inner = [element]
        if element.kind == COMPRESSED:
            unpacking = zlib.decompressobj()
            unpacked = unpacking.decompress(element.data, MOST_UNPACKED)
            if unpacking.unconsumed_tail:
                raise _Damaged(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
            if not unpacking.eof:
                raise _Damaged("it ends in the middle")
            inner = list(_elements(memoryview(unpacked), order))
        for matrix in inner:
            if matrix.kind == MATRIX:
                yield _matrix(matrix.data, order, 0)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that lie in these bytes, one after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, n = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # of up to 4 bytes, in the tag
            kind, n, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if n > 4:
                raise _Damaged("an element of four bytes claims more")
        else:
            begin = at + 8
            after = begin + n + (0 if kind == COMPRESSED else -n % 8)
        if begin + n > len(data):
            raise _Damaged("an element reaches beyond its end")
        yield _Element(kind, data[begin : begin + n])
        at = after


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, object]:
    """Return name and value of a matrix."""
    if not len(data):
        return "", np.zeros((0, 0))
    if depth > DEEPEST:
        raise _Damaged("it is nested without end")
    parts = _elements(data, order)
    flags, shape, name = (_next(parts) for _ in range(3))
    told = int(_numbers(flags, order)[:1].sum())
    kind = told & 0xFF
    if told & COMPLEX:
        raise _Damaged("it holds complex numbers")
    dimensions = [int(n) for n in _numbers(shape, order)]
    if not dimensions or min(dimensions) < 0:
        raise _Damaged(f"a matrix of {dimensions}")
    n = math.prod(dimensions)
    label = bytes(name.data).decode("utf-8")
    if kind == STRUCT:
        return label, _struct(parts, n, order, depth)
    if kind != CHAR and not FIRST_NUMBER <= kind <= LAST_NUMBER:
        raise _Damaged(f"it holds a matrix of class {kind}")
    content = _next(parts)
    if kind == CHAR:
        return label, _text(content, order)
    numbers = _numbers(content, order)
    if len(numbers) != n:
        raise _Damaged(f"{len(numbers)} numbers in a matrix of {dimensions}")
    return label, numbers.reshape(dimensions, order="F")


def _struct(parts: Iterator[_Element], n: int, order: str, depth: int) -> list[dict[str, object]]:
    length = int(_numbers(_next(parts), order)[:1].sum())
    names = bytes(_next(parts).data)
    if length < 1 or len(names) % length:
        raise _Damaged("names of fields that do not fit")
    fields = [
        names[at : at + length].split(b"\0")[0].decode() for at in range(0, len(names), length)
    ]
    values = list(parts)
    if len(values) != n * len(fields):
        raise _Damaged(f"{len(values)} values for {n} times {len(fields)} fields")
    told = []
    for start in range(0, len(values), len(fields) or 1):
        some = values[start : start + len(fields)]
        if any(value.kind != MATRIX for value in some):
            raise _Damaged("a field that is no matrix")
        found = (_matrix(value.data, order, depth + 1)[1] for value in some)
        told.append(dict(zip(fields, found, strict=True)))
    return told


def _next(parts: Iterator[_Element]) -> _Element:
    element = next(parts, None)
    if element is None:
        raise _Damaged("a matrix ends too early")
    return element


def _numbers(element: _Element, order: str) -> np.ndarray:
    if element.kind not in NUMBERS:
        raise _Damaged(f"type {element.kind} in place of numbers")
    dtype = np.dtype(f"{order}{NUMBERS[element.kind]}")
    if len(element.data) % dtype.itemsize:
        raise _Damaged("half a number")
    return np.frombuffer(element.data, dtype)


def _text(element: _Element, order: str) -> str:
    if element.kind in TEXTS:
        ending = "" if element.kind == 16 else {"<": "-le", ">": "-be"}[order]
        return bytes(element.data).decode(TEXTS[element.kind] + ending)
    codes = _numbers(element, order)
    if codes.dtype.kind == "f" or (len(codes) and not 0 <= codes.min() <= codes.max() < 0xD800):
        raise _Damaged("numbers in place of letters")
    return "".join(map(chr, codes.tolist()))
