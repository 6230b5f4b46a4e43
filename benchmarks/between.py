"""Does PART learn how far apart two half-minutes of a recording lie that are minutes apart?

Run: ``python benchmarks/between.py DREAMS PYDYNAMO WORK [--out FILE]`` with the folder of DREAMS'
spindle excerpts (``excerptN.txt``, half-hours of one EEG channel) and that of pyDYNAM-O's example
(``segment_data.csv``, 84 minutes, 100 Hz). Pretrains ``part-between``, small, for 1,000 steps of 32
on six people, three seeds, with pairs of the two windows and without; and writes what 256 windows
of two others show (pyDYNAM-O's sleeper, DREAMS' eighth): order of patches right, squared error and
loss against chance, of pairs in one window and in two. Translations are counted in the largest
possible one. DREAMS' third excerpt is at 50 Hz and is left out.
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
    "encoder.width": 64, "encoder.depth": 3, "encoder.heads": 4, "objective.hidden": 128,
    "objective.target_scale": "unit", "windows_per_epoch": 3200, "fit.epochs": 10,
    "fit.batch_size": 32, "fit.workers": 0, "optim.warmup_epochs": 0.5, "optim.lr": 3e-2,
}  # fmt: skip
WAYS = {"with pairs of two windows": {}, "without": {"objective.between": 0.0}}
TOLD = ("sign", "mse", "chance", "loss", "loss_pairs", "chance_loss", "between_sign", "between_mse",
        "between_chance", "loss_between", "between_chance_loss")  # fmt: skip
HELD_OUT = ("dreams8", "pydynamo")
WINDOWS, AT_A_TIME = 256, 32


def prepare(dreams: Path, pydynamo: Path, work: Path) -> Path:
    """Write the recordings as EDF, and make the store."""
    import edfio

    from partsig import preprocess

    signals = {"pydynamo": (np.loadtxt(pydynamo / "segment_data.csv"), 100)}
    for number in (1, 2, *range(4, 9)):
        lines = (dreams / f"excerpt{number}.txt").read_text().split("\n")[1:]
        x = np.array([float(line) for line in lines if line.strip()])
        signals[f"dreams{number}"] = (x, RATES.get(number, 200))
    for name, (x, rate) in signals.items():
        raw = work / ("raw-held" if name in HELD_OUT else "raw")
        raw.mkdir(parents=True, exist_ok=True)
        whole = x[: len(x) // rate * rate]
        edfio.Edf([edfio.EdfSignal(whole, rate, label="EEG", physical_dimension="uV")]).write(
            raw / f"{name}.edf"
        )
    for kind in ("", "-held"):
        own = {"channels": ["EEG"]}
        preprocess("edf", work / f"raw{kind}", work / f"store{kind}", jobs=1, overrides=own)
    return work / "store"


def judged(run: Path, held: Path) -> dict[str, float]:
    """Return what windows of people that were not trained on show."""
    import torch

    from partsig.data.signals.store import open_store
    from partsig.runs.models import load_part

    store, model = open_store(held), load_part(run).model.eval()
    rng, length = np.random.default_rng(0), model.window[-1]
    sums: dict[str, float] = {}
    for _ in range(WINDOWS // AT_A_TIME):
        pieces = []
        for _ in range(AT_A_TIME):
            signal = store.signal(str(rng.choice(list(store.recordings))))
            begin = int(rng.integers(signal.shape[1] - length + 1))
            pieces.append(np.asarray(signal[:, begin : begin + length], np.float32))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.inference_mode():
            told = model(torch.from_numpy(np.stack(pieces)), generator)
        for key in TOLD:
            if key in told:
                sums[key] = sums.get(key, 0.0) + told[key].item() * AT_A_TIME / WINDOWS
    return sums


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
            step = read_metrics(run)[-1]["step"]
            found = judged(run, options.work / "store-held")
            rows.append({"way": way, "seed": seed, "step": step, **found})
            print(rows[-1], flush=True)
            content = {
                "what": __doc__.partition("\n")[0],
                "command": "python benchmarks/between.py DREAMS PYDYNAMO WORK",
                "split_unit": "person; six train, two others are asked about",
                "date": runs.now(), "settings": SMALL, "ways": WAYS,
                "environment": runs.environment(), "table": table(rows), "rows": rows,
            }  # fmt: skip
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict]) -> list[dict]:
    """Return mean and SD over seeds of the share of order that is right, and of error by chance.

    >>> rows = [{"way": "without", "sign": s, "mse": 1, "chance": 1} for s in (0.5, 0.7)]
    >>> table(rows)[0]["sign"]["mean"]
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
