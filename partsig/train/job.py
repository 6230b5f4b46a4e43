"""What a training loop is handed, and what it hands back."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from partsig.contracts import Batch
from partsig.train.distributed import World
from partsig.train.settings import FitConfig, OptimConfig

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a verb hands to the loop.

    ``batch_at(step)`` returns this process's share of the batch of a step; it depends on (seed,
    step) alone. ``prefetch`` tells where it is called: ahead, in a thread; ahead, in processes of
    their own (``config.workers``), where it takes long or draws from torch's own generator; or, as
    it then gives tensors on the device, when they are needed. ``model(inputs, targets, generator=…,
    share=(first, total), progress=…)`` returns scalars, one of them ``loss``.
    ``on_epoch(epoch)`` returns values to log and runs in the main process only; where it gives
    ``best`` that value's highest epoch is kept in ``best.pt``; of equal ones that of the lowest
    ``ties``, then the latest. ``derive`` turns the scalars into
    what is logged; ``describe_batch(step)`` says what may be wrong with a step's;
    ``distance(parameter)`` is how many layers lie above a parameter, for layer-wise rates; in the
    first ``still_share`` of the steps the parameters ``still`` stay as they are.
    """

    model: nn.Module
    batch_at: Callable[[int], Batch]
    steps_per_epoch: int
    config: FitConfig
    optim: OptimConfig
    seed: int
    run: Path
    kind: str
    identity: dict
    world: World
    label: str
    prefetch: Literal["thread", "processes", "never"] = "thread"
    shown: tuple[str, ...] = ("loss",)
    on_epoch: Callable[[int], dict[str, float]] | None = None
    best: str | None = None
    ties: str | None = None
    derive: Callable[[dict[str, float]], dict[str, float]] = field(default=lambda values: values)
    describe_batch: Callable[[int], str] = field(default=lambda step: "")
    distance: Callable[[str], int] | None = None
    still: Sequence[nn.Parameter] = ()
    still_share: float = 0.0

    @property
    def total(self) -> int:
        """Number of steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


class Stopped(SystemExit):
    """A signal asked the run to stop; its checkpoint is written, and the exit code tells which."""


@dataclass
class State:
    """What changes while a run goes on, and is all that a checkpoint holds besides the weights."""

    step: int = 0
    best: dict | None = None
    keys: tuple[str, ...] = ()
    held: list[Tensor] = field(default_factory=list)  # scalars of the steps since the last reading
    tie: float | None = None  # the best epoch's value of the job's ``ties``
