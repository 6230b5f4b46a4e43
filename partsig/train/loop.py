"""The one training loop: pretraining and fine-tuning differ in what they hand to it."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.data import DataLoader, Dataset

from partsig.contracts import Batch
from partsig.errors import CheckpointError, ConfigError, DataError, PartsigError, check_range
from partsig.train import checkpoint, distributed, speed
from partsig.train.distributed import World
from partsig.train.journal import Journal
from partsig.train.optim import OptimConfig, learning_rate, make_optimizer
from partsig.train.step import Average, Stepper, as_written, compile_blocks

BEST = "best.pt"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how a model is trained.

    Changes the result: ``epochs``, ``batch_size`` (over all processes), ``average`` (decay of an
    exponential average of the weights, which is then what is measured and kept; 0 is off),
    ``validate_every`` (epochs between two measures on the monitor or validation subjects),
    ``precision`` (auto: bf16 on a GPU, float32 on the CPU). Changes it by rounding, and by drop
    path's draws, only: ``accumulate`` (parts a process works its share through, to save memory),
    ``compile`` (auto: on a GPU). Only speed and disk: ``checkpoint_minutes``, ``keep``
    (checkpoints), ``log_every`` (steps), ``workers`` (processes of their own that augment images,
    for each that trains, at most one per core; -1 is what the machine has to spare, 0 none).
    """

    epochs: int = 1000
    batch_size: int = 512
    average: float = 0.0
    validate_every: int = 1
    precision: Literal["auto", "float32", "bf16"] = "auto"
    accumulate: int = 1
    compile: Literal["auto", "always", "never"] = "auto"
    checkpoint_minutes: float = 10.0
    keep: int = 2
    log_every: int = 20
    workers: int = -1

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
# Processes that make batches, where nothing is said: above these the GPU has long been the limit.
MOST_WORKERS = 16
# Where processes hand batches over on Linux; in containers often 64 MB.
SHARED = Path("/dev/shm")


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


def fit(job: TrainingJob) -> State:
    """Train to the last epoch, from the run's newest checkpoint if it has one; return the state.

    Every random draw is a function of (seed, step), so a continued run takes the same course as
    one that was never interrupted: bit for bit on the CPU with the same number of threads and
    processes.

    Raises DataError when the loss stops being finite, CheckpointError when the run's checkpoint
    does not fit the model, ConfigError when a GPU's memory does not suffice (and for what), Stopped
    after a signal.
    """
    with _room(
        job,
        "the model and its optimiser",
        "end other programs that use it, or make the model smaller",
    ):
        return _fit(job)


@contextmanager
def _room(job: TrainingJob, what: str, advice: str) -> Iterator[None]:
    """Tell what a GPU's memory does not suffice for; what was told further in is left as it is."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"the memory of {job.world.device} does not suffice for {what}: {advice}."
        ) from None


def _room_for_a_step(job: TrainingJob) -> AbstractContextManager:
    return _room(
        job,
        f"a step on a batch of {job.config.batch_size // job.world.size} windows",
        f"raise fit.accumulate (now {job.config.accumulate}), which works it through in so many "
        "parts, or lower fit.batch_size",
    )


def _fit(job: TrainingJob) -> State:
    world, config = job.world, job.config
    model = job.model.to(world.device)
    clock = _clock(job)  # before anything is compiled: it counts on a copy of the model
    stepper = _stepper(job, model)
    average = Average(model, config.average) if config.average else None
    state = _resume(job, model, stepper.optimizer, average)
    journal = Journal(job.run, state.step, job.total, job.label, active=world.main)
    saved = time.monotonic()
    batches = _batches(job, state.step)
    try:
        with _signals() as asked:
            while state.step < job.total:
                with _room(
                    job,
                    f"putting a batch of {config.batch_size // world.size} windows there",
                    "lower fit.batch_size, or end other programs that use it",
                ):
                    batch = clock.wait_for(batches)
                values = _advance(job, stepper, batch, state.step)
                if average:
                    average.update(model)
                if tuple(values) != state.keys:  # held by a partsig that measured something else
                    state.keys, state.held = tuple(values), []
                state.held.append(torch.stack([v.float() for v in values.values()]))
                state.step += 1
                journal.advance()
                epoch, within = divmod(state.step, job.steps_per_epoch)
                if state.step % config.log_every == 0 or within == 0:
                    with record_function("reading"):
                        means = _read(job, state)
                    means |= clock.read(state.step) | {"lr": _rate(job, state.step - 1)}
                    journal.write(state.step, epoch, job.derive(means), job.shown)
                if within == 0:
                    with average.in_place_of(model) if average else nullcontext():
                        _end_of_epoch(job, model, journal, state, epoch)
                    clock.skip(state.step)
                several = world.size > 1
                stop = 0
                if not several or state.step % 8 == 0:
                    stop = distributed.agree(asked[0], world)
                late = time.monotonic() - saved > 60 * config.checkpoint_minutes
                if world.main and (late or stop or state.step == job.total):
                    _refuse_not_finite(job, state)
                    _save(job, model, stepper.optimizer, state, average)
                    saved = time.monotonic()
                if stop and state.step < job.total:
                    raise Stopped(128 + stop)
    except RuntimeError as error:  # torch raises it wherever the loop happens to be
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that makes batches was lost, perhaps for want of memory: run the same "
            "command again, with --set fit.workers=0 if that does not help."
        ) from None
    finally:
        batches.close()
        journal.close()
    distributed.wait(world)
    return state


def profile(job: TrainingJob) -> str:
    """Run a few steps under the profiler, without touching the run's state; return a table."""
    model = job.model.to(job.world.device)
    stepper = _stepper(job, model)
    batches = _batches(job, 0)

    def step(number: int) -> None:
        nonlocal batches
        with record_function("batch"):
            batch = next(batches, None)
            if batch is None:  # the whole run has fewer steps than are timed
                batches = _batches(job, 0)
                batch = next(batches)
        values = _advance(job, stepper, batch, number)
        with record_function("reading"):
            torch.stack([value.float() for value in values.values()])

    try:
        return speed.write_profile(job.run, step, job.world.device)
    finally:
        batches.close()


