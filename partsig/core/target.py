"""What is predicted, and how wrong a prediction is."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Bounds of the Laplace scale in units of the target: e^-7 of a patch is a tenth of a sample in a
# 1-s patch at 100 Hz, below what one could know; e^5 is beyond any window.
LOG_SCALE = (-7.0, 5.0)


def translation(positions: Tensor, sizes: Tensor, pairs: Tensor, ratios: bool = False) -> Tensor:
    """Return the relative translations (B, P, D) of pairs, in units of the reference patch's size.

    ``(position[target] - position[reference]) / size[reference]`` (PART, eq. 1). With
    ``ratios``, (B, P, 2D): followed by ``size[target] / size[reference]`` (eq. 5).
    Antisymmetric in the pair for equal sizes only. *Differs from the paper*: axes are (row,
    column), the paper's x is our last.

    >>> at, size = torch.tensor([[[50.0], [250.0]]]), torch.full((1, 2, 1), 100.0)
    >>> translation(at, size, torch.tensor([[0, 1]])).tolist()
    [[[2.0]]]
    """
    reference, target = pairs.unbind(-1)
    width = sizes[:, reference]  # (B, P, D)
    shift = (positions[:, target] - positions[:, reference]) / width
    return torch.cat([shift, sizes[:, target] / width], dim=-1) if ratios else shift


def apart(shift: Tensor) -> Tensor:
    """Tell which pairs (B, P) of these translations (B, P, D) do not overlap.

    >>> apart(torch.tensor([[[0.5, 0.9], [0.5, 1.0]]])).tolist()
    [[False, True]]
    """
    return (shift.abs() >= 1).any(-1)


def n_outputs(rank: int, ratios: bool, loss: str, reach: float) -> int:
    """Return how many numbers a relative encoder gives per pair.

    mse: one per component. laplace: means, then log scales. histogram: per axis the logits of bins
    one patch wide, from the largest translation (``reach``, in patches) backwards to forwards.

    >>> n_outputs(1, False, "histogram", reach=29.0)
    59
    """
    per_component = {"mse": 1, "laplace": 2, "histogram": 2 * math.ceil(reach) + 1}[loss]
    return rank * (2 if ratios else 1) * per_component


def _bins(prediction: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Return log probabilities (B, P, C, K) of a histogram's bins and their centres (K,)."""
    logits = prediction.unflatten(-1, (components, -1))
    k = logits.shape[-1]
    centres = torch.arange(k, device=prediction.device, dtype=prediction.dtype) - k // 2
    return logits.log_softmax(-1), centres


def split_prediction(
    prediction: Tensor, loss: str, components: int
) -> tuple[Tensor, Tensor | None]:
    """Return the predicted translations (B, P, C) and, for laplace, their log scales.

    A histogram's prediction is its mean.
    """
    if loss == "mse":
        return prediction, None
    if loss == "histogram":
        shares, centres = _bins(prediction, components)
        return shares.exp() @ centres, None
    mean, log_scale = prediction.chunk(2, dim=-1)
    low, high = LOG_SCALE
    # A smooth clamp: the gradient never quite vanishes, as it would at a hard bound.
    middle, half = (low + high) / 2, (high - low) / 2
    return mean, middle + half * torch.tanh((log_scale - middle) / half)


def located(prediction: Tensor, loss: str, components: int) -> tuple[Tensor, Tensor | None]:
    """Return the predicted translations (B, P, C) and how far off they say they may be, or None.

    laplace: the distribution's scale. histogram: its standard deviation. mse: nothing.
    """
    mean, log_scale = split_prediction(prediction, loss, components)
    if loss == "histogram":
        shares, centres = _bins(prediction, components)
        second = shares.exp() @ centres.square()
        return mean, (second - mean.square()).clamp(min=0).sqrt()
    return mean, None if log_scale is None else log_scale.exp()


def pair_loss(prediction: Tensor, target: Tensor, loss: str) -> Tensor:
    """Return the loss of each pair (B, P), averaged over the components of the translation.

    ``mse`` is the paper's squared error (eq. 4). ``laplace`` is the negative log likelihood (nats)
    of a Laplace distribution whose location and scale are both predicted, ``|Δ - µ| / b + log 2b``.
    ``histogram`` is the cross-entropy (nats) of bins one patch wide, a target between two centres
    being shared between them. *Differs from the paper*, which has no likelihood: with squared
    error, far pairs that nobody can place yet drown the near ones that can be learned; a scale, or
    a histogram, lets each pair say how sure it is.
    """
    if loss == "histogram":
        shares, centres = _bins(prediction, target.shape[-1])
        weight = (1 - (target.unsqueeze(-1) - centres).abs()).clamp(min=0)  # (B, P, C, K)
        return -(weight * shares).sum(-1).mean(-1)
    mean, log_scale = split_prediction(prediction, loss, target.shape[-1])
    if log_scale is None:
        return (mean - target).square().mean(-1)
    nats = (mean - target).abs() * torch.exp(-log_scale) + log_scale + math.log(2)
    return nats.mean(-1)


