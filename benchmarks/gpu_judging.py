"""How ``learning`` of benchmarks/gpu.py judges what was pretrained: probes and few labels.

Every job is ``partsig finetune`` with so many labelled segments of every class, tested on the
store's test segments; baselines are jobs like the others.
"""

import gc
import multiprocessing
import os
import statistics
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch
from gpu_tools import Campaign
from pc18_segments import GENTLE, full

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.metrics.agreement import confusion, kappa
from partsig.recipes.loading import load_classifier
from partsig.tasks.frozen import predict_examples
from partsig.verbs.finetune import finetune

BUDGETS, DRAWS, BLOCKS = (20, 100), (0, 1, 2), 2
PROBE = {"train": "probe", "pool": "mean+sd"}
SPECTRAL = {"encoder.tokens": "linear+spectrum"}
TINY = {"encoder.width": 16, "encoder.depth": 2, "encoder.heads": 2}
MOST_WORKERS = 6
KEPT_S = 5.0  # of the phase, for what comes after


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
    like: Path | None = None  # from scratch, with the shape of this run's encoder


def tuning(budget: int, dry: bool) -> dict[str, object]:
    """Return the settings of fine-tuning as a whole with so many labels of every class."""
    settings = full(20 if dry else budget) | GENTLE | {"fit.compile": "never"}
    return settings | ({"fit.epochs": 2} if dry else {})


def jobs_of(paths: dict[str, Path], store: Path, campaign: Campaign) -> list[Job]:
    """Return what is to be judged, in the order of its worth: a whole draw before the next."""
    budgets, draws = ((2,), (0,)) if campaign.dry else (BUDGETS, DRAWS)
    tiny = TINY if campaign.dry else {}
    jobs = []
    for draw in draws:
        for budget in budgets:
            tuned = tuning(budget, campaign.dry)
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
    """Do the jobs, several at a time: small ones leave most of a card idle; return their rows.

    Where time is up, those that are done.
    """
    gc.collect()
    if campaign.device == "cuda":
        torch.cuda.empty_cache()  # the workers need some
    cores = len(os.sched_getaffinity(0))
    workers = 1 if campaign.dry else max(min(MOST_WORKERS, cores // 2), 1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers
    rows: list[dict] = []
    # Leaving it ends the workers, also where time is up.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap_unordered(judge, jobs)
        while len(rows) < len(jobs):
            try:
                found = done.next(timeout=max(campaign.clock.left() - KEPT_S, 0.1))
            except multiprocessing.TimeoutError:
                break
            rows.append(found)
            campaign.put("judged", {"of": len(jobs), "done": len(rows), "table": table(rows)})
            failed = [row for row in rows if "traceback" in row]
            if failed:
                campaign.put("not judged", failed[:5])
        if len(rows) == len(jobs):
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
            job.origin, job.store, job.run, like=job.like,
            segments_per_class=job.budget, overrides=job.overrides, seed=job.draw,
            device=job.device,
        )  # fmt: skip
        model, trained = load_classifier(job.run)
        record = trained.facts
        opened = open_store(job.store)
        test = LabelledWindows(opened, opened.recordings_of(record["split"]["test"]))
        predicted = predict_examples(model, test, torch.device(job.device)).argmax(1)
        score = float(kappa(confusion(test.labels, predicted, len(STAGES))))
    except Exception:  # noqa: BLE001 (it is handed over and written down)
        return told | {"traceback": traceback.format_exc()}
    return told | {
        "kappa": score, "val_kappa": record["val_kappa"], "n_epochs": len(test),
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
