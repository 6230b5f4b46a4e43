"""Philips' ``.rml``: the stages of a study, by a person and by the machine.

A stage has a type and the second, from the recording's start, at which it begins; it holds until
the next. Written from descriptions of the files of PSG-Audio (doi 10.11922/sciencedb.00345).
"""

import itertools
import math
from dataclasses import replace
from xml.etree import ElementTree

from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import clock, seconds
from partsig.errors import DataError

ROOT = "PatientStudy"
# By whom, as a scorer's name; where a person has staged, the machine's stages are not asked about.
PERSON, MACHINE = "UserStaging", "MachineStaging"
# Philips' words, some of which begin as others of ours do.
TYPES = {"NonREM1": "N1", "NonREM2": "N2", "NonREM3": "N3", "NonREM4": "N3", "NotScored": "?"}
TYPES |= {"Wake": "W", "REM": "REM", "Invalid": "?", "Movement": "?"}


def from_rml(
    place: str, root: ElementTree.Element, settings: HypnogramConfig
) -> dict[str, Hypnogram]:
    """Return the hypnograms of a study by who staged it: a person's, else the machine's.

    With ``settings.scorer`` both. Raises DataError where there are none, or several recordings.
    """
    starts = [element.text or "" for element in root.iter("RecordingStart")]
    if len(set(starts)) > 1:
        raise DataError(
            f"{place}: {len(starts)} recordings in one study, and it is not told which of them the "
            "stages count from: export the stages as CSV, with times of day."
        )
    # Time of day and date are the recorder's; a zone, if any, is left out, as in EDF.
    start = clock(place, starts[0].strip().rstrip("Z")) if starts and starts[0].strip() else None
    found = {}
    for name in (PERSON, MACHINE):
        stages = [stage for staging in root.iter(name) for stage in staging.iter("Stage")]
        if not stages:
            continue
        if any(
            ("Start" in other.attrib and other.tag != "Stage") or (other.tail or "").strip()
            for staging in root.iter(name)
            for other in staging.iter()
        ):
            raise DataError(f"{place}: something begins among the stages of {name} that is none.")
        onsets = [seconds(place, stage.get("Start") or "") for stage in stages]
        if any(map(math.isnan, onsets)):
            raise DataError(f"{place}: a stage has no start.")
        if any(after <= before for before, after in itertools.pairwise(onsets)):
            raise DataError(f"{place}: stages hold until the next one begins, and starts go back.")
        labels = [TYPES.get(stage.get("Type") or "", stage.get("Type") or "") for stage in stages]
        codes, _ = stage_codes(place, labels, settings, events=False)
        held = [UNSCORED if code is None else code for code in codes]
        found[name] = make_hypnogram(place, onsets, [math.nan] * len(held), held, start)
    if not found:
        raise DataError(f"{place}: no sleep stages are in this study.")
    if settings.scorer:
        return found
    name, hypnogram = next(iter(found.items()))
    told = f"the stages of {name}, and not of {MACHINE}" if len(found) > 1 else f"by {name}"
    return {name: replace(hypnogram, notes=(told,))}