def _stepper(job: TrainingJob, model: nn.Module) -> Stepper:
    config, world = job.config, job.world
    if config.compile == "always" or (config.compile == "auto" and world.device.type == "cuda"):
        example = job.batch_at(0).split(config.accumulate)[0].to(world.device)
        with _room_for_a_step(job):
            compile_blocks(model, example, _precision(job), lambda text: print(text, flush=True))
    return Stepper(
        model=distributed.wrap(model, world),
        optimizer=make_optimizer(model, job.optim, job.distance),
        world=world,
        seed=job.seed,
        precision=_precision(job),
        accumulate=config.accumulate,
        clip=job.optim.clip,
        steps=job.total,
    )


def _precision(job: TrainingJob) -> str:
    if job.config.precision != "auto":
        return job.config.precision
    return "bf16" if job.world.device.type == "cuda" else "float32"


def _rate(job: TrainingJob, step: int) -> float:
    config = job.config
    return learning_rate(step, job.steps_per_epoch, config.epochs, config.batch_size, job.optim)


def _advance(job: TrainingJob, stepper: Stepper, batch: Batch, step: int) -> dict[str, Tensor]:
    total = len(batch) * job.world.size
    with _room_for_a_step(job):
        return stepper(batch, total, step, _rate(job, step))


def _clock(job: TrainingJob) -> speed.Clock:
    """Return the clock of the main process; the others' tells nothing."""
    if not job.world.main:
        return speed.Clock(0, 0.0, 0.0, job.world.device)
    dtype = torch.bfloat16 if _precision(job) == "bf16" else torch.float32
    flops = speed.count_flops(job.model, job.batch_at(0))
    peak = speed.measure_peak(job.world.device, dtype) * job.world.size
    return speed.Clock(job.config.batch_size, flops, peak, job.world.device)


def _read(job: TrainingJob, state: State) -> dict[str, float]:
    """Bring the means since the last reading to the host, averaged over the processes."""
    _refuse_not_finite(job, state)
    means = distributed.mean(torch.stack(state.held).mean(0), job.world)
    state.held = []
    return dict(zip(state.keys, means.tolist(), strict=True))


def _refuse_not_finite(job: TrainingJob, state: State) -> None:
    """Raise DataError when a loss since the last reading was not finite; nothing is saved then."""
    if not state.held:
        return
    losses = torch.stack(state.held)[:, state.keys.index("loss")].tolist()
    for number, loss in enumerate(losses, start=state.step - len(losses)):
        if not abs(loss) < float("inf"):
            raise DataError(
                f"the loss became {loss} at step {number + 1}{job.describe_batch(number)}. Lower "
                "optim.lr, set optim.clip, or look for damaged input; the last checkpoint is "
                "kept."
            )


