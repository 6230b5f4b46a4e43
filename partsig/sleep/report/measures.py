"""What a report measures: the model, its agreement with the scorer, and its nights one by one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from partsig.data.addresses import shown
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.data.signals.store import open_store
from partsig.errors import DataError
from partsig.metrics.agreement import accuracy
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.modalities.signal_transfer import trained_for
from partsig.places import place_name
from partsig.runs.run import Run
from partsig.sleep.report import agreement, statistics
from partsig.sleep.report.agreement import ScoredRecording

# What `evaluate --shift` and `--ablate-channels` measure.
ROBUSTNESS = ("epoch_shift", "channel_ablation")
DOUBTFUL = 5  # epochs listed per recording


def _name(run: Run) -> str:
    """Return what labels an epoch: the model, and from how many epochs where it sees neighbours."""
    model = run.config["model"]
    if run.task != "night-context":
        return model
    around = "{model} over {epochs} epochs".format_map(run.config["context"])
    return f"encoder and {around}" if model == "encoder" else around


def model_facts(run: Run, measured: dict) -> dict:
    """Return what the model is and whom it was trained on, as far as the run tells."""
    record, config = run.facts, run.config
    facts = {
        "model": _name(run),
        "from": run.origin.told,
        "train": config["train"],
        "pretraining": record["pretraining"],
        "pretraining_subjects": len(record["pretraining_subjects"]),
        "seen_in_pretraining": measured["subjects_seen_in_pretraining"],
        "train_subjects": len(record["split"]["train"]),
        "val_subjects": len(record["split"]["val"]),
        "epochs_train": record.get("n_epochs_train"),
        "epochs_val": record.get("n_epochs_val"),
        "seed": record["seed"],
        "store": place_name(shown(record["store"])),
        "ch_names": record["ch_names"],
        "channels_missing": measured.get("channels_missing", {}),
        "channel_dropout": trained_for(run),
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
    trained_on = set(record["split"]["train"])
    rows = [row for row in own.rows if row["subject"] in trained_on]
    ages = [age for age in map(agreement.age_of, rows) if age is not None]
    facts["source"] = own.meta.get("source")
    facts["ages"] = [min(ages), max(ages)] if ages and len(ages) == len(rows) else None
    return facts


def measure(nights: list[ScoredRecording], measured: dict, seed: int) -> dict:
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
        "robustness": {key: measured[key] for key in ROBUSTNESS if key in measured},
        "bootstrap": {"unit": "subject", "draws": BOOTSTRAP_DRAWS, "seed": seed, "level": 0.95},
        "recordings": rows,
    }


def _doubtful(night: ScoredRecording) -> list[dict]:
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


def finite(value: object) -> object:
    """Return nested values with None for nan, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
