"""A plain pre-norm transformer over tokens (B, N, E). It knows no positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 128  # keys


def initialise(module: nn.Module) -> None:
    """Give a linear layer truncated normal weights (SD 0.02) and zero bias; leave others alone."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Attention(nn.Module):
    """Multi-head attention with biases (Vaswani et al. 2017, section 3.2.2).

    All tokens are queries, or the last ``queries`` of them; where ``keys`` (B, K) is given, only
    those tokens are attended to. With ``own`` the last token attends to all, every other one to
    itself alone.
    """

    def __init__(self, width: int, heads: int, own: bool = False) -> None:
        super().__init__()
        self.heads, self.own = heads, own
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, keys: Tensor | None = None, queries: int | None = None
    ) -> Tensor:
        batch, n, width = tokens.shape
        each = (self.heads, width // self.heads)
        if queries is None:
            queries = n
            qkv = self.qkv(tokens).view(batch, n, 3, *each)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, E / heads)
        else:
            weights, biases = (p.tensor_split((width,)) for p in self.qkv.parameters())
            query = F.linear(tokens[:, -queries:], weights[0], biases[0])
            query = query.view(batch, queries, *each).transpose(1, 2)  # (B, heads, Q, E / heads)
            both = F.linear(tokens, weights[1], biases[1]).view(batch, n, 2, *each)
            key, value = both.permute(2, 0, 3, 1, 4)
        own = value[:, :, n - queries : -1]
        if keys is not None:
            chosen = keys[:, None, :, None].expand(-1, self.heads, -1, width // self.heads)
            key, value = key.gather(2, chosen), value.gather(2, chosen)  # (B, heads, K, E / heads)
        if self.own:  # a softmax over one is 1: its own value
            last = _attended(query[:, :, -1:], key, value)
            mixed = torch.cat([own, last], dim=2)
        else:
            mixed = _attended(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, queries, width))


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(Q Kᵀ / √D) V of each head, (B, heads, Q, D).

    Written out for few tokens in bfloat16 on a CPU, where it is twice (forward) and four times
    (backward) as fast as the fused kernel, and the matrix of weights is small. Scores are rounded
    to bfloat16, which the kernel's are not: errors are twice as large, and of sharp attention ten
    times (logits of SD 25: .03 against .003).
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and key.shape[2] <= FEW:
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        return weights.softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a residual path."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, drop_path: float, own: bool = False
    ) -> None:
        super().__init__()
        hidden = round(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, own)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop_path = drop_path

    def forward(
        self, tokens: Tensor, keys: Tensor | None = None, queries: int | None = None
    ) -> Tensor:
        asked = tokens if queries is None else tokens[:, -queries:]
        tokens = asked + self._dropped(self.attention(self.norm1(tokens), keys, queries))
        return tokens + self._dropped(self.mlp(self.norm2(tokens)))

    def _dropped(self, branch: Tensor) -> Tensor:
        """Drop the branch of whole samples in training (stochastic depth, Huang et al. 2016)."""
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        kept = torch.rand(len(branch), 1, 1, device=branch.device) < keep
        return branch * kept.to(branch.dtype) / keep


class Transformer(nn.Sequential):
    """``depth`` blocks whose drop-path rate rises linearly from 0 to ``drop_path``.

    With ``own`` tokens see themselves alone, all but the last, which sees all.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        own: bool = False,
    ) -> None:
        rates = torch.linspace(0.0, drop_path, depth, device="cpu").tolist()
        super().__init__(*(Block(width, heads, mlp_ratio, rate, own) for rate in rates))

    def forward(
        self,
        tokens: Tensor,
        keys: Tensor | None = None,
        queries: int | None = None,
        blocks: int = 0,
    ) -> Tensor:
        """Return all tokens, or the last ``queries`` of them at less cost: the last block's.

        ``blocks``: through the first so many blocks only; 0 is all.
        """
        *first, last = list(self)[: blocks or None]
        for block in first:
            tokens = block(tokens, keys)
        return last(tokens, keys, queries)
