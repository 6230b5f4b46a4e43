"""What all stores have in common, whatever they hold: settings, provenance, labels, where they lie.

::

    STORE/ meta.json  format version, modality, what decides its bytes, what its labels are
           index.csv  one row per recording or image, and whether it could be read

The wings :mod:`partsig.data.signals.store` and :mod:`partsig.data.images.store` hold the rest.
"""

import csv
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from partsig import regular
from partsig.contracts import Labels, labels_of
from partsig.data import addresses, remote
from partsig.errors import DataError
from partsig.files import read_columns, read_json
from partsig.schema import (
    FILTER,
    LABELS,
    Schema,
    Told,
    count,
    fault_of,
    fault_of_labels,
    names,
    number,
    one_of,
    section,
    text,
    texts,
)

FORMAT = 1
META, INDEX = "meta.json", "index.csv"
OK, FAILED = "ok", "failed"
SCHEMA: Schema = {
    **dict.fromkeys(("modality", "source", "unit", "provenance"), text),
    "ch_names": names,
    "sfreq": number(0, 1e6),
    "dtype": one_of("float32", "float16", "uint8"),
    "filter": FILTER,
    "labels": LABELS,
    **dict.fromkeys(("stages", "classes"), texts),
    "epoch_s": number(0, 1e6),
    "size": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(count(1, 2**16), value))
    ),
    "val_share": number(-1e-9, 0.9),
    "reading": section,
}


def provenance(meta: Mapping) -> str:
    """Return the SHA-256 of the settings that decide the bytes of a store."""
    settings = {key: value for key, value in meta.items() if key != "provenance"}
    if "labels" in settings:  # hashed as partsig 0.1 wrote them: the same bytes have the same hash
        labels = labels_of(settings)
        del settings["labels"]
        settings |= {"stages": list(labels.classes), "epoch_s": labels.unit_s}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def with_provenance(meta: dict, labels: Labels | None = None) -> dict:
    """Return a complete ``meta.json``: settings, labels and the hash of both."""
    if labels is not None:
        meta = meta | {"labels": labels.as_facts()}
    return meta | {"provenance": provenance(meta)}


def read_meta(path: Path) -> dict:
    """Return ``meta.json``; raise DataError when there is none or it is of another version."""
    file = path / META
    if not os.path.isfile(file):  # nor is there one of a name that no file can have
        raise DataError(
            f"no store at {addresses.without_secrets(path)} (it has no meta.json): make one with "
            "`partsig preprocess SOURCE --store …`, or pass --store."
        )
    try:
        meta = read_json(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not readable ({error}).") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        got = meta.get("format") if isinstance(meta, dict) else None
        raise DataError(
            f"{path} is a store of format {str(got)[:40]}; this partsig reads format {FORMAT}: "
            "preprocess again into a new --store."
        )
    fault = fault_of(meta, SCHEMA) or fault_of_labels(meta)
    if fault:
        raise DataError(f"{file} is damaged ({fault}).")
    return Told(meta, file, DataError)


def made_alike(
    path: Path,
    known: Mapping,
    wanted: Mapping,
    rows: Iterable[Mapping],
    may_change: Collection[str] = (),
) -> bool:
    """Tell whether a store was made with the settings ``wanted``, but for those that may change.

    Raises DataError, naming what differs, where it was not and one of its ``rows`` is finished.
    """
    same_labels = labels_of(known) == labels_of(wanted)
    left_out = {"provenance", *may_change, *(["labels"] if same_labels else [])}
    # What is told only where it is not the usual way counts where either tells it.
    both = {**wanted, "reading": wanted.get("reading")}
    keys = [key for key in both if key not in left_out and known.get(key) != both[key]]
    if keys and any(row["status"] == OK for row in rows):
        told = "; ".join(f"{key} {known.get(key)} (now {both[key]})" for key in keys)
        raise DataError(
            f"{path} was made with other settings: {told}. Choose another --store, or the same "
            "settings to continue it."
        )
    return not keys


def index_digest(path: Path) -> str:
    """Return the SHA-256 of the list of what a store holds: the same wherever it is moved."""
    file = path / INDEX
    try:
        with regular.open_bytes(file) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}).") from None


def locate(
    store: str | Path | None, *, recorded: str | Path | None = None, allow_http: bool = False
) -> Path:
    """Return the folder of a store; one elsewhere is fetched below ``data/store``.

    ``recorded`` is where a run says that its store is, which is meant where the user names none: a
    folder only. ``allow_http``: whether what comes without encryption was allowed.

    Raises ConfigError for an address that is not followed, DataError for a recorded one, and where
    a store cannot be fetched.
    """
    if store is None:
        addresses.refuse_recorded(recorded, "the run")
        return Path(str(recorded))
    if not addresses.is_url(store):
        return Path(store)
    addresses.check(str(store), "--store", allow_http)
    folder = remote.mirror(str(store), "store")
    remote.pull(str(store), folder, arrays=arrays_of)
    return folder


def arrays_of(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each recording's samples that a store's index tells, by their file.

    Of a store that is none, or whose index tells nothing of the kind, that is nothing.
    """
    try:
        rows = read_columns(path / INDEX, ("recording", "status", "sha256"))
        return {f"signals/{name}.npy": digest for name, status, digest in rows if status == OK}
    except (OSError, LookupError, ValueError, csv.Error):
        return {}
