"""Known changes of place: turn, shift, stretch and bend, for windows of any rank.

A :class:`Warp` says for every place of the changed window where it lies in the window as it was, so
that windows, maps and masks of any resolution are changed alike. Places count from the middle of
the window, and half of its longest axis is 1: a turn is a turn, whatever the window's shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 5  # of a thin plate, along each axis


@dataclass(frozen=True, kw_only=True, eq=False)
class Warp:
    """Changes of B windows with ``ratio`` (D,), their axes as shares of the longest.

    ``linear`` (B, D, D) and ``shift`` (B, D); ``bends`` (B, Q + D + 1, D) are the coefficients of a
    thin plate with knots at :func:`knots`, None where nothing is bent.
    """

    linear: Tensor
    shift: Tensor
    ratio: tuple[float, ...]
    bends: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Warp":
        """Return the changes of some of the windows."""
        bends = None if self.bends is None else self.bends[rows]
        return Warp(linear=self.linear[rows], shift=self.shift[rows], ratio=self.ratio, bends=bends)

    def sources(self, places: Tensor) -> Tensor:
        """Return where places (N, D) of the changed windows were, (B, N, D)."""
        was = places @ self.linear.mT + self.shift.unsqueeze(1)  # (B, N, D)
        if self.bends is not None:
            was = was + _terms(places, knots(self.ratio).to(places)) @ self.bends
        return was

    def __call__(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, *L) of the windows as those of the changed windows, linearly
        interpolated; 0 where they are of places beyond.
        """
        extent = maps.shape[2:]
        ratio = torch.tensor(self.ratio, dtype=maps.dtype, device=maps.device)
        places = centres(extent, maps) * ratio
        was = self.sources(places) / ratio  # (B, N, D), -1 to 1
        return sampled(maps, was.unflatten(1, extent))


def centres(extent: Sequence[int], like: Tensor) -> Tensor:
    """Return the middle of every place of a grid, (N, D), from -1 to 1; the last axis runs first.

    >>> centres((2,), torch.zeros(1)).tolist(), centres((1, 4), torch.zeros(1))[0].tolist()
    ([[-0.5], [0.5]], [0.0, -0.75])
    """
    axes = [(2 * torch.arange(n, dtype=like.dtype, device=like.device) + 1) / n - 1 for n in extent]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def sampled(maps: Tensor, places: Tensor) -> Tensor:
    """Return maps (B, C, *L) at places (B, *L', D), -1 to 1 along each axis; 0 beyond.

    One axis is taken for a second one of length one.
    """
    alone = maps.ndim == 3
    if alone:
        maps = maps.unsqueeze(2)
        places = torch.cat([torch.zeros_like(places), places], dim=-1).unsqueeze(1)
    made = F.grid_sample(
        maps, places.flip(-1).to(maps.dtype), mode="bilinear", padding_mode="zeros",
        align_corners=False,
    )  # fmt: skip
    return made.squeeze(2) if alone else made


def drawn(
    n: int,
    extent: Sequence[int],
    generator: torch.Generator,
    *,
    turn: float = 0.0,
    shift: float = 0.0,
    stretch: float = 0.0,
    bend: float = 0.0,
) -> Warp:
    """Return changes of n windows of this extent, each drawn by itself, uniformly.

    ``turn`` is the largest in degrees, in the plane of every two axes (of one axis there is none);
    ``shift`` the largest along each axis as a share of it; ``stretch`` the largest of all axes
    together, as a share; ``bend`` the SD of the shifts of a thin plate's knots, in halves of the
    longest axis.
    """
    device, rank = generator.device, len(extent)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator, device=device) - 1

    ratio = tuple(length / max(extent) for length in extent)
    linear = torch.eye(rank, device=device).expand(n, rank, rank)
    for first, second in combinations(range(rank), 2):
        angle = math.radians(turn) * uniform(n)
        plane = torch.eye(rank, device=device).repeat(n, 1, 1)
        plane[:, first, first] = plane[:, second, second] = angle.cos()
        plane[:, first, second], plane[:, second, first] = -angle.sin(), angle.sin()
        linear = linear @ plane
    linear = linear * (1 + stretch * uniform(n)).view(-1, 1, 1)
    away = 2 * shift * uniform(n, rank) * torch.tensor(ratio, device=device)
    bends = None
    if bend:
        at = knots(ratio).to(device)
        shifts = bend * torch.randn(n, len(at), rank, generator=generator, device=device)
        bends = plate(at, shifts)
    return Warp(linear=linear, shift=away, ratio=ratio, bends=bends)


def knots(ratio: Sequence[float]) -> Tensor:
    """Return the knots of a thin plate, (Q, D), evenly over the window, its borders too."""
    axes = [torch.linspace(-share, share, KNOTS) for share in ratio]
    return torch.cartesian_prod(*axes).view(-1, len(ratio))


def plate(at: Tensor, shifts: Tensor) -> Tensor:
    """Return the coefficients (B, Q + D + 1, D) of the smoothest map that moves knots (Q, D) so.

    The thin-plate spline of Duchon 1977 for one to three axes: r³, r² log r, r.
    """
    terms = _terms(at, at).double()  # (Q, Q + D + 1)
    q, extra = len(at), terms.shape[1] - len(at)
    corner = torch.zeros(extra, extra, dtype=terms.dtype, device=terms.device)
    system = torch.cat([terms, torch.cat([terms[:, q:].T, corner], dim=1)])
    wanted = F.pad(shifts.double(), (0, 0, 0, extra))
    return torch.linalg.solve(system, wanted).to(shifts.dtype)


def _terms(places: Tensor, at: Tensor) -> Tensor:
    """Return the terms (N, Q + D + 1) of a thin plate at places (N, D)."""
    square = (places.unsqueeze(1) - at).square().sum(-1)  # (N, Q)
    rank = at.shape[1]
    if rank == 2:
        kernel = 0.5 * square * square.clamp(min=1e-30).log()
    else:
        kernel = square**1.5 if rank == 1 else square.sqrt()
    return torch.cat([kernel, torch.ones_like(places[:, :1]), places], dim=1)
