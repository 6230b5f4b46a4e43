"""One optimiser step: precision, accumulation, clipping; compiled where that works."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from partsig.contracts import Batch
from partsig.seeds import Stream, seed_of
from partsig.train import distributed
from partsig.train.distributed import World
from partsig.train.gathering import Placed, Remembered, gathers


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Takes optimiser steps; everything random in one is a function of (seed, step).

    ``steps`` is how many the whole run has: the model is told which share of them is over. In the
    first ``still_steps`` of them the parameters ``still`` stay as they are.
    """

    model: nn.Module  # as wrapped for several processes
    optimizer: torch.optim.Optimizer
    world: World
    seed: int
    precision: str
    accumulate: int
    clip: float
    steps: int
    still: Sequence[nn.Parameter] = ()
    still_steps: int = 0

    def __call__(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Take step number ``step`` at this learning rate; return the model's scalars, detached.

        ``batch`` is this process's share of the step's. It is worked through in ``accumulate``
        parts, whose gradients add up to the whole's; so do those of all processes, however many
        rows each of them has.
        """
        self._seed_layers(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        parts = batch.split(self.accumulate)
        sums: dict[str, Tensor] = {}
        with self._gathering(parts, step) as place:
            for number, part in enumerate(parts):
                # What several processes have is averaged afterwards, as if it was of equal sizes.
                weight = len(part) * self.world.size / part.share[1]
                place(part)
                last = number == len(parts) - 1
                with self._silent() if not last else nullcontext():
                    values = self._forward(self.model, part, step)
                    with record_function("step: backward"):
                        (values["loss"] * weight).backward()
                for key, value in values.items():
                    sums[key] = sums.get(key, 0.0) + value.detach() * weight
        with record_function("step: optimiser"):
            if step < self.still_steps:
                for parameter in self.still:
                    parameter.grad = None  # neither moved nor decayed, nor clipped by
            if self.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
        return sums

    def _seed_layers(self, step: int) -> None:
        # On a CPU 0.5 ms less than asking every other kind of device.
        seeded = torch.default_generator if self.world.device.type == "cpu" else torch
        seeded.manual_seed(seed_of(Stream.DROP_PATH, self.seed, step, self.world.rank))

    def _forward(self, model: nn.Module, part: Batch, step: int) -> dict[str, Tensor]:
        """Return the model's scalars of a part of the batch; the same draws for every part."""
        device = self.world.device
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(Stream.OBJECTIVE, self.seed, step))
        with (
            record_function("step: forward"),
            torch.autocast(device.type, torch.bfloat16, self.precision == "bf16"),
        ):
            return model(
                *part.arguments(),
                generator=generator,
                share=part.share,
                progress=step / self.steps,
                **part.extras,
            )

    @contextmanager
    def _gathering(self, parts: list[Batch], step: int) -> Iterator[Callable[[Batch], None]]:
        """Give a function that readies the model for a part, where it needs the whole batch.

        Of a batch in several parts, what is gathered is computed beforehand, without a gradient and
        by the same draws (GradCache: Gao et al. 2021, arXiv 2101.06983); of one part, what the
        other processes have is asked for within the step.
        """
        model = self.model.module if self._several else self.model
        if not gathers(model) or len(parts[0]) == parts[0].share[1]:
            yield lambda part: None
            return
        before = model.gather
        try:
            if len(parts) > 1:
                model.gather = noted = Remembered()
                with torch.no_grad():
                    for part in parts:
                        self._forward(model, part, step)
                self._seed_layers(step)
                each = len(noted.calls) // len(parts)  # calls of gather in a forward pass
                whole = [
                    distributed.gathered(torch.cat(noted.calls[call::each]), self.world)
                    for call in range(each)
                ]

                def place(part: Batch) -> None:
                    model.gather = Placed(whole, part.first)
            else:

                def place(part: Batch) -> None:
                    def asked(rows: Tensor) -> Tensor:
                        all_rows = distributed.gathered(rows.detach(), self.world)
                        return Placed([all_rows], part.first)(rows)

                    model.gather = asked

            yield place
        finally:
            model.gather = before

    @property
    def _several(self) -> bool:
        return isinstance(self.model, DistributedDataParallel)

    def _silent(self):
        """Return a context in which gradients are not yet averaged over the processes."""
        return self.model.no_sync() if self._several else nullcontext()


