"""The phase ``throughput`` of benchmarks/gpu.py: how fast the verbs are on a store on disk.

The numbers are the training loop's own readings: windows per second, achieved FLOP/s as a share of
the matrix rate it measures, memory, the share of the time in which it had no batch to go on with.
"""

import gc
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from gpu_data import image_store, segment_store
from gpu_environment import synchronise
from gpu_tools import Campaign
from torch.profiler import ProfilerActivity, profile

from partsig.config import compose
from partsig.contracts import Batch
from partsig.data.signals.recordings import Recording, Rows
from partsig.data.signals.store import open_store
from partsig.errors import ConfigError
from partsig.modalities.signal_settings import SignalPretrainConfig
from partsig.modalities.signals import SIGNALS
from partsig.recipes.pretraining import resident
from partsig.runs.models import build_objective
from partsig.sleep.stager import StageConfig, load, staged
from partsig.sleep.stagers import predict_signal
from partsig.train.distributed import World
from partsig.train.job import TrainingJob
from partsig.train.journal import read_metrics
from partsig.train.optim import make_optimizer
from partsig.train.step import Stepper, compile_blocks
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

CONFIGS = Path(__file__).parents[1] / "configs"
BATCHES = (512, 8192, 2048, 1024, 4096)  # the published one, the ends, then the others
WINDOWS = 200_000  # a measure: some seconds
NAIVE = (1024, 512, 256, 128)
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
TOP = 15


def run(campaign: Campaign) -> None:
    """Measure the verbs, in the order of what is worth knowing first."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    batches = (4, 8) if campaign.dry else BATCHES
    naive = (4,) if campaign.dry else NAIVE
    campaign.attempt("first step", lambda: first_step(store, batches[0], campaign))
    for batch in batches[:3]:
        campaign.attempt(f"batch {batch}", lambda b=batch: pretraining(store, b, campaign))
    campaign.attempt("naive head", lambda: that_fits(store, naive, campaign))
    campaign.attempt("profile", lambda: profiled(store, batches[:3][-1], campaign))
    for batch in batches[3:]:
        campaign.attempt(f"batch {batch}", lambda b=batch: pretraining(store, b, campaign))


def others(campaign: Campaign) -> None:
    """Measure the other verbs, and pretraining otherwise: streamed, with TF32, on images."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    small, large = (4, 8) if campaign.dry else (512, 2048)
    campaign.attempt("fine-tuning", lambda: finetuning(store, campaign))
    campaign.attempt("staging", lambda: staging(store, campaign))
    campaign.attempt(f"resident {large}", lambda: pretraining(store, large, campaign))
    campaign.attempt(f"TF32 {large}", lambda: with_tf32(store, large, campaign))
    for batch in (small, large):
        campaign.attempt(
            f"streamed {batch}",
            lambda b=batch: pretraining(store, b, campaign, {"resident": "never"}),
        )
    pictures = image_store(campaign.work, campaign.data, campaign.dry)
    for kind, more in (("augmented", {}), ("plain", {"augment.randaugment": 0})):
        campaign.attempt(f"images {kind}", lambda m=more: on_images(pictures, small, campaign, m))


