"""Does a learned pretext transfer? Probes of encoders that learned PART, context, or both.

Run: ``python benchmarks/transfer.py WORK`` after ``benchmarks/pc18_segments.py RAW --work WORK``
and ``benchmarks/pretext.py WORK``, whose store and runs it uses.

Linear probes on 20 and 50 segments per class, three draws, one seed of pretraining; kappa on the
validation segments, and how far the pretext itself was learned on unseen subjects. Nothing here
touches the test segments. Writes benchmarks/results/transfer.json.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

from pc18_segments import CONTEXT, ENCODER, LINEAR, MLP, PRETRAIN, PROBE, SPECTRAL
from pretext import BASE, steps

RESULTS = Path(__file__).parent / "results" / "transfer.json"
BUDGETS, DRAWS = (20, 50), (0, 1, 2)
HISTOGRAM = {k: v for k, v in MLP.items() if "pairs" not in k} | {"objective.loss": "histogram"}
SPECTRUM = {"encoder.tokens": "linear+spectrum"}
NEAR = BASE | HISTOGRAM | SPECTRUM | steps(1200)
TOGETHER = NEAR | {"window_s": 60, "objective.span": 5, "objective.context": 1.0}
TOGETHER |= {"fit.batch_size": 64, "optim.lr": 1.2e-2, "windows_per_epoch": 1200 * 64 // 4}
STRETCHES = PRETRAIN | SPECTRAL | HISTOGRAM | CONTEXT
STRETCHES |= {"objective.span": 5, "objective.stretches": 3, "objective.pairs": 1.0}
# name: run to start from, settings; where it is a run of the other scripts, its directory.
PRETEXTS = {
    "hist5spec": (None, NEAR),
    "hist5ctx": (None, TOGETHER),
    "cur3": ("hist5spec", STRETCHES),
}
ROWS = {
    "old-random": ("scratch", PROBE | SPECTRAL, "random encoder, spectrum in the tokens"),
    "old-context": ("runs/pretrain-part-context-s0", PROBE, "part-context (pairs near chance)"),
    "hist5spec-p": ("transfer/hist5spec-s0", PROBE, "PART histogram, 5 s, 1,200 steps"),
    "hist5ctx-p": ("transfer/hist5ctx-s0", PROBE, "PART histogram beside context, from the start"),
    "cur3-p": ("transfer/cur3-s0", PROBE, "PART histogram first, then beside context"),
    "random-linear": ("scratch", PROBE | ENCODER | LINEAR, "random encoder, linear tokens"),
    "hist5long-p": (
        "pretext/longest-histogram-s0",
        PROBE | LINEAR,
        "PART histogram, 5 s, 5,000 steps, linear tokens",
    ),
}
KEYS = ("val_mse/chance", "val_sign", "val_near_sign", "val_context_accuracy")


def pretrain(work: Path) -> None:
    """Pretrain what is not there yet."""
    import partsig

    for name, (origin, settings) in PRETEXTS.items():
        partsig.pretrain(
            work / "store",
            work / "transfer" / f"{name}-s0",
            overrides=settings,
            from_=None if origin is None else work / "transfer" / f"{origin}-s0",
            gpus="0",
        )


def probe(work: Path, name: str, origin: str, settings: dict, budget: int, draw: int) -> float:
    """Return the validation kappa of one linear probe."""
    import partsig
    from partsig.runs import directory as runs

    run = partsig.finetune(
        origin if origin == "scratch" else work / origin,
        work / "store",
        work / "transfer" / f"{name}-k{budget}-d{draw}",
        segments_per_class=budget,
        seed=draw,
        overrides=settings,
        device="cpu",
    )
    return runs.read(run)["val_kappa"]


def main() -> None:
    """Run what is not there yet; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work.resolve()
    from partsig.runs import directory as runs
    from partsig.train.journal import read_metrics

    pretrain(work)
    rows = []
    for name, (origin, settings, what) in ROWS.items():
        kappas = {
            budget: [probe(work, name, origin, settings, budget, draw) for draw in DRAWS]
            for budget in BUDGETS
        }
        pretext = {}
        if origin != "scratch":
            lines = [line for line in read_metrics(work / origin) if "val_loss" in line]
            pretext = {key: lines[-1][key] for key in KEYS if key in lines[-1]}
        rows.append({"encoder": what, "pretext": pretext, "val_kappa": kappas})
        means = "  ".join(
            f"{budget}: {statistics.mean(k):.3f} ± {statistics.stdev(k):.3f}"
            for budget, k in kappas.items()
        )
        print(f"{what:52} {means}  { ({k: round(v, 3) for k, v in pretext.items()}) }")
    result = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/transfer.py WORK",
        "date": runs.now(),
        "machine": platform.machine(),
        "environment": runs.environment(),
        "split_unit": "subject (group); validation block of segment numbers",
        "draws": list(DRAWS),
        "pretraining_seeds": [0],
        "settings": {name: settings for name, (_, settings) in PRETEXTS.items()},
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