def check_scalars(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Raise TypeError where a model does not return scalars, one of them ``loss``."""
    wrong = [name for name, value in values.items() if value.ndim]
    if wrong or "loss" not in values:
        raise TypeError(
            f"{type(model).__name__} returned {', '.join(values)}"
            + (f"; {', '.join(wrong)} are no scalars" if wrong else "")
            + ": forward must return scalars, one of them loss."
        )


class Average:
    """An exponential average of a model's parameters, kept beside it on the same device.

    ``w += (1 - d) (new - w)`` after every step, with d rising from 0 to ``decay`` as
    t / (t + 10) does, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.weights["steps"] = torch.zeros(())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's present weights into the average."""
        steps = self.weights["steps"]
        weight = 1 - min(self.decay, steps.item() / (steps.item() + 10))
        steps += 1
        named = dict(model.named_parameters())
        kept = [self.weights[name] for name in named]
        torch._foreach_lerp_(kept, list(named.values()), weight)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over the weights of a checkpoint."""
        for name, kept in self.weights.items():
            kept.copy_(weights[name])

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average for the while."""
        named = dict(model.named_parameters())
        own = {name: p.detach().clone() for name, p in named.items()}
        self._put(named, self.weights)
        try:
            yield
        finally:
            self._put(named, own)

    @staticmethod
    @torch.no_grad()
    def _put(named: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
        for name, parameter in named.items():
            parameter.copy_(weights[name])


def _compilable(model: nn.Module) -> list[nn.Module]:
    """Return what a model offers to be compiled; one that says nothing is run as it is."""
    return list(model.compilable()) if hasattr(model, "compilable") else []


def as_written(model: nn.Module) -> AbstractContextManager:
    """Return a context in which compiled blocks run as they are written.

    For batches of other shapes, or without a gradient: each would be compiled anew, which takes
    longer than it saves.
    """
    compiled = any(module._compiled_call_impl is not None for module in _compilable(model))
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def compile_blocks(
    model: nn.Module, example: Batch, precision: str, tell: Callable[[str], None]
) -> bool:
    """Compile what a model offers in place, if that works here; else say why and leave it.

    Parameters keep their names. ``example`` is a batch of the size to come, on the model's device,
    used for one trial step forward and backward. A batch too large for the memory is an error here
    as it would be in training. A model that offers nothing (a baseline) is left as it is.
    """
    modules = _compilable(model)
    if not modules:
        tell("this model has no blocks to compile: it runs as it is.")
        return False
    # The compiler keeps eight forms of one function in a process, whatever model they were for;
    # beyond them it would give up without a word.
    torch.compiler.reset()
    for module in modules:
        module.compile(dynamic=False)
    model.train()  # what was measured before would be compiled as it is measured
    device = example.inputs.device
    generator = torch.Generator(device).manual_seed(seed_of(Stream.TRIAL, 0))
    try:
        with (
            warnings.catch_warnings(),
            torch.autocast(device.type, torch.bfloat16, precision == "bf16"),
        ):
            # float32 is asked for by name; what is left of it beside bfloat16 is little.
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            loss = model(*example.arguments(), generator=generator, **example.extras)["loss"]
            loss.backward()
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        ImportError,
        OSError,
    ) as error:  # torch's compiler errors are RuntimeErrors
        for module in modules:
            module._compiled_call_impl = None
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        tell(f"torch.compile does not work here and is left out: {reason[:200]}")
        return False
    finally:
        model.zero_grad(set_to_none=True)
    return True
