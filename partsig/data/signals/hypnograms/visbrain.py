"""Hypnograms of visbrain and of Elan.

Source: visbrain's documentation of *Sleep*, and what it writes: Elan's ``.hyp`` (a number for each
``time_base`` seconds, 5 is REM), and text with each stage and the second at which it ends.
"""

import math
import re
from dataclasses import replace

import numpy as np

from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import seconds
from partsig.data.signals.hypnograms.vendors import lines_of
from partsig.errors import DataError
from partsig.text import quoted, shown

HEAD = ("time_base", "sampling_period", "epoch_nb", "epoch_list")
SPACE = re.compile(r"[ \t,;]+")
NUMBER = re.compile(r"-?[0-9]{1,2}")
DURATION = "*duration_sec"


def is_elan(head: str) -> bool:
    """Tell whether a text begins as Elan's hypnograms do."""
    return head.startswith(HEAD[0])


def from_elan(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of an Elan file; raise DataError where it is damaged or incomplete."""
    lines = [line.strip() for line in lines_of(place, text.strip())]
    told = {}
    for name, line in zip(HEAD, lines, strict=False):
        key, _, value = line.partition(" ")
        if key != name:
            raise DataError(f"{place}: {quoted(line)} where a line {name} was expected.")
        told[key] = value.strip()
    if len(told) < len(HEAD):
        raise DataError(f"{place}: the header is incomplete; expected {', '.join(HEAD)}.")
    labels = lines[len(HEAD) :]
    epoch_s, n = seconds(place, told["time_base"]), seconds(place, told["epoch_nb"])
    if not 0.1 <= epoch_s <= 3600:
        raise DataError(f"{place}: epochs of {shown(told['time_base'], 40)} s; expected seconds.")
    if not abs(len(labels) - n) <= 1:  # visbrain rounds a part of an epoch up or down
        raise DataError(
            f"{place}: {len(labels)} epochs, where the header has {n:g}; copy it again."
        )
    words = [label for label in labels if not NUMBER.fullmatch(label)]
    if words:
        raise DataError(f"{place}: {quoted(words[0])} where a number of a stage was expected.")
    rk = settings if settings.codes != "auto" else replace(settings, codes="rk")
    codes, notes = stage_codes(place, labels, rk, events=False)
    held = [UNSCORED if code is None else code for code in codes]
    at = np.arange(len(codes)) * epoch_s
    hypnogram = make_hypnogram(place, at, np.full(len(codes), epoch_s), held)
    return {"": replace(hypnogram, notes=notes)}


def is_visbrain(head: str) -> bool:
    """Tell whether a text begins with the lines that visbrain writes above its stages."""
    return head.lower().startswith(DURATION)


def from_visbrain(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of visbrain's text: each stage, and the second at which it ends.

    Seconds count from the first sample. Raises DataError where they go back, or pass the duration
    that is told above.
    """
    labels, ends, lasts = [], [], math.nan
    for number, line in enumerate(lines_of(place, text), 1):
        cells = SPACE.split(line.strip())
        if line.startswith("*"):
            lasts = seconds(place, cells[-1]) if cells[0].lower() == DURATION else lasts
            continue
        if not line.strip():
            continue
        if len(cells) < 2:
            raise DataError(f"{place}: line {number} has no second at which the stage ends.")
        labels.append(" ".join(cells[:-1]))
        ends.append(seconds(place, cells[-1]))
    if not labels:
        raise DataError(f"{place}: the hypnogram is empty.")
    codes, notes = stage_codes(place, labels, settings, events=False)
    onsets = [0.0, *ends[:-1]]
    spans = [end - onset for onset, end in zip(onsets, ends, strict=True)]
    if not all(span > 0 for span in spans):
        raise DataError(f"{place}: stages end at seconds that do not grow; mend the file.")
    if ends[-1] > lasts + 1:
        raise DataError(f"{place}: the last stage ends at {ends[-1]:g} s, of {lasts:g} s in all.")
    held = [UNSCORED if code is None else code for code in codes]
    hypnogram = make_hypnogram(place, onsets, spans, held, in_signal=True)
    return {"": replace(hypnogram, notes=notes)}
