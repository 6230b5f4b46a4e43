"""Band powers: the classical features that any learned representation has to beat."""

from collections.abc import Sequence

import numpy as np
import scipy  # its parts are loaded where they are used

# Hz. Delta, theta, alpha, sigma and beta as the AASM manual has them, halved where they are wide.
BANDS_HZ = (
    (0.5, 2.0),
    (2.0, 4.0),
    (4.0, 6.0),
    (6.0, 8.0),
    (8.0, 10.0),
    (10.0, 12.0),
    (12.0, 14.0),
    (14.0, 16.0),
    (16.0, 20.0),
    (20.0, 25.0),
    (25.0, 30.0),
)
SEGMENT_S = 4.0
# µV²/Hz, below what an amplifier resolves: keeps the logarithm of a flat channel finite.
FLOOR = 1e-4


def band_powers(windows: np.ndarray, sfreq: float) -> np.ndarray:
    """Return log10 power densities (n, C * bands) of windows (n, C, T) in µV, in log10 µV²/Hz.

    Welch's method, 4-s Hann segments (or the window, where that is shorter) with half overlap,
    averaged over each band; bands beyond half the rate, or too narrow for the window, are left out.

    >>> wave = 20 * np.sin(2 * np.pi * 11 * np.arange(3000) / 100)
    >>> BANDS_HZ[band_powers(wave.reshape(1, 1, -1), 100.0).argmax()]
    (10.0, 12.0)
    """
    windows = np.asarray(windows, dtype=np.float64)
    length = min(round(SEGMENT_S * sfreq), windows.shape[-1])
    frequency, density = scipy.signal.welch(windows, sfreq, nperseg=length, axis=-1)
    inside = [
        (frequency >= low) & (frequency < high) for low, high in BANDS_HZ if high <= sfreq / 2
    ]
    bands = [density[..., chosen].mean(-1) for chosen in inside if chosen.any()]
    power = np.log10(np.stack(bands, axis=-1) + FLOOR)  # (n, C, bands)
    return power.reshape(len(windows), -1)


def window_features(windows: np.ndarray, sfreq: float) -> np.ndarray:
    """Return what is known of windows (n, C, T) without learning: (n, F).

    Their :func:`band_powers`; or, at a rate (Hz) that holds none of the bands, as where samples are
    features of an epoch, the samples themselves.

    >>> window_features(np.ones((2, 3, 1)), 1 / 30).shape
    (2, 3)
    """
    if BANDS_HZ[0][1] > sfreq / 2:
        return np.asarray(windows, np.float64).reshape(len(windows), -1)
    return band_powers(windows, sfreq)


def feature_names(ch_names: Sequence[str], n_times: int, sfreq: float) -> tuple[str, ...]:
    """Return what :func:`band_powers` of windows (n, C, n_times) are of; none where there is none.

    >>> feature_names(["C4-M1"], 3000, 100.0)[0], len(feature_names(["C4-M1"], 3000, 100.0))
    ('C4-M1 0.5-2 Hz', 11)
    """
    length = min(round(SEGMENT_S * sfreq), n_times)
    frequency = np.fft.rfftfreq(max(length, 1), 1 / sfreq)
    there = [
        f"{low:g}-{high:g} Hz"
        for low, high in BANDS_HZ
        if high <= sfreq / 2 and ((frequency >= low) & (frequency < high)).any()
    ]
    return tuple(f"{channel} {band}" for channel in ch_names for band in there)


# Hz: delta, theta, alpha, sigma and beta, whole, for stretches that are too short for halves.
WHOLE_BANDS_HZ = ((0.5, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 16.0), (16.0, 30.0))
# How long the stretch about a token is whose spectrum is taken.
ABOUT_S = 1.0


def token_powers(signal: np.ndarray, sfreq: float, token_s: float) -> np.ndarray:
    """Return log10 powers (…, 5, N) of tokens of ``token_s`` seconds of signals (…, T) in µV.

    In log10 µV²/Hz, of a Hann window of a second about the middle of each token (or of the token,
    where that is longer); a signal goes on beyond its ends as it ends. What is left at the end is
    no token. Raises ValueError for a rate that does not reach all bands.

    >>> wave = 20 * np.sin(2 * np.pi * 14 * np.arange(1000) / 100)
    >>> token_powers(wave, 100.0, 0.1).argmax(0)[[10, 50, 90]].tolist()
    [3, 3, 3]
    """
    if sfreq < 2 * WHOLE_BANDS_HZ[-1][1]:
        raise ValueError(f"{sfreq:g} Hz is too slow for bands up to {WHOLE_BANDS_HZ[-1][1]:g} Hz.")
    signal = np.asarray(signal, np.float64)
    n = int(signal.shape[-1] / (token_s * sfreq) + 1e-9)
    length = round(max(ABOUT_S, token_s) * sfreq)
    middle = (np.arange(n) + 0.5) * token_s * sfreq
    index = np.round(middle - length / 2).astype(np.int64)[:, None] + np.arange(length)
    pieces = signal[..., np.clip(index, 0, signal.shape[-1] - 1)]  # (…, N, length)
    frequency, density = scipy.signal.periodogram(pieces, sfreq, "hann", detrend="constant")
    inside = [(frequency >= low) & (frequency < high) for low, high in WHOLE_BANDS_HZ]
    bands = [density[..., chosen].mean(-1) for chosen in inside]
    return np.log10(np.stack(bands, axis=-2) + FLOOR)
