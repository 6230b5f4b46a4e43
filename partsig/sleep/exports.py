"""A staged recording as files that others open: CSV, EDF+, BIDS events, JSON; and as objects.

Sources: EDF+ (Kemp and Olivan 2003, doi 10.1016/S1388-2457(03)00123-8) and its standard texts,
https://www.edfplus.info/specs/edftexts.html; BIDS, "Events", doi 10.1038/sdata.2016.44.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from partsig import __version__, files
from partsig.data.signals.quality import QUALITY
from partsig.data.signals.readers.edf import UNTOLD
from partsig.data.signals.recordings import EPOCH_S, STAGES, UNSCORED
from partsig.errors import ConfigError, DataError
from partsig.sleep.staging import Staging, stage_name

if TYPE_CHECKING:
    import mne
    import yasa

# The AASM manual's stages among EDF+'s standard texts; "?" is what was not scored.
EDF_TEXTS = {**{name: f"Sleep stage {name}" for name in STAGES}, "REM": "Sleep stage R"}
EDF_TEXTS[stage_name(UNSCORED)] = "Sleep stage ?"
# The standard text that stands in a file that would hold no annotation at all.
EMPTY = "Recording starts"
# Years of the header's two digits (EDF+, 2.1.3, item 2); other dates are left out as anonymised.
EDF_YEARS = range(1985, 2085)
EDF_FIELD = 80  # bytes of the header's field on the recording
# Decimals of probabilities: five of them still add up to 1 within 1e-5, which YASA asks for.
DECIMALS = 6
# Bytes of a name: the longest tail, and that of the temporary file, still fit into 255.
LONGEST = 160
# What shows that a file of this kind was written here, and may be replaced.
MARKS = {".csv": b",review_rank,", ".tsv": b"\treview_rank\t"}
MARKS |= {".edf": b" partsig_", ".json": b'"partsig"'}
HEAD = 4096
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


def write_all(staging: Staging, folder: Path) -> dict[str, Path]:
    """Write every format into ``folder``; return the files by kind.

    The kinds are csv, edf, review, bids, sidecar (of bids) and json. Each file is whole or absent;
    those of an earlier staging are replaced. Raises DataError, and writes nothing, where another's
    file has one of the names: a scorer's hypnogram is not lost.
    """
    for path in paths_of(staging.name, folder).values():
        _check_replaceable(path)
    for write in (write_csv, write_edf, write_review, write_bids, write_json):
        write(staging, folder)
    return paths_of(staging.name, folder)


def file_stem(name: str) -> str:
    """Return a recording's name as files can have it on every system.

    >>> file_stem("night 3/räw:1"), file_stem("../..")
    ('night 3_räw_1', '_')
    """
    safe = re.sub(r'[\x00-\x1f\x7f/\\<>:"|?*]', "_", name).strip(". ")
    return safe.encode()[:LONGEST].decode(errors="ignore") or "recording"


def paths_of(name: str, folder: Path) -> dict[str, Path]:
    """Return where :func:`write_all` puts the files of a recording of this name, by kind."""
    stem = file_stem(name)
    # In BIDS the last part of a name is its suffix (eeg), and events have their own.
    events = re.sub(r"_[a-zA-Z]+$", "", stem) if re.match(r"sub-[^_]+_", stem) else stem
    return {
        "csv": folder / f"{stem}_hypnogram.csv",
        "edf": folder / f"{stem}_hypnogram.edf",
        "review": folder / f"{stem}_review.edf",
        "bids": folder / f"{events}_events.tsv",
        "sidecar": folder / f"{events}_events.json",
        "json": folder / f"{stem}_staging.json",
    }


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    try:
        with open(path, "rb") as handle:
            head = handle.read(HEAD)
    except OSError:
        head = b""
    if MARKS[path.suffix] not in head:
        raise DataError(
            f"{path} is there already and is not partsig's: it is kept; choose another folder."
        )


def _place(staging: Staging, folder: Path, kind: str) -> Path:
    path = paths_of(staging.name, folder)[kind]
    _check_replaceable(path)
    return path


def write_csv(staging: Staging, folder: Path) -> Path:
    """Write NAME_hypnogram.csv, one row per epoch; return its path.

    Columns: epoch (from 0), onset_s (from the recording's first sample), duration_s, clock_time
    (empty without a start), stage, confidence, p_W to p_REM, scored (where stages came with the
    recording), unusable (the reason), review_rank (1 first) and review_reasons.
    """
    path = _place(staging, folder, "csv")
    rows = _rows(staging)
    columns = ["epoch", "onset_s", "duration_s", "clock_time", "stage", *_measures(staging)]
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    files.write_text(path, held.getvalue())
    return path


def write_bids(staging: Staging, folder: Path) -> Path:
    """Write ``_events.tsv`` and its sidecar ``_events.json``; return the path of the table.

    Onsets count from the recording's first sample, as BIDS has it; ``trial_type`` is the stage.
    """
    path, sidecar = (_place(staging, folder, kind) for kind in ("bids", "sidecar"))
    names = {"onset": "onset_s", "duration": "duration_s", "trial_type": "stage"}
    names |= {column: column for column in _measures(staging)}
    lines = ["\t".join(names)]
    for row in _rows(staging):
        lines.append("\t".join(row[column] or "n/a" for column in names.values()))
    stager = {"Name": "partsig", "Version": __version__, "Stager": _plain(staging.stager)}
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
    ranks, names, confidence = _ranks(staging), staging.names, staging.confidence
    rows = []
    for e, onset in enumerate(staging.onsets):
        clock = ""
        if staging.start is not None:
            clock = (staging.start + timedelta(seconds=float(onset))).isoformat(sep=" ")
        rank, reasons = ranks.get(e, ("", ""))
        row = {
            "epoch": str(e),
            "onset_s": _number(onset),
            "duration_s": _number(EPOCH_S),
            "clock_time": clock,
            "stage": names[e],
            "confidence": _number(confidence[e]),
            "unusable": _line(staging.unusable[e]),
            "review_rank": str(rank),
            "review_reasons": reasons,
        }
        for name, share in zip(STAGES, staging.probabilities[e], strict=True):
            row[f"p_{name}"] = _number(share)
        if staging.scored is not None:
            row["scored"] = stage_name(staging.scored[e])
        rows.append(row)
    return rows


def _ranks(staging: Staging) -> dict[int, tuple[int, str]]:
    """Return the place, from 1, and the reasons of the epochs to look at."""
    return {
        suspect.epoch: (rank, _line("; ".join(suspect.reasons)))
        for rank, suspect in enumerate(staging.review, 1)
    }


def _number(value: float) -> str:
    """Return a number to the millionth, without an exponent; "" for none.

    >>> _number(31536000.000001), _number(70.01000000000001), _number(1e-5), _number(math.nan)
    ('31536000.000001', '70.01', '0.00001', '')
    """
    return "" if math.isnan(value) else f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()


def write_edf(staging: Staging, folder: Path) -> Path:
    """Write NAME_hypnogram.edf, an EDF+ file of annotations alone; return its path.

    One annotation per epoch, 30 s long, in the standard texts ("Sleep stage N2"), so that a viewer
    shows and a scorer corrects every epoch by itself, and readers that count annotations count
    epochs; "Sleep stage ?" where the signal cannot be used, so that the stage before does not seem
    to last. Start date and time are the recording's, to the microsecond, and onsets count from
    there; the date is anonymised where it is not known or the header cannot hold it. The patient is
    not named. A recording without an epoch has one annotation, "Recording starts".
    """
    texts = [(e, EDF_TEXTS[name]) for e, name in enumerate(staging.names)]
    return _write_annotations(staging, _place(staging, folder, "edf"), texts)


def write_review(staging: Staging, folder: Path) -> Path:
    """Write NAME_review.edf, what to look at first as annotations; return its path.

    An epoch's text has its place and the reasons ("review 1: …"). A file of its own, because
    readers of hypnograms take every annotation for a stage.
    """
    texts = [
        (epoch, f"review {rank}: {reasons}".removesuffix(": "))
        for epoch, (rank, reasons) in _ranks(staging).items()
    ]
    return _write_annotations(staging, _place(staging, folder, "review"), texts)


def _write_annotations(staging: Staging, path: Path, texts: Sequence[tuple[int, str]]) -> Path:
    import edfio

    start, onsets = staging.start, staging.onsets
    second = 0.0 if start is None else start.microsecond / 1e6
    # edfio adds the part of a second to every onset: taken off what is rounded, or digits of
    # floating-point noise would be written.
    marks = [
        edfio.EdfAnnotation(round(float(onsets[e]) + second, DECIMALS) - second, EPOCH_S, text)
        for e, text in texts
    ]
    dated = start is not None and start.year in EDF_YEARS and start.date() != UNTOLD.date()
    edf = edfio.Edf(
        [],
        recording=edfio.Recording(
            startdate=start.date() if dated else None,
            investigator_technician_code=f"partsig_{__version__}",
            additional=_scorer(staging),
        ),
        starttime=None if start is None else start.time(),
        annotations=marks or [edfio.EdfAnnotation(0.0, None, EMPTY)],
    )
    with files.atomic(path) as temporary:
        edf.write(temporary)
    return path


def _scorer(staging: Staging) -> list[str]:
    """Return the run's name as a part of the header's field, without spaces, where there is one."""
    name = Path(str(staging.stager.get("run", ""))).name
    word = re.sub(r"[^\x21-\x7e]+", "_", name)
    taken = len(f"Startdate 01-JAN-1985 X partsig_{__version__} X ")
    return [word[: EDF_FIELD - taken]] if word else []


def write_json(staging: Staging, folder: Path) -> Path:
    """Write NAME_staging.json, everything but the signal, one key a line; return its path.

    Epoch e begins ``start_s + epoch_s * e`` seconds after the recording's first sample. ``null``
    stands for no number, and for the stage of an epoch that cannot be used.
    """
    path = _place(staging, folder, "json")
    n = staging.n_epochs
    found = {
        "partsig": __version__,
        "recording": staging.name,
        "source": staging.source,
        "ch_names": staging.ch_names,
        "start": None if staging.start is None else staging.start.isoformat(),
        "duration_s": staging.duration_s,
        "start_s": staging.start_s,
        "epoch_s": EPOCH_S,
        "n_epochs": n,
        "stage_names": STAGES,
        "stager": staging.stager,
        "notes": staging.notes,
        "stages": _coded(staging.stages),
        "confidence": staging.confidence,
        "probabilities": staging.probabilities,
        "unusable": {e: why for e, why in enumerate(staging.unusable) if why},
        "scored": None if staging.scored is None else _coded(staging.scored),
        "review": [
            {"rank": rank, "epoch": s.epoch, "score": s.score, "reasons": s.reasons}
            for rank, s in enumerate(staging.review, 1)
        ],
        "quality_names": QUALITY,
        "quality": staging.quality,
        "oddity_per_s": staging.oddity,
    }
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in _plain(found).items()
    ]
    files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def _coded(stages: np.ndarray) -> list[str | None]:
    return [None if code == UNSCORED else STAGES[code] for code in stages]


def _plain(value: object) -> object:
    """Return what JSON can hold: arrays as rounded lists, None for nan, else texts.

    >>> _plain({"a": np.array([0.5, np.nan]), 2: (Path("run"), np.int8(3))})
    {'a': [0.5, None], '2': ['run', 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _plain(value.astype(float).round(DECIMALS).tolist())
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def to_annotations(staging: Staging) -> "mne.Annotations":
    """Return the stages as MNE has them, one per epoch, for ``raw.set_annotations``.

    Onsets count from the recording's first sample; the texts are those of :func:`write_edf`.
    Raises ConfigError when MNE is not installed.
    """
    try:
        import mne
    except ImportError:
        raise ConfigError("to_annotations needs MNE: pip install 'partsig[mne]'.") from None
    texts = [EDF_TEXTS[name] for name in staging.names]
    return mne.Annotations(staging.onsets, np.full(len(texts), EPOCH_S), texts)


def to_yasa(staging: Staging, *, scored: bool = False) -> "yasa.Hypnogram":
    """Return the hypnogram as YASA has it, unusable epochs as UNS; or the ``scored`` stages.

    It begins with the first epoch, ``start_s`` after the recording's start. Probabilities go with
    it; those of an unusable epoch are all on UNS, since YASA's must add up to 1.

    Raises ConfigError when YASA is not installed, DataError when no stages came with the recording.
    """
    try:
        import pandas as pd
        import yasa
    except ImportError:
        raise ConfigError("to_yasa needs YASA: pip install 'partsig[yasa]'.") from None
    stages, shares, scorer = staging.stages, None, "partsig"
    if scored and staging.scored is None:
        raise DataError(f"{staging.name}: no stages came with this recording.")
    if scored:
        stages, scorer = staging.scored, "scored"
    else:
        shares = pd.DataFrame(staging.probabilities, columns=list(STAGES), dtype=float)
        unusable = stages == UNSCORED
        shares[unusable] = 0.0
        shares["UNS"] = unusable.astype(float)
    start = staging.start
    return yasa.Hypnogram(
        ["UNS" if code == UNSCORED else STAGES[code] for code in stages],
        freq=f"{EPOCH_S:g}s",
        start=None if start is None else start + timedelta(seconds=staging.start_s),
        scorer=scorer,
        proba=shares,
    )
