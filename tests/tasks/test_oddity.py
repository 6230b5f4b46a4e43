import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.part import Part, PartConfig
from partsig.core.placing import Placing
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities.signal_settings import SignalPretrainConfig
from partsig.runs.models import LoadedPart, load_encoder, load_part
from partsig.runs.run import Run
from partsig.sleep.oddity import Tally, _level, oddity
from partsig.verbs.pretrain import pretrain

TINY = {
    "window_s": 5,
    "windows_per_epoch": 64,
    "encoder.width": 16,
    "encoder.depth": 2,
    "encoder.heads": 2,
    "objective.patches": 8,
    "objective.loss": "laplace",
    "optim.warmup_epochs": 1,
    "fit.epochs": 2,
    "fit.batch_size": 16,
    "split.monitor_subjects": 4,
}


@pytest.fixture(scope="module")
def run(sample_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pretrain"
    return pretrain(sample_store, folder, overrides=TINY, gpus="0")


@pytest.fixture(scope="module")
def night(sample_store, run):
    """A held-out subject's recording (C, T), µV at 100 Hz."""
    store = open_store(sample_store)
    subject = load_part(run).run.facts["subjects_held_out"][0]
    return np.array(store.signal(store.subjects[subject][0]), dtype=np.float32)


class Reads(nn.Module):
    def forward(self, patches, level=None, code=None):
        return patches.flatten(3).mean(-1), None


class Says(nn.Module):
    """The shift is the difference of two tokens, in patches."""

    def __init__(self, worth):
        super().__init__()
        self.worth = worth

    def forward(self, tokens, pairs):
        return (tokens[:, pairs[:, 1]] - tokens[:, pairs[:, 0]]) * self.worth


def clock():
    """A run whose model reads the time off a signal that rises steadily, without error."""
    encoder = EncoderConfig(width=8, depth=1, heads=1)
    model = Part(PartConfig(patches=10), Encoder(encoder, 1, (100,)), (500,), (100,))
    model.encoder = Reads()
    # A rise of one a sample has over 500 samples an SD of sqrt((500² - 1) / 12).
    model.relative = Says(math.sqrt((500**2 - 1) / 12) / 100)
    record = {"ch_names": ["clock"], "sfreq": 100.0}
    run = Run(path=Path("clock"), facts=record)
    return LoadedPart(model.eval(), run, SignalPretrainConfig())


def test_the_seconds_in_which_a_clock_is_ahead_are_the_odd_ones():
    rise = np.arange(6000, dtype=np.float32)[None]
    usual = oddity(clock(), rise, 100.0)
    assert usual.shape == (60,)
    assert np.abs(usual).max() < 1e-3  # no pair is harder than another, to rounding
    ahead = rise.copy()
    ahead[:, 3000:3300] += 800
    score = oddity(clock(), ahead, 100.0)
    # Patches on its edges are off against both sides, so they may be odder than its middle.
    assert 29 <= np.argmax(score) <= 33
    assert score[30:33].min() > np.delete(score, range(29, 34)).max()
    assert np.abs(score[:24]).max() < 0.5  # out of reach of a window


def test_a_clock_that_is_louder_for_an_hour_is_not_odd():
    """The level follows what lasts; only what is short beside a minute stands out."""
    rise = np.concatenate([np.arange(20_000), 20_000 + 5 * np.arange(20_000)]).astype(np.float32)
    score = oddity(clock(), rise[None], 100.0)
    assert 195 <= np.argmax(score) <= 204
    assert np.abs(np.delete(score, range(190, 210))).max() < 0.3


def test_the_level_is_that_of_the_minute_and_ignores_a_burst():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 12_000)).astype(np.float32) * 20
    before = _level(x, 100.0, 500)
    assert before == pytest.approx(20, rel=0.05)
    x[:, 6000:6300] *= 50
    assert _level(x, 100.0, 500) == pytest.approx(before, rel=0.05)


