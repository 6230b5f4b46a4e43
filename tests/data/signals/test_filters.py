"""Band-pass and resampling: the judges are MNE, SciPy on the whole signal, and arithmetic."""

import re

import mne
import numpy as np
import pytest
import scipy.signal

from partsig.data.signals import filters, kernels
from partsig.data.signals.filters import bandpass_resample, bandpass_resample_rows
from partsig.data.signals.kernels import bandpass_taps, resampled_length
from partsig.data.signals.recordings import Rows
from partsig.errors import ConfigError, DataError

TOLERANCE = 1e-5  # of the signal's standard deviation


def mne_pipeline(signal: np.ndarray, sfreq: float, npad: int | str) -> np.ndarray:
    info = mne.create_info(len(signal), sfreq, "eeg")
    raw = mne.io.RawArray(signal * 1e-6, info, verbose="error")
    raw.filter(0.1, 30, verbose="error")
    raw.resample(100, npad=npad, verbose="error")
    return raw.get_data() * 1e6


def error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float((abs(found - expected).max(axis=1) / expected.std(axis=1)).max())


@pytest.mark.parametrize("sfreq", [200, 256, 500])
@pytest.mark.parametrize("seconds", [60, 150])
@pytest.mark.parametrize("drift", [0.0, 300.0])
def test_equals_mne(eeg_like, sfreq, seconds, drift):
    signal = eeg_like(2, seconds * sfreq, sfreq) + 40.0
    signal += drift * np.sin(2 * np.pi * np.arange(seconds * sfreq) / sfreq / 700)
    # Padded by its own length on both sides, the filtered and mirrored recording begins and ends
    # at zero, and that padding divides at every rate.
    expected = mne_pipeline(signal, sfreq, npad=seconds * sfreq)
    found = bandpass_resample(signal, sfreq, 100)
    assert found.dtype == np.float32
    assert error(found, expected) < TOLERANCE


@pytest.mark.parametrize(("sfreq", "n_times"), [(200, 48_000), (256, 61_440)])
def test_equals_mne_as_it_comes(eeg_like, sfreq, n_times):
    signal = eeg_like(2, n_times, sfreq)
    # raw.resample(100) pads to a power of two and takes the result for a circle. Where that circle
    # closes, near n_pad samples from either end, the signal is silent here and nothing rings.
    n_pad = (2 ** int(np.ceil(np.log2(n_times + 200))) - n_times) // 2
    assert n_pad * 100 % sfreq == 0
    times = np.arange(n_times)
    for centre in (n_pad, n_times - 1 - n_pad):
        signal *= 0.5 - 0.5 * np.cos(np.pi * np.clip(abs(times - centre) / sfreq - 30, 0, 1))
    assert error(bandpass_resample(signal, sfreq, 100), mne_pipeline(signal, sfreq, "auto")) < (
        TOLERANCE
    )


def test_where_mne_shifts_partsig_does_not():
    # 500 Hz to 100 Hz: MNE's power of two does not divide by 5. A 10 Hz sine shows who is right.
    times = np.arange(500 * 120) / 500
    sine = np.sin(2 * np.pi * 10 * times)[None]
    truth = sine[:, ::5]
    inner = slice(2000, 10_000)
    ours = abs(bandpass_resample(sine, 500, 100) - truth)[:, inner].max()
    theirs = abs(mne_pipeline(sine, 500, "auto") - truth)[:, inner].max()
    assert ours < 2e-3  # the filters' ripple
    assert theirs > 0.1


@pytest.mark.parametrize(
    ("sfreq", "l_freq", "h_freq"),
    [
        (200, 0.1, 30),
        (256, 0.1, 30),
        (500, 0.1, 30),
        (100, 0.3, 35),
        (128, None, 30),
        (200, 0.5, None),
        (64, 1, 31.5),
        (200, 9, 12),
    ],
)
def test_taps_equal_mne(sfreq, l_freq, h_freq):
    expected = mne.filter.create_filter(None, sfreq, l_freq, h_freq, verbose="error")
    found = bandpass_taps(sfreq, l_freq, h_freq)
    n_zeros = (len(expected) - len(found)) // 2  # MNE rounds the length up; the taps are the same
    assert n_zeros in (0, 1)
    assert abs(np.pad(found, n_zeros) - expected).max() < 1e-12


