"""An encoder of whole nights and the network over its tokens, trained as one on features.

Its patches are longer than an epoch, as those of night-scale PART are: what it makes of an epoch is
the token of the patch about its middle, amid the stretch around (as in :mod:`partsig.runs.amid`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from partsig.contracts import EpochExamples
from partsig.core.objectives.supervised import EncoderClassifier, LossConfig
from partsig.errors import ConfigError
from partsig.tasks.encoded_nights import EncodedNights
from partsig.tasks.frozen import InputShape
from partsig.tasks.night_context import USUAL_OF, averaged, by_stretch, features_of
from partsig.tasks.settings import MOST_SAMPLES, ContextConfig


class EncodedStretches(EncodedNights):
    """A token of every epoch beside its own features, and a network over both, in one loss.

    Stretches are (B, N, C * T), features of each epoch; N is ``context.epochs``, or fewer where a
    night is shorter. A patch of P epochs lies about the middle of every epoch: the encoder sees a
    stretch P times, cut into patches that begin at each epoch of one. Where they reach beyond it,
    and where a stretch is shorter than N, it is continued by its first and last sample, as many
    epochs before it as after it.
    """

    def __init__(
        self,
        net: EncoderClassifier,
        shape: InputShape,
        loss: LossConfig,
        context: ContextConfig,
        balanced: bool,
    ) -> None:
        super().__init__(net, shape, loss, context, balanced)
        unit, patch = self.epoch[1], net.patch[-1]
        begins = torch.arange(0, patch, unit) - (patch - unit) // 2  # of the P ways of cutting
        window = torch.arange(n_patches(context.epochs, unit, patch) * patch)
        self.register_buffer("at", begins[:, None] + window, persistent=False)  # (P, samples)

    @property
    def n_features(self) -> int:
        """How many numbers the network around is given of an epoch: its own, and a token's."""
        return prod(self.epoch) + self.net.token_width

    @torch.inference_mode()
    def look_at(self, train: EpochExamples) -> None:
        """Take what is usual of features and tokens as they are now, and how stages follow."""
        self.eval()
        step = max(1, -(-sum(train.n_epochs.values()) // USUAL_OF))
        some = []
        for name, first, last in _tiles(train, train.names[::step], self.context.epochs):
            x = torch.from_numpy(features_of(train.signal(name), first, last, self.epoch[1]))
            features = self._features(x[None].to(self.at.device), None)
            some.append(features[0].cpu().numpy())
        self.around.take_usual(np.concatenate(some))
        self.around.take_chain(train)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of epochs (B, C, T), each by itself: with nothing around it."""
        return self.context_logits(x.flatten(1).unsqueeze(1)).squeeze(1)

    def predict_signal(
        self, signal: np.ndarray, stretches: list[tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Return class probabilities (E, K) of the epochs of features (C, samples).

        ``stretches``: the (first, stop) of epochs between which nothing is missing; None: nothing
        is missing anywhere.
        """
        self.eval()
        n_classes = len(self.around.prior)

        def of_stretch(x: np.ndarray) -> np.ndarray:
            given = torch.from_numpy(x).to(self.at.device)
            return averaged(self.context_logits, given, self.context.epochs, n_classes)

        return by_stretch(signal, stretches, self.epoch[1], n_classes, of_stretch)

    def _features(self, x: Tensor, present: Tensor | None) -> Tensor:
        """Return features and tokens (B, N, F) of stretches; of no meaning where no epoch is."""
        return self.with_tokens(x, present, lambda pieces: self.net.encode(pieces, "mean")[0])

    def with_tokens(
        self, x: Tensor, present: Tensor | None, encode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return features and tokens (B, N, F) of stretches (B, N, C * T).

        ``encode`` returns the tokens (b, patches, E) of windows (b, C, samples).
        """
        n, (n_channels, unit) = x.shape[1], self.epoch
        samples = x.unflatten(-1, self.epoch).transpose(1, 2).flatten(2)  # (B, C, N * T)
        if present is None:
            before = max(self.context.epochs - n, 0) // 2  # epochs of the window before the stretch
            at = (self.at - unit * before).clamp(0, n * unit - 1)
            pieces = samples[..., at].transpose(1, 2)  # (B, P, C, samples)
        else:
            there = present.sum(1)
            before = (self.context.epochs - there).clamp(min=0) // 2
            last = unit * there[:, None, None] - 1
            at = torch.minimum((self.at - unit * before[:, None, None]).clamp(min=0), last)
            pieces = samples.unsqueeze(1).expand(-1, len(self.at), -1, -1)
            pieces = pieces.gather(3, at.unsqueeze(2).expand(-1, -1, n_channels, -1))
        tokens = encode(pieces.flatten(0, 1)).float()  # (B * P, patches, E)
        tokens = tokens.unflatten(0, (-1, len(self.at))).transpose(1, 2).flatten(1, 2)
        if present is None:
            return torch.cat([x.float(), tokens[:, before : before + n]], dim=-1)
        rows = before[:, None] + torch.arange(n, device=x.device)
        rows = rows.clamp(max=tokens.shape[1] - 1).unsqueeze(-1).expand(-1, -1, tokens.shape[2])
        return torch.cat([x.float(), tokens.gather(1, rows)], dim=-1)


def _tiles(
    train: EpochExamples, names: Sequence[str], epochs: int
) -> Iterator[tuple[str, int, int]]:
    """Yield recordings with the first and the stop of stretches that cover them, as in training."""
    for name in names:
        for begin, end in train.stretches(name):
            for at in range(begin, end, epochs):
                first = max(begin, min(at, end - epochs))
                yield name, first, min(first + epochs, end)


def is_longer(shape: InputShape) -> bool:
    """Return whether an encoder's patches are longer than an epoch."""
    return shape.patch[-1] > shape.window[-1]


def n_patches(epochs: int, unit: int, patch: int) -> int:
    """Return into how many patches a stretch is cut, each way; the last may reach beyond it."""
    return -(-epochs * unit // patch)


def stretch_of(shape: InputShape, context: ContextConfig) -> InputShape:
    """Return the shape of what such an encoder is given: a stretch, of whole patches."""
    unit, patch = shape.window[-1], shape.patch[-1]
    return replace(shape, window=(n_patches(context.epochs, unit, patch) * patch,))


def check_stretches(unit: int, patch: float, context: ContextConfig, pool: str) -> None:
    """Raise ConfigError for stretches that it cannot be given.

    Of epochs of ``unit`` samples; a patch is of ``patch`` samples, before they are rounded.
    """
    if unit > MOST_SAMPLES:
        raise ConfigError(
            f"patches of {patch / unit:.3g} epochs are for stores of features, and epochs of this "
            f"store are signals of {unit:,} samples: take an encoder with patches no longer than "
            "an epoch."
        )
    if pool != "cls":
        raise ConfigError(
            f"pool={pool}: patches are longer than an epoch, of which there is one token and "
            "nothing to pool; leave it out."
        )
    n_epochs = round(patch / unit)
    if abs(patch / unit - n_epochs) > 1e-6:
        raise ConfigError(
            f"patches are of {patch / unit:.3g} epochs: take patches of whole epochs, by patch_s."
        )
    if context.whole or context.model == "viterbi" or context.epochs < 2 * n_epochs:
        raise ConfigError(
            f"an encoder whose patches are of {n_epochs} epochs is given stretches of one "
            f"length, context.epochs, of {2 * n_epochs} epochs at least: leave out "
            "context.whole and context.model=viterbi, and set context.epochs to what a window was "
            "in pretraining (240 with --config night-through)."
        )
