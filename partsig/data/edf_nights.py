"""Nights in EDF, EDF+, BDF, FIF, BrainVision or EEGLAB files, hypnograms inside or beside them.

A recording is a file; its name is the file's without the extension. ``ReadConfig`` says which
channels, whose night it is, and where its stages are.
"""

from pathlib import Path

import numpy as np

from partsig.data import psg
from partsig.data.alignment import find_offset, to_epochs
from partsig.data.channels import resolve
from partsig.data.edf import open_edf
from partsig.data.hypnograms import Hypnogram, from_marks, read_hypnogram
from partsig.data.recordings import (
    UNSCORED,
    USUAL,
    HypnogramConfig,
    ReadConfig,
    Recording,
    n_epochs,
)
from partsig.errors import DataError

CHANNELS = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
# What a recording is called, where a folder cannot be looked into.
FILES = tuple(f"*{suffix}" for suffix in (*psg.EDF, *psg.MNE))
# Hypnograms are looked for under these names, beside the recording, where no pattern is given.
PATTERNS = tuple(
    f"{{name}}{tail}"
    for tail in (
        *(".xml", "-nsrr.xml", "-profusion.xml", ".XML"),
        *(".csv", ".tsv", ".txt", ".hyp", ".hypnogram"),
        *("_hypnogram.csv", "_hypnogram.tsv", "_hypnogram.txt", "_hypno.csv", "_hypno.txt"),
        *("-hypnogram.csv", "_stages.csv", "_stages.tsv", "_stages.txt", "_annotations.csv"),
        *("_hypnogram.edf", "-Hypnogram.edf", "_annotations.edf", "_scoring.edf"),
    )
)


def find_records(raw: Path) -> list[Path]:
    """Return the recordings below ``raw``, sorted by name; files of annotations alone are none.

    Raises DataError when the folder is missing, holds none, or two have one name.
    """
    if not raw.is_dir():
        raise DataError(f"no folder {raw}: pass --raw with the folder that holds the recordings.")
    by_name: dict[str, Path] = {}
    for path in sorted(raw.rglob("*")):
        suffix = path.suffix.lower()
        if suffix not in (*psg.EDF, *psg.MNE) or path.name.startswith(".") or not path.is_file():
            continue
        if holds_no_signal(path):
            continue
        if path.stem in by_name:
            raise DataError(
                f"recording {path.stem} is there twice: {by_name[path.stem]} and {path}; keep one."
            )
        by_name[path.stem] = path
    if not by_name:
        raise DataError(
            f"no recordings in {raw}: expected files that end in {', '.join((*psg.EDF, *psg.MNE))}."
        )
    return [by_name[name] for name in sorted(by_name)]


def holds_no_signal(path: Path) -> bool:
    """Tell whether this is an EDF file of annotations alone."""
    if path.suffix.lower() not in psg.EDF:
        return False
    try:
        return not open_edf(path).labels
    except DataError:
        return False  # damaged: found, and then skipped with its reason


def find_hypnogram(path: Path, settings: HypnogramConfig) -> Path | None:
    """Return the file of a recording's stages, None where there is none.

    Raises DataError when several files could be it, or the pattern that is given finds none.
    """
    patterns = (settings.pattern,) if settings.pattern else PATTERNS
    found: dict[Path, None] = {}
    for pattern in patterns:
        try:
            text = pattern.format(name=path.stem)
        except (KeyError, IndexError, ValueError):
            raise DataError(
                f"hypnogram.pattern is {pattern!r}; it may hold {{name}} and *, and no other {{}}."
            ) from None
        base = path.parent
        while text.startswith("../"):
            base, text = base.parent, text.removeprefix("../")
        escaped = text if settings.pattern else text.replace("[", "[[]")
        found |= dict.fromkeys(p for p in sorted(base.glob(escaped)) if p != path)
    if len(found) > 1:
        raise DataError(
            f"{path.stem}: its stages may be in {' or '.join(p.name for p in found)}; say which, "
            "with --set 'hypnogram.pattern={name}…'."
        )
    if settings.pattern and not found:
        raise DataError(
            f"{path.stem}: no hypnogram {settings.pattern.format(name=path.stem)} beside it; give "
            "no pattern for recordings without."
        )
    return next(iter(found), None)


def fingerprint(path: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a recording and of its hypnogram."""
    beside = find_hypnogram(path, settings.hypnogram)
    return psg.fingerprint(path, *([] if beside is None else [beside]))


def read_recording(path: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one night: chosen channels read, stages aligned, nothing filtered.

    Raises DataError for anything damaged, missing or ambiguous, naming the file and what to do.
    """
    return read_night(path, find_hypnogram(path, settings.hypnogram), settings, CHANNELS)


def read_night(
    path: Path,
    beside: Path | None,
    settings: ReadConfig,
    usual: tuple[str, ...],
    *,
    needed: bool = True,
) -> Recording:
    """Return the night of a recording and of the hypnogram beside it (None: its annotations).

    A file beside it that holds no stage is refused, unless none are ``needed``.
    """
    file = psg.open_psg(path)
    name, channels = path.stem, settings.channels or usual
    found = resolve(name, file.labels, channels, settings)
    parts, found = psg.read_rows(file, found, settings.unit)
    if not all(part.signal.shape[1] for part in parts):
        raise DataError(f"{name}: there are no samples in it.")
    if beside is None:
        hypnogram = from_marks(path.name, file.marks, settings.hypnogram)
    else:
        hypnogram = read_hypnogram(beside, settings.hypnogram)
    needed = needed and beside is not None
    stages, start_s, notes = stages_of(name, file, hypnogram, needed, settings)
    return Recording(
        name=name,
        subject=settings.subject_of(name),
        ch_names=tuple(channels),
        parts=parts,
        mix=found.mix,
        filled=found.filled,
        stages=stages,
        start_s=start_s,
        source=psg.fingerprint(path, *([] if beside is None else [beside])),
        notes=(*file.notes, *notes),
    )


def stages_of(
    name: str, file: psg.Psg, hypnogram: Hypnogram, needed: bool, settings: ReadConfig
) -> tuple[np.ndarray, float, list[str]]:
    """Return stages, the start of their grid (s) and notes; unscored where none are ``needed``."""
    if not needed and not (hypnogram.stages != UNSCORED).any():
        return np.full(n_epochs(file.duration_s, 1), UNSCORED, np.int8), 0.0, []
    offset = find_offset(name, hypnogram, file.start, file.duration_s, settings.hypnogram)
    return to_epochs(name, hypnogram, offset, file.duration_s, list(file.gaps))
