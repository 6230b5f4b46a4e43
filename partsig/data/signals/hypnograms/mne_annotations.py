"""Stages among the annotations that MNE saves: as text, or as FIF.

Source: ``mne.Annotations.save``. Onsets count from ``orig_time``, a date and time, or, where there
is none, from the first sample. MNE's ``.csv`` is read as any other table with onsets.
"""

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.times import clock, seconds
from partsig.data.signals.hypnograms.vendors import lines_of
from partsig.data.signals.readers.edf_marks import Mark
from partsig.data.signals.readers.mne_process import read_annotations
from partsig.errors import DataError

FIRST, ORIG, COLUMNS = "# MNE-Annotations", "# orig_time", "# onset, duration, description"


def is_mne(head: str) -> bool:
    """Tell whether a text begins as MNE's annotations do."""
    return head.startswith(FIRST)


def from_mne_text(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of MNE's text; raise DataError where a line is not understood."""
    start, marks, more = None, [], False
    for number, line in enumerate(lines_of(place, text), 1):
        if line.startswith("#"):
            if line.startswith(ORIG):
                start = clock(place, line.partition(":")[2].strip())
            more = more or line.startswith(f"{COLUMNS},")
            continue
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) < 3:
            raise DataError(f"{place}: line {number} is no onset, duration, description.")
        # The channels of an annotation, the fourth column, have no stage.
        label = cells[2] if more else ",".join(cells[2:])
        marks.append(
            _mark(place, seconds(place, cells[0]), seconds(place, cells[1]), label.strip())
        )
    return {"": _hypnogram(place, marks, start, settings)}


def read_mne_fif(path: Path, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of annotations that MNE saved as FIF, read in a process of its own.

    Raises DataError where MNE is not installed or the file is damaged.
    """
    told, start = read_annotations(path)
    marks = [_mark(path.name, *mark) for mark in told]
    return {"": _hypnogram(path.name, marks, start, settings)}


def _mark(place: str, onset: float, span: float, label: str) -> Mark:
    if math.isnan(onset) or span < 0:
        raise DataError(f"{place}: an annotation without an onset, or that ends before it begins.")
    return Mark(onset=onset, duration=None if math.isnan(span) else span, text=label)


def _hypnogram(
    place: str, marks: list[Mark], start: datetime | None, settings: HypnogramConfig
) -> Hypnogram:
    hypnogram = from_marks(place, marks, settings, start=start, in_signal=start is None)
    if not (hypnogram.stages >= 0).any():
        raise DataError(f"{place}: no annotation is a sleep stage.")
    return replace(hypnogram, place=place)
