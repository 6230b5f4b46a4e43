"""Relative encoders: tokens (B, N, E) and pairs (P, 2) -> numbers per pair (B, P, O)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.normalise import widened
from partsig.core.transformer import initialise
from partsig.errors import ConfigError, check_option

IMPLEMENTATIONS = ("auto", "factorised", "gather", "naive")
# exp of sums: float32 underflows below e^-87, float64 below e^-708. A margin is kept.
SAFE_FLOAT32, SAFE_FLOAT64 = 80.0, 680.0


class CrossAttention(nn.Module):
    """PART's relative encoder (section 3.2, eq. 3): a pair's tokens query all tokens.

    The query of pair (i, j) is a linear map of [x_i, x_j]; keys and values are the N patch tokens;
    multi-head attention with biases, then a linear map to ``n_outputs``. No layer norm, residual,
    feed-forward or dropout, as in PART's code. *Differs from the paper*: ``heads`` is free (4 by
    default; 1 is as published).

    Since the query is linear in the pair and the output linear in the values, the logits are sums
    ``a[i, n] + b[j, n]`` and every value is one number per output, ``u[n]``:

        y_ij = c + sum_h  sum_n exp(a_in + b_jn) u_n  /  sum_n exp(a_in + b_jn)

    ``factorised`` computes all N² pairs by (1 + n_outputs) matrix products of exp(a) and exp(b);
    ``gather`` adds logits per pair and takes a softmax; ``naive`` is the literal definition, kept
    as the reference. ``auto`` is factorised where a bound on the logits proves that nothing
    underflows (in float64 if float32 does not suffice), else gather. All agree to rounding error.
    """

    def __init__(self, width: int, n_outputs: int, heads: int = 4, impl: str = "auto") -> None:
        super().__init__()
        check_option("impl", impl, IMPLEMENTATIONS)
        if width % heads:
            raise ConfigError(f"the width ({width}) must be a multiple of the heads ({heads}).")
        self.impl = impl
        self.query = nn.Linear(2 * width, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.output = nn.Linear(width, n_outputs)
        self.apply(initialise)  # in_proj keeps its Xavier initialisation, as published

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Return (B, P, O). Logits are never computed in less than float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = widened(tokens)
            if self.impl == "naive":
                return self._naive(tokens, pairs)
            a, b, u, c = self.terms(tokens)
            dtype = _factor_dtype(a, b) if self.impl != "gather" else None
            if dtype is None and self.impl == "factorised":
                raise ConfigError("the logits are too large to be factorised; use impl='auto'.")
            if dtype is None:
                return _gathered(a, b, u, pairs) + c
            every = _factorised(a, b, u, dtype)  # (B, N, N, O)
            return every[:, pairs[:, 0], pairs[:, 1]] + c

    def terms(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, b (B, H, N, N), u (B, H, N, O) and c (O,) of the separable form."""
        batch, n, width = tokens.shape
        heads = self.attention.num_heads
        w_query, w_key, w_value = self.attention.in_proj_weight.chunk(3)
        b_query, b_key, b_value = self.attention.in_proj_bias.chunk(3)
        w_reference, w_target = self.query.weight.chunk(2, dim=1)

        def by_head(x: Tensor) -> Tensor:
            return x.view(batch, n, heads, width // heads).transpose(1, 2)  # (B, H, N, E / H)

        scale = (width // heads) ** -0.5
        key = by_head(F.linear(tokens, w_key, b_key)).transpose(2, 3) * scale
        reference = by_head(F.linear(tokens, w_query @ w_reference))
        bias = w_query @ self.query.bias + b_query
        target = by_head(F.linear(tokens, w_query @ w_target, bias))
        # The output maps of attention and head, folded: what a value is worth in each output.
        fold = self.output.weight @ self.attention.out_proj.weight  # (O, E)
        fold = fold.view(-1, heads, width // heads).transpose(0, 1)  # (H, O, E / H)
        w_worth = fold @ w_value.view(heads, width // heads, width)  # (H, O, E)
        b_worth = fold @ b_value.view(heads, -1, 1)  # (H, O, 1)
        worth = F.linear(tokens, w_worth.flatten(0, 1), b_worth.flatten())  # (B, N, H * O)
        u = worth.view(batch, n, heads, -1).transpose(1, 2)  # (B, H, N, O)
        c = F.linear(self.attention.out_proj.bias, self.output.weight, self.output.bias)
        return reference @ key, target @ key, u, c

    def _naive(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        both = torch.cat([tokens[:, pairs[:, 0]], tokens[:, pairs[:, 1]]], dim=-1)  # (B, P, 2E)
        mixed, _ = self.attention(self.query(both), tokens, tokens, need_weights=False)
        return self.output(mixed)


class PairwiseMLP(nn.Module):
    """A pair's two tokens alone decide: the paper's ablation (section 4.3, "pairwise MLP").

    ``hidden`` 0 is the paper's: one linear layer. *Differs from the paper* when ``hidden`` is
    positive: a GELU layer of that width between, which lets the answer depend on how the two tokens
    match. The first layer is computed per token and added per pair.
    """

    def __init__(self, width: int, n_outputs: int, hidden: int = 0) -> None:
        super().__init__()
        self.reference = nn.Linear(width, hidden or n_outputs)
        self.target = nn.Linear(width, hidden or n_outputs, bias=False)
        self.output = nn.Linear(hidden, n_outputs) if hidden else None
        self.apply(initialise)
        if hidden:
            # At the transformer's small weights the products of two tokens vanish and the loss
            # stays on its plateau; unit gain leaves it at once.
            for layer in (self.reference, self.target, self.output):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Return (B, P, O)."""
        reference, target = self.reference(tokens), self.target(tokens)
        both = reference[:, pairs[:, 0]] + target[:, pairs[:, 1]]
        return both if self.output is None else self.output(F.gelu(both))


class Mlp(nn.Module):
    """All tokens at once, side by side, give all pairs: the paper's ablation (section 4.3, "MLP").

    One linear layer from N * E to N * N * O, as published; so N is fixed.
    """

    def __init__(self, width: int, n_outputs: int, n_patches: int) -> None:
        super().__init__()
        self.n_patches = n_patches
        self.output = nn.Linear(n_patches * width, n_patches**2 * n_outputs)
        initialise(self.output)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Return (B, P, O); raise ConfigError for another number of patches."""
        batch, n, _ = tokens.shape
        if n != self.n_patches:
            raise ConfigError(f"this relative encoder is for {self.n_patches} patches, got {n}.")
        every = self.output(tokens.flatten(1)).view(batch, n, n, -1)
        return every[:, pairs[:, 0], pairs[:, 1]]


def _factor_dtype(a: Tensor, b: Tensor) -> torch.dtype | None:
    """Return the least precise type in which no denominator can vanish, or None.

    The denominator of pair (i, j), after both rows are shifted to a maximum of 0, is at least
    exp(-range of a_i) and at least exp(-range of b_j): the smaller of the largest ranges bounds it.
    On an accelerator the question would make the host wait: float64 is taken unasked, which
    :func:`_factorised` keeps from vanishing.
    """
    if not a.is_cpu:
        return torch.float64
    ranges = [(x.amax(-1) - x.amin(-1)).amax() for x in (a.detach(), b.detach())]
    depth = torch.minimum(*ranges).item()
    if depth < SAFE_FLOAT32:
        return a.dtype
    return torch.float64 if depth < SAFE_FLOAT64 else None


def _factorised(a: Tensor, b: Tensor, u: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, N, N, O) for every ordered pair by matrix products.

    In float64, terms below e^-340 of their row's largest count as e^-340, so that no denominator
    vanishes whatever the logits; that shows only where both rows of a pair span more than 300.
    """
    floor = -SAFE_FLOAT64 / 2 if dtype == torch.float64 else -float("inf")
    ea, eb = (
        torch.exp((x - x.detach().amax(-1, keepdim=True)).to(dtype).clamp(min=floor))
        for x in (a, b)
    )  # (B, H, N, N) each
    eb = eb.transpose(2, 3)
    denominator = ea @ eb  # (B, H, N, N)
    outputs = [
        (((ea * weight.unsqueeze(2)) @ eb) / denominator).sum(1)  # (B, N, N)
        for weight in u.to(dtype).unbind(-1)
    ]
    return torch.stack(outputs, dim=-1).to(a.dtype)


def _gathered(a: Tensor, b: Tensor, u: Tensor, pairs: Tensor) -> Tensor:
    """Return (B, P, O) for these pairs by a softmax over their summed logits."""
    logits = a[:, :, pairs[:, 0]] + b[:, :, pairs[:, 1]]  # (B, H, P, N)
    return (logits.softmax(-1) @ u).sum(1)
