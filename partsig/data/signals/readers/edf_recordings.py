"""Nights in EDF, EDF+, BDF, FIF, BrainVision or EEGLAB files, hypnograms inside or beside them.

A recording is a file; its name is the file's without the extension. ``ReadConfig`` says which
channels, whose night it is, and where its stages are.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from partsig import commands
from partsig.data import listing as folders
from partsig.data.guard import guarded
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED, n_epochs
from partsig.data.signals.inventory import expanded
from partsig.data.signals.readers import psg
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.fif_parts import first_parts
from partsig.data.signals.recordings import (
    USUAL,
    ReadConfig,
    Recording,
    check_folder,
    sorted_by_name,
)
from partsig.errors import DataError

list_channels = psg.list_channels
CHANNELS = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
ANY_CHANNELS = True  # recordings of any make: an audit measures what is there
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
# Files beside a recording without stages that may hold them all the same.
SCORES = (".csv", ".tsv", ".txt", ".xml", ".edf", ".hyp")
# Such that may hold them in a format that is not read.
OTHER_SCORES = (".json", ".xlsx", ".xls", ".mat", ".npy", ".npz", ".annot", ".eannot", ".rml")


def find_records(raw: Path) -> list[Path]:
    """Return the recordings below ``raw``, sorted by name; files of annotations alone are none.

    Raises DataError when the folder is missing, holds none, or two have one name.
    """
    recordings = below(raw)
    if not recordings:
        raise DataError(
            f"no recordings in {raw}: expected files that end in {', '.join((*psg.EDF, *psg.MNE))}."
        )
    return sorted_by_name(recordings)


def below(raw: Path) -> list[Path]:
    """Return what may be recordings below a folder; raise DataError when it cannot be read."""
    check_folder(raw, "the recordings")
    found = (
        path
        for path in raw.rglob("*")
        if path.suffix.lower() in (*psg.EDF, *psg.MNE)
        and not path.name.startswith(".")
        and not path.is_dir()  # what is no regular file is told where it is read
        and not holds_no_signal(path)
    )
    return first_parts(found)


def holds_no_signal(path: Path) -> bool:
    """Tell whether this is an EDF file of annotations alone."""
    if path.suffix.lower() not in psg.EDF:
        return False
    try:
        with guarded(path.name):
            return not open_edf(path).labels
    except DataError:
        return False  # damaged: found, and then skipped with its reason


def overlooked(paths: list[Path], settings: ReadConfig) -> list[str]:
    """Return sentences on recordings that have one patient code but not one subject.

    Nothing is said where all have one code: a recorder's default.
    """
    by_code: dict[str, list[str]] = {}
    for path in paths:
        if path.suffix.lower() in psg.EDF and path.is_file():
            try:
                with guarded(path.name):
                    by_code.setdefault(open_edf(path).patient, []).append(path.stem)
            except DataError:
                continue
    by_code.pop("", None)
    warnings = []
    for names in by_code.values() if len(by_code) > 1 else ():
        try:
            subjects = {settings.subject_of(name) for name in names}
        except DataError:
            continue  # told where the recording is read
        if len(subjects) > 1:
            warnings.append(
                f"{' and '.join(names[:3])} have one patient code and count as {len(subjects)} "
                "subjects, one may be trained and another tested on: pass --set subject=REGEX"
            )
    return warnings


def find_hypnogram(path: Path, settings: HypnogramConfig) -> Path | None:
    """Return the file of a recording's stages, None where there is none.

    Raises DataError when several files could be it, or the pattern is none.
    """
    patterns = (settings.pattern,) if settings.pattern else PATTERNS
    hypnograms: dict[Path, None] = {}
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
        if settings.pattern:
            files = folders.matching(base, text)
        else:  # a name, whatever characters are in it
            files = [base / text] if os.path.exists(base / text) else []
        hypnograms |= dict.fromkeys(file for file in files if file != path)
    if len(hypnograms) > 1:
        names = " or ".join(file.name for file in hypnograms)
        raise DataError(
            f"{path.stem}: its stages may be in {names}; say which, "
            "with --set 'hypnogram.pattern={name}…'."
        )
    return next(iter(hypnograms), None)


def _overlooked(path: Path, settings: HypnogramConfig) -> str:
    """Return what to say of a recording without stages: files that may hold them, or nothing."""
    if settings.pattern:
        return f"no {settings.pattern.format(name=path.stem)} beside it, and no stages inside"
    for name in folders.names(path.parent, path.stem):
        other, tail = path.parent / name, name.removeprefix(path.stem)
        if (
            not tail[:1].isalnum()  # night10 is another's
            and other.suffix.lower() in (*SCORES, *OTHER_SCORES)
            and other != path
            and (other.suffix.lower() not in psg.EDF or holds_no_signal(other))
        ):
            if other.suffix.lower() in OTHER_SCORES:
                return (
                    f"no stages were found, but {name} lies beside it, of a format that is not "
                    "read: export it as CSV, with onsets or one stage a line"
                )
            return (
                f"no stages were found, but {name} lies beside it: pass "
                f"{commands.pattern_option('hypnogram.pattern', tail)}"
            )
    return ""


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
    source = psg.fingerprint(path, *([] if beside is None else [beside]))
    night = night_of(psg.open_psg(path), path.name, beside, settings, usual, source, needed=needed)
    if beside is None and not (night.stages != UNSCORED).any():
        told = filter(None, [_overlooked(path, settings.hypnogram)])
        night = replace(night, notes=(*night.notes, *told))
    return night


def night_of(
    file: psg.Psg,
    place: str,
    beside: Path | None,
    settings: ReadConfig,
    usual: tuple[str, ...],
    source: str,
    *,
    needed: bool,
) -> Recording:
    """Return the night of an open recording; its annotations are told as being in ``place``."""
    name = file.name
    settings = expanded(name, file.labels, settings)
    channels = settings.channels or usual
    resolved = resolve(name, file.labels, channels, settings)
    parts, resolved = psg.read_rows(file, resolved, settings)
    if not all(part.signal.shape[1] for part in parts):
        raise DataError(f"{name}: there are no samples in it.")
    if beside is None:
        hypnogram = from_marks(place, file.marks, settings.hypnogram)
    else:
        hypnogram = read_hypnogram(beside, settings.hypnogram)
    needed = needed and beside is not None
    try:
        stages, start_s, notes = stages_of(name, file, hypnogram, needed, settings)
    except DataError as error:
        if not file.notes:
            raise
        raise DataError(f"{error} Of the file itself: {'; '.join(file.notes)}.") from None
    return Recording(
        name=name,
        subject=settings.subject_of(name),
        ch_names=tuple(channels),
        parts=parts,
        mix=resolved.mix,
        filled=resolved.filled,
        stages=stages,
        start_s=start_s,
        source=source,
        notes=(*file.notes, *resolved.notes, *notes),
        start=file.start,
        gaps=file.gaps,
    )


def stages_of(
    name: str, file: psg.Psg, hypnogram: Hypnogram, needed: bool, settings: ReadConfig
) -> tuple[np.ndarray, float, list[str]]:
    """Return stages, the start of their grid (s) and notes; unscored where none are ``needed``."""
    if not needed and not (hypnogram.stages != UNSCORED).any():
        unscored = np.full(n_epochs(file.duration_s, 1), UNSCORED, np.int8)
        return unscored, 0.0, list(hypnogram.notes)
    offset, why = find_offset(
        name,
        hypnogram,
        file.start,
        file.duration_s,
        settings.hypnogram,
        lead_s=file.lead_s,
        gaps=file.gaps,
    )
    stages, start_s, notes = to_epochs(name, hypnogram, offset, file.duration_s, list(file.gaps))
    notes = [*notes, *_too_short(hypnogram, stages)]
    return (
        stages,
        start_s,
        [f"stages from {hypnogram.place}, placed {why}", *hypnogram.notes, *notes],
    )


def _too_short(hypnogram: Hypnogram, stages: np.ndarray) -> list[str]:
    """Return a sentence on stages that last too short to be an epoch's, if there are any."""
    scored = hypnogram.stages != UNSCORED
    spans = hypnogram.durations[scored]
    if not scored.any() or np.isnan(spans).all():
        return []
    lasting = float(np.nanmedian(spans))
    if not (stages != UNSCORED).any():
        told = f"{len(spans)} stages were found and none covers an epoch; they last {lasting:.3g} s"
        return [f"{told}: is that their unit?"]
    short = int((spans < min(lasting, EPOCH_S) / 2).sum())
    return [f"{short} stages last too short to be an epoch's, and score none"] if short else []
