"""How fast a step is and where its time goes: FLOPs counted, peaks measured, profiles written."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from partsig.contracts import Batch
from partsig.files import atomic, write_text
from partsig.seeds import Stream, seed_of
from partsig.train.step import check_scalars

PHASES = ("batch", "step: forward", "step: backward", "step: optimiser", "reading")


def count_flops(model: nn.Module, batch: Batch) -> float:
    """Return the floating-point operations of forward and backward per window of ``batch``.

    Matrix products and attention are counted (a multiplication and an addition are two), nothing
    else. Counted on a copy on the CPU, whose state is not touched.
    """
    # Brings Triton along: 80 MB of memory in every process that only loads a model.
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(model).cpu().train()
    small = batch[:2].to(torch.device("cpu"))
    state = torch.get_rng_state()
    try:
        # The plain form of attention: the counter does not know the CPU's fused one.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            generator = torch.Generator().manual_seed(seed_of(Stream.TRIAL, 0))
            values = twin(*small.arguments(), generator=generator, **small.extras)
            check_scalars(twin, values)
            values["loss"].backward()
    finally:
        torch.set_rng_state(state)
    return counter.get_total_flops() / len(small)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the matrix-product rate of this device in FLOP/s, as measured here and now.

    Of random numbers: a GPU multiplies constants faster than it multiplies anything real.
    """
    n = 8192 if device.type == "cuda" else 1024
    generator = torch.Generator(device).manual_seed(seed_of(Stream.TRIAL, 0))
    a = torch.randn(n, n, generator=generator, device=device).to(dtype)
    best = 0.0
    for _ in range(5):
        _synchronise(device)
        started = time.perf_counter()
        for _ in range(3):
            a @ a
        _synchronise(device)
        best = max(best, 3 * 2 * n**3 / (time.perf_counter() - started))
    return best


class Clock:
    """Windows per second, share of the device's measured matrix rate, and GPU memory.

    ``flops`` per window; ``peak`` in FLOP/s. With a batch of 0 nothing is told. ``waiting`` is the
    share of the time in which the loop had no batch to go on with.
    """

    def __init__(self, batch: int, flops: float, peak: float, device: torch.device) -> None:
        self.batch, self.flops, self.peak, self.device = batch, flops, peak, device
        self.started, self.step, self.waited = 0.0, 0, 0.0

    def skip(self, step: int) -> None:
        """Start a new measure at this step."""
        self.started, self.step, self.waited = time.perf_counter(), step, 0.0

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch, and remember how long it took to come."""
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        return batch

    def read(self, step: int) -> dict[str, float]:
        """Return the rates since the last reading; the first one starts the clock only."""
        done, seconds = step - self.step, time.perf_counter() - self.started
        waited = self.waited
        began = self.started > 0
        self.skip(step)
        if not began or not self.batch:
            return {}
        rate = done * self.batch / seconds
        readings = {"windows_per_s": rate, "utilisation": rate * self.flops / self.peak}
        readings["waiting"] = waited / seconds
        if self.device.type == "cuda":
            readings["gpu_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        return readings


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_profile(
    run: Path, step: Callable[[int], None], device: torch.device, warmup: int = 3, steps: int = 10
) -> str:
    """Profile ``steps`` calls of ``step(number)`` after ``warmup``; return a one-screen table.

    Writes ``RUN/profile/trace.json`` (for chrome://tracing or Perfetto) and ``table.txt``.
    """
    for number in range(warmup):
        step(number)
    _synchronise(device)
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds, acc_events=True) as profiler:
        started = time.perf_counter()
        for number in range(warmup, warmup + steps):
            step(number)
        _synchronise(device)
        whole = time.perf_counter() - started
    events = {event.key: event for event in profiler.key_averages()}
    lines = [f"{steps} steps, {1e3 * whole / steps:.2f} ms each on {device}", ""]
    lines.append(f"{'phase':<18}{'ms/step':>10}{'share':>8}")
    known = 0.0
    for phase in PHASES:
        if phase in events:
            seconds = events[phase].cpu_time_total / 1e6
            known += seconds
            lines.append(_line(phase.removeprefix("step: "), seconds, steps, whole))
    lines.append(_line("rest", max(whole - known, 0.0), steps, whole))
    lines += ["", f"{'operation (own time)':<44}{'calls/step':>12}{'ms/step':>10}"]
    device_time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    own = [event for key, event in events.items() if key not in PHASES]
    own.sort(key=lambda event: -getattr(event, device_time))
    for event in own[:14]:
        milliseconds = getattr(event, device_time) / 1e3 / steps
        lines.append(f"{event.key[:43]:<44}{event.count / steps:>12.1f}{milliseconds:>10.2f}")
    table = "\n".join(lines)
    folder = run / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "trace.json") as temporary:
        profiler.export_chrome_trace(str(temporary))
    write_text(folder / "table.txt", table + "\n")
    return table


def _line(name: str, seconds: float, steps: int, whole: float) -> str:
    return f"{name:<18}{1e3 * seconds / steps:>10.2f}{100 * seconds / whole:>7.1f}%"
