"""What every discovery of parts does, whatever its losses: look at two views of every window.

Windows (B, C, *L) of any rank are seen through a frozen network (maps (B, F, *grid)), and a
segmenter says of every place of that grid which of K parts it is, (B, K, *grid). The second view is
changed in place by a known warp and in look (colour, gain) at random; maps and appearance that
losses are told in are those of the first, unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from partsig.contracts import Looks
from partsig.core import warping
from partsig.core.normalise import widened
from partsig.core.objectives.discovery_settings import DiscoveryConfig
from partsig.core.perception import FrozenMaps, averaged, bordering, resized, two_means
from partsig.core.warping import Warp
from partsig.core.whole import Gather, alone
from partsig.errors import ConfigError
from partsig.seeds import Stream, seed_of

KEPT_BYTES = 2 * 2**30  # of maps that are kept in memory, at most; speed only
AT_ONCE = 8  # windows that statistics are taken of at a time
# Places by which two-means tell fore- and background apart.
SAMPLED = 20_000
LEAST_LOOK = 1e-3  # SD of an appearance below which it is rounding: a grey image's a and b
DEAD = 0.01  # share of the foreground below which a part counts as dead


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Two views of B windows: ``maps`` (B, F, *grid) of the first as it is; parts of both as logits
    (B, K, *grid); how the second was changed; and its own maps, where they are asked for.
    """

    maps: Tensor
    first: Tensor
    second: Tensor
    warp: Warp
    changed: Tensor | None = None


