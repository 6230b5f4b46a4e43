"""A staging as tables with a row per epoch: CSV, and BIDS events with their sidecar."""

from datetime import timedelta
from pathlib import Path

from partsig import __version__, files
from partsig.cells import as_table, to_cell
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.exports.paths import replaceable_path
from partsig.sleep.exports.values import number, one_line, plain, ranks_of
from partsig.sleep.staging import Staging, stage_name

LEVELS = {
    "W": "wakefulness",
    "N1": "NREM sleep, stage 1",
    "N2": "NREM sleep, stage 2",
    "N3": "NREM sleep, stage 3",
    "REM": "REM sleep (the AASM manual's stage R)",
    "unscored": "no stage: the signal cannot be used, or nobody scored it; never wake",
}
ABOUT = {
    "onset": {"Description": "Start of the epoch, from the recording's first sample", "Units": "s"},
    "duration": {"Description": "Length of the epoch", "Units": "s"},
    "trial_type": {
        "LongName": "sleep stage",
        "Description": "Stage of the epoch, by a model and not by a human scorer",
        "Levels": LEVELS,
    },
    "confidence": {"Description": "Calibrated probability of that stage, 0 to 1"},
    **{f"p_{s}": {"Description": f"Calibrated probability of {s}, 0 to 1"} for s in STAGES},
    "scored": {"Description": "Stage that came with the recording", "Levels": LEVELS},
    "unusable": {"Description": "Why the signal of the epoch cannot be used"},
    "review_rank": {"Description": "Place among the epochs to look at, 1 being the most urgent"},
    "review_reasons": {"Description": "Why the epoch is worth a look"},
}


def write_csv(staging: Staging, folder: Path) -> Path:
    """Write NAME_hypnogram.csv, one row per epoch; return its path.

    Columns: epoch (from 0), onset_s (from the recording's first sample), duration_s, clock_time
    (empty without a start), stage, confidence, p_W to p_REM, scored (where stages came with the
    recording), unusable (the reason), review_rank (1 first) and review_reasons.
    """
    path = replaceable_path(staging, folder, "csv")
    rows = _rows(staging)
    columns = ["epoch", "onset_s", "duration_s", "clock_time", "stage", *_measures(staging)]
    files.write_text(path, as_table(columns, [[row[column] for column in columns] for row in rows]))
    return path


def write_bids(staging: Staging, folder: Path) -> Path:
    """Write ``_events.tsv`` and its sidecar ``_events.json``; return the path of the table.

    Onsets count from the recording's first sample, as BIDS has it; ``trial_type`` is the stage.
    """
    path, sidecar = (replaceable_path(staging, folder, kind) for kind in ("bids", "sidecar"))
    names = {"onset": "onset_s", "duration": "duration_s", "trial_type": "stage"}
    names |= {column: column for column in _measures(staging)}
    lines = ["\t".join(names)]
    for row in _rows(staging):
        lines.append("\t".join(to_cell(row[column]) or "n/a" for column in names.values()))
    stager = {"Name": "partsig", "Version": __version__, "Stager": plain(staging.stager)}
    if staging.channels_missing:
        stager["ChannelsMissing"] = list(staging.channels_missing)
    about = {"GeneratedBy": [stager]} | {column: ABOUT[column] for column in names}
    files.write_json(sidecar, about)
    files.write_text(path, "\n".join(lines) + "\n")
    return path


def _measures(staging: Staging) -> list[str]:
    scored = [] if staging.scored is None else ["scored"]
    probabilities = [f"p_{name}" for name in STAGES]
    return ["confidence", *probabilities, *scored, "unusable", "review_rank", "review_reasons"]


def _rows(staging: Staging) -> list[dict[str, str]]:
    """Return the columns of every epoch as texts, "" where there is nothing to say."""
    ranks, names, confidence = ranks_of(staging), staging.names, staging.confidence
    rows = []
    for e, onset in enumerate(staging.onsets):
        clock = ""
        if staging.start is not None:
            clock = (staging.start + timedelta(seconds=float(onset))).isoformat(sep=" ")
        rank, reasons = ranks.get(e, ("", ""))
        row = {
            "epoch": str(e),
            "onset_s": number(onset),
            "duration_s": number(staging.epoch_s),
            "clock_time": clock,
            "stage": names[e],
            "confidence": number(confidence[e]),
            "unusable": one_line(staging.unusable[e]),
            "review_rank": str(rank),
            "review_reasons": reasons,
        }
        for name, share in zip(STAGES, staging.probabilities[e], strict=True):
            row[f"p_{name}"] = number(share)
        if staging.scored is not None:
            row["scored"] = stage_name(staging.scored[e])
        rows.append(row)
    return rows
