"""The phases ``learning`` and ``images`` of benchmarks/gpu.py: what minutes on the card teach.

Every method trains for equally many seconds: its speed is measured first, and the number of steps
that its cosine ends with follows from it. The encoder is the 12.9-M one (ViT-S/4 for images), the
settings are those of configs/, the schedule's length apart.
"""

import gc
import io
import json
import multiprocessing
import os
import signal
import statistics
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from gpu_data import image_store, segment_store
from gpu_tools import Campaign
from pc18_segments import GENTLE, full

from partsig import metrics
from partsig.data.datasets import Epochs
from partsig.data.images import open_images
from partsig.data.recordings import STAGES
from partsig.data.store import open_store
from partsig.tasks import heads, runs, stagers
from partsig.tasks.finetune import finetune, load_stager
from partsig.tasks.images.finetune import finetune_images, load_classifier
from partsig.tasks.images.labelled import in_batches, labelled, share_right
from partsig.tasks.pretrain import load_encoder, pretrain
from partsig.train.journal import read_metrics
from partsig.train.loop import Stopped

CONFIGS = Path(__file__).parents[1] / "configs"
METHODS: dict[str, tuple[str, dict]] = {
    "part": ("part", {}),
    "part-histogram": ("part-histogram", {}),
    "mae": ("mae", {}),
    "contrast": ("part-context", {"objective.relate": 0.0}),
}
BATCH, EPOCHS = 512, 4  # epochs: how often the pretext is measured, in a trial as in the run
TRIAL = 60  # steps by which a speed is measured
BUDGETS, DRAWS, BLOCKS = (20, 100), (0, 1, 2), 2
# As in pc18_segments.py: everything is moved, from a probe's head on, deep layers less.
PROBE = {"train": "probe", "pool": "mean+sd"}
TINY = {"encoder.width": 16, "encoder.depth": 2, "encoder.heads": 2}
SPECTRAL = {"encoder.tokens": "linear+spectrum"}
# What compiling costs is earned back by runs of so many seconds only.
WORTH_COMPILING_S = 120
MOST_WORKERS = 6


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fine-tuning or probe: from what, how, with which labels."""

    row: str
    origin: str  # a run, or scratch
    budget: int
    draw: int
    store: Path
    run: Path
    device: str
    overrides: dict[str, object] = field(default_factory=dict)


def run(campaign: Campaign) -> None:
    """Pretrain every method for equally long, then judge them all."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    began, left = time.monotonic(), campaign.clock.left()
    judging = max(min(0.35 * left, 130.0), 0.2 * left)
    each = (left - judging) / len(METHODS)
    campaign.put("plan", {"seconds": left, "for_each_method": each, "for_judging": judging})
    paths: dict[str, Path] = {}
    for name in METHODS:
        # A method that is slower than its trial said may take from the others, but not much.
        found = campaign.attempt(
            f"pretraining {name}", lambda n=name: pretrained(n, store, each, campaign), 1.5 * each
        )
        if found:
            paths[name] = campaign.work / f"learn-{name}"
            if name == "part":
                campaign.put("weights", keep_weights(paths[name], campaign))
    campaign.put("pretrained_after_s", time.monotonic() - began)
    rows = judged(jobs_of(paths, store, campaign), campaign)
    best = best_of(rows, paths)
    if best is not None:
        campaign.attempt("weights", lambda: {"of": best} | keep_weights(paths[best], campaign))


