"""Hypnograms in the files people have them in: what is scored when, in the scorer's own time.

Read here: EDF+ annotations, tables with onsets (CSV, TSV, BIDS ``_events.tsv``), lists of one stage
per epoch (plain text, CSV, YASA's export, Compumedics' ``.txt``), and the XML of the National Sleep
Research Resource and of Profusion. Where the stages lie in a recording is for alignment.py to tell.
"""

import csv
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from partsig.data.signals.readers.edf import LONGEST_S, NUMBER, Mark, open_edf, read_marks
from partsig.data.signals.recordings import STAGES, UNSCORED, HypnogramConfig
from partsig.errors import DataError

NAMES = {
    **dict.fromkeys(("W", "WAKE", "AWAKE", "WAKEFULNESS", "WK"), 0),
    **dict.fromkeys(("N1", "S1", "NREM1", "NREM 1", "I"), 1),
    **dict.fromkeys(("N2", "S2", "NREM2", "NREM 2", "II"), 2),
    # Rechtschaffen and Kales' stages 3 and 4 are the AASM manual's N3.
    **dict.fromkeys(("N3", "S3", "NREM3", "NREM 3", "III"), 3),
    **dict.fromkeys(("N4", "S4", "NREM4", "NREM 4", "IV", "SWS"), 3),
    **dict.fromkeys(("R", "REM"), 4),
    **dict.fromkeys(("?", "U", "UNS", "UNSCORED", "UNKNOWN", "UNDEFINED", "NOT SCORED"), UNSCORED),
    **dict.fromkeys(("M", "MT", "MVT", "MOVEMENT", "MOVEMENT TIME", "BODY MOVEMENT"), UNSCORED),
    **dict.fromkeys(("ART", "ARTEFACT", "ARTIFACT", "NS", "NAN", "NONE", "-", ""), UNSCORED),
}
BARE = re.compile(r"-?[0-9]{1,4}(\.0*)?")
RK = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4}
YASA = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
# "Sleep stage 2", "Stage 2 sleep", "SLEEP-S2", "sleep_stage_w"
PREFIX = re.compile(r"^(SLEEP[ _-]*)?STAGES?[ _:-]+|^SLEEP[ _:-]+|[ _]SLEEP$")
ONSET = ("onset", "start", "start_s", "time", "onset_s", "begin")
DURATION = ("duration", "duration_s", "dur", "length")
STAGE = ("stage", "sleep_stage", "sleepstage", "stages", "hypnogram", "trial_type", "description")
STAGE += ("label", "annotation", "event", "value", "hypno", "score")
EPOCH = ("epoch", "epoch_number", "epochs")
# A clock time is past midnight if it follows the one before within half of it.
DAY_S = 86_400.0
# Columns that hold other events too; what is no stage there is passed over.
EVENTS = ("trial_type", "description", "label", "annotation", "event")


@dataclass(frozen=True, kw_only=True)
class Hypnogram:
    """Stages (K,) int8 that hold from ``onsets`` (s) for ``durations`` (s; NaN: until the next).

    Onsets count from ``start`` where it is known (a date and time, or a time of day), from the
    recording's first sample where the format says so (``in_signal``), and from some zero where they
    are seconds in a table of one's own (``from_zero``).
    """

    onsets: np.ndarray
    durations: np.ndarray
    stages: np.ndarray
    start: datetime | time | None = None
    in_signal: bool = False
    from_zero: bool = False
    place: str = ""  # where it was read, for messages


def stage_code(label: str, numbers: Mapping[int, int], own: Mapping[str, str]) -> int | None:
    """Return a label's stage, -1 where it says that nothing was scored, None for other texts.

    >>> [stage_code(t, RK, {}) for t in ("Sleep stage 4", "Stage 1 sleep|1", "R", "5", "MT")]
    [3, 1, 4, 4, -1]
    >>> stage_code("Lights off", RK, {}) is None
    True
    """
    label = label.strip()
    if label in own:
        return STAGES.index(own[label]) if own[label] in STAGES else UNSCORED
    head = label.partition("|")[0].strip().upper()
    text = PREFIX.sub("", PREFIX.sub("", head)).strip()
    if text != head and re.fullmatch(r"[0-9]", text):
        code = RK.get(int(text), UNSCORED)  # "stage 4" is Rechtschaffen and Kales' word
    elif BARE.fullmatch(head):
        code = numbers.get(int(float(head)), UNSCORED)
    else:
        code = NAMES.get(text)
    again = label.partition("|")[2].strip()  # "Stage 1 sleep|1" says it twice
    if re.fullmatch(r"[0-9]", again) and RK.get(int(again), UNSCORED) != code:
        return None
    return code


