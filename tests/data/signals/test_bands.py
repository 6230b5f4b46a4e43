import mne
import numpy as np
import pytest
import scipy

from partsig.data.signals import bands
from partsig.data.signals.bands import BANDS_HZ, band_powers


def test_band_powers_are_mnes(eeg_like):
    x = eeg_like(3, 6000, 100.0).reshape(3, 2, 3000).transpose(1, 0, 2)
    found = band_powers(x, 100.0).reshape(2, 3, len(BANDS_HZ))
    density, frequency = mne.time_frequency.psd_array_welch(
        x, 100.0, n_fft=400, n_per_seg=400, n_overlap=200, window="hann", verbose="error"
    )
    for number, (low, high) in enumerate(BANDS_HZ):
        inside = (frequency >= low) & (frequency < high)
        expected = np.log10(density[..., inside].mean(-1) + 1e-4)
        np.testing.assert_allclose(found[..., number], expected, rtol=1e-6, atol=1e-8)


def test_a_flat_channel_is_finite_and_bands_beyond_the_rate_are_left_out():
    flat = band_powers(np.zeros((1, 2, 3000)), 100.0)
    assert (flat == -4).all()
    assert band_powers(np.zeros((1, 1, 1500)), 50.0).shape == (1, sum(h <= 25 for _, h in BANDS_HZ))


def test_powers_of_tokens_are_those_of_a_window_about_each():
    rng = np.random.default_rng(3)
    signal = 20 * rng.normal(size=(2, 3, 1234))
    found = bands.token_powers(signal, 100.0, 0.1)
    assert found.shape == (2, 3, 5, 123)
    for token in (20, 77):
        middle = round((token + 0.5) * 10)
        piece = signal[1, 2, middle - 50 : middle + 50]
        frequency, density = scipy.signal.welch(piece, 100.0, nperseg=100)
        for k, (low, high) in enumerate(bands.WHOLE_BANDS_HZ):
            inside = (frequency >= low) & (frequency < high)
            expected = np.log10(density[inside].mean() + bands.FLOOR)
            assert found[1, 2, k, token] == pytest.approx(expected)
    assert bands.token_powers(signal, 100.0, 2.0).shape == (2, 3, 5, 6)
    with pytest.raises(ValueError, match="50 Hz is too slow for bands up to 30 Hz"):
        bands.token_powers(signal, 50.0, 0.1)
