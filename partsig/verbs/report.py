"""``partsig report``: an evaluated run in, one page on its agreement with the scorer out."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig import config as configs
from partsig.data.signals.recordings import EPOCH_S, STAGES, UNSCORED
from partsig.data.signals.store import locate, open_store
from partsig.errors import DataError
from partsig.files import write_json, write_text
from partsig.metrics.agreement import accuracy
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.runs import run as runs
from partsig.sleep.report import agreement, scorers, sentences, statistics
from partsig.sleep.report.agreement import Night
from partsig.sleep.report.page import night_pages, page
from partsig.sleep.report.scorers import ReportConfig
from partsig.verbs.evaluate import evaluate

# What evaluate writes that a report needs; an evaluation without is of an older partsig.
NEEDED = ("calibration", "review", "confusion", "kappa_per_recording")
DOUBTFUL = 5  # epochs listed per recording


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where the report is, its page, and every figure on it."""

    path: Path
    page: Path
    metrics: dict


def report(
    run: str | Path | None = None,
    *,
    store: str | Path | None = None,
    scorer: Mapping[str, str | Path] | Iterable[str] | None = None,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
    seed: int = 0,
) -> Report:
    """Write a page on how a fine-tuned run agrees with the scorer of its test recordings.

    ``run`` defaults to the fine-tuning run that finished last, ``store`` to its own (its test
    subjects; all labelled subjects of another). Evaluates first where that is missing or older than
    the run. ``scorer``: further people's hypnograms of the same recordings, folders by name or
    ``NAME=FOLDER`` texts; ``overrides`` are fields of
    :class:`~partsig.sleep.report.scorers.ReportConfig`, how those are read. ``output`` defaults
    to the evaluation's folder; report.html, which needs no network, and report.json are written
    there; of more than 20 recordings, each has a page of its own in report/, linked from there.

    Raises ConfigError where YASA is not installed, and DataError when a scorer's hypnograms are not
    of these recordings.
    """
    statistics.import_yasa()
    settings = configs.compose(ReportConfig, "report", None, overrides)
    folders = scorer if isinstance(scorer, Mapping) else scorers.parse(scorer or ())
    path = Path(run) if run else runs.last("finetune")
    record = runs.finished(path, "finetune", "eeg")
    opened = open_store(locate(store or record["store"]))
    folder, measured = _evaluated(path, record, opened.path, device, seed)
    nights = agreement.read_predictions(folder / "predictions.csv", opened)
    seconds = {
        name: scorers.read_scorer(
            name, Path(place), opened, [night.name for night in nights], settings.hypnogram
        )
        for name, place in folders.items()
    }
    found = {
        "date": runs.now(),
        "environment": runs.environment(),
        "run": str(path),
        "store": measured["store"],
        "external": measured["external"],
        "evaluated": measured["date"],
        "model": _model(record, measured),
        **_measure(nights, measured, seed),
        "scorers": {
            name: {"folder": str(folders[name])} | agreement.beside_scorer(nights, second, seed)
            for name, second in seconds.items()
        },
    }
    found["verdict"] = sentences.verdict(found)
    found["limits"] = sentences.limits(found)
    where = Path(output) if output else folder
    written = _finite(found)
    for name, text in night_pages(found, nights):
        write_text(where / name, text)
    write_json(where / "report.json", written)
    write_text(where / "report.html", page(found, nights))
    return Report(path=where, page=where / "report.html", metrics=written)


def _evaluated(path: Path, record: dict, store: Path, device: str, seed: int) -> tuple[Path, dict]:
    """Return the folder of the evaluation and its metrics, made anew where they are out of date."""
    folder, _ = runs.evaluation_of(path, record, store)
    try:
        measured = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        whole = (folder / "predictions.csv").is_file() and all(key in measured for key in NEEDED)
        same = Path(measured["store"]).resolve() == store.resolve()
        # Both are UTC in ISO 8601, so that their order as texts is that of time.
        if whole and same and measured["date"] >= record["finished"]:
            return folder, measured
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or damaged: it is made anew
    found = evaluate(path, store, device=device, seed=seed)
    return found.path, found.metrics