def number_codes(place: str, labels: Iterable[str], settings: HypnogramConfig) -> dict[int, int]:
    """Return what bare numbers mean among these labels.

    Raises DataError where 4 occurs without 5: stage 4 of a night without REM, or REM.
    """
    if settings.codes != "auto":
        return {"rk": RK, "yasa": YASA}[settings.codes]
    found = {
        int(float(label))
        for label in map(str.strip, labels)
        if label not in settings.stages and BARE.fullmatch(label)
    }
    if 4 in found and 5 not in found:
        raise DataError(
            f"{place}: 4 may be REM (YASA) or stage 4 (Rechtschaffen and Kales), and no 5 tells "
            "which; pass --set hypnogram.codes=yasa or rk."
        )
    return RK


def read_hypnogram(path: Path, settings: HypnogramConfig) -> Hypnogram:
    """Return the hypnogram of a file; its format by ``settings.format`` or by what it looks like.

    Raises DataError when it cannot be read, holds no stage, or a label is none.
    """
    kind = settings.format
    if kind == "auto":
        kind = {".edf": "annotations", ".bdf": "annotations", ".xml": "xml"}.get(
            path.suffix.lower(), "text"
        )
    if kind == "annotations":
        edf = open_edf(path)
        if edf.cut:
            raise DataError(f"{path.name}: {'; '.join(edf.notes)}; copy the hypnogram again.")
        marks, _ = read_marks(edf)
        return from_marks(path.name, marks, settings, start=edf.start, in_signal=False)
    text = _read_text(path)
    if kind == "xml":
        return _from_xml(path.name, text, settings)
    return _from_rows(path.name, text, settings, kind)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


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
        bare = re.fullmatch(r"-?[0-9.]+", mark.text.strip()) and mark.text.strip() not in own
        if bare and settings.codes == "auto":
            continue
        numbers = YASA if settings.codes == "yasa" else RK
        code = stage_code(mark.text, numbers, own)
        if code is None and re.match(r"sleep[ _-]*stage", mark.text, re.IGNORECASE):
            code = UNSCORED
        if code is not None and mark.text.strip():
            kept.append(mark)
            codes.append(code)
    durations = [math.nan if m.duration is None or m.duration <= 0 else m.duration for m in kept]
    return _hypnogram(place, [m.onset for m in kept], durations, codes, start, in_signal)


def _hypnogram(
    place: str,
    onsets: Sequence[float],
    durations: Sequence[float],
    codes: Sequence[int],
    start: datetime | time | None = None,
    in_signal: bool = False,
) -> Hypnogram:
    spans = [math.isnan(span) for span, code in zip(durations, codes, strict=True) if code >= 0]
    if any(spans) and not all(spans):
        raise DataError(
            f"{place}: {sum(spans)} stages have no duration and {len(spans) - sum(spans)} have "
            "one, so that their ends cannot be told; mend the file."
        )
    order = np.argsort(np.asarray(onsets, float), kind="stable")
    return Hypnogram(
        onsets=np.asarray(onsets, float)[order],
        durations=np.asarray(durations, float)[order],
        stages=np.asarray(codes, np.int8)[order],
        start=start,
        in_signal=in_signal,
        place=place,
    )


def _codes(place: str, labels: Sequence[str], settings: HypnogramConfig, events: bool) -> list:
    numbers = number_codes(place, labels, settings)
    codes = [stage_code(label, numbers, settings.stages) for label in labels]
    unknown = [label for label, code in zip(labels, codes, strict=True) if code is None]
    if unknown and not events:
        raise DataError(
            f"{place}: {unknown[0]!r} is no stage that is known; say what it means, with "
            f"--set 'hypnogram.stages={{{unknown[0]}: N2}}' (or unscored)."
        )
    return codes


