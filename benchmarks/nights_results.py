"""What the runs of ``nights.py`` say: kappa by row, gains of the same draws, all sleepers."""

import json
import platform
import statistics
from datetime import datetime
from pathlib import Path

import nights_pretraining as pretraining
import numpy as np
from nights_pretraining import FOLDS, OTHER_ENCODERS, Place
from nights_rows import BESIDE, ENCODED, PASSES, ROWS, SLEEPERS

# A row's name, the network that it is held against, and how its encoder was pretrained.
PAIRED = BESIDE | {name: (network, way) for name, (network, way, _) in ENCODED.items()}


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
        if one["row"] not in PAIRED  # which gains() compares, by draws of several pretrainings
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
    for name, (network, way) in PAIRED.items():
        how = name.rpartition("+")[0]  # the network, and what becomes of its encoder
        against = f"{how}+{over}" if over else network
        if over and way in OTHER_ENCODERS:
            continue  # the difference would be that of the encoders, too
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
                        "network": how,
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
        "settings": {row: ROWS[row] for row in ROWS if row not in BESIDE},
        "started_from": {row: way for row, (_, way, _) in ENCODED.items()},
        "pretrained_by": {way: config for way, (config, _) in pretraining.WAYS.items()},
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
