"""The phases ``environment`` and ``throughput`` of benchmarks/gpu.py: what the card can, and does.

Throughput is that of the real verbs on a store on disk: their own readings of windows per second,
of achieved FLOP/s as a share of the matrix rate they measure, of memory, of waiting for data.
"""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gpu_data import segment_store
from gpu_tools import Campaign
from torch.profiler import ProfilerActivity, profile

CONFIGS = Path(__file__).parents[1] / "configs"
SECONDS, ENVIRONMENT_SECONDS = 180, 45
BATCHES = (512, 8192, 2048, 1024, 4096)  # the published one, the ends, then the others
WINDOWS = 200_000  # a measure: some seconds
NAIVE = (1024, 512, 256, 128)
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
PACKAGES = ("torch", "torchvision", "timm", "triton", "numpy", "scipy", "scikit-learn", "pydantic")
TOP = 15


def environment(campaign: Campaign) -> None:
    """Note the machine, and measure what its device can do at most."""
    device = torch.device(campaign.device)
    campaign.put("machine", machine(device))
    n, repeats = (256, 2) if campaign.dry else (8192, 15)
    for name, dtype, mode in (
        ("bf16", torch.bfloat16, "highest"),
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
    ):
        campaign.attempt(
            f"{name} product", lambda d=dtype, m=mode: matrix_rate(device, d, m, n, repeats)
        )
    nbytes = 2**20 if campaign.dry else 2**31
    campaign.attempt("copy", lambda: copy_rate(device, nbytes, repeats))
    campaign.attempt("from host", lambda: host_rate(device, nbytes // 8, repeats))


def machine(device: torch.device) -> dict[str, object]:
    """Return what there is: card, driver, versions, cores, memory."""
    found: dict[str, object] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "shared_memory_gib": shutil.disk_usage("/dev/shm").total / 2**30
        if Path("/dev/shm").is_dir()
        else 0,
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory_gib": card.total_memory / 2**30,
            "multiprocessors": card.multi_processor_count,
            "capability": f"{card.major}.{card.minor}",
            "nvidia_smi": nvidia_smi(),
        }
    return found


def nvidia_smi() -> str:
    """Return driver, clocks and power as nvidia-smi tells them; its complaint where it does not."""
    keys = "driver_version,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={keys}", "--format=csv"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Return the seconds of each of so many calls, after two that warm up."""
    found = []
    for _ in range(repeats + 2):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return found[2:]


def synchronise(device: torch.device) -> None:
    """Return when the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(
    device: torch.device, dtype: torch.dtype, mode: str, n: int, repeats: int
) -> dict[str, float]:
    """Return the rate of products of square matrices of random numbers, median and best."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(mode)  # "high" allows TF32
    try:
        seconds = seconds_of(lambda: a @ b, device, repeats)
    finally:
        torch.set_float32_matmul_precision(before)
    rates = [2 * n**3 / s / 1e12 for s in seconds]
    return {"n": n, "tflops": statistics.median(rates), "best_tflops": max(rates)}


def copy_rate(device: torch.device, nbytes: int, repeats: int) -> dict[str, float]:
    """Return the rate of a copy within the device's memory; bytes read and written count."""
    source = torch.randint(256, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = statistics.median(seconds_of(lambda: target.copy_(source), device, repeats))
    return {"bytes": nbytes, "gb_per_s": 2 * nbytes / seconds / 1e9}


def host_rate(device: torch.device, nbytes: int, repeats: int) -> dict[str, float]:
    """Return the rate of copies from the host's memory: pinned, and with the pinning."""
    source = torch.randint(256, (nbytes,), dtype=torch.uint8)
    found = {"bytes": nbytes}
    plain = seconds_of(lambda: source.to(device, copy=True), device, repeats)
    found["pageable_gb_per_s"] = nbytes / statistics.median(plain) / 1e9
    if device.type == "cuda":
        pinned = source.pin_memory()
        quick = seconds_of(lambda: pinned.to(device, non_blocking=True), device, repeats)
        both = seconds_of(
            lambda: source.pin_memory().to(device, non_blocking=True), device, repeats
        )
        found["pinned_gb_per_s"] = nbytes / statistics.median(quick) / 1e9
        found["pinning_too_gb_per_s"] = nbytes / statistics.median(both) / 1e9
    return found


def run(campaign: Campaign) -> None:
    """Measure the verbs, in the order of what is worth knowing first."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    batches = (4, 8) if campaign.dry else BATCHES
    naive = (4,) if campaign.dry else NAIVE
    campaign.attempt("first step", lambda: first_step(store, batches[0], campaign))
    for batch in batches[:3]:
        campaign.attempt(f"batch {batch}", lambda b=batch: pretraining(store, b, campaign))
    campaign.attempt("naive head", lambda: that_fits(store, naive, campaign))
    campaign.attempt("profile", lambda: profiled(store, batches[-1], campaign))
    campaign.attempt("fine-tuning", lambda: finetuning(store, campaign))
    campaign.attempt("staging", lambda: staging(store, campaign))
    for batch in batches[:2]:
        more = {"resident": "never"}
        campaign.attempt(
            f"streamed {batch}", lambda b=batch, m=more: pretraining(store, b, campaign, m)
        )
    for batch in batches[3:]:
        campaign.attempt(f"batch {batch}", lambda b=batch: pretraining(store, b, campaign))


def settings_of(batch: int, steps: int, campaign: Campaign) -> dict[str, object]:
    """Return the overrides of a run of so many steps, read four times."""
    tiny = TINY if campaign.dry else {}
    return tiny | {
        "fit.batch_size": batch,
        "fit.epochs": 1,
        "windows_per_epoch": batch * steps,
        "fit.log_every": max(steps // 4, 1),
        "optim.warmup_epochs": 0,
        "resident": "always" if campaign.dry else "auto",
    }


def pretraining(
    store: Path, batch: int, campaign: Campaign, more: dict[str, object] | None = None
) -> dict[str, float]:
    """Pretrain with this batch for some seconds; return the loop's own readings."""
    from partsig.tasks.pretrain import pretrain
    from partsig.train.journal import read_metrics

    steps = 8 if campaign.dry else max(WINDOWS // batch, 16)
    path = campaign.work / f"speed-{batch}-{time.monotonic_ns()}"
    if campaign.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    pretrain(
        store, path,
        config=CONFIGS / "part.yaml",
        overrides=settings_of(batch, steps, campaign) | (more or {}),
        gpus="1" if campaign.device == "cuda" else "0",
    )  # fmt: skip
    whole = time.perf_counter() - began
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return readings(read_metrics(path), batch, steps, whole)


def readings(lines: list[dict], batch: int, steps: int, whole: float) -> dict[str, float]:
    """Return the medians of the readings that a run made, and what it took to get going."""
    lines = [line for line in lines if "windows_per_s" in line]
    found = {
        key: statistics.median(line[key] for line in lines)
        for key in ("windows_per_s", "utilisation", "waiting", "gpu_gib")
        if lines and key in lines[0]
    }
    if not found:
        return {"batch": batch, "seconds": whole}
    training = steps * batch / found["windows_per_s"]
    return {"batch": batch, **found, "seconds": whole, "before_and_after_s": whole - training}


def first_step(store: Path, batch: int, campaign: Campaign) -> dict[str, object]:
    """Return the seconds until blocks are compiled, until the first step, and of the second."""
    from partsig.train.step import compile_blocks

    job, device = job_of(store, batch, campaign)
    said: list[str] = []
    model = job.model.to(device)
    example = tuple(part.to(device) for part in job.batch_at(0))
    began, compiled = time.perf_counter(), False
    if device.type == "cuda":
        compiled = compile_blocks(model, example, "bf16", said.append)
        synchronise(device)
    after = time.perf_counter() - began
    stepper, taken = stepper_of(job, model), []
    for step in range(3):
        stepper(example, batch, step, 1e-4)
        synchronise(device)
        taken.append(time.perf_counter() - began)
    return {
        "batch": batch, "compiled": compiled, "said": said, "until_compiled_s": after,
        "until_first_step_s": taken[0], "third_step_s": taken[2] - taken[1],
    }  # fmt: skip


def job_of(store: Path, batch: int, campaign: Campaign):
    """Return what ``partsig pretrain`` hands to the loop, signals on the device, and the device."""
    from partsig.config import compose
    from partsig.modality import EEG
    from partsig.tasks.material import gather, resident
    from partsig.tasks.recipes import PretrainConfig, build
    from partsig.train import loop
    from partsig.train.distributed import World

    device = torch.device(campaign.device)
    settings = compose(
        PretrainConfig, "pretrain", CONFIGS / "part.yaml", settings_of(batch, 20, campaign)
    )
    material = gather(store, EEG, settings, 0)
    torch.manual_seed(0)
    model = build(material.channels, material.window, material.patch, settings, EEG)
    world = World(rank=0, size=1, device=device)
    held = resident(material, world, "always")
    job = loop.Fit(
        model=model,
        batch_at=lambda step: (held.batch(0, step * batch, batch),),
        steps_per_epoch=20,
        config=settings.fit,
        optim=settings.optim,
        seed=0,
        run=campaign.work / f"job-{batch}",
        kind="pretrain",
        identity={},
        world=world,
        label="job",
        prefetch="never",
    )
    return job, device


def stepper_of(job, model: torch.nn.Module):
    """Return what takes the optimiser steps of a job, as its loop does."""
    from partsig.train.optim import make_optimizer
    from partsig.train.step import Stepper

    precision = "bf16" if job.world.device.type == "cuda" else "float32"
    return Stepper(
        model=model, optimizer=make_optimizer(model, job.optim), world=job.world, seed=0,
        precision=precision, accumulate=1, clip=job.optim.clip, steps=job.total,
    )  # fmt: skip


def that_fits(store: Path, batches: tuple[int, ...], campaign: Campaign) -> dict[str, object]:
    """Pretrain with the literal head at the largest of these batches that fits the memory."""
    from partsig.errors import ConfigError

    too_large = []
    for batch in batches:
        try:
            found = pretraining(store, batch, campaign, {"objective.head_impl": "naive"})
            return found | {"did_not_fit": too_large}
        except ConfigError as error:
            too_large.append(f"{batch}: {error}")
    return {"did_not_fit": too_large}


def profiled(store: Path, batch: int, campaign: Campaign) -> dict[str, object]:
    """Profile one step, compiled on a GPU: its dearest operations; the trace goes to the folder."""
    from partsig.train.step import compile_blocks

    job, device = job_of(store, batch, campaign)
    model = job.model.to(device)
    example = tuple(part.to(device) for part in job.batch_at(0))
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
        compile_blocks(model, example, "bf16", print)
    stepper = stepper_of(job, model)
    for step in range(3):
        stepper(job.batch_at(step), batch, step, 1e-4)
    synchronise(device)
    with profile(activities=kinds, acc_events=True) as found:
        began = time.perf_counter()
        stepper(job.batch_at(3), batch, 3, 1e-4)
        synchronise(device)
        whole = time.perf_counter() - began
    time_of = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -getattr(event, time_of))
    total = sum(getattr(event, time_of) for event in events) or 1.0
    trace = campaign.work / "trace.json"
    found.export_chrome_trace(str(trace))
    return {
        "batch": batch,
        "step_ms": 1e3 * whole,
        "busy_ms": total / 1e3,
        "top": [
            {"operation": event.key[:90], "calls": event.count,
             "ms": getattr(event, time_of) / 1e3, "share": getattr(event, time_of) / total}
            for event in events[:TOP]
        ],
        "trace": campaign.folder.place_packed("trace.json", trace),
    }  # fmt: skip


def finetuning(store: Path, campaign: Campaign) -> dict[str, float]:
    """Fine-tune the 12.9-M encoder on all labels for two epochs; return the loop's readings."""
    from partsig.tasks.finetune import finetune
    from partsig.train.journal import read_metrics

    batch = 8 if campaign.dry else 512
    path = campaign.work / "speed-finetune"
    began = time.perf_counter()
    finetune(
        "scratch", store, path,
        segments_per_class=0,
        overrides=(TINY if campaign.dry else {}) | {
            "fit.batch_size": batch, "fit.epochs": 2, "fit.log_every": 3, "optim.warmup_epochs": 0,
        },
        device=campaign.device,
    )  # fmt: skip
    whole = time.perf_counter() - began
    lines = read_metrics(path)
    return readings(lines, batch, lines[-1]["step"], whole)


def staging(store: Path, campaign: Campaign) -> dict[str, float]:
    """Stage a night of 8 h (two minutes in a dry run) by the fine-tuned run; return its seconds."""
    from partsig.data.recordings import Recording, Rows
    from partsig.data.store import open_store
    from partsig.tasks.stagers import predict_signal
    from partsig.tasks.staging import StageConfig, load, staged

    stager = load(campaign.work / "speed-finetune", campaign.device)
    names, sfreq = open_store(store).ch_names, 200.0
    n = round((120 if campaign.dry else 8 * 3600) * sfreq)
    signal = np.random.default_rng(0).normal(0, 30, (len(names), n)).astype(np.int16)
    rows = Rows(
        labels=names, signal=signal, sfreq=sfreq, picks=tuple(range(len(names))),
        scale=(1.0,) * len(names), offset=(0.0,) * len(names),
    )  # fmt: skip
    night = Recording(
        name="night", subject="night", ch_names=names, parts=(rows,), stages=np.zeros(0, np.int8),
        source="made up",
    )  # fmt: skip
    device, small = torch.device(campaign.device), signal[:, ::2].astype(np.float32)
    found = {"hours": n / sfreq / 3600}
    for name, work in (
        ("seconds", lambda: staged(stager, night, StageConfig())),
        ("network_seconds", lambda: predict_signal(stager.model, small, sfreq / 2, device)),
    ):
        work()
        began = time.perf_counter()
        work()
        found[name] = time.perf_counter() - began
    return found
