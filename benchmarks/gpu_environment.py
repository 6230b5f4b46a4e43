"""The phase ``environment`` of benchmarks/gpu.py: the machine, and what its device can do at most.

Rates are measured on random numbers: a GPU is quicker on constants than on anything real.
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

import torch
from gpu_tools import Campaign

PACKAGES = ("torch", "torchvision", "timm", "triton", "numpy", "scipy", "scikit-learn", "pydantic")


def run(campaign: Campaign) -> None:
    """Note the machine, measure its device, and write the store that later phases read."""
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
    campaign.attempt("store", lambda: store_made(campaign))


def store_made(campaign: Campaign) -> dict[str, object]:
    """Write the store of the segments; return how long it took."""
    from gpu_data import segment_store

    began = time.monotonic()
    path = segment_store(campaign.work, campaign.data, campaign.dry)
    n = len(list((path / "signals").iterdir()))
    return {"recordings": n, "seconds": time.monotonic() - began}


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
