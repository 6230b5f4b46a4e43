"""An attentive head on an encoder that does not learn: one query asks all of its tokens.

Tokens have no order and no axes here: it is the same for images, signals and volumes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.objectives.supervised import EncoderClassifier, LossConfig, SupervisedModule
from partsig.core.transformer import initialise

HEAD_WIDTH = 64  # of an attention head, as in ViT-B's twelve of 768
EPS, MOMENTUM = 1e-6, 0.1  # of the batch norm, as published


def heads_of(width: int) -> int:
    """Return how many attention heads a width has: one for every 64, of those that divide it.

    >>> [heads_of(width) for width in (768, 192, 320, 100, 48)]
    [12, 3, 5, 1, 1]
    """
    most = max(width // HEAD_WIDTH, 1)
    return next(n for n in range(most, 0, -1) if width % n == 0)


class RunningNorm(nn.Module):
    """A batch norm without weights: in use, statistics that were gathered in training.

    Each batch moves them by a tenth, the first ones by more: the first of all sets them, so that
    nothing is left of where they began. *Differs from* ``torch.nn.BatchNorm1d`` in that, which
    begins at variance 1, far from that of a head that has just been drawn.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, E) at mean 0 and variance 1; a batch of one has no spread of its own."""
        if not self.training or len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, eps=EPS)
        with torch.no_grad():
            kind = self.running_mean.dtype
            self.seen += 1
            share = self.seen.reciprocal().clamp(min=MOMENTUM)
            self.running_mean.lerp_(x.to(kind).mean(0), share)
            self.running_var.lerp_(x.to(kind).var(0), share)
        return F.batch_norm(x, None, None, training=True, eps=EPS)


class AttentiveHead(nn.Module):
    """Logits (B, K) of tokens (B, N, E): one learned query attends to them, then a linear layer.

    Query, keys and values are the learned query and the tokens, each behind a layer norm of its own
    and a linear map; what the heads gather goes through another linear map and a batch norm without
    weights. There is no residual path.

    Source: Zhu et al., Understanding Self-Supervised Pretraining with Part-Aware Representation
    Learning, TMLR 2024, attentive probing, after Chen et al. 2022 (arXiv 2202.03026, CAE). *Differs
    from the published code*: the batch norm uses its running statistics once it is trained. There
    it uses those of the batch in the test as well, so that what is predicted of an item depends on
    which others are asked about with it. Keys have no bias, which would change nothing; linear maps
    are drawn by their width (Glorot), not with SD .02, so that narrow tokens are learned as well.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.heads = heads_of(width)
        self.query = nn.Parameter(torch.empty(1, width))
        self.query_norm = nn.LayerNorm(width, eps=EPS)
        self.key_norm = nn.LayerNorm(width, eps=EPS)
        self.value_norm = nn.LayerNorm(width, eps=EPS)
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width, bias=False)
        self.to_value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm = RunningNorm(width)
        self.linear = nn.Linear(width, n_classes)
        self.apply(initialise)
        for layer in (self.to_query, self.to_key, self.to_value, self.out):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, K) of tokens (B, N, E)."""
        batch = len(tokens)
        query = self.to_query(self.query_norm(self.query)).expand(batch, 1, -1)
        key, value = self.to_key(self.key_norm(tokens)), self.to_value(self.value_norm(tokens))
        apart = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        mixed = F.scaled_dot_product_attention(*apart)  # (B, heads, 1, E / heads)
        found = self.out(mixed.transpose(1, 2).flatten(1))  # (B, E)
        return self.linear(self.norm(found))


class OnFeatures(SupervisedModule):
    """A head by itself: what is trained where the features (B, …) are computed beforehand."""

    def __init__(self, head: nn.Module, loss: LossConfig) -> None:
        super().__init__(loss)
        self.head = head

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of features (B, …)."""
        return self.head(x)


class AttentiveProbe(SupervisedModule):
    """An encoder that does not learn, and an attentive head on all of its tokens.

    Patch tokens, and [CLS] where there is one; after so many blocks as the network has them.
    """

    learns_by = "features"
    told = "tokens"  # what its features are, where those of one encoder are kept

    def __init__(self, net: EncoderClassifier, n_classes: int, loss: LossConfig) -> None:
        super().__init__(loss)
        self.net = net.requires_grad_(False)
        self.head = AttentiveHead(net.token_width, n_classes)

    def train(self, mode: bool = True) -> "AttentiveProbe":
        """Put the head in training or evaluation; the encoder stays as it is used."""
        super().train(mode)
        self.net.eval()
        return self

    def on_features(self) -> OnFeatures:
        """Return what learns: the head."""
        return OnFeatures(self.head, self.loss)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the tokens (B, N, E) of windows (B, C, *L), [CLS] the last where there is one."""
        return self.net.tokens(x)

    def from_features(self, features: Tensor) -> Tensor:
        """Return logits (B, classes) of tokens (B, N, E)."""
        return self.head(features)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of windows (B, C, *L), as recorded."""
        return self.from_features(self.features(x))
