"""The settings of tasks, which need no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from partsig.errors import ConfigError, check_range

# Samples of an epoch above which it is a signal, not features of one.
MOST_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """How a teacher's opinion is used; only with ``--teacher``."""

    confidence: Annotated[
        float,
        "least probability of the teacher's likeliest class for an epoch without a label to be "
        "used",
    ] = 0.8
    share: Annotated[
        float,
        "epochs without a label per labelled one in a batch, with the teacher's probabilities as "
        "label; 0 uses none",
    ] = 1.0
    distil: Annotated[
        float, "weight of the teacher's probabilities against the label of a labelled epoch"
    ] = 0.0

    def __post_init__(self) -> None:
        check_range("pseudo.confidence", self.confidence, 0.0, 1.0)
        check_range("pseudo.share", self.share, 0.0, 100.0)
        check_range("pseudo.distil", self.distil, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """What ``--task part-segmentation`` and ``object-segmentation`` do with an encoder's maps."""

    taps: Annotated[
        tuple[int, ...],
        "blocks, from 0, whose maps are used; []: those after 1/3, 1/2, 2/3 and all of the depth",
    ] = ()
    window: Annotated[
        int,
        "pixels of a side of what is looked at at a time: in training anywhere in an image, in "
        "judging window by window; 0 is the whole image",
    ] = 0
    stride: Annotated[
        int, "pixels from one window to the next in judging; 0 is two thirds of the window"
    ] = 0

    def __post_init__(self) -> None:
        for tap in self.taps:
            check_range("segmentation.taps", tap, 0)
        check_range("segmentation.window", self.window, 0)
        check_range("segmentation.stride", self.stride, 0)
        if self.stride > self.window:
            raise ConfigError(
                f"segmentation.stride is {self.stride}; it can be at most segmentation.window "
                f"({self.window}), or pixels between windows would not be looked at."
            )

    @property
    def step(self) -> int:
        """Pixels from one window to the next, where there are windows."""
        return self.stride or max(2 * self.window // 3, 1)


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """How epochs are labelled from those around them; only with ``--task night-context``."""

    model: Annotated[
        Literal["gru", "transformer", "viterbi"],
        "gru: bidirectional; transformer: with relative positions; viterbi: an epoch alone, then "
        "the likeliest path by how stages follow one another in training",
    ] = "gru"
    epochs: Annotated[
        int, "epochs of a stretch that is labelled at once; 1 is each alone, as for viterbi"
    ] = 21
    width: Annotated[int, "numbers of the network's hidden states"] = 64
    layers: Annotated[int, "layers of the network"] = 1
    dropout: Annotated[float, "share of hidden numbers that are dropped in training"] = 0.2
    whole: Annotated[
        bool,
        "label whole nights at once, gru and viterbi only; else overlapping stretches, averaged",
    ] = False
    through: Annotated[
        bool,
        "train the encoder as well: of epochs, on a store of signals; of whole nights, on one of "
        "features",
    ] = False

    def __post_init__(self) -> None:
        check_range("context.epochs", self.epochs, 1, 10_000)
        check_range("context.width", self.width, 4, 4096)
        check_range("context.layers", self.layers, 1, 32)
        check_range("context.dropout", self.dropout, 0.0, 0.9)
        if self.width % 4:
            raise ConfigError(f"context.width is {self.width}; it must be a multiple of 4.")
        if self.whole and self.model == "transformer":
            raise ConfigError(
                "context.whole is for gru and viterbi: a transformer would meet distances that no "
                "stretch in training has; leave it out."
            )
