"""Stages among annotations: EDF+ files, and marks of any other kind."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from partsig.data.signals.hypnograms.codes import PRESETS, RK, number_codes, stage_code
from partsig.data.signals.hypnograms.events import Labelled, stages_among
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.scorers import choose
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.readers.edf_marks import Mark, read_marks
from partsig.errors import DataError

BARE = re.compile(r"-?[0-9.]+")


def read_edf_annotations(path: Path, settings: HypnogramConfig) -> Hypnogram:
    """Return the stages of an EDF+ file of annotations, counted from its start."""
    edf = open_edf(path)
    if edf.cut:
        raise DataError(f"{path.name}: {'; '.join(edf.notes)}; copy the hypnogram again.")
    marks, onsets = read_marks(edf)
    start, lead = edf.start, onsets[0] if len(onsets) else 0.0
    if start is not None and 0 < lead < 1:  # the first record tells the part of a second (EDF+)
        start += timedelta(seconds=lead)
        marks = [replace(mark, onset=mark.onset - lead) for mark in marks]
    return from_marks(path.name, marks, settings, start=start, in_signal=False)


def from_marks(
    place: str,
    marks: Sequence[Mark],
    settings: HypnogramConfig,
    *,
    start: datetime | None = None,
    in_signal: bool = True,
) -> Hypnogram:
    """Return the stages among annotations, and notes on labels that are not understood.

    Raises DataError where these have more than 1 % of the scored time.
    """
    # Numbers alone are no stages among annotations, unless the user says so.
    bare = [mark.text for mark in marks if BARE.fullmatch(mark.text.strip())]
    numbers, told = PRESETS.get(settings.codes, RK), ""
    if settings.codes != "auto":
        numbers, told = number_codes(place, bare, settings)
    rows = []
    for mark in marks:
        text = mark.text.strip()
        skipped = settings.codes == "auto" and BARE.fullmatch(text) and text not in settings.stages
        code = None if skipped or not text else stage_code(text, numbers, settings.stages)
        span = math.nan if mark.duration is None or mark.duration <= 0 else mark.duration
        rows.append(Labelled(onset=mark.onset, duration=span, label=text, code=code))
    if settings.scorer and any(row.code is not None and row.code >= 0 for row in rows):
        choose(place, {"": rows}, settings)  # annotations name nobody
    hypnogram = stages_among(place, rows, settings, start, in_signal)
    return replace(hypnogram, notes=(*([told] if told else ()), *hypnogram.notes))
