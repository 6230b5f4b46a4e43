"""Networks that label each of a row of items from those around it, whatever the items are.

All take features (B, N, F) and which of the N are there, (B, N) bool, a row's first ones, and
return logits (B, N, K). What is not there changes nothing of what is; None: all are.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from partsig.core.transformer import initialise

# Distances are told apart one by one up to EXACT, then in steps that grow as the logarithm does, up
# to FAR; so a row may be of any length (Raffel et al. 2020, JMLR 21:140, section 2.1).
EXACT, FAR, N_BUCKETS = 8, 512, 32


class RecurrentContext(nn.Module):
    """A bidirectional GRU (Cho et al. 2014) on projected features, and a linear head."""

    def __init__(
        self, n_features: int, width: int, layers: int, dropout: float, n_classes: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(n_features, width)
        self.dropout = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(
            width, width, layers, batch_first=True, dropout=between, bidirectional=True
        )
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        tokens = self.dropout(F.gelu(self.embed(x)))
        n = x.shape[1]
        if present is None or bool(present.all()):
            mixed, _ = self.gru(tokens)
        else:  # each row backwards from its own end
            lengths = present.sum(1).cpu()
            packed = pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)
            mixed, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=n)
        return self.head(self.dropout(mixed))


class AttentionContext(nn.Module):
    """A pre-norm transformer that knows how far items are apart, and nothing of where they are.

    Each layer has a learned bias for every distance and head, as T5 has (Raffel et al. 2020).
    *Differs from T5*: biases of each layer are its own, and layer norms have a mean and a bias.
    """

    def __init__(
        self,
        n_features: int,
        width: int,
        layers: int,
        dropout: float,
        n_classes: int,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(n_features, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)
        self.apply(initialise)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        tokens = self.dropout(self.embed(x))
        apart = buckets(x.shape[1], x.device)
        hidden = torch.zeros(x.shape[:2], device=x.device)
        if present is not None:
            hidden = hidden.masked_fill(~present, -math.inf)
        for block in self.blocks:
            tokens = block(tokens, apart, hidden)
        return self.head(self.norm(tokens))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Embedding(N_BUCKETS, heads)
        nn.init.zeros_(self.bias.weight)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, apart: Tensor, hidden: Tensor) -> Tensor:
        batch, n, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, n, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, E / heads)
        bias = self.bias(apart).permute(2, 0, 1) + hidden[:, None, None]  # (B, heads, N, N)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        mixed = torch.cat(mixed.unbind(1), dim=-1)  # (B, N, E); ONNX has no such view
        tokens = tokens + self.dropout(self.out(mixed))
        return tokens + self.dropout(self.mlp(self.norm2(tokens)))


def buckets(n: int, device: torch.device | None = None) -> Tensor:
    """Return the number (N, N) of the distance from each of n items (row) to each (column).

    Half of the numbers are for items before, half for items after.

    >>> buckets(3).tolist()
    [[0, 17, 18], [1, 0, 17], [2, 1, 0]]
    >>> buckets(2000)[0, [7, 8, 100, 1000]].tolist(), buckets(2000)[1000, 0].item()
    ([23, 24, 28, 31], 15)
    """
    at = torch.arange(n, device=device)
    offset = at[None] - at[:, None]
    far = offset.abs()
    half = N_BUCKETS // 2
    steps = (far.clamp(min=1) / EXACT).log() / math.log(FAR / EXACT) * (half - EXACT)
    number = torch.where(far < EXACT, far, (EXACT + steps.long()).clamp(max=half - 1))
    return number + half * (offset > 0)
