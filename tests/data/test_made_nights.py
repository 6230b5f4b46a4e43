"""Made nights that ship: real hypnograms, excerpts of the right stage, pools that are apart."""

import numpy as np
from scipy.signal import resample_poly

from partsig.data.sample import CHANNELS, EPOCHS_PER_EXCERPT, read_excerpts
from partsig.data.sample.nights import N_STAGES, OWN, SFREQ, hypnograms, write_nights

NAMES = ("made-01", "made-02")


def test_hypnograms_are_of_whole_nights():
    every = hypnograms()
    assert len(every) == 24
    for stages in every.values():
        assert 850 <= len(stages) <= 1000
        counts = np.bincount(stages, minlength=6)
        assert (counts[:N_STAGES] >= 0.03 * len(stages)).all()
        assert (stages[np.argmax(stages < N_STAGES) :] < N_STAGES).all()
        assert 5 < (np.diff(stages) != 0).sum() < 300  # stages last


def test_every_epoch_is_an_excerpt_of_its_stage_and_pools_are_apart(tmp_path):
    excerpts, sfreq, _, stages = read_excerpts()
    raw = [np.fromfile(path.with_suffix(".mat"), "<i2", offset=24).reshape(-1, len(CHANNELS))
           for path in write_nights(tmp_path, NAMES, {"made-02"})]  # fmt: skip
    slower = resample_poly(excerpts.astype(np.float32), SFREQ, round(sfreq), axis=1)
    halves = slower.reshape(-1, 30 * SFREQ, len(CHANNELS))  # each stage of two
    stage_of = np.repeat(stages, EPOCHS_PER_EXCERPT)
    first = halves[:, : 5 * SFREQ].transpose(0, 2, 1).reshape(len(halves), -1)
    used = []
    for name, night in zip(NAMES, raw, strict=True):
        hypnogram = hypnograms()[name]
        cut = night.reshape(len(hypnogram), -1, len(CHANNELS))[:, : 5 * SFREQ]
        mine, own = cut.transpose(0, 2, 1).reshape(len(cut), -1).astype(float), set()
        for epoch in range(0, len(hypnogram), 113):
            # A channel's gain is the night's own: channels are compared one by one.
            likeness = np.mean(
                [
                    np.corrcoef(np.vstack([m, f]))[0, 1:]
                    for m, f in zip(
                        np.split(mine[epoch], len(CHANNELS)),
                        np.split(first, len(CHANNELS), axis=1),
                        strict=True,
                    )
                ],
                axis=0,
            )
            found = int(np.nanargmax(likeness))
            assert likeness[found] > 0.9  # the chin's few µV are rounded
            if hypnogram[epoch] < N_STAGES:
                assert stage_of[found] == hypnogram[epoch]
            own.add(found // EPOCHS_PER_EXCERPT)
        assert len(own) <= OWN * N_STAGES
        used.append(own)
    assert not used[0] & used[1]


def test_nights_are_the_same_however_many_are_written(tmp_path):
    both = write_nights(tmp_path / "a", NAMES, set())
    (one,) = write_nights(tmp_path / "b", NAMES[1:], set())
    assert one.with_suffix(".mat").read_bytes() == both[1].with_suffix(".mat").read_bytes()
