"""A source: text files of one line per sample, with a first line ``# rate name name …``."""

import hashlib
from pathlib import Path

import numpy as np

from partsig.data.signals.recordings import ReadConfig, Recording, Rows
from partsig.errors import DataError

CHANNELS = ("C3-M2",)


def find_records(raw: Path) -> list[Path]:
    """Return the files of a folder; raise DataError where there is none."""
    files = sorted(Path(raw).glob("*.tab"))
    if not files:
        raise DataError(f"no .tab file in {raw}.")
    return files


def fingerprint(file: Path, settings: ReadConfig) -> str:
    """Return what tells a file from an earlier one of its name."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read_recording(file: Path, settings: ReadConfig) -> Recording:
    """Return the recording, with one stage per 30 s from a ``.stages`` file beside it."""
    first, *lines = file.read_text(encoding="utf-8").splitlines()
    try:
        _, rate, *names = first.split()
        sfreq = float(rate)
        values = np.array([line.split() for line in lines], np.float32).T
        picks = tuple(names.index(name) for name in settings.channels)
    except ValueError as error:
        wanted = ", ".join(settings.channels)
        raise DataError(f"{file.name} is no table of {wanted}: {error}.") from None
    stages = np.full(int(values.shape[1] / sfreq // 30), -1, np.int8)
    beside = file.with_suffix(".stages")
    if beside.is_file():
        told = np.array(beside.read_text(encoding="utf-8").split(), np.int8)[: len(stages)]
        stages[: len(told)] = told
    rows = Rows(
        labels=tuple(names[pick] for pick in picks),
        signal=values,
        sfreq=sfreq,
        picks=picks,
        scale=(1.0,) * len(picks),  # it is in µV
        offset=(0.0,) * len(picks),
    )
    return Recording(
        name=file.stem,
        subject=file.stem,
        ch_names=tuple(settings.channels),
        parts=(rows,),
        stages=stages,
        source=fingerprint(file, settings),
    )
