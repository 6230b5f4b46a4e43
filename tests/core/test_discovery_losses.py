"""Every loss of part discovery against loops from its equation, forward and backward."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from partsig.core.objectives import discovery_losses as losses

spec = importlib.util.spec_from_file_location(
    "discovery_oracle", Path(__file__).parents[1] / "oracles" / "discovery_oracle.py"
)
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

B, K, U, C = 3, 4, 7, 5


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LOGITS, OTHER = drawn(B, K, U, seed=1), drawn(B, K, U, seed=2)
FEATURES, GROUND = (
    drawn(B, C, U, seed=3),
    torch.rand(B, U, generator=torch.Generator().manual_seed(4), dtype=torch.float64),
)
BASIS, PLACES = drawn(K, C, seed=5), drawn(U, 2, seed=6)
PARTNER = torch.tensor([1, 2, 0])


def weights_of(logits):
    return logits.softmax(1) * GROUND.unsqueeze(1)


def unit_of(logits, module=losses):
    make = module.descriptors if module is losses else module.means
    return F.normalize(make(FEATURES, weights_of(logits)), dim=2)


def ours_scatter(logits):
    weights = weights_of(logits)
    return losses.scatter(FEATURES, weights, losses.descriptors(FEATURES, weights))


CASES = {
    "feature": (ours_scatter, lambda x: oracle.scatter(FEATURES, weights_of(x))),
    "contrast": (
        lambda x: losses.contrast(unit_of(x), unit_of(x)[PARTNER], unit_of(x), 0.19),
        lambda x: oracle.contrast(
            unit_of(x, oracle), unit_of(x, oracle)[PARTNER], unit_of(x, oracle), 0.19
        ),
    ),
    "target": (
        lambda x: losses.divergence(x, OTHER, GROUND),
        lambda x: oracle.divergence(x, OTHER, GROUND),
    ),
    "made": (
        lambda x: losses.divergence(OTHER, x, GROUND),
        lambda x: oracle.divergence(OTHER, x, GROUND),
    ),
    "concentration": (
        lambda x: losses.concentration(weights_of(x), PLACES),
        lambda x: oracle.concentration(weights_of(x), PLACES),
    ),
    "semantic": (
        lambda x: losses.reconstruction(FEATURES, x.softmax(1), BASIS, GROUND),
        lambda x: oracle.reconstruction(FEATURES, x.softmax(1), BASIS, GROUND),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_equation(name):
    ours, theirs = CASES[name]
    mine, other = (LOGITS.clone().requires_grad_() for _ in range(2))
    value, expected = ours(mine), theirs(other)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.sum().backward()
    expected.sum().backward()
    assert other.grad.abs().max() > 1e-3
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)
    assert torch.autograd.gradcheck(ours, (LOGITS.clone().requires_grad_(),))


def test_the_basis_of_scops_has_the_gradient_of_its_equations():
    for ours, theirs in (
        (losses.likeness_of_parts, oracle.likeness),
        (
            lambda w: losses.reconstruction(FEATURES, LOGITS.softmax(1), w, GROUND).sum(),
            lambda w: oracle.reconstruction(FEATURES, LOGITS.softmax(1), w, GROUND).sum(),
        ),
    ):
        mine, other = (BASIS.clone().requires_grad_() for _ in range(2))
        value, expected = ours(mine), theirs(other)
        torch.testing.assert_close(value, expected)
        value.backward()
        expected.backward()
        torch.testing.assert_close(mine.grad, other.grad)


def test_one_part_for_everything_gives_the_known_values():
    """All places one part: L_f is the foreground's variance, and nothing tells parts apart."""
    sure = torch.zeros(B, K, U, dtype=torch.float64)
    sure[:, 0] = 1e3
    weights = sure.softmax(1) * GROUND.unsqueeze(1)
    share = GROUND / GROUND.sum(1, keepdim=True)
    middle = (FEATURES * share.unsqueeze(1)).sum(2, keepdim=True)
    variance = ((FEATURES - middle).square().sum(1) * share).sum(1)
    means = losses.descriptors(FEATURES, weights)
    torch.testing.assert_close(losses.scatter(FEATURES, weights, means), variance)
    assert means[:, 1:].abs().max() == 0
    # Where parts are the same everywhere, their descriptors are, too: each of N (K - 1) others is
    # as near as the positive.
    even = torch.ones(B, K, U, dtype=torch.float64).softmax(1) * GROUND.unsqueeze(1)
    same = F.normalize(
        losses.descriptors(FEATURES[:1].expand(B, -1, -1), even[:1].expand(B, -1, -1)), dim=2
    )
    expected = torch.tensor(1.0 + B * (K - 1), dtype=torch.float64).log()
    torch.testing.assert_close(losses.contrast(same, same[PARTNER], same, 0.19), expected)
    assert losses.divergence(sure, sure, GROUND).abs().max() == 0


def test_the_order_of_parts_does_not_matter():
    order = torch.tensor([2, 0, 3, 1])
    for ours, _ in CASES.values():
        value = ours(LOGITS)
        if ours is CASES["semantic"][0]:
            other = losses.reconstruction(
                FEATURES, LOGITS[:, order].softmax(1), BASIS[order], GROUND
            )
        elif ours is CASES["target"][0]:
            other = losses.divergence(LOGITS[:, order], OTHER[:, order], GROUND)
        elif ours is CASES["made"][0]:
            other = losses.divergence(OTHER[:, order], LOGITS[:, order], GROUND)
        else:
            other = ours(LOGITS[:, order])
        torch.testing.assert_close(other, value)
    torch.testing.assert_close(
        losses.likeness_of_parts(BASIS[order]), losses.likeness_of_parts(BASIS)
    )
