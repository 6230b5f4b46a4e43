import importlib.util
from pathlib import Path

import pytest
import torch

from partsig.core.geometry import pairs as draw_pairs
from partsig.core.relative import CrossAttention, Mlp, PairwiseMLP, _factorised
from partsig.errors import ConfigError

ORACLE = Path(__file__).parents[1] / "oracles" / "part_oracle.py"
spec = importlib.util.spec_from_file_location("part_oracle", ORACLE)
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)


def head(heads, outputs, impl="auto", scale=1.0, width=24):
    torch.manual_seed(3)
    made = CrossAttention(width, outputs, heads, impl).double()
    with torch.no_grad():
        for parameter in made.parameters():  # biases too, and far from the flat start
            parameter.copy_(torch.randn_like(parameter) * 0.3 * scale)
    return made


def weights(made):
    attention = made.attention
    return (
        (made.query.weight, made.query.bias),
        (attention.in_proj_weight, attention.in_proj_bias),
        (attention.out_proj.weight, attention.out_proj.bias),
        (made.output.weight, made.output.bias),
    )


def gradients(made, tokens, compute):
    tokens = tokens.clone().requires_grad_()
    made.zero_grad()
    result = compute(tokens)
    (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    return [result.detach(), tokens.grad, *(p.grad.clone() for p in made.parameters())]


@pytest.mark.parametrize("impl", ["naive", "gather", "factorised", "auto"])
@pytest.mark.parametrize(("heads", "outputs"), [(1, 1), (1, 4), (4, 2), (6, 2)])
def test_every_form_equals_the_equation_forward_and_gradient(impl, heads, outputs):
    made = head(heads, outputs, impl)
    tokens = torch.randn(2, 5, 24, dtype=torch.float64)
    pairs = draw_pairs(5, 13, torch.Generator().manual_seed(0))
    expected = gradients(
        made, tokens, lambda x: oracle.cross_attention(x, pairs, weights(made), heads)
    )
    ours = gradients(made, tokens, lambda x: made(x, pairs))
    for got, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 4.0, 7.0, 12.0])
def test_auto_stays_finite_and_right_however_large_the_logits(scale):
    made = head(2, 2, "naive", scale)
    tokens = torch.randn(2, 6, 24, dtype=torch.float64)
    pairs = draw_pairs(6, 0, torch.Generator())
    expected = made(tokens, pairs).detach()
    made.impl = "auto"
    torch.testing.assert_close(made(tokens, pairs), expected, rtol=1e-9, atol=1e-9)
    single = made.float()(tokens.float(), pairs)
    assert torch.isfinite(single).all()
    torch.testing.assert_close(single.double(), expected, rtol=2e-2, atol=2e-2 * scale**2)


def test_factorised_refuses_what_it_cannot_certify():
    made = head(2, 1, "factorised", 30.0)
    with pytest.raises(ConfigError, match="too large to be factorised"):
        made(torch.randn(1, 6, 24, dtype=torch.float64), draw_pairs(6, 0, torch.Generator()))


def test_a_permutation_of_tokens_permutes_the_prediction():
    made = head(4, 2)
    tokens = torch.randn(2, 7, 24, dtype=torch.float64)
    order = torch.randperm(7)
    pairs = draw_pairs(7, 0, torch.Generator())
    torch.testing.assert_close(made(tokens[:, order], pairs), made(tokens, order[pairs]))


def test_logits_are_computed_in_float32_under_autocast():
    made = head(2, 1).float()
    tokens = torch.randn(2, 6, 24)
    pairs = draw_pairs(6, 0, torch.Generator())
    plain = made(tokens, pairs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = made(tokens, pairs)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


def test_parameter_count_is_the_published_heads():
    d = 512
    count = sum(p.numel() for p in CrossAttention(d, 1, 1).parameters())
    assert count == 2 * d * d + d + 4 * d * d + 4 * d + d + 1 == 1_575_937


@pytest.mark.parametrize("hidden", [0, 11])
def test_pairwise_mlp_equals_layers_on_the_joined_tokens(hidden):
    torch.manual_seed(0)
    made = PairwiseMLP(6, 2, hidden).double()
    tokens = torch.randn(3, 5, 6, dtype=torch.float64)
    pairs = draw_pairs(5, 9, torch.Generator().manual_seed(0))
    first = torch.cat([made.reference.weight, made.target.weight], dim=1)
    joined = torch.cat([tokens[:, pairs[:, 0]], tokens[:, pairs[:, 1]]], dim=-1)
    expected = joined @ first.T + made.reference.bias
    if hidden:
        expected = made.output(torch.nn.functional.gelu(expected))
    torch.testing.assert_close(made(tokens, pairs), expected)


@pytest.mark.parametrize("scale", [1.0, 2.0, 30.0])
def test_what_an_accelerator_computes_is_right_and_finite_without_asking(scale):
    """On a GPU float64 is taken whatever the logits; here by hand, against the exact form."""
    made = head(2, 2, "naive", scale)
    tokens = torch.randn(2, 6, 24, dtype=torch.float64)
    a, b, u, c = made.terms(tokens)
    everything = _factorised(a, b, u, torch.float64) + c
    assert torch.isfinite(everything).all()
    reach = min((x.amax(-1) - x.amin(-1)).amax().item() for x in (a, b))
    if reach < 300:
        pairs = draw_pairs(6, 0, torch.Generator())
        torch.testing.assert_close(everything.flatten(1, 2), made(tokens, pairs))
    else:
        assert scale == 30.0


def test_the_mlp_is_one_matrix_on_all_tokens():
    torch.manual_seed(0)
    head = Mlp(6, 2, 5).double()
    tokens = torch.randn(3, 5, 6, dtype=torch.float64)
    pairs = torch.tensor([[0, 1], [4, 2], [3, 3]])
    found = head(tokens, pairs)
    weight = head.output.weight.view(5, 5, 2, 5, 6)
    bias = head.output.bias.view(5, 5, 2)
    for b in range(3):
        for p, (i, j) in enumerate(pairs.tolist()):
            expected = sum(weight[i, j, :, n] @ tokens[b, n] for n in range(5)) + bias[i, j]
            torch.testing.assert_close(found[b, p], expected)
    with pytest.raises(ConfigError, match="is for 5 patches, got 4"):
        head(tokens[:, :4], pairs)
