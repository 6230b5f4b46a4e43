"""Zero-phase band-pass and resampling in one pass over a whole recording.

The result equals MNE's ``raw.filter(l_freq, h_freq)`` followed by ``raw.resample(sfreq)`` (FIR,
Hamming window, ``phase="zero"``, default transition bands; FFT resampling) within 1e-5 of the
signal's standard deviation, at many times its speed: both filters are one finite impulse
response, applied by overlap-save, and the rate is changed inside the same transform by keeping
the output's share of the spectrum (Rabiner and Gold, 1975, sections 2.25 and 6.4). Rates without
a simple ratio are read off the same spectrum at the output's own times by the chirp z-transform
(Rabiner, Schafer and Rader, 1969).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal

from partsig.data.signals.lazy import OnDisk, Row, Stack, forget
from partsig.errors import ConfigError, DataError, check_option

# Hamming-windowed sinc filters need 3.3 / (transition width in Hz) seconds (MNE's default rule,
# after Ifeachor and Jervis, 2002, table 7.3).
HAMMING_S_HZ = 3.3
# The resampler's own low-pass: stop-band attenuation and transition relative to the Nyquist rate.
STOP_DB = 120.0
TRANSITION = 0.005
# Samples a block holds at least; 8 times half the kernel where that is more. Larger blocks leave
# the cache, smaller ones overlap more.
BLOCK = 2**16
# SciPy transforms so many rows of float32 at once (SSE, NEON), and what is left over one by one.
LANES = 4
# Two rates have a simple ratio when a fraction of numbers up to SIMPLE gives it within SAME_RATE:
# a twelve-hour night then ends 43 microseconds off.
SIMPLE = 512
SAME_RATE = 1e-9
# A block computed in float32 errs by up to 1e-6 of its root mean square about its level (9e-7 is
# the most seen over steps, drifts and tones). Where that root is more than so many times the
# standard deviation that the filters leave of the channel, the block is done again in float64.
ROUGH = 10.0
# What need not be exact is taken from every so many samples: a block's level and how much it holds.
COARSE = 64


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
    zoom: scipy.signal.ZoomFFT | None  # the inverse transform where the ratio is not simple


@dataclass(frozen=True)
class Channel:
    """One row of a signal: its value is ``(sample - offset) * scale``."""

    samples: np.ndarray | Row  # (T,)
    scale: float
    offset: float
    even: bool  # how it is reflected at its ends


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
def _plan(sfreq: float, target: float, l_freq: float | None, h_freq: float | None) -> Plan:
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


def bandpass_resample(
    signal: np.ndarray | Stack,
    sfreq: float,
    target: float,
    *,
    l_freq: float | None = 0.1,
    h_freq: float | None = 30.0,
    picks: Sequence[int] | None = None,
    scale: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    reflect: str = "odd",
    dtype: type = np.float32,
    out: np.ndarray | OnDisk | None = None,
) -> np.ndarray | OnDisk:
    """Return ``signal`` (C, T) at ``sfreq`` band-passed (zero phase) and resampled to ``target``.

    ``signal`` may be a memory map of any integer or float type, or a stack of channels that are not
    read yet; it is read in blocks, and written in blocks to ``out`` (C, T'), if that is given, in
    its type. Neither need ever be in memory as a whole. Rows
    ``picks`` are used in that order; a row's value is ``(sample - offset) * scale``. Output sample
    k lies ``k / target`` seconds after input sample 0, whatever the two rates (Hz). Beyond its ends
    the signal is continued by odd reflection, as in MNE, or by ``reflect="even"``. Odd reflection
    turns about the end sample, which a high-pass then makes 0: that marks the ends of an excerpt
    (told from any other second in 87 % of real 60-s segments, chance 50 %; even: 50 to 55 %).

    For a ``dtype`` below float64 the transforms are float32, of samples less the level of their
    block, so that an offset costs no digits. Blocks where that is not exact enough (drifts, steps
    or mains hum many times larger than what passes the filters), and all where the ratio of the
    rates is not simple (199.98 Hz to 100 Hz), are computed in float64 at a third of the speed.

    Raises ConfigError for impossible cut-offs and DataError for non-finite samples.

    *Differs from MNE*: the resampler's cut at the new Nyquist rate has a transition of 0.5 % of
    that rate instead of none (upwards: the same below the old one, and only without ``h_freq``);
    input sample 0 is output sample 0 for every length and ratio, where MNE's padding shifts or
    stretches the result by a fraction of a sample unless the padded length happens to divide (it
    does for whole seconds at 200 Hz); and nothing wraps around, where MNE's padded recording is a
    circle whose jump rings at the new Nyquist rate (1e-4 of the SD in minutes, 1e-7 in a night).

    >>> t = np.arange(200 * 60) / 200
    >>> y = bandpass_resample(np.sin(2 * np.pi * 10 * t)[None], 200, 100)
    >>> y.shape, bool(abs(y[0, 3000:3010] - np.sin(2 * np.pi * 10 * t[6000:6020:2])).max() < 2e-3)
    ((1, 6000), True)
    """
    check_option("reflect", reflect, ("odd", "even"))
    plan = _plan(float(sfreq), float(target), l_freq, h_freq)
    picks = range(signal.shape[0]) if picks is None else picks
    scale = [1.0] * len(picks) if scale is None else scale
    offset = [0.0] * len(picks) if offset is None else offset
    channels = [
        Channel(signal[pick], float(factor), float(zero), reflect == "even")
        for pick, factor, zero in zip(picks, scale, offset, strict=True)
    ]
    shape = (len(picks), resampled_length(signal.shape[1], sfreq, target))
    result = np.empty(shape, dtype) if out is None else out
    firsts = range(0, result.shape[1], plan.hop_out)
    if plan.zoom is not None or result.dtype == np.float64:
        _run(plan, channels, firsts, np.float64, result)
        return result
    before, after = _run(plan, channels, firsts, np.float32, result)
    n_useful = np.minimum(plan.hop_out, result.shape[1] - np.array(firsts))
    sd = np.sqrt(np.average(after**2, axis=0, weights=n_useful))
    rough = before > ROUGH * sd  # (F, C)
    for c in range(len(channels)):
        again = [firsts[i] for i in np.flatnonzero(rough[:, c])]
        _run(plan, channels[c : c + 1], again, np.float64, result[c : c + 1])
    return result


def _run(
    plan: Plan,
    channels: Sequence[Channel],
    firsts: Sequence[int],
    precision: type,
    result: np.ndarray | OnDisk,
) -> tuple[np.ndarray, np.ndarray]:
    """Write the blocks whose first output samples are ``firsts`` into ``result`` (C, T).

    Returns the root mean square of each block and channel (F, C) about its level, before the
    filters and after, in the unit of the samples.
    """
    n_chans = len(channels)
    # So many blocks at a time that their rows fill the lanes.
    n_blocks = LANES // math.gcd(n_chans, LANES)
    kernel = plan.kernel.astype(precision)
    scale = np.array([channel.scale for channel in channels])[:, None]
    offset = np.array([channel.offset for channel in channels])[:, None]
    before, after = np.zeros((2, len(firsts), n_chans))
    for i in range(0, len(firsts), n_blocks):
        group = firsts[i : i + n_blocks]
        rows = np.empty((len(group), n_chans, plan.n_in), precision)
        level = np.empty((len(group), n_chans, 1))
        starts = [math.floor(first * plan.step) for first in group]
        with np.errstate(invalid="ignore", over="ignore"):  # refused below
            for b, start in enumerate(starts):
                for c, channel in enumerate(channels):
                    level[b, c] = _fill(rows[b, c], channel, start - plan.lead)
            for channel in channels:
                forget(channel.samples)
            spectrum = scipy.fft.rfft(rows)[..., : len(kernel)]  # (blocks, C, n_bins)
        if not np.isfinite(spectrum[..., 0]).all():  # the sum of all that went in
            raise DataError(
                "the signal holds samples that are not finite numbers; replace them first."
            )
        spectrum *= kernel
        delays = [float(first * plan.step - at) for first, at in zip(group, starts, strict=True)]
        out = _inverse(plan, spectrum, delays)  # (blocks, C, hop_out)
        before[i : i + n_blocks] = _rms(rows[..., ::COARSE])
        for b, first in enumerate(group):
            useful = out[b, :, : result.shape[1] - first]
            after[i + b] = _rms(useful)
            useful *= scale.astype(precision)
            useful += ((level[b] - offset) * scale * plan.gain).astype(precision)
            result[:, first : first + plan.hop_out] = useful
    return before, after


def _rms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...i,...i->...", rows, rows) / rows.shape[-1])


def _inverse(plan: Plan, spectrum: np.ndarray, delays: list[float]) -> np.ndarray:
    """Return the useful output samples of blocks whose first one lies ``delays`` late."""
    if plan.zoom is None:
        lead = (plan.n_out - plan.hop_out) // 2
        out = scipy.fft.irfft(spectrum, plan.n_out, overwrite_x=True)
        return out[..., lead : lead + plan.hop_out]
    late = (plan.lead + np.array(delays)[:, None, None]) / plan.n_in
    phase = np.exp(-2j * np.pi * late * np.arange(spectrum.shape[-1]))
    return plan.zoom(spectrum.conj() * phase).real  # the forward transform of the conjugate


def _fill(row: np.ndarray, channel: Channel, start: int) -> float:
    """Write the samples from ``start`` on, less a constant, into ``row``; return the constant."""
    samples = channel.samples
    n_times, stop = len(samples), start + len(row)
    low, high = max(start, 0), min(stop, n_times)
    held = np.asarray(samples[low:high])
    level = np.float32(held[::COARSE].mean(dtype=np.float64))
    inner = row[low - start : high - start]
    if np.can_cast(held.dtype, row.dtype):
        inner[:] = held
        inner -= level
    else:  # in the samples' own precision
        np.subtract(held, level, out=inner, casting="same_kind")
    if start < 0:
        _continue(row[:-start][::-1], np.asarray(samples[: 1 - start]), channel, float(level))
    if stop > n_times:
        last = np.asarray(samples[max(2 * n_times - stop - 1, 0) :])
        _continue(row[n_times - start :], last[::-1], channel, float(level))
    return float(level)


def _continue(beyond: np.ndarray, samples: np.ndarray, channel: Channel, level: float) -> None:
    """Fill ``beyond`` with what precedes ``samples``, the nearest first: mirrored, then level.

    Of the samples at most one more than that is given.
    """
    n_mirror = min(len(beyond), len(samples) - 1)
    edge, mirror = float(samples[0]), samples[1 : n_mirror + 1].astype(np.float64)
    beyond[:n_mirror] = (mirror if channel.even else 2 * edge - mirror) - level
    beyond[n_mirror:] = (edge if channel.even else channel.offset) - level
