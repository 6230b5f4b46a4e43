"""The epochs of a store of signals for whoever embeds them, and features of them as a store."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from partsig.contracts import Everything, TrainedModel, TrainedRun
from partsig.data.signals.bands import band_powers, feature_names
from partsig.data.signals.growing_index import take_and_keep
from partsig.data.signals.lazy import forget
from partsig.data.signals.recordings import Recording
from partsig.data.signals.scaling import SCALED_BY, scale_robustly
from partsig.data.signals.store import Store
from partsig.data.signals.store_index import FINGERPRINT, GAPS, gaps_of_text, write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording, write_split
from partsig.data.signals.usable import usable_epochs
from partsig.data.signals.windows import LabelledWindows
from partsig.data.store import OK
from partsig.errors import ConfigError, DataError
from partsig.files import locked
from partsig.runs.epoch_features import FILE, FeatureRecipe, read_recipe, recipe_of
from partsig.runs.exported import POOLS
from partsig.runs.features import starts

# Whom features' model has seen, as a store of them tells it: without labels, and with.
SEEN = ("subjects_pretraining", "subjects_labelled")


def everything_of(
    store: Store, loaded: TrainedModel | None, recordings: Iterable[str] | None
) -> Everything:
    """Return every epoch of some recordings of a store, with what is told of a model, if any."""
    names = _chosen(store, recordings)
    rows = [store.recordings[name] for name in names]
    counts = [row["n_epochs"] for row in rows]
    epoch = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
    begin = np.repeat([float(row["start_s"] or 0) for row in rows], counts)
    codes = np.concatenate([store.labels(name) for name in names])
    return Everything(
        parts=(LabelledWindows(store, [name], labelled=False) for name in names),
        n=sum(counts),
        item="epoch",
        what=f"epochs of {len(names)} recordings",
        columns={
            "recording": np.repeat(names, counts),
            "subject": np.repeat([row["subject"] for row in rows], counts),
            "epoch": epoch,
            "onset_s": begin + store.unit_s * epoch,
            "stage": np.array([*store.classes, ""])[codes],  # -1 is the last
        },
        meta={} if loaded is None else _told(store, loaded),
    )


def _told(store: Store, loaded: TrainedModel) -> dict:
    facts, run = loaded.facts, loaded.run
    return {
        "windows_per_epoch": len(starts(round(store.unit_s * store.sfreq), loaded.window[-1])),
        "sfreq": facts["sfreq"],
        "filter": facts["filter"],
        "subjects_pretraining": None if run is None else run.seen_unlabelled,
        "subjects_labelled": None if run is None else run.seen_labelled,
    }


def _chosen(store: Store, recordings: Iterable[str] | None) -> list[str]:
    """Return the recordings that have an epoch, in the store's order."""
    wanted = set(store.recordings) if recordings is None else set(recordings)
    unknown = sorted(wanted - set(store.recordings))
    if unknown:
        raise DataError(f"{store.path} has no recording {', '.join(unknown[:5])}; see index.csv.")
    names = [n for n, row in store.recordings.items() if n in wanted and row["n_epochs"]]
    if not names:
        raise DataError(f"no recording of {store.path} has a whole {store.unit_s:g}-s epoch.")
    return names


def known_features(store: Store) -> tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]:
    """Return the names of an epoch's band powers, and what makes them of epochs (b, C, T); of a
    store of features, these. Raises ConfigError at a rate that holds no band.
    """
    n_times = round(store.unit_s * store.sfreq)
    if n_times == 1:
        return store.ch_names, lambda epochs: epochs[:, :, 0]
    names = feature_names(store.ch_names, n_times, store.sfreq)
    if not names:
        raise ConfigError(
            f"{store.path} is at {store.sfreq:.3g} Hz, which holds none of the bands: leave out "
            "--features."
        )
    return names, partial(band_powers, sfreq=store.sfreq)


def write_features(
    store: Store,
    path: Path,
    names: Sequence[str],
    recipe: FeatureRecipe | None,
    parts: Iterable[tuple[LabelledWindows, Callable[[], np.ndarray]]],
    facts: Mapping[str, object],
) -> None:
    """Write features as a store with one sample an epoch; each recording scaled by itself.

    ``parts`` are all epochs of a recording, and what returns their features (E, F), which is asked
    where the recording is not there yet. Labels, subjects, gaps, the source's own split and the
    fingerprints are the store's. ``facts`` tell what the features are of, ``recipe`` how they are
    made of signals (None: they are not), which stands beside them: a store in which recordings were
    finished without one, by an older partsig, gets none. Raises DataError where they were made
    otherwise.
    """
    meta = make_meta(
        source=store.meta["source"],
        ch_names=tuple(names),
        sfreq=1 / store.unit_s,
        l_freq=None,
        h_freq=None,
        dtype="float32",
        reading={"normalise": "recording", **SCALED_BY, "features": dict(facts)},
        labels=store.label_facts,
    )
    with locked(path, ""):
        rows = {name: row for name, row in create_store(path, meta).items() if row["status"] == OK}
        if recipe is not None:
            _keep_recipe(path, recipe, begun=bool(rows))
        elif not rows:  # of what was begun here before, and left
            (path / FILE).unlink(missing_ok=True)
        roles = {subject: role for role, members in store.roles.items() for subject in members}
        if roles:
            write_split(path, roles)

        def written() -> Iterator[dict]:
            for part, features in parts:
                (name,) = part.names
                row = store.recordings[name]
                if name not in rows or rows[name]["source"] != row["sha256"][:16]:
                    signal = scaled([features()], len(part), usable_of(store, name, names))
                    yield _written(store, path, meta, row, signal)

        take_and_keep(
            written(),
            lambda row: rows.update({row["recording"]: row}),
            lambda: write_index(path, rows.values()),
        )


