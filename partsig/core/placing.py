"""What a trained PART says of patches: where each reference places each target, and how surely.

A window's N patches give N² translations. Read row by row they rebuild the window from one
reference (PART, fig. 4); column by column they say whether the references agree on a target
(fig. 5); as a matrix they should change sign when transposed (fig. 6).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from partsig.core import geometry, target
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.part import Part
from partsig.errors import ConfigError


@dataclass(frozen=True)
class Placing:
    """All ordered pairs of some windows' patches; index 1 is the reference, 2 the target.

    Positions, sizes and translations are in samples. ``spread`` is how far off the model says a
    translation may be: a Laplace distribution's scale, a histogram's standard deviation, nothing
    for squared error. ``surprise`` is the training loss of the pair under the true translation.
    ``near`` says which pairs lie within the distance the model was trained on.
    """

    positions: Tensor  # (B, N, D)
    sizes: Tensor  # (B, N, D)
    shift: Tensor  # (B, N, N, D)
    spread: Tensor | None  # (B, N, N, D)
    surprise: Tensor  # (B, N, N)
    near: Tensor  # (B, N, N)

    @property
    def true(self) -> Tensor:
        """The true translations (B, N, N, D)."""
        return self.positions.unsqueeze(1) - self.positions.unsqueeze(2)

    @property
    def where(self) -> Tensor:
        """Where each reference puts each target (B, N, N, D)."""
        return self.positions.unsqueeze(2) + self.shift


def evenly(part: Part, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return positions and sizes (B, N, D) drawn like a PART's own, but spread without clusters.

    The n-th of an additive recurrence, ``(u + n a) mod 1`` along every axis, with one uniform u per
    window (or stretch) and axis: single patches are distributed as in training, gaps and heaps are
    rarer, so that every part of a window is asked about equally often. Boxes of varied size and
    grids are drawn as in training.

    Source: Weyl's sequence, with powers of the root of ``x^(D+1) = x + 1`` as steps (for D = 1 the
    golden ratio; M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
    """
    if part.config.sampling != "off-grid":
        return part.sample(batch, generator)
    rank, stretches = len(part.patch), part.config.stretches
    rows, each = batch * stretches, part.n_patches // stretches
    root = 2.0
    for _ in range(64):  # a contraction: converges to rounding error
        root = (1 + root) ** (1 / (rank + 1))
    device = generator.device
    step = torch.tensor([root ** -(axis + 1) for axis in range(rank)], device=device)
    first = torch.rand(rows, 1, rank, generator=generator, device=device)
    share = (first + torch.arange(each, device=device).view(-1, 1) * step) % 1  # (R, N, D)
    patch, within, window = (
        torch.tensor(extent, dtype=torch.float32, device=device)
        for extent in (part.patch, part.within, part.window)
    )
    start = (share * (within - patch + 1)).floor().minimum(within - patch)
    origin = torch.rand(rows, 1, rank, generator=generator, device=device)
    start = start + (origin * (window - within + 1)).floor().minimum(window - within)
    positions = (start + patch / 2).view(batch, part.n_patches, rank)
    return positions, patch.expand_as(positions)


@torch.inference_mode()
def place(
    part: Part, x: Tensor, positions: Tensor, sizes: Tensor, level: Tensor | None = None
) -> Placing:
    """Ask a PART for all pairs of the patches at ``positions`` (B, N, D) of windows (B, C, *L).

    ``x`` is raw and normalised as in training, unless ``level`` (B, C) is given, the logarithm of
    what it was divided by already. The module should be in evaluation mode. Raises ConfigError for
    a model that was given positions, which would be told what it is asked for.
    """
    if level is None:
        x, level = instance_normalise(x)
    return relate(part, part.crop(x, positions, sizes), positions, sizes, level)


@torch.inference_mode()
def relate(part: Part, patches: Tensor, positions: Tensor, sizes: Tensor, level: Tensor) -> Placing:
    """Ask a PART for all pairs of patches (B, N, C, *p), wherever they come from.

    As :func:`place`, for patches that were cut and normalised already: of one window or of several.
    ``positions`` and ``sizes`` (B, N, D) are where each lay in its own window, ``level`` (B, C) the
    logarithm of what it was divided by.
    """
    if part.positions is not None:
        raise ConfigError(
            "this PART was trained with positions in its input (objective.positions=sincos); "
            "placing needs one trained without (positions=none)."
        )
    n, rank = positions.shape[1:]
    device = patches.device
    every = geometry.pairs(n, 0, torch.Generator(device))  # (N², 2)
    tokens, _ = part.encoder(patches, level)
    prediction = widened(part.relative(tokens, every))
    truth = target.translation(positions, sizes, every, part.ratios)  # (B, N², D or 2D)
    surprise = target.pair_loss(prediction, truth / part.unit, part.config.loss)
    mean, spread = target.located(prediction, part.config.loss, truth.shape[-1])
    worth = (part.unit * sizes).unsqueeze(2)  # (B, N, 1, D): what a unit of output is in samples

    def matrix(values: Tensor) -> Tensor:
        return values[..., :rank].unflatten(1, (n, n)) * worth

    within = torch.tensor(part.within, device=device) - torch.tensor(part.patch, device=device)
    apart = (positions.unsqueeze(1) - positions.unsqueeze(2)).abs()
    return Placing(
        positions=positions,
        sizes=sizes,
        shift=matrix(mean),
        spread=None if spread is None else matrix(spread),
        surprise=surprise.unflatten(1, (n, n)),
        near=(apart <= within).all(-1),
    )


