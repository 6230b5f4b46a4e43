"""Measures of a signal's quality before anyone trains on it: faults, amplitude, line noise, delta.

Functions on arrays. E are whole 30-s epochs, T samples; an epoch is looked at in 30 windows of one
second. Nothing is judged here but the seconds themselves; see :mod:`partsig.sleep.audit.rules`.
"""

import re
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded where they are used

from partsig.data.signals.bands import FLOOR, SEGMENT_S
from partsig.data.signals.hypnograms.stages import n_epochs
from partsig.data.signals.lazy import Row
from partsig.errors import DataError

# What an epoch of a channel is, by its code.
QUALITY = ("good", "flat", "clipped", "out of range")
GOOD, FLAT, CLIPPED, RANGE = range(4)
JUDGED_S = 30.0  # of an epoch that is judged, whatever epochs a store has
WINDOWS = 30  # of 1 s in it
# An epoch is named after its commonest fault when that many of its seconds have one.
BAD_SHARE = 1 / 3
# µV, peak to peak in a second. ACNS guideline 3 calls an EEG without activity over 2 µV silent;
# half of that also spares a quiet chin (in 71 real sleepers never below 1.2 µV, 0.1 to 30 Hz).
FLAT_UV = 1.0
# The same of a signal in interquartile ranges of its recording, which are 15 to 30 µV of an EEG.
FLAT_SCALED = 0.05
# µV, SD of a second: sines of 2 µV (ACNS guideline 3, as above) and of 350 µV peak to peak, the
# largest slow wave that YASA's detector takes for one (Vallat and Walker 2021, amp_ptp).
EEG_UV = (2 / 8**0.5, 350 / 8**0.5)
# µV, SD of a second, for muscle and heart: from a chin at rest (lowest median of 3,118 real
# minutes that were not flat: 0.3) to an R wave of some millivolts every second.
OTHER_UV = (0.2, 1000.0)
OTHER = re.compile(r"EMG|CHIN|LEG|TIB|ARM|ECG|EKG|RESP|FLOW|CHEST|ABD|THOR|SNORE", re.IGNORECASE)
# Share of the epochs of a channel whose amplitude is within its bounds where its unit is right.
RIGHT_SHARE = 0.1
# Factors that a wrong unit leaves behind: nV, mV and V for µV, and µV for mV and V.
FACTORS = (1e-6, 1e-3, 1e3, 1e6)
LINE_HZ = (50.0, 60.0)
PEAK_HZ, NEAR_HZ, FAR_HZ = 1.0, 2.0, 6.0  # the peak, and its neighbours, on both sides
DELTA_HZ = (0.5, 4.0)
LOWEST_HZ = 16.0  # the least rate at which delta, and a second's SD, can be told
BLOCK = 64  # epochs worked on at a time


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
        return self.of_epochs(JUDGED_S)

    def of_epochs(self, epoch_s: float) -> np.ndarray:
        """Return the code (E,) int8 of each epoch of another length, as far as seconds tell it.

        A second belongs to the epoch that its middle lies in; an epoch without any has the code of
        the second that its own middle lies in.
        """
        seconds = self.seconds.reshape(-1)
        if epoch_s == JUDGED_S:
            codes = _commonest(self.seconds)
        else:
            n = int(len(seconds) / epoch_s + 1e-9)
            owner = ((np.arange(len(seconds)) + 0.5) // epoch_s).astype(int)
            counts = np.zeros((n + 1, len(QUALITY)), int)
            np.add.at(counts, (np.minimum(owner, n), seconds), 1)
            middle = seconds[((np.arange(n) + 0.5) * epoch_s).astype(int)]
            empty = np.flatnonzero(counts[:n].sum(1) == 0)
            counts[empty, middle[empty]] = 1
            codes = _worst(counts[:n], counts[:n].sum(1))
        if self.factor != 1:
            codes[codes == GOOD] = RANGE
        return codes


def find_faults(
    signal: np.ndarray | Row,
    sfreq: float,
    clipped: np.ndarray | Row | None = None,
    eeg: bool = True,
    scaled: bool = False,
) -> Faults:
    """Judge every second of one channel (T,) in µV; ``clipped`` (T,) bool says which samples are.

    Both are read in blocks of epochs. ``scaled``: it is in interquartile ranges, of which no range
    or unit is told. Raises DataError below 16 Hz, or when there is no whole epoch.
    """
    n = n_epochs(len(signal), sfreq, JUDGED_S)
    if sfreq < LOWEST_HZ or n == 0:
        raise DataError(
            f"{len(signal) / sfreq:g} s at {sfreq:g} Hz are not measured; it takes "
            f"{JUDGED_S:g} s at {LOWEST_HZ:g} Hz or more"
        )
    n_times = round(JUDGED_S * sfreq)
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
    bounds = (0.0, np.inf) if scaled else EEG_UV if eeg else OTHER_UV
    alive = deviation[deviation.any(1)]
    usual = np.median(alive, axis=1)
    amplitude = float(np.median(usual)) if len(alive) else 0.0
    # A recorder that was left on for most of a recording does not make its unit a wrong one.
    right = len(alive) and ((usual >= bounds[0]) & (usual <= bounds[1])).mean() >= RIGHT_SHARE
    factor = 1.0 if right else unit_factor(amplitude, bounds)
    faults = np.zeros((n, WINDOWS), np.int8)
    faults[(deviation * factor < bounds[0]) | (deviation * factor > bounds[1])] = RANGE
    faults[span * factor < (FLAT_SCALED if scaled else FLAT_UV)] = FLAT
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
    judged = find_faults(signal, sfreq, clipped, eeg)
    faults, factor, codes = judged.seconds, judged.factor, _commonest(judged.seconds)
    density, frequency = _densities(signal, len(codes), sfreq, factor)  # (E, F)
    inside = (frequency >= DELTA_HZ[0]) & (frequency < DELTA_HZ[1])
    delta = np.log10(density[:, inside].mean(1) + FLOOR)
    delta[codes != GOOD] = np.nan
    if factor != 1:
        faults = np.where(faults == GOOD, RANGE, faults)
    return Quality(
        epochs=judged.epochs,
        fault_share=(faults != GOOD).mean(1),
        delta=delta,
        amplitude_uv=judged.amplitude_uv,
        factor=factor,
        flat=float((faults == FLAT).mean()),
        clipped=judged.n_clipped / len(signal),
        line=_line_noise(density, frequency, sfreq, factor) if judged.amplitude_uv else {},
        not_finite=judged.not_finite,
    )


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _epochs(samples: np.ndarray | Row, block: slice, n_times: int) -> np.ndarray:
    """Return epochs (n, 30 s) of a channel (T,)."""
    return np.asarray(samples[block.start * n_times : block.stop * n_times]).reshape(-1, n_times)


def _commonest(faults: np.ndarray) -> np.ndarray:
    """Return the code (E,) of each epoch from those of its seconds (E, 30)."""
    counts = np.stack([(faults == code).sum(1) for code in range(len(QUALITY))], axis=1)
    return _worst(counts, np.full(len(counts), WINDOWS))


def _worst(counts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return the code (E,) of each epoch from how many of its ``seconds`` (E,) have which."""
    bad = counts[:, 1:].sum(1) >= BAD_SHARE * seconds
    return np.where(bad, 1 + counts[:, 1:].argmax(1), GOOD).astype(np.int8)


def _densities(
    signal: np.ndarray | Row, n: int, sfreq: float, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return power densities (E, F) in µV²/Hz, by Welch's method as for the band powers, and Hz."""
    densities = []
    for block in _blocks(n):
        whole = _epochs(signal, block, round(JUDGED_S * sfreq))
        part = np.where(np.isfinite(whole), whole, 0) * np.float32(factor)
        frequency, density = scipy.signal.welch(
            part, sfreq, nperseg=round(SEGMENT_S * sfreq), axis=-1
        )
        densities.append(density)
    return np.concatenate(densities), frequency


def _line_noise(
    density: np.ndarray, frequency: np.ndarray, sfreq: float, factor: float
) -> dict[float, tuple[float, float]]:
    """Return {Hz: (dB over its neighbours, µV RMS in the signal's own scale)}, median of epochs."""
    usual = np.median(density, axis=0)
    noise = {}
    for line in LINE_HZ:
        if line + FAR_HZ > sfreq / 2:
            continue
        away = np.abs(frequency - line)
        around = np.median(usual[(away >= NEAR_HZ) & (away <= FAR_HZ)])
        peak = usual[away <= PEAK_HZ]
        if around > 0 and peak.max() > 0:
            power = np.clip(peak - around, 0, None).sum() * (frequency[1] - frequency[0])
            decibels = 10 * np.log10(peak.max() / around)
            noise[line] = (float(decibels), float(power**0.5 / factor))
    return noise
