"""Tokens of epochs amid the hours around each: where they lie, what they see, and gaps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from partsig.core.encoder import Encoder
from partsig.core.objectives.settings import ClassifierConfig
from partsig.core.objectives.supervised import Classifier
from partsig.core.settings import EncoderConfig
from partsig.runs.amid import tokens_amid, window_starts

CPU = torch.device("cpu")


class MeansOfPatches(torch.nn.Module):
    """In place of an encoder: a patch's token is the mean of its samples."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def width_of(self, _pool, _blocks=0):
        return 1

    def encode(self, x, _pool, _blocks=0):
        return x.unfold(2, self.patch, self.patch).mean((1, 3)).unsqueeze(-1), None, None


def night(signal, stretches=None, unit=1):
    n = signal.shape[1] // unit
    return SimpleNamespace(
        signal=lambda _name: signal,
        stretches=lambda _name: stretches or [(0, n)],
        n_epochs={"a": n},
        n_times=unit,
    )


@pytest.mark.parametrize(("patch", "unit"), [(5, 1), (4, 1), (3, 1), (8, 2), (6, 2), (1, 1)])
@pytest.mark.parametrize("epochs", [400, 97, 21, 6])
def test_a_token_is_that_of_the_patch_about_the_epochs_middle(patch, unit, epochs):
    signal = np.random.default_rng(0).normal(size=(1, epochs * unit)).astype(np.float32)
    found = tokens_amid(MeansOfPatches(patch), 48, patch, night(signal, unit=unit), "a", CPU)
    before = (patch - unit) // 2
    inside = [e for e in range(epochs) if 0 <= e * unit - before <= epochs * unit - patch]
    for epoch in inside:
        begin = epoch * unit - before
        expected = signal[0, begin : begin + patch].mean()
        assert found[epoch, 0] == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(found).all()


def test_no_window_crosses_a_gap():
    signal = np.zeros((1, 200), np.float32)
    signal[0, 120:] = 100.0
    found = tokens_amid(MeansOfPatches(5), 60, 5, night(signal, [(0, 120), (120, 200)]), "a", CPU)
    assert (found[:120] == 0).all()
    assert (found[120:] == 100).all()


def test_an_encoder_sees_the_hours_around():
    torch.manual_seed(0)
    model = Classifier(
        ClassifierConfig(positions="none", pool="mean"),
        Encoder(EncoderConfig(width=16, depth=1, heads=2), 3, (5,)), (40,), (5,), 2,
    ).eval()  # fmt: skip
    signal = np.random.default_rng(1).normal(size=(3, 120)).astype(np.float32)
    found = tokens_amid(model, 40, 5, night(signal), "a", CPU)
    assert found.shape == (120, 16)
    other = signal.copy()
    other[:, 70] += 5  # within two hours of epoch 60, outside of its patch
    changed = np.abs(tokens_amid(model, 40, 5, night(other), "a", CPU) - found).max(1) > 1e-6
    assert changed[60]
    assert changed[70]
    assert not changed[:30].any()
    assert not changed[111:].any()


def test_windows_begin_at_every_epoch_of_a_patch():
    for n, window, patch, unit in [(300, 240, 5, 1), (244, 240, 5, 1), (600, 48, 8, 2)]:
        begins = list(window_starts(n, window, patch, unit))
        assert min(begins) >= 0
        assert max(begins) <= n - window
        assert len({begin % patch for begin in begins}) == patch // unit
