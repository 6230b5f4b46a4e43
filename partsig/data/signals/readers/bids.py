"""Recordings in a BIDS tree (EEG-BIDS, doi 10.1038/s41597-019-0104-8), found by mne-bids.

A recording is named by its entities (``sub-01_ses-1_task-sleep_eeg``), its subject is the tree's;
stages are in ``_events.tsv`` (onsets count from the first sample) or in the recording itself; age
and sex in ``participants.tsv``.
"""

import csv
from dataclasses import replace
from pathlib import Path

from partsig.data.listing import Remembered
from partsig.data.signals.readers import edf_recordings, psg
from partsig.data.signals.recordings import USUAL, ReadConfig, Recording, check_folder
from partsig.errors import DataError

CHANNELS = edf_recordings.CHANNELS
# What a recording is called, where a folder cannot be looked into.
FILES = tuple(f"*_eeg{suffix}" for suffix in (*psg.EDF, *psg.MNE))


def find_records(raw: Path) -> list[Path]:
    """Return the EEG recordings of a BIDS tree, sorted by name.

    Raises DataError when the tree is missing, holds none, or mne-bids is not installed.
    """
    try:
        import mne_bids
    except ImportError:
        raise DataError("reading BIDS needs mne-bids: pip install 'partsig[bids]'.") from None
    check_folder(raw, "the BIDS tree")
    paths = mne_bids.find_matching_paths(
        raw, suffixes="eeg", extensions=[*psg.EDF, *psg.MNE], ignore_nosub=True
    )
    recordings = sorted((Path(path.fpath) for path in paths), key=lambda path: path.stem)
    if not recordings:
        raise DataError(f"no recordings in {raw}: expected files such as sub-01/eeg/…_eeg.edf.")
    return recordings


def find_events(path: Path) -> Path | None:
    """Return the ``_events.tsv`` of a recording, or None."""
    events = path.with_name(path.stem.removesuffix("_eeg") + "_events.tsv")
    return events if events.is_file() else None


def fingerprint(path: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a recording and of its events."""
    events = find_events(path)
    return psg.fingerprint(path, *([] if events is None else [events]))


def read_recording(path: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one recording; see :func:`.edf_recordings.read_recording`."""
    subject = next(part for part in path.parts if part.startswith("sub-"))
    night = edf_recordings.read_night(path, find_events(path), settings, CHANNELS, needed=False)
    age, sex = _participants(path, subject)
    own = settings.subject_of(path.stem) if settings.subject else subject
    return replace(night, subject=own, age=age, sex=sex)


def _participants(path: Path, subject: str) -> tuple[str, str]:
    """Return age and sex from the tree's ``participants.tsv``, empty where they are not told."""
    root = path.parents[path.parts[::-1].index(subject)]
    file = root / "participants.tsv"
    if not file.is_file():
        return "", ""
    people, damage = _table(file)
    if subject not in people and damage:
        raise DataError(f"{file} is not a readable table ({damage}).")
    return people.get(subject, ("", ""))


def _read_table(file: Path) -> tuple[dict[str, tuple[str, str]], str]:
    """Return {subject: (age, sex)} of a ``participants.tsv``, and why it ends early, if it does."""
    people: dict[str, tuple[str, str]] = {}
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            for row in csv.DictReader(handle, delimiter="\t"):
                values = [row.get(key) or "" for key in ("age", "sex")]
                age, sex = ("" if value == "n/a" else value for value in values)
                people.setdefault(row.get("participant_id"), (age, sex))
    except (UnicodeDecodeError, csv.Error) as error:
        return people, str(error)
    return people, ""


_table = Remembered(_read_table)  # one table for all recordings
