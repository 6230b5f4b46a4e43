"""What every reader returns, whatever the file format was."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from partsig.contracts import UNLABELLED, Labels
from partsig.data.signals.lazy import Stack, forget
from partsig.errors import ConfigError, DataError, check_range

# AASM stages in the order of their codes; REM is the manual's stage R.
STAGES = ("W", "N1", "N2", "N3", "REM")
UNSCORED = UNLABELLED
EPOCH_S = 30.0
SLEEP = Labels(classes=STAGES, unit_s=EPOCH_S)
# µV per unit of a voltage.
MICROVOLTS = {"nV": 1e-3, "uV": 1.0, "µV": 1.0, "mV": 1e3, "V": 1e6}


@dataclass(frozen=True, kw_only=True)
class HypnogramConfig:
    """Where the stages of a recording are, and how they are written.

    pattern: file beside the recording, ``{name}`` being the recording's name without its extension
        (``{name}.csv``, ``../scores/{name}-nsrr.xml``; ``*`` matches); none given: the usual names.
        Where there is no such file: annotations in the recording itself.
    format: annotations (EDF+), table (onsets and stages in columns), list (one stage a row) or xml
        (NSRR, Profusion); auto tells by the file.
    codes: what numbers mean: rk (Rechtschaffen and Kales, also Profusion's: 4 is N3, 5 REM, 9
        unscored) or yasa (4 is REM, -1 artefact, -2 unscored); auto asks where it matters.
    stages: labels of one's own, ``{"5": W, "4": REM, "1": N3}``; W, N1, N2, N3, REM or unscored.
    epoch_s: length (s) of the scorer's epochs where the file does not say it.
    offset_s: seconds from the recording's start to the hypnogram's onset 0 (its first epoch, for a
        list; negative: it begins before), for all recordings whose files do not tell it, or
        ``{NAME: SECONDS}`` for single ones, whatever their files say.
    """

    pattern: str = ""
    format: Literal["auto", "annotations", "table", "list", "xml"] = "auto"
    codes: Literal["auto", "rk", "yasa"] = "auto"
    stages: Mapping[str, str] = field(default_factory=dict)
    epoch_s: float = EPOCH_S
    offset_s: float | dict[str, float] | None = None

    def __post_init__(self) -> None:
        check_range("hypnogram.epoch_s", self.epoch_s, 0.1, 3600.0)
        for label, stage in self.stages.items():
            if stage not in (*STAGES, "unscored"):
                raise ConfigError(
                    f"hypnogram.stages maps {label!r} to {stage!r}; it can be "
                    f"{', '.join(STAGES)} or unscored."
                )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Channels of one sampling rate as they lie on disk, not yet read.

    Row ``picks[c]`` of ``signal`` (rows, T), a memory map of any type or a stack of channels that
    are read when they are sliced, at ``sfreq`` Hz is
    called ``labels[c]`` there; its value in µV is ``(sample - offset[c]) * scale[c]``, and samples
    lie within ``limits[c]`` (None: of the dtype).
    """

    labels: tuple[str, ...]
    signal: np.ndarray | Stack
    sfreq: float
    picks: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    limits: tuple[tuple[int, int], ...] | None = None

    def microvolts(self, c: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return channel ``c`` (T,), or some of its samples, in µV, float32."""
        samples = np.asarray(self.signal[self.picks[c]][start:stop], np.float32)
        forget(self.signal)
        return (samples - np.float32(self.offset[c])) * np.float32(self.scale[c])


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One night as it lies on disk, the chosen channels named but not yet read.

    The rows of ``parts``, one after the other, are the channels ``ch_names``; with ``mix``
    (C, rows), channel c is ``mix[c] @ rows`` (a derivation, or zeros for a channel that is not
    there, then named in ``filled``). Of the filtered signal, what lies between ``start_s`` and
    ``stop_s`` is kept; ``stages`` holds one code per whole 30-s epoch from ``start_s`` (index into
    STAGES, -1 unscored). An ``excerpt`` was cut out of something longer: its ends must not show
    after filtering. ``start`` is the time of the first sample, where the file tells it; ``gaps``
    are stretches (s, from there) without signal, bridged by straight lines. ``notes`` are sentences
    on what had to be decided in reading it.
    """

    name: str
    subject: str
    ch_names: tuple[str, ...]
    parts: tuple[Rows, ...]
    stages: np.ndarray
    source: str  # fingerprint of what it was read from
    mix: np.ndarray | None = None
    start_s: float = 0.0
    stop_s: float | None = None
    excerpt: bool = False
    filled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    start: datetime | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    age: str = ""
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """What is read of a recording, and what is made of what it does not say plainly.

    channels: names, in this order; none given takes the source's usual ones (physionet2018: the six
        EEG). ``C4-M1`` is also made from ``C4`` and ``M1``, or found as ``EEG C4-A1``.
    aliases: other names of channels, ``{C4-M1: [EEG4, "C4:M1"]}``, tried before the rules.
    missing: refuse a recording that lacks a channel, or fill that channel with zeros and name it in
        the index.
    unit: of every chosen channel, where the file does not tell it or is known to be wrong.
    subject: regular expression whose first group, found in a recording's name, is its subject;
        none given: every recording is a subject. Nights of one sleeper must share a subject, or
        they leak from training into the test.
    verify: hold samples against the headers' checksums where there are any.
    trim_wake_min: minutes of wake kept before the first and after the last epoch of sleep; none
        given keeps everything (Sleep-EDF's cassettes hold a day for a night).
    """

    channels: tuple[str, ...] | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Literal["refuse", "fill"] = "refuse"
    unit: Literal["", "nV", "uV", "mV", "V"] = ""
    subject: str = ""
    verify: bool = True
    trim_wake_min: float | None = None
    hypnogram: HypnogramConfig = field(default_factory=HypnogramConfig)

    def __post_init__(self) -> None:
        given = self.channels
        if given is not None and (not given or len(set(given)) != len(given)):
            raise ConfigError("channels must name at least one channel, none twice.")
        if self.trim_wake_min is not None:
            check_range("trim_wake_min", self.trim_wake_min, 0.0)
        try:
            groups = re.compile(self.subject).groups
        except re.error as error:
            raise ConfigError(
                f"subject is {self.subject!r}, no regular expression ({error})."
            ) from None
        if self.subject and not groups:
            raise ConfigError(f"subject is {self.subject!r}; it needs a group, such as '^(SC4..)'.")

    def subject_of(self, name: str) -> str:
        """Return the subject of a recording of this name.

        >>> ReadConfig(subject="^(SC4..)").subject_of("SC4012E0-PSG")
        'SC401'
        """
        if not self.subject:
            return name
        found = re.search(self.subject, name)
        if found is None or not found[1]:
            raise DataError(f"{name}: no subject is found in this name by {self.subject!r}.")
        return found[1]


USUAL = ReadConfig()


def check_folder(raw: Path, what: str) -> None:
    """Raise DataError unless ``raw`` is a folder that can be read."""
    if raw.is_file():
        raise DataError(f"{raw} is a file: pass --raw with the folder that holds it.")
    if not raw.is_dir():
        raise DataError(f"no folder {raw}: pass --raw with the folder that holds {what}.")
    if not os.access(raw, os.R_OK | os.X_OK):
        raise DataError(f"{raw} cannot be read (permission denied): let its owner open it.")


def sorted_by_name(paths: Iterable[Path], what: str = "recording") -> list[Path]:
    """Return files in the order of their names; raise DataError when two have one name."""
    by_name: dict[str, Path] = {}
    for path in sorted(paths):
        if path.stem in by_name:
            raise DataError(
                f"{what} {path.stem} is there twice: {by_name[path.stem]} and {path}; keep one."
            )
        by_name[path.stem] = path
    return [by_name[name] for name in sorted(by_name)]


def trimmed(recording: Recording, minutes: float) -> Recording:
    """Return a recording with so many minutes of what is no sleep left at either end.

    A recording without sleep is left as it is.
    """
    asleep = np.flatnonzero(recording.stages > 0)
    if not len(asleep):
        return recording
    around = int(minutes * 60 // EPOCH_S)
    first = max(int(asleep[0]) - around, 0)
    last = min(int(asleep[-1]) + 1 + around, len(recording.stages))
    begin = recording.start_s
    return replace(
        recording,
        stages=recording.stages[first:last],
        start_s=begin + first * EPOCH_S,
        stop_s=begin + last * EPOCH_S,
    )


def n_epochs(n_times: int, sfreq: float) -> int:
    """Return the number of whole 30-s epochs; the tail belongs to none.

    >>> n_epochs(5_147_000, 200)
    857
    """
    return int(n_times // round(EPOCH_S * sfreq))


def count_stages(stages: np.ndarray) -> dict[str, int]:
    """Return the number of epochs per stage, and of unscored ones.

    >>> count_stages(np.array([-1, 0, 2, 2], np.int8))
    {'W': 1, 'N1': 0, 'N2': 2, 'N3': 0, 'REM': 0, 'unscored': 1}
    """
    counts = np.bincount(np.asarray(stages, dtype=np.int64) + 1, minlength=len(STAGES) + 1)
    return dict(zip(STAGES, counts[1:].tolist(), strict=True)) | {"unscored": int(counts[0])}
