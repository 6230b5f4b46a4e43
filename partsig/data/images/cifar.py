"""CIFAR-10 and CIFAR-100 from the official python pickles, which are read, never executed.

A pickle is a program. These hold dicts, lists, numbers, texts and one array of bytes, so only the
instructions that build those are let through, and the three names of numpy that such an array asks
for are answered by stand-ins made here, which copy bytes and do nothing else.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
import io
import math
import pickle
import pickletools
import tarfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.data.images.store import CH_NAMES, Item, Source
from partsig.errors import DataError

# Everything that pickle protocols 0 to 5 have for data, and GLOBAL, REDUCE and BUILD for the array.
# Left out: INST, OBJ, NEWOBJ, NEWOBJ_EX (make objects of any class), EXT1 to EXT4 (name a global by
# a number that other code registered), PERSID, BINPERSID and the out-of-band buffers.
ALLOWED_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE "
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
)
# What a damaged or hostile pickle makes the reader raise; nothing of it runs code.
DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, OverflowError, MemoryError, RecursionError, ImportError),
)
# The largest official file, train of CIFAR-100, has 155 MB.
LARGEST = 2**28
SIZE = (32, 32)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a data set's files are, and under which keys their labels and classes."""

    folder: str
    archive: str
    files: dict[str, str]  # name: role
    meta: str
    labels: bytes
    class_names: bytes
    n_classes: int


LAYOUTS = {
    "cifar10": Layout(
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        files={f"data_batch_{i}": "train" for i in range(1, 6)} | {"test_batch": "test"},
        meta="batches.meta",
        labels=b"labels",
        class_names=b"label_names",
        n_classes=10,
    ),
    "cifar100": Layout(
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        files={"train": "train", "test": "test"},
        meta="meta",
        labels=b"fine_labels",
        class_names=b"fine_label_names",
        n_classes=100,
    ),
}
PUBLISHED = {"train": 50_000, "test": 10_000}


def safe_load(data: bytes, where: str = "pickle") -> object:
    """Return the dicts, lists, numbers, bytes and uint8 arrays that a pickle describes.

    Python 2's texts come as bytes. Raises DataError for one that is damaged, and for one that names
    anything but an array of bytes, saying what it asked for; nothing of it is run.

    >>> safe_load(pickle.dumps({"labels": [3, 1]}, protocol=2))
    {'labels': [3, 1]}
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in damaged texts
            _check_opcodes(data, where)
            reader, array = _reader(where)
            content = reader(io.BytesIO(data), encoding="bytes").load()
    except DAMAGED as error:
        raise DataError(f"{where} is no whole pickle ({error}); fetch it again.") from error
    if not isinstance(content, dict):
        return content
    return {key: part.value if isinstance(part, array) else part for key, part in content.items()}


def _check_opcodes(data: bytes, where: str) -> None:
    allowed = frozenset(ALLOWED_OPCODES.split())
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in allowed:
            asked = "" if argument is None else f" {str(argument).replace(' ', '.')}"
            raise DataError(
                f"{where}: the pickle uses {opcode.name}{asked}, which CIFAR's files do not need "
                "and which can run code; it was not run. Fetch the official file."
            )
        if opcode.name == "GLOBAL":
            _check_global(*argument.split(" ", 1), where)
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument) > len(data):
            raise ValueError(f"its memo has a place {argument}")  # room for it would be made


def _check_global(module: str, name: str, where: str) -> None:
    if (module, name) not in STAND_INS:
        raise DataError(
            f"{where}: the pickle asks for {module}.{name}, which CIFAR's files do not need; it "
            "was not run. Fetch the official file."
        )


def _reader(where: str) -> tuple[type[pickle.Unpickler], type]:
    """Return an unpickler and its stand-in of an array.

    Both are made anew, because BUILD can set attributes of a class: no pickle alters another's.
    """

    class DType:
        def __init__(self, name: object, *_: object) -> None:
            if name not in ("u1", b"u1", "uint8", b"uint8"):
                raise ValueError(f"an array of type {name!r:.40}, not uint8")

        def __setstate__(self, _: object) -> None:
            pass

    class Array:
        value: np.ndarray | None = None

        def __setstate__(self, state: tuple) -> None:
            _, shape, dtype, fortran, raw = state
            if not isinstance(dtype, DType) or not isinstance(raw, bytes):
                raise ValueError("an array whose content is not bytes")
            extents = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
            if not extents or math.prod(shape) != len(raw):
                raise ValueError(f"an array of shape {shape!r:.40} in {len(raw)} bytes")
            flat = np.frombuffer(raw, dtype=np.uint8)
            self.value = flat.reshape(shape, order="F" if fortran else "C")

    def reconstruct(*_: object) -> Array:
        return Array()

    def encode(text: str, encoding: object) -> bytes:  # how Python 3 writes bytes in protocol 2
        if encoding not in ("latin1", b"latin1"):
            raise ValueError(f"bytes in {encoding!r:.40}")
        return text.encode("latin1")

    answers = {"reconstruct": reconstruct, "array": Array, "dtype": DType, "encode": encode}

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            _check_global(module, name, where)
            return answers[STAND_INS[module, name]]

    return Reader, Array


# The globals that a pickled array of bytes names, and which stand-in answers.
STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy", "ndarray"): "array",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}


def open_cifar(name: str, raw: Path, grey: bool = False) -> Source:
    """Return the images of ``cifar10`` or ``cifar100`` (3, 32, 32), or (1, 32, 32) in ``grey``.

    ``raw`` is the .tar.gz as downloaded, what it unpacks to, or the folder either lies in. Images
    are named FILE/NUMBER, and labelled with the fine classes. Raises DataError when a file is
    missing, damaged, or holds something else.
    """
    layout = LAYOUTS[name]
    fetch, place = _files(layout, raw)
    meta = _read(fetch, layout.meta, place)[0]
    names = meta.get(layout.class_names)
    if not isinstance(names, list) or len(names) != layout.n_classes:
        raise DataError(
            f"{place}/{layout.meta}: {layout.class_names.decode()} must list {layout.n_classes} "
            f"names; is this {name}?"
        )
    items: list[Item] = []
    parts: list[np.ndarray] = []
    for file, role in layout.files.items():
        content, digest = _read(fetch, file, place)
        data, labels = _checked(content, layout, f"{place}/{file}")
        parts.append(data)
        items += [Item(f"{file}/{i:05d}", k, role, digest) for i, k in enumerate(labels)]
    pixels = np.concatenate(parts).reshape(-1, 3, *SIZE)
    if grey:
        pixels = to_grey(pixels)
    counts = {role: sum(item.role == role for item in items) for role in PUBLISHED}
    return Source(
        name=name,
        size=SIZE,
        ch_names=CH_NAMES[grey],
        classes=tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names),
        items=items,
        read=pixels.__getitem__,
        notes=tuple(
            f"{count:,} {role} images; the official {name} has {PUBLISHED[role]:,}"
            for role, count in counts.items()
            if count != PUBLISHED[role]
        ),
    )


def _files(layout: Layout, raw: Path) -> tuple[Callable[[str], bytes | None], str]:
    """Return what gives a file's bytes (None: not there), and a name for the place."""
    for folder in (raw, raw / layout.folder):
        if (folder / layout.meta).is_file():
            return partial(_bytes_of, folder), str(folder)
    archive = raw if raw.is_file() else raw / layout.archive
    if archive.is_file():
        return _archived(layout, archive).get, str(archive)
    raise DataError(
        f"no {layout.folder}/ and no {layout.archive} in {raw}: download {layout.archive} from "
        "https://www.cs.toronto.edu/~kriz/cifar.html, or pass --raw."
    )


