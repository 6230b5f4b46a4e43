"""Each fault is planted in a signal that has none, and found where it was planted."""

import csv
from pathlib import Path

import numpy as np
import pytest

from partsig.data.signals import quality
from partsig.data.signals.quality import CLIPPED, FLAT, GOOD, RANGE
from partsig.errors import DataError
from partsig.sleep.clipping import find_clipped
from partsig.sleep.label_fit import best_shift, separation

SFREQ = 200.0
EPOCH = 6000
N = 20
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "pydynamo"


@pytest.fixture
def clean(eeg_like) -> np.ndarray:
    """Ten minutes of noise like EEG, with 10 µV of 60 Hz, in µV."""
    return eeg_like(1, N * EPOCH + 500, SFREQ)[0].astype(np.float32)


def at(start: int, stop: int) -> slice:
    """Samples of these epochs."""
    return slice(start * EPOCH, stop * EPOCH)


def test_nothing_is_wrong_with_a_clean_signal(clean):
    found = quality.measure(clean, SFREQ, find_clipped(clean, None))
    assert found.epochs.tolist() == [GOOD] * N  # the tail of 500 samples is no epoch
    assert found.fault_share.tolist() == [0.0] * N
    assert (found.flat, found.clipped, found.factor, found.not_finite) == (0, 0, 1, 0)
    seconds = clean[: N * EPOCH].reshape(N, 30, 200).std(-1)
    assert found.amplitude_uv == pytest.approx(np.median(np.median(seconds, 1)), rel=1e-5)


def test_a_flat_stretch_is_found_to_the_epoch(clean):
    clean[at(5, 8)] = 12.0
    clean[8 * EPOCH : 8 * EPOCH + 9 * 200] = 12.0  # nine seconds make no bad epoch, ten do
    clean[9 * EPOCH : 9 * EPOCH + 10 * 200] = 12.0
    found = quality.measure(clean, SFREQ)
    assert np.flatnonzero(found.epochs).tolist() == [5, 6, 7, 9]
    assert set(found.epochs[found.epochs > 0]) == {FLAT}
    assert found.fault_share[[4, 5, 8, 9]].tolist() == pytest.approx([0, 1, 0.3, 1 / 3])
    assert found.flat == pytest.approx((3 * 30 + 9 + 10) / (N * 30))
    assert np.isnan(found.delta).sum() == 4


def test_a_channel_that_is_flat_throughout():
    found = quality.measure(np.full(3 * EPOCH, -7.0, np.float32), SFREQ)
    assert found.epochs.tolist() == [FLAT] * 3
    assert (found.flat, found.amplitude_uv, found.factor, found.line) == (1, 0, 1, {})


def test_samples_at_the_limits_are_clipped():
    signal = np.array([5, 100, 100, 99, -100, 0], np.float32)
    assert find_clipped(signal, (-100, 100))[:].tolist() == [0, 1, 1, 0, 1, 0]
    assert not find_clipped(signal, (-200, 200))[:].any()