def with_tf32(store: Path, batch: int, campaign: Campaign) -> dict[str, float]:
    """Pretrain with products of float32 in TF32, which partsig does not: what it would gain."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return pretraining(store, batch, campaign)
    finally:
        torch.set_float32_matmul_precision(before)


def on_images(
    store: Path, batch: int, campaign: Campaign, more: dict[str, object]
) -> dict[str, float]:
    """Pretrain ViT-S/4 as published on images for some seconds; return the loop's own readings."""
    steps = 4 if campaign.dry else 120
    path = campaign.work / f"speed-images-{time.monotonic_ns()}"
    tiny = TINY if campaign.dry else {}
    began = time.perf_counter()
    pretrain(
        store, path, modality="image", config=CONFIGS / "cifar.yaml",
        overrides=tiny | {
            "fit.batch_size": batch, "fit.epochs": 1, "windows_per_epoch": batch * steps,
            "fit.log_every": max(steps // 4, 1), "optim.warmup_epochs": 0,
        } | more,
        gpus="1" if campaign.device == "cuda" else "0",
    )  # fmt: skip
    whole = time.perf_counter() - began
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return readings(read_metrics(path), batch, steps, whole)


def settings_of(batch: int, steps: int, campaign: Campaign) -> dict[str, object]:
    """Return the overrides of a run of so many steps, read four times."""
    tiny = TINY if campaign.dry else {}
    return tiny | {
        "fit.batch_size": batch,
        "fit.epochs": 1,
        "windows_per_epoch": batch * steps,
        "fit.log_every": max(steps // 4, 1),
        "optim.warmup_epochs": 0,
        "split.monitor_subjects": 0,  # nothing is measured on them
        "resident": "always" if campaign.dry else "auto",
    }


def pretraining(
    store: Path, batch: int, campaign: Campaign, more: dict[str, object] | None = None
) -> dict[str, float]:
    """Pretrain with this batch for some seconds; return the loop's own readings."""
    steps = 4 if campaign.dry else max(WINDOWS // batch, 16)
    path = campaign.work / f"speed-{batch}-{time.monotonic_ns()}"
    gc.collect()  # what did not fit may still be held by its error
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
    job, device = job_of(store, batch, campaign)
    said: list[str] = []
    model = job.model.to(device)
    example = job.batch_at(0).to(device)
    began, compiled = time.perf_counter(), False
    if device.type == "cuda":
        compiled = compile_blocks(model, example, "bf16", said.append)
        synchronise(device)
    after = time.perf_counter() - began
    stepper, taken = stepper_of(job, model), []
    for step in range(3):
        stepper(example, step, 1e-4)
        synchronise(device)
        taken.append(time.perf_counter() - began)
    return {
        "batch": batch, "compiled": compiled, "said": said, "until_compiled_s": after,
        "until_first_step_s": taken[0], "third_step_s": taken[2] - taken[1],
    }  # fmt: skip


def job_of(store: Path, batch: int, campaign: Campaign) -> tuple[TrainingJob, torch.device]:
    """Return what ``partsig pretrain`` hands to the loop, signals on the device, and the device."""
    device = torch.device(campaign.device)
    settings = compose(
        SignalPretrainConfig, "pretrain", CONFIGS / "part.yaml", settings_of(batch, 20, campaign)
    )
    data = SIGNALS.open(store).pretraining(settings, 0)
    torch.manual_seed(0)
    model = build_objective(data.channels, data.window, data.patch, settings, SIGNALS.n_patches)
    world = World(rank=0, size=1, device=device)
    held = resident(data, world, "always")
    job = TrainingJob(
        model=model,
        batch_at=lambda step: Batch(held.batch(0, step * batch, batch)),
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


def stepper_of(job: TrainingJob, model: torch.nn.Module) -> Stepper:
    """Return what takes the optimiser steps of a job, as its loop does."""
    precision = "bf16" if job.world.device.type == "cuda" else "float32"
    return Stepper(
        model=model, optimizer=make_optimizer(model, job.optim), world=job.world, seed=0,
        precision=precision, accumulate=1, clip=job.optim.clip, steps=job.total,
    )  # fmt: skip


def that_fits(store: Path, batches: tuple[int, ...], campaign: Campaign) -> dict[str, object]:
    """Pretrain with the literal head at the largest of these batches that fits the memory."""
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
    job, device = job_of(store, batch, campaign)
    model = job.model.to(device)
    example = job.batch_at(0).to(device)
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
        compile_blocks(model, example, "bf16", print)
    stepper = stepper_of(job, model)
    for step in range(3):
        stepper(job.batch_at(step), step, 1e-4)
    synchronise(device)
    with profile(activities=kinds, acc_events=True) as found:
        began = time.perf_counter()
        stepper(job.batch_at(3), 3, 1e-4)
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
