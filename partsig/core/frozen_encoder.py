"""An encoder that is used as it is: one vector, the maps after any block, and what it projects.

Whatever made it. It is given windows (B, C, *L) as they were recorded, and brings them itself to
the extent and the scale that it was trained with.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder
from partsig.core.geometry import grid_index
from partsig.core.normalise import instance_normalise
from partsig.core.position import sincos
from partsig.errors import ConfigError

# How maps of one, two and three axes are brought to another grid, linearly along each.
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What an encoder makes of windows (B, C, *L).

    ``pooled`` (B, F) is the vector that it was made to be used by: [CLS], or a mean of its map.
    ``map`` (B, E, *grid) is the last one, behind the last norm, and ``cls`` (B, E) its [CLS], None
    where it has none. ``maps`` (B, E_k, *grid_k) and ``prefix`` (B, P, E_k), the tokens that stand
    for no place ([CLS], distillation, registers; None where there are none), are those after the
    blocks asked for. ``projection`` (B, K) is what its projection head makes, where that was asked
    for.
    """

    pooled: Tensor
    map: Tensor
    cls: Tensor | None
    maps: tuple[Tensor, ...] = ()
    prefix: tuple[Tensor | None, ...] = ()
    projection: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The mean of the last map, (B, E)."""
        return self.map.flatten(2).mean(2)


class FrozenShape(Protocol):
    """What an encoder says of itself: ``width`` E of its last map, ``depth``, its blocks."""

    @property
    def width(self) -> int:
        """E, the width of the last map."""

    @property
    def depth(self) -> int:
        """How many blocks, or stages, there are maps after."""


class FrozenEncoder(nn.Module, ABC):
    """An encoder that does not learn.

    ``rank``: axes of its windows. ``channels``: the numbers of channels that it takes.
    ``pooled_width`` F, ``tap_widths`` E_k of all blocks, ``projected_width`` K (0: it has no
    projection head), ``has_cls``.
    """

    config: FrozenShape
    rank: int
    channels: tuple[int, ...]
    pooled_width: int
    tap_widths: tuple[int, ...]
    projected_width: int = 0
    has_cls: bool = False

    @abstractmethod
    def encode(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        """Return what it makes of windows (B, C, *L), as recorded.

        ``taps``: the maps after these blocks, counted from 0, in the order asked for; as they are,
        or with ``norm`` behind the encoder's last norm. Raises ConfigError for a block that it has
        not, and for ``project`` where there is no projection head.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled vector (B, F) of windows (B, C, *L)."""
        return self.encode(x).pooled

    def check(self, taps: Sequence[int], project: bool = False) -> None:
        """Raise ConfigError for blocks that there are not, or a projection that there is not."""
        depth = self.config.depth
        wrong = [tap for tap in taps if not 0 <= tap < depth]
        if wrong:
            raise ConfigError(
                f"there is no block {wrong[0]}: the encoder has {depth}, numbered from 0 to "
                f"{depth - 1}."
            )
        if project and not self.projected_width:
            raise ConfigError("this encoder has no projection head; leave the projection out.")


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Return maps (B, E_k, *grid_k) as one (B, sum of E_k, *grid_0), linearly interpolated.

    >>> joined([torch.zeros(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]).shape
    torch.Size([1, 5, 4, 4])
    """
    first, *others = maps
    grid = first.shape[2:]
    brought = (
        one
        if one.shape[2:] == grid
        else F.interpolate(one, grid, mode=LINEAR[len(grid)], align_corners=False)
        for one in others
    )
    return torch.cat([first, *brought], dim=1)


class FrozenTransformer(FrozenEncoder):
    """An :class:`~partsig.core.encoder.Encoder` as one that does not learn, on the grid.

    Windows are normalised each by itself, as in training. ``positions``: sincos or none; ``code``
    (N + 1, E) are codes of the encoder's own, for windows of one extent.
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int,
        patch: Sequence[int],
        positions: str = "none",
        code: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.patch, self.rank, self.channels = tuple(patch), len(patch), (channels,)
        self.positions = positions
        self.pooled_width, self.has_cls = encoder.config.width, True
        self.tap_widths = (encoder.config.width,) * encoder.config.depth
        self.register_buffer("code", code)

    def encode(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        self.check(taps, project)
        grid = [extent // p for extent, p in zip(x.shape[2:], self.patch, strict=True)]
        x, level = instance_normalise(x)
        code = self.code
        if code is None and self.positions == "sincos":
            code = sincos(grid_index(x.shape[2:], self.patch), self.config.width).to(x.device)
        after: dict[int, Tensor] = {}
        hooks = [
            self.encoder.blocks[tap].register_forward_hook(
                lambda _module, _inputs, output, tap=tap: after.update({tap: output})
            )
            for tap in set(taps)
        ]
        try:
            tokens, cls = self.encoder(crop_grid(x, self.patch), level, code)
        finally:
            for hook in hooks:
                hook.remove()
        kept = [self.encoder.norm(after[tap]) if norm else after[tap] for tap in taps]
        return Encoded(
            pooled=cls,
            map=on_grid(tokens, grid),
            cls=cls,
            maps=tuple(on_grid(one[:, :-1], grid) for one in kept),
            prefix=tuple(one[:, -1:] for one in kept),
        )


def on_grid(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """Return tokens (B, N, E), the last axis counted first, as a map (B, E, *grid)."""
    return tokens.transpose(1, 2).unflatten(2, tuple(grid))
