"""Landmarks and their keys, against loops; what a long recording has keys of, a part has too."""

import numpy as np
import pytest

from partsig.data.signals import peaks
from partsig.data.signals.filters import bandpass_resample


def band_passed(x, sfreq=200.0):
    return bandpass_resample(np.ascontiguousarray(x, np.float32), sfreq, 100.0)


def keys_and_times(*given):
    """Return keys and seconds, of :func:`peaks.keys_of`."""
    both = peaks.keys_of(*given)
    return both >> np.uint64(32), (both & np.uint64(2**32 - 1)).astype(float) * 0.03


def slow_keys(x, sfreq):
    """Return the keys of one channel as a list of (gaps, seconds), by loops."""
    hop, half = max(1, round(0.02 * sfreq)), max(1, round(0.2 * sfreq))
    t = np.arange(-half, half + 1) / sfreq
    wavelet = (1 - 2 * (np.pi * 4 * t) ** 2) * np.exp(-((np.pi * 4 * t) ** 2))
    wavelet -= wavelet.mean()
    wavelet *= 2 / np.abs(wavelet).sum()
    waves = [
        abs(float(wavelet @ x[i : i + len(wavelet)])) for i in range(0, len(x) - 2 * half, hop)
    ]
    reach = 2 * round(0.5 * sfreq / hop / 2)
    waves = waves[: (len(x) // (reach * hop) - 1) * reach]  # in whole blocks, less the last
    times = []
    for i in range(reach, len(waves) - reach):
        if waves[i] == max(waves[i - reach : i + reach + 1]) and waves[i] > 0.1:
            a, b, c = waves[i - 1 : i + 2]
            times.append(((i + 0.5 * (a - c) / (a - 2 * b + c)) * hop + half) / sfreq)
    return [
        (tuple(round((times[k + j] - times[k]) / 0.03) for j in (1, 2, 3)), times[k])
        for k in range(len(times) - 3)
    ]


@pytest.mark.parametrize("sfreq", [50.0, 100.0, 128.0, 199.98, 256.0])
def test_keys_are_those_of_the_definition(sfreq, eeg_like):
    x = eeg_like(2, int(61.3 * sfreq), sfreq, 3)
    found, times = keys_and_times(x.astype(np.float32), sfreq)
    expected = [key for row in x for key in slow_keys(row, sfreq)]
    assert len(expected) > 60
    np.testing.assert_allclose(times, [t for _, t in expected], atol=0.0151)
    # Equal gaps have equal keys, others others; but for those that are rounded the other way.
    keys = {}
    for (gaps, _), key in zip(expected, found.tolist(), strict=True):
        keys.setdefault(gaps, set()).add(key)
    assert sum(len(same) for same in keys.values()) <= len(keys) + 1
    assert len(set(found.tolist())) >= len(keys) - 1


@pytest.mark.parametrize("sfreq", [1.0, 7.0, 12.6, 25.0, 33.3, 75.0, 1000.0, 9999.0])
def test_any_rate_and_length_is_looked_at(sfreq):
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, int(2 * sfreq), int(30 * sfreq)):
        assert peaks.keys_of(rng.standard_normal((2, n)), sfreq).dtype == np.uint64
        assert peaks.keys_of(rng.standard_normal((2, n)), sfreq, 1e5).dtype == np.uint64


@pytest.fixture(scope="module")
def long(request):
    return band_passed(request.getfixturevalue("eeg_like")(4, 400_000, 200.0, 9))  # 33 min


def test_a_part_has_the_keys_that_the_whole_has_there(long):
    """Cut where a block begins; the first and last seconds may have others."""
    whole, times = keys_and_times(long, 100.0)
    half, _ = keys_and_times(long[:, 48_000:144_000], 100.0)
    assert len(half) > 600 < len(whole)
    inside = whole[(times > 500) & (times < 1420)]
    assert len(inside) > 300
    assert np.isin(inside, half).mean() > 0.9


def test_keys_of_a_long_recording_are_some_of_all(long, monkeypatch):
    some, _ = keys_and_times(long, 100.0)
    monkeypatch.setattr(peaks, "SHORT_S", np.inf)
    every, _ = keys_and_times(long, 100.0)
    assert len(some) < len(every) / 4
    assert np.isin(some, every).mean() > 0.98


def test_channels_one_by_one_have_the_keys_of_all(long):
    extent_s = long.size / 100
    rows = [peaks.keys_of(peaks.Channel(row), 100.0, extent_s) for row in long]
    np.testing.assert_array_equal(np.concatenate(rows), peaks.keys_of(long, 100.0))
