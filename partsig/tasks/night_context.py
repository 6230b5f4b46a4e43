"""Epochs labelled from those around them: what is drawn of nights, and the network that learns it.

A stretch is so many epochs that follow one another with nothing missing between: no gap is ever
crossed, in training or in prediction. Epochs without a label are seen, and carry no loss. In
prediction stretches overlap, :data:`OVERLAP` to an epoch, and their probabilities are averaged; or
nights are labelled as a whole.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.contracts import Batch, EpochExamples, Order
from partsig.core.channels import kept_channels
from partsig.core.context import AttentionContext, RecurrentContext
from partsig.core.objectives.supervised import LossConfig, SupervisedModule
from partsig.errors import ConfigError
from partsig.seeds import Stream, rng_of
from partsig.tasks import markov
from partsig.tasks.frozen import InputShape
from partsig.tasks.settings import MOST_SAMPLES, ContextConfig

# Stretches that each epoch is predicted in, at least, where a night is long enough.
OVERLAP = 3
# Spreads beyond which a feature is cut off: an artefact must not drown a night.
FARTHEST = 10.0
# Epochs from which features' usual values are taken, and stretches that are predicted at a time.
USUAL_OF, AT_A_TIME = 50_000, 64
UNLABELLED = -1


class Stretches:
    """What the steps of training draw from: the examples' nights, cut into stretches of ``epochs``.

    Those with a label in them; their number is the length. ``labels`` is None: a stretch has no
    one class (``balanced`` weights the loss instead, see :class:`StretchBatches`).
    """

    labels = None

    def __init__(self, examples: EpochExamples, epochs: int) -> None:
        self.examples, self.epochs = examples, epochs
        self._signals = [examples.signal(name) for name in examples.names]
        self._targets = labels_by_part(examples)
        tiles = []
        for number, name in enumerate(examples.names):
            labels = self._targets[number]
            for begin, end in examples.stretches(name):
                for at in range(begin, end, epochs):
                    first = max(begin, min(at, end - epochs))
                    if (labels[first : min(first + epochs, end)] != UNLABELLED).any():
                        tiles.append((number, begin, end, first))
        self._tiles = np.array(tiles, np.int64)  # (n, 4)

    def __len__(self) -> int:
        return len(self._tiles)

    def cut(
        self, index: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (b, N, F), labels (b, N) and which epochs are there (b, N), bool.

        Each stretch begins ``shift`` (b,) epochs later, as far as its surroundings go. One that is
        shorter than others is filled up at its end.
        """
        n_features = features_of(self._signals[0], 0, 1, self.examples.n_times).shape[1]
        x = np.zeros((len(index), self.epochs, n_features), np.float32)
        y = np.full((len(index), self.epochs), UNLABELLED, np.int64)
        present = np.zeros((len(index), self.epochs), bool)
        for row, (tile, off) in enumerate(zip(index.tolist(), shift.tolist(), strict=True)):
            part, begin, end, first = self._tiles[tile].tolist()
            first = max(begin, min(first + off, end - self.epochs))
            last = min(first + self.epochs, end)
            n = last - first
            x[row, :n] = features_of(self._signals[part], first, last, self.examples.n_times)
            y[row, :n], present[row, :n] = self._targets[part][first:last], True
        return x, y, present


@dataclass(frozen=True, kw_only=True)
class StretchBatches:
    """A process's share of stretches by step; each begins up to half a stretch off.

    ``weights`` (K,) are the classes' in the loss. Over a whole batch the weights of its labelled
    epochs add up to the number of stretches, so that any division of it gives the same loss.
    """

    stretches: Stretches
    order: Order
    weights: np.ndarray

    def __call__(self, step: int) -> Batch:
        every = self.order(step)
        mine = self.order.share(len(every))
        reach = self.stretches.epochs // 2
        rng = rng_of(Stream.SHIFTS, self.order.seed, step)
        shift = rng.integers(-reach, reach + 1, len(every))
        x, y, present = self.stretches.cut(every, shift)
        weights = np.where(y == UNLABELLED, 0.0, self.weights[y])
        weights *= len(every) / max(weights.sum(), 1e-12)
        return Batch(
            torch.from_numpy(x[mine]),
            torch.from_numpy(y[mine]),
            {
                "weights": torch.from_numpy(weights[mine].astype(np.float32)),
                "present": torch.from_numpy(present[mine]),
            },
            first=mine.start,
            total=len(every),
        )


