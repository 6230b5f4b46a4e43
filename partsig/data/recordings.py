"""What every reader returns, whatever the file format was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsig.errors import DataError

# AASM stages in the order of their codes; REM is the manual's stage R.
STAGES = ("W", "N1", "N2", "N3", "REM")
UNSCORED = -1
EPOCH_S = 30.0
# µV per unit of a voltage.
MICROVOLTS = {"nV": 1e-3, "uV": 1.0, "µV": 1.0, "mV": 1e3, "V": 1e6}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One night as it lies on disk, the chosen channels named but not yet read.

    Row ``picks[c]`` of ``signal`` (any dtype, usually a memory map, (rows, T)) is channel
    ``ch_names[c]``; its value in µV is ``(sample - offset[c]) * scale[c]``. ``stages`` holds one
    code per whole 30-s epoch from sample 0 (index into STAGES, -1 unscored). An ``excerpt`` was cut
    out of something longer: its ends must not show after filtering.
    """

    name: str
    subject: str
    sfreq: float
    ch_names: tuple[str, ...]
    signal: np.ndarray
    picks: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    stages: np.ndarray
    source: str  # fingerprint of what it was read from
    excerpt: bool = False
    age: str = ""
    sex: str = ""


def pick_channels(name: str, available: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Return the index of each wanted channel; raise DataError that names what there is.

    >>> pick_channels("night", ["C3-M2", "O1-M2"], ["O1-M2"])
    (1,)
    """
    missing = [channel for channel in wanted if channel not in available]
    if missing:
        raise DataError(
            f"{name}: channel {missing[0]!r} not found; it has {', '.join(available)}. "
            "Pass --set channels=[…] with names from this list."
        )
    return tuple(list(available).index(channel) for channel in wanted)


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