def _bytes_of(folder: Path, name: str) -> bytes | None:
    path = folder / name
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path} is larger than any file of CIFAR; fetch the official one.")
    return read_bytes(path, LARGEST, "file of CIFAR")


def _archived(layout: Layout, archive: Path) -> dict[str, bytes]:
    wanted = {layout.meta, *layout.files}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in wanted and member.size <= LARGEST:
                    found[name] = tar.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive} is damaged ({error}); download it again.") from error
    return found


def _read(fetch: Callable[[str], bytes | None], name: str, place: str) -> tuple[dict, str]:
    """Return a file's dict, its keys as bytes, and its fingerprint."""
    data = fetch(name)
    if data is None:
        raise DataError(f"{place} lacks {name}; unpack or download all of it again.")
    content = safe_load(data, f"{place}/{name}")
    if not isinstance(content, dict):
        raise DataError(f"{place}/{name} holds a {type(content).__name__}, not a dict.")
    keyed = {key.encode() if isinstance(key, str) else key: v for key, v in content.items()}
    return keyed, hashlib.sha256(data).hexdigest()[:12]


def _checked(content: dict, layout: Layout, where: str) -> tuple[np.ndarray, list[int]]:
    """Return data (n, 3072) uint8 and labels (n) of a file, or raise DataError."""
    data, labels = content.get(b"data"), content.get(layout.labels)
    values = 3 * math.prod(SIZE)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != values:
        got = f"an array {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{where}: data is {got}; it must be (n, {values}) uint8.")
    if not isinstance(labels, list) or len(labels) != len(data):
        got = f"{len(labels)} labels" if isinstance(labels, list) else type(labels).__name__
        raise DataError(
            f"{where}: {layout.labels.decode()} is {got}; it must be a list of {len(data)}."
        )
    if not all(type(label) is int and 0 <= label < layout.n_classes for label in labels):
        raise DataError(f"{where}: labels must be whole numbers below {layout.n_classes}.")
    return data, labels


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Return colours (N, 3, H, W) uint8 as their luma (N, 1, H, W), as Pillow rounds it.

    Source: ITU-R BT.601, .299 R + .587 G + .114 B, in units of 2**-16.

    >>> to_grey(np.array([255, 0, 0], dtype=np.uint8).reshape(1, 3, 1, 1)).item()
    76
    """
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    parts = [np.tensordot(weights, part.astype(np.uint32), axes=1) for part in pixels]
    return ((np.stack(parts)[:, None] + 0x8000) >> 16).astype(np.uint8)
