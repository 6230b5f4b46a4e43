"""``partsig embed``: a run and a store in, one embedding per 30-s epoch out."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from partsig.data.signals.recordings import EPOCH_S, STAGES
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.windows import Epochs
from partsig.data.store import locate
from partsig.errors import ConfigError, DataError
from partsig.runs import exported as packing
from partsig.runs import run as runs
from partsig.runs.embedding_file import check_suffix, writing
from partsig.tasks.baselines import in_batches
from partsig.train import distributed


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Where the embeddings lie, (n, width), what they are of, in words, and how pooled."""

    path: Path
    n: int
    what: str
    width: int
    pool: str


def embed(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    recordings: Iterable[str] | None = None,
    output: str | Path | None = None,
    pool: str = "auto",
    blocks: int = 0,
    device: str = "auto",
) -> Embedded:
    """Write an embedding of every 30-s epoch, scored or not, and return where.

    Of a run on images, of every image: see :func:`~partsig.recipes.image_embedding.embed_images`.

    ``run`` is a finished pretraining or fine-tuning run or an exported folder (default: the
    pretraining run that finished last), ``store`` the run's own if not given. ``output`` ends in
    .npz or .parquet (needs pyarrow); the default is ``RUN/embeddings/STORE.npz``. An .npz holds
    ``recording``, ``subject``, ``epoch``, ``onset_s`` (from the recording's start), ``stage`` (""
    where unscored), ``embeddings`` (n, F) float32, and ``meta`` (JSON); a Parquet file has columns
    ``e_0`` … instead, and the JSON in its schema's metadata under ``partsig``.

    ``pool``: cls, mean, mean+sd or mean+sd+spectrum, see ClassifierConfig; auto is what a
    fine-tuned run's head sees, and mean+sd+spectrum of a pretrained encoder, as in
    ``configs/few-labels.yaml``. ``blocks``: tokens after the first so many of the encoder's blocks,
    0 is all; the middle ones of a run of PART alone know more of sleep than the last. A run that
    was pretrained on windows shorter than 30 s encodes an epoch in several, pooled together.

    **Who was seen in training is in the metadata** (``subjects_pretraining`` and
    ``subjects_labelled``; null for an exported folder, which does not know): hold them out of
    tests, or call the test transductive. Memory is flat in the number of recordings; killed,
    nothing is left half-written.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    path = Path(run) if run else runs.last("pretrain")
    if (path / "run.json").is_file() and runs.read(path).get("modality") == "image":
        from partsig.recipes.image_embedding import embed_images

        if recordings is not None:
            raise ConfigError(f"{path} is on images, which --recording is not for.")
        return embed_images(path, store, output=output, pool=pool, blocks=blocks, device=device)
    packed = packing.load(path)
    chosen = packing.check_pool(pool, packed)
    packed.model.encoder.shorten(blocks)
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
    check_suffix(target)
    width = packing.width_of(packed.model, chosen)
    meta = _meta(packed, path, opened, chosen)
    where = distributed.pick_device(device)
    model = packed.model.eval().to(where)
    total = sum(opened.recordings[name]["n_epochs"] for name in names)
    bar = tqdm(
        total=total,
        unit="epoch",
        desc="embed",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    )
    columns = _columns(opened, names)
    with writing(target, columns, width, meta) as take, bar, torch.inference_mode():
        for name in names:
            epochs = Epochs(opened, [name], scored=False)
            for x in in_batches(epochs, where):
                found = packing.embed_windows(model, packed.facts["window"], x, chosen)
                take(found.float().cpu().numpy())
                bar.update(len(found))
    what = f"epochs of {len(names)} recordings"
    return Embedded(path=target, n=total, what=what, width=width, pool=chosen)


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
        "blocks": packed.model.encoder.config.depth,
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


def _columns(store: Store, names: list[str]) -> dict[str, np.ndarray]:
    """Return what is told of the epochs of recordings beside their embeddings."""
    rows = [store.recordings[name] for name in names]
    counts = [row["n_epochs"] for row in rows]
    epoch = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
    begin = np.repeat([float(row["start_s"] or 0) for row in rows], counts)
    codes = np.concatenate([store.labels(name) for name in names])
    return {
        "recording": np.repeat(names, counts),
        "subject": np.repeat([row["subject"] for row in rows], counts),
        "epoch": epoch,
        "onset_s": begin + EPOCH_S * epoch,
        "stage": np.array([*STAGES, ""])[codes],  # -1 is the last
    }
