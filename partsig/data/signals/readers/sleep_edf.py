"""Sleep-EDF Expanded (doi 10.13026/C2X676): cassette (SC4…) and telemetry (ST7…) nights.

``SC4001E0-PSG.edf`` has its stages, after Rechtschaffen and Kales, in ``SC4001EC-Hypnogram.edf``:
the first six letters are the night, the first five the subject (SC4 and two digits), the eighth
letter of the hypnogram the scorer. Both files begin at one time, which is held against the headers.
"""

from dataclasses import replace
from pathlib import Path

from partsig.data import listing as folders
from partsig.data.signals.readers import edf_recordings, psg
from partsig.data.signals.recordings import (
    USUAL,
    ReadConfig,
    Recording,
    check_folder,
    sorted_by_name,
)
from partsig.errors import DataError

list_channels = psg.list_channels
CHANNELS = ("EEG Fpz-Cz", "EEG Pz-Oz")
# What a recording is called, where a folder cannot be looked into.
FILES = ("*-PSG.edf",)
ANY_EPOCH = True
SUBJECT = r"^(S[CT][47]\d\d)"


def find_records(raw: Path) -> list[Path]:
    """Return the ``*-PSG.edf`` below ``raw``, sorted; raise DataError when there is none."""
    check_folder(raw, "Sleep-EDF")
    recordings = list(raw.rglob("*-PSG.edf"))
    if not recordings:
        raise DataError(f"no recordings in {raw}: expected files such as SC4001E0-PSG.edf.")
    return sorted_by_name(recordings)


def find_hypnogram(path: Path) -> Path:
    """Return the scoring of a night; raise DataError when there is none, or more than one."""
    hypnograms = folders.matching(path.parent, f"{path.stem[:6]}*-Hypnogram.edf")
    if len(hypnograms) != 1:
        names = ", ".join(p.name for p in hypnograms) or "none"
        raise DataError(
            f"{path.stem}: expected one {path.stem[:6]}…-Hypnogram.edf beside it, found {names}."
        )
    return hypnograms[0]


def fingerprint(path: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a recording and of its hypnogram."""
    return psg.fingerprint(path, find_hypnogram(path))


def read_recording(path: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one night; see :func:`partsig.data.signals.readers.edf_recordings.read_recording`."""
    if not settings.subject:
        settings = replace(settings, subject=SUBJECT)
    return edf_recordings.read_night(path, {"": find_hypnogram(path)}, settings, CHANNELS)
