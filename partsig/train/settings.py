"""How a model is trained: settings, which need no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine to ``min_lr``. Defaults are the paper's (its code).

    Rates are stated for a global batch of 512 and scaled by batch / 512. Weight decay spares
    biases, norms, tokens and position codes. *Differs from the paper*: the rate changes every step,
    not every epoch; its code scales only ``lr``.
    """

    lr: Annotated[float, "highest learning rate, for a batch of 512 (scaled by batch / 512)"] = 5e-4
    warmup_lr: Annotated[float, "learning rate of the first step, for a batch of 512"] = 1e-6
    min_lr: Annotated[float, "learning rate at the end, for a batch of 512; at most lr"] = 1e-5
    warmup_epochs: Annotated[float, "epochs over which the rate rises to lr"] = 20.0
    weight_decay: Annotated[float, "AdamW's, of matrices; biases and norms are spared"] = 0.05
    betas: Annotated[
        tuple[float, float], "AdamW's decay of its averages of gradient and square, each below 1"
    ] = (0.9, 0.999)
    clip: Annotated[float, "largest norm of the gradient; 0 is no limit"] = 0.0
    layer_decay: Annotated[
        float,
        "factor on the rate for every layer above, in fine-tuning only; 1 is off (BEiT, arXiv "
        "2106.08254)",
    ] = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "warmup_lr", "min_lr", "warmup_epochs", "weight_decay", "clip"):
            check_range(f"optim.{name}", getattr(self, name), 0.0)
        for beta in self.betas:
            check_range("optim.betas", beta, 0.0, 0.999999)
        check_range("optim.layer_decay", self.layer_decay, 0.01, 1.0)
        if self.min_lr > self.lr:
            raise ConfigError(f"optim.min_lr ({self.min_lr}) is above optim.lr ({self.lr}).")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how a model is trained.

    ``epochs`` to ``precision`` change the result; ``accumulate`` and ``compile`` change it by
    rounding, and by what layers draw (drop path, mixing, jitter), only: the loss is the batch's
    own, however it is divided. The rest is speed and disk.
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


def check_warmup(optim: OptimConfig, fit: FitConfig) -> None:
    """Raise ConfigError where training is over before the learning rate is at its highest.

    A run that was begun so may go on: this is no check of the settings themselves.
    """
    if optim.warmup_epochs > fit.epochs:
        raise ConfigError(
            f"optim.warmup_epochs ({optim.warmup_epochs:g}) is more than fit.epochs "
            f"({fit.epochs}): the rate would never reach optim.lr. Set optim.warmup_epochs to "
            f"{fit.epochs / 10:g}, a tenth of the training; it may be at most {fit.epochs}."
        )


# Settings that may change between a run and its continuation.
SPEED_KEYS = tuple(
    f"fit.{name}"
    for name in ("accumulate", "compile", "checkpoint_minutes", "keep", "log_every", "workers")
)