def chance_mse(extent: Sequence[int], patch: Sequence[int], n: int) -> float:
    """Return the squared error, per component, of predicting zero for off-grid pairs.

    Starts are uniform on 0..M, so a difference of two has variance ((M+1)² - 1) / 6; one in N of
    all ordered pairs is a self-pair of difference 0, whatever number of pairs is drawn.

    >>> round(chance_mse((3000,), (100,), 40), 2)
    136.76
    """
    per_axis = [
        ((length - p + 1) ** 2 - 1) / 6 / p**2 for length, p in zip(extent, patch, strict=True)
    ]
    return sum(per_axis) / len(per_axis) * (1 - 1 / n)


def pair_metrics(prediction: Tensor, target: Tensor, sizes: Tensor, loss: str) -> dict[str, Tensor]:
    """Return scalars that say how well pairs are placed.

    ``mse`` squared error in patches², and of each axis (``mse_0`` …); ``chance`` (``chance_0`` …)
    the same for predicting no translation, on these very pairs; ``chance_loss`` the loss of the
    best constant prediction (no translation; of size ratios their mean, under laplace their median,
    1); where ratios are predicted, ``ratio_mse`` and ``ratio_chance``; ``l2`` mean Euclidean error
    in widths of the reference patch (as in the paper's Table 5), ``distance`` in samples,
    ``chance_l2`` and ``chance_distance`` those of predicting no translation; ``sign`` how often the
    order along an axis is right (0.5 is chance; pairs without a difference do not count),
    ``near_sign`` the same for pairs less than one patch apart.
    """
    rank = sizes.shape[-1]
    given = split_prediction(prediction, loss, target.shape[-1])[0].float()
    mean, shift = given[..., :rank], target[..., :rank]
    error = mean - shift  # (B, P, D)
    ordered = shift != 0
    right = ((mean > 0) == (shift > 0)) & ordered
    near = ordered & (shift.abs() < 1)
    chance = shift.square().mean()
    ratios = target[..., rank:].flatten(0, 1)  # (B * P, 0 or D)
    spread = ratios - ratios.mean(0)
    if loss == "histogram":
        constant = _entropy(shift, prediction.shape[-1] // rank)
    elif loss == "laplace":
        # The best place is the median, of ratios 1; the best scale is the mean distance from it.
        off = torch.cat([shift.flatten(0, 1), ratios - 1], dim=-1)
        constant = 1 + math.log(2) + off.abs().mean(0).log().mean()
    else:
        constant = torch.cat([shift.flatten(0, 1), spread], dim=-1).square().mean()
    per_axis, chances = (values.square().mean(dim=(0, 1)) for values in (error, shift))
    of_sizes = {}
    if ratios.numel():
        of_sizes = {
            "ratio_mse": (given[..., rank:] - target[..., rank:]).square().mean(),
            "ratio_chance": spread.square().mean(),
        }
    return {
        **of_sizes,
        "mse": error.square().mean(),
        **{f"mse_{axis}": value for axis, value in enumerate(per_axis)},
        "chance": chance,
        **{f"chance_{axis}": value for axis, value in enumerate(chances)},
        "chance_loss": constant,
        "l2": error.square().sum(-1).sqrt().mean(),
        "distance": (error * sizes).square().sum(-1).sqrt().mean(),
        "chance_l2": shift.square().sum(-1).sqrt().mean(),
        "chance_distance": (shift * sizes).square().sum(-1).sqrt().mean(),
        "sign": right.sum() / ordered.sum().clamp(min=1),
        "near_sign": (right & near).sum() / near.sum().clamp(min=1),
    }


def _entropy(shift: Tensor, k: int) -> Tensor:
    """Return the loss (nats) of the best constant histogram: the entropy of these translations."""
    centres = torch.arange(k, device=shift.device, dtype=shift.dtype) - k // 2
    weight = (1 - (shift.unsqueeze(-1) - centres).abs()).clamp(min=0)  # (B, P, D, K)
    share = weight.mean(dim=(0, 1))
    return torch.special.entr(share).sum(-1).mean()
