"""Units of channels: what the header or the user states, held against amplitude and resolution.

A header that says µV over numbers in mV, or the reverse, is found by both together. Real signals
change within 0.1 s by some µV, and amplifiers tell apart some tens of nV: numbers a thousand times
smaller in steps a thousand times finer are no quiet signal, and large ones in fine steps are no
wrong unit. What is found is asked about, and never mended silently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partsig import commands
from partsig.data.signals.channels import plain_name
from partsig.data.signals.lazy import STRETCH, forget, stretches
from partsig.data.signals.recordings import MICROVOLTS, ReadConfig, Rows
from partsig.errors import DataError
from partsig.text import quoted

UNITS = {name.lower(): factor for name, factor in MICROVOLTS.items()}
UNITS |= {"μv": 1.0, "microvolt": 1.0, "microv": 1.0, "uvolt": 1.0, "volt": 1e6, "v": 1e6}
NAMES = {1e-3: "nV", 1.0: "uV", 1e3: "mV", 1e6: "V"}  # as settings write them
STEP_S = 0.1  # changes are looked at over so many seconds: mains of 50 and 60 Hz leave none
LOOKED_AT = 50_000  # samples of a channel, at least, where there are as many
# µV: nine changes in ten are below the first in no channel that lives, since amplifiers' noise has
# 0.3, and half of them below the second in all, ECG included (benchmarks/units.py).
LEAST_UV, MOST_UV = 0.2, 1e3
# Whatever its resolution, no signal of the skin is as large as this.
TOO_LARGE_UV = 5e3
# What is that small would be nothing in any unit: rounding, where a channel is flat.
NOTHING_UV = 1e-7
# µV, the least difference of two samples. Amplifiers have 0.003 to 5, so that a thousandth of that
# is finer, and a thousandfold coarser, than any; between are the doubtful ones, which are told.
FINEST_UV, DOUBTFUL_UV, COARSEST_UV = 5e-3, 2e-2, 30.0
# A signal that changes by fewer of its own steps is recorded coarsely, which no unit mends; by more
# than many, it is not.
FEW_STEPS, MANY_STEPS = 3, 10
COARSE_UV = 10.0  # and this is worth telling


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How one channel changes within 0.1 s, in µV: as a rule, at the 90 % quantile, at the least.

    The least change is its ``resolution``. Only changes are counted, so that flat stretches do not
    matter; all are 0 where there are none.
    """

    usual: float = 0.0
    large: float = 0.0
    resolution: float = 0.0


def stated(settings: ReadConfig, label: str, header: str) -> tuple[str, bool]:
    """Return the unit of a file's channel, and whether ``units`` says it of this very channel.

    ``units`` knows channels by the file's labels, or by the same electrodes in another spelling;
    ``unit`` holds for all others, else the header's.
    """
    given = settings.units
    own = given.get(label.strip()) or next(
        (unit for name, unit in given.items() if plain_name(name) == plain_name(label)), ""
    )
    return own or settings.unit or header.strip(), bool(own)


def factor_of(name: str, label: str, unit: str) -> float:
    """Return the µV of one ``unit``; raise DataError where that is no voltage."""
    if unit.strip().lower() not in UNITS:
        one = commands.option("units", {label.strip() or "LABEL": "uV"})
        raise DataError(
            f"{name}: channel {quoted(label)} is in {quoted(unit)}, not a voltage; if it is one, "
            f"pass {one}, or --set unit=uV for all channels (or mV, V)."
        )
    return UNITS[unit.strip().lower()]


def check_amplitude(
    name: str,
    part: Rows,
    units: Sequence[tuple[str, bool]],
    gaps: Sequence[tuple[float, float]] = (),
) -> list[str]:
    """Hold the amplitude of channels of one rate against their ``units``; return what is doubtful.

    ``units`` are those of :func:`stated`, ``gaps`` stretches (s) without signal. Raises DataError
    where amplitude and resolution together show that a unit is wrong: a question, answered by
    ``units``, which is believed.
    """
    notes: list[str] = []
    wrong: dict[str, tuple[str, Changes]] = {}
    for label, (unit, sure), changes in zip(
        part.labels, units, changes_of(part, gaps), strict=True
    ):
        doubt, refused = judge(changes, unit)
        if doubt and sure:
            doubt += f", which units={{{label.strip()}: {unit}}} states to be right"
        elif refused:
            wrong[label] = (unit, changes)
        if doubt:
            notes.append(f"channel {quoted(label)} {doubt}")
    if wrong:
        raise DataError(_question(name, wrong))
    return notes


