"""Stages of whole nights from the epochs around each: kappa by labelled sleepers and by context.

Run: ``python benchmarks/nights.py RAW [--work DIR] [--only ROW …] [--sleepers N …] [--draws N]
[--minutes M]`` with the folder of ``nights.npz``, Sleep-EDF's cassettes as features (153 nights of
78 sleepers, ten band powers of three channels; readers/feature_nights.py has the format).

One fifth of the sleepers (16) is the test, the same for every row; 1, 2, 3, 5, 10 or 30 others are
labelled, drawn by the seed, and five further labelled ones choose the epoch and the temperature.
Each night is scaled by its own median and interquartile range, without a label. Settings were
chosen on sleepers that are neither tested on nor labelled in a draw; nothing was chosen on the
test. All networks see the same number of epochs a step, and about as many steps. Rows that are
called after a pretraining have its components beside the band powers (nights_pretraining.py); draw
d has the pretraining of seed d modulo 3. ``gru-21`` is the same network without them; what a
pretraining gains is told of the same draws, with an interval over test sleepers.

What is finished is kept: the same command goes on, and rows or draws can be added later. Writes
WORK/compare/ and benchmarks/results/nights.json, every five minutes and at the end.

``--fold 1`` to ``4`` tests another fifth instead, in WORK/fold-N, with encoders of its own,
pretrained without that fifth, one seed of each: with the usual fifth every sleeper is tested, and
results are told of all. How many components is taken from the usual split.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import nights_pretraining as pretraining
import numpy as np
from nights_pretraining import FOLDS, Place

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

RESULTS = Path(__file__).parent / "results" / "nights.json"
SLEEPERS = (10, 3, 1, 30, 2, 5)
# Draws of labelled sleepers: fewer sleepers differ more.
DRAWS = {1: 20, 2: 20, 3: 20, 5: 5, 10: 5, 30: 5}
# Passes over the stretches, and after how many validation looks: 240 to 450 steps.
PASSES = {1: (60, 15), 2: (36, 9), 3: (24, 6), 5: (16, 4), 10: (8, 2), 30: (4, 1)}
EPOCHS_A_STEP = 672
RATE = 2e-3  # of AdamW at its highest
WRITE_EVERY_S = 300


def network(model: str, epochs: int, **own: object) -> dict[str, object]:
    """Return the settings of a network over stretches of so many epochs."""
    batch = max(2, round(EPOCHS_A_STEP / epochs))
    rate = RATE * 512 / batch  # rates are stated for a batch of 512
    return {
        "context.model": model,
        "context.epochs": epochs,
        "loss.smoothing": 0.0,
        "optim.lr": rate,
        "optim.min_lr": rate / 100,
        "optim.warmup_lr": rate / 100,
        "optim.warmup_epochs": 1,
        "optim.weight_decay": 0.01,
        "optim.clip": 1.0,
        "fit.batch_size": batch,
        **own,
    }


ROWS = {
    "gru-21": network("gru", 21),
    "logistic": {"model": "logistic"},
    "gru-1": network("gru", 1),
    "viterbi": network("viterbi", 1),
    "gru-7": network("gru", 7),
    "gru-101": network("gru", 101),
    "gru-21-two-layers": network("gru", 21, **{"context.layers": 2}),
    "transformer-21": network("transformer", 21, **{"context.layers": 2}),
}
# Of a row's name, its network, and what its features are beside the band powers.
WITH_PRETRAINING = ("gru-21", "gru-1", "viterbi", "gru-7", "gru-101", "transformer-21")
BESIDE = {f"{row}+{way}": (row, way) for row in WITH_PRETRAINING for way in pretraining.WAYS}
ROWS |= {name: ROWS[row] for name, (row, _) in BESIDE.items()}


def main() -> None:
    """Do what is left to do, in the order of draws; write the results now and then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="folder of nights.npz")
    parser.add_argument("--work", type=Path, default=Path("runs/nights"))
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sleepers", nargs="*", type=int, choices=SLEEPERS, default=SLEEPERS)
    parser.add_argument("--draws", type=int, default=0, help="draws of each; 0: as DRAWS says")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after")
    options = parser.parse_args()
    from partsig import preprocess

    store = options.work / "store"
    if not (store / "index.csv").is_file():
        preprocess("feature-nights", options.raw, store, jobs=1)
    place = Place(options.work, options.fold)
    until = time.monotonic() + 60 * options.minutes
    most = max(options.draws or DRAWS[n] for n in options.sleepers)
    written = time.monotonic()
    for draw in range(most):
        for sleepers in options.sleepers:
            if draw >= (options.draws or DRAWS[sleepers]):
                continue
            for row in options.only:
                if time.monotonic() < until:
                    one_run(place, row, sleepers, draw)
                if time.monotonic() - written > WRITE_EVERY_S:
                    write(options.work, options.out)
                    written = time.monotonic()
    table(options.work)
    write(options.work, options.out)


