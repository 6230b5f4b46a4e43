"""Readers as the verbs call them: what a recording makes a reader raise is that recording's reason.

A reader is a module of :mod:`.registry`, or a plug-in's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from partsig.data.foreign import check_regular, name_of
from partsig.data.guard import guarded
from partsig.data.signals.readers import physionet2018
from partsig.data.signals.recordings import LEAST_HZ, MOST_HZ, ReadConfig, Recording
from partsig.errors import DataError
from partsig.text import is_text, shown

# Characters of a note, and of what is said of a person.
LONGEST_NOTE, LONGEST_FACT = 400, 200


def find_records(reader: ModuleType, raw: Path) -> list:
    """Return what a reader finds in a folder; raise DataError where it cannot look through it."""
    with guarded(str(raw)):
        return reader.find_records(raw)


def roles(reader: ModuleType, headers: Sequence, raw: Path) -> dict[str, str] | None:
    """Return the source's own split; None where it has none."""
    if not hasattr(reader, "roles"):
        return None
    with guarded(str(raw)):
        return reader.roles(headers)


def usual_channels(reader: ModuleType, headers: Sequence) -> tuple[str, ...]:
    """Return the channels that are read where none are named."""
    if not hasattr(reader, "usual_channels"):
        return reader.CHANNELS
    with guarded("the channels of these recordings"):
        return reader.usual_channels(headers)


def overlooked(reader: ModuleType, headers: Sequence, settings: ReadConfig) -> list[str]:
    """Return sentences on all recordings together, if the reader has any."""
    if not hasattr(reader, "overlooked"):
        return []
    try:
        with guarded("what is easily overlooked"):
            return [shown(note) for note in reader.overlooked(headers, settings)]
    except DataError as error:
        return [str(error)]


def fingerprint(reader: ModuleType, header: Path, settings: ReadConfig) -> str | None:
    """Return a recording's fingerprint; None where it has none: reading it tells why."""
    try:
        with guarded(name_of(header)):
            return reader.fingerprint(header, settings)
    except DataError:
        return None


def read_recording(
    read: Callable[[Path, ReadConfig], Recording], header: Path, settings: ReadConfig
) -> Recording:
    """Return what a reader makes of a recording, its texts as they can be shown and written.

    Raises DataError, one sentence, for whatever is wrong with it.
    """
    check_name(header)
    with guarded(name_of(header)):
        recording = read(header, settings)
        if not isinstance(recording, Recording):
            raise DataError(f"{name_of(header)}: the reader returned no recording.")
        _check_parts(recording, name_of(header))
        return _presentable(recording, name_of(header))


def check_name(header: Path) -> None:
    """Raise DataError for a name that no table can hold, and for what is no regular file."""
    if not is_text(header.stem):
        raise DataError(f"{name_of(header)}: the file's name is no text (UTF-8); rename it.")
    if isinstance(header, Path):
        check_regular(header)


def _check_parts(recording: Recording, name: str) -> None:
    """Raise DataError where samples cannot be scaled or filtered, whatever the header says."""
    for part in recording.parts:
        if not LEAST_HZ <= part.sfreq <= MOST_HZ:
            raise DataError(
                f"{name}: {shown(', '.join(part.labels), 200)} at {part.sfreq:g} Hz; rates from "
                f"{LEAST_HZ:.2g} to {MOST_HZ:,.0f} Hz are read."
            )
        if not np.isfinite([*part.scale, *part.offset]).all():
            raise DataError(f"{name}: samples have no finite scale; the header is damaged.")


def _presentable(recording: Recording, name: str) -> Recording:
    """Return a recording whose texts can be shown and written, whatever they were made of."""
    return replace(
        recording,
        name=name,
        subject=shown(recording.subject, LONGEST_FACT),
        age=shown(recording.age, LONGEST_FACT),
        sex=shown(recording.sex, LONGEST_FACT),
        notes=tuple(shown(note, LONGEST_NOTE) for note in recording.notes),
    )


def ages_and_sexes(raw: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return what a table beside the recordings tells; of one that cannot be read, a note."""
    try:
        with guarded(str(raw)):
            return physionet2018.read_demographics(raw), []
    except DataError as error:
        return {}, [f"{str(error).rstrip('.')}: ages and sexes are left out"]
