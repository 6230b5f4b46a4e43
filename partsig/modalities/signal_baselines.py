"""What stands beside an encoder on signals: band powers under a classifier, published networks.

All are modules with ``logits(x)`` of windows (B, C, T) in µV, saved and loaded in the same way.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from partsig.contracts import Examples
from partsig.core.objectives.supervised import LossConfig, SupervisedModule
from partsig.data.signals.bands import window_features
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import boosted_trees
from partsig.runs.features import in_batches
from partsig.seeds import Stream, seed_of
from partsig.tasks.frozen import CPU, InputShape

# scikit-learn brings pandas along, 100 MB: only baselines need it.
if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

BRAINDECODE = {"chambon2018": "SleepStagerChambon2018", "usleep": "USleep"}


class LogisticOnBandPowers(SupervisedModule):
    """Logistic regression on log band powers (scikit-learn), as a module.

    Or on the samples, where these are features: see
    :func:`~partsig.data.signals.bands.window_features`.
    """

    learns_by = "head"

    def __init__(self, _name: str, shape: InputShape, _loss: LossConfig) -> None:
        super().__init__(LossConfig())
        self.sfreq = shape.samples_per_unit
        empty = np.zeros((1, len(shape.ch_names), *shape.window))
        self.head = nn.Linear(window_features(empty, self.sfreq).shape[1], len(shape.classes))

    def features(self, x: Tensor) -> Tensor:
        """Return log band powers (B, F)."""
        powers = window_features(x.cpu().numpy(), self.sfreq)
        return torch.from_numpy(powers).to(x.device, torch.float32)

    def from_features(self, features: Tensor) -> Tensor:
        """Return logits (B, K) of log band powers (B, F)."""
        return self.head(features)

    def logits(self, x: Tensor) -> Tensor:
        return self.from_features(self.features(x))


class BoostingOnBandPowers(SupervisedModule):
    """Gradient-boosted trees on log band powers (scikit-learn's histogram form, its defaults)."""

    learns_by = "examples"

    def __init__(self, _name: str, shape: InputShape, _loss: LossConfig) -> None:
        super().__init__(LossConfig())
        self.sfreq, self.n_classes = shape.samples_per_unit, len(shape.classes)
        empty = np.zeros((1, len(shape.ch_names), *shape.window))
        self.n_features = window_features(empty, self.sfreq).shape[1]
        self.trees: HistGradientBoostingClassifier | None = None

    def fit_examples(self, train: Examples, seed: int, _device: torch.device) -> None:
        """Grow the trees on labelled windows."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        powers = [window_features(x.numpy(), self.sfreq) for x in in_batches(train, CPU)]
        self.trees = HistGradientBoostingClassifier(
            random_state=seed_of(Stream.TREES, seed) % 2**32
        )
        self.trees.fit(np.concatenate(powers), train.labels)

    def logits(self, x: Tensor) -> Tensor:
        chances = self.trees.predict_proba(window_features(x.cpu().numpy(), self.sfreq))
        every = np.zeros((len(x), self.n_classes))
        every[:, self.trees.classes_] = chances
        return torch.from_numpy(np.log(every + 1e-9)).to(x.device, torch.float32)

    def get_extra_state(self) -> Tensor:
        """Return the trees as bytes that can be read without executing them."""
        return torch.frombuffer(bytearray(boosted_trees.dump(self.trees)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over trees from :meth:`get_extra_state`; raise CheckpointError for others."""
        if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.ndim != 1:
            raise CheckpointError("the boosted trees are no bytes.")
        content = state.numpy().tobytes()
        self.trees = boosted_trees.load(content, self.n_features, self.n_classes)


class BraindecodeNet(SupervisedModule):
    """A network of braindecode, trained as ours is.

    Channels are divided by ``scale``, their SD over the training windows, so that amplitudes stay
    comparable between windows.
    """

    def __init__(self, name: str, shape: InputShape, loss: LossConfig) -> None:
        super().__init__(loss)
        try:
            with warnings.catch_warnings():
                # braindecode 1.8 uses a name that MNE 1.13 deprecates, when it is imported.
                warnings.simplefilter("ignore", FutureWarning)
                from braindecode import models
        except ImportError:
            raise ConfigError(
                f"model={name} needs braindecode: pip install 'partsig[baselines]'."
            ) from None
        self.register_buffer("scale", torch.ones(len(shape.ch_names), 1))
        kind = getattr(models, BRAINDECODE[name])
        try:
            self.net = kind(
                n_chans=len(shape.ch_names),
                sfreq=shape.samples_per_unit,
                n_times=shape.window[0],
                n_outputs=len(shape.classes),
            )
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"model={name} does not fit this store ({reason}).") from None

    def look_at(self, train: Examples) -> None:
        """Take the SD of each channel from the windows that are trained on."""
        power = [x.double().var(-1, correction=0).sum(0) for x in in_batches(train, CPU)]
        spread = (torch.stack(power).sum(0) / len(train)).sqrt()
        self.scale.copy_(spread.clamp(min=1e-2).unsqueeze(1))

    def logits(self, x: Tensor) -> Tensor:
        return self.net(x.float() / self.scale)