def one_run(place: Place, row: str, sleepers: int, draw: int) -> None:
    """Train and evaluate one row on one draw, unless that was done before."""
    from partsig import evaluate
    from partsig.runs.test_results import load

    run = place.runs / f"{row}-n{sleepers}-s{draw}"
    if (run / "evaluation" / "metrics.json").is_file():
        return
    store = place.store()
    if row in BESIDE:
        way, seeds = BESIDE[row][1], pretraining.SEEDS
        seed = seeds[(place.fold or draw) % len(seeds)]
        n = pretraining.choose(Place(place.work), way, partial(choice, place.work))
        store = pretraining.beside(place, way, seed, n)
    started = time.process_time()
    trained(store, run, row, sleepers, draw)
    spent = time.process_time() - started
    if evaluate(run, figures=False).metrics["subjects_seen_in_pretraining"]:
        raise RuntimeError(f"{run} is tested on sleepers that its features were learned from.")
    confusions = load([run])[0][0].counts.astype(int).tolist()  # of each test sleeper
    told = {"training_cpu_s": round(spent, 1), "confusions": confusions}
    (run / "seconds.json").write_text(json.dumps(told))


def choice(work: Path, store: Path, name: str, draw: int) -> Path:
    """Return the run by which the number of components is chosen: it is not tested."""
    run = work / name
    facts = run / "run.json"
    if not facts.is_file() or json.loads(facts.read_text())["state"] != "finished":
        shutil.rmtree(run, ignore_errors=True)
        trained(store, run, "gru-21", pretraining.CHOSEN_ON[0], draw)
    return run


def trained(store: Path, run: Path, row: str, sleepers: int, draw: int) -> None:
    """Train one row."""
    from partsig import finetune

    passes, every = PASSES[sleepers]
    settings = dict(ROWS[row])
    task = None
    if "context.model" in settings:
        task = "night-context"
        settings |= {"fit.epochs": passes, "fit.validate_every": every}
    shutil.rmtree(run, ignore_errors=True)
    finetune("scratch", store, run, task=task, subjects=sleepers, overrides=settings, seed=draw)


def finished(work: Path) -> list[dict]:
    """Return what every finished run says, by row, sleepers and draw."""
    found = []
    for row in ROWS:
        for sleepers in SLEEPERS:
            for run in sorted(work.glob(f"{row}-n{sleepers}-s*")):
                file = run / "evaluation" / "metrics.json"
                if not file.is_file():
                    continue
                metrics = json.loads(file.read_text(encoding="utf-8"))
                keys = ("kappa", "kappa_interval_95", "macro_f1", "accuracy")
                spent = run / "seconds.json"
                told = json.loads(spent.read_text()) if spent.is_file() else {}
                found.append(
                    {
                        "row": row,
                        "sleepers": sleepers,
                        "draw": metrics["seed"],
                        **{key: metrics[key] for key in keys},
                        "ece": metrics["calibration"]["ece"],
                        **told,
                    }
                )
    return found


def table(work: Path) -> None:
    """Write the table of all rows, with intervals over test sleepers, into WORK/compare."""
    from partsig import compare

    every = finished(work)
    if not any(one["row"] == "logistic" for one in every):
        return  # gains are counted from it
    named = [
        f"{one['row']}={work}/{one['row']}-n{one['sleepers']}-s{one['draw']}"
        for one in every
        if one["row"] not in BESIDE  # which gains() compares, by draws of several pretrainings
    ]
    compared = compare(named, against="logistic", output=work / "compare")
    keys = ("method", "budget", "n_runs", "score", "sd", "interval", "gain", "gain_sd")
    keys += ("gain_interval",)
    rows = [{key: getattr(row, key) for key in keys} for row in compared.rows]
    (work / "table.json").write_text(json.dumps({"test": compared.n_units, "rows": rows}))
    print(compared.markdown)


