"""Lays a hypnogram on a recording by what both files say or the user states; else refuses it."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta

import numpy as np

from partsig import commands
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED
from partsig.data.signals.recordings import Recording
from partsig.errors import DataError

# A stage holds in an epoch whose ends it misses by no more than this: scorers' onsets are rounded.
TOLERANCE_S = 0.5
# Starts that differ by less are one start: headers have whole seconds.
CLOCK_S = 1.0
DAY_S = 86_400.0


def placed(hypnogram: Hypnogram, offset_s: float) -> Hypnogram:
    """Return a hypnogram whose onsets count from the recording's first sample."""
    return replace(
        hypnogram,
        onsets=hypnogram.onsets + offset_s,
        start=None,
        in_signal=True,
        from_header=False,
        from_zero=False,
    )


def find_offset(
    name: str,
    hypnogram: Hypnogram,
    start: datetime | None,
    duration_s: float,
    settings: HypnogramConfig,
    *,
    lead_s: float = 0.0,
    gaps: Sequence[tuple[float, float]] = (),
) -> tuple[float, str]:
    """Return the time (s) of the hypnogram's zero in a recording that starts at ``start``, and why.

    ``start`` is the time of the first sample, ``lead_s`` seconds after the one in the recording's
    header; ``gaps`` are (start, stop) in seconds from there. In this order: what the user states of
    this very recording; the format's definition, by which onsets count from the first sample, or
    from the header's time; the difference of the two starts; what the user states of all
    recordings; onsets in seconds that do not pass the recording's end, and a list that is as long
    as the recording, to an epoch, where the two zeros, and time with gaps and without, are one.

    Raises DataError with both times when they contradict each other or what is stated of all
    recordings, or when nothing tells.
    """
    place, stated, ask = hypnogram.place, settings.offset_s, _ask(name)
    if isinstance(stated, Mapping):
        # Whoever types an accent may compose it otherwise than the file's name does.
        by_name = {unicodedata.normalize("NFC", key): s for key, s in stated.items()}
        exact = stated.get(name, by_name.get(unicodedata.normalize("NFC", name)))
        if exact is not None:
            return float(exact), "as stated for this recording"
        stated = None
    own = _near(hypnogram.start, start)
    proved = _proved(name, hypnogram, start, own, lead_s)
    if proved is not None:
        if stated is not None and abs(stated - proved[0]) > CLOCK_S:
            whole = int(stated) if stated == int(stated) else float(stated)
            alone = commands.option("hypnogram.offset_s", {name: whole})
            raise DataError(
                f"{name}: hypnogram.offset_s says that {place} begins {stated:g} s after the "
                f"recording's start, but {proved[1]} it is {proved[0]:g} s (the recording starts "
                f"at {start or 'an unknown time'}, {place} at {own or 'no time of its own'}); if "
                f"so it is, state it for this recording alone, with {alone}."
            )
        return proved
    if stated is not None:
        return stated, "as stated for all recordings"
    end = _last_end(hypnogram)
    if hypnogram.start is None:
        fitting = _by_length(hypnogram, end, duration_s, lead_s, gaps)
        if len(fitting) == 1:
            return fitting[0]
    after = f", {lead_s:.6g} s after the time in its header," if lead_s >= CLOCK_S else ""
    missing = sum(stop - begin for begin, stop in gaps)
    within = f" ({missing:.6g} s of it without signal)" if missing > CLOCK_S else ""
    raise DataError(
        f"{name}: the recording starts at {start or 'an unknown time'}{after} and lasts "
        f"{_clock(duration_s)}{within}, {place} starts at {hypnogram.start or 'an unknown time'} "
        f"and lasts {_clock(end)}, so that its place cannot be told: {ask}"
    )


