"""What can be measured of a recording before anyone trains on it: faults of signals, fit of labels.

Functions on arrays. E are whole 30-s epochs, T samples; an epoch is looked at in 30 windows of one
second. Nothing is judged here but the seconds themselves; see :mod:`partsig.sleep.audit.rules`.
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy.signal import welch
from scipy.stats import rankdata

from partsig.data.signals.bands import FLOOR, SEGMENT_S
from partsig.data.signals.lazy import Row, stretches
from partsig.data.signals.recordings import EPOCH_S, UNSCORED, n_epochs
from partsig.errors import DataError

# What an epoch of a channel is, by its code.
QUALITY = ("good", "flat", "clipped", "out of range")
GOOD, FLAT, CLIPPED, RANGE = range(4)
WINDOWS = 30  # of 1 s in an epoch
# An epoch is named after its commonest fault when that many of its seconds have one.
BAD_SHARE = 1 / 3
# µV, peak to peak in a second. ACNS guideline 3 calls an EEG without activity over 2 µV silent;
# half of that also spares a quiet chin (in 71 real sleepers never below 1.2 µV, 0.1 to 30 Hz).
FLAT_UV = 1.0
# µV, SD of a second: sines of 2 µV (ACNS guideline 3, as above) and of 350 µV peak to peak, the
# largest slow wave that YASA's detector takes for one (Vallat and Walker 2021, amp_ptp).
EEG_UV = (2 / 8**0.5, 350 / 8**0.5)
# µV, SD of a second, for muscle and heart: from a chin at rest (lowest median of 3,118 real
# minutes that were not flat: 0.3) to an R wave of some millivolts every second.
OTHER_UV = (0.2, 1000.0)
OTHER = re.compile(r"EMG|CHIN|LEG|TIB|ARM|ECG|EKG|RESP|FLOW|CHEST|ABD|THOR|SNORE", re.IGNORECASE)
# Factors that a wrong unit leaves behind: nV, mV and V for µV, and µV for mV and V.
FACTORS = (1e-6, 1e-3, 1e3, 1e6)
# Samples that repeat a channel's own greatest or least value: a run has RUN of them, and there are
# RUNS such runs. Of 12,472 extremes of real EEG and EOG minutes (1-µV steps, 200 Hz) none has more
# than 3 such runs.
RUN, RUNS = 3, 5
LINE_HZ = (50.0, 60.0)
PEAK_HZ, NEAR_HZ, FAR_HZ = 1.0, 2.0, 6.0  # the peak, and its neighbours, on both sides
DELTA_HZ = (0.5, 4.0)
LOWEST_HZ = 16.0  # the least rate at which delta, and a second's SD, can be told
BLOCK = 64  # epochs worked on at a time
MAX_SHIFT = 20  # epochs
ENOUGH = 20  # epochs of a stage before it is compared with another


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured of one channel.

    epochs (E,) int8: index into QUALITY; fault_share (E,): share of an epoch's seconds with a
    fault; delta (E,): log10 µV²/Hz from 0.5 to 4 Hz, nan where the epoch is bad; amplitude_uv:
    median over epochs of the median 1-s SD; factor: what to multiply by to come into physiology
    (1 where nothing suggests a wrong unit); flat and clipped: shares of seconds and of samples;
    line: {50 or 60: (peak over its neighbours in dB, µV RMS)} where the rate allows; not_finite:
    samples that are no numbers.
    """

    epochs: np.ndarray
    fault_share: np.ndarray
    delta: np.ndarray
    amplitude_uv: float
    factor: float
    flat: float
    clipped: float
    line: dict[float, tuple[float, float]]
    not_finite: int


def is_eeg(channel: str) -> bool:
    """Tell whether a channel is held to the bounds of EEG and EOG, not of muscle or heart.

    >>> is_eeg("C4-M1"), is_eeg("E1-M2"), is_eeg("Chin1-Chin2")
    (True, True, False)
    """
    return OTHER.search(channel) is None


