"""A class for every place: a linear head on the maps of an encoder that does not learn.

Maps after some of the encoder's blocks are brought to the grid of the first of them, linearly, and
joined; each of their numbers is standardised (BatchNorm: by the batch in training, by the running
mean and variance afterwards), and a linear layer, which is a convolution of extent 1, gives the
classes. Logits are brought to the extent of the input. Signals of one axis and images are one.

Source: Zhu et al., Understanding Self-Supervised Pretraining with Part-Aware Representation
Learning, TMLR 2024: part segmentation, maps after blocks 3, 5, 7 and 11 of 12, counted from 0.
*Differs from its code*: no dropout before the layer, no auxiliary head (which has no effect on it);
of several processes each has a BatchNorm of its own share of a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.contracts import IGNORED, MaskedExamples
from partsig.core.frozen_encoder import LINEAR, FrozenEncoder, joined
from partsig.core.objectives.supervised import LossConfig, SupervisedModule
from partsig.core.transformer import initialise

# Bytes of an encoder's maps that are kept in memory, so that they are not made anew each epoch.
MOST_KEPT = 2 * 2**30
AT_ONCE = 32  # items that are encoded at a time, where all are


def default_taps(depth: int) -> tuple[int, ...]:
    """Return the blocks, from 0, after 1/3, 1/2, 2/3 and all of an encoder's ``depth``.

    >>> default_taps(12), default_taps(5), default_taps(1)
    ((3, 5, 7, 11), (1, 2, 3, 4), (0,))
    """
    after = (-(-depth // 3), -(-depth // 2), -(-2 * depth // 3), depth)
    return tuple(dict.fromkeys(n - 1 for n in after))


class DenseHead(nn.Module):
    """A class for every place of a map: BatchNorm and a linear layer, whatever the rank."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, n_classes)
        initialise(self.linear)

    def forward(self, joint: Tensor) -> Tensor:
        """Return logits (B, K, *grid) of a map (B, E, *grid)."""
        places = self.norm(joint.flatten(2)).transpose(1, 2)  # (B, N, E)
        return self.linear(places).transpose(1, 2).unflatten(2, joint.shape[2:])


class KeptMaps:
    """Maps of items that an encoder is asked for in every epoch, as far as memory allows.

    They are made all at once, in their order, so that they do not depend on that of training. A
    copy of it keeps nothing: copies are made to be measured.
    """

    def __init__(self, examples: MaskedExamples | None, most: int = MOST_KEPT) -> None:
        self.examples, self.most = examples, most
        self.maps: list[Tensor] | None = None

    def __deepcopy__(self, _memo: dict) -> "KeptMaps":
        return KeptMaps(None)

    def of(
        self, numbers: Tensor, make: Callable[[Tensor], tuple[Tensor, ...]], device: torch.device
    ) -> tuple[Tensor, ...] | None:
        """Return the maps of the items of these numbers (b,); None where they are too many."""
        if self.maps is None and self.examples is not None:
            self._fill(make, device)
        return None if self.maps is None else tuple(part[numbers] for part in self.maps)

    def _fill(self, make: Callable[[Tensor], tuple[Tensor, ...]], device: torch.device) -> None:
        n, at = len(self.examples), 0
        for x in self.examples.in_order(AT_ONCE):
            found = make(torch.from_numpy(x).to(device))
            if self.maps is None:
                each = sum(part[0].numel() * part.element_size() for part in found)
                if n * each > self.most:
                    break
                self.maps = [part.new_empty((n, *part.shape[1:])) for part in found]
            for whole, part in zip(self.maps, found, strict=True):
                whole[at : at + len(part)] = part
            at += len(x)
        self.examples = None


