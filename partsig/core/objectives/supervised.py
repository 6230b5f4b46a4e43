"""Supervised classification of windows on the grid: fine-tuning, and training from scratch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.channels import kept_channels
from partsig.core.contrast import OUTPUTS, Projection
from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder, bins, log_spectrum
from partsig.core.geometry import grid_index
from partsig.core.normalise import instance_normalise, widened
from partsig.core.objectives.settings import ClassifierConfig, LossConfig
from partsig.core.position import sincos
from partsig.core.transformer import initialise
from partsig.errors import ConfigError

PROJECTED = "projection"  # the pool that needs a projection head
NO_PROJECTION = "this encoder has no projection head; take another pool than projection."


class SupervisedModule(nn.Module, ABC):
    """A network with ``logits(x)`` under the supervised loss, whatever the network is.

    ``learns_by``: steps of the optimiser, which leave a frozen encoder as it is where they are
    ``head_steps``; or its linear ``head`` alone, fitted on ``features(x)``; or steps on
    ``features`` that are computed once, of what ``on_features()`` returns; or what its
    ``fit_examples(train, seed, device)`` does with all examples at once; or nothing.
    """

    learns_by: ClassVar[
        Literal["steps", "head_steps", "head", "features", "examples", "nothing"]
    ] = "steps"
    # What its features are, where those of one network are several things.
    told: ClassVar[str] = ""
    # Of a network that does not learn: where its features are kept, see partsig.runs.features.
    kept_in: str | None = None

    def __init__(self, loss: LossConfig) -> None:
        super().__init__()
        self.loss = loss

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of windows (B, C, *L), as recorded."""

    @classmethod
    def check_input(cls, shape: object) -> None:
        """Raise ConfigError where it is not for inputs of this shape, kind and rate."""

    def look_at(self, train: object) -> None:
        """Take what is needed of the training examples before the first step: nothing, usually."""

    def compilable(self) -> list[nn.Module]:
        """Return what is worth compiling: nothing, unless the network says so."""
        return []

    def distance_from_head(self, parameter: str) -> int:
        """Return how many layers lie above a parameter, for layer-wise learning rates."""
        return 0

    def of_encoder(self) -> list[nn.Parameter]:
        """Return the parameters that are an encoder's, which may stay as they are at first."""
        return []

    def forward(
        self,
        x: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of labels, classes (B,) or probabilities (B, K), and accuracy.

        What is drawn in training comes from torch's own generator, as drop path does.
        """
        x = widened(x)
        truth = labels if labels.ndim == 1 else labels.argmax(-1)
        if self.training and self.loss.channel_dropout:
            kept = kept_channels(*x.shape[:2], self.loss.channel_dropout, x.device)
            x = x * kept.view(*x.shape[:2], *(1,) * (x.ndim - 2))
        if not (self.training and (self.loss.mixup or self.loss.cutmix)):
            logits = self.logits(x).float()
            nats = F.cross_entropy(logits, labels, label_smoothing=self.loss.smoothing)
        else:
            mixed, other, share_of_first = mix(x, self.loss.mixup, self.loss.cutmix)
            logits = self.logits(mixed).float()
            nats = share_of_first * F.cross_entropy(
                logits, labels, label_smoothing=self.loss.smoothing
            ) + (1 - share_of_first) * F.cross_entropy(
                logits, labels[other], label_smoothing=self.loss.smoothing
            )
        right = (logits.detach().argmax(-1) == truth).float().mean()
        return {"loss": nats, "accuracy": right}


def mix(x: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor, float]:
    """Return windows (B, C, *L) mixed in pairs, each one's other (B,), and its own share.

    By mixup, or by cutmix; where both have an alpha, by one of them, either as often. Drawn from
    torch's own generator, once for the whole batch.
    """
    by_box = cutmix > 0 and (not mixup or bool(torch.rand(()) < 0.5))
    alpha = torch.tensor(cutmix if by_box else mixup)
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    other = torch.randperm(len(x), device=x.device)
    if not by_box:
        return torch.lerp(x[other], x, share), other, share
    inside = draw_box(x.shape[2:], 1 - share)
    kept = 1 - inside.float().mean().item()  # before it is on a GPU, which nobody need wait for
    return torch.where(inside.to(x.device, non_blocking=True), x[other], x), other, kept


def draw_box(window: Sequence[int], share: float) -> Tensor:
    """Return a mask (*L) of a box of that share of the window's volume.

    It is as long, relative to the window, along every axis, its centre is anywhere, and what lies
    beyond the window is cut off (Yun et al. 2019, arXiv 1905.04899, eq. 2).

    >>> torch.manual_seed(0).initial_seed(), draw_box((8, 8), 1 / 4).sum().item()
    (0, 16)
    """
    inside = torch.ones(*window, dtype=torch.bool)
    for axis, extent in enumerate(window):
        length = extent * share ** (1 / len(window))
        start = torch.rand(()).item() * extent - length / 2
        at = torch.arange(extent) + 0.5
        shape = [1] * len(window)
        shape[axis] = extent
        inside &= ((at >= start) & (at < start + length)).view(shape)
    return inside


def pooled(pool: str, tokens: Tensor, cls: Tensor, spectrum: Tensor | None) -> Tensor:
    """Return what a head sees, (B, F), of patch tokens (B, N, E) and [CLS] (B, E).

    ``pool`` is :class:`ClassifierConfig`'s; only mean+sd+spectrum needs the ``spectrum`` (B, S).
    With projection ``cls`` is what was projected, (B, F).
    """
    if pool in ("cls", PROJECTED):
        return cls
    mean = tokens.mean(1)
    if pool == "mean":
        return mean
    spread = (tokens - mean.unsqueeze(1)).square().mean(1).add(1e-6).sqrt()
    if pool == "mean+sd":
        return torch.cat([mean, spread], dim=-1)
    return torch.cat([mean, spread, spectrum.to(mean.dtype)], dim=-1)


def pooled_width(encoder: Encoder, patch: Sequence[int], pool: str) -> int:
    """Return how many numbers F :func:`pooled` gives."""
    if pool == PROJECTED:
        return OUTPUTS
    width = encoder.config.width * (2 if pool.startswith("mean+sd") else 1)
    if pool == "mean+sd+spectrum":
        width += encoder.embed.in_features // prod(patch) * prod(bins(patch))
    return width


class EncoderClassifier(SupervisedModule):
    """A linear ``head`` on what is pooled of an ``encoder``'s tokens, by ``config.pool``."""

    @property
    def depth(self) -> int:
        """How many blocks of the encoder are used."""
        return self.encoder.config.depth

    @abstractmethod
    def width_of(self, pool: str, blocks: int = 0) -> int:
        """Return how many numbers F a pool gives, of so many blocks; 0 is all."""

    @abstractmethod
    def encode(self, x: Tensor, pool: str, blocks: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return patch tokens (B, N, E), [CLS] (B, E) and spectrum (B, S) of windows (B, C, *L).

        As far as a ``pool`` needs them; in place of [CLS] what is projected (B, F), with that pool.
        ``blocks``: as they are after the first so many blocks of the encoder; 0 is all.
        """

    @property
    def token_width(self) -> int:
        """How many numbers E a token has."""
        return self.width_of("mean")

    def tokens(self, x: Tensor) -> Tensor:
        """Return all tokens (B, N + 1, E) of windows (B, C, *L), as recorded; [CLS] is the last."""
        tokens, cls, _ = self.encode(x, "mean")
        return torch.cat([tokens, cls.unsqueeze(1)], dim=1)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, (B, F), of windows (B, C, *L), as recorded."""
        return pooled(self.config.pool, *self.encode(x, self.config.pool))

    def from_features(self, features: Tensor) -> Tensor:
        """Return logits (B, classes) of what the head sees, (B, F)."""
        return self.head(features)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of windows (B, C, *L), as recorded."""
        return self.from_features(self.features(x))


class Classifier(EncoderClassifier):
    """An encoder on grid patches, position codes, a linear head (PART, section 3.3).

    ``has_codes``: learned codes are those that the encoder was pretrained with.
    """

    has_codes = False

    def __init__(
        self,
        config: ClassifierConfig,
        encoder: Encoder,
        window: Sequence[int],
        patch: Sequence[int],
        n_classes: int,
        loss: LossConfig | None = None,
    ) -> None:
        super().__init__(loss or LossConfig())
        self.config = config
        self.encoder = encoder
        self.patch = tuple(patch)
        index = grid_index(window, patch)
        width = encoder.config.width
        code = torch.zeros(len(index) + 1, width)  # the last is [CLS]'s
        if config.positions == "learned":
            nn.init.trunc_normal_(code, std=0.02)
        elif config.positions == "sincos":
            code[:-1] = sincos(index, width)
        self.positions = None if config.positions == "none" else nn.Parameter(code)
        self.project = Projection(width) if config.pool == PROJECTED else None
        self.head = nn.Linear(pooled_width(encoder, patch, config.pool), n_classes)
        initialise(self.head)

    def compilable(self) -> list[nn.Module]:
        return [self.encoder.blocks]

    def of_encoder(self) -> list[nn.Parameter]:
        """Return the encoder's parameters, and its position codes where they are not drawn."""
        codes = [self.positions] if self.config.positions == "sincos" or self.has_codes else []
        return [*self.encoder.parameters(), *codes]

    def width_of(self, pool: str, blocks: int = 0) -> int:
        return pooled_width(self.encoder, self.patch, pool)

    def encode(self, x: Tensor, pool: str, blocks: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return patch tokens (B, N, E), [CLS] (B, E) and spectrum (B, S) of windows (B, C, *L).

        As far as a ``pool`` needs them: of the [CLS] token alone there are no patch tokens, and the
        mean log spectrum of the patches is for mean+sd+spectrum. What is projected, in place of
        [CLS], is the tokens' mean, as in training. ``blocks``: as they are after the first so many
        blocks of the encoder; 0 is all.
        """
        if pool == PROJECTED and self.project is None:
            raise ConfigError(NO_PROJECTION)
        x, level = instance_normalise(x)
        patches = crop_grid(x, self.patch)
        only = pool == "cls"
        tokens, cls = self.encoder(patches, level, self.positions, cls_only=only, blocks=blocks)
        spectrum = None
        if pool == "mean+sd+spectrum":
            spectrum = log_spectrum(patches, level).mean(1).flatten(1)
        if pool == PROJECTED:
            cls = self.project(tokens.mean(1))
        return tokens, cls, spectrum

    def distance_from_head(self, parameter: str) -> int:
        """Return how many layers lie above a parameter: 0 for the head, most for the tokens."""
        depth = self.encoder.config.depth
        module, _, rest = parameter.partition(".blocks.")
        if module == "encoder" and rest:
            return depth - int(rest.partition(".")[0])
        return 0 if parameter.startswith(("head.", "encoder.norm.")) else depth + 1
