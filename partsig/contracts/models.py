"""What trains or predicts: an objective of pretraining, and whatever stands for a classifier."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from partsig.contracts.inputs import Examples

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Objective(Protocol):
    """A model with its loss; everything drawn comes from ``generator``, for the whole batch.

    Where the loss of a window depends on the others' (negatives, a norm over the batch), the model
    calls ``gather``, which returns the rows (total, …) of the whole batch for those of these
    windows (B, …); see :mod:`partsig.core.whole`. None, or no such attribute: it does not.

    One that has ``look_at(x, **extras)`` is shown windows before the first step, as its statistics
    need them. One whose settings say ``brings_encoder`` trains no encoder of ours, but what
    :mod:`partsig.runs.perceiving` builds; its ``judged_by`` names what judges a run of it.
    """

    encoder: "nn.Module"
    gather: "Callable[[Tensor], Tensor] | None" = None

    def forward(
        self,
        x: "Tensor",
        *targets: "Tensor",
        generator: "torch.Generator",
        share: tuple[int, int] | None = None,
        progress: float = 1.0,
    ) -> "dict[str, Tensor]":
        """Return scalars, one of them ``loss``; a batch's targets and extras are arguments too.

        Extras by the names of :class:`~partsig.contracts.MarkedWindows`, None where none is told.
        """

    def compilable(self) -> "Iterable[nn.Module]":
        """Return the modules worth compiling: those most of the time is spent in."""


class Predictor(Protocol):
    """A network under a task: :class:`~partsig.core.objectives.supervised.SupervisedModule`.

    ``learns_by``: steps of the optimiser, which leave a frozen encoder as it is where they are
    ``head_steps``; or its linear ``head`` alone, fitted on ``features(x)``; or steps on
    ``features`` that are computed once, of what ``on_features()`` returns; or what its
    ``fit_examples(train, seed, device)`` does with all examples at once; or nothing. Of a network
    that does not learn, what it makes of examples is kept in the folder ``kept_in``.
    """

    learns_by: Literal["steps", "head_steps", "head", "features", "examples", "nothing"]
    kept_in: str | None

    @classmethod
    def check_input(cls, shape: object) -> None:
        """Raise ConfigError where it is not for inputs of this shape, kind and rate."""

    def logits(self, x: "Tensor") -> "Tensor":
        """Return logits (B, K) of windows (B, C, *L), as recorded."""

    def look_at(self, train: Examples) -> None:
        """Take what is needed of the training examples before the first step."""

    def compilable(self) -> "Iterable[nn.Module]":
        """Return the modules worth compiling."""

    def distance_from_head(self, parameter: str) -> int:
        """Return how many layers lie above a parameter, for layer-wise learning rates."""


class RecordingPredictor(Predictor, Protocol):
    """A predictor that must see the whole of a recording, not one window after the other."""

    def predict_signal(
        self, signal: np.ndarray, stretches: list[tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Return class probabilities (E, K) of the units of a signal (C, T), as recorded.

        ``stretches`` are the (first, stop) of units between which nothing is missing, all units in
        one of them; None: nothing is missing.
        """


class Looks(Protocol):
    """How windows of a modality look, and how they may be made to look otherwise.

    ``width`` is A, the number of values that tell a place's appearance.
    """

    width: int

    def appearance(self, x: "Tensor") -> "Tensor":
        """Return how windows (B, C, *L), as recorded, look at every place, (B, A, *L') float32."""

    def changed(
        self,
        x: "Tensor",
        generator: "torch.Generator",
        first: int,
        total: int,
        *,
        jitter: float,
        drop: float,
    ) -> "Tensor":
        """Return rows ``first`` and following of ``total`` windows, (B, C, *L), otherwise in look.

        What is drawn is drawn for all: ``jitter`` is the largest change as a share, ``drop`` the
        chance that colour, or a channel, is lost.
        """