def _by_length(
    hypnogram: Hypnogram,
    end: float,
    duration_s: float,
    lead_s: float,
    gaps: Sequence[tuple[float, float]],
) -> list[tuple[float, str]]:
    """Return the places that the ends of stages without a time of day allow, and why."""
    lead_s = 0.0 if lead_s < CLOCK_S else lead_s
    begun = float(hypnogram.onsets.min()) if len(hypnogram.onsets) else 0.0
    signal_s = duration_s - sum(stop - start for start, stop in gaps)
    if duration_s - signal_s > CLOCK_S and gaps[0][0] < end <= signal_s + EPOCH_S:
        return []  # seconds of signal, or of a clock that went on where there was none
    zeros = dict.fromkeys([0.0, -lead_s])
    if not hypnogram.from_zero:
        why = "by its length, that of the recording"
        return [(zero, why) for zero in zeros if abs(duration_s - zero - end) < EPOCH_S]
    if not lead_s:
        why = "by its onsets, seconds that do not pass the recording's end"
        return [(0.0, why)] if end <= duration_s + EPOCH_S else []
    why = "by its onsets, seconds that begin or end with the recording"
    # Counted from the header's time, what begins before the lead is over was not recorded.
    with_header = begun >= lead_s - EPOCH_S or abs(duration_s + lead_s - end) < EPOCH_S
    held = {0.0: end <= duration_s + EPOCH_S, -lead_s: with_header}
    return [
        (zero, why) for zero, fits in held.items() if fits and end + zero <= duration_s + EPOCH_S
    ]


def _proved(
    name: str,
    hypnogram: Hypnogram,
    start: datetime | None,
    own: datetime | None,
    lead_s: float,
) -> tuple[float, str] | None:
    """Return the offset that the two files themselves tell, and how, or None."""
    place, ask = hypnogram.place, _ask(name)
    if hypnogram.in_signal or hypnogram.from_header:
        zero = 0.0 if hypnogram.in_signal else -lead_s
        begins = None if start is None else start + timedelta(seconds=zero)
        if own is not None and begins is not None and abs(_between(begins, own)) > CLOCK_S:
            raise DataError(
                f"{name}: the recording starts at {begins}, {place} says {own}, although its "
                f"onsets count from the recording's start: {ask}"
            )
        return zero, "by its format"
    if own is None or start is None:
        return None
    offset = _between(start, own)
    if abs(offset) < CLOCK_S and not own.microsecond:
        offset = 0.0  # whole seconds, of a start that has a fraction
    if abs(offset) > DAY_S:
        raise DataError(
            f"{name}: the recording starts at {start}, {place} at {own}, more than a day apart: "
            f"{ask}"
        )
    return offset, "by the start times of both"


def _ask(name: str) -> str:
    return (
        "is it this recording's? If so, state where it begins, with "
        f"{commands.option('hypnogram.offset_s', {name: 'SECONDS'})}."
    )


def _near(own: datetime | time | None, start: datetime | None) -> datetime | None:
    """Return a time of day as the date and time nearest to the recording's start."""
    if own is None or start is None or isinstance(own, datetime):
        return own if isinstance(own, datetime) else None
    days = [datetime.combine(start.date() + timedelta(days=d), own) for d in (-1, 0, 1)]
    return min(days, key=lambda day: abs(_between(start, day)))


def _between(start: datetime, own: datetime) -> float:
    return (own - start).total_seconds()


def _last_end(hypnogram: Hypnogram) -> float:
    if not len(hypnogram.onsets):
        return 0.0
    durations = np.nan_to_num(hypnogram.durations, nan=0.0)
    return float((hypnogram.onsets + durations).max())


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"