def _end_of_epoch(
    job: TrainingJob, model: nn.Module, journal: Journal, state: State, epoch: int
) -> None:
    due = epoch % job.config.validate_every == 0 or epoch == job.config.epochs
    if job.on_epoch is not None and due and job.world.main:
        model.eval()
        room = _room(
            job,
            f"measuring the model after epoch {epoch}",
            "end other programs that use it, or take a device that has more",
        )
        with room, as_written(model):
            values = job.on_epoch(epoch)
        journal.write(state.step, epoch, values, job.shown)
        if job.best and (state.best is None or values[job.best] > state.best["value"]):
            state.best = {"value": values[job.best], "epoch": epoch}
            checkpoint.save(
                job.run / BEST,
                {"kind": job.kind, **job.identity, "best": state.best, "model": model.state_dict()},
            )
    distributed.wait(job.world)


def _save(
    job: TrainingJob,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    average: Average | None,
) -> None:
    content = {
        "kind": job.kind,
        **job.identity,
        "step": state.step,
        "best": state.best,
        "keys": list(state.keys),
        "held": state.held,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if average:
        content["average"] = average.weights
    checkpoint.save(checkpoint.path_of(job.run, state.step), content)
    checkpoint.prune(job.run, job.config.keep)


def _resume(
    job: TrainingJob, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> State:
    """Load the run's newest checkpoint, if there is one; an unreadable one is always an error."""
    path = checkpoint.newest(job.run)
    if path is None:
        return State()
    content = checkpoint.load(path, job.kind)
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        if average:
            average.load(content["average"])
        held = [scalars.to(job.world.device) for scalars in content["held"]]
        return State(content["step"], content["best"], tuple(content["keys"]), held)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not fit this configuration ({reason}).") from None


def _batches(job: TrainingJob, step: int) -> Iterator[Batch]:
    """Yield the batches from ``step`` on, the next one being cut while this one is used."""
    device = job.world.device

    def placed(batch: Batch) -> Batch:
        if device.type == "cuda":
            return batch.pin_memory().to(device, non_blocking=True)
        return batch

    def ready(at: int) -> Batch:
        return placed(job.batch_at(at))

    if job.prefetch == "never":
        yield from (job.batch_at(at) for at in range(step, job.total))
        return
    if job.prefetch == "processes":
        if step < job.total:
            yield from map(placed, _worker_batches(job, step))
        return
    # A thread begins on the first GPU, and would pin memory for that one.
    own = (torch.cuda.set_device, (device,)) if device.index is not None else (None, ())
    with ThreadPoolExecutor(1, "partsig-batches", *own) as pool:
        ahead = pool.submit(ready, step) if step < job.total else None
        while ahead is not None:
            batch = ahead.result()
            step += 1
            ahead = pool.submit(ready, step) if step < job.total else None
            yield batch


def _worker_batches(job: TrainingJob, step: int) -> Iterator[Batch]:
    """Yield CPU batches from ``step`` on, made by processes of their own, two ahead of each."""
    source = iter(
        DataLoader(
            _Numbered(job.batch_at),
            batch_size=None,
            sampler=range(step, job.total),
            num_workers=_workers(job, job.batch_at(step).nbytes),
            collate_fn=_identity,
            pin_memory=job.world.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_loop,
            generator=torch.Generator(),  # its seed is not to be drawn from the training's
        )
    )
    try:
        for batch in source:
            if isinstance(batch, PartsigError):
                raise batch
            yield batch
    except ConnectionError:  # it ended while it handed a batch over
        raise RuntimeError("DataLoader worker ended") from None
    finally:
        # Not left to the garbage collection: a traceback may hold the iterator, and its processes
        # would then be waited for when Python ends.
        getattr(source, "_shutdown_workers", lambda: None)()


def _leave_signals_to_the_loop(_worker: int) -> None:
    """A signal to the whole group stops the loop, which then ends its workers."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class _Numbered(Dataset):
    """Batches by their step, as a process is asked for them."""

    def __init__(self, batch_at: Callable[[int], Batch]) -> None:
        self.batch_at = batch_at

    def __getitem__(self, step: int) -> Batch | PartsigError:
        try:
            return self.batch_at(step)
        except PartsigError as error:  # handed over: raised there, it would come with a traceback
            return error


def _identity(batch: Batch | PartsigError) -> Batch | PartsigError:
    return batch


def _workers(job: TrainingJob, nbytes: int) -> int:
    """Return how many processes make batches of so many bytes, where nothing is said.

    One on the CPU, whose cores train; on a GPU as many as there are cores to spare and room in the
    shared memory that hands batches over.
    """
    if multiprocessing.current_process().daemon:  # such a one may have no children
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if job.config.workers >= 0:
        return min(job.config.workers, cores)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", job.world.size))  # processes that train here
    most = min(cores // beside - 1, MOST_WORKERS if job.world.device.type == "cuda" else 1)
    if SHARED.is_dir():
        most = min(most, int(shutil.disk_usage(SHARED).free / 2 / beside // (3 * nbytes)))
    return max(most, 0)


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
