"""What every reader returns, whatever the file format was."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.data.signals.lazy import Stack, forget
from partsig.errors import ConfigError, DataError, check_range

# Settings that staging shares.
Aliases = Annotated[
    Mapping[str, tuple[str, ...]],
    'other names of channels, {C4-M1: [EEG4, "C4:M1"]}, tried before the rules; "C4-M1#2" is the '
    "second channel of that name",
]
Missing = Annotated[
    Literal["refuse", "fill"],
    "refuse a recording that lacks a channel, or fill that channel with zeros and name it in the "
    "index",
]
Unit = Annotated[
    Literal["", "nV", "uV", "mV", "V"],
    "unit of every chosen channel, where the file does not tell it or is known to be wrong",
]
Units = Annotated[
    Mapping[str, Literal["nV", "uV", "mV", "V"]],
    "units of single channels by the file's labels, {EMG chin: mV}; believed, whatever the header "
    "and the amplitude say",
]
# µV per unit of a voltage.
MICROVOLTS = {"nV": 1e-3, "uV": 1.0, "µV": 1.0, "mV": 1e3, "V": 1e6}
# Sampling rates (Hz) of signals that are filtered here: a sample a minute, and what no amplifier
# for the skin reaches. A filter is as long as the rate is high.
LEAST_HZ, MOST_HZ = 1 / 60, 50_000.0


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
    ``stop_s`` is kept; ``stages`` holds one code per whole epoch from ``start_s`` (index into the
    classes of the store's labels, -1 unscored). An ``excerpt`` was cut out of something longer: its
    ends must not show after filtering. ``start`` is the time of the first sample, where the file
    tells it; ``gaps`` are stretches (s, from there) without signal, bridged by straight lines.
    ``notes`` are sentences on what had to be decided in reading it.
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

    Nights of one sleeper must share a ``subject``, or they leak from training into the test.
    """

    channels: Annotated[
        tuple[str, ...] | None,
        "channels, in this order; C4-M1 is also made from C4 and M1, or found as EEG C4-A1; "
        "C4-(M1+M2)/2, C4-average, and contralateral for all such as C4-M1; null: the source's "
        "usual ones (physionet2018: the six EEG)",
    ] = None
    aliases: Aliases = field(default_factory=dict)
    missing: Missing = "refuse"
    unit: Unit = ""
    units: Units = field(default_factory=dict)
    subject: Annotated[
        str,
        "regular expression whose first group, in a recording's name, is its subject; none: every "
        "recording is a subject of its own",
    ] = ""
    verify: Annotated[bool, "hold samples against the headers' checksums, if any"] = True
    epoch_s: Annotated[
        float,
        "length in seconds of the epochs that have a stage each, such as 5 or 10 where stages were "
        "scored as finely; one in which the stage changes has none",
    ] = SLEEP.unit_s
    trim_wake_min: Annotated[
        float | None,
        "minutes of wake kept before the first and after the last epoch of sleep; null keeps "
        "everything (Sleep-EDF's cassettes hold a day for a night)",
    ] = None
    hypnogram: HypnogramConfig = field(default_factory=HypnogramConfig)

    def __post_init__(self) -> None:
        given = self.channels
        if given is not None and (not given or len(set(given)) != len(given)):
            raise ConfigError("channels must name at least one channel, none twice.")
        check_range("epoch_s", self.epoch_s, 0.1, 3600.0)
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
        match = re.search(self.subject, name)
        if match is None or not match[1]:
            raise DataError(f"{name}: no subject is found in this name by {self.subject!r}.")
        return match[1]


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
