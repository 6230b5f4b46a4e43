"""Splits into training, validation and test: whole subjects, decided in this one place.

Subjects that are the same under two names (``twins``) are one here: counted and drawn once, and
told by all of their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from partsig.data import protocols
from partsig.data.protocols import by_hash
from partsig.data.twins import NO_TWINS, Twins, apart, joined
from partsig.errors import ConfigError, DataError, check_range
from partsig.seeds import Stream, rng_of


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many subjects are kept away from training.

    Test subjects are the same for every run on a store, whatever its seed. A ``protocol`` of
    :data:`~partsig.data.protocols.PROTOCOLS` says itself who they are, and how many.
    """

    protocol: Annotated[
        protocols.Name | None,
        "a published way to divide subjects: part (1,653 to pretrain on, 10 labelled, 200 held "
        "out) or folds5 (five folds over the sorted names); null: as the other keys say",
    ] = None
    fold: Annotated[int, "which fold of such a protocol is the test, from 0"] = 0

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
        protocols.check(self.protocol, self.fold)

    @property
    def label(self) -> str:
        """What runs are named by: the protocol and its fold; empty without."""
        if self.protocol is None:
            return ""
        fold = f".{self.fold}" if protocols.PROTOCOLS[self.protocol].folds else ""
        return f"{self.protocol}{fold}"


# Labelled subjects without whom there is no result: one to train on, to choose by, to test on.
LEAST = 3
# A store's own split: subjects by role, test and val.
Roles = Mapping[str, Sequence[str]]
NO_ROLES: Roles = {}


def test_subjects(
    labelled: Sequence[str],
    config: SplitConfig,
    roles: Roles = NO_ROLES,  # noqa: PT028
    twins: Twins = NO_TWINS,  # noqa: PT028
) -> list[str]:
    """Return the held-out subjects of a store with these labelled subjects, sorted.

    ``roles``: the store's own split, which then holds, whatever the configuration says, and which
    a protocol is refused beside.

    >>> len(test_subjects([f"tr{i}" for i in range(994)], SplitConfig()))
    199
    """
    return apart(_held_out(labelled, config, roles, twins)[0], labelled, twins)


test_subjects.__test__ = False  # not a pytest test


def _check_alone(config: SplitConfig) -> None:
    """Raise ConfigError for settings that a protocol decides, or that only a protocol needs."""
    if config.protocol is None:
        if config.fold:
            raise ConfigError(
                f"split.fold is {config.fold}; without a protocol of folds, such as --protocol "
                "folds5, there is none."
            )
        return
    own = ["test_fraction", "test_max"]
    own += ["val_subjects"] if protocols.PROTOCOLS[config.protocol].val else []
    said = [f"split.{key}" for key in own if getattr(config, key) != getattr(SplitConfig, key)]
    if said:
        raise ConfigError(
            f"--protocol {config.protocol} decides {', '.join(said)}: leave "
            f"{'it' if len(said) == 1 else 'them'} out."
        )


def _held_out(
    labelled: Sequence[str], config: SplitConfig, roles: Roles, twins: Twins
) -> tuple[list[str], list[str] | None]:
    """Return whom to test on, as one name each, sorted, and whom to validate on (None: drawn)."""
    _check_alone(config)
    if config.protocol is not None:
        if roles:
            raise ConfigError(
                f"--protocol {config.protocol} is for a store without a split of its own; this one "
                "has it in split.csv: leave --protocol out."
            )
        return protocols.held_out(config.protocol, joined(labelled, twins), config.fold)
    if "test" in roles:
        test = joined(roles["test"], twins)
    else:
        names = joined(labelled, twins)
        count = min(round(config.test_fraction * len(names)), config.test_max)
        test = set(by_hash(names)[:count])
    # A twin of a test subject is tested on, too, whatever the store's own split says of it.
    val = joined(roles.get("val", ()), twins) & joined(labelled, twins)
    return sorted(test), sorted(val - test) or None


