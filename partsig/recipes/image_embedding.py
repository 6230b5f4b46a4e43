"""``partsig embed`` of a run on images: one embedding per image out."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from partsig.core.objectives.supervised import Classifier, ClassifierConfig, pooled_width
from partsig.data.images.store import open_images
from partsig.data.store import locate
from partsig.errors import DataError, check_option
from partsig.recipes.image_finetuning import load_classifier
from partsig.recipes.labelled_images import in_batches
from partsig.runs import run as runs
from partsig.runs.embedding_file import check_suffix, writing
from partsig.runs.exported import POOLS
from partsig.tasks import frozen
from partsig.train import distributed
from partsig.verbs.embed import Embedded
from partsig.verbs.finetune import SCRATCH
from partsig.verbs.pretrain import load_encoder


def embed_images(
    run: str | Path,
    store: str | Path | None = None,
    *,
    output: str | Path | None = None,
    pool: str = "auto",
    blocks: int = 0,
    device: str = "auto",
) -> Embedded:
    """Write an embedding of every image of a store, labelled or not, and return where.

    Columns are ``image``, ``role`` (train, val, test) and ``label`` ("" where there is none);
    ``embeddings`` are (n, F) float32 of the frozen encoder, on the grid of patches. ``pool`` auto
    is what a fine-tuned run's head sees, and mean+sd of a pretrained encoder. ``blocks``: tokens
    after the first so many of the encoder's blocks; 0 is all. ``store`` defaults to
    the run's own, ``output`` to ``RUN/embeddings/STORE.npz``.

    **What the run has seen** is in the metadata: ``pretraining_store``, whose images of the role
    train were seen without labels (null where there was no pretraining), ``labelled_store``, whose
    train images, or those of them that RUN/split.json names, were seen with labels and whose val
    images chose (null for a pretrained encoder).

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_option("pool", pool, ("auto", *POOLS))
    path = Path(run)
    record = runs.read(path)
    net, size = _load(path, record["kind"])
    chosen = net.config.pool if pool == "auto" else pool
    net.config = replace(net.config, pool=chosen)
    net.encoder.shorten(blocks)
    opened = open_images(locate(record["store"] if store is None else store))
    if list(opened.ch_names) != record["ch_names"] or min(opened.size) < size:
        raise DataError(
            f"{path} takes {', '.join(record['ch_names'])} of {size} x {size} pixels; "
            f"{opened.path} has {', '.join(opened.ch_names)} of {opened.size[0]} x "
            f"{opened.size[1]}. Preprocess it again with those settings."
        )
    target = Path(output) if output else path / "embeddings" / f"{opened.path.resolve().name}.npz"
    check_suffix(target)
    where = distributed.pick_device(device)
    net.eval().to(where)
    index = np.arange(len(opened))
    width = pooled_width(net.encoder, net.patch, chosen)
    meta = {
        "run": str(path),
        "kind": record["kind"],
        "pool": chosen,
        "blocks": net.encoder.config.depth,
        "store": str(opened.path),
        "provenance": opened.meta["provenance"],
        "ch_names": list(opened.ch_names),
        "size": size,
        **_seen(record),
        "environment": runs.environment(),
        "date": runs.now(),
    }
    names = np.array([*opened.classes, ""])
    columns = {
        "image": np.array(opened.names),
        "role": opened.roles,
        "label": names[opened.labels],  # -1 is the last
    }
    bar = tqdm(
        total=len(index),
        unit="image",
        desc="embed",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    )
    with writing(target, columns, width, meta) as take, bar, torch.inference_mode():
        for x in in_batches(opened, index, size, where):
            take(net.features(x).float().cpu().numpy())
            bar.update(len(x))
    return Embedded(path=target, n=len(index), what="images", width=width, pool=chosen)


def _seen(record: dict) -> dict[str, str | None]:
    if record["kind"] == "pretrain":
        return {"pretraining_store": record["store"], "labelled_store": None}
    origin = None if record["from"] == SCRATCH else Path(record["from"])
    known = origin is not None and (origin / "run.json").is_file()
    pretraining = runs.read(origin)["store"] if known else origin and "unknown"
    return {"pretraining_store": pretraining, "labelled_store": record["store"]}


def _load(path: Path, kind: str) -> tuple[Classifier, int]:
    """Return a run's classifier, its head untrained after pretraining, and the size of images."""
    if kind == "pretrain":
        encoder, _, settings = load_encoder(path)
        config = ClassifierConfig(positions=settings.positions, pool="mean+sd")
        return Classifier(config, encoder, *settings.extents(1.0), 1), settings.size
    model, settings, _ = load_classifier(path)
    return model.net if isinstance(model, frozen.Neighbours) else model, settings.size
