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
pretraining gains is told of the same draws, with an interval over test sleepers. ``gru-240`` rows
have the encoder itself in place of components: left as it is, or trained with the network.

What is finished is kept: the same command goes on, and rows or draws can be added later. Writes
WORK/compare/ and benchmarks/results/nights.json, every five minutes and at the end.

``--fold 1`` to ``4`` tests another fifth instead, in WORK/fold-N, with encoders of its own,
pretrained without that fifth, one seed of each: with the usual fifth every sleeper is tested, and
results are told of all. How many components is taken from the usual split: chosen on five
sleepers of whom each is tested in another fold. Two processes should not do the same rows.
"""

import argparse
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import nights_pretraining as pretraining
from nights_pretraining import FOLDS, Place
from nights_results import table, write
from nights_rows import BESIDE, DRAWS, ENCODED, PASSES, ROWS, SLEEPERS

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

RESULTS = Path(__file__).parent / "results" / "nights.json"
WRITE_EVERY_S = 300


def main() -> None:
    """Do what is left to do, in the order of draws; write the results now and then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="folder of nights.npz")
    parser.add_argument("--work", type=Path, default=Path("runs/nights"))
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sleepers", nargs="*", type=int, choices=SLEEPERS, default=SLEEPERS)
    parser.add_argument(
        "--draws", type=int, default=0, help="draws of each at most; 0: as DRAWS says"
    )
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
    draws = {n: min(DRAWS[n], options.draws or DRAWS[n]) for n in options.sleepers}
    written = time.monotonic()
    for draw in range(max(draws.values())):
        for sleepers in options.sleepers:
            if draw >= draws[sleepers]:
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
    store, origin = place.store(), "scratch"
    seed = pretraining.SEEDS[(place.fold or draw) % len(pretraining.SEEDS)]
    if row in ENCODED:
        origin = pretraining.encoder(place, ENCODED[row][1], seed)
    if row in BESIDE:
        way = BESIDE[row][1]
        n = pretraining.choose(Place(place.work), way, partial(choice, place.work))
        store = pretraining.beside(place, way, seed, n)
    started = time.process_time()
    trained(store, run, row, sleepers, draw, origin)
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


def trained(
    store: Path, run: Path, row: str, sleepers: int, draw: int, origin: str | Path = "scratch"
) -> None:
    """Train one row."""
    from partsig import finetune

    passes, every = PASSES[sleepers]
    settings = dict(ROWS[row])
    task = None
    if "context.model" in settings:
        task = "night-context"
        settings |= {"fit.epochs": passes, "fit.validate_every": every}
    shutil.rmtree(run, ignore_errors=True)
    finetune(origin, store, run, task=task, subjects=sleepers, overrides=settings, seed=draw)


if __name__ == "__main__":
    main()