def _model(record: dict, measured: dict) -> dict:
    """Return what the model is and whom it was trained on, as far as the run tells."""
    config = record["config"]
    facts = {
        "model": config["model"],
        "from": record["from"],
        "train": config["train"],
        "pretraining": record["pretraining"],
        "pretraining_subjects": len(record["pretraining_subjects"]),
        "seen_in_pretraining": measured["subjects_seen_in_pretraining"],
        "train_subjects": len(record["split"]["train"]),
        "val_subjects": len(record["split"]["val"]),
        "epochs_train": record.get("n_epochs_train"),
        "epochs_val": record.get("n_epochs_val"),
        "seed": record["seed"],
        "store": record["store"],
        "ch_names": record["ch_names"],
        "sfreq": record["sfreq"],
        "filter": record.get("filter"),
        "calibration": record.get("calibration"),
        "finished": record["finished"],
        "source": None,
        "ages": None,
    }
    try:
        own = open_store(Path(record["store"]))
    except DataError:
        return facts  # the store is not at hand any more
    people = set(record["split"]["train"])
    rows = [row for row in own.rows if row["subject"] in people]
    ages = [age for age in map(agreement.age_of, rows) if age is not None]
    facts["source"] = own.meta.get("source")
    facts["ages"] = [min(ages), max(ages)] if ages and len(ages) == len(rows) else None
    return facts


def _measure(nights: list[Night], measured: dict, seed: int) -> dict:
    """Return agreement, statistics, subgroups and trust of the model beside the first scorer."""
    units = agreement.by_subject(nights)
    scored = {night.name: night.truth for night in nights}
    model = {night.name: night.predicted for night in nights}
    pooled, each = statistics.epoch_agreement(scored, model)
    stats = [
        {name: statistics.sleep_statistics(stages) for name, stages in scoring.items()}
        for scoring in (scored, model)
    ]
    subjects = {night.name: night.subject for night in nights}
    kappa = measured["kappa_per_recording"]
    rows = [
        {
            "recording": night.name,
            "subject": night.subject,
            "age": night.age,
            "sex": night.sex or None,
            "epochs": night.n_scored,
            "unscored_inside": night.n_gaps,
            "n_stages": len(set(night.truth.tolist()) - {UNSCORED}),
            "kappa": kappa[night.name],
            "accuracy": each[night.name]["accuracy"],
            "scored": stats[0][night.name],
            "predicted": stats[1][night.name],
            "doubtful": _doubtful(night),
        }
        for night in nights
    ]
    rows.sort(key=lambda row: (row["kappa"] is None, row["kappa"], row["recording"]))
    return {
        "n_subjects": len(units),
        "n_recordings": len(nights),
        "n_epochs": int(np.sum(units)),
        "n_short": sum(night.n_scored * EPOCH_S < 3600 * statistics.NIGHT_H for night in nights),
        "kappa": agreement.measure(units, agreement.kappa_of(0), seed),
        "accuracy": agreement.measure(units, lambda t: accuracy(t[..., 0, :, :]), seed),
        "kappa_per_recording_mean": measured["kappa_per_recording_mean"],
        "kappa_per_recording_sd": measured["kappa_per_recording_sd"],
        "yasa": pooled,
        "stages": agreement.per_stage(units, seed),
        "confusion": np.sum(units, axis=0)[0].tolist(),
        "bland_altman": statistics.bland_altman(*stats, subjects),
        "subgroups": agreement.subgroups(nights, seed),
        "calibration": measured["calibration"],
        "review": measured["review"],
        "bootstrap": {"unit": "subject", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
        "recordings": rows,
    }


def _doubtful(night: Night) -> list[dict]:
    """Return the scored epochs of least confidence, the least first."""
    known = np.flatnonzero(night.truth != UNSCORED)
    order = known[np.argsort(night.confidence[known], kind="stable")][:DOUBTFUL]
    return [
        {
            "epoch": int(e),
            "onset_s": night.start_s + EPOCH_S * int(e),
            "scored": STAGES[night.truth[e]],
            "predicted": STAGES[night.predicted[e]],
            "confidence": float(night.confidence[e]),
        }
        for e in order
    ]


def _finite(value: object) -> object:
    """Return nested values with None for nan, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
