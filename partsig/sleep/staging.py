"""What a stager says of one recording: arrays on its epochs, whatever writes or draws them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An epoch worth a look: its number, how urgent it is (more is more), and why, in sentences."""

    epoch: int
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Staging:
    """The hypnogram of one recording, as a model sees it; see :func:`partsig.stage`.

    Epoch e lasts ``epoch_s`` seconds, from ``start_s + epoch_s e`` after the recording's first
    sample. ``stages``
    (E,) int8 are indices into STAGES, -1 where the signal cannot be used: never called wake.
    ``unusable`` (E,) says why there, and is "" elsewhere. ``probabilities`` (E, 5) are calibrated,
    nan where unusable. ``scored`` (E,) int8 are the stages that came with the recording (-1
    unscored), None where there were none. ``review`` are the epochs to look at, the most urgent
    first. ``quality`` has, per channel, the code (E,) of what is wrong with it (index into
    :data:`partsig.data.signals.quality.QUALITY`). ``oddity`` (S,) is, per second from the
    recording's start, how hard a PART run finds it to relate it to its surroundings; None where not
    asked for.
    ``signal`` (C, T) is in µV at ``sfreq`` Hz, as the stager was given it, from ``start_s``; over
    64 MiB it lies in a temporary file, mapped, which lasts as long as it.
    ``channels_missing`` are those of ``ch_names`` that the recording lacks: zeros are in their
    place.
    ``stager`` says which model it was, what it was trained on, and how it was calibrated.
    """

    name: str
    ch_names: tuple[str, ...]
    start: datetime | None  # of the recording's first sample, local time
    start_s: float
    duration_s: float  # of the recording, gaps included
    stages: np.ndarray
    unusable: tuple[str, ...]
    probabilities: np.ndarray
    scored: np.ndarray | None
    review: tuple[Suspect, ...]
    quality: Mapping[str, np.ndarray]
    oddity: np.ndarray | None = None
    channels_missing: tuple[str, ...] = ()
    epoch_s: float = EPOCH_S
    notes: tuple[str, ...] = ()
    source: str = ""  # fingerprint of what it was read from
    stager: Mapping[str, object] = field(default_factory=dict)
    signal: np.ndarray = field(repr=False)
    sfreq: float

    @property
    def n_epochs(self) -> int:
        """Number of whole epochs E."""
        return len(self.stages)

    @property
    def onsets(self) -> np.ndarray:
        """Seconds (E,) from the recording's first sample to each epoch."""
        return self.start_s + self.epoch_s * np.arange(self.n_epochs)

    @property
    def confidence(self) -> np.ndarray:
        """Probability (E,) of the stage that was given; nan where unusable."""
        return self.probabilities.max(1) if self.n_epochs else np.zeros(0)

    @property
    def names(self) -> list[str]:
        """Stage of every epoch by name, ``unscored`` where unusable."""
        return [stage_name(code) for code in self.stages]

    def clock(self, seconds: float) -> str:
        """Return the time of day so many seconds into the recording; "" where it has no date."""
        return "" if self.start is None else f"{self.start + timedelta(seconds=seconds):%H:%M:%S}"


def stage_name(code: int) -> str:
    """Return the name of a stage's code.

    >>> stage_name(4), stage_name(-1)
    ('REM', 'unscored')
    """
    return "unscored" if code == UNSCORED else STAGES[code]
