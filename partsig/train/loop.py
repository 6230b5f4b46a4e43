"""The one training loop: pretraining and fine-tuning differ in what they hand to it."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from partsig.errors import CheckpointError, DataError, check_range
from partsig.train import checkpoint, distributed
from partsig.train.distributed import World
from partsig.train.journal import Journal
from partsig.train.optim import OptimConfig, learning_rate, make_optimizer

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how a model is trained.

    Changes the result: ``epochs``, ``batch_size`` (over all processes), ``precision`` (auto: bf16
    on a GPU, float32 on the CPU). Only speed and disk: ``checkpoint_minutes``, ``log_every``
    (steps).
    """

    epochs: int = 1000
    batch_size: int = 512
    precision: Literal["auto", "float32", "bf16"] = "auto"
    checkpoint_minutes: float = 10.0
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "log_every"):
            check_range(f"fit.{name}", getattr(self, name), 1)
        check_range("fit.checkpoint_minutes", self.checkpoint_minutes, 0.0)


# Settings that may change between a run and its continuation.
SPEED_KEYS = ("fit.checkpoint_minutes", "fit.log_every")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a verb hands to the loop.

    ``batch_at(step)`` returns this process's share of the batch of a step, CPU tensors that depend
    on (seed, step) alone. ``model(*batch, generator=…, share=(first, total))`` returns scalars, one
    of them ``loss``. ``on_epoch(epoch)`` returns values to log and runs in the main process only;
    where it gives ``best`` that value's highest epoch is kept in ``best.pt``.
    """

    model: nn.Module
    batch_at: Callable[[int], tuple[Tensor, ...]]
    steps_per_epoch: int
    config: FitConfig
    optim: OptimConfig
    seed: int
    run: Path
    kind: str
    identity: dict
    world: World
    label: str
    shown: tuple[str, ...] = ("loss",)
    on_epoch: Callable[[int], dict[str, float]] | None = None
    best: str | None = None
    derive: Callable[[dict[str, float]], dict[str, float]] = field(default=lambda values: values)


class Stopped(SystemExit):
    """A signal asked the run to stop; its checkpoint is written, and the exit code tells which."""


def seed_of(*parts: int) -> int:
    """Return a 63-bit seed that depends on all of ``parts``.

    >>> seed_of(0, 1) != seed_of(1, 0)
    True
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def fit(job: Fit) -> dict:
    """Train to the last epoch, from the run's own checkpoint if it has one; return the last state.

    Every random draw is a function of (seed, step), so a continued run takes the same course as
    one that was never interrupted: bit for bit on the CPU with the same number of threads and
    processes.

    Raises DataError when the loss stops being finite, CheckpointError when the run's checkpoint
    does not fit the model, Stopped after a signal.
    """
    world, config, total = job.world, job.config, job.config.epochs * job.steps_per_epoch
    model = job.model.to(world.device)
    optimizer = make_optimizer(model, job.optim)
    step, best, sums, n_summed = _resume(job, model, optimizer)
    wrapped = distributed.wrap(model, world)
    journal = Journal(job.run, step, total, job.label, active=world.main)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if world.device.type == "cuda" else "float32"
    saved = started = time.monotonic()
    n_timed = 0
    batches = _prefetch(job.batch_at, step, total, world.device)
    try:
        with _signals() as asked:
            while step < total:
                batch = next(batches)
                size = config.batch_size // world.size
                share = (world.rank * size, config.batch_size) if world.size > 1 else None
                rate = learning_rate(
                    step, job.steps_per_epoch, config.epochs, config.batch_size, job.optim
                )
                values = _step(job, wrapped, optimizer, batch, share, step, rate, precision)
                step += 1
                journal.advance()
                for key, value in values.items():
                    sums[key] = sums[key] + value if key in sums else value
                n_summed, n_timed = n_summed + 1, n_timed + 1
                epoch, within = divmod(step, job.steps_per_epoch)
                if step % config.log_every == 0 or within == 0:
                    means = _read(sums, n_summed, step, world)
                    elapsed = max(time.monotonic() - started, 1e-9)
                    means |= {"lr": rate, "windows_per_s": n_timed * config.batch_size / elapsed}
                    journal.write(step, epoch, job.derive(means), job.shown)
                    sums, n_summed = {}, 0
                    started, n_timed = time.monotonic(), 0
                if within == 0:
                    best = _end_of_epoch(job, model, journal, step, epoch, best)
                    started, n_timed = time.monotonic(), 0
                stop = distributed.agree(asked[0], world) if step % 8 == 0 or world.size == 1 else 0
                late = time.monotonic() - saved > 60 * config.checkpoint_minutes
                if world.main and (late or stop or step == total):
                    _refuse_not_finite(sums, n_summed, step)
                    _save(job, model, optimizer, step, best, sums, n_summed)
                    saved = time.monotonic()
                if stop and step < total:
                    raise Stopped(128 + stop)
    finally:
        batches.close()
        journal.close()
    distributed.wait(world)
    return {"step": step, "best": best}


