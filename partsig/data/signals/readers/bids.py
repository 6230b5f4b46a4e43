"""Recordings in a BIDS tree (EEG-BIDS, doi 10.1038/s41597-019-0104-8), found by their names.

A recording is named by its entities (``sub-01_ses-1_task-sleep_eeg``), its subject is the tree's;
stages are in ``_hypnogram.tsv`` (a proposal), in ``_events.tsv`` (onsets of both count from the
first sample) or in the recording itself; age and sex in ``participants.tsv``.
"""

import csv
import io
from dataclasses import replace
from pathlib import Path

from partsig.data.foreign import open_regular
from partsig.data.listing import Remembered
from partsig.data.signals.readers import edf_recordings, psg
from partsig.data.signals.readers.fif_parts import first_parts
from partsig.data.signals.recordings import (
    USUAL,
    ReadConfig,
    Recording,
    check_folder,
    sorted_by_name,
)
from partsig.errors import DataError
from partsig.text import shown

LONGEST, MOST_PEOPLE = 100, 1_000_000  # of participants.tsv: characters of a cell, rows
list_channels = edf_recordings.list_channels
CHANNELS = edf_recordings.CHANNELS
ANY_CHANNELS = True  # recordings of any make: an audit measures what is there
ANY_EPOCH = True
# What a recording is called, where a folder cannot be looked into.
FILES = tuple(f"*_eeg{suffix}" for suffix in (*psg.EDF, *psg.MNE))


def find_records(raw: Path) -> list[Path]:
    """Return the EEG recordings of a BIDS tree, sorted by name.

    Those of ``derivatives`` and ``sourcedata`` are none. Raises DataError when the tree is missing,
    holds none, or two have one name. mne-bids is not asked: it refuses a whole tree for one name.
    """
    check_folder(raw, "the BIDS tree")
    recordings = [
        path
        for subject in raw.glob("sub-*")
        for suffix in (*psg.EDF, *psg.MNE)
        for path in subject.rglob(f"sub-*_eeg{suffix}")
        if not path.is_dir()
    ]
    if not recordings:
        raise DataError(f"no recordings in {raw}: expected files such as sub-01/eeg/…_eeg.edf.")
    return sorted_by_name(first_parts(recordings))


def find_events(path: Path, settings: ReadConfig = USUAL) -> dict[str, Path]:
    """Return the files of a recording's stages, by scorer where their names tell one.

    ``_hypnogram.tsv``, which is proposed for stages alone, else ``_events.tsv``; with a pattern of
    the user's the files that it names: ``{name}`` is without ``_eeg``.
    """
    bare = path.stem.removesuffix("_eeg")
    if settings.hypnogram.pattern:
        named = path.with_name(bare + path.suffix)
        return edf_recordings.find_scorings(named, settings.hypnogram, subject_of(path))
    files = (path.with_name(f"{bare}_{kind}.tsv") for kind in ("hypnogram", "events"))
    return {"": file} if (file := next((f for f in files if f.is_file()), None)) else {}


def fingerprint(path: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a recording and of its events."""
    return psg.fingerprint(path, *find_events(path, settings).values())


def read_recording(path: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one recording; see :func:`.edf_recordings.read_recording`."""
    subject = subject_of(path)
    events = find_events(path, settings)
    night = edf_recordings.read_night(path, events, settings, CHANNELS, needed=False)
    age, sex = _participants(path, subject)
    own = settings.subject_of(path.stem) if settings.subject else subject
    return replace(night, subject=own, age=age, sex=sex)


def subject_of(path: Path) -> str:
    """Return the subject of a recording, ``sub-01``: the first entity of its file's name.

    BIDS has that in the name of each file and of a folder around it; folders further up may be
    called anything. Raises DataError where the name has none.

    >>> subject_of(Path("sub-study/sub-01/eeg/sub-01_task-sleep_eeg.edf"))
    'sub-01'
    """
    subject, entities, _ = path.name.partition("_")
    if not (entities and subject.startswith("sub-") and subject != "sub-"):
        raise DataError(f"{path.name}: no BIDS name; expected sub-LABEL_…_eeg{path.suffix}.")
    return subject


def root_of(path: Path, subject: str) -> Path | None:
    """Return the folder of the tree: the one that holds the subject's, the innermost of that name.

    None where the recording lies in no folder of its subject.
    """
    return next((folder.parent for folder in path.parents if folder.name == subject), None)


def _participants(path: Path, subject: str) -> tuple[str, str]:
    """Return age and sex from the tree's ``participants.tsv``, empty where they are not told."""
    root = root_of(path, subject)
    if root is None or not (root / "participants.tsv").is_file():
        return "", ""
    file = root / "participants.tsv"
    people, damage = _table(file)
    if subject not in people and damage:
        raise DataError(f"{file} is not a readable table ({damage}).")
    return people.get(subject, ("", ""))


def _read_table(file: Path) -> tuple[dict[str, tuple[str, str]], str]:
    """Return {subject: (age, sex)} of a ``participants.tsv``, and why it ends early, if it does."""
    people: dict[str, tuple[str, str]] = {}
    try:
        with open_regular(file) as opened:
            handle = io.TextIOWrapper(opened, newline="", encoding="utf-8-sig")
            for row in csv.DictReader(handle, delimiter="\t"):
                values = [row.get(key) or "" for key in ("age", "sex")]
                age, sex = ("" if value == "n/a" else shown(value, LONGEST) for value in values)
                people.setdefault(row.get("participant_id"), (age, sex))
                if len(people) > MOST_PEOPLE:
                    return people, f"more than {MOST_PEOPLE:,} participants"
    except (UnicodeDecodeError, csv.Error) as error:
        return people, str(error)
    return people, ""


_table = Remembered(_read_table)  # one table for all recordings
