"""A training step of PART: the paper's naive head against partsig's, everything else the same.

    python benchmarks/pretrain_step.py [--repeats 5] [--device auto]

Two cases, in float32 on the CPU: EEG (N = 40, d = 512, depth 4, all 1,600 pairs) and ImageNet
(N = 196, d = 768, depth 12, 4,802 pairs). In turns, naive and partsig take the same steps (same
weights, windows, draws, AdamW): the whole step, and the head alone, forward and backward. The naive
head joins the tokens of each pair and calls torch's attention on them, as the published code does
(without its returned weights, which would only slow it down). Losses must agree to 1e-4.

On a GPU also: windows per second of the whole EEG step at batch 512 to 8,192, bf16, compiled, the
windows cut from signals that lie on the device, its share of the matrix rate measured in the same
run, and the memory it takes. Medians; the table goes to ``results/pretrain_step_DEVICE.json``.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from partsig.contracts import Batch
from partsig.core import geometry
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.part import Part, PartConfig
from partsig.core.relative import CrossAttention
from partsig.train import distributed, speed
from partsig.train.distributed import World
from partsig.train.optim import OptimConfig, make_optimizer
from partsig.train.step import Stepper, compile_blocks

RESULTS = Path(__file__).parent / "results"
CASES = {
    "EEG N=40 d=512": {
        "window": (3000,),
        "patch": (100,),
        "channels": 6,
        "n": 40,
        "encoder": EncoderConfig(drop_path=0.0),
        "pairs": 1600,
        "batch": 32,
    },
    "ImageNet N=196 d=768": {
        "window": (224, 224),
        "patch": (16, 16),
        "channels": 3,
        "n": 196,
        "encoder": EncoderConfig(width=768, depth=12, heads=12, drop_path=0.0),
        "pairs": 4802,
        "batch": 2,
    },
}


def model_of(case: dict, heads: int, impl: str) -> Part:
    """Return the whole model of a case, the same weights whatever the head's form."""
    torch.manual_seed(0)
    encoder = Encoder(case["encoder"], case["channels"], case["patch"])
    config = PartConfig(
        heads=heads, head_impl=impl, pairs=case["pairs"] / case["n"] ** 2, patches=case["n"]
    )
    return Part(config, encoder, case["window"], case["patch"])


def stepper_of(model: Part, device: torch.device, precision: str = "float32") -> Stepper:
    """Return what takes the optimiser steps."""
    return Stepper(
        model=model,
        optimizer=make_optimizer(model, OptimConfig(lr=1e-4)),
        world=World(rank=0, size=1, device=device),
        seed=0,
        precision=precision,
        accumulate=1,
        clip=0.0,
        steps=1000,
    )


def wait(device: torch.device) -> None:
    """Return when the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work, device: torch.device) -> float:
    """Return the seconds one call takes."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def compare_step(case: dict, heads: int, repeats: int, device: torch.device) -> dict:
    """Time whole steps of both heads in turns."""
    x = torch.randn(case["batch"], case["channels"], *case["window"]).to(device)
    steppers = {
        name: stepper_of(model_of(case, heads, impl).to(device), device)
        for name, impl in (("naive", "naive"), ("partsig", "auto"))
    }
    losses, seconds = {}, {name: [] for name in steppers}
    for step in range(repeats + 1):
        for name, stepper in steppers.items():
            values = {}

            def work(stepper=stepper, values=values, step=step) -> None:
                values.update(stepper(Batch(x), step, 1e-4))

            elapsed = timed(work, device)
            if step:
                seconds[name].append(elapsed)
            losses.setdefault(step, {})[name] = values["loss"].item()
    worst = max(abs(a["naive"] / a["partsig"] - 1) for a in losses.values())
    if worst > 1e-4:
        raise SystemExit(f"losses differ by {worst:.1e}")
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "naive_ms": 1e3 * medians["naive"],
        "partsig_ms": 1e3 * medians["partsig"],
        "ratio": medians["naive"] / medians["partsig"],
        "loss_difference": worst,
    }