def schedule(steps: int, batch: int, epochs: int) -> dict[str, object]:
    """Return the overrides of a run of so many steps, in as many epochs as it can be read at."""
    epochs = max(min(epochs, steps), 1)
    return {
        "fit.batch_size": batch,
        "fit.epochs": epochs,
        "windows_per_epoch": batch * max(steps // epochs, 1),
        "optim.warmup_epochs": 0.05 * epochs,
        "fit.log_every": max(steps // 40, 1),
        "fit.checkpoint_minutes": 60,  # at the end
        "fit.keep": 1,
    }


def pretrained(name: str, store: Path, seconds: float, campaign: Campaign) -> dict[str, object]:
    """Pretrain a method so that all of it takes ``seconds``; return what it reached."""
    stem, overrides = METHODS[name]
    settings = overrides | (TINY if campaign.dry else {})
    if campaign.dry and name == "mae":
        settings = settings | {"objective.decoder.width": 16, "objective.decoder.heads": 2}
    if not campaign.dry and seconds < WORTH_COMPILING_S:
        settings = settings | {"fit.compile": "never"}
    return timed_training(name, store, CONFIGS / f"{stem}.yaml", settings, seconds, campaign)


def timed_training(
    name: str,
    store: Path,
    config: Path,
    settings: dict[str, object],
    seconds: float,
    campaign: Campaign,
    modality: str = "eeg",
) -> dict[str, object]:
    """Measure a run's speed, then train for what is left of ``seconds``; return its readings.

    A run that is slower than its trial was is stopped a little after, as it then is.
    """
    began = time.monotonic()
    batch, trial = (16, 3) if campaign.dry else (BATCH, TRIAL)
    where = {"modality": modality, "config": config, "gpus": "1" if campaign.device == "cuda" else
             "0"}  # fmt: skip
    first = campaign.work / f"trial-{name}"
    epochs = 2 if campaign.dry else EPOCHS
    pretrain(store, first, overrides=settings | schedule(trial, batch, epochs), **where)
    spent = time.monotonic() - began
    found = [line["windows_per_s"] for line in read_metrics(first) if "windows_per_s" in line]
    rate = statistics.median(found[len(found) // 2 :])
    # What the trial took beside its steps the run takes again, at most; a little is kept back.
    around = max(spent - trial * batch / rate, 0.0)
    training = 0.95 * (seconds - spent - around)
    steps = 4 if campaign.dry else max(int(training * rate / batch), trial)
    path = campaign.work / f"learn-{name}"
    with stopped_after(1.1 * (seconds - spent)):
        try:
            pretrain(store, path, overrides=settings | schedule(steps, batch, epochs), **where)
        except Stopped as stopped:
            if stopped.code != 128 + signal.SIGUSR1:
                raise
            runs.finish(path, stopped_early=True)
    lines = read_metrics(path)
    rates = [line["windows_per_s"] for line in lines if "windows_per_s" in line]
    curve = [
        {key: value for key, value in line.items() if key.startswith("val_") or key == "step"}
        for line in lines
        if any(key.startswith("val_") for key in line)
    ]
    return {
        "steps": lines[-1]["step"],
        "stopped_early": "stopped_early" in runs.read(path),
        "windows": lines[-1]["step"] * batch,
        "windows_per_s": {"trial": rate, "run": statistics.median(rates)},
        "planned_training_s": training,
        "trained_s": lines[-1]["step"] * batch / statistics.median(rates),
        "seconds": time.monotonic() - began,
        "loss": [[line["step"], line["loss"]] for line in lines if "loss" in line],
        "curve": curve,
    }


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Ask a training run inside to stop after so many seconds: it then writes its checkpoint."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # outside of the run
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def jobs_of(paths: dict[str, Path], store: Path, campaign: Campaign) -> list[Job]:
    """Return what is to be judged, in the order of its worth: a whole draw before the next."""
    budgets, draws = ((2,), (0,)) if campaign.dry else (BUDGETS, DRAWS)
    tiny = TINY if campaign.dry else {}
    jobs = []
    for draw in draws:
        for budget in budgets:
            tuned = full(20 if campaign.dry else budget) | GENTLE | {"fit.compile": "never"}
            tuned |= {"fit.epochs": 2} if campaign.dry else {}
            rows: dict[str, tuple[str, dict]] = {}
            for name, path in paths.items():
                rows[f"{name}, fine-tuned"] = (str(path), tuned)
                rows[f"{name}, probe"] = (str(path), PROBE)
            rows |= {
                "scratch, fine-tuned": ("scratch", tuned | tiny),
                "bands, logistic": ("scratch", {"model": "logistic"}),
                "random, probe": ("scratch", PROBE | tiny),
                "random with spectrum, probe": ("scratch", PROBE | SPECTRAL | tiny),
            }
            rows |= {
                f"{name}, probe of {BLOCKS} blocks": (str(path), PROBE | {"blocks": BLOCKS})
                for name, path in paths.items()
            }
            for row, (origin, overrides) in rows.items():
                run = campaign.work / "judged" / f"{len(jobs):04d}"
                jobs.append(
                    Job(row=row, origin=origin, budget=budget, draw=draw, store=store, run=run,
                        device=campaign.device, overrides=overrides)
                )  # fmt: skip
    return jobs


def judged(jobs: list[Job], campaign: Campaign) -> list[dict]:
    """Do the jobs, several at a time: small ones leave most of a card idle; return their rows."""
    gc.collect()
    if campaign.device == "cuda":
        torch.cuda.empty_cache()  # the workers need some
    cores = len(os.sched_getaffinity(0))
    workers = 1 if campaign.dry else max(min(MOST_WORKERS, cores // 2), 1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers
    rows: list[dict] = []
    # Leaving it ends the workers, also where time is up.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for found in pool.imap_unordered(judge, jobs):
            rows.append(found)
            campaign.put("judged", {"of": len(jobs), "done": len(rows), "table": table(rows)})
            failed = [row for row in rows if "traceback" in row]
            if failed:
                campaign.put("not judged", failed[:5])
        pool.close()
        pool.join()
    campaign.put("rows", rows)
    for line in table(rows):
        spread = "" if line["sd"] is None else f" ± {line['sd']:.3f}"
        print(f"{line['row']:<40}{line['budget']:>5}  {line['kappa']:.3f}{spread}")
    return rows


def judge(job: Job) -> dict[str, object]:
    """Fine-tune or probe, and test; return the row. A failure is a row with its traceback."""
    told = {"row": job.row, "budget": job.budget, "draw": job.draw}
    began = time.monotonic()
    try:
        finetune(
            job.origin, job.store, job.run,
            segments_per_class=job.budget, overrides=job.overrides, seed=job.draw,
            device=job.device,
        )  # fmt: skip
        model, record = load_stager(job.run)
        opened = open_store(job.store)
        test = Epochs(opened, opened.recordings_of(record["split"]["test"]))
        predicted = stagers.predict(model, test, torch.device(job.device)).argmax(1)
        kappa = float(metrics.kappa(metrics.confusion(test.stages, predicted, len(STAGES))))
    except Exception:  # noqa: BLE001 (it is handed over and written down)
        return told | {"traceback": traceback.format_exc()}
    return told | {
        "kappa": kappa, "val_kappa": record["val_kappa"], "n_epochs": len(test),
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def table(rows: list[dict]) -> list[dict]:
    """Return kappa by row and budget: mean and SD over the draws that are done.

    >>> rows = [{"row": "a", "budget": 20, "draw": d, "kappa": k} for d, k in enumerate((0.4, 0.5))]
    >>> [(line["row"], line["n"], round(line["kappa"], 2)) for line in table(rows)]
    [('a', 2, 0.45)]
    """
    by: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if "kappa" in row:
            by.setdefault((row["row"], row["budget"]), []).append(row["kappa"])
    return [
        {"row": row, "budget": budget, "n": len(found), "kappa": statistics.mean(found),
         "sd": statistics.stdev(found) if len(found) > 1 else None}
        for (row, budget), found in sorted(by.items())
    ]  # fmt: skip


def best_of(rows: list[dict], paths: dict[str, Path]) -> str | None:
    """Return the method whose fine-tuned runs agree best with validation labels, if any does."""
    scores = {}
    for name in paths:
        own = [r["val_kappa"] for r in rows if r["row"] == f"{name}, fine-tuned" and "kappa" in r]
        if own:
            scores[name] = statistics.mean(own)
    return max(scores, key=scores.__getitem__, default=None)


def keep_weights(path: Path, campaign: Campaign) -> dict[str, object]:
    """Write a run's encoder in half precision, two files of about half of it each."""
    encoder, record, _ = load_encoder(path)
    state = {key: value.half() for key, value in encoder.state_dict().items()}
    parts: list[dict] = [{}, {}]
    for key, value in sorted(state.items(), key=lambda item: -item[1].numel()):
        smaller = min(parts, key=lambda part: sum(v.numel() for v in part.values()))
        smaller[key] = value
    told = {"ch_names": record["ch_names"], "sfreq": record["sfreq"],
            "encoder": json.dumps(record["config"]["encoder"])}  # fmt: skip
    placed = []
    for number, part in enumerate(parts, start=1):
        content = io.BytesIO()
        torch.save({"told": told, "part": f"{number} of 2", "weights": part}, content)
        placed.append(campaign.folder.place(f"encoder-{number}-of-2.pt", content.getvalue()))
    return {"files": placed, "parameters": sum(value.numel() for value in state.values())}


def images(campaign: Campaign) -> None:
    """Pretrain ViT-S/4 by PART on the images; probe it, and an untrained one."""
    store = image_store(campaign.work, campaign.data, campaign.dry)
    tiny = TINY if campaign.dry else {}
    # Augmenting in processes of their own; the probes take some seconds each.
    found = campaign.attempt(
        "pretraining",
        lambda: timed_training(
            "images", store, CONFIGS / "cifar.yaml", tiny | {"fit.compile": "never"},
            campaign.clock.left() - (0 if campaign.dry else 20), campaign, "image",
        ),
    )  # fmt: skip
    rows = {"untrained": ("scratch", tiny)}
    if found:
        rows["part"] = (str(campaign.work / "learn-images"), {})
    for name, (origin, shape) in rows.items():
        campaign.attempt(
            f"probe {name}", lambda o=origin, s=shape: probed_images(o, s, store, campaign)
        )


def probed_images(origin: str, shape: dict, store: Path, campaign: Campaign) -> dict[str, float]:
    """Return the accuracy of a linear probe on the test images, all labels given."""
    path = campaign.work / f"probe-images-{'scratch' if origin == 'scratch' else 'part'}"
    overrides = {"train": "probe", "pool": "mean"} | shape
    finetune_images(origin, store, path, overrides=overrides, device=campaign.device)
    model, settings, record = load_classifier(path)
    opened, device = open_images(store), torch.device(campaign.device)
    test = labelled(opened, "test")
    predicted = heads.predict(model, in_batches(opened, test, settings.size, device), device)
    accuracy = share_right(opened.labels[test], predicted.argmax(1))
    return {"accuracy": accuracy, "val_accuracy": record["val_accuracy"], "n_images": len(test)}