def test_sums_by_second_equal_loops():
    rng = np.random.default_rng(1)
    model = Part(PartConfig(patches=6, span=3), Encoder(EncoderConfig(), 1, (150,)), (700,), (150,))
    seconds, sfreq, n = 12, 100.0, 6
    tally = Tally(seconds, sfreq, model)
    pairs = []
    for start in (0, 300, 620):
        begin = start + rng.integers(0, 551, size=(2, n)).astype(float)
        positions = torch.from_numpy(begin - start + 75).unsqueeze(-1)
        values = torch.from_numpy(rng.standard_normal((2, n, n)))
        apart = (positions.unsqueeze(1) - positions.unsqueeze(2)).abs()
        near = (apart <= 300).all(-1)
        sizes = torch.full_like(positions, 150.0)
        empty = torch.zeros(2, n, n, 1)
        tally.add(begin, Placing(positions, sizes, empty, None, values, near), values)
        for b in range(2):
            for i in range(n):
                for j in range(n):
                    gap = abs(begin[b, i] - begin[b, j])
                    if i != j and gap <= 300:
                        value = (values[b, i, j] + values[b, j, i]).item() / 2
                        pairs.append((begin[b, i], int(gap / 150 * 4), value))
    by_bin = {}
    for _, k, value in pairs:
        by_bin.setdefault(k, []).append(value)
    expected = np.zeros(seconds)
    for second in range(seconds):
        total = weight = 0.0
        for begin, k, value in pairs:
            overlap = min(begin + 150, 100 * second + 100) - max(begin, 100 * second)
            if overlap > 0:
                spread = max(np.std(by_bin[k]), 1e-6)
                total += overlap * (value - np.mean(by_bin[k])) / spread
                weight += overlap
        expected[second] = total / weight
    np.testing.assert_allclose(tally.score(), expected, rtol=1e-7, atol=1e-7)


def test_a_trained_run_scores_every_second_of_a_night_alike_each_time(run, night):
    score = oddity(run, night, 100.0)
    assert score.shape == (night.shape[1] // 100,)
    assert score.dtype == np.float64
    assert np.isfinite(score).all()
    assert abs(score.mean()) < 0.1  # less the recording's own mean
    np.testing.assert_array_equal(oddity(load_part(run), night, 100.0), score)
    assert not np.array_equal(oddity(run, night, 100.0, seed=1), score)
    # More draws, less noise: seeds agree better, pair by pair on average.
    few, many = (
        np.corrcoef([oddity(run, night, 100.0, draws=d, seed=s) for s in range(1, 6)])
        for d in (1, 8)
    )
    apart = ~np.eye(5, dtype=bool)
    assert many[apart].mean() > few[apart].mean()


def test_the_score_does_not_depend_on_the_batch_or_the_gain(run, night, monkeypatch):
    score = oddity(run, night, 100.0)
    np.testing.assert_allclose(oddity(run, 3 * night, 100.0), score, rtol=0, atol=1e-3)
    whole = night[:, : 100 * (night.shape[1] // 100)]
    np.testing.assert_array_equal(np.isnan(oddity(run, whole, 100.0)), False)


def test_broken_seconds_are_nan_and_the_others_are_not(run, night):
    broken = night.copy()
    broken[1, 2050] = np.nan
    broken[0, 3000:3100] = np.inf
    assert np.flatnonzero(np.isnan(oddity(run, broken, 100.0))).tolist() == [20, 30]


def test_a_silent_night_has_no_odd_second(run):
    score = oddity(run, np.zeros((3, 3000), np.float32), 100.0)
    assert np.isfinite(score).all()


def test_load_part_gives_the_trained_weights(run):
    loaded, pretrained = load_part(run), load_encoder(run)
    encoder, record = pretrained.encoder, pretrained.run.facts
    mine, theirs = loaded.model.encoder.state_dict(), encoder.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert not loaded.model.training
    assert (loaded.ch_names, loaded.sfreq) == (record["ch_names"], 100.0)


def test_runs_and_signals_that_do_not_fit_are_refused(run, night, sample_store, tmp_path):
    with pytest.raises(DataError, match=r"\(C, T\) with the 3 channels O2-M1, E1-M2, Chin1-Chin2"):
        oddity(run, night[:2], 100.0)
    with pytest.raises(DataError, match="has 128 Hz, this run 100 Hz; resample"):
        oddity(run, night, 128.0)
    with pytest.raises(DataError, match=r"lasts 4 s; one window of this run lasts 5 s"):
        oddity(run, night[:, :400], 100.0)
    with pytest.raises(ConfigError, match="draws is 0"):
        oddity(run, night, 100.0, draws=0)
    short = {k: v for k, v in TINY.items() if not k.startswith("objective")} | {"fit.epochs": 1}
    mae = pretrain(sample_store, tmp_path / "mae", config="mae", overrides=short, gpus="0")
    with pytest.raises(CheckpointError, match="pretrained with mae, which places no patches"):
        oddity(mae, night, 100.0)
    told = pretrain(
        sample_store,
        tmp_path / "told",
        overrides=short | {"objective.positions": "sincos"},
        gpus="0",
    )
    with pytest.raises(ConfigError, match="positions=none"):
        oddity(told, night, 100.0)
