"""Where the files of a staging lie, and whether one may be replaced."""

import re
from pathlib import Path

from partsig.files import check_replaceable, has_keys
from partsig.sleep.staging import Staging

# Bytes of a name: the longest tail, and that of the temporary file, still fit into 255.
LONGEST = 160
# What shows that a file of this kind was written here, and may be replaced.
MARKS = {
    "csv": b",review_rank,",
    "bids": b"\treview_rank\t",
    "edf": b" partsig_",
    "review": b" partsig_",
    "json": has_keys("partsig", "recording", "stager", "stage_names", "stages", "probabilities"),
    "sidecar": lambda found: (
        has_keys("trial_type", "review_rank")(found)
        and found["GeneratedBy"][0]["Name"] == "partsig"
    ),
}


def file_stem(name: str) -> str:
    """Return a recording's name as files can have it on every system.

    >>> file_stem("night 3/räw:1"), file_stem("../..")
    ('night 3_räw_1', '_')
    """
    safe = re.sub(r'[\x00-\x1f\x7f/\\<>:"|?*]', "_", name).strip(". ")
    return safe.encode(errors="replace")[:LONGEST].decode(errors="ignore") or "recording"


def export_paths(name: str, folder: Path) -> dict[str, Path]:
    """Return where the files of a recording of this name are put, by kind."""
    stem = file_stem(name)
    # In BIDS the last part of a name is its suffix (eeg), and events have their own.
    events = re.sub(r"_[a-zA-Z]+$", "", stem) if re.match(r"sub-[^_]+_", stem) else stem
    return {
        "csv": folder / f"{stem}_hypnogram.csv",
        "edf": folder / f"{stem}_hypnogram.edf",
        "review": folder / f"{stem}_review.edf",
        "bids": folder / f"{events}_events.tsv",
        "sidecar": folder / f"{events}_events.json",
        "json": folder / f"{stem}_staging.json",
    }


def replaceable_path(staging: Staging, folder: Path, kind: str) -> Path:
    """Return where a staging's file of a kind lies; raise DataError where another's is there."""
    path = export_paths(staging.name, folder)[kind]
    check_replaceable(path, MARKS[kind])
    return path
