"""The epochs of a store of signals for whoever embeds them, and features of them as a store."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from partsig.contracts import Everything, TrainedModel
from partsig.data.signals.bands import band_powers, feature_names
from partsig.data.signals.growing_index import take_and_keep
from partsig.data.signals.recordings import Recording
from partsig.data.signals.scaling import scale_robustly
from partsig.data.signals.store import Store
from partsig.data.signals.store_index import FINGERPRINT, GAPS, gaps_of_text, write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording, write_split
from partsig.data.signals.windows import LabelledWindows
from partsig.data.store import OK
from partsig.errors import ConfigError, DataError
from partsig.files import locked
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
    parts: Iterable[tuple[LabelledWindows, Callable[[], np.ndarray]]],
    facts: Mapping[str, object],
) -> None:
    """Write features as a store with one sample an epoch; each recording scaled by itself.

    ``parts`` are all epochs of a recording, and what returns their features (E, F), which is asked
    where the recording is not there yet. Labels, subjects, gaps, the source's own split and the
    fingerprints are the store's. ``facts`` tell what the features are of.
    """
    meta = make_meta(
        source=store.meta["source"],
        ch_names=tuple(names),
        sfreq=1 / store.unit_s,
        l_freq=None,
        h_freq=None,
        dtype="float32",
        reading={"normalise": "recording", "features": dict(facts)},
        labels=store.label_facts,
    )
    with locked(path, ""):
        rows = {name: row for name, row in create_store(path, meta).items() if row["status"] == OK}
        roles = {subject: role for role, members in store.roles.items() for subject in members}
        if roles:
            write_split(path, roles)

        def written() -> Iterator[dict]:
            for part, features in parts:
                (name,) = part.names
                row = store.recordings[name]
                if name not in rows or rows[name]["source"] != row["sha256"][:16]:
                    signal = np.ascontiguousarray(features().T, np.float32)
                    yield _written(store, path, meta, row, signal)

        take_and_keep(
            written(),
            lambda row: rows.update({row["recording"]: row}),
            lambda: write_index(path, rows.values()),
        )


def _written(store: Store, path: Path, meta: dict, row: Mapping, signal: np.ndarray) -> dict:
    """Write the features (F, E) of a recording, scaled by itself; return its row of the index."""
    scale_robustly(signal)
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
        age=row["age"],
        sex=row["sex"],
    )
    return write_recording(path, meta, recording, signal) | {FINGERPRINT: row[FINGERPRINT]}


def seen_by_features(store: Store, how: str) -> set[str]:
    """Return the subjects that a store's features were learned from, ``how`` of :data:`SEEN`."""
    return set(store.meta.get("reading", {}).get("features", {}).get(how) or ())