class ContextNetwork(SupervisedModule):
    """A network over the features of epochs; what is usual of them is taken from training epochs.

    Inputs are features (B, N, F). With ``context.model`` viterbi the network sees an epoch alone,
    and a night's probabilities are decoded by how stages followed one another in training.
    """

    def __init__(
        self,
        _name: str,
        shape: InputShape,
        loss: LossConfig,
        context: ContextConfig | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(loss)
        self.check_input(shape)
        self.context = context or ContextConfig()
        self.n_times, self.balanced = shape.window[0], balanced
        n_features, n_classes = len(shape.ch_names) * self.n_times, len(shape.classes)
        kind = AttentionContext if self.context.model == "transformer" else RecurrentContext
        size = (self.context.width, self.context.layers, self.context.dropout)
        self.net = kind(n_features, *size, n_classes)
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.register_buffer("prior", torch.full((n_classes,), 1 / n_classes, dtype=torch.float64))
        even = torch.full((n_classes, n_classes), 1 / n_classes, dtype=torch.float64)
        self.register_buffer("transitions", even)

    @classmethod
    def check_input(cls, shape: InputShape) -> None:
        """Raise ConfigError where an epoch is a signal, and not features of one."""
        check_samples(shape.window[0])

    def look_at(self, train: EpochExamples) -> None:
        """Take features' usual values from the labelled nights, and how stages follow there."""
        step = max(1, -(-sum(train.n_epochs.values()) // USUAL_OF))
        some = [
            features_of(train.signal(name), 0, train.n_epochs[name], self.n_times)[::step]
            for name in train.names
        ]
        self.take_usual(np.concatenate(some))
        self.take_chain(train)

    def take_usual(self, some: np.ndarray) -> None:
        """Take what is usual of features (n, F)."""
        low, middle, high = np.quantile(some.astype(np.float64), (0.25, 0.5, 0.75), axis=0)
        wide = np.where(high > low, high - low, some.std(0, dtype=np.float64))
        self.centre.copy_(torch.from_numpy(middle))
        self.spread.copy_(torch.from_numpy(np.where(wide > 0, wide, 1.0)))

    def take_chain(self, train: EpochExamples) -> None:
        """Take how frequent classes are in the labelled nights, and how they follow there."""
        labels, n_classes = labels_by_part(train), len(self.prior)
        rows = [
            row[a:b]
            for row, name in zip(labels, train.names, strict=True)
            for a, b in train.stretches(name)
        ]
        counts = np.bincount(train.labels, minlength=n_classes) + 1.0
        if not self.balanced:
            self.prior.copy_(torch.from_numpy(counts / counts.sum()))
        self.transitions.copy_(torch.from_numpy(markov.transitions_of(rows, n_classes)))

    def context_logits(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Return logits (B, N, K) of features (B, N, F), of which the epochs ``present`` are there.

        What stands where no epoch is has no meaning; None: all are there.
        """
        usual = ((x.float() - self.centre) / self.spread).clamp(-FARTHEST, FARTHEST)
        if present is not None:
            usual = usual * present.unsqueeze(-1)
        return self.net(usual, present).float()

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of epochs (B, C, T), each by itself."""
        alone = x.flatten(1).unsqueeze(1)  # (B, 1, F)
        there = torch.ones(alone.shape[:2], dtype=torch.bool, device=x.device)
        return self.context_logits(alone, there).squeeze(1)

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
        """Return the weighted cross-entropy of labels (B, N), -1 for none, and the accuracy.

        ``weights`` (B, N) of a whole batch add up to its rows. What is drawn in training comes from
        torch's own generator.
        """
        if self.training and self.loss.channel_dropout:
            channels = x.shape[-1] // self.n_times
            kept = kept_channels(len(x), channels, self.loss.channel_dropout, x.device)
            x = x * kept.repeat_interleave(self.n_times, dim=1).unsqueeze(1)  # zeros, as elsewhere
        logits = self.context_logits(x, present).flatten(0, 1)
        known, weights = labels.flatten().clamp(min=0), weights.flatten()
        nats = F.cross_entropy(logits, known, label_smoothing=self.loss.smoothing, reduction="none")
        right = (logits.detach().argmax(-1) == known).float()
        return {
            "loss": (weights * nats).sum() / len(x),
            "accuracy": (weights * right).sum() / len(x),
        }

    def compilable(self) -> list[nn.Module]:
        """Return nothing: stretches are short, and rows of many lengths."""
        return []

    def predict_signal(
        self, signal: np.ndarray, stretches: list[tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Return class probabilities (E, K) of the epochs of features (C, E).

        ``stretches``: the (first, stop) of epochs between which nothing is missing; None: nothing
        is missing anywhere.
        """
        self.eval()
        return by_stretch(signal, stretches, self.n_times, len(self.prior), self._of_stretch)

    def _of_stretch(self, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (N, K) of features (N, F) between which nothing is missing."""
        size = len(x) if self.context.whole else self.context.epochs
        if self.context.epochs == 1:
            size = 1
        given = torch.from_numpy(x).to(self.centre.device)
        p = averaged(self.context_logits, given, size, len(self.prior))
        if self.context.model == "viterbi":
            p = markov.decoded(p, self.prior.cpu().numpy(), self.transitions.cpu().numpy())
        return p


def by_stretch(
    signal: np.ndarray,
    stretches: list[tuple[int, int]] | None,
    n_times: int,
    n_classes: int,
    of_stretch: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return class probabilities (E, K) of the epochs, of ``n_times`` samples, of a signal (C, T).

    ``of_stretch`` gives them (N, K) of the features (N, F) of a stretch; see
    :meth:`ContextNetwork.predict_signal`.
    """
    if stretches is None:
        stretches = [(0, signal.shape[1] // n_times)]
    result = np.zeros((stretches[-1][1], n_classes))
    for begin, end in stretches:
        result[begin:end] = of_stretch(features_of(signal, begin, end, n_times))
    return result


@torch.inference_mode()
def averaged(
    logits_of: Callable[[Tensor, Tensor], Tensor], x: Tensor, size: int, n_classes: int
) -> np.ndarray:
    """Return class probabilities (N, K), the means of those of overlapping stretches of ``size``.

    Of features (N, F) between which nothing is missing; ``logits_of`` is as
    :meth:`ContextNetwork.context_logits`.
    """
    n = len(x)
    size = min(size, n)
    sums = torch.zeros(n, n_classes, dtype=torch.float64, device=x.device)
    counts = torch.zeros(n, 1, dtype=torch.float64, device=x.device)
    for at in _begins(n, size):
        rows = torch.tensor(at, device=x.device)[:, None] + torch.arange(size, device=x.device)
        there = torch.ones(rows.shape, dtype=torch.bool, device=x.device)
        p = logits_of(x[rows], there).double().softmax(-1)
        sums.index_add_(0, rows.flatten(), p.flatten(0, 1))
        counts.index_add_(0, rows.flatten(), torch.ones_like(p[..., :1]).flatten(0, 1))
    return (sums / counts).cpu().numpy()


def _begins(n: int, size: int) -> Iterator[list[int]]:
    """Yield where stretches of ``size`` begin that cover n epochs, some at a time."""
    step = max(1, size // OVERLAP)
    begins = sorted({*range(0, n - size, step), n - size})
    each = max(1, AT_A_TIME * 21 // size)
    for at in range(0, len(begins), each):
        yield begins[at : at + each]


def features_of(signal: np.ndarray, first: int, last: int, n_times: int) -> np.ndarray:
    """Return the features (N, C * T), float32, of some epochs of a signal (C, all samples)."""
    part = np.asarray(signal[:, first * n_times : last * n_times], np.float32)
    by_epoch = part.reshape(len(part), last - first, n_times).transpose(1, 0, 2)
    # A copy in any case: a store's arrays cannot be written, which torch warns of.
    return np.array(by_epoch.reshape(last - first, -1))


def labels_by_part(examples: EpochExamples) -> list[np.ndarray]:
    """Return the labels (E,) of all epochs of each part, -1 where there is none."""
    every = []
    for name, mine in examples.by_recording():
        labels = np.full(examples.n_epochs[name], UNLABELLED, np.int64)
        labels[examples.epoch[mine]] = examples.labels[mine]
        every.append(labels)
    return every


def class_weights(labels: np.ndarray, n_classes: int, balanced: bool) -> np.ndarray:
    """Return the weights (K,) of classes in the loss: 1, or what makes them equal in training.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, balanced=True).round(2).tolist()
    [0.67, 2.0]
    """
    counts = Counter(labels.tolist())
    if not balanced:
        return np.ones(n_classes)
    even = len(labels) / len(counts)
    return np.array([even / counts[k] if k in counts else 0.0 for k in range(n_classes)])


def check_samples(n_times: int) -> None:
    """Raise ConfigError where an epoch has so many samples that they are no features."""
    if n_times > MOST_SAMPLES:
        raise ConfigError(
            f"--task night-context reads features, and epochs of this store are signals of "
            f"{n_times:,} samples: make a store of an encoder's features or of band powers with "
            "`partsig embed --as-store`, and pass that as --store; or train the encoder too, with "
            "--set context.through=true."
        )
