"""Splits into training, validation and test: whole subjects, decided in this one place."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from partsig.errors import ConfigError, DataError, check_range
from partsig.seeds import Stream, rng_of


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many subjects are kept away from training.

    Test subjects are the same for every run on a store, whatever its seed.
    """

    test_fraction: Annotated[float, "share of the labelled subjects that are kept for the test"] = (
        0.2
    )
    test_max: Annotated[int, "most subjects of the test; 200 is the paper's number"] = 200
    monitor_subjects: Annotated[
        int, "subjects left out of pretraining, on which the pretext is measured"
    ] = 20
    val_subjects: Annotated[
        int, "labelled subjects that choose the fine-tuning epoch, besides those that train"
    ] = 5

    def __post_init__(self) -> None:
        check_range("split.test_fraction", self.test_fraction, 0.0, 0.9)
        check_range("split.test_max", self.test_max, 0)
        check_range("split.monitor_subjects", self.monitor_subjects, 0)
        check_range("split.val_subjects", self.val_subjects, 1)


def _by_hash(subjects: Iterable[str]) -> list[str]:
    """Order subjects by a hash of their names: fixed for ever, and blind to age, site and label."""
    return sorted(set(subjects), key=lambda name: hashlib.sha256(name.encode()).hexdigest())


# Labelled subjects without whom there is no result: one to train on, to choose by, to test on.
LEAST = 3
# A store's own split: subjects by role, test and val.
Roles = Mapping[str, Sequence[str]]
NO_ROLES: Roles = {}


def test_subjects(
    labelled: Sequence[str],
    config: SplitConfig,
    roles: Roles = NO_ROLES,  # noqa: PT028
) -> list[str]:
    """Return the held-out subjects of a store with these labelled subjects, sorted.

    ``roles``: the store's own split, which then holds, whatever the configuration says.

    >>> len(test_subjects([f"tr{i}" for i in range(994)], SplitConfig()))
    199
    """
    if "test" in roles:
        return sorted(roles["test"])
    count = min(round(config.test_fraction * len(set(labelled))), config.test_max)
    return sorted(_by_hash(labelled)[:count])


test_subjects.__test__ = False  # not a pytest test


def split_pretraining(
    subjects: Sequence[str],
    labelled: Sequence[str],
    config: SplitConfig,
    roles: Roles = NO_ROLES,
) -> dict[str, list[str]]:
    """Return ``{"train", "monitor", "test"}`` for pretraining: test subjects are never touched.

    The monitor takes at most a tenth of what remains. ``roles``: the store's own split; its
    validation subjects count as others do, since no label is used here.
    """
    test = test_subjects(labelled, config, roles)
    rest = _by_hash(set(subjects) - set(test))
    count = min(config.monitor_subjects, len(rest) // 10)
    split = {"train": sorted(rest[count:]), "monitor": sorted(rest[:count]), "test": test}
    return _checked(split)


def split_finetuning(
    labelled: Sequence[str],
    n_subjects: int,
    seed: int,
    config: SplitConfig,
    roles: Roles = NO_ROLES,
) -> dict[str, list[str]]:
    """Return ``{"train", "val", "test"}``: N training subjects drawn by ``seed``; 0 takes all.

    Draws are nested: the first 5 of a draw of 10 are the draw of 5 with the same seed. ``roles``:
    the store's own split; validation subjects it names are taken instead of ``val_subjects`` drawn
    ones. Raises ConfigError when there are not enough labelled subjects.
    """
    check_range("--subjects", n_subjects, 0)
    test = test_subjects(labelled, config, roles)
    val = sorted(set(roles.get("val", ())) & set(labelled))
    n = len(set(labelled))
    least = "one to train on, one to choose by and one to test on are the least"
    if not test:
        told = f"until there are {LEAST}: {least}"
        if n >= LEAST:
            told = f"or raise split.test_fraction to {0.5 / n + 0.01:.2f}, split.test_max to 1"
        raise DataError(
            f"{n} labelled subjects leave none to test on; score more recordings {told}."
        )
    rest = sorted(set(labelled) - set(test) - set(val))
    n_val = 0 if val else config.val_subjects
    if len(rest) < (1 if val else 2):
        lower = " or lower split.test_fraction" if len(test) > 1 and "test" not in roles else ""
        raise DataError(
            f"{n} labelled subjects, {len(test)} of them to test on, are too few: {least}; score "
            f"more recordings{lower}."
        )
    needed = max(n_subjects, 1) + n_val
    if needed > len(rest):
        raise ConfigError(
            f"--subjects {n_subjects} and {n_val} validation subjects need "
            f"{needed}, but the store has {len(rest)} labelled subjects "
            f"outside the {len(test)} test subjects; "
            + (
                f"at most {len(rest) - n_val} can be asked for, more with a smaller "
                "--set split.val_subjects=N."
                if len(rest) > n_val
                else f"pass --subjects {len(rest) - 1} --set split.val_subjects=1, or less of the "
                "one and more of the other."
            )
        )
    order = rng_of(Stream.LABELLED_SUBJECTS, seed).permutation(len(rest))
    drawn = [rest[i] for i in order]
    split = {
        "train": sorted(drawn[n_val:][: n_subjects or None]),
        "val": val or sorted(drawn[:n_val]),
        "test": test,
    }
    return _checked(split)


def draw_segments(segments: Mapping[str, Sequence[str]], per_class: int, seed: int) -> list[str]:
    """Return ``per_class`` recordings of every class, drawn by ``seed``, sorted; 0 takes all.

    ``segments`` are the recordings by class. Draws are nested, as in :func:`split_finetuning`.
    Raises ConfigError when a class has too few.

    >>> draw_segments({"calm": ["a", "b"], "moving": ["c"]}, 1, seed=0)
    ['a', 'c']
    """
    check_range("--segments-per-class", per_class, 0)
    chosen: list[str] = []
    for number, (label, members) in enumerate(segments.items()):
        if len(members) < max(per_class, 1):
            raise ConfigError(
                f"--segments-per-class {per_class}: only {len(members)} recordings of training "
                f"subjects are {label} throughout."
            )
        order = rng_of(Stream.LABELLED_ITEMS, seed, number).permutation(len(members))
        members = sorted(members)
        chosen += [members[i] for i in order[: per_class or None]]
    return sorted(chosen)


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
