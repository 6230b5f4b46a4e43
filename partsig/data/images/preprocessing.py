"""Files of images to a store of arrays."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import joblib
import numpy as np

from partsig import config as configs
from partsig import registries
from partsig.data import addresses
from partsig.data.guard import guarded
from partsig.data.images import store as image_store
from partsig.data.images.arrays import are_whole, layers_of, write_arrays
from partsig.data.images.cifar import LAYOUTS, open_cifar
from partsig.data.images.folders import open_digits, open_images_in
from partsig.data.images.part_datasets.registry import PART_DATASETS
from partsig.data.images.settings import ImagePreprocessConfig
from partsig.data.images.twins import find_twins
from partsig.data.preprocessed import PreprocessRequest, PreprocessResult
from partsig.data.store import FAILED, OK
from partsig.data.twins import told
from partsig.errors import ConfigError, DataError, check_jobs
from partsig.files import locked
from partsig.progress import bar

# Images a thread decodes at a time: so many that handing them over costs nothing beside it.
CHUNK = 32
# Images decoded before any is written: 600 MB of 224 x 224, whatever the disk's speed.
GROUP = 4096


def preprocess_images(request: PreprocessRequest) -> PreprocessResult:
    """Write the store of some images and return what it holds: ``counts`` are images per role.

    ``digits`` needs no ``raw``. Overrides are
    :class:`~partsig.data.images.settings.ImagePreprocessConfig`'s. The same call again continues an
    interrupted one, array by array, and tries images anew that failed or whose files have changed.
    An image that cannot be read is left out with its reason in ``index.csv``.

    Raises DataError when there is nothing to read, when no image can be read, when the store was
    made with other settings, or when the disk is full (whole arrays are kept); ConfigError for what
    only signals can: images are preprocessed on one machine, from its own folders.
    """
    source = request.source
    asked = {"--scheduler": request.scheduler, "--shard": request.shard, "--merge": request.merge}
    asked["--pseudonyms"] = request.pseudonyms
    refused = [option for option, value in asked.items() if value]
    refused += [
        addresses.shown(str(place))
        for place in (request.raw, request.store)
        if addresses.is_url(place)
    ]
    if refused:
        raise ConfigError(
            f"{source} is preprocessed by one machine, from folders to a folder: leave out "
            f"{', '.join(refused)}."
        )
    check_jobs(request.jobs)
    settings = configs.compose(
        ImagePreprocessConfig, "preprocess", request.config, request.overrides
    )
    images = _open(source, Path(request.raw), settings)
    path = Path(request.store)
    with locked(path):
        known = image_store.create(path, image_store.make_meta(images, settings.val_share))
        rows = _write(path, images, known, request.jobs)
        twins = find_twins(path, rows)
        _keep(path, rows)
    failed = {str(row["image"]): str(row["reason"]) for row in rows if row["status"] == FAILED}
    if len(failed) == len(rows):
        first = next(iter(failed.items()))
        raise DataError(
            f"none of the {len(rows)} images could be read; the first, {first[0]}: {first[1]}."
        )
    opened = image_store.open_images(path)
    counts = {role: len(opened.members(role)) for role in image_store.ROLES}
    shape = "×".join(map(str, (len(images.ch_names), *images.size)))
    return PreprocessResult(
        path=path,
        n_recordings=len(opened),
        counts=counts,
        failed=failed,
        counted="images",
        item="images",
        notes=[
            f"{len(opened):,} images of {shape} in {path}",
            *images.notes,
            *(_told(twins, opened) if twins else ()),
        ],
    )


def _told(twins: list[tuple[str, str]], opened: image_store.ImageStore) -> list[str]:
    """Return a sentence on images that are there twice, and on how many are left out for it."""
    n_left_out = len(opened.members(image_store.LEFT_OUT))
    also = f"; {n_left_out:,} are left out, being of another side too" if n_left_out else ""
    return [told(twins, "image", "image")[0] + also]


def _open(source: str, raw: Path, settings: ImagePreprocessConfig) -> image_store.Source:
    own = {**dict.fromkeys(LAYOUTS, 32), "digits": 8}.get(source)
    if own and settings.size not in (None, own):
        raise ConfigError(
            f"size is {settings.size}; the images of {source} have {own} pixels a side: leave it "
            "out, or preprocess files with the source images."
        )
    if source in PART_DATASETS:
        return registries.at(PART_DATASETS[source])(raw, settings)
    _refuse_cutting(source, settings)
    if source == "digits":
        return open_digits()
    if source in LAYOUTS:
        return open_cifar(source, raw, settings.grey)
    return open_images_in(raw, settings)


def _refuse_cutting(source: str, settings: ImagePreprocessConfig) -> None:
    """Raise ConfigError where settings of part data sets are given to a source of whole images."""
    usual = ImagePreprocessConfig()
    whole = ("size", "grey", "val_share", "val_role")
    changed = [
        field.name
        for field in fields(settings)
        if field.name not in whole and getattr(settings, field.name) != getattr(usual, field.name)
    ]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} is for part data sets ({', '.join(PART_DATASETS)}), not for "
            f"{source}: leave it out."
        )


def _write(
    path: Path, source: image_store.Source, known: Mapping[str, dict[str, str]], jobs: int
) -> list[dict[str, object]]:
    """Write what is not yet in the store, array after array; return the rows of all images."""
    items = source.items
    layers = layers_of({"size": source.size, "ch_names": source.ch_names, **source.facts})
    starts = range(0, len(items), image_store.PER_FILE)
    rows: list[dict[str, object] | None] = [None] * len(items)
    todo: dict[int, list[int]] = {}
    for start in starts:
        part = range(start, min(start + image_store.PER_FILE, len(items)))
        if are_whole(path, start // image_store.PER_FILE, layers, len(part)):
            for i in part:
                if _is_stored(known.get(items[i].name), items[i], i):
                    stored = known[items[i].name]["fingerprint"]
                    rows[i] = image_store.index_row(items[i], i) | {"fingerprint": stored}
        left = [i for i in part if rows[i] is None]
        if left:
            todo[start] = left
    # What is made again is not in the index meanwhile: its array is of two sources for a moment.
    _keep(path, rows)
    for layer in layers:
        for file in (path / layer.folder).glob("*.npy"):
            if file.stem.isdigit() and int(file.stem) >= len(starts):
                file.unlink()  # of a source that had more
    n_left = sum(map(len, todo.values()))
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    with (
        warnings.catch_warnings(),
        bar(
            unit="image", desc="preprocess", total=len(items), initial=len(items) - n_left
        ) as stored,
    ):
        # Odd metadata is not worth a line; what stops an image is in the index.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for start, left in todo.items():
            n = min(image_store.PER_FILE, len(items) - start)

            def decoded(start: int = start, left: list[int] = left) -> Iterator:
                for i, arrays in _decode(parallel, source, left):
                    stored.update()
                    if isinstance(arrays, str):
                        rows[i] = image_store.index_row(items[i], i, arrays)
                    else:
                        rows[i] = image_store.index_row(items[i], i)
                        yield i - start, arrays

            number = start // image_store.PER_FILE
            write_arrays(path, number, layers, n, decoded(), fresh=len(left) == n)
            _keep(path, rows)
    return rows


def _is_stored(row: Mapping[str, str] | None, item: image_store.Item, place: int) -> bool:
    """Tell whether an image was stored in this place from the file that is there now."""
    return (
        row is not None
        and row["status"] == OK
        and row["row"] == str(place)
        and row["source"] == item.source
        and row[image_store.GROUP] == item.group
    )


def _keep(path: Path, rows: Iterable[dict[str, object] | None]) -> None:
    image_store.write_index(path, (row for row in rows if row is not None))


def _decode(
    parallel: joblib.Parallel, source: image_store.Source, numbers: list[int]
) -> Iterator[tuple[int, tuple[np.ndarray, ...] | str]]:
    """Yield images and what lies beside them, in order, or the reason why one is not read."""

    def some(chunk: list[int]) -> list[tuple[int, tuple[np.ndarray, ...] | str]]:
        return [(i, _one(source, i)) for i in chunk]

    for at in range(0, len(numbers), GROUP):
        group = numbers[at : at + GROUP]
        chunks = [group[k : k + CHUNK] for k in range(0, len(group), CHUNK)]
        for done in parallel(joblib.delayed(some)(chunk) for chunk in chunks):
            yield from done


def _one(source: image_store.Source, i: int) -> tuple[np.ndarray, ...] | str:
    try:
        with guarded(source.items[i].name):
            arrays = source.read(i)
            return arrays if isinstance(arrays, tuple) else (arrays,)
    except DataError as error:
        return str(error)