def to_epochs(
    name: str,
    hypnogram: Hypnogram,
    offset_s: float,
    duration_s: float,
    gaps: list[tuple[float, float]] | tuple = (),
    epoch_s: float = EPOCH_S,
) -> tuple[np.ndarray, float, list[str]]:
    """Return the stage of each epoch (E,) int8, where epoch 0 begins (s), and notes.

    Epochs are of ``epoch_s``, 30 s as a rule. The grid is the scorer's: it begins less than an
    epoch into the recording, whole epochs away from where most stages begin. An epoch has a stage
    where one stage covers it; one in which the stage changes, that is not covered, in which
    something is said to be unscored, or that touches a gap in the signal, is unscored.

    Raises DataError when nothing scored lies in the recording, or two stages claim one time.
    """
    spans, unscored = spans_of(name, hypnogram, offset_s, duration_s)
    inside = [span for span in spans if span[1] > 0 and span[0] < duration_s]
    if not inside:
        if any(code != UNSCORED for code in hypnogram.stages):
            raise DataError(
                f"{name}: the stages of {hypnogram.place} lie outside the recording "
                f"({_clock(duration_s)}): the first begins {offset_s + hypnogram.onsets[0]:g} s "
                "from its start; is it this recording's?"
            )
        raise DataError(f"{name}: {hypnogram.place} holds no sleep stage.")
    begin = _phase([start for start, _, _ in inside], epoch_s)
    n = max(int((duration_s - begin) / epoch_s + 1e-9), 0)
    stages = np.full(n, UNSCORED, np.int8)
    touched = np.zeros(n, bool)
    for start, stop, code in inside:
        first = int(np.ceil((start - begin - TOLERANCE_S) / epoch_s))
        last = int(np.floor((stop - begin + TOLERANCE_S) / epoch_s))
        stages[max(first, 0) : max(last, 0)] = code
        low = int(np.floor((start - begin + TOLERANCE_S) / epoch_s))
        high = int(np.ceil((stop - begin - TOLERANCE_S) / epoch_s))
        touched[max(low, 0) : max(high, 0)] = True
    for start, stop in unscored:
        low = int(np.floor((start - begin + TOLERANCE_S) / epoch_s))
        high = int(np.ceil((stop - begin - TOLERANCE_S) / epoch_s))
        stages[max(low, 0) : max(high, 0)] = UNSCORED
    notes = []
    if begin:
        notes.append(f"the first {begin:.6g} s lie before the scorer's grid and are left out")
    mixed = int((touched & (stages == UNSCORED)).sum())
    if mixed:
        notes.append(f"{mixed} epochs that no single stage covers are unscored")
    if _last_end(hypnogram) + offset_s > duration_s + epoch_s:
        late = _last_end(hypnogram) + offset_s - duration_s
        notes.append(f"the hypnogram goes on for {late:.6g} s after the signal's end")
    early = duration_s - max(stop for _, stop, _ in inside)
    if early > epoch_s:
        notes.append(f"the last {early:.6g} s are not scored")
    for start, stop in gaps:
        low = int(np.floor((start - begin) / epoch_s + 1e-9))
        high = int(np.ceil((stop - begin) / epoch_s - 1e-9))
        stages[max(low, 0) : max(high, 0)] = UNSCORED
    return stages, begin, notes


def _phase(starts: list[float], epoch_s: float = EPOCH_S) -> float:
    """Return where in an epoch most of these times lie, to a millisecond; 0 for what is all but 0.

    >>> _phase([0.0, 40.01, 70.01, 160.01])
    10.01
    """
    phases, counts = np.unique(np.round(np.mod(starts, epoch_s), 3) % epoch_s, return_counts=True)
    return float(phases[counts.argmax()])


def spans_of(
    name: str, hypnogram: Hypnogram, offset_s: float, duration_s: float
) -> tuple[list[tuple[float, float, int]], list[tuple[float, float]]]:
    """Return (start, stop, stage) of the scored stretches, in order, equal neighbours joined.

    And (start, stop) of those that are said to be unscored.
    """
    onsets, ends = hypnogram.onsets, hypnogram.onsets + hypnogram.durations
    following = np.append(onsets[1:], max(duration_s - offset_s, 0.0))
    ends = np.where(np.isnan(ends), following, ends)
    spans: list[tuple[float, float, int]] = []
    unscored: list[tuple[float, float]] = []
    for start, stop, code in zip(onsets + offset_s, ends + offset_s, hypnogram.stages, strict=True):
        if code == UNSCORED:
            unscored.append((float(start), float(stop)))
            continue
        together = spans and start < max(spans[-1][1] - TOLERANCE_S, spans[-1][0] + TOLERANCE_S)
        if together and code != spans[-1][2]:
            raise DataError(
                f"{name}: {hypnogram.place} has two stages at {start:g} s; mend the file, or leave "
                "a label out, with --set 'hypnogram.ignore=[LABEL]'."
            )
        if spans and code == spans[-1][2] and start <= spans[-1][1] + TOLERANCE_S:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]), int(code))
        else:
            spans.append((float(start), float(stop), int(code)))
    return spans, unscored


def trimmed(recording: Recording, minutes: float, epoch_s: float = EPOCH_S) -> Recording:
    """Return a recording with so many minutes of what is no sleep left at either end.

    A recording without sleep is left as it is.
    """
    asleep = np.flatnonzero(recording.stages > 0)
    if not len(asleep):
        return recording
    around = int(minutes * 60 // epoch_s)
    first = max(int(asleep[0]) - around, 0)
    last = min(int(asleep[-1]) + 1 + around, len(recording.stages))
    begin = recording.start_s
    return replace(
        recording,
        stages=recording.stages[first:last],
        start_s=begin + first * epoch_s,
        stop_s=begin + last * epoch_s,
    )
