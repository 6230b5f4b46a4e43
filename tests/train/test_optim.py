import math

import pytest
import torch
from torch import nn

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.errors import ConfigError
from partsig.train.optim import OptimConfig, learning_rate, make_optimizer


def test_rate_follows_warmup_cosine_and_batch():
    config = OptimConfig(lr=5e-4, warmup_lr=1e-6, min_lr=1e-5, warmup_epochs=20)
    rate = [learning_rate(s, 10, 100, 512, config) for s in range(1001)]
    assert rate[0] == 1e-6
    assert rate[100] == pytest.approx((1e-6 + 5e-4) / 2)
    assert max(rate) == rate[200] == 5e-4
    assert rate[600] == pytest.approx(1e-5 + (5e-4 - 1e-5) * (1 + math.cos(math.pi / 2)) / 2)
    assert rate[1000] == pytest.approx(1e-5)
    assert learning_rate(300, 10, 100, 2048, config) == pytest.approx(4 * rate[300])


def test_vectors_are_not_decayed():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = make_optimizer(model, OptimConfig(weight_decay=0.5))
    decayed, spared = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert decayed["weight_decay"] == 0.5
    assert [p.ndim for p in spared["params"]] == [1, 1, 1]
    assert spared["weight_decay"] == 0.0


def test_position_codes_are_not_decayed():
    """As in PART's code; the codes are a matrix here."""
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2), 1, (4,))
    model = Classifier(ClassifierConfig(), encoder, (16,), (4,), 3)
    decayed, spared = make_optimizer(model, OptimConfig(weight_decay=0.5)).param_groups
    named = {id(p): name for name, p in model.named_parameters()}
    assert model.positions.ndim == 2
    assert {named[id(p)] for p in spared["params"] if p.ndim > 1} == {"positions"}
    assert all(named[id(p)].endswith("weight") for p in decayed["params"])


def test_a_step_is_adamws():
    weight = torch.tensor([[1.0, -2.0]])
    ours, theirs = nn.Linear(2, 1, bias=False), weight.clone()
    ours.weight.data.copy_(weight)
    config = OptimConfig(lr=0.1, weight_decay=0.05)
    optimizer = make_optimizer(ours, config)
    first = second = torch.zeros(1, 2)
    for step in range(1, 4):
        x = torch.tensor([[1.0, float(step)]])
        optimizer.zero_grad()
        ours(x).square().sum().backward()
        optimizer.step()
        gradient = 2 * (x @ theirs.T) * x
        theirs = theirs * (1 - 0.1 * 0.05)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        hat = first / (1 - 0.9**step), second / (1 - 0.999**step)
        theirs = theirs - 0.1 * hat[0] / (hat[1].sqrt() + 1e-8)
    torch.testing.assert_close(ours.weight.data, theirs)


def test_a_floor_above_the_peak_is_refused():
    with pytest.raises(ConfigError, match=r"min_lr .* is above"):
        OptimConfig(lr=1e-4, min_lr=1e-3)
