"""Hypnograms in XML: the National Sleep Research Resource's, Profusion's and Philips'."""

import math
import re
from dataclasses import replace
from datetime import datetime, time
from xml.etree import ElementTree

import numpy as np

from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.rml import ROOT, from_rml
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import clock, duration, seconds
from partsig.errors import DataError

DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")
# A night has a thousand epochs, and an event some ten tags.
MOST_TAGS = 2_000_000


def from_xml(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnograms of an XML text by scorer, "" where nobody is named.

    Raises DataError when it is damaged, has definitions of its own, or holds no stage.
    """
    root = _parse(place, text)
    if root.tag == ROOT:
        return from_rml(place, root, settings)
    epoch = root.findtext(".//EpochLength")
    epoch_s = settings.epoch_s if epoch is None else seconds(place, epoch)
    if not 0.1 <= epoch_s <= 3600:
        raise DataError(f"{place}: epochs of {epoch_s:g} s; the file is damaged.")
    listed = root.findall(".//SleepStages/SleepStage")
    if listed:  # Profusion: a number per epoch
        labels = [(item.text or "").strip() for item in listed]
        rk = settings if settings.codes != "auto" else replace(settings, codes="rk")
        codes, _ = stage_codes(place, labels, rk, events=False)
        at = np.arange(len(codes)) * epoch_s
        held = [UNSCORED if code is None else code for code in codes]
        return {"": make_hypnogram(place, at, np.full(len(codes), epoch_s), held)}
    return {"": _from_events(place, root, settings)}


def _parse(place: str, text: str) -> ElementTree.Element:
    # Without its declaration, which may name an encoding that is not the file's.
    bare = DECLARATION.sub("", text, count=1)
    if bare.count("<") > MOST_TAGS:
        raise DataError(f"{place}: more than {MOST_TAGS:,} tags, which no hypnogram has.")
    if "<!" in bare.replace("<!--", ""):
        raise DataError(f"{place}: the XML has definitions of its own; expected none.")
    try:
        root = ElementTree.fromstring(bare)
    except ElementTree.ParseError as error:
        raise DataError(f"{place} is no readable XML ({error}).") from error
    for element in root.iter():  # a schema that is named adds nothing to what stages are called
        element.tag = element.tag.rpartition("}")[2]
    return root


def _from_events(place: str, root: ElementTree.Element, settings: HypnogramConfig) -> Hypnogram:
    """Return the stages among the National Sleep Research Resource's scored events."""
    onsets: list[float] = []
    durations: list[float] = []
    labels: list[str] = []
    start: datetime | time | None = None
    for event in root.iter("ScoredEvent"):
        kind, concept = (event.findtext(tag) or "" for tag in ("EventType", "EventConcept"))
        if concept.startswith("Recording Start Time"):
            time_of_day = (event.findtext("ClockTime") or "").split()
            start = clock(place, time_of_day[-1].replace(".", ":")) if time_of_day else None
        if kind.startswith("Stages"):
            onsets.append(seconds(place, event.findtext("Start") or ""))
            durations.append(duration(place, event.findtext("Duration") or ""))
            labels.append(concept)
    if not labels:
        raise DataError(f"{place}: no sleep stages are in this XML.")
    if any(map(math.isnan, (*onsets, *durations))):
        raise DataError(f"{place}: a stage has no start or no duration.")
    codes, _ = stage_codes(place, labels, settings, events=False)
    kept = [i for i, code in enumerate(codes) if code is not None]
    rows = ([values[i] for i in kept] for values in (onsets, durations, codes))
    return replace(make_hypnogram(place, *rows, start), from_header=True)
