"""The losses of part discovery, for maps over a grid of any rank, its places in one axis U.

Legend: B windows, K parts, U places, C features, A colours. ``weights`` (B, K, U) are the parts at
each place, a softmax over K, times the foreground, 0 to 1.

Sources: S. Choudhury, I. Laina, C. Rupprecht, A. Vedaldi, Unsupervised part discovery from
contrastive reconstruction, NeurIPS 2021; W.-C. Hung, V. Jampani, S. Liu, P. Molchanov, M.-H. Yang,
J. Kautz, SCOPS: self-supervised co-part segmentation, CVPR 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1e-7  # what is added to a part's mass, as the published code has it


def descriptors(features: Tensor, weights: Tensor) -> Tensor:
    """Return the mean features (B, K, C) of every part, of features (B, C, U).

    Of a part without any place it is 0.
    """
    return weights @ features.mT / (weights.sum(2, keepdim=True) + LEAST)


def scatter(features: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """Return per window the squared distance of features from their part's mean, (B,).

    Summed over parts and places, divided by the foreground's: of features (B, C, U) and means
    (B, K, C) that is Σ w |f - z|² = Σ w |f|² - 2 z·Σ w f + Σ w |z|², without an array of K C U.
    """
    mass = weights.sum(2)  # (B, K)
    sums = weights @ features.mT  # (B, K, C)
    within = (weights.sum(1) * features.square().sum(1)).sum(1)
    within = within + (mass * means.square().sum(2) - 2 * (sums * means).sum(2)).sum(1)
    return within / (mass.sum(1) + LEAST)


def contrast(own: Tensor, other: Tensor, every: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy (nats) of telling a part's other from all other parts, a mean.

    ``own`` (B, K, C) and their ``other`` (B, K, C), the same part elsewhere; against it stand all
    other parts in ``every`` (N, K, C) window, the own one too. All are of length 1.
    """
    n_parts = own.shape[1]
    likeness = (own * other).sum(-1, keepdim=True) / temperature  # (B, K, 1)
    others = torch.einsum("bkc,njc->bknj", own, every) / temperature
    same = torch.eye(n_parts, dtype=torch.bool, device=own.device).view(1, n_parts, 1, n_parts)
    others = others.masked_fill(same, float("-inf")).flatten(2)  # (B, K, N K)
    logits = torch.cat([likeness, others], dim=2)
    return (logits.logsumexp(2) - likeness.squeeze(2)).mean()


def divergence(target: Tensor, made: Tensor, foreground: Tensor) -> Tensor:
    """Return per window KL(target ‖ made) of logits (B, K, U), a mean over the foreground, (B,)."""
    log_target = target.log_softmax(1)
    each = (log_target.exp() * (log_target - made.log_softmax(1))).sum(1)  # (B, U)
    return (each * foreground).sum(1) / (foreground.sum(1) + LEAST)


def part_centres(weights: Tensor, places: Tensor) -> Tensor:
    """Return every part's centre of mass, (B, K, D), of places (U, D)."""
    return descriptors(places.T.expand(len(weights), -1, -1), weights)


def concentration(weights: Tensor, places: Tensor) -> Tensor:
    """Return per window the squared distance of a part's places from its centre, a mean over the
    part's mass and a sum over parts, (B,): SCOPS's geometric concentration.
    """
    at = places.T.expand(len(weights), -1, -1)  # (B, D, U)
    mass = weights.sum(2)
    means = descriptors(at, weights)  # (B, K, D)
    squares = weights @ places.square().sum(1)  # (B, K)
    sums = weights @ places  # (B, K, D)
    within = squares - 2 * (sums * means).sum(2) + mass * means.square().sum(2)
    return (within / (mass + LEAST)).sum(1)


def reconstruction(features: Tensor, parts: Tensor, basis: Tensor, foreground: Tensor) -> Tensor:
    """Return per window the squared distance of features from what their parts' vectors make.

    Features (B, C, U), parts (B, K, U), basis (K, C); a mean over the foreground (B, U): SCOPS's
    semantic consistency.
    """
    made = torch.einsum("bku,kc->bcu", parts, basis)
    each = (features - made).square().sum(1)
    return (each * foreground).sum(1) / (foreground.sum(1) + LEAST)


def likeness_of_parts(basis: Tensor) -> Tensor:
    """Return Σ (ŵ ŵᵀ - 1)² of vectors (K, C), brought to length 1: SCOPS's orthonormality.

    >>> likeness_of_parts(torch.eye(3)).item(), round(likeness_of_parts(torch.ones(2, 3)).item(), 5)
    (0.0, 2.0)
    """
    unit = F.normalize(basis, dim=1)
    return (
        (unit @ unit.T - torch.eye(len(basis), dtype=basis.dtype, device=basis.device))
        .square()
        .sum()
    )