def arranged(placing: Placing) -> Tensor:
    """Return where patches lie by all predicted translations alike, (B, N, D), 0 in their middle.

    The places whose differences are nearest to the translations, in weighted least squares; a
    translation counts by its predicted sharpness, one over the square of the spread, where there
    is one. No true position enters.
    """
    shift = placing.shift.double()
    n = shift.shape[-2]
    weight = torch.ones_like(shift[..., 0])
    if placing.spread is not None:
        weight = 1 / placing.spread.double().square().sum(-1).clamp(min=0.25)  # half a sample
    weight = weight * ~torch.eye(n, dtype=torch.bool, device=shift.device)
    both = weight + weight.transpose(1, 2)
    # The equations of the least squares: a Laplacian, and what is pulled to and from every patch.
    pull = (weight.unsqueeze(-1) * shift).sum(1) - (weight.unsqueeze(-1) * shift).sum(2)
    laplacian = torch.diag_embed(both.sum(-1)) - both
    # They leave the middle open; a constant on all makes it 0 and changes nothing else.
    middle = both.mean((1, 2), keepdim=True)
    return torch.linalg.solve(laplacian + middle, pull).to(placing.shift.dtype)


def reliance(placing: Placing) -> Tensor:
    """Return how much each reference counts for each target, (B, N, N), 0 or more.

    References beyond the trained distance and a patch's own word about itself do not count; the
    others by their predicted sharpness, one over the square of the spread, where there is one.
    """
    n = placing.near.shape[-1]
    counts = placing.near & ~torch.eye(n, dtype=torch.bool, device=placing.near.device)
    weight = counts.to(placing.shift.dtype)
    if placing.spread is not None:
        # Relative to half a sample: what is sharper than a sample cannot be told apart.
        weight = weight / placing.spread.square().sum(-1).clamp(min=0.25)
    return weight


def disagreement(placing: Placing, weight: Tensor | None = None) -> Tensor:
    """Return how far references differ on where a target lies, (B, N): 0 not at all, 1 chance.

    The standard deviation over references i of their ``position_i + shift_ij``, over that of the
    ``position_i`` themselves, which is what references have that say nothing (a shift of zero, or
    any that does not depend on the reference). ``weight`` (B, N, N) defaults to :func:`reliance`.
    nan where fewer than two references at different places count.

    Source: PART, section 4.1 ("patch uncertainty"), which shows it as a picture; the number and its
    normalisation are ours.
    """
    weight = reliance(placing) if weight is None else weight
    total = weight.sum(1).clamp(min=torch.finfo(weight.dtype).tiny)
    share = (weight / total.unsqueeze(1)).unsqueeze(-1)  # (B, N, N, 1)

    def variance(values: Tensor) -> Tensor:
        centre = (share * values).sum(1, keepdim=True)
        return (share * (values - centre).square()).sum((1, -1))  # (B, N)

    apart = variance(placing.positions.unsqueeze(2).expand_as(placing.shift))
    enough = ((weight > 0).sum(1) > 1) & (apart > 0)
    return torch.where(enough, (variance(placing.where) / apart).sqrt(), torch.nan)


def placed(placing: Placing, reference: Tensor) -> Tensor:
    """Return where every patch lies (B, N, D) if ``reference`` (B,), one of them, is right.

    The reference itself keeps its place.
    """
    row = torch.arange(len(reference), device=reference.device)
    where = placing.where[row, reference].clone()
    where[row, reference] = placing.positions[row, reference].to(where.dtype)
    return where


def asymmetry(shift: Tensor) -> Tensor:
    """Return how far translations (B, N, N, D) are from changing sign when transposed, (B,).

    Mean of ``|t_ij + t_ji|²`` over that of ``|t_ij|² + |t_ji|²``: 0 is antisymmetric, 1 is what
    unrelated numbers have, 2 is symmetric. No translation at all violates nothing: 0. For patches
    of equal size the true value is 0; in units of the reference's size it is not otherwise.

    >>> exact = torch.arange(3.0).view(1, 1, 3, 1) - torch.arange(3.0).view(1, 3, 1, 1)
    >>> asymmetry(exact).item(), asymmetry(exact.abs()).item()
    (0.0, 2.0)
    """
    both = (shift + shift.transpose(1, 2)).square().sum((1, 2, 3))
    each = 2 * shift.square().sum((1, 2, 3))
    return both / each.clamp(min=torch.finfo(shift.dtype).tiny)


def in_order(values: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Return matrices (B, N, N, …) with rows and columns sorted along an axis of ``positions``."""
    order = positions[..., axis].argsort(dim=1, stable=True)  # (B, N)
    row = torch.arange(len(values), device=values.device).view(-1, 1, 1)
    return values[row, order.unsqueeze(2), order.unsqueeze(1)]
