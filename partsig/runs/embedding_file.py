"""Embeddings written as they come: a growing .npz or Parquet file, whole or not there at all."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from partsig import regular
from partsig.errors import ConfigError, DataError
from partsig.files import atomic, remove_leftovers

SUFFIXES = (".npz", ".parquet")
MOST_META = 2**28  # bytes of the metadata: names of subjects, four bytes a letter
# Rows of a row group of a Parquet file.
ROWS = 4096
Columns = Mapping[str, np.ndarray]
Take = Callable[[np.ndarray], None]


def check_suffix(path: Path) -> None:
    """Raise ConfigError where a file's ending is none that can be written."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--output {path}: it must end in {' or '.join(SUFFIXES)}.")


def check_own(path: Path) -> None:
    """Raise DataError where a file is there that holds no embeddings of partsig's."""
    if not os.path.lexists(path):
        return
    try:
        regular.check(path)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("meta.npy").file_size > MOST_META:
                    raise ValueError("ours are small")
                with archive.open("meta.npy") as member:
                    meta = np.lib.format.read_array(member, allow_pickle=False)
            known = "partsig" in json.loads(str(meta))["environment"]
        else:
            import pyarrow.parquet as pq

            known = b"partsig" in (pq.read_schema(path).metadata or {})
    except ImportError:
        return  # nothing will be written either
    except Exception:  # noqa: BLE001 (whatever it is, it is not ours)
        known = False
    if not known:
        raise DataError(
            f"{path} is there already and is not partsig's: it is kept; choose another --output."
        )


@contextmanager
def open_writer(path: Path, columns: Columns, width: int, meta: dict) -> Iterator[Take]:
    """Yield a function that appends embedding blocks (b, width) float32, n rows in all.

    ``columns`` of length n stand beside them.

    An .npz has the columns, ``embeddings`` and ``meta`` (JSON); a Parquet file has columns ``e_0``
    … instead, and the JSON in its schema's metadata under ``partsig``. Raises ConfigError where
    pyarrow is needed and not installed.
    """
    remove_leftovers(path.parent)
    with (_npz if path.suffix == ".npz" else _parquet)(path, columns, width, meta) as take:
        yield take


@contextmanager
def _npz(path: Path, columns: Columns, width: int, meta: dict) -> Iterator[Take]:
    total = len(next(iter(columns.values())))
    header = {"descr": "<f4", "fortran_order": False, "shape": (total, width)}
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, values in (*columns.items(), ("meta", np.array(json.dumps(meta)))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            yield lambda block: member.write(np.ascontiguousarray(block, "<f4").data)


@contextmanager
def _parquet(path: Path, columns: Columns, width: int, meta: dict) -> Iterator[Take]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            f"writing {path.name} needs pyarrow: pip install 'partsig[parquet]'."
        ) from None
    kinds = {
        name: pa.string() if values.dtype.kind == "U" else pa.from_numpy_dtype(values.dtype)
        for name, values in columns.items()
    }
    kinds |= {f"e_{i}": pa.float32() for i in range(width)}
    schema = pa.schema(kinds, metadata={"partsig": json.dumps(meta)})
    held: list[np.ndarray] = []
    written = 0

    def flush() -> None:
        nonlocal written
        block = np.concatenate(held)
        rows = slice(written, written + len(block))
        told = [values[rows] for values in columns.values()] + list(block.T)
        writer.write_table(pa.table(told, schema=schema))
        written += len(block)
        held.clear()

    def take(block: np.ndarray) -> None:
        held.append(block)
        if sum(map(len, held)) >= ROWS:
            flush()

    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        yield take
        if held:
            flush()