def find_clipped(signal: np.ndarray | Row, limits: tuple[float, float] | None) -> Row:
    """Return (T,) bool: samples at the limits, or in runs at the signal's own extremes.

    ``limits`` are the least and greatest value the file can hold, in the signal's unit. A constant
    signal is flat, not clipped, unless it lies at a limit. The extremes are looked for at once, and
    a stretch of the result is made when it is sliced: a recording need not be in memory.

    >>> find_clipped(np.array([0.0, 2047, 2047, 5, -1]), (-2048, 2047))[:].sum()
    np.int64(2)
    """
    rails = _own_rails(signal)

    def read(start: int, stop: int) -> np.ndarray:
        begin = max(start - RUN + 1, 0)
        held = np.asarray(signal[begin : stop + RUN - 1])
        found = np.zeros(len(held), bool)
        if limits is not None:
            found |= (held <= limits[0]) | (held >= limits[1])
        for rail in rails:
            begins = _run_begins(held == rail)
            for i in range(RUN):
                found[i : i + len(begins)] |= begins
        return found[start - begin : stop - begin]

    return Row(len(signal), np.dtype(bool), read)


def _run_begins(equal: np.ndarray) -> np.ndarray:
    """Tell where RUN samples (n,) in a row are True: (n - RUN + 1,), at each of their firsts."""
    n = max(len(equal) - RUN + 1, 0)
    return np.logical_and.reduce([equal[i : i + n] for i in range(RUN)])


def _own_rails(signal: np.ndarray | Row) -> list[float]:
    """Return which of a signal's own extremes, the least and the greatest, it stays at in runs."""
    n_runs, extremes = [0, 0], [np.nan, np.nan]
    before = np.asarray(signal[:0])  # the last samples that were looked at: a run may begin there
    for start, stop in stretches(len(signal)):
        held = np.asarray(signal[start:stop])
        together = np.concatenate([before, held])
        for i, extreme in enumerate((np.fmin, np.fmax)):  # nan is passed over
            here = extreme.reduce(held)
            if extreme(here, extremes[i]) != extremes[i]:
                n_runs[i], extremes[i] = 0, here
            if here == extremes[i]:
                equal = together == here
                begins = _run_begins(equal)
                begins[1:] &= ~equal[: max(len(begins) - 1, 0)]  # not in the middle of one
                n_runs[i] += int(begins[1 if len(before) else 0 :].sum())
        before = together[-RUN:]
    if not extremes[0] < extremes[1]:
        return []
    return [extreme for extreme, n in zip(extremes, n_runs, strict=True) if n >= RUNS]


