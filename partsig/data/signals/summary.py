"""What is told of a store of recordings once it is written."""

from collections.abc import Mapping
from pathlib import Path

from partsig.contracts import labels_of
from partsig.data import twins
from partsig.data.preprocessed import PreprocessResult
from partsig.data.signals import inventory
from partsig.data.signals.landmarks import find_twins, how_many_apart
from partsig.data.signals.readers import physionet2018
from partsig.data.signals.store_index import FINGERPRINT
from partsig.data.store import OK
from partsig.errors import DataError

# Notes with these words are worth more than a line in the index.
NOTE_KEYWORDS = ("cut off", "lies beside it", "goes on for", "not scored", "missing samples")
NOTE_KEYWORDS += (
    "no stages",
    "not understood",
    "epochs are missing",
    "after the last record",
    "how many records",
)
NOTE_KEYWORDS += ("in pieces", "uncalibrated", "usually changes by", "units names")
NOTE_KEYWORDS += (
    "MNE says",
    "tags break off",
    "covers an epoch",
    "last too short",
    "breaks off in",
)
NOTE_KEYWORDS += ("the header tells of", "is missing", "bytes after the last")


def summarise(
    path: Path, rows: list[dict], meta: dict, said: Mapping[str, str] | None = None
) -> PreprocessResult:
    """Return what is told of a store; ``said`` are reasons that do not stand in it."""
    good = [row for row in rows if row["status"] == OK]
    failed = {
        row["recording"]: (said or {}).get(row["recording"]) or row["reason"]
        for row in rows
        if row["status"] != OK
    }
    if not good:
        first = next(iter(failed.values()))
        raise DataError(f"none of the {len(rows)} recordings could be read; the first: {first}")
    counts = {key: sum(row[key] for row in good) for key in (*labels_of(meta).classes, "unscored")}
    labelled = [row for row in good if row["n_epochs"] > row["unscored"]]
    notes = [
        f"{len(good)} recordings, {len(labelled)} of them scored, "
        f"{sum(row['n_samples'] for row in good) / meta['sfreq'] / 3600:.1f} h in {path}"
    ]
    hypnogram = meta.get("reading", {}).get("hypnogram")
    if not labelled and hypnogram is not None:
        known = isinstance(hypnogram, Mapping) and hypnogram.get("pattern")
        notes.append(
            f"no recording has a stage: hypnogram.pattern, {known}, found none"
            if known
            else "no recording has a stage, though hypnogram settings say how they are written: "
            "hypnogram.pattern says what their files are called, as Hypnogram_{name}.txt does"
        )
    odd = [row for row in good if any(word in row["notes"] for word in NOTE_KEYWORDS)]
    notes += [f"{row['recording']}: {row['notes']}" for row in odd[:5]]
    if len(odd) > 5:
        notes.append(f"{len(odd) - 5} more recordings have such notes, see index.csv")
    notes += inventory.made_told([row["notes"] for row in good])
    notes += twins.told(find_twins(good), *twins.TWICE)
    without = how_many_apart(good)
    if without:
        notes.append(
            f"{without} recordings were stored by an earlier partsig, without a fingerprint by "
            "which others are known to be the same; `partsig audit` of the store looks for them"
        )
    without = sum(not row.get(FINGERPRINT) for row in good)
    if without:
        notes.append(
            f"{without} recordings were stored without a fingerprint, by which one is known under "
            "another name; `partsig audit` of the store looks for them"
        )
    names = [row["recording"] for row in labelled]
    if meta["source"] == "physionet2018" and physionet2018.is_training_set(names):
        notes += physionet2018.check_published(counts)
    return PreprocessResult(
        path=path, n_recordings=len(good), counts=counts, failed=failed, notes=notes
    )
