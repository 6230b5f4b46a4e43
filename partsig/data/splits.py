"""Who is trained on, chosen on and tested on: always whole subjects, decided in this one place."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsig.errors import ConfigError, DataError, check_range


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many subjects are kept away from training.

    ``test_fraction`` of the labelled subjects, at most ``test_max``, are test subjects: the same
    for every run on a store, whatever its seed. ``monitor_subjects`` of the others are left out of
    pretraining so that the pretext is measured on signal it has not seen. ``val_subjects`` labelled
    subjects choose the fine-tuning epoch, besides the N that train.
    """

    test_fraction: float = 0.2
    test_max: int = 200  # the paper's number of held-out subjects
    monitor_subjects: int = 20
    val_subjects: int = 5

    def __post_init__(self) -> None:
        check_range("split.test_fraction", self.test_fraction, 0.0, 0.9)
        check_range("split.test_max", self.test_max, 0)
        check_range("split.monitor_subjects", self.monitor_subjects, 0)
        check_range("split.val_subjects", self.val_subjects, 1)


def _by_hash(subjects: Sequence[str]) -> list[str]:
    """Order subjects by a hash of their names: fixed for ever, and blind to age, site and label."""
    return sorted(set(subjects), key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def test_subjects(labelled: Sequence[str], config: SplitConfig) -> list[str]:
    """Return the held-out subjects of a store with these labelled subjects, sorted.

    >>> len(test_subjects([f"tr{i}" for i in range(994)], SplitConfig()))
    199
    """
    count = min(round(config.test_fraction * len(set(labelled))), config.test_max)
    return sorted(_by_hash(labelled)[:count])


test_subjects.__test__ = False  # not a pytest test


def split_pretraining(
    subjects: Sequence[str], labelled: Sequence[str], config: SplitConfig
) -> dict[str, list[str]]:
    """Return ``{"train", "monitor", "test"}`` for pretraining: test subjects are never touched.

    The monitor takes at most a tenth of what remains.
    """
    test = test_subjects(labelled, config)
    rest = _by_hash([subject for subject in subjects if subject not in set(test)])
    count = min(config.monitor_subjects, len(rest) // 10)
    split = {"train": sorted(rest[count:]), "monitor": sorted(rest[:count]), "test": test}
    return _checked(split)


def split_finetuning(
    labelled: Sequence[str], n_subjects: int, seed: int, config: SplitConfig
) -> dict[str, list[str]]:
    """Return ``{"train", "val", "test"}``: N training subjects drawn by ``seed``.

    Draws are nested: the first 5 of a draw of 10 are the draw of 5 with the same seed. Raises
    ConfigError when there are not enough labelled subjects.
    """
    check_range("--subjects", n_subjects, 1)
    test = test_subjects(labelled, config)
    if not test:
        raise DataError(
            f"{len(set(labelled))} labelled subjects leave none to test on; score more recordings "
            "or raise split.test_fraction."
        )
    rest = sorted(set(labelled) - set(test))
    if n_subjects + config.val_subjects > len(rest):
        raise ConfigError(
            f"--subjects {n_subjects} and {config.val_subjects} validation subjects need "
            f"{n_subjects + config.val_subjects}, but the store has {len(rest)} labelled subjects "
            f"outside the {len(test)} test subjects; at most "
            f"{max(len(rest) - config.val_subjects, 0)} can be asked for."
        )
    order = np.random.default_rng([seed, 2018]).permutation(len(rest))
    drawn = [rest[i] for i in order]
    split = {
        "train": sorted(drawn[config.val_subjects :][:n_subjects]),
        "val": sorted(drawn[: config.val_subjects]),
        "test": test,
    }
    return _checked(split)


def _checked(split: dict[str, list[str]]) -> dict[str, list[str]]:
    seen: dict[str, str] = {}
    for role, members in split.items():
        for subject in members:
            if subject in seen:
                raise DataError(f"subject {subject} is in both {seen[subject]} and {role}.")
            seen[subject] = role
    if not split["train"]:
        raise DataError("no subject is left to train on; the store is too small for this split.")
    return split
