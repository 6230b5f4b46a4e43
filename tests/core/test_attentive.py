"""An attentive probe: against loops, for any number of axes, item by item, the head alone."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenTransformer
from partsig.core.objectives.attentive import AttentiveHead, AttentiveProbe, RunningNorm
from partsig.core.objectives.frozen_classifier import FrozenClassifier
from partsig.core.objectives.settings import ClassifierConfig
from partsig.core.objectives.supervised import Classifier, LossConfig
from partsig.core.settings import EncoderConfig

ORACLE = Path(__file__).parents[1] / "oracles" / "attentive_oracle.py"
spec = importlib.util.spec_from_file_location("attentive_oracle", ORACLE)
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

SHAPE = EncoderConfig(width=16, depth=2, heads=2, drop_path=0.0)
WINDOWS = {1: ((40,), (8,)), 2: ((12, 16), (4, 4)), 3: ((8, 8, 8), (4, 4, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)


def head(width=12, heads=3, classes=4):
    torch.manual_seed(0)
    made = AttentiveHead(width, classes).double()
    made.heads = heads
    for parameter in made.parameters():  # away from where norms and biases begin
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def arrays(module):
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def tokens(b=5, n=7, width=12, seed=3):
    return torch.randn(b, n, width, generator=torch.Generator().manual_seed(seed)).double()


def test_it_is_its_equation_in_training_and_in_use():
    made, x = head(), tokens()
    expected = oracle.logits_of_batch(x.numpy(), arrays(made), made.heads)
    np.testing.assert_allclose(made.train()(x).detach(), expected, atol=1e-12)
    for seed in range(4, 30):  # what is seen in training is remembered
        made(tokens(seed=seed))
    expected = oracle.logits_of_items(x.numpy(), arrays(made), made.heads)
    np.testing.assert_allclose(made.eval()(x).detach(), expected, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    made = head(width=4, heads=2, classes=2).train()
    x = tokens(3, 2, 4).requires_grad_()
    assert gradcheck(lambda given: made(given).square().sum(), x, atol=1e-5)


def test_an_item_is_told_the_same_whatever_else_is_asked_with_it():
    made = head().train()
    for seed in range(20):
        made(tokens(seed=seed))
    x = tokens(b=6)
    whole = made.eval()(x)
    for i in range(6):
        torch.testing.assert_close(made(x[i : i + 1])[0], whole[i])
    # The published way, statistics of the batch in the test as well, does not have that.
    batchwise = oracle.logits_of_batch(x.numpy(), arrays(made), made.heads)
    fewer = oracle.logits_of_batch(x[:3].numpy(), arrays(made), made.heads)
    assert np.abs(batchwise[:3] - fewer).max() > 0.1


def test_nothing_is_left_of_where_statistics_began():
    """Of one batch they are its own; then each weighs as much, and from the tenth on a tenth."""
    norm, batches = (
        RunningNorm(3).double(),
        [3 + 0.01 * tokens(8, 1, 3, i)[:, 0] for i in range(14)],
    )
    mean, variance = np.zeros(3), np.zeros(3)
    for number, x in enumerate(batches, start=1):
        norm(x)
        share = max(1 / number, 0.1)
        mean = (1 - share) * mean + share * x.numpy().mean(0)
        variance = (1 - share) * variance + share * x.numpy().var(0, ddof=1)
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(norm.running_var, variance, rtol=1e-9)
    # torch's own, which begins at variance 1, is still far off.
    theirs = torch.nn.BatchNorm1d(3, affine=False).double()
    for x in batches:
        theirs(x)
    assert (theirs.running_var > 100 * norm.running_var).all()


def test_a_batch_of_one_can_be_learned_from():
    made = head().train()
    seen = made.norm.running_mean.clone()
    made(tokens(b=1)).sum().backward()
    assert made.query.grad.abs().sum() > 0
    torch.testing.assert_close(made.norm.running_mean, seen)


def probes(rank):
    """Return an attentive probe on an encoder of ours, and on one that is used as it is."""
    window, patch = WINDOWS[rank]
    torch.manual_seed(1)
    encoder = Encoder(SHAPE, 3, patch)
    ours = Classifier(ClassifierConfig(positions="none"), encoder, window, patch, n_classes=2)
    as_it_is = FrozenClassifier(FrozenTransformer(encoder, 3, patch), "cls", 2)
    for net in (ours, as_it_is):
        yield AttentiveProbe(net, 5, LossConfig())


@ranks
def test_windows_of_any_number_of_axes_and_the_head_alone_learns(rank):
    window, patch = WINDOWS[rank]
    n = int(np.prod([w // p for w, p in zip(window, patch, strict=True)]))
    x = torch.randn(6, 3, *window, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(6) % 5
    features = []
    for probe in probes(rank):
        before = {name: value.clone() for name, value in probe.state_dict().items()}
        probe.train()
        assert not probe.net.training
        found = probe.features(x)
        assert found.shape == (6, n + 1, 16)  # and [CLS]
        features.append(found)
        probe(x, labels)["loss"].backward()
        learned = {name for name, p in probe.named_parameters() if p.grad is not None}
        assert learned == {name for name in before if name.startswith("head.")} - {
            "head.norm.running_mean", "head.norm.running_var", "head.norm.seen",
        }  # fmt: skip
        for name, value in probe.net.state_dict().items():
            torch.testing.assert_close(value, before[f"net.{name}"], rtol=0, atol=0)
        probe.eval()
        torch.testing.assert_close(probe.logits(x), probe.from_features(found))
    torch.testing.assert_close(*features)  # one encoder, whoever has it


@ranks
def test_the_order_of_the_tokens_does_not_matter(rank):
    probe = next(iter(probes(rank))).eval()
    x = torch.randn(2, 3, *WINDOWS[rank][0], generator=torch.Generator().manual_seed(2))
    found = probe.features(x)
    order = torch.randperm(found.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(probe.from_features(found), probe.from_features(found[:, order]))


def test_a_signal_is_an_image_of_height_one():
    """Nothing in it counts axes: the same numbers along one axis or two give the same logits."""
    torch.manual_seed(1)
    flat = Encoder(SHAPE, 3, (8,))
    tall = Encoder(SHAPE, 3, (1, 8))
    tall.load_state_dict(flat.state_dict())
    x = torch.randn(4, 3, 40, generator=torch.Generator().manual_seed(2))
    nets = [FrozenClassifier(FrozenTransformer(flat, 3, (8,)), "cls", 2)]
    nets += [FrozenClassifier(FrozenTransformer(tall, 3, (1, 8)), "cls", 2)]
    one, other = (AttentiveProbe(net, 5, LossConfig()).eval() for net in nets)
    other.head.load_state_dict(one.head.state_dict())
    torch.testing.assert_close(one.logits(x), other.logits(x.unsqueeze(2)))