def test_repeated_extremes_are_clipped_wherever_the_rails_are(clean):
    top = np.sort(clean)[-len(clean) // 200]  # a rail that one half per cent of the samples reach
    cut = np.minimum(clean, top).round()
    found = find_clipped(cut, None)[:]
    assert found.sum() > 100
    assert (cut[found] == cut.max()).all()
    assert not find_clipped(clean.round(), None)[:].any()


def test_four_runs_at_the_extreme_are_chance_and_five_are_not():
    for runs, clipped in ((4, 0), (5, 15)):
        signal = np.tile([0.0, 1, 2, 3, 3, 3], runs)
        signal = np.concatenate([signal, [-1.0]])
        assert find_clipped(signal, None)[:].sum() == clipped


def test_clipped_epochs_are_called_so(clean):
    clipped = np.zeros(len(clean), bool)
    clipped[at(3, 5)] = True
    found = quality.measure(clean, SFREQ, clipped)
    assert found.epochs.tolist() == [CLIPPED if e in (3, 4) else GOOD for e in range(N)]
    assert found.clipped == pytest.approx(2 * EPOCH / len(clean))


@pytest.mark.parametrize("line", [50.0, 60.0])
def test_line_noise_is_measured_in_microvolts(eeg_like, line):
    times = np.arange(N * EPOCH) / SFREQ
    without = eeg_like(1, N * EPOCH, SFREQ)[0] - 10 * np.sin(2 * np.pi * 60 * times)
    signal = (without + 8 * np.sin(2 * np.pi * line * times)).astype(np.float32)
    found = quality.measure(signal, SFREQ).line
    decibels, rms = found[line]
    assert decibels > 30
    assert rms == pytest.approx(8 / 2**0.5, rel=0.02)
    assert abs(found[110.0 - line][0]) < 3  # the other one is not there


def test_line_noise_is_not_looked_for_beyond_the_rate(eeg_like):
    for sfreq, lines in ((100.0, []), (120.0, [50.0]), (140.0, [50.0, 60.0])):
        signal = eeg_like(1, int(90 * sfreq), sfreq)[0]
        assert list(quality.measure(signal, sfreq).line) == lines


@pytest.mark.parametrize(("scale", "factor"), [(1e-6, 1e6), (1e-3, 1e3), (1e3, 1e-3), (1e6, 1e-6)])
def test_a_wrong_unit_is_told_and_delta_is_measured_all_the_same(clean, scale, factor):
    right = quality.measure(clean, SFREQ)
    found = quality.measure((clean * scale).astype(np.float32), SFREQ)
    assert found.factor == factor
    assert found.epochs.tolist() == [RANGE] * N
    assert found.amplitude_uv == pytest.approx(scale * right.amplitude_uv, rel=1e-3)
    assert found.delta == pytest.approx(right.delta, abs=1e-3)
    assert found.flat == 0
    assert found.line[60.0][1] == pytest.approx(scale * right.line[60.0][1], rel=1e-3)


def test_amplitudes_are_bounded_by_what_a_channel_is(clean):
    loud = clean * 20
    assert quality.measure(loud, SFREQ).epochs.tolist() == [RANGE] * N
    assert quality.measure(loud, SFREQ, eeg=False).epochs.tolist() == [GOOD] * N
    names = ("EMG chin", "Chin1-Chin2", "ECG", "Fpz-Cz", "EOG horizontal", "E2-M1")
    assert [quality.is_eeg(name) for name in names] == [False, False, False, True, True, True]


def test_numbers_that_are_none_are_counted_and_passed_over(clean):
    clean[100:110], clean[200] = np.nan, np.inf
    found = quality.measure(clean, SFREQ, find_clipped(clean, (-1e5, 1e5)))
    assert found.not_finite == 11
    assert np.isfinite(found.delta).all()


@pytest.mark.parametrize(("n_times", "sfreq"), [(5999, 200.0), (100_000, 10.0)])
def test_what_cannot_be_measured_is_refused(n_times, sfreq):
    with pytest.raises(DataError, match=r"are not measured; it takes 30 s at 16 Hz or more"):
        quality.measure(np.zeros(n_times, np.float32), sfreq)


def test_delta_power_is_the_bands(clean):
    """A sine of 2 Hz and 40 µV: 800 µV² over the 3.5 Hz from 0.5 to 4."""
    wave = (40 * np.sin(2 * np.pi * 2 * np.arange(EPOCH) / SFREQ)).astype(np.float32)
    assert quality.measure(wave, SFREQ).delta[0] == pytest.approx(np.log10(800 / 3.5), abs=0.01)


def test_a_real_sleeper_has_most_delta_power_in_n3():
    """84 min of one sleeper, 100 Hz. Wake is two epochs there, too few to be compared with."""
    if not (REAL / "segment_data.csv").is_file():
        pytest.skip("the real recording is not at hand (../shared/data/pydynamo)")
    signal = np.loadtxt(REAL / "segment_data.csv", dtype=np.float32)[1001:]  # epochs from 10.01 s
    with open(REAL / "segment_stages.csv", newline="") as handle:
        marks = [(float(row["Time"]), int(row["Stage"])) for row in csv.DictReader(handle)]
    codes = {5: 0, 3: 1, 2: 2, 1: 3, 4: 4}
    onsets = 10.01 + 30 * np.arange(len(signal) // 3000) + 1
    held = np.searchsorted([onset for onset, _ in marks], onsets, side="right") - 1
    stages = np.array([codes[marks[k][1]] for k in held])
    found = quality.measure(signal, 100.0, find_clipped(signal, None))
    assert found.factor == 1
    assert (found.flat, found.clipped, found.not_finite) == (0, 0, 0)
    assert not found.epochs.any()
    n3 = stages == 3
    assert separation(found.delta, n3, stages == 4) > 0.99
    assert separation(found.delta, n3, stages == 2) > 0.9
    assert separation(found.delta, n3, stages == 0) is None
    shift, moved, unmoved = best_shift(found.delta, stages, 3)
    assert abs(shift) <= 1
    assert moved - unmoved < 0.03
    shift, moved, unmoved = best_shift(found.delta, np.roll(stages, -10), 3)
    assert abs(shift - 10) <= 1
    assert moved - unmoved > 0.03
