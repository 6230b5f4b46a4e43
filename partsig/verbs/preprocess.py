"""``partsig preprocess``: raw recordings or images in, a store out."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from partsig.data.preprocessed import PreprocessRequest, PreprocessResult
from partsig.modalities import registry


def preprocess(
    source: str = "physionet2018",
    raw: str | Path | None = None,
    store: str | Path | None = None,
    *,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    jobs: int = -1,
    scheduler: str | None = None,
    shard: str | None = None,
    merge: bool = False,
    allow_http: bool = False,
    pseudonyms: str | Path | None = None,
) -> PreprocessResult:
    """Write the store of a folder of raw recordings, or of images, and return what it holds.

    ``raw`` and ``store`` default to ``data/raw/SOURCE`` and ``data/store/SOURCE``; ``jobs`` are
    threads (-1: one per core). ``overrides`` are fields of
    :class:`~partsig.data.signals.preprocessing.PreprocessConfig`, or of
    :class:`~partsig.data.images.settings.ImagePreprocessConfig`. The same call again continues an
    interrupted one and tries failed recordings anew, and those whose files have changed. A
    recording that cannot be read is skipped with its reason in ``index.csv``.

    Several machines that share the folders: ``scheduler`` is the address of a Dask scheduler whose
    workers do the work; or every job of an array does its ``shard`` (``3/16``), and the call with
    ``merge`` makes one index of them at the end. ``raw`` and ``store`` may be URLs that fsspec
    knows (``s3://bucket/nights``): recordings are then fetched one at a time and removed again, and
    what is written below ``data/store`` is sent as it is finished. ``allow_http``: addresses may be
    of http:// and the like, which anyone on the way can read and change. Images are preprocessed on
    one machine, from its own folders.

    ``pseudonyms``: a file that recordings' and subjects' names are kept in, apart from the store,
    which then holds random ids alone, in file names, too. It is begun where it is not there, for
    its owner's eyes only; with the same file a name has the same id, in every store, shard and
    machine. Of recordings only. Ages above a limit are one group with ``group_ages_over``.

    Raises DataError when there is nothing to read, when no recording can be read, when the store
    was made with other settings, or when the disk is full (what was finished is kept).
    """
    write = registry.source(source)
    request = PreprocessRequest(
        source=source,
        raw=raw or Path("data/raw") / source,
        store=store or Path("data/store") / source,
        config=config,
        overrides=overrides,
        jobs=jobs,
        scheduler=scheduler,
        shard=shard,
        merge=merge,
        allow_http=allow_http,
        pseudonyms=pseudonyms,
    )
    return write(request)
