"""``partsig embed``: a run and a store in, one embedding per 30-s epoch, or image, out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from partsig import progress
from partsig.core.encoder import check_blocks
from partsig.data.store import locate
from partsig.errors import ConfigError, check_option, check_range
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.feature_store import KINDS, FeatureStoreRequest, write_feature_store
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.runs import features
from partsig.runs.embedding_file import check_own, check_suffix, open_writer
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
    as_store: bool = False,
    features_of: str = "run",
    components: int = 0,
    device: str = "auto",
    allow_http: bool = False,
) -> Embedded:
    """Write an embedding of every 30-s epoch (scored or not), or image, and return where.

    ``run`` is a finished pretraining or fine-tuning run or an exported folder (default: the
    pretraining run that finished last), ``store`` the run's own if not given. ``output`` ends in
    .npz or .parquet (needs pyarrow); the default is ``RUN/embeddings/STORE.npz``. An .npz holds
    ``recording``, ``subject``, ``epoch``, ``onset_s`` (from the recording's start), ``stage`` (""
    where unscored), ``embeddings`` (n, F) float32, and ``meta`` (JSON); a Parquet file has columns
    ``e_0`` … instead, and the JSON in its schema's metadata under ``partsig``. Of images, columns
    are ``image``, ``role`` (train, val, test) and ``label`` ("" where there is none).

    ``pool``: cls, mean, mean+sd or mean+sd+spectrum, see ClassifierConfig; auto is what a
    fine-tuned run's head sees, and mean+sd+spectrum of a pretrained encoder, as in
    ``configs/few-labels.yaml`` (of images mean+sd). ``blocks``: tokens after the first so many of
    the encoder's blocks, 0 is all; the middle ones of a run of PART alone know more of sleep than
    the last. A run that was pretrained on windows shorter than 30 s encodes an epoch in several,
    pooled together.

    **Who was seen in training is in the metadata** (``subjects_pretraining`` and
    ``subjects_labelled``, null for an exported folder, which does not know; of images
    ``pretraining_store`` and ``labelled_store``): hold them out of tests, or call the test
    transductive. Memory is flat in the number of recordings; killed, nothing is left half-written.

    ``as_store``: a store of signals instead, with one sample an epoch and a channel for each
    number, scaled recording by recording, with labels and subjects: what ``--task night-context``
    takes. ``output`` is then its folder (default ``data/store/STORE-RUN``). ``features_of``: the
    run, bands (log band powers, no run needed; of a store of features, these), or both. An encoder
    of patches longer than an epoch, pretrained on a store of features, gives each epoch the token
    of the patch about its middle, amid the window around it. ``components``: so many principal
    components of the run's features, taken of recordings that it was pretrained on; 0 is all.

    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_option("--features", features_of, KINDS)
    check_range("--components", components, 0)
    if components and not as_store:
        raise ConfigError("--components are of a run's features, for --as-store: add that.")
    if components and features_of == "bands":
        raise ConfigError(
            "--components are of a run's features: leave them out, or pass --features run or both."
        )
    if features_of == "bands" and run is not None and as_store:
        raise ConfigError("--features bands are of no run: leave out --run, and pass --store.")
    if as_store:
        asked = FeatureStoreRequest(
            run=None if features_of == "bands" else Path(run or runs.last("pretrain")),
            store=store,
            output=output,
            kind=features_of,
            recordings=recordings,
            pool=pool,
            blocks=blocks,
            components=components,
            device=device,
            allow_http=allow_http,
        )
        target, everything, width, pool = write_feature_store(asked)
        return Embedded(path=target, n=everything.n, what=everything.what, width=width, pool=pool)
    if features_of != "run":
        raise ConfigError(f"--features {features_of} is for --as-store: add that.")
    path = Path(run) if run else runs.last("pretrain")
    loaded = load_model(path)
    chosen = features.check_pool(pool, loaded)
    depth = loaded.model.depth
    check_blocks(blocks, depth)
    if store is None and loaded.run is None:
        raise ConfigError(f"{path} is an exported folder and knows no store: pass --store.")
    place = locate(
        store,
        recorded=None if loaded.run is None else loaded.run.facts["store"],
        allow_http=allow_http,
    )
    dataset = registry.of(loaded.facts).open(place)
    everything = dataset.everything(loaded, path, recordings)
    target = Path(output) if output else path / "embeddings" / f"{place.resolve().name}.npz"
    check_suffix(target)
    check_own(target)
    meta = {
        "run": place_name(path),
        "kind": loaded.kind,
        "pool": chosen,
        "blocks": blocks or depth,
        "store": place_name(dataset.path),
        "provenance": dataset.store.meta["provenance"],
        "ch_names": loaded.facts["ch_names"],
        **everything.meta,
        "environment": runs.environment(),
        "date": runs.now(),
    }
    where = distributed.pick_device(device)
    model, width = loaded.model.eval().to(where), loaded.model.width_of(chosen, blocks)
    bar = progress.bar(total=everything.n, unit=everything.item, desc="embed")
    network = features.FrozenNetwork(
        take=lambda x: features.embed_windows(model, loaded.window[-1], x, chosen, blocks)
    )
    with open_writer(target, everything.columns, width, meta) as write, bar:
        for part in everything.parts:
            for block in network.features(part, where):
                write(block)
                bar.update(len(block))
    return Embedded(path=target, n=everything.n, what=everything.what, width=width, pool=chosen)
