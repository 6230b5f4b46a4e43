"""Nights in EDF, EDF+, BDF, FIF, BrainVision or EEGLAB files, hypnograms inside or beside them.

A recording is a file; its name is the file's without the extension. ``ReadConfig`` says which
channels, whose night it is, and where its stages are.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from partsig.data.guard import guarded
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.alignment import find_offset, placed, to_epochs
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.scorers import consensus
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED
from partsig.data.signals.inventory import expanded
from partsig.data.signals.readers import psg
from partsig.data.signals.readers.beside import (
    find_scorings,
    holds_no_signal,
    unused,
)
from partsig.data.signals.readers.beside import overlooked as nothing_found
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
from partsig.text import shown

list_channels = psg.list_channels
CHANNELS = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
ANY_CHANNELS = True  # recordings of any make: an audit measures what is there
ANY_EPOCH = True
# What a recording is called, where a folder cannot be looked into.
FILES = tuple(f"*{suffix}" for suffix in (*psg.EDF, *psg.MNE))
# What MNE saves annotations alone in, beside recordings of the same ending.
ANNOTATIONS = ("-annot.fif", "_annot.fif")


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
        and not path.name.endswith(ANNOTATIONS)
        and not path.is_dir()  # what is no regular file is told where it is read
        and not holds_no_signal(path)
    )
    return first_parts(found)


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


def fingerprint(path: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of a recording and of its hypnograms."""
    return psg.fingerprint(path, *scorings_beside(path, settings).values())


def scorings_beside(path: Path, settings: ReadConfig) -> dict[str, Path]:
    """Return the files of a recording's stages by scorer; see :func:`.beside.find_scorings`."""
    pattern = settings.hypnogram.pattern
    subject = settings.subject_of(path.stem) if "{subject}" in pattern else ""
    return find_scorings(path, settings.hypnogram, subject)


def read_recording(path: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return one night: chosen channels read, stages aligned, nothing filtered.

    Raises DataError for anything damaged, missing or ambiguous, naming the file and what to do.
    """
    return read_night(path, scorings_beside(path, settings), settings, CHANNELS)


def read_night(
    path: Path,
    beside: Mapping[str, Path],
    settings: ReadConfig,
    usual: tuple[str, ...],
    *,
    needed: bool = True,
) -> Recording:
    """Return the night of a recording and of the hypnograms beside it, by scorer.

    Without any, its annotations. A file beside it that holds no stage is refused, unless none are
    ``needed``.
    """
    source = psg.fingerprint(path, *beside.values())
    night = night_of(psg.open_psg(path), path.name, beside, settings, usual, source, needed=needed)
    told = unused(path, beside, settings.hypnogram)
    if not beside and not (night.stages != UNSCORED).any():
        told = [*filter(None, [nothing_found(path, settings.hypnogram)])]
    return replace(night, notes=(*night.notes, *told))


def night_of(
    file: psg.Psg,
    place: str,
    beside: Mapping[str, Path],
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
    if beside:
        hypnogram = _scored(name, file, beside, settings.hypnogram)
    else:
        hypnogram = from_marks(place, file.marks, settings.hypnogram)
    needed = needed and bool(beside)
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


def _scored(
    name: str, file: psg.Psg, beside: Mapping[str, Path], settings: HypnogramConfig
) -> Hypnogram:
    """Return the hypnogram of one file, or the consensus of several, each in its own place."""
    if list(beside) == [""]:
        return read_hypnogram(beside[""], settings)
    # Whose they are, the files' names say.
    inside = replace(settings, scorer="")
    held = {who: read_hypnogram(path, inside) for who, path in beside.items()}
    if len(held) == 1:
        who, hypnogram = next(iter(held.items()))
        return replace(hypnogram, notes=(f"the stages of {shown(who, 80)}", *hypnogram.notes))
    for who, hypnogram in held.items():
        offset, _ = _offset_of(name, file, hypnogram, settings)
        held[who] = placed(hypnogram, offset)
    return consensus(f"{len(held)} files", held)


def _offset_of(
    name: str, file: psg.Psg, hypnogram: Hypnogram, settings: HypnogramConfig
) -> tuple[float, str]:
    return find_offset(
        name,
        hypnogram,
        file.start,
        file.duration_s,
        settings,
        lead_s=file.lead_s,
        gaps=file.gaps,
    )


def stages_of(
    name: str, file: psg.Psg, hypnogram: Hypnogram, needed: bool, settings: ReadConfig
) -> tuple[np.ndarray, float, list[str]]:
    """Return stages, the start of their grid (s) and notes; unscored where none are ``needed``."""
    if not needed and not (hypnogram.stages != UNSCORED).any():
        unscored = np.full(int(file.duration_s / settings.epoch_s + 1e-9), UNSCORED, np.int8)
        return unscored, 0.0, list(hypnogram.notes)
    offset, why = _offset_of(name, file, hypnogram, settings.hypnogram)
    stages, start_s, notes = to_epochs(
        name, hypnogram, offset, file.duration_s, list(file.gaps), settings.epoch_s
    )
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