def _from_rows(place: str, text: str, settings: HypnogramConfig, kind: str) -> Hypnogram:
    lines = re.split(r"\r\n|\r|\n", text.rstrip())
    # Comments may stand above the stages only: a stage is not to become one.
    lines = list(itertools.dropwhile(lambda line: not line.strip() or line[:1] == "#", lines))
    if not lines:
        raise DataError(f"{place}: the hypnogram is empty.")
    cut = next((mark for mark in "\t;," if mark in lines[0]), None)
    if not cut and not all(line.strip() for line in lines):
        raise DataError(
            f"{place}: an empty line among the stages: write ? where an epoch was not scored, or "
            "leave the line out."
        )
    lines = [line for line in lines if line.strip()]
    try:  # line by line, or an open quotation mark would swallow those that follow
        rows = [
            next(csv.reader([line], delimiter=cut, strict=True)) if cut else [line]
            for line in lines
        ]
    except csv.Error as error:
        raise DataError(f"{place} is no readable table ({error}).") from error
    names = [cell.strip().strip('"').lower().replace(" ", "_") for cell in rows[0]]
    stage = next((names.index(name) for name in STAGE if name in names), None)
    onset = next((names.index(name) for name in ONSET if name in names), None)
    if stage is None and len(rows[0]) > 1:
        raise DataError(
            f"{place}: no column of stages among {', '.join(rows[0])}; expected one called "
            f"{', '.join(STAGE[:3])} or {STAGE[5]}."
        )
    if kind == "table" and onset is None:
        raise DataError(f"{place}: no column of onsets; expected one called {', '.join(ONSET)}.")
    if kind == "list":
        onset = None
    body = rows if stage is None else rows[1:]
    column = stage or 0
    if any(len(row) < len(names) for row in body):
        raise DataError(f"{place}: some rows are shorter than the first.")
    if any("".join(row[len(names) :]).strip() for row in body):
        raise DataError(f"{place}: some rows are longer than the first.")
    labels = [row[column].strip().strip('"') for row in body]
    span = next((names.index(name) for name in DURATION if name in names), None)
    if onset is None:
        codes = _codes(place, labels, settings, events=False)
        _check_epochs(place, names, body, _durations(place, body, span), settings)
        at = np.arange(len(codes)) * settings.epoch_s
        return _hypnogram(place, at, np.full(len(codes), settings.epoch_s), codes)
    codes = _codes(place, labels, settings, events=names[column] in EVENTS)
    onsets, start = _onsets(place, [row[onset].strip() for row in body])
    kept = [i for i, code in enumerate(codes) if code is not None]
    starts = [onsets[i] for i in kept]
    durations = [s if s > 0 else math.nan for s in _durations(place, [body[i] for i in kept], span)]
    held = [at for at, duration in zip(starts, durations, strict=True) if math.isnan(duration)]
    if any(after <= before for before, after in itertools.pairwise(held)):
        raise DataError(f"{place}: stages hold until the next onset, and onsets go back; mend it.")
    stages = [codes[i] for i in kept]
    found = _hypnogram(place, starts, durations, stages, start)
    if start is not None:
        return found
    # BIDS says what its onsets count from; other tables do not.
    bids = place.endswith("_events.tsv")
    return replace(found, in_signal=bids, from_zero=not bids)


def _check_epochs(
    place: str,
    names: Sequence[str],
    body: Sequence[Sequence[str]],
    durations: Sequence[float],
    settings: HypnogramConfig,
) -> None:
    """Raise DataError where a list's numbers of epochs or durations say that it is none."""
    column = next((names.index(name) for name in EPOCH if name in names), None)
    if column is not None:
        numbers = [_seconds(place, row[column]) for row in body]
        for before, after in itertools.pairwise(numbers):
            if after != before + 1:
                raise DataError(
                    f"{place}: epoch {after:g} follows epoch {before:g}: a row is missing or "
                    "damaged."
                )
    other = [span for span in durations if not math.isnan(span) and span != settings.epoch_s]
    if other:
        raise DataError(
            f"{place}: a duration of {other[0]:g} s and no column of onsets, where epochs have "
            f"{settings.epoch_s:g} s; expected a column called {', '.join(ONSET[:3])}."
        )


