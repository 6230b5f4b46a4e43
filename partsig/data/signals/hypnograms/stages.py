"""The stages of sleep, the length of an epoch, and what a store of them says its labels are."""

from dataclasses import replace

import numpy as np

from partsig.contracts import UNLABELLED, Labels

# AASM stages in the order of their codes; REM is the manual's stage R.
STAGES = ("W", "N1", "N2", "N3", "REM")
UNSCORED = UNLABELLED
EPOCH_S = 30.0
SLEEP = Labels(classes=STAGES, unit_s=EPOCH_S)
# The AASM manual's stages among EDF+'s standard texts.
EDF_TEXTS = {**{name: f"Sleep stage {name}" for name in STAGES}, "REM": "Sleep stage R"}


def n_epochs(n_times: int, sfreq: float, epoch_s: float = EPOCH_S) -> int:
    """Return the number of whole epochs, of 30 s as a rule; the tail belongs to none.

    >>> n_epochs(5_147_000, 200)
    857
    """
    return int(n_times // round(epoch_s * sfreq))


def sleep_labels(epoch_s: float) -> Labels:
    """Return what the labels of a store are whose epochs are as long."""
    return replace(SLEEP, unit_s=float(epoch_s))


def is_sleep(labels: Labels | None) -> bool:
    """Tell whether labels are the AASM's stages, of epochs of any length.

    >>> is_sleep(sleep_labels(5)), is_sleep(Labels(classes=("W", "S"), unit_s=30))
    (True, False)
    """
    if labels is None or labels.unit_s is None:
        return False
    return labels == sleep_labels(labels.unit_s)


def in_half_minutes(stages: np.ndarray, epoch_s: float) -> np.ndarray:
    """Return the stages of 30-s epochs by those of shorter ones; unscored where they differ.

    >>> in_half_minutes(np.array([2] * 6 + [2, 3] * 3 + [3]), 5).tolist()
    [2, -1]
    """
    each = round(EPOCH_S / epoch_s)
    if each == 1:
        return stages
    groups = stages[: len(stages) // each * each].reshape(-1, each)
    return np.where((groups == groups[:, :1]).all(1), groups[:, 0], UNSCORED).astype(np.int8)


def count_stages(stages: np.ndarray) -> dict[str, int]:
    """Return the number of epochs per stage, and of unscored ones.

    >>> count_stages(np.array([-1, 0, 2, 2], np.int8))
    {'W': 1, 'N1': 0, 'N2': 2, 'N3': 0, 'REM': 0, 'unscored': 1}
    """
    return SLEEP.count(stages)
