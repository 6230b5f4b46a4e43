"""Taps of zero-phase filters, and how they are applied block by block (overlap-save)."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import scipy  # its parts are loaded where they are used

from partsig.errors import ConfigError

# Hamming-windowed sinc filters need 3.3 / (transition width in Hz) seconds (MNE's default rule,
# after Ifeachor and Jervis, 2002, table 7.3).
HAMMING_S_HZ = 3.3
# The resampler's own low-pass: stop-band attenuation and transition relative to the Nyquist rate.
STOP_DB = 120.0
TRANSITION = 0.005
# Samples a block holds at least; 8 times half the kernel where that is more. Larger blocks leave
# the cache, smaller ones overlap more.
BLOCK = 2**16
# Two rates have a simple ratio when a fraction of numbers up to SIMPLE gives it within SAME_RATE:
# a twelve-hour night then ends 43 microseconds off.
SIMPLE = 512
SAME_RATE = 1e-9


@dataclass(frozen=True)
class Plan:
    """One block of overlap-save: ``n_in`` samples in, ``hop_out`` useful samples out.

    Output sample k lies at input sample ``k * step``. A block begins ``lead`` input samples before
    the first output sample it is used for.
    """

    kernel: np.ndarray  # (n_bins,) spectrum of the zero-phase kernel, real, with the inverse's norm
    gain: float  # what the kernel makes of a constant 1
    step: Fraction
    lead: int
    n_in: int
    n_out: int  # output samples in n_in, where that is a whole number
    hop_out: int
    zoom: "scipy.signal.ZoomFFT | None"  # the inverse transform where the ratio is not simple


def bandpass_taps(sfreq: float, l_freq: float | None, h_freq: float | None) -> np.ndarray:
    """Return MNE's default zero-phase FIR for these cut-offs (Hz): odd length, symmetric.

    Transition widths are MNE's: ``min(max(f / 4, 2), f)`` below and
    ``min(max(f / 4, 2), sfreq / 2 - f)`` above.

    >>> len(bandpass_taps(200, 0.1, 30))
    6601
    """
    nyquist = sfreq / 2
    for name, value in (("l_freq", l_freq), ("h_freq", h_freq)):
        if value is not None and not 0 < value < nyquist:
            raise ConfigError(
                f"{name} is {value} Hz; at {sfreq:g} Hz it must lie between 0 and {nyquist:g} Hz."
            )
    if l_freq is not None and h_freq is not None and l_freq >= h_freq:
        raise ConfigError(f"l_freq ({l_freq} Hz) must be below h_freq ({h_freq} Hz).")
    low = None if l_freq is None else min(max(l_freq * 0.25, 2.0), l_freq)
    high = None if h_freq is None else _width_above(h_freq, sfreq)
    widths = [width for width in (low, high) if width is not None]
    if not widths:
        return np.ones(1)
    n_taps = max(round(HAMMING_S_HZ / width * sfreq) for width in widths)
    n_taps += 1 - n_taps % 2
    # Each edge is its own windowed sinc, as long as its own transition asks for (MNE does so
    # too); cut-offs lie in the middle of the transition.
    taps = np.zeros(n_taps)
    middle = n_taps // 2
    if h_freq is None:
        taps[middle] = 1.0
    else:
        _add_lowpass(taps, h_freq + high / 2, high, sfreq, 1.0)
    if l_freq is not None:
        _add_lowpass(taps, l_freq - low / 2, low, sfreq, -1.0)
    return taps


def _width_above(h_freq: float, sfreq: float) -> float:
    return min(max(h_freq * 0.25, 2.0), sfreq / 2 - h_freq)


def _add_lowpass(taps: np.ndarray, cutoff: float, width: float, sfreq: float, gain: float) -> None:
    n = round(HAMMING_S_HZ / width * sfreq)
    n += 1 - n % 2
    start = (len(taps) - n) // 2
    taps[start : start + n] += gain * scipy.signal.firwin(n, cutoff, fs=sfreq, window="hamming")


def resampled_length(n_times: int, sfreq: float, target: float) -> int:
    """Return the number of samples after resampling, rounded as MNE does.

    >>> resampled_length(5_147_000, 200, 100)
    2573500
    """
    return max(round(n_times * target / sfreq), 1)


@lru_cache(maxsize=8)
def plan_blocks(sfreq: float, target: float, l_freq: float | None, h_freq: float | None) -> Plan:
    """Return how a signal is filtered and its rate (Hz) changed, block by block."""
    taps = _kernel(sfreq, target, l_freq, h_freq)
    reach = len(taps) // 2
    ratio = Fraction(target / sfreq).limit_denominator(SIMPLE)
    simple = 0 < ratio.numerator <= SIMPLE and abs(ratio * sfreq / target - 1) < SAME_RATE
    if simple:
        unit, step = ratio.denominator, 1 / ratio
        lead = -(-reach // unit) * unit
        n_units = -(-max(BLOCK, 8 * lead) // unit)
        n_in = scipy.fft.next_fast_len(n_units, real=True) * unit
        n_out = round(n_in * ratio)
        hop_out = n_out - 2 * round(lead * ratio)
        n_bins = min(n_in, n_out) // 2 + 1
        norm, zoom = n_out / n_in, None
    else:
        step, lead = Fraction(sfreq / target), reach
        n_in = scipy.fft.next_fast_len(max(BLOCK, 8 * lead), real=True)
        n_out = 0
        hop_out = int((n_in - 2 * lead - 1) / step)  # the 1 is for the fraction of a sample
        n_bins = math.ceil(min(n_in, n_in / step) / 2)  # without the Nyquist bin
        norm = np.full(n_bins, 2 / n_in)
        norm[0] = 1 / n_in
        zoom = scipy.signal.ZoomFFT(n_bins, [0, hop_out * float(step)], hop_out, fs=n_in)
    centred = np.zeros(n_in)
    centred[: reach + 1] = taps[reach:]
    centred[n_in - reach :] = taps[:reach]
    return Plan(
        kernel=scipy.fft.rfft(centred)[:n_bins].real * norm,
        gain=float(taps.sum()),
        step=step,
        lead=lead,
        n_in=n_in,
        n_out=n_out,
        hop_out=hop_out,
        zoom=zoom,
    )


def _kernel(sfreq: float, target: float, l_freq: float | None, h_freq: float | None) -> np.ndarray:
    """Return the taps of the band-pass and the resampler's low-pass together: odd, symmetric."""
    taps = bandpass_taps(sfreq, l_freq, h_freq)
    if target < sfreq or (target > sfreq and h_freq is None):
        # MNE's resampler cuts the spectrum at the lower Nyquist rate. A sharp low-pass does the
        # same to what the band-pass has left there, and keeps blocks from talking to each other.
        # Its transition is centred there, as MNE's cut is, but ends there where the band-pass
        # leaves more than its stop band: half a spectral line dropped at one stroke would ring
        # across the seams of the blocks.
        nyquist = min(sfreq, target) / 2
        width = TRANSITION * nyquist
        stop = sfreq if h_freq is None else h_freq + _width_above(h_freq, sfreq)
        cutoff = nyquist if stop < nyquist else nyquist - width / 2
        n_taps, beta = scipy.signal.kaiserord(STOP_DB, width / (sfreq / 2))
        n_taps += 1 - n_taps % 2
        lowpass = scipy.signal.firwin(n_taps, cutoff, fs=sfreq, window=("kaiser", beta))
        taps = scipy.signal.fftconvolve(taps, lowpass)
    return taps
