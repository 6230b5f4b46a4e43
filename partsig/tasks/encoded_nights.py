"""An encoder of epochs and the network over what it makes of them, trained as one on signals."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from partsig.contracts import EpochExamples
from partsig.core.channels import kept_channels
from partsig.core.objectives.supervised import EncoderClassifier, LossConfig, SupervisedModule
from partsig.errors import ConfigError
from partsig.runs.features import batch_size
from partsig.tasks.frozen import InputShape
from partsig.tasks.night_context import ContextNetwork, features_of
from partsig.tasks.settings import MOST_SAMPLES, ContextConfig

# Epochs by which the encoder, as training begins, tells what is usual of its features.
USUAL_OF = 2_000


class EncodedNights(SupervisedModule):
    """What ``net`` pools of each epoch, and :class:`ContextNetwork` over it, in one loss.

    Stretches are (B, N, C * T), each epoch's samples channel after channel. In prediction each
    epoch of a night is encoded once. The encoder's own head is not used, and stays as it is.
    """

    def __init__(
        self,
        net: EncoderClassifier,
        shape: InputShape,
        loss: LossConfig,
        context: ContextConfig,
        balanced: bool,
    ) -> None:
        super().__init__(loss)
        self.net = net
        net.head.requires_grad_(False)
        self.epoch = (len(shape.ch_names), *shape.window)  # (C, T)
        self.context = context
        names = tuple(f"e_{i}" for i in range(self.n_features))
        features = replace(shape, ch_names=names, window=(1,), patch=(1,))
        # Channels are dropped of signals, not of features.
        whole = replace(loss, channel_dropout=0.0)
        self.around = ContextNetwork("context", features, whole, context, balanced)

    @property
    def n_features(self) -> int:
        """How many numbers the network around is given of an epoch."""
        return self.net.head.in_features

    def look_at(self, train: EpochExamples) -> None:
        """Take what is usual of features as the encoder is now, and how stages follow."""
        step = max(1, -(-sum(train.n_epochs.values()) // USUAL_OF))
        some = [
            self._encoded(train.signal(name), np.arange(0, train.n_epochs[name], step))
            for name in train.names
        ]
        self.around.take_usual(np.concatenate(some))
        self.around.take_chain(train)

    def context_logits(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Return logits (B, N, K) of stretches, of which the epochs ``present`` are there."""
        return self.around.context_logits(self._features(x, present), present)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of epochs (B, C, T), each by itself."""
        return self.around.logits(self.net.features(x).float().unsqueeze(-1))

    def forward(
        self,
        x: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
        weights: Tensor | None = None,
        present: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return loss and accuracy as :class:`ContextNetwork` does; a stretch's channels drop."""
        if self.training and self.loss.channel_dropout:
            chance = self.loss.channel_dropout
            kept = kept_channels(len(x), self.epoch[0], chance, x.device)
            x = x.unflatten(-1, self.epoch) * kept[:, None, :, None]
            x = x.flatten(2)
        features = self._features(x, present)
        return self.around(features, labels, generator, share, progress, weights, present)

    def distance_from_head(self, parameter: str) -> int:
        """Return how many layers of the encoder lie above a parameter; 0 for all after it."""
        module, _, rest = parameter.partition(".")
        return self.net.distance_from_head(rest) if module == "net" else 0

    def of_encoder(self) -> list[nn.Parameter]:
        """Return the encoder's parameters."""
        return self.net.of_encoder()

    def predict_signal(
        self, signal: np.ndarray, stretches: list[tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Return class probabilities (E, K) of the epochs of a signal (C, samples), as recorded.

        ``stretches``: the (first, stop) of epochs between which nothing is missing; None: nothing
        is missing anywhere. The signal may lie on disk: a batch of epochs is read at a time.
        """
        if stretches is None:
            stretches = [(0, signal.shape[1] // self.epoch[1])]
        features = self._encoded(signal, np.arange(stretches[-1][1]))
        return self.around.predict_signal(features.T, stretches)

    def _features(self, x: Tensor, present: Tensor | None) -> Tensor:
        """Return features (B, N, F) of stretches (B, N, C * T), 0 where no epoch is."""
        epochs = x.unflatten(-1, self.epoch)
        if present is None or bool(present.all()):
            return self.net.features(epochs.flatten(0, 1)).float().unflatten(0, x.shape[:2])
        found = x.new_zeros(*x.shape[:2], self.net.head.in_features, dtype=torch.float32)
        found[present] = self.net.features(epochs[present]).float()
        return found

    @torch.inference_mode()
    def _encoded(self, signal: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return features (n, F) float32 of some epochs (n,) of a signal (C, samples)."""
        self.eval()
        device = self.around.centre.device
        size, n_times = batch_size(device), self.epoch[1]
        blocks = []
        for at in range(0, len(epochs), size):
            rows = [features_of(signal, e, e + 1, n_times) for e in epochs[at : at + size].tolist()]
            x = torch.from_numpy(np.concatenate(rows)).to(device)
            blocks.append(self.net.features(x.unflatten(-1, self.epoch)).float().cpu().numpy())
        return np.concatenate(blocks)


def check_signals(n_times: int) -> None:
    """Raise ConfigError where an epoch has so few samples that they are features, no signal."""
    if n_times <= MOST_SAMPLES:
        raise ConfigError(
            "context.through trains an encoder of signals, and epochs of this store are features, "
            f"{n_times} of each channel: leave it out, pass the store of the signals, or start "
            "from an encoder of whole nights, whose patches are longer than an epoch (--from RUN, "
            "--like RUN, or patch_s)."
        )