def split_pretraining(
    subjects: Sequence[str],
    labelled: Sequence[str],
    config: SplitConfig,
    roles: Roles = NO_ROLES,
    twins: Twins = NO_TWINS,
) -> dict[str, list[str]]:
    """Return ``{"train", "monitor", "test"}`` for pretraining: test subjects are never touched.

    The monitor takes at most a tenth of what remains; with a protocol that says how many are
    trained on, of those that are left over. ``roles``: the store's own split; its validation
    subjects count as others do, since no label is used here. Raises ConfigError where a protocol
    needs more subjects.
    """
    test, _ = _held_out(labelled, config, roles, twins)
    rest = by_hash(joined(subjects, twins) - set(test))
    exactly = None
    if config.protocol is not None:
        exactly = protocols.to_pretrain(config.protocol, rest, len(test))
    if exactly is None:
        count = min(config.monitor_subjects, len(rest) // 10)
        monitor, train = rest[:count], rest[count:]
    else:
        train, monitor = rest[:exactly], rest[exactly:][: config.monitor_subjects]
    everybody = set(subjects) | set(roles.get("test", ()))
    split = {"train": train, "monitor": monitor, "test": test}
    return _checked({role: apart(names, everybody, twins) for role, names in split.items()})


def split_finetuning(
    labelled: Sequence[str],
    n_subjects: int,
    seed: int,
    config: SplitConfig,
    roles: Roles = NO_ROLES,
    twins: Twins = NO_TWINS,
) -> dict[str, list[str]]:
    """Return ``{"train", "val", "test"}``: N training subjects drawn by ``seed``; 0 takes all.

    Draws are nested: the first 5 of a draw of 10 are the draw of 5 with the same seed. ``roles``:
    the store's own split; validation subjects it names are taken instead of ``val_subjects`` drawn
    ones. Raises ConfigError when there are not enough labelled subjects.
    """
    check_range("--subjects", n_subjects, 0)
    test, val = _held_out(labelled, config, roles, twins)
    names = joined(labelled, twins)
    n = len(names)
    least = "one to train on, one to choose by and one to test on are the least"
    if not test:
        told = f"until there are {LEAST}: {least}"
        if n >= LEAST:
            told = f"or raise split.test_fraction to {0.5 / n + 0.01:.2f}, split.test_max to 1"
        raise DataError(
            f"{n} labelled subjects leave none to test on; score more recordings {told}."
        )
    rest = sorted(names - set(test) - set(val or ()))
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
    split = {"train": drawn[n_val:][: n_subjects or None], "val": val or drawn[:n_val]}
    split["test"] = test
    everybody = set(labelled) | set(roles.get("test", ()))
    return _checked({role: apart(whom, everybody, twins) for role, whom in split.items()})


def draw_segments(segments: Mapping[str, Sequence[str]], per_class: int, seed: int) -> list[str]:
    """Return ``per_class`` recordings of every class, drawn by ``seed``, sorted; 0 takes all.

    ``segments`` are the recordings by class; of a class without any (it may be of the test alone),
    none is drawn. Draws are nested, as in :func:`split_finetuning`. Raises ConfigError when a class
    has too few, and when no class has any.

    >>> draw_segments({"calm": ["a", "b"], "moving": ["c"]}, 1, seed=0)
    ['a', 'c']
    """
    check_range("--segments-per-class", per_class, 0)
    chosen: list[str] = []
    for number, (label, members) in enumerate(segments.items()):
        if not members:
            continue
        if len(members) < per_class:
            raise ConfigError(
                f"--segments-per-class {per_class}: only {len(members)} recordings of training "
                f"subjects are {label} throughout."
            )
        order = rng_of(Stream.LABELLED_ITEMS, seed, number).permutation(len(members))
        members = sorted(members)
        chosen += [members[i] for i in order[: per_class or None]]
    if not chosen:
        raise ConfigError(
            "--segments-per-class: no recording of a training subject is of one class throughout."
        )
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
