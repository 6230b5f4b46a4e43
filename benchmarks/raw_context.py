"""Context from raw EEG, end to end: features that are frozen, or their encoder trained through.

Run: ``python benchmarks/raw_context.py DREAMS PYDYNAMO WORK [--out FILE]`` with the folder of
DREAMS' spindle excerpts (half-hours of one EEG channel, stages every 5 s, brought to epochs of
30 s) and that of pyDYNAM-O's example (84 minutes). A small PART encoder is pretrained on DREAMS for
1,000 steps; of its seven sleepers four are labelled, one chooses, one is tested on, drawn by three
seeds; and every run is judged on pyDYNAM-O's sleeper, who is of another laboratory. Two people tell
no more than that it runs. Passes, batch and rate are of an earlier trial on DREAMS. DREAMS'
third excerpt is at 50 Hz and is left out. What is finished is kept.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
from between import RATES
from staged_night import write_recording

CONFIGS = Path(__file__).parents[1] / "configs"
RESULTS = Path(__file__).parent / "results" / "raw_context.json"
SHAPE = {"encoder.width": 64, "encoder.depth": 3, "encoder.heads": 4}
PRETRAINING = SHAPE | {
    "windows_per_epoch": 3200, "fit.epochs": 10, "fit.batch_size": 32, "fit.workers": 0,
    "optim.warmup_epochs": 1, "optim.lr": 1.6e-2, "optim.clip": 1.0,
}  # fmt: skip
# Rates are for a batch of 512: 2e-3 over features, half of that for an encoder.
FROZEN = {"split.val_subjects": 1, "fit.epochs": 60, "fit.batch_size": 8, "optim.lr": 0.128}
THROUGH = FROZEN | {
    "context.through": True, "pool": "mean+sd+spectrum", "fit.batch_size": 4, "optim.clip": 1.0,
    "fit.epochs": 40,
}  # fmt: skip
ROWS = {
    "logistic regression on one epoch's band powers": ("bands", "scratch", {"model": "logistic"}),
    "GRU over band powers": ("bands", "scratch", FROZEN),
    "GRU over frozen PART and band powers": ("both", "scratch", FROZEN),
    "GRU and its encoder, from PART": ("store", "part", THROUGH),
    "GRU and its encoder, from scratch": ("store", "scratch", THROUGH | SHAPE),
}
SEEDS = (0, 1, 2)


def prepare(dreams: Path, pydynamo: Path, work: Path) -> None:
    """Write the recordings as EDF; make stores of both, the encoder, and stores of features."""
    import edfio

    from partsig import embed, preprocess, pretrain

    raw = work / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for number in (1, 2, *range(4, 9)):
        lines = (dreams / f"excerpt{number}.txt").read_text().split("\n")[1:]
        x, rate = np.array([float(line) for line in lines if line.strip()]), RATES.get(number, 200)
        signal = edfio.EdfSignal(
            x[: len(x) // rate * rate], rate, label="EEG", physical_dimension="uV"
        )
        edfio.Edf([signal]).write(raw / f"excerpt{number}.edf")
        shutil.copy(dreams / f"Hypnogram_excerpt{number}.txt", raw)
    (work / "raw-other").mkdir(exist_ok=True)
    write_recording(pydynamo, work / "raw-other" / "sleeper.edf")
    own = {"channels": ["EEG"]}
    dreams_own = {"hypnogram.codes": "dreams", "hypnogram.epoch_s": 5,
                  "hypnogram.pattern": "Hypnogram_{name}.txt"}  # fmt: skip
    preprocess("edf", raw, work / "store", jobs=1, overrides=own | dreams_own)
    preprocess("edf", work / "raw-other", work / "other", jobs=1, overrides=own)
    part = pretrain(
        work / "store", work / "part", config=CONFIGS / "part-laplace.yaml", seed=0, gpus="0",
        overrides=PRETRAINING,
    )  # fmt: skip
    for kind in ("bands", "both"):
        run = None if kind == "bands" else part
        for store, name in ((work / "store", kind), (work / "other", f"other-{kind}")):
            embed(run, store, as_store=True, features_of=kind, output=work / name, device="cpu")


def judged(work: Path, name: str, seed: int) -> dict[str, float]:
    """Train a row with a seed, unless that is done; return kappa on both sleepers."""
    from partsig import evaluate, finetune

    kind, origin, settings = ROWS[name]
    task = None if "model" in settings else "night-context"
    config = None if task is None else CONFIGS / "night-context.yaml"
    began = time.process_time()
    run = finetune(
        origin if origin == "scratch" else work / origin, work / kind,
        work / f"run-{list(ROWS).index(name)}-{seed}", task=task, subjects=4, config=config,
        overrides={"split.val_subjects": 1} | settings, seed=seed, device="cpu",
    )  # fmt: skip
    spent = time.process_time() - began
    other = work / ("other" if kind == "store" else f"other-{kind}")
    found = {}
    for key, store in (("dreams", None), ("pydynamo", other)):
        result = evaluate(run, store, figures=False, device="cpu").metrics
        found |= {key: result["kappa"], f"{key}_n_epochs": result["n_epochs"]}
    return found | {"training_cpu_s": round(spent, 1)}


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of kappa on each sleeper.

    >>> rows = [{"row": "GRU over band powers", "dreams": k, "pydynamo": 0.5} for k in (0.1, 0.3)]
    >>> table(rows)[0]["dreams"]["mean"]
    0.2
    """
    lines = []
    for name in ROWS:
        mine = [row for row in rows if row["row"] == name]
        line: dict[str, object] = {"row": name, "n_seeds": len(mine)}
        for key in ("dreams", "pydynamo"):
            values = [row[key] for row in mine if row[key] is not None]
            if values:
                sd = statistics.stdev(values) if len(values) > 1 else None
                line[key] = {"mean": statistics.mean(values), "sd": sd}
        lines.extend([line] if mine else [])
    return lines


def main() -> None:
    """Make what is not there yet; write what was found, after each run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dreams", type=Path)
    parser.add_argument("pydynamo", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from partsig.runs import directory as runs

    prepare(options.dreams, options.pydynamo, options.work)
    rows: list[dict] = []
    for seed in SEEDS:
        for name in ROWS:
            rows.append({"row": name, "seed": seed, **judged(options.work, name, seed)})
            print(rows[-1], flush=True)
            content = {
                "what": __doc__.partition("\n")[0],
                "command": "python benchmarks/raw_context.py DREAMS PYDYNAMO WORK",
                "split_unit": "person: of seven four train, one chooses, one is tested on; and "
                "one of another laboratory",
                "date": runs.now(), "pretraining": PRETRAINING,
                "settings": {name: told[2] for name, told in ROWS.items()},
                "environment": runs.environment(), "table": table(rows), "rows": rows,
            }  # fmt: skip
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
