"""The one training loop: pretraining and fine-tuning differ in what they hand to it."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from partsig.contracts import Batch
from partsig.errors import ConfigError, DataError
from partsig.train import checkpoint, distributed, speed
from partsig.train.batches import make_batches
from partsig.train.job import STOPPING, State, Stopped, TrainingJob
from partsig.train.journal import Journal
from partsig.train.kept import BEST, at_least, resume, save
from partsig.train.optim import learning_rate, make_optimizer
from partsig.train.step import Average, Stepper, as_written, compile_blocks


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
    state = resume(job, model, stepper.optimizer, average)
    journal = Journal(job.run, state.step, job.total, job.label, active=world.main)
    saved = time.monotonic()
    batches, stopped = make_batches(job, state.step), 0
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
                    save(job, model, stepper.optimizer, state, average)
                    saved = time.monotonic()
                if stop and state.step < job.total:
                    stopped = state.step  # told when the bar is gone
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
        if stopped and world.main:
            _tell_stopped(job, stopped)
    distributed.wait(world)
    return state


def _tell_stopped(job: TrainingJob, step: int) -> None:
    """Say on standard error what is kept, and how to go on."""
    print(
        f"partsig: stopped after step {step:,} of {job.total:,}; all of it is kept in "
        f"{job.run}, and the same command continues.",
        file=sys.stderr,
        flush=True,
    )


def profile(job: TrainingJob) -> str:
    """Run a few steps under the profiler, without touching the run's state; return a table."""
    model = job.model.to(job.world.device)
    stepper = _stepper(job, model)
    batches = make_batches(job, 0)

    def step(number: int) -> None:
        nonlocal batches
        with record_function("batch"):
            batch = next(batches, None)
            if batch is None:  # the whole run has fewer steps than are timed
                batches = make_batches(job, 0)
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
        still=job.still,
        still_steps=round(job.still_share * job.total),
    )


def _precision(job: TrainingJob) -> str:
    if job.config.precision != "auto":
        return job.config.precision
    return "bf16" if job.world.device.type == "cuda" else "float32"


def _rate(job: TrainingJob, step: int) -> float:
    config = job.config
    return learning_rate(step, job.steps_per_epoch, config.epochs, config.batch_size, job.optim)


def _advance(job: TrainingJob, stepper: Stepper, batch: Batch, step: int) -> dict[str, Tensor]:
    with _room_for_a_step(job):
        return stepper(batch, step, _rate(job, step))


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
        loss = values.get(job.ties)
        if job.best and (
            state.best is None or at_least(values[job.best], loss, state.best["value"], state.tie)
        ):
            state.best, state.tie = {"value": values[job.best], "epoch": epoch}, loss
            checkpoint.save(
                job.run / BEST,
                {"kind": job.kind, **job.identity, "best": state.best, "model": model.state_dict()},
            )
    distributed.wait(job.world)


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
