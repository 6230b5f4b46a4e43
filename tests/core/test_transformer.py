"""The transformer against PyTorch's own, and its shortcut for one token."""

import pytest
import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.transformer import FEW, Attention, Transformer


def test_attention_equals_torchs():
    torch.manual_seed(0)
    ours = Attention(16, 4).double()
    judge = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    with torch.no_grad():
        judge.in_proj_weight.copy_(ours.qkv.weight)
        judge.in_proj_bias.copy_(ours.qkv.bias)
        judge.out_proj.weight.copy_(ours.out.weight)
        judge.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), judge(x, x, x, need_weights=False)[0])
    torch.testing.assert_close(ours(x, queries=2), ours(x)[:, -2:])
    keys = torch.tensor([[0, 3, 5]] * 3)
    torch.testing.assert_close(ours(x, keys, queries=1), ours(x, keys)[:, -1:])


def test_the_last_tokens_alone_are_what_they_are_among_all_with_their_gradient():
    torch.manual_seed(0)
    net = Transformer(3, 16, 4).double()
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    grads = []
    for queries in (None, 1):
        net.zero_grad()
        found = net(x, queries=queries)[:, -1]
        found.square().sum().backward()
        grads.append([found.detach(), *(p.grad.clone() for p in net.parameters())])
    for whole, short in zip(*grads, strict=True):
        torch.testing.assert_close(whole, short)


@pytest.mark.parametrize("n", [FEW - 1, FEW + 1])
def test_in_bfloat16_attention_is_that_of_float32_but_for_rounding(n):
    torch.manual_seed(0)
    attention, tokens = Attention(64, 2), torch.randn(2, n, 64)
    found = []
    for rounded in (False, True):
        asked = tokens.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            mixed = attention(asked)
        mixed.float().square().sum().backward()
        found.append((mixed.detach().float(), asked.grad))
    for exact, near in zip(*found, strict=True):
        assert (near - exact).abs().max() < 0.03 * exact.abs().max()


def test_the_sums_of_the_blocks_are_float32_under_autocast():
    """With and without a position code, so that objectives compute alike."""
    encoder = Encoder(EncoderConfig(width=16, depth=2, heads=2), 2, (8,))
    seen = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _block, _given, found: seen.append(found.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        for code in (None, torch.zeros(5, 16)):
            encoder(torch.randn(3, 5, 2, 8), None, code)
    assert seen == [torch.float32] * 4


@pytest.mark.parametrize("patch", [(8,), (4, 4)])
def test_cls_alone_equals_cls_beside_the_patches(patch):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=16, depth=2, heads=2), 3, patch).double().eval()
    x = torch.randn(2, 5, 3, *patch, dtype=torch.float64)
    tokens, cls = encoder(x)
    none, alone = encoder(x, cls_only=True)
    assert tokens.shape == (2, 5, 16)
    assert none.shape == (2, 0, 16)
    torch.testing.assert_close(alone, cls)