def gains(rows: list[dict], over: str = "") -> list[dict]:
    """Return by how much each pretraining changes kappa, of the same draws: mean and SD over them.

    Changes are from the same network without it, or with the one that ``over`` names.
    ``interval_95``: of the mean, where the test sleepers are drawn anew.

    >>> tables = {0.5: [[[3, 1], [1, 3]]] * 2, 1.0: [[[4, 0], [0, 4]]] * 2}
    >>> rows = [{"row": row, "sleepers": 3, "draw": 0, "kappa": kappa, "confusions": tables[kappa]}
    ...         for row, kappa in (("gru-21", 0.5), ("gru-21+part", 1.0))]
    >>> for gain in gains(rows):
    ...     gain["network"], gain["way"], gain["n_draws"], gain["mean"], gain["interval_95"]
    ('gru-21', 'part', 1, 0.5, [0.5, 0.5])
    """
    from partsig.metrics.agreement import kappa
    from partsig.metrics.resampling import bootstrap

    def gained(tables: np.ndarray) -> np.ndarray:  # (…, draws, 2, K, K)
        each = kappa(tables)
        return (each[..., 1] - each[..., 0]).mean(-1)

    # Another process may be about to write what one of its runs has answered.
    counted = (row for row in rows if "confusions" in row)
    runs = {(row["row"], row["sleepers"], row["draw"]): row for row in counted}
    told = []
    for name, (network, way) in BESIDE.items():
        against = f"{network}+{over}" if over else network
        for sleepers in SLEEPERS:
            pairs = [
                (runs[against, n, draw], run)
                for (row, n, draw), run in sorted(runs.items())
                if (row, n) == (name, sleepers) and (against, n, draw) in runs
            ]
            if pairs and name != against:
                found = [own["kappa"] - plain["kappa"] for plain, own in pairs]
                tables = np.array([[run["confusions"] for run in pair] for pair in pairs])
                ends = bootstrap(list(np.moveaxis(tables, 2, 0)), gained)
                told.append(
                    {
                        "network": network,
                        "way": way,
                        "sleepers": sleepers,
                        "n_draws": len(found),
                        "mean": statistics.mean(found),
                        "sd": statistics.stdev(found) if len(found) > 1 else None,
                        "interval_95": list(ends),
                        "draws_ahead": sum(gain > 0 for gain in found),
                    }
                )
    return told


def over_every_sleeper(work: Path) -> dict[str, list[dict]]:
    """Return kappa and gains of the draws that each of the five folds has, all sleepers pooled."""
    from partsig.metrics.agreement import kappa
    from partsig.metrics.resampling import bootstrap

    runs: dict[tuple, list[list]] = {}
    for fold in range(FOLDS):
        for run in finished(Place(work, fold).runs):
            key = run["row"], run["sleepers"], run["draw"]
            if len(runs.setdefault(key, [])) == fold and "confusions" in run:
                runs[key].append(run["confusions"])
    pooled = [
        {
            "row": row,
            "sleepers": sleepers,
            "draw": draw,
            "confusions": [one for part in parts for one in part],
        }
        for (row, sleepers, draw), parts in runs.items()
        if len(parts) == FOLDS
    ]
    for run in pooled:
        run["kappa"] = float(kappa(np.array(run["confusions"]).sum(0)))
    told = summary(pooled)
    for row in told:
        own = [run for run in pooled if all(run[key] == row[key] for key in ("row", "sleepers"))]
        tables = np.moveaxis(np.array([run["confusions"] for run in own]), 1, 0)
        row["n_sleepers"] = len(tables)
        row["interval_95"] = list(bootstrap(list(tables), lambda some: kappa(some).mean(-1)))
    return {
        "kappa_by_row": told,
        "gain_of_pretraining": gains(pooled),
        "gain_over_an_encoder_as_drawn": gains(pooled, "random"),
    }


def summary(rows: list[dict]) -> list[dict]:
    """Return mean and SD of kappa over the draws, by row and number of labelled sleepers."""
    told = []
    for name in ROWS:
        for sleepers in SLEEPERS:
            found = [
                row["kappa"] for row in rows if (row["row"], row["sleepers"]) == (name, sleepers)
            ]
            if found:
                sd = statistics.stdev(found) if len(found) > 1 else None
                mean = {"n_draws": len(found), "kappa": statistics.mean(found), "sd": sd}
                told.append({"row": name, "sleepers": sleepers} | mean)
    return told


def write(work: Path, out: Path) -> None:
    """Write the results as they are now."""
    import torch

    from partsig import __version__

    made, runs = work / "table.json", finished(work)
    results = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "partsig": __version__,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "split_unit": "sleeper",
        "settings": {row: {k: v for k, v in ROWS[row].items()} for row in ROWS},
        "passes": {str(n): PASSES[n][0] for n in SLEEPERS},
        "table": json.loads(made.read_text()) if made.is_file() else None,
        "components": {
            way: json.loads(file.read_text())
            for way in pretraining.WAYS
            if (file := work / f"components-{way}.json").is_file()
        },
        "pretraining": pretraining.pretext(work),
        "kappa_by_row": summary(runs),
        "gain_of_pretraining": gains(runs),
        "gain_over_an_encoder_as_drawn": gains(runs, "random"),
        "over_every_sleeper": over_every_sleeper(work),
        "runs": [{k: v for k, v in run.items() if k != "confusions"} for run in runs],
    }
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
