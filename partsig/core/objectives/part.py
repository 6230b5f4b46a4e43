"""PART: predict the relative translations between off-grid patches (arXiv 2506.03682)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from partsig.core import focus, geometry, target
from partsig.core.contrast import Projection, info_nce
from partsig.core.crop import crop, crop_exact
from partsig.core.encoder import Encoder
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.settings import PartConfig
from partsig.core.position import MaskedPositions
from partsig.core.relative import CrossAttention, Mlp, PairwiseMLP
from partsig.core.whole import Gather, alone, mean_where
from partsig.errors import ConfigError

# What is told of pairs in two stretches.
BETWEEN = ("mse", "chance", "chance_loss", "sign")


class Part(nn.Module):
    """Encoder and relative encoder under one loss, for windows (B, C, *L) of any rank, raw."""

    def __init__(
        self,
        config: PartConfig,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.patch = tuple(patch)
        self.window = (*window[:-1], window[-1] // 2) if config.context else tuple(window)
        window = self.window
        on_grid = len(geometry.grid(window, patch)[0])
        self.n_patches = on_grid if config.sampling == "grid" else config.patches or on_grid
        self.ratios = config.sampling == "sizes"
        width = encoder.config.width
        self.within = tuple(
            round(min(config.span * p, length)) if config.span else length
            for length, p in zip(window, patch, strict=True)
        )
        farthest = window if config.between else self.within
        reach = max((length - p) / p for length, p in zip(farthest, patch, strict=True))
        if self.n_patches // config.stretches < 2 or not reach:
            raise ConfigError(
                f"patches of {tuple(patch)} samples, {self.n_patches} of them, in windows of "
                f"{self.within}: no two of them lie apart, so there is nothing to predict. Take "
                "smaller patches or more of them."
            )
        outputs = target.n_outputs(len(self.patch), self.ratios, config.loss, reach)
        if config.relative == "cross-attention":
            self.relative = CrossAttention(width, outputs, config.heads, config.head_impl)
        elif config.relative == "pairwise-mlp":
            self.relative = PairwiseMLP(width, outputs, config.hidden)
        else:
            self.relative = Mlp(width, outputs, self.n_patches)
        self.positions = (
            MaskedPositions(width, config.position_mask) if config.positions == "sincos" else None
        )
        self.project = Projection(width) if config.context else None
        self.gather: Gather | None = alone if config.context else None
        # What one unit of the network's output is worth in patches.
        self.unit = reach if config.target_scale == "unit" else 1.0

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return positions and sizes (B, N, D) of the patches of a batch."""
        if self.config.sampling == "grid":
            return geometry.shuffled_grid(batch, self.window, self.patch, generator)
        if self.config.sampling == "sizes":
            low = [max(p // 2, 1) for p in self.patch]
            high = [2 * p for p in self.patch]
            return geometry.boxes(batch, self.n_patches, self.window, low, high, generator)
        rows, each = batch * self.config.stretches, self.n_patches // self.config.stretches
        positions, sizes = geometry.off_grid(rows, each, self.within, self.patch, generator)
        if self.within != self.window:
            origin, _ = geometry.off_grid(rows, 1, self.window, self.within, generator)
            origin -= torch.stack([torch.full_like(origin[0, 0, 0], e / 2) for e in self.within])
            positions = positions + origin
        shape = (batch, self.n_patches, len(self.patch))
        return positions.view(shape), sizes.reshape(shape)

    def sample_focused(
        self,
        x: Tensor,
        mine: Tensor,
        total: int,
        generator: torch.Generator,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return positions and sizes (B, N, D) that follow what windows x (B, C, *L) show, or their
        ``mask`` (B, *L), with focus object.

        Draws are made for ``total`` rows, of which ``mine`` (B,) are those of x.
        """
        stretches, patch = self.config.stretches, self.patch
        each, device = self.n_patches // stretches, generator.device
        uniform = torch.rand(total, stretches, each, generator=generator, device=device)
        origin, _ = geometry.off_grid(total, stretches, self.window, self.within, generator)
        within = torch.tensor(self.within, device=device)
        origin = (origin - within / 2).round().long()[mine].flatten(0, 1).to(x.device)
        there = focus.density(x, patch, self.config.focus, mask).repeat_interleave(stretches, 0)
        extent = [length - p + 1 for length, p in zip(self.within, patch, strict=True)]
        there = focus.around(there, origin, extent)
        uniform = uniform[mine].flatten(0, 1).to(x.device)
        first = focus.starts(there, self.config.focus_share, uniform) + origin.unsqueeze(1)
        size = torch.tensor(patch, dtype=torch.float32, device=x.device)
        positions = (first + size / 2).view(len(x), self.n_patches, len(patch))
        return positions, size.expand_as(positions)

    def _halves(self, x: Tensor) -> Tensor:
        """Return the first and the last window of (B, …, 2 L), one after the other."""
        return torch.cat([x[..., : self.window[-1]], x[..., -self.window[-1] :]])

    def draw_pairs(self, generator: torch.Generator) -> Tensor:
        """Return the (P, 2) pairs of a step, each within one stretch."""
        each = self.n_patches // self.config.stretches
        count = max(round(self.config.pairs * each * each), 1)
        pairs = geometry.pairs(each, count, generator)
        first = torch.arange(self.config.stretches, device=pairs.device) * each
        return (pairs + first.view(-1, 1, 1)).flatten(0, 1)

    def draw_between(self, generator: torch.Generator) -> Tensor:
        """Return (P, 2) pairs of a step whose patches lie in two stretches; none, (0, 2), where
        nothing is learned of them.
        """
        stretches, each = self.config.stretches, self.n_patches // self.config.stretches
        if not self.config.between:
            return torch.empty(0, 2, dtype=torch.long, device=generator.device)
        count = max(round(self.config.pairs * each * each), 1)
        pairs = geometry.pairs(each, count, generator)
        of_two = [(a, b) for a in range(stretches) for b in range(stretches) if a != b]
        first = torch.tensor(of_two, device=pairs.device) * each
        return (pairs + first.unsqueeze(1)).flatten(0, 1)

    def crop(self, x: Tensor, positions: Tensor, sizes: Tensor) -> Tensor:
        """Return the patches (B, N, C, *p)."""
        if self.ratios:
            return crop(x, positions, sizes, self.patch)
        return crop_exact(x, (positions - sizes / 2).round().long(), self.patch)

    def _jittered(self, patches: Tensor) -> Tensor:
        """Return patches of other gains, with noise; drawn from torch's own generator."""
        rank = len(self.patch)
        gain = torch.randn(*patches.shape[:3], *(1,) * rank, device=patches.device)
        noise = torch.randn_like(patches)
        return patches * (self.config.jitter * gain).exp() + 0.5 * self.config.jitter * noise

    def predict(
        self,
        patches: Tensor,
        pairs: Tensor,
        level: Tensor | None = None,
        code: Tensor | None = None,
    ) -> Tensor:
        """Return the numbers the relative encoder gives for pairs, (B, P, O)."""
        tokens, _ = self.encoder(patches, level, code)
        return self.relative(tokens, pairs)

    @staticmethod
    def in_words(measures: Mapping[str, float], whose: str) -> str:
        """Return what measures on somebody's windows (unseen ones) say, in a few words."""
        near = measures.get("near_sign")
        kind, share = ("overlapping ", near) if near else ("", measures["sign"])
        said = f"order of {kind}patches right in {share:.0%} of {whose} pairs (chance 50%)"
        found = measures.get("context_accuracy")
        return said if found is None else f"{said}; the other half or view found in {found:.0%}"

    def compilable(self) -> list[nn.Module]:
        """Return what is worth compiling."""
        return [self.encoder.blocks]

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
        foreground: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss and its companions as scalars; see :func:`target.pair_metrics`.

        Draws come from ``generator`` alone. ``share`` (first, total) says that ``x`` holds rows
        first, first + 1, … of a batch of ``total``: draws are made for the whole batch, so a batch
        gives the same loss however it is divided. ``progress``, the share of the training that is
        over, is not used. ``foreground`` (B, *L), 0 to 1, is what focus=object follows. *Differs
        from that*: jitter is drawn from torch's own generator.
        """
        first, total = share or (0, len(x))
        mine = torch.arange(first, first + len(x))
        if self.project is not None:
            # Both halves (of images: views), one after the other; rows are drawn as if the batch
            # were twice as long.
            x = self._halves(x)
            foreground = None if foreground is None else self._halves(foreground)
            mine, total = torch.cat([mine, total + mine]), 2 * total
        x, level = instance_normalise(x)
        mine = mine.to(generator.device)
        if self.config.focus == "none":
            everywhere = self.sample(total, generator)
            positions, sizes = (t[mine].to(x.device) for t in everywhere)
        else:
            positions, sizes = self.sample_focused(x, mine, total, generator, foreground)
        n = positions.shape[1]
        pairs = self.draw_pairs(generator).to(x.device)
        across = self.draw_between(generator).to(x.device)
        code = hidden = None
        if self.positions is not None:
            all_hidden = self.positions.draw(total, n, generator).to(x.device)
            hidden = all_hidden[mine.to(x.device)]
            code = self.positions(positions, sizes, hidden)
        patches = self.crop(x, positions, sizes)
        if self.config.jitter and self.training:
            patches = self._jittered(patches)
        tokens, _ = self.encoder(patches, level, code)
        own = len(pairs)
        every = torch.cat([pairs, across])
        prediction = widened(self.relative(tokens, every))
        truth = target.translation(positions, sizes, every, self.ratios)
        losses = target.pair_loss(prediction, truth / self.unit, self.config.loss)  # (B, P)
        chosen = of_batch = None  # pairs in the loss: of these windows, of the whole batch
        if self.config.loss_on == "apart":
            of_all = target.translation(*(t.to(x.device) for t in everywhere), every)
            chosen, of_batch = target.apart(truth[..., : len(self.patch)]), target.apart(of_all)
        elif self.config.loss_on == "masked":
            chosen, of_batch = (h[:, every].sum(-1) > 0 for h in (hidden, all_hidden))

        def of(some: slice) -> tuple[Tensor, dict[str, Tensor]]:
            """Return the loss of some of the pairs, and what is told of them."""
            told = self._told(prediction[:, some], truth[:, some], sizes[:, every[some, 0]])
            if chosen is None:
                return losses[:, some].mean(), told
            return mean_where(losses[:, some], chosen[:, some], of_batch[:, some]), told

        loss, metrics = of(slice(own))
        if hidden is not None:
            ends = hidden[:, pairs].sum(-1)  # (B, P): how many ends of the pair are hidden
            for k in range(3):
                there = ends == k
                metrics[f"loss_hidden{k}"] = (losses[:, :own].detach() * there).sum() / (
                    there.sum().clamp(min=1)
                )
        if len(across):
            apart, told = of(slice(own, None))
            metrics |= {f"between_{name}": told[name] for name in BETWEEN}
            metrics |= {"loss_pairs": loss.detach(), "loss_between": apart.detach()}
            loss = self.config.relate * loss + self.config.between * apart
        elif self.project is not None:
            metrics["loss_pairs"] = loss.detach()
            loss = self.config.relate * loss
        if self.project is None:
            return {"loss": loss, **metrics}
        summary = widened(self.project(tokens.mean(1))).unflatten(0, (2, -1))  # (2, B, F)
        context, matched = info_nce(*self.gather(summary.transpose(0, 1)).unbind(1))
        metrics |= {"loss_context": context.detach(), "context_accuracy": matched}
        return {"loss": loss + self.config.context * context, **metrics}

    def _told(self, prediction: Tensor, truth: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Return scalars of pairs (B, P), in patches; see :func:`target.pair_metrics`."""
        told = target.pair_metrics(
            prediction.detach(), truth / self.unit, reference * self.unit, self.config.loss
        )
        in_patches = dict.fromkeys(("l2", "chance_l2"), self.unit)
        for name in ("mse", "chance"):
            axes = (f"{name}_{axis}" for axis in range(len(self.patch)))
            in_patches |= dict.fromkeys((name, *axes), self.unit**2)
        return told | {name: told[name] * worth for name, worth in in_patches.items()}
