"""The stages of sleep, the length of an epoch, and what a store of them says its labels are."""

import numpy as np

from partsig.contracts import UNLABELLED, Labels

# AASM stages in the order of their codes; REM is the manual's stage R.
STAGES = ("W", "N1", "N2", "N3", "REM")
UNSCORED = UNLABELLED
EPOCH_S = 30.0
SLEEP = Labels(classes=STAGES, unit_s=EPOCH_S)
# The AASM manual's stages among EDF+'s standard texts.
EDF_TEXTS = {**{name: f"Sleep stage {name}" for name in STAGES}, "REM": "Sleep stage R"}


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
    return SLEEP.count(stages)