def _written(store: Store, path: Path, meta: dict, row: Mapping, signal: np.ndarray) -> dict:
    """Write the features (F, E) of a recording; return its row of the index."""
    start = float(row["start_s"] or 0)
    recording = Recording(
        name=row["recording"],
        subject=row["subject"],
        ch_names=tuple(meta["ch_names"]),
        parts=(),
        stages=store.labels(row["recording"]),
        source=row["sha256"][:16],
        start_s=start,
        gaps=tuple((a + start, b + start) for a, b in gaps_of_text(row[GAPS])),
        filled=tuple(name for name in (row["filled"] or "").split("; ") if name),  # of the source
        age=row["age"],
        sex=row["sex"],
    )
    return write_recording(path, meta, recording, signal) | {FINGERPRINT: row[FINGERPRINT]}


def usable_of(store: Store, recording: str, names: Sequence[str]) -> list[np.ndarray]:
    """Return which epochs (E,) of a recording each feature of these names is scaled by."""
    signal = store.signal(recording)
    rows = usable_epochs(
        signal,
        ch_names=store.ch_names,
        sfreq=store.sfreq,
        unit_s=store.unit_s,
        gaps=gaps_of_text(store.recordings[recording][GAPS]),
        unit=store.unit,
        n=store.recordings[recording]["n_epochs"],
    )
    forget(signal)
    return by_feature(rows, names, store.ch_names, store.unit_s, store.sfreq)


def by_feature(
    rows: np.ndarray, names: Sequence[str], ch_names: Sequence[str], unit_s: float, sfreq: float
) -> list[np.ndarray]:
    """Return for each feature which epochs (E,) it is scaled by.

    Of ``rows`` (C + 1, E), see :func:`~partsig.data.signals.usable.usable_epochs`: a channel's
    band powers by its own, what an encoder makes of all of them by the last.
    """
    n_times = round(unit_s * sfreq)
    owner = {
        name: c
        for c, channel in enumerate(ch_names)
        for name in feature_names([channel], n_times, sfreq)
    }
    return [rows[owner.get(name, -1)] for name in names]


def scaled(blocks: Iterable[np.ndarray], n: int, usable: Sequence[np.ndarray] | None) -> np.ndarray:
    """Return features of a whole recording as a signal (F, n) float32, scaled by itself.

    ``blocks`` are those of its n epochs (b, F), one after the other; they are held once. Each is
    scaled by the epochs that are ``usable``, (E,) for each feature; None: by all.
    """
    signal, at = np.zeros((0, n), np.float32), 0
    for block in blocks:
        if not at:
            signal = np.empty((block.shape[1], n), np.float32)
        signal[:, at : at + len(block)] = block.T
        at += len(block)
    scale_robustly(signal, usable)
    return signal


def recipe_for(
    store: Store, names: Sequence[str], facts: Mapping[str, object], loaded: TrainedModel | None
) -> FeatureRecipe | None:
    """Return how features of these names are made of a store, as ``facts`` and a model tell it.

    None where a recording alone does not tell them, or an epoch: those of features, components,
    and an encoder's tokens amid the epochs around.
    """
    known = facts.get("pool") in (None, *POOLS) and "components" not in facts
    if round(store.unit_s * store.sfreq) == 1 or not known:
        return None
    reading = store.meta.get("reading", {})
    return recipe_of(
        loaded,
        names=tuple(names),
        ch_names=store.ch_names,
        sfreq=store.sfreq,
        unit_s=store.unit_s,
        filter=store.meta["filter"],
        dtype=store.meta["dtype"],
        normalise=reading.get("normalise", "none"),
        trim_wake_min=reading.get("trim_wake_min"),
        **{key: facts[key] for key in ("bands", "pool", "blocks", *SEEN) if key in facts},
    )


def recipe_in(store: Store) -> FeatureRecipe | None:
    """Return how a store's features were made; None where it does not hold any, or know it.

    Raises CheckpointError where what it tells is damaged, DataError where it is of other features.
    """
    recipe = read_recipe(store.path)
    if recipe is not None and recipe.names != store.ch_names:
        raise DataError(
            f"{store.path / FILE} tells of other features than the store holds: make the store "
            "again with `partsig embed --as-store`."
        )
    return recipe


def refuse_signals(store: Store, run: TrainedRun) -> None:
    """Raise DataError where a run labels features of epochs, and a store holds the signals."""
    recipe = read_recipe(run.path) if run.facts.get("epoch_features") else None
    if recipe is not None and (store.ch_names, store.sfreq) == (recipe.ch_names, recipe.sfreq):
        raise DataError(
            f"{run.path} labels features of epochs, and {store.path} holds signals: make its "
            f"features with `partsig embed --as-store --run {run.path} --store {store.path} "
            "--output …`, and pass that as --store."
        )


def _keep_recipe(path: Path, recipe: FeatureRecipe, begun: bool) -> None:
    """Write a recipe into a store, or hold it against the one of what was finished there."""
    if not begun:
        recipe.write(path)
        return
    known = read_recipe(path)
    if known is not None and known.digest != recipe.digest:
        raise DataError(
            f"{path} holds features that were made otherwise, by another encoder or of signals "
            "that were prepared in another way: choose another --output."
        )


def seen_by_features(store: Store, how: str) -> set[str]:
    """Return the subjects that a store's features were learned from, ``how`` of :data:`SEEN`."""
    return set(store.meta.get("reading", {}).get("features", {}).get(how) or ())
