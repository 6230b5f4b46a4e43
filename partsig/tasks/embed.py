"""``partsig embed``: a run and a store in, one embedding per 30-s epoch out."""

import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from partsig.data.datasets import Epochs
from partsig.data.recordings import EPOCH_S, STAGES
from partsig.data.store import Store, locate, open_store
from partsig.errors import ConfigError, DataError
from partsig.files import atomic, remove_leftovers
from partsig.tasks import packed as packing
from partsig.tasks import runs
from partsig.tasks.stagers import in_batches
from partsig.train import distributed

SUFFIXES = (".npz", ".parquet")
# Epochs of a row group of a Parquet file.
ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Where the embeddings lie, and how many there are: (n_epochs, width)."""

    path: Path
    n_recordings: int
    n_epochs: int
    width: int
    pool: str


def embed(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    recordings: Iterable[str] | None = None,
    output: str | Path | None = None,
    pool: str = "auto",
    device: str = "auto",
) -> Embedded:
    """Write an embedding of every 30-s epoch, scored or not, and return where.

    ``run`` is a finished pretraining or fine-tuning run or an exported folder (default: the
    pretraining run that finished last), ``store`` the run's own if not given. ``output`` ends in
    .npz or .parquet (needs pyarrow); the default is ``RUN/embeddings/STORE.npz``. An .npz holds
    ``recording``, ``subject``, ``epoch``, ``onset_s`` (from the recording's start), ``stage`` (""
    where unscored), ``embeddings`` (n, F) float32, and ``meta`` (JSON); a Parquet file has columns
    ``e_0`` … instead, and the JSON in its schema's metadata under ``partsig``.

    ``pool``: cls, mean, mean+sd or mean+sd+spectrum, see ClassifierConfig; auto is what a
    fine-tuned run's head sees, and mean+sd+spectrum of a pretrained encoder, as in
    ``configs/few-labels.yaml``. A run that was pretrained on windows shorter than 30 s encodes an
    epoch in several, pooled together.

    **Who was seen in training is in the metadata** (``subjects_pretraining`` and
    ``subjects_labelled``; null for an exported folder, which does not know): hold them out of
    tests, or call the test transductive. Memory is flat in the number of recordings; killed,
    nothing is left half-written.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    path = Path(run) if run else runs.last("pretrain")
    packed = packing.load(path)
    chosen = packing.check_pool(pool, packed)
    if store is None and packed.record is None:
        raise ConfigError(f"{path} is an exported folder and knows no store: pass --store.")
    opened = open_store(locate(packed.record["store"] if store is None else store))
    for key, ours in (("ch_names", list(opened.ch_names)), ("sfreq", opened.sfreq)):
        if packed.facts[key] != ours:
            raise DataError(
                f"{path} was trained with {key} {packed.facts[key]}; {opened.path} has {ours}. "
                "Preprocess it again with those settings."
            )
    names = _chosen(opened, recordings)
    target = Path(output) if output else path / "embeddings" / f"{opened.path.resolve().name}.npz"
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"--output {target}: it must end in {' or '.join(SUFFIXES)}.")
    width = packing.width_of(packed.model, chosen)
    meta = _meta(packed, path, opened, chosen)
    where = distributed.pick_device(device)
    model = packed.model.eval().to(where)
    total = sum(opened.recordings[name]["n_epochs"] for name in names)
    remove_leftovers(target.parent)
    writer = _npz if target.suffix == ".npz" else _parquet
    bar = tqdm(
        total=total,
        unit="epoch",
        desc="embed",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    )
    with writer(target, opened, names, width, meta) as take, bar, torch.inference_mode():
        for name in names:
            epochs = Epochs(opened, [name], scored=False)
            for x in in_batches(epochs, where):
                found = packing.embed_windows(model, packed.facts["window"], x, chosen)
                take(found.float().cpu().numpy())
                bar.update(len(found))
    return Embedded(path=target, n_recordings=len(names), n_epochs=total, width=width, pool=chosen)


def _chosen(store: Store, recordings: Iterable[str] | None) -> list[str]:
    """Return the recordings that have an epoch, in the store's order."""
    wanted = set(store.recordings) if recordings is None else set(recordings)
    unknown = sorted(wanted - set(store.recordings))
    if unknown:
        raise DataError(f"{store.path} has no recording {', '.join(unknown[:5])}; see index.csv.")
    names = [n for n, row in store.recordings.items() if n in wanted and row["n_epochs"]]
    if not names:
        raise DataError(f"no recording of {store.path} has a whole 30-s epoch.")
    return names


def _meta(packed: packing.Packed, path: Path, store: Store, pool: str) -> dict:
    record, facts = packed.record, packed.facts
    seen = labelled = None
    if record is not None and record["kind"] == "pretrain":
        seen, labelled = record["subjects_seen"], []
    elif record is not None:
        seen = record["pretraining_subjects"]
        labelled = [*record["split"]["train"], *record["split"]["val"]]
    return {
        "run": str(path),
        "kind": facts["kind"],
        "pool": pool,
        "windows_per_epoch": len(packing.starts(round(EPOCH_S * store.sfreq), facts["window"])),
        "store": str(store.path),
        "provenance": store.meta["provenance"],
        "ch_names": facts["ch_names"],
        "sfreq": facts["sfreq"],
        "filter": facts["filter"],
        "subjects_pretraining": seen,
        "subjects_labelled": labelled,
        "environment": runs.environment(),
        "date": runs.now(),
    }


def _columns(store: Store, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is told of the epochs of recordings beside their embeddings."""
    rows = [store.recordings[name] for name in names]
    counts = [row["n_epochs"] for row in rows]
    yield "recording", np.repeat(names, counts)
    yield "subject", np.repeat([row["subject"] for row in rows], counts)
    epoch = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
    yield "epoch", epoch
    begin = np.repeat([float(row["start_s"] or 0) for row in rows], counts)
    yield "onset_s", begin + EPOCH_S * epoch
    codes = np.concatenate([store.labels(name) for name in names])
    yield "stage", np.array([*STAGES, ""])[codes]  # -1 is the last


@contextmanager
def _npz(
    path: Path, store: Store, names: list[str], width: int, meta: dict
) -> Iterator[Callable[[np.ndarray], None]]:
    """Give what appends to ``embeddings`` of an .npz whose length is known beforehand."""
    total = sum(store.recordings[name]["n_epochs"] for name in names)
    header = {"descr": "<f4", "fortran_order": False, "shape": (total, width)}
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, values in (*_columns(store, names), ("meta", np.array(json.dumps(meta)))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            yield lambda block: member.write(np.ascontiguousarray(block, "<f4").data)


@contextmanager
def _parquet(
    path: Path, store: Store, names: list[str], width: int, meta: dict
) -> Iterator[Callable[[np.ndarray], None]]:
    """Give what appends rows to a Parquet file, in groups of some thousand epochs."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            f"writing {path.name} needs pyarrow: pip install 'partsig[parquet]'."
        ) from None
    kinds = {"recording": pa.string(), "subject": pa.string(), "epoch": pa.int32()}
    kinds |= {"onset_s": pa.float64(), "stage": pa.string()}
    kinds |= {f"e_{i}": pa.float32() for i in range(width)}
    schema = pa.schema(kinds, metadata={"partsig": json.dumps(meta)})
    told = dict(_columns(store, names))
    held: list[np.ndarray] = []
    written = 0

    def flush() -> None:
        nonlocal written
        block = np.concatenate(held)
        rows = slice(written, written + len(block))
        columns = [values[rows] for values in told.values()] + list(block.T)
        writer.write_table(pa.table(columns, schema=schema))
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