def test_no_cutoffs_and_no_new_rate_change_nothing(eeg_like):
    signal = eeg_like(2, 3000, 100)
    found = bandpass_resample(signal, 100, 100, l_freq=None, h_freq=None, dtype=np.float64)
    assert abs(found - signal).max() < 1e-11


# The seams: many blocks against one convolution of the whole signal.


def mirrored(signal: np.ndarray, n: int) -> np.ndarray:
    """Odd reflection at both ends, then zeros, n samples on each side."""
    n_mirror = min(n, signal.shape[1] - 1)
    left = 2 * signal[:, :1] - signal[:, n_mirror:0:-1]
    right = 2 * signal[:, -1:] - signal[:, -2 : -2 - n_mirror : -1]
    return np.pad(np.concatenate([left, signal, right], axis=1), ((0, 0), (n - n_mirror,) * 2))


def convolved(signal: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """One convolution of the whole mirrored signal in float64."""
    signal = np.asarray(signal, np.float64)
    return scipy.signal.fftconvolve(mirrored(signal, len(taps) // 2), taps[None], mode="valid")


@pytest.mark.parametrize(
    "n_times",
    [2, 7, 1649, 1651, 30_000, 62_235, 62_236, 62_237, 65_536, 126_000, 250_001],
)
def test_filtering_alone_equals_scipy_at_every_length(eeg_like, n_times):
    # At an unchanged rate the kernel is MNE's FIR: 3301 taps at 100 Hz, blocks of 62,236 samples.
    signal = eeg_like(1, n_times, 100)
    expected = convolved(signal, bandpass_taps(100, 0.1, 30))
    found = bandpass_resample(signal, 100, 100, dtype=np.float64)
    assert found.shape == expected.shape
    assert abs(found - expected).max() < 1e-10 * abs(signal).max()


@pytest.mark.parametrize(
    ("sfreq", "target", "l_freq", "h_freq"),
    [(200, 100, 0.1, 30), (256, 100, 0.1, 30), (500, 100, 0.1, 30), (200, 128, 0.1, 30)],
)
def test_many_blocks_equal_one_transform(eeg_like, sfreq, target, l_freq, h_freq):
    n_times = sfreq * 1200
    silent = 100 * sfreq  # at both ends, so that neither reflection nor the circle matter
    signal = eeg_like(1, n_times, sfreq)
    signal *= scipy.signal.windows.tukey(n_times, 0.1)
    signal[:, :silent] = signal[:, -silent:] = 0
    filtered = scipy.signal.fftconvolve(
        signal, bandpass_taps(sfreq, l_freq, h_freq)[None], mode="same"
    )
    expected = scipy.signal.resample(filtered, n_times * target // sfreq, axis=1)
    plan = kernels.plan_blocks(float(sfreq), float(target), l_freq, h_freq)
    assert expected.shape[1] > 3 * plan.hop_out
    found = bandpass_resample(signal, sfreq, target, l_freq=l_freq, h_freq=h_freq)
    assert error(found, expected) < TOLERANCE


@pytest.mark.parametrize(("sfreq", "target"), [(200, 100), (100, 200), (64, 100), (100, 128)])
@pytest.mark.parametrize("l_freq", [None, 0.3])
def test_without_h_freq_a_tone_crosses_the_seams(sfreq, target, l_freq):
    # 21.7 Hz lies below every Nyquist rate here, so each output sample is known exactly.
    n_times = 3 * 2**16
    tone = np.sin(2 * np.pi * 21.7 * np.arange(n_times) / sfreq)[None]
    found = bandpass_resample(tone, sfreq, target, l_freq=l_freq, h_freq=None, dtype=np.float64)
    expected = np.sin(2 * np.pi * 21.7 * np.arange(found.shape[1]) / target)
    edge = 40 * target
    worst = abs(found[0] - expected)[edge:-edge].max()
    assert worst < (1e-5 if l_freq is None else 5e-3)  # the high-pass has a ripple of its own


def test_white_noise_beyond_the_new_rate_does_not_ring_at_the_seams():
    # Blocks of another size have their seams elsewhere; what differs between them is ringing.
    signal = np.random.default_rng(0).normal(size=(1, 3 * 2**16))
    whole = bandpass_resample(signal, 200, 100, l_freq=0.3, h_freq=None, dtype=np.float64)
    shift = 10_000
    part = bandpass_resample(signal[:, shift:], 200, 100, l_freq=0.3, h_freq=None, dtype=np.float64)
    edge = 10_000
    difference = abs(whole[:, shift // 2 :] - part)[:, edge:-edge].max()
    assert difference < 1e-6 * whole.std()


# Rates: any two, simple or not.

# Among them EDF's samples per record over seconds per record, rounded by somebody on the way.
RATES = [16, 17.03, 64, 64.0001, 128.205, 173.61, 199.98, 200, 250, 1 / 0.0039, 256.41025641]
RATES += [1000 / 3, 400.4, 500, 997, 1024, 2047.9, 2048]


def tones(hz: list[float], sfreq: float, n_times: int) -> np.ndarray:
    """One tone a row, amplitude 1; each begins with another phase."""
    hz = np.array(hz)[:, None]
    return np.sin(2 * np.pi * hz * (np.arange(n_times) / sfreq) + hz)


@pytest.mark.parametrize("target", [100, 128])
@pytest.mark.parametrize("sfreq", RATES)
def test_tones_keep_their_time_at_any_rate(sfreq, target):
    nyquist = min(sfreq, target) / 2
    hz = [share * nyquist for share in (0.03, 0.21, 0.5)]
    n_times = round(900 * sfreq)
    found = bandpass_resample(tones(hz, sfreq, n_times), sfreq, target, l_freq=None, h_freq=None)
    assert found.shape[1] == round(n_times * target / sfreq)
    expected = tones(hz, target, found.shape[1])
    assert abs(found - expected)[:, target:-target].max() < 1e-3  # but for a second at either end
    inner = slice(60 * target, -60 * target)
    assert abs(found - expected)[:, inner].max() < TOLERANCE


@pytest.mark.parametrize("sfreq", [rate for rate in RATES if rate > 70])
def test_the_band_pass_at_any_rate_is_its_taps(sfreq):
    hz = [0.05, 0.13, 9.7, 29, 33]
    n_times = round(600 * sfreq)
    taps = bandpass_taps(sfreq, 0.1, 30)
    lag = np.arange(len(taps)) - len(taps) // 2
    response = np.array([taps @ np.cos(2 * np.pi * f * lag / sfreq) for f in hz])
    found = bandpass_resample(tones(hz, sfreq, n_times), sfreq, 100)
    expected = response[:, None] * tones(hz, 100, found.shape[1])
    assert abs(found - expected)[:, 6000:-6000].max() < TOLERANCE


@pytest.mark.parametrize("sfreq", [16.0007, 17.03, 20.00000001, 25.64102564, 199.98])
def test_twelve_hours_end_on_time(sfreq):
    n_times = round(12 * 3600 * sfreq)
    tone = tones([5.0], sfreq, n_times)
    found = bandpass_resample(tone, sfreq, 100, l_freq=None, h_freq=None)
    late = found.shape[1] - 6000
    seconds = np.arange(late, found.shape[1] - 100) / 100
    expected = np.sin(2 * np.pi * 5 * seconds + 5)
    # A millisecond would be an error of 0.03.
    assert abs(found[0, late:-100] - expected).max() < 2e-3


@pytest.mark.parametrize(("sfreq", "target"), [(200, 100), (256, 100), (64, 100), (100, 128)])
def test_both_ways_back_from_the_spectrum_agree(eeg_like, monkeypatch, sfreq, target):
    signal = eeg_like(2, 1200 * sfreq, sfreq)
    settings = {"l_freq": 0.3, "h_freq": None, "dtype": np.float64}
    expected = bandpass_resample(signal, sfreq, target, **settings)
    monkeypatch.setattr(kernels, "SIMPLE", 1)
    kernels.plan_blocks.cache_clear()
    found = bandpass_resample(signal, sfreq, target, **settings)
    assert kernels.plan_blocks(float(sfreq), float(target), 0.3, None).zoom is not None
    kernels.plan_blocks.cache_clear()
    assert error(found, expected) < 1e-6  # what the resampler's low-pass lets through, 120 dB down


@pytest.mark.parametrize(("sfreq", "target", "up", "down"), [(200, 100, 1, 2), (64, 100, 25, 16)])
def test_equals_polyphase_resampling(eeg_like, sfreq, target, up, down):
    signal = convolved(eeg_like(2, 600 * sfreq, sfreq), bandpass_taps(sfreq, 0.3, 20))
    window = scipy.signal.firwin(8001, 0.9 / max(up, down), window=("kaiser", 12.0))
    expected = scipy.signal.resample_poly(signal, up, down, axis=1, window=window)
    found = bandpass_resample(signal, sfreq, target, l_freq=None, h_freq=None)
    inner = slice(6000, -6000)
    assert error(found[:, inner], expected[:, inner]) < 1e-4


# Values.


HARD = {
    "drift": lambda t, eeg: eeg + 300 * np.sin(2 * np.pi * t / 700),
    "steep drift": lambda t, eeg: eeg + 3000 * np.sin(2 * np.pi * t / 90),
    "offset": lambda t, eeg: eeg + 30_000,
    "rails": lambda t, eeg: np.where(t // 7 % 2, 32_767, -32_768) + 0 * eeg,
    "one step": lambda t, eeg: eeg + 30_000 * (t > 400),
    "a second at the other rail": lambda t, eeg: np.where(abs(t - 400) < 0.5, 32_767, eeg - 32_600),
    "mains": lambda t, eeg: eeg / 10 + 3000 * np.sin(2 * np.pi * 60 * t),
    "faint on a large offset": lambda t, eeg: eeg / 1000 + 30_000,
}


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("name", HARD)
def test_float32_is_exact_enough_on_hard_inputs(eeg_like, name, kind):
    times = np.arange(200 * 900) / 200
    signal = HARD[name](times, eeg_like(2, len(times), 200))
    signal = (signal.round() if kind is np.int16 else signal).astype(kind)
    for l_freq, h_freq in ((0.1, 30), (9, 12), (0.3, None), (None, 30), (None, None)):
        settings = {"l_freq": l_freq, "h_freq": h_freq}
        at_200 = convolved(signal, bandpass_taps(200, l_freq, h_freq))
        at_100 = bandpass_resample(signal, 200, 100, dtype=np.float64, **settings)
        for target, expected in ((200, at_200), (100, at_100)):
            found = bandpass_resample(signal, 200, target, **settings)
            # What float32 cannot say of the largest value there is (an offset that is to stay).
            grain = np.spacing(np.float32(abs(expected).max())) + 1e-9
            worst = abs(found - expected).max(axis=1)
            assert (worst < TOLERANCE * expected.std(axis=1) + grain).all(), (settings, target)


def test_only_blocks_with_a_step_are_computed_twice(eeg_like, monkeypatch):
    n_times = 200 * 3600
    signal = eeg_like(2, n_times, 200) + 300 * np.sin(2 * np.pi * np.arange(n_times) / 200 / 700)
    signal[1, n_times // 2 :] += 30_000
    done = []
    run = filters._run

    def counted(plan, channels, firsts, precision, result):
        done.append((precision, list(firsts)))
        return run(plan, channels, firsts, precision, result)

    monkeypatch.setattr(filters, "_run", counted)
    bandpass_resample(signal, 200, 100)
    hop = kernels.plan_blocks(200.0, 100.0, 0.1, 30.0).hop_out
    (once, all_firsts), (again, none), (again_too, some) = done
    assert (once, again, again_too) == (np.float32, np.float64, np.float64)
    assert len(all_firsts) == 14
    assert none == []
    assert some == [180_000 // hop * hop]


def rows_of(samples, picks, scale, offset):
    """Return rows of samples at 200 Hz."""
    labels = ("",) * len(picks)
    return Rows(labels=labels, signal=samples, sfreq=200, picks=picks, scale=scale, offset=offset)


def test_beyond_a_short_signal_and_its_mirror_lies_zero_in_its_own_unit(eeg_like):
    samples = eeg_like(2, 500, 200).round().astype(np.int16)
    scale, offset = [0.5, 2.0], [-700.0, 900.0]
    physical = (samples - np.array(offset)[:, None]) * np.array(scale)[:, None]
    found = bandpass_resample_rows(rows_of(samples, [0, 1], scale, offset), 100)
    assert error(found, bandpass_resample(physical, 200, 100)) < TOLERANCE


def test_offset_of_30000_keeps_precision(eeg_like):
    signal = eeg_like(1, 30_000, 200)
    plain = bandpass_resample(signal, 200, 100)
    lifted = bandpass_resample(signal + 30_000, 200, 100)
    assert abs(lifted - plain).max() < TOLERANCE * plain.std()


def test_a_constant_becomes_zero():
    found = bandpass_resample(np.full((1, 40_000), 12_345, np.int16), 200, 100)
    assert abs(found).max() < 1e-3 * 12_345  # the high-pass lets less than -60 dB through


def test_memory_map_of_integers_in_another_order(eeg_like, tmp_path):
    samples = eeg_like(5, 70_000, 200).round().astype("<i2")
    samples.T.tofile(tmp_path / "samples")
    mapped = np.memmap(tmp_path / "samples", "<i2", "r", 0, (70_000, 5)).T
    picks, scale, offset = [3, 0], [0.5, 1000.0], [-7.0, 100.0]
    physical = (samples[picks] - np.array(offset)[:, None]) * np.array(scale)[:, None]
    found = bandpass_resample_rows(rows_of(mapped, picks, scale, offset), 100)
    expected = bandpass_resample(physical, 200, 100)
    assert error(found, expected) < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 31_000, 61_999])
@pytest.mark.parametrize("sfreq", [200, 199.98])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_samples_that_are_no_numbers_are_refused(bad, at, sfreq, kind):
    signal = np.zeros((2, 62_000), kind)
    signal[1, at] = bad
    with pytest.raises(DataError, match="not finite numbers"):
        bandpass_resample(signal, sfreq, 100)


@pytest.mark.parametrize(
    ("l_freq", "h_freq", "message"),
    [
        (0, 30, "l_freq is 0 Hz; at 200 Hz it must lie between 0 and 100 Hz."),
        (0.1, 100, "h_freq is 100 Hz; at 200 Hz it must lie between 0 and 100 Hz."),
        (0.1, -3, "h_freq is -3 Hz"),
        (30, 30, "l_freq (30 Hz) must be below h_freq (30 Hz)."),
        (float("nan"), 30, "l_freq is nan Hz"),
    ],
)
def test_impossible_cutoffs(l_freq, h_freq, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        bandpass_resample(np.zeros((1, 1000)), 200, 100, l_freq=l_freq, h_freq=h_freq)


@pytest.mark.parametrize(
    ("n_times", "sfreq", "target"), [(1, 200, 100), (3, 200, 100), (7, 256, 100), (9, 100, 128)]
)
def test_short_signals_have_the_length_mne_gives(n_times, sfreq, target):
    expected = mne.filter.resample(np.ones(n_times), up=target, down=sfreq, verbose="error")
    found = bandpass_resample(np.ones((1, n_times)), sfreq, target)
    assert found.shape == (1, len(expected))
    assert resampled_length(n_times, sfreq, target) == len(expected)
