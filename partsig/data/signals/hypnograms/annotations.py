"""Stages among annotations: EDF+ files, and marks of any other kind."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from partsig.data.signals.hypnograms.codes import PRESETS, RK, stage_code
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.edf_marks import Mark, read_marks
from partsig.errors import DataError

BARE = re.compile(r"-?[0-9.]+")
STAGE = re.compile(r"sleep[ _-]*stage", re.IGNORECASE)


def read_edf_annotations(path: Path, settings: HypnogramConfig) -> Hypnogram:
    """Return the stages of an EDF+ file of annotations, counted from its start."""
    edf = open_edf(path)
    if edf.cut:
        raise DataError(f"{path.name}: {'; '.join(edf.notes)}; copy the hypnogram again.")
    marks, _ = read_marks(edf)
    return from_marks(path.name, marks, settings, start=edf.start, in_signal=False)


def from_marks(
    place: str,
    marks: Sequence[Mark],
    settings: HypnogramConfig,
    *,
    start: datetime | None = None,
    in_signal: bool = True,
) -> Hypnogram:
    """Return the stages among annotations; other events are passed over.

    A text that begins as a stage does and names none that is known ("Sleep stage X") is unscored.
    """
    # Numbers alone are no stages among annotations, unless the user says so.
    own = settings.stages
    kept, codes = [], []
    for mark in marks:
        bare = BARE.fullmatch(mark.text.strip()) and mark.text.strip() not in own
        if bare and settings.codes == "auto":
            continue
        numbers = PRESETS.get(settings.codes, RK)
        code = stage_code(mark.text, numbers, own)
        if code is None and STAGE.match(mark.text):
            code = UNSCORED
        if code is not None and mark.text.strip():
            kept.append(mark)
            codes.append(code)
    durations = [math.nan if m.duration is None or m.duration <= 0 else m.duration for m in kept]
    return make_hypnogram(place, [m.onset for m in kept], durations, codes, start, in_signal)