def unit_factor(amplitude: float, bounds: tuple[float, float]) -> float:
    """Return the power of a thousand that brings an amplitude into its bounds, 1 without need.

    >>> unit_factor(2e-5, EEG_UV), unit_factor(20.0, EEG_UV), unit_factor(0.5, EEG_UV)
    (1000000.0, 1.0, 1.0)
    """
    low, high = bounds
    if low <= amplitude <= high or amplitude == 0:
        return 1.0
    fitting = [factor for factor in FACTORS if low <= amplitude * factor <= high]
    middle = (low * high) ** 0.5
    return min(fitting, key=lambda f: abs(np.log(amplitude * f / middle)), default=1.0)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with one channel's seconds: codes (E, 30), and what they were told by.

    ``amplitude_uv``, ``factor`` and ``not_finite`` are those of :class:`Quality`; ``n_clipped`` is
    the number of samples that were said to be.
    """

    seconds: np.ndarray
    amplitude_uv: float
    factor: float
    not_finite: int
    n_clipped: int

    @property
    def epochs(self) -> np.ndarray:
        """Code (E,) int8 of each epoch; all are out of range where the unit looks wrong."""
        codes = _commonest(self.seconds)
        if self.factor != 1:
            codes[codes == GOOD] = RANGE
        return codes


def find_faults(
    signal: np.ndarray | Row,
    sfreq: float,
    clipped: np.ndarray | Row | None = None,
    eeg: bool = True,
) -> Faults:
    """Judge every second of one channel (T,) in µV; ``clipped`` (T,) bool says which samples are.

    Both are read in blocks of epochs. Raises DataError below 16 Hz, or when there is no whole
    epoch.
    """
    n = n_epochs(len(signal), sfreq)
    if sfreq < LOWEST_HZ or n == 0:
        raise DataError(
            f"{len(signal) / sfreq:g} s at {sfreq:g} Hz are not measured; it takes "
            f"{EPOCH_S:g} s at {LOWEST_HZ:g} Hz or more"
        )
    n_times = round(EPOCH_S * sfreq)
    second = n_times // WINDOWS
    deviation, span, hit = (np.zeros((n, WINDOWS), np.float32) for _ in range(3))
    not_finite = n_clipped = 0
    for block in _blocks(n):
        marks = None if clipped is None else _epochs(clipped, block, n_times)
        whole = _epochs(signal, block, n_times)  # after what was read of it to find what is clipped
        numbers = np.isfinite(whole)
        not_finite += int(numbers.size - numbers.sum())
        seconds = np.where(numbers, whole, 0)[:, : second * WINDOWS]
        seconds = seconds.astype(np.float32).reshape(-1, WINDOWS, second)
        deviation[block], span[block] = seconds.std(-1), np.ptp(seconds, axis=-1)
        if marks is not None:
            n_clipped += int(marks.sum())
            hit[block] = marks[:, : second * WINDOWS].reshape(-1, WINDOWS, second).any(-1)
    if clipped is not None:
        n_clipped += int(np.asarray(clipped[n * n_times :]).sum())
    bounds = EEG_UV if eeg else OTHER_UV
    alive = deviation[deviation.any(1)]
    amplitude = float(np.median(np.median(alive, axis=1))) if len(alive) else 0.0
    factor = unit_factor(amplitude, bounds)
    faults = np.zeros((n, WINDOWS), np.int8)
    faults[(deviation * factor < bounds[0]) | (deviation * factor > bounds[1])] = RANGE
    faults[span * factor < FLAT_UV] = FLAT
    faults[hit > 0] = CLIPPED
    return Faults(
        seconds=faults,
        amplitude_uv=amplitude,
        factor=factor,
        not_finite=not_finite,
        n_clipped=n_clipped,
    )


def measure(
    signal: np.ndarray | Row,
    sfreq: float,
    clipped: np.ndarray | Row | None = None,
    eeg: bool = True,
) -> Quality:
    """Measure one channel (T,) in µV; ``clipped`` (T,) bool says which samples are.

    Raises DataError as :func:`find_faults` does.
    """
    found = find_faults(signal, sfreq, clipped, eeg)
    faults, factor, codes = found.seconds, found.factor, _commonest(found.seconds)
    density, frequency = _densities(signal, len(codes), sfreq, factor)  # (E, F)
    inside = (frequency >= DELTA_HZ[0]) & (frequency < DELTA_HZ[1])
    delta = np.log10(density[:, inside].mean(1) + FLOOR)
    delta[codes != GOOD] = np.nan
    if factor != 1:
        faults = np.where(faults == GOOD, RANGE, faults)
    return Quality(
        epochs=found.epochs,
        fault_share=(faults != GOOD).mean(1),
        delta=delta,
        amplitude_uv=found.amplitude_uv,
        factor=factor,
        flat=float((faults == FLAT).mean()),
        clipped=found.n_clipped / len(signal),
        line=_line_noise(density, frequency, sfreq, factor) if found.amplitude_uv else {},
        not_finite=found.not_finite,
    )


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _epochs(samples: np.ndarray | Row, block: slice, n_times: int) -> np.ndarray:
    """Return epochs (n, 30 s) of a channel (T,)."""
    return np.asarray(samples[block.start * n_times : block.stop * n_times]).reshape(-1, n_times)


def _commonest(faults: np.ndarray) -> np.ndarray:
    """Return the code (E,) of each epoch from those of its seconds (E, 30)."""
    counts = np.stack([(faults == code).sum(1) for code in range(len(QUALITY))], axis=1)
    bad = counts[:, 1:].sum(1) >= BAD_SHARE * WINDOWS
    return np.where(bad, 1 + counts[:, 1:].argmax(1), GOOD).astype(np.int8)


def _densities(
    signal: np.ndarray | Row, n: int, sfreq: float, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return power densities (E, F) in µV²/Hz, by Welch's method as for the band powers, and Hz."""
    found = []
    for block in _blocks(n):
        whole = _epochs(signal, block, round(EPOCH_S * sfreq))
        part = np.where(np.isfinite(whole), whole, 0) * np.float32(factor)
        frequency, density = welch(part, sfreq, nperseg=round(SEGMENT_S * sfreq), axis=-1)
        found.append(density)
    return np.concatenate(found), frequency


