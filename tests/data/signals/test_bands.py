import mne
import numpy as np

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