def _seconds(place: str, text: str) -> float:
    text = text.strip()
    if text.lower() in ("", "n/a", "nan"):
        return math.nan
    value = float(text) if NUMBER.fullmatch(text) else math.inf
    if abs(value) > LONGEST_S:
        raise DataError(f"{place}: {text!r} is no number of seconds.")
    return value


def _durations(place: str, rows: Sequence[Sequence[str]], span: int | None) -> list[float]:
    """Return the durations (s) of rows, NaN where the table has none or says n/a."""
    return [math.nan if span is None else _duration(place, row[span]) for row in rows]


def _duration(place: str, text: str) -> float:
    value = _seconds(place, text)
    if value < 0 or not text.strip():
        raise DataError(f"{place}: a stage lasts {text.strip() or 'nothing'}; mend the file.")
    return value


def _onsets(place: str, texts: Sequence[str]) -> tuple[list[float], datetime | time | None]:
    """Return onsets in seconds, from the first where they are clock times, and that time."""
    if not texts or ":" not in texts[0]:
        found = [_seconds(place, text) for text in texts]
        if any(map(math.isnan, found)):
            raise DataError(f"{place}: a row has no onset.")
        return found, None
    times = [_clock(place, text) for text in texts]
    first = times[0]
    if len(set(map(type, times))) > 1:
        raise DataError(f"{place}: some onsets have a date and some have none.")
    onsets = [0.0]
    for before, at in itertools.pairwise(times):
        if isinstance(at, datetime):
            onsets.append((at - first).total_seconds())
            continue
        step = (_since_midnight(at) - _since_midnight(before)) % DAY_S
        if step > DAY_S / 2:
            raise DataError(f"{place}: {at} does not follow {before}; mend the file.")
        onsets.append(onsets[-1] + step)
    return onsets, first


def _since_midnight(at: time) -> float:
    return at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6


def _clock(place: str, text: str) -> datetime | time:
    for read in (time.fromisoformat, datetime.fromisoformat):
        try:
            found = read(text)
        except ValueError:
            continue
        if ":" in text and (isinstance(found, datetime) or found.tzinfo is None):
            return found.replace(tzinfo=None)
    raise DataError(f"{place}: {text!r} is neither seconds nor a time such as 22:31:00.")


def _from_xml(place: str, text: str, settings: HypnogramConfig) -> Hypnogram:
    # Without its declaration, which may name an encoding that is not the file's.
    bare = re.sub(r"<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)
    if "<!" in bare.replace("<!--", ""):
        raise DataError(f"{place}: the XML has definitions of its own; expected none.")
    try:
        root = ElementTree.fromstring(bare)
    except ElementTree.ParseError as error:
        raise DataError(f"{place} is no readable XML ({error}).") from error
    epoch = root.findtext(".//EpochLength")
    epoch_s = settings.epoch_s if epoch is None else _seconds(place, epoch)
    if not 0.1 <= epoch_s <= 3600:
        raise DataError(f"{place}: epochs of {epoch_s:g} s; the file is damaged.")
    listed = root.findall(".//SleepStages/SleepStage")
    if listed:  # Profusion: a number per epoch
        labels = [(item.text or "").strip() for item in listed]
        rk = settings if settings.codes != "auto" else replace(settings, codes="rk")
        codes = _codes(place, labels, rk, events=False)
        at = np.arange(len(codes)) * epoch_s
        return _hypnogram(place, at, np.full(len(codes), epoch_s), codes)
    onsets, durations, labels, start = [], [], [], None
    for event in root.iter("ScoredEvent"):
        kind, concept = (event.findtext(tag) or "" for tag in ("EventType", "EventConcept"))
        if concept.startswith("Recording Start Time"):
            clock = (event.findtext("ClockTime") or "").split()
            start = _clock(place, clock[-1].replace(".", ":")) if clock else None
        if kind.startswith("Stages"):
            onsets.append(_seconds(place, event.findtext("Start") or ""))
            durations.append(_duration(place, event.findtext("Duration") or ""))
            labels.append(concept)
    if not labels:
        raise DataError(f"{place}: no sleep stages are in this XML.")
    if any(map(math.isnan, (*onsets, *durations))):
        raise DataError(f"{place}: a stage has no start or no duration.")
    codes = _codes(place, labels, settings, events=False)
    return _hypnogram(place, onsets, durations, codes, start, in_signal=True)