class Segmenter(SupervisedModule):
    """An encoder that does not learn, and a head that gives every place a class.

    ``taps``: blocks whose maps it sees. Larger inputs than ``window`` (samples or pixels along
    every axis; 0: of any extent) are looked at window by window, ``stride`` apart, and logits are
    averaged where windows overlap.
    """

    learns_by = "head_steps"

    def __init__(
        self,
        encoder: FrozenEncoder,
        n_classes: int,
        taps: Sequence[int] = (),
        window: int = 0,
        stride: int = 0,
        loss: LossConfig | None = None,
    ) -> None:
        super().__init__(loss or LossConfig())
        self.encoder = encoder.requires_grad_(False)
        self.taps = tuple(taps) or default_taps(encoder.config.depth)
        encoder.check(self.taps)
        self.window, self.stride = window, stride
        self.head = DenseHead(sum(encoder.tap_widths[tap] for tap in self.taps), n_classes)
        self.kept = KeptMaps(None)

    @property
    def positions(self) -> Tensor | None:
        """Position codes (N + 1, E) that the encoder brings, where it has learned some."""
        return self.encoder.code

    def train(self, mode: bool = True) -> "Segmenter":
        """Put the head in training or evaluation; the encoder stays as it is used."""
        super().train(mode)
        self.encoder.eval()
        return self

    def look_at(self, train: MaskedExamples) -> None:
        """Remember whose maps may be kept."""
        self.kept = KeptMaps(train)

    @torch.no_grad()
    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the encoder makes of windows (B, C, *L): maps (B, E_k, *grid_k)."""
        return self.encoder.encode(x, self.taps).maps

    def from_maps(self, maps: Sequence[Tensor], extent: Sequence[int]) -> Tensor:
        """Return logits (B, K, *extent) of an encoder's maps."""
        return brought(self.head(joined(maps)), extent)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, K, *L) of inputs (B, C, *L) of any extent, as recorded."""
        if not self.slides(x.shape[2:]):
            return self.from_maps(self.maps(x), x.shape[2:])
        n_classes = self.head.linear.out_features
        total = torch.zeros(len(x), n_classes, *x.shape[2:], device=x.device)
        count = torch.zeros(x.shape[2:], device=x.device)
        for place in windows(x.shape[2:], self.window, self.stride):
            part = x[(..., *place)]
            total[(..., *place)] += self.from_maps(self.maps(part), part.shape[2:])
            count[place] += 1
        return total / count

    def slides(self, extent: Sequence[int]) -> bool:
        """Tell whether an input of this extent is larger than the window, along any axis."""
        return bool(self.window) and any(length > self.window for length in extent)

    def forward(
        self,
        x: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
        item: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean cross-entropy of labels (B, *L), 255 ignored, and the share right.

        ``item`` (B,): the numbers of inputs (B, C, *L) that are the same in every epoch.
        """
        maps = None if item is None else self.kept.of(item, self.maps, x.device)
        maps = self.maps(x) if maps is None else maps
        logits = self.from_maps(maps, x.shape[2:]).float()
        return judged(logits, labels)


def judged(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the cross-entropy and the share right of logits (B, K, *L), by labels (B, *L).

    Means over all places that have a label; zeros where none has.

    >>> told = judged(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 255]]))
    >>> round(told["loss"].item(), 4), told["accuracy"].item()
    (0.6931, 0.5)
    """
    truth = labels.long()
    known = truth != IGNORED
    count = known.sum().clamp(min=1)
    total = F.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
    right = (logits.detach().argmax(1) == truth) & known
    return {"loss": total / count, "accuracy": right.sum() / count}


def brought(maps: Tensor, extent: Sequence[int]) -> Tensor:
    """Return maps (B, K, *grid) interpolated linearly to (B, K, *extent)."""
    if tuple(maps.shape[2:]) == tuple(extent):
        return maps
    mode = LINEAR[len(extent)]
    return F.interpolate(maps, tuple(extent), mode=mode, align_corners=False)


def windows(extent: Sequence[int], window: int, stride: int) -> Iterator[tuple[slice, ...]]:
    """Yield the places of windows that cover an extent, ``stride`` apart, the last at the end.

    >>> [(a.start, a.stop) for (a,) in windows((10,), 4, 3)]
    [(0, 4), (3, 7), (6, 10)]
    >>> [(a.start, a.stop) for (a,) in windows((11,), 4, 3)]
    [(0, 4), (3, 7), (6, 10), (7, 11)]
    """
    along = []
    for length in extent:
        size = min(window, length)
        steps = -(-(length - size) // stride) + 1
        first = [min(i * stride, length - size) for i in range(steps)]
        along.append([slice(at, at + size) for at in first])
    return product(*along)