def compare_head(case: dict, heads: int, repeats: int, device: torch.device) -> dict:
    """Time the head alone, forward and backward, in turns."""
    width, n = case["encoder"].width, case["n"]
    torch.manual_seed(0)
    naive = CrossAttention(width, len(case["patch"]), heads, "naive").to(device)
    ours = CrossAttention(width, len(case["patch"]), heads, "auto").to(device)
    ours.load_state_dict(naive.state_dict())
    pairs = geometry.pairs(n, case["pairs"], torch.Generator().manual_seed(0)).to(device)
    tokens = torch.randn(case["batch"], n, width, device=device, requires_grad=True)
    seconds = {"naive": [], "partsig": []}
    for step in range(repeats + 1):
        for name, head in (("naive", naive), ("partsig", ours)):

            def work(head=head) -> None:
                head.zero_grad()
                tokens.grad = None
                head(tokens, pairs).square().mean().backward()

            elapsed = timed(work, device)
            if step:
                seconds[name].append(elapsed)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "naive_ms": 1e3 * medians["naive"],
        "partsig_ms": 1e3 * medians["partsig"],
        "ratio": medians["naive"] / medians["partsig"],
    }


def gpu_throughput(repeats: int, device: torch.device) -> list[dict]:
    """Time the EEG step with its data path on the GPU, at growing batches."""
    case = CASES["EEG N=40 d=512"]
    peak = speed.measure_peak(device, torch.bfloat16)
    window = case["window"][0]
    signals = torch.randn(6, 40_000_000, device=device).half()  # 111 h, 0.5 GB
    every = signals.unfold(1, window, 1)
    rows = []
    for heads in (1, 4):
        for batch in (512, 1024, 2048, 4096, 8192):
            model = model_of(case, heads, "auto").to(device)
            example = Batch(torch.randn(2, 6, window))
            flops = speed.count_flops(model, example)
            trial = Batch(torch.randn(batch, 6, window, device=device))
            compiled = compile_blocks(model, trial, "bf16", print)
            stepper = stepper_of(model, device, "bf16")
            torch.cuda.reset_peak_memory_stats(device)
            step = 0

            def work(n: int, batch=batch, stepper=stepper) -> None:
                nonlocal step
                for _ in range(n):
                    starts = torch.randint(signals.shape[1] - window, (batch,), device=device)
                    stepper(Batch(every[:, starts].transpose(0, 1)), step, 1e-4)
                    step += 1

            work(5)
            seconds = [timed(lambda: work(10), device) / 10 for _ in range(repeats)]
            rate = batch / statistics.median(seconds)
            rows.append(
                {
                    "heads": heads,
                    "batch": batch,
                    "compiled": compiled,
                    "windows_per_s": rate,
                    "share_of_measured_peak": rate * flops / peak,
                    "peak_tflops": peak / 1e12,
                    "gib": torch.cuda.max_memory_allocated(device) / 2**30,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Run, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    device = distributed.pick_device(options.device)
    rows = []
    for label, case in CASES.items():
        for heads in (1, 4):
            example = Batch(torch.randn(2, case["channels"], *case["window"]))
            rows.append(
                {
                    "case": label,
                    "heads": heads,
                    "pairs": case["pairs"],
                    "batch": case["batch"],
                    "gflop_per_window": {
                        name: speed.count_flops(model_of(case, heads, impl), example) / 1e9
                        for name, impl in (("naive", "naive"), ("partsig", "auto"))
                    },
                    "step": compare_step(case, heads, options.repeats, device),
                    "head": compare_head(case, heads, options.repeats, device),
                }
            )
            row = rows[-1]
            step, head = row["step"], row["head"]
            print(
                f"{label:<22} heads {heads}: step {step['naive_ms']:8.1f} -> "
                f"{step['partsig_ms']:7.1f} ms ({step['ratio']:.2f}x), head "
                f"{head['naive_ms']:8.1f} -> {head['partsig_ms']:6.1f} ms ({head['ratio']:.1f}x)",
                flush=True,
            )
    result = {
        "command": " ".join(["python", "benchmarks/pretrain_step.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "repeats": options.repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": rows,
    }
    if device.type == "cuda":
        result["gpu"] = gpu_throughput(options.repeats, device)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"pretrain_step_{device.type}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
