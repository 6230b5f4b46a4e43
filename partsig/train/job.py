"""What a training loop is handed, and what it hands back."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from torch import Tensor, nn

from partsig.contracts import Batch
from partsig.errors import check_range
from partsig.train.distributed import World
from partsig.train.optim import OptimConfig

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how a model is trained.

    ``epochs`` to ``precision`` change the result; ``accumulate`` and ``compile`` change it by
    rounding, and by drop path's draws, only; the rest is speed and disk.
    """

    epochs: Annotated[int, "passes over the training data"] = 1000
    batch_size: Annotated[int, "windows or images per step, over all processes"] = 512
    average: Annotated[
        float,
        "decay of an exponential average of the weights, which is then what is measured and kept; "
        "0 is off",
    ] = 0.0
    validate_every: Annotated[
        int, "epochs between two measures on the monitor or validation subjects"
    ] = 1
    precision: Annotated[
        Literal["auto", "float32", "bf16"],
        "numbers the network computes with; auto: bf16 on a GPU, float32 on the CPU",
    ] = "auto"
    accumulate: Annotated[
        int, "parts a process works its share of a batch through, to save memory"
    ] = 1
    compile: Annotated[Literal["auto", "always", "never"], "torch.compile; auto: on a GPU"] = "auto"
    checkpoint_minutes: Annotated[float, "minutes between two checkpoints"] = 10.0
    keep: Annotated[int, "checkpoints that are kept"] = 2
    log_every: Annotated[int, "steps between two lines of metrics.jsonl"] = 20
    workers: Annotated[
        int,
        "processes that augment images, for each that trains, at most one per core; -1: what the "
        "machine has to spare, 0: none",
    ] = -1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "accumulate", "keep", "log_every"):
            check_range(f"fit.{name}", getattr(self, name), 1)
        check_range("fit.checkpoint_minutes", self.checkpoint_minutes, 0.0)
        check_range("fit.average", self.average, 0.0, 0.99999)
        check_range("fit.workers", self.workers, -1)


# Settings that may change between a run and its continuation.
SPEED_KEYS = tuple(
    f"fit.{name}"
    for name in ("accumulate", "compile", "checkpoint_minutes", "keep", "log_every", "workers")
)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a verb hands to the loop.

    ``batch_at(step)`` returns this process's share of the batch of a step; it depends on (seed,
    step) alone. ``prefetch`` tells where it is called: ahead, in a thread; ahead, in processes of
    their own (``config.workers``), where it takes long or draws from torch's own generator; or, as
    it then gives tensors on the device, when they are needed. ``model(inputs, targets, generator=…,
    share=(first, total), progress=…)`` returns scalars, one of them ``loss``.
    ``on_epoch(epoch)`` returns values to log and runs in the main process only; where it gives
    ``best`` that value's highest epoch is kept in ``best.pt``. ``derive`` turns the scalars into
    what is logged; ``describe_batch(step)`` says what may be wrong with a step's;
    ``distance(parameter)`` is how many layers lie above a parameter, for layer-wise rates.
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
    derive: Callable[[dict[str, float]], dict[str, float]] = field(default=lambda values: values)
    describe_batch: Callable[[int], str] = field(default=lambda step: "")
    distance: Callable[[str], int] | None = None

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
