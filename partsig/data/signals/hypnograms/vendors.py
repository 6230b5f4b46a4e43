"""Text that recorders' programs export: REMlogic's events, and DOMINO's sleep profile."""

import math
import re
from dataclasses import replace
from datetime import datetime, time

from partsig.data.signals.hypnograms.clock_texts import onsets_by_clock, time_of_day
from partsig.data.signals.hypnograms.codes import stage_codes
from partsig.data.signals.hypnograms.columns import LINE_END, MOST_LINES
from partsig.data.signals.hypnograms.events import Labelled, stages_among
from partsig.data.signals.hypnograms.hypnogram import Hypnogram, make_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import UNSCORED
from partsig.data.signals.hypnograms.times import DAY_S, duration
from partsig.errors import DataError
from partsig.text import quoted

# Above the rows of REMlogic's export, in any order; "[hh:mm:ss.xxx]" has parts of seconds.
TIME, EVENT, DURATION = "time [hh:mm:ss", "event", "duration"
# Marks of cyclic alternating patterns, of which a night has hundreds, over its stages.
OVER_STAGES = ("MCAP",)
RATE = re.compile(r"([0-9]{1,6}(?:[.,][0-9]{1,9})?) ?s(?:ec)?\.?", re.IGNORECASE)
# What DOMINO calls stages, in English and in German, beside the manual's own names.
DOMINO = {
    **{"WACH": "W", "WAKE": "W", "REM": "REM", "R": "REM"},
    **dict.fromkeys(("A", "ARTEFAKT", "ARTIFACT", "ARTEFACT"), "unscored"),
    **dict.fromkeys(("BEWEGUNG", "MOVEMENT", "MT", "M"), "unscored"),
}
SAME_S, BEFORE_S = 1.0, 6 * 3600.0


def lines_of(place: str, text: str) -> list[str]:
    """Return a text's lines; raise DataError where there are more than of any hypnogram."""
    lines = LINE_END.split(text, MOST_LINES)
    if len(lines) > MOST_LINES:
        raise DataError(f"{place}: more than {MOST_LINES:,} lines, which no hypnogram has.")
    return lines


def is_remlogic(head: str) -> bool:
    """Tell whether a text begins as REMlogic's export of events does, or has its columns."""
    return head.startswith("RemLogic") or any(map(_remlogic_columns, LINE_END.split(head)))


def _remlogic_columns(line: str) -> dict[str, int] | None:
    """Return where REMlogic's columns are, None for another line."""
    cells = [cell.strip().lower() for cell in line.split("\t")]
    found = {
        key: next((k for k, cell in enumerate(cells) if cell.startswith(key)), -1)
        for key in (TIME, EVENT, DURATION)
    }
    return None if -1 in found.values() else found


def from_remlogic(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of REMlogic's export of events.

    Times are of day; the day is the recording's, since the export writes dates in the order of
    each country. Stages are the events SLEEP-S0 and so on. Raises DataError for what is damaged.
    Source: the header of the CAP sleep database's files (doi 10.13026/C2VC79).
    """
    lines = lines_of(place, text)
    at = next((k for k, line in enumerate(lines) if _remlogic_columns(line)), None)
    if at is None:
        raise DataError(
            f"{place}: no columns of REMlogic's; expected Time [hh:mm:ss], Event and Duration[s]."
        )
    columns = _remlogic_columns(lines[at])
    rows = []
    for number, line in enumerate(lines[at + 1 :], at + 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) <= max(columns.values()):
            raise DataError(f"{place}: line {number} has fewer columns than the header.")
        rows.append([cells[columns[key]].strip() for key in (TIME, EVENT, DURATION)])
    staged = [row for row in rows if row[1].upper().startswith("SLEEP")]
    if not staged:
        raise DataError(f"{place}: no event is a stage; expected SLEEP-S0, SLEEP-REM and so on.")
    labels = [label for _, label, _ in staged]
    codes, notes = stage_codes(place, labels, settings, events=True)
    onsets, start = onsets_by_clock(place, [clock for clock, _, _ in staged])
    held = [
        Labelled(onset=onset, duration=_lasting(place, row[2]), label=row[1], code=code)
        for onset, row, code in zip(onsets, staged, codes, strict=True)
    ]
    held += [
        Labelled(onset=_after(place, clock, start), duration=_told(span), label=label, code=None)
        for clock, label, span in rows
        if not label.upper().startswith(("SLEEP", *OVER_STAGES))
    ]
    hypnogram = stages_among(place, held, settings, start)
    return {"": replace(hypnogram, notes=(*notes, *hypnogram.notes))}


def _lasting(place: str, text: str) -> float:
    span = duration(place, text)
    return span if span > 0 else math.nan


def _told(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _after(place: str, clock: str, start: time) -> float:
    """Return the seconds from the first stage to an event, which lies up to 6 h before it."""
    day = datetime(2000, 1, 1)
    at = datetime.combine(day, time_of_day(place, clock)) - datetime.combine(day, start)
    return (at.total_seconds() + BEFORE_S) % DAY_S - BEFORE_S


def is_domino(head: str) -> bool:
    """Tell whether a text begins as DOMINO's exports do."""
    return head.lower().startswith(("signal id:", "signal-id:"))


def from_domino(place: str, text: str, settings: HypnogramConfig) -> dict[str, Hypnogram]:
    """Return the hypnogram of DOMINO's sleep profile: a stage for every epoch.

    A row is a time, with or without a date, and a stage, or a stage alone; the rate, and the start
    that rows without times count from, stand above. The day is the recording's, since dates have
    the order of each country. Raises DataError for what is damaged or is no profile of stages.
    """
    lines = lines_of(place, text)
    body = next((k for k, line in enumerate(lines) if not line.strip()), len(lines))
    head = {}
    for line in lines[:body]:
        key, _, value = line.partition(":")
        head[key.strip().lower().replace("-", " ")] = value.strip()
    signal = head.get("signal id", "")
    if "profil" not in signal.lower():
        raise DataError(f"{place} is DOMINO's export of {quoted(signal)}, no sleep profile.")
    rate = RATE.fullmatch(head.get("rate", ""))
    step = float(rate[1].replace(",", ".")) if rate else math.nan
    if not 0.1 <= step <= 3600:
        raise DataError(
            f"{place}: no rate of epochs above the stages; expected a line such as Rate: 30 s."
        )
    rows = [re.split(r"[;\t]", line) for line in lines[body:] if line.strip()]
    if not rows:
        raise DataError(f"{place}: the hypnogram is empty.")
    if len({len(row) for row in rows}) > 1 or len(rows[0]) > 2:
        raise DataError(f"{place}: rows of a sleep profile are a time; a stage, and some are not.")
    labels = [row[-1].strip() for row in rows]
    own = {label: DOMINO[label.upper()] for label in set(labels) if label.upper() in DOMINO}
    known = replace(settings, stages={**own, **settings.stages})
    codes, notes = stage_codes(place, labels, known, events=False)
    began = time_of_day(place, head["start time"]) if head.get("start time") else None
    if len(rows[0]) == 2:
        onsets, start = onsets_by_clock(place, [row[0] for row in rows])
        if began is not None and abs(_after(place, began.isoformat(), start)) > SAME_S:
            raise DataError(
                f"{place}: the start time says {began}, and the first row {start}; mend the file."
            )
    else:
        onsets, start = [step * k for k in range(len(rows))], began
    held = [UNSCORED if code is None else code for code in codes]
    hypnogram = make_hypnogram(place, onsets, [step] * len(rows), held, start)
    return {"": replace(hypnogram, notes=notes)}