class MapHead(nn.Module):
    """Parts from frozen maps, place by place: two layers, (B, F, *grid) to (B, K, *grid)."""

    def __init__(self, width: int, hidden: int, parts: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(width, hidden, 1), nn.ReLU(), nn.Conv1d(hidden, parts, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps.flatten(2)).unflatten(2, maps.shape[2:])


class Discovery(nn.Module):
    """A segmenter that learns, what it is told by, and the views of both.

    ``segmenter`` None: a head on the frozen maps; else a network of windows as they are recorded.
    ``looks`` is what the modality offers, see :class:`~partsig.contracts.Looks`.
    """

    def __init__(
        self,
        config: DiscoveryConfig,
        phi: FrozenMaps,
        looks: Looks,
        segmenter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.phi, self.looks = config, phi, looks
        self.on_maps = segmenter is None
        width = sum(phi.widths)
        self.segmenter = MapHead(width, config.hidden, config.parts) if self.on_maps else segmenter
        self.gather: Gather = alone
        factors = config.tap_weights or (1.0,) * len(phi.widths)
        every = [torch.full((n,), f) for n, f in zip(phi.widths, factors, strict=True)]
        self.register_buffer("factors", torch.cat(every))
        for name, value in (("mean", 0.0), ("scale", 1.0)):
            self.register_buffer(name, torch.full((width,), value))
            self.register_buffer(f"look_{name}", torch.full((looks.width,), value))
        self.register_buffer("ground", torch.zeros(2, width))
        self.register_buffer("ground_scale", torch.ones(width))
        self._kept: dict[int, Tensor] = {}
        self._kept_bytes = 0

    @property
    def encoder(self) -> nn.Module:
        """What learns."""
        return self.segmenter

    def compilable(self) -> list[nn.Module]:
        """Return what is worth compiling: a segmenter that is a network of its own."""
        return [] if self.on_maps else [self.segmenter]

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
        item: Tensor | None = None,
        foreground: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss and its terms, as scalars, and how many parts are dead.

        ``item`` (B,) are the windows' numbers, ``foreground`` (B, *L) how far each place counts.
        ``unexplained`` is the share of the maps' variance within parts. ``progress`` is not used.
        """
        first, total = share or (0, len(x))
        drawn = self.drawn(total, generator)
        seen = self.look(x, generator, first, total, item)
        ground = self.ground_of(seen.maps, foreground)  # (B, 1, *grid)
        with torch.autocast(x.device.type, enabled=False):
            return self.loss_of(x, seen, ground, drawn.to(x.device))

    def drawn(self, total: int, generator: torch.Generator) -> Tensor:
        """Return what the losses of a batch of ``total`` windows draw beforehand: nothing."""
        return torch.empty(0, device=generator.device)

    def loss_of(self, x: Tensor, seen: Views, ground: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """Return what :meth:`forward` does, of two views and their foreground (B, 1, *grid)."""
        raise NotImplementedError

    # What is known before the first step.

    @torch.no_grad()
    def look_at(
        self, x: Tensor, item: Tensor | None = None, foreground: Tensor | None = None
    ) -> None:
        """Take the mean and the SD of maps and appearance over the foreground of windows.

        With foreground none also the two centres that tell it apart. Nothing is drawn. Raises
        ConfigError for views that are to be known of windows which are told by no number.
        """
        if self.config.views and item is None:
            raise ConfigError(
                f"objective.views={self.config.views} keeps views of items, and these windows are "
                "cut anew every time: leave it at 0."
            )
        parts = [slice(at, at + AT_ONCE) for at in range(0, len(x), AT_ONCE)]
        maps = torch.cat([self.phi(x[rows]) for rows in parts])
        look = torch.cat([self.looks.appearance(x[rows]) for rows in parts])
        if self.config.foreground == "none":
            places = maps.flatten(2).transpose(1, 2).flatten(0, 1)  # (B U, F)
            self.ground_scale.copy_(places.std(0, correction=0).clamp(min=1e-6))
            step = -(-len(places) // SAMPLED)
            self.ground.copy_(two_means(places[::step] / self.ground_scale))
        inside = self.ground_of(maps, foreground)
        look = averaged(look, maps.shape[2:])
        for name, values, least in (("", maps, 1e-6), ("look_", look, LEAST_LOOK)):
            mean, spread = _moments(values, inside, least)
            getattr(self, f"{name}mean").copy_(mean)
            getattr(self, f"{name}scale").copy_(spread)

    def ground_of(self, maps: Tensor, given: Tensor | None) -> Tensor:
        """Return how far each place counts, (B, 1, *grid), 0 to 1.

        ``given`` (B, *L), where the foreground is known; else all places, or those of the cluster
        that has fewer places at the border of the window. Raises ConfigError where it is missing.
        """
        grid = maps.shape[2:]
        if self.config.foreground in ("mask", "box", "file"):
            if given is None:
                raise ConfigError(
                    f"objective.foreground={self.config.foreground} is not told of these windows: "
                    "set objective.foreground to whole, or none."
                )
            return averaged(given.unsqueeze(1).float(), grid)
        if self.config.foreground == "whole":
            return maps.new_ones(len(maps), 1, *grid)
        places = maps.flatten(2).transpose(1, 2) / self.ground_scale  # (B, U, F)
        second = torch.cdist(places, self.ground.expand(len(maps), -1, -1)).argmin(2)  # (B, U)
        at_border = second[:, bordering(grid).to(maps.device)].float().mean(1, keepdim=True)
        inside = torch.where(at_border > 0.5, 1 - second, second)
        return inside.float().unflatten(1, (1, *grid))

    # What is seen.

    def standard(self, maps: Tensor) -> Tensor:
        """Return maps (B, F, *grid) of mean 0 and SD 1, as a head is given them."""
        shape = (1, -1, *(1,) * (maps.ndim - 2))
        return (maps - self.mean.view(shape)) / self.scale.view(shape)

    def logits(self, x: Tensor, maps: Tensor, grid: torch.Size | None = None) -> Tensor:
        """Return parts (B, K, *grid) of windows whose maps are known, as logits."""
        if self.on_maps:
            return self.segmenter(self.standard(maps)).float()
        return resized(self.segmenter(widened(x)).float(), grid or maps.shape[2:])

    @torch.no_grad()
    def predict(self, x: Tensor, foreground: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of parts (B, K, *grid) of windows (B, C, *L), how far each place
        is foreground, (B, *grid), and the maps (B, F, *grid) that they are seen through.
        """
        maps = self.phi(x)
        found = self.logits(x, maps).softmax(1)
        return found, self.ground_of(maps, foreground).squeeze(1), maps

    def look(
        self, x: Tensor, generator: torch.Generator, first: int, total: int, item: Tensor | None
    ) -> Views:
        """Return two views of rows ``first`` and following of ``total`` windows.

        With known ``views`` and items that are told by number, the first view is as recorded, and
        the second one of those (:meth:`known`); else both are changed in look, as published.
        """
        known, rows = self.config.views, slice(first, first + len(x))
        if known and item is not None:
            chosen = torch.randint(known, (total,), generator=generator, device=generator.device)
            both = [
                self.known(x[row], number, view)
                for row, (number, view) in enumerate(
                    zip(item.tolist(), chosen[rows].tolist(), strict=True)
                )
            ]
            maps, changed = (torch.cat([b[i] for b in both]).float() for i in range(2))
            warp = _stacked([b[2] for b in both])
            return Views(
                maps=maps,
                first=self.logits(x, maps),
                second=self.logits(x, changed),
                warp=warp,
                changed=changed,
            )
        warp = self.warp(total, x.shape[2:], generator)[rows]
        clean = widened(x)
        looks = self.looks.changed
        shown = {"jitter": self.config.jitter, "drop": self.config.drop}
        one = looks(clean, generator, first, total, **shown)
        two = looks(warp(clean), generator, first, total, **shown)
        maps = self.phi(clean)
        asked = self.on_maps or getattr(self.config, "contrast", "") == "views"
        changed = self.phi(two) if asked else None
        return Views(
            maps=maps,
            first=self.logits(one, self.phi(one) if self.on_maps else maps),
            second=self.logits(two, maps if changed is None else changed),
            warp=warp,
            changed=changed,
        )

    def warp(self, n: int, extent: torch.Size, generator: torch.Generator) -> Warp:
        """Return n known changes of place of windows of this extent."""
        config = self.config
        moves = config.warp != "thin-plate"
        return warping.drawn(
            n,
            extent,
            generator,
            turn=config.turn * moves,
            shift=config.shift * moves,
            stretch=config.stretch * moves,
            bend=config.bend * (config.warp != "affine"),
        )

    @torch.no_grad()
    def known(self, x: Tensor, item: int, view: int) -> tuple[Tensor, Tensor, Warp]:
        """Return the maps (1, F, *grid) of a window (C, *L) and of one of its known views, float16.

        They are a function of the window, its number and the view's alone: of each window all are
        made at once, so that they are the same bit for bit whenever that is, and kept as long as
        there is room.
        """
        if item not in self._kept:
            whole = widened(x).unsqueeze(0)
            shown = {"jitter": self.config.jitter, "drop": self.config.drop}
            every = [whole]
            for number in range(self.config.views):
                warp, generator = self._drawn(x, item, number)
                every.append(self.looks.changed(warp(whole), generator, 0, 1, **shown))
            made = self.phi(torch.cat(every)).half()
            if self._kept_bytes + made.nbytes <= KEPT_BYTES:
                self._kept[item] = made
                self._kept_bytes += made.nbytes
        else:
            made = self._kept[item]
        return made[:1], made[view + 1 : view + 2], self._drawn(x, item, view)[0]

    def _drawn(self, x: Tensor, item: int, view: int) -> tuple[Warp, torch.Generator]:
        """Return how an item's view is changed in place, and what draws its change in look."""
        generator = torch.Generator(x.device)
        generator.manual_seed(seed_of(Stream.KNOWN_VIEWS, 0, item, view))
        return self.warp(1, x.shape[1:], generator), generator

    def valued(self, maps: Tensor, raw: bool) -> Tensor:
        """Return maps (B, F, *grid) as losses compare them, (B, F, U) float32: as they are, times
        the factors of their taps; or, not ``raw``, of variance 1 in all.
        """
        if raw:
            return maps.flatten(2) * self.factors.view(1, -1, 1)
        scaled = self.factors / self.factors.square().sum().sqrt()
        return self.standard(maps).flatten(2) * scaled.view(1, -1, 1)

    def appearance(self, x: Tensor, grid: torch.Size, raw: bool) -> Tensor:
        """Return how windows look at every place, (B, A, U): as it is, or of variance 1 in all."""
        look = averaged(self.looks.appearance(x), grid).flatten(2)
        if raw:
            return look
        spread = self.look_scale.view(1, -1, 1) * (self.look_scale < 1e9).sum().clamp(min=1).sqrt()
        return (look - self.look_mean.view(1, -1, 1)) / spread

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        return (
            f"{measures['unexplained']:.0%} of the variance of the maps of {whose} windows lies "
            f"within their parts; {measures['dead_parts']:.1f} parts have less than {DEAD:.0%} of "
            "the foreground"
        )


def dead(mass: Tensor) -> Tensor:
    """Return how many parts have less than a hundredth of all mass (B, K), a scalar.

    >>> dead(torch.tensor([[9.0, 0.0], [9.0, 0.1]])).item()
    1.0
    """
    shares = mass.sum(0) / mass.sum().clamp(min=1e-12)
    return (shares < DEAD).float().sum()


def _moments(values: Tensor, inside: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return mean and SD (F,) of values (B, F, *grid), weighted by ``inside``.

    What varies by less than ``least`` is constant: its SD is beyond all measure, so that it becomes
    0 where it is divided by that.
    """
    weight, values = inside.double(), values.double()
    axes = (0, *range(2, values.ndim))
    total = weight.sum().clamp(min=1e-12)
    mean = (values * weight).sum(axes) / total
    shape = (1, -1, *(1,) * (values.ndim - 2))
    variance = ((values - mean.view(shape)).square() * weight).sum(axes) / total
    spread = variance.sqrt()
    return mean.float(), torch.where(spread > least, spread, 1e12).float()


def _stacked(warps: list[Warp]) -> Warp:
    bends = [warp.bends for warp in warps]
    return Warp(
        linear=torch.cat([warp.linear for warp in warps]),
        shift=torch.cat([warp.shift for warp in warps]),
        ratio=warps[0].ratio,
        bends=None if bends[0] is None else torch.cat(bends),
    )