def _step(
    job: Fit,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, ...],
    share: tuple[int, int] | None,
    step: int,
    rate: float,
    precision: str,
) -> dict[str, Tensor]:
    """Take one optimiser step and return the detached scalars of the model."""
    device = job.world.device
    generator = torch.Generator(device).manual_seed(seed_of(job.seed, step, 0))
    torch.manual_seed(seed_of(job.seed, step, 1 + job.world.rank))  # drop path
    for group in optimizer.param_groups:
        group["lr"] = rate
    model.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        values = model(*batch, generator=generator, share=share)
    optimizer.zero_grad(set_to_none=True)
    values["loss"].backward()
    if job.optim.clip:
        nn.utils.clip_grad_norm_(model.parameters(), job.optim.clip)
    optimizer.step()
    return {key: value.detach() for key, value in values.items()}


def _read(sums: dict[str, Tensor], n: int, step: int, world: World) -> dict[str, float]:
    """Bring the means since the last reading to the host, averaged over the processes."""
    _refuse_not_finite(sums, n, step)
    stacked = torch.stack([value.float() for value in sums.values()]) / n
    return dict(zip(sums, distributed.mean(stacked, world).tolist(), strict=True))


def _refuse_not_finite(sums: dict[str, Tensor], n: int, step: int) -> None:
    """Raise DataError when a loss since the last reading was not finite; nothing is saved then."""
    if sums and not torch.isfinite(sums["loss"]):
        raise DataError(
            f"the loss became {sums['loss'].item()} between steps {step - n} and {step}; lower "
            "optim.lr, set optim.clip, or look for damaged signals. The last checkpoint is kept."
        )


def _end_of_epoch(
    job: Fit, model: nn.Module, journal: Journal, step: int, epoch: int, best: dict | None
) -> dict | None:
    if job.on_epoch is not None and job.world.main:
        model.eval()
        values = job.on_epoch(epoch)
        journal.write(step, epoch, values, job.shown)
        if job.best and (best is None or values[job.best] > best["value"]):
            best = {"value": values[job.best], "epoch": epoch}
            checkpoint.save(
                job.run / BEST,
                {"kind": job.kind, **job.identity, "best": best, "model": model.state_dict()},
            )
    distributed.wait(job.world)
    return best


def _save(
    job: Fit,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    best: dict | None,
    sums: dict[str, Tensor],
    n_summed: int,
) -> None:
    content = {
        "kind": job.kind,
        **job.identity,
        "step": step,
        "best": best,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "sums": sums,
        "n_summed": n_summed,
    }
    checkpoint.save(job.run / CHECKPOINT, content)


def _resume(
    job: Fit, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, dict | None, dict[str, Tensor], int]:
    """Load the run's own checkpoint, if there is one; an unreadable one is always an error.

    Returns the step, the best epoch so far, and the sums (over how many steps) since the last
    reading of the metrics.
    """
    path = job.run / CHECKPOINT
    if not path.exists():
        return 0, None, {}, 0
    content = checkpoint.load(path, job.kind)
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not fit this configuration ({reason}).") from None
    sums = {key: value.to(job.world.device) for key, value in content["sums"].items()}
    return content["step"], content["best"], sums, content["n_summed"]


def _prefetch(
    batch_at: Callable[[int], tuple[Tensor, ...]], step: int, total: int, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batches of steps step…total-1, the next one being cut while this one is used."""

    def ready(at: int) -> tuple[Tensor, ...]:
        batch = batch_at(at)
        if device.type == "cuda":
            return tuple(t.pin_memory().to(device, non_blocking=True) for t in batch)
        return batch

    with ThreadPoolExecutor(1, "partsig-batches") as pool:
        ahead = pool.submit(ready, step) if step < total else None
        while ahead is not None:
            batch = ahead.result()
            step += 1
            ahead = pool.submit(ready, step) if step < total else None
            yield batch


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Give a list whose one entry becomes the number of a stopping signal that arrived."""
    asked = [0]

    def note(number: int, _frame: object) -> None:
        asked[0] = number

    try:
        before = {number: signal.signal(number, note) for number in STOPPING}
    except ValueError:  # not the main thread: signals are not ours to handle
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