def judge(changes: Changes, unit: str) -> tuple[str, bool]:
    """Return what is odd about a channel in this unit, "" if nothing, and whether it is refused.

    >>> judge(Changes(usual=0.02, large=0.05, resolution=2e-5), "uV")[1]
    True
    >>> judge(Changes(usual=0.04, large=0.1, resolution=0.03), "uV")
    ('', False)
    """
    usual, large, fine = changes.usual, changes.large, changes.resolution
    what = f"usually changes by {usual:.2g} µV within {STEP_S:g} s, in steps of {fine:.2g} µV"
    if usual <= 0 or large < NOTHING_UV:
        return "", False
    if _is_coarse(changes):
        return f"{what}: its resolution is too coarse for what it holds", usual >= MOST_UV
    if large < LEAST_UV and fine < DOUBTFUL_UV:
        return f"{what}, as numbers in {_other(changes, unit)} would", fine < FINEST_UV
    if usual >= MOST_UV or (usual >= MANY_STEPS * fine and fine >= COARSEST_UV):
        certain = fine >= COARSEST_UV or usual > TOO_LARGE_UV
        return f"{what}, as numbers in {_other(changes, unit)} would", certain
    return "", False


def _is_coarse(changes: Changes) -> bool:
    fine = changes.resolution
    return fine >= COARSE_UV and changes.usual < FEW_STEPS * fine


def _other(changes: Changes, unit: str) -> str:
    """Return the unit in which the numbers would be a signal's."""
    own = UNITS[unit.strip().lower()]
    small = changes.large < LEAST_UV
    for factor in sorted(NAMES, reverse=not small):
        times = factor / own
        if (times > 1) == small and times != 1:
            if small and changes.large * times >= LEAST_UV:
                return NAMES[factor]
            if not small and changes.usual * times <= MOST_UV / 2:
                return NAMES[factor]
    return "no unit"


def _question(name: str, wrong: Mapping[str, tuple[str, Changes]]) -> str:
    """Return the refusal of channels: what the first is like, and what to say of all their units.

    The others are asked about together with it where the answer would be the same.
    """
    first, (unit, changes) = next(iter(wrong.items()))
    own, other = NAMES[UNITS[unit.strip().lower()]], _other(changes, unit)
    alike = [
        label.strip()
        for label, (its, how) in wrong.items()
        if (its, _other(how, its), _is_coarse(how)) == (unit, other, _is_coarse(changes))
    ]
    keep = commands.option("units", dict.fromkeys(alike, own))
    change = commands.option("units", dict.fromkeys(alike, other))
    more = f" (so do {', '.join(map(quoted, alike[1:]))})" if alike[1:] else ""
    told = f"{name}: channel {quoted(first)} {judge(changes, unit)[0]}{more}"
    if _is_coarse(changes):
        return (
            f"{told}; export it again with a range no wider than the signal's, or leave it out; if "
            f"it is {other}, pass {change}, and as it is, {keep}."
        )
    if other == "no unit":
        return f"{told}, although {quoted(unit)} is stated; leave it out, or take it so by {keep}."
    return (
        f"{told}, although {quoted(unit)} is stated: which is it? If it is {other}, pass {change}; "
        f"if {quoted(unit)} is right, {keep}."
    )


def changes_of(part: Rows, gaps: Sequence[tuple[float, float]] = ()) -> list[Changes]:
    """Return how each channel of one rate changes, apart from ``gaps`` (s)."""
    lag = max(round(STEP_S * part.sfreq), 1)
    n_times = part.signal.shape[1]
    every = max(n_times // LOOKED_AT, 1)
    at = np.arange(0, max(n_times - lag, 0), every)
    if len(gaps):  # the straight lines over them are no signal
        begins, ends = np.array(gaps).T * part.sfreq
        last = np.searchsorted(begins, at + lag) - 1
        at = at[(last < 0) | (ends[np.maximum(last, 0)] <= at)]
    if not len(at):
        return [Changes()] * len(part.labels)
    steps = np.empty((len(part.labels), len(at)))
    for first, last in stretches(len(at), max(STRETCH // every, 1)):
        here = at[first:last]
        begin, end = here[0], here[-1] + lag + 1
        for c, pick in enumerate(part.picks):
            samples = np.asarray(part.signal[pick][begin:end])
            later = samples[here - begin + lag].astype(np.float64)
            steps[c, first:last] = abs(later - samples[here - begin])
        forget(part.signal)
    return [_summed(row * abs(scale)) for row, scale in zip(steps, part.scale, strict=True)]


def _summed(steps: np.ndarray) -> Changes:
    steps = steps[(steps > 0) & np.isfinite(steps)]
    if not len(steps):
        return Changes()
    usual, large = np.quantile(steps, (0.5, 0.9))
    return Changes(usual=float(usual), large=float(large), resolution=float(steps.min()))


def unknown(given: Mapping[str, str], labels: Sequence[str]) -> list[str]:
    """Return a sentence on names in ``units`` that are none of the labels that were read."""
    there = {label.strip() for label in labels} | {plain_name(label) for label in labels}
    lost = [name for name in given if name not in there and plain_name(name) not in there]
    return [f"units names {', '.join(lost)}, which was not read here"] if lost else []
