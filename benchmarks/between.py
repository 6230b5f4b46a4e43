"""Does PART learn how far apart two half-minutes of a recording lie that are minutes apart?

Run: ``python benchmarks/between.py DREAMS PYDYNAMO WORK [--out FILE]`` with the folder of DREAMS'
spindle excerpts (``excerptN.txt``, half-hours of one EEG channel) and that of pyDYNAM-O's example
(``segment_data.csv``, 84 minutes, 100 Hz). Pretrains ``part-between``, small, for 600 steps of 32,
three seeds, by three objectives: pairs of the two windows and those within each, between alone, and
within alone; and writes what monitor recordings show (two of eight people, by the hash of their
names): order of patches right, squared error and loss against chance, of pairs in one window and in
two. DREAMS' third excerpt is at 50 Hz and is left out.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

import numpy as np

CONFIG = Path(__file__).parents[1] / "configs" / "part-between.yaml"
RATES = {1: 100}  # of excerpts that are not at 200 Hz
SMALL = {
    "encoder.width": 96, "encoder.depth": 3, "encoder.heads": 4, "objective.hidden": 128,
    "windows_per_epoch": 3200, "fit.epochs": 6, "fit.batch_size": 32, "fit.workers": 0,
    "optim.warmup_epochs": 0.5, "optim.lr": 1.6e-2, "split.monitor_subjects": 2,
}  # fmt: skip
WAYS = {
    "both": {},
    "between alone": {"objective.relate": 0.0},
    "within alone": {"objective.between": 0.0},
}
TOLD = ("sign", "mse", "chance", "loss_pairs", "chance_loss", "between_sign", "between_mse",
        "between_chance", "loss_between", "between_chance_loss")  # fmt: skip


def prepare(dreams: Path, pydynamo: Path, work: Path) -> Path:
    """Write the recordings as EDF, and make the store."""
    import edfio

    from partsig import preprocess

    signals = {"pydynamo": (np.loadtxt(pydynamo / "segment_data.csv"), 100)}
    for number in (1, 2, *range(4, 9)):
        lines = (dreams / f"excerpt{number}.txt").read_text().split("\n")[1:]
        x = np.array([float(line) for line in lines if line.strip()])
        signals[f"dreams{number}"] = (x, RATES.get(number, 200))
    raw = work / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, (x, rate) in signals.items():
        whole = x[: len(x) // rate * rate]
        edfio.Edf([edfio.EdfSignal(whole, rate, label="EEG", physical_dimension="uV")]).write(
            raw / f"{name}.edf"
        )
    preprocess("edf", raw, work / "store", jobs=1, overrides={"channels": ["EEG"]})
    return work / "store"


def main() -> None:
    """Pretrain what is not there yet; write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dreams", type=Path)
    parser.add_argument("pydynamo", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/between.json")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from partsig import pretrain
    from partsig.runs import directory as runs
    from partsig.train.journal import read_metrics

    store, rows = prepare(options.dreams, options.pydynamo, options.work), []
    for seed in range(3):
        for way, changes in WAYS.items():
            run = pretrain(
                store, options.work / f"{way.replace(' ', '-')}-{seed}", config=CONFIG,
                overrides=SMALL | changes, seed=seed, gpus="0",
            )  # fmt: skip
            last = [line for line in read_metrics(run) if "val_loss" in line][-1]
            found = {key: last[f"val_{key}"] for key in TOLD if f"val_{key}" in last}
            rows.append({"way": way, "seed": seed, "step": last["step"], **found})
            print(rows[-1], flush=True)
            content = {
                "what": __doc__.partition("\n")[0],
                "command": "python benchmarks/between.py DREAMS PYDYNAMO WORK",
                "split_unit": "person; two of eight are not trained on",
                "date": runs.now(), "settings": SMALL, "ways": WAYS,
                "environment": runs.environment(), "table": table(rows), "rows": rows,
            }  # fmt: skip
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of the share of order that is right, and of error by chance.

    >>> rows = [{"way": "both", "between_sign": s, "between_mse": 1, "between_chance": 2, "sign": s,
    ...          "mse": 1, "chance": 1} for s in (0.5, 0.7)]
    >>> table(rows)[0]["between_sign"]["mean"]
    0.6
    """
    lines = []
    for way in WAYS:
        mine = [row for row in rows if row["way"] == way]
        line: dict[str, object] = {"way": way, "n_seeds": len(mine)}
        for kind in ("", "between_"):
            if mine and f"{kind}sign" in mine[0]:
                signs = [row[f"{kind}sign"] for row in mine]
                errors = [row[f"{kind}mse"] / row[f"{kind}chance"] for row in mine]
                for name, values in (("sign", signs), ("mse_by_chance", errors)):
                    sd = statistics.stdev(values) if len(values) > 1 else None
                    line[kind + name] = {"mean": statistics.mean(values), "sd": sd}
        if mine:
            lines.append(line)
    return lines


if __name__ == "__main__":
    main()