def _line_noise(
    density: np.ndarray, frequency: np.ndarray, sfreq: float, factor: float
) -> dict[float, tuple[float, float]]:
    """Return {Hz: (dB over its neighbours, µV RMS in the signal's own scale)}, median of epochs."""
    usual = np.median(density, axis=0)
    found = {}
    for line in LINE_HZ:
        if line + FAR_HZ > sfreq / 2:
            continue
        away = np.abs(frequency - line)
        around = np.median(usual[(away >= NEAR_HZ) & (away <= FAR_HZ)])
        peak = usual[away <= PEAK_HZ]
        if around > 0 and peak.max() > 0:
            power = np.clip(peak - around, 0, None).sum() * (frequency[1] - frequency[0])
            decibels = 10 * np.log10(peak.max() / around)
            found[line] = (float(decibels), float(power**0.5 / factor))
    return found


def mean_delta(deltas: list[np.ndarray]) -> np.ndarray:
    """Return the median over channels (E,) of log delta power, nan where no channel is good."""
    stacked = np.stack(deltas)  # (C, E)
    some = np.isfinite(stacked).any(0)
    found = np.full(stacked.shape[1], np.nan)
    if some.any():
        found[some] = np.nanmedian(stacked[:, some], axis=0)
    return found


def separation(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how often a value of the ``first`` epochs exceeds one of the ``second``: 0 to 1.

    This is the area under the ROC curve, from the Mann-Whitney ranks. ``values`` (E,) with nan left
    out, ``first`` and ``second`` (E,) bool; None with fewer than 20 epochs on either side.

    >>> separation(np.arange(40.0), np.arange(40) >= 20, np.arange(40) < 20)
    1.0
    """
    known = np.isfinite(values)
    first, second = first & known, second & known
    n, m = int(first.sum()), int(second.sum())
    if min(n, m) < ENOUGH:
        return None
    ranks = rankdata(values[first | second])
    above = ranks[first[first | second]].sum() - n * (n + 1) / 2
    return float(above / (n * m))


def best_shift(delta: np.ndarray, stages: np.ndarray, deep: int) -> tuple[int, float, float] | None:
    """Return how many epochs the stages must move to fit delta power best, within ±20.

    The shift k puts stage e on epoch e + k of the signal, and is best where :func:`separation` of
    stage ``deep`` from the other scored ones is greatest. Returns k and the separation at k and at
    0; None where there are too few epochs. Among equals the smallest shift is taken.

    >>> stages = np.repeat([2, 3, 2], 40)
    >>> best_shift(np.roll(stages, 7).astype(float), stages, 3)[0]
    7
    """
    if min(len(delta), len(stages)) < 2 * ENOUGH:
        return None
    found = {}
    for k in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        moved = stages[max(0, -k) : len(stages) - max(0, k)]
        values = delta[max(0, k) : len(delta) + min(0, k)]
        share = separation(values, moved == deep, (moved != deep) & (moved != UNSCORED))
        if share is not None:
            found[k] = share
    if 0 not in found:
        return None
    best = max(found, key=found.__getitem__)
    return best, found[best], found[0]
