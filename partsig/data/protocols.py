"""How others divide subjects, by name, so that a figure of ours can stand beside theirs.

A new protocol is a new entry of :data:`PROTOCOLS`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from partsig.errors import ConfigError, check_range, nearest


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How many subjects are for what; None, or 0 of ``folds``: what the settings say.

    ``test`` subjects are chosen by the hash of their names, or are one of ``folds`` blocks of equal
    size of the sorted names. ``val`` are chosen by hash from the others, for every seed the same.
    ``pretrain`` are exactly so many. ``labelled``: how many subjects' labels are trained on; 0 is
    all that are left. ``fixed_labels``: whether --subjects may say another number.
    """

    source: str
    test: int | None = None
    folds: int = 0
    val: int | None = None
    pretrain: int | None = None
    labelled: int = 10
    fixed_labels: bool = False


PROTOCOLS = {
    "part": Protocol(
        source="PART, section 3.4: of PhysioNet-2018, 1,653 subjects to pretrain on, 10 labelled, "
        "200 held out from both",
        test=200,
        pretrain=1653,
        labelled=10,
        fixed_labels=True,
    ),
    "folds5": Protocol(
        source="published fully supervised figures on PhysioNet-2018: five folds over the 994 "
        "sorted names, 50 validation subjects",
        folds=5,
        val=50,
        labelled=0,
    ),
}


# What a setting may be.
Name = Literal[*PROTOCOLS]


def check(name: str | None, fold: int) -> None:
    """Raise ConfigError for a protocol that there is not, and for a fold that it has not."""
    check_range("split.fold", fold, 0)
    if name is None:
        return
    if name not in PROTOCOLS:
        close = nearest(name, PROTOCOLS)
        told = f"; nearest is {close!r}" if close else ""
        raise ConfigError(
            f"--protocol {name}: there is no such protocol{told}; there are {', '.join(PROTOCOLS)}."
        )
    last = max(PROTOCOLS[name].folds - 1, 0)
    if fold > last:
        allowed = f"it must be between 0 and {last}" if last else "it has no folds"
        raise ConfigError(f"--protocol {name} --fold {fold}: {allowed}.")


def by_hash(subjects: Iterable[str]) -> list[str]:
    """Order subjects by a hash of their names: fixed for ever, and blind to age, site and label."""
    return sorted(set(subjects), key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def held_out(name: str, labelled: Iterable[str], fold: int) -> tuple[list[str], list[str] | None]:
    """Return the test subjects of a protocol, sorted, and its validation subjects (None: drawn).

    Raises ConfigError, with the numbers, where there are too few labelled subjects.

    >>> sizes = [len(held_out("folds5", map(str, range(994)), k)[0]) for k in range(5)]
    >>> sizes, len(held_out("folds5", map(str, range(994)), 0)[1])
    ([199, 199, 199, 199, 198], 50)
    """
    protocol, names = PROTOCOLS[name], sorted(set(labelled))
    if protocol.folds:
        test = _blocks(names, protocol.folds)[fold]
    else:
        test = sorted(by_hash(names)[: protocol.test])
    left = set(names) - set(test)
    # At least one labelled subject for each of: training, and choosing the epoch.
    needed = max(protocol.labelled, 1) + (protocol.val or 1)
    if len(test) < (protocol.test or 1) or len(left) < needed:
        parts = [f"{protocol.test or len(test):,} to test on"]
        parts += [f"{protocol.val} to validate on"] if protocol.val else []
        parts += [f"{protocol.labelled or 'others'} to train on"]
        raise ConfigError(
            f"--protocol {name} needs labelled subjects, {', '.join(parts)}: the store has "
            f"{len(names):,}. Leave --protocol out, and split.test_fraction of them are the test."
        )
    return test, None if protocol.val is None else sorted(by_hash(left)[: protocol.val])


def to_pretrain(name: str, rest: Sequence[str], n_test: int) -> int | None:
    """Return how many of the subjects that are not held out are pretrained on; None: all of them.

    Raises ConfigError, with the numbers, where there are fewer.
    """
    wanted = PROTOCOLS[name].pretrain
    if wanted is not None and len(rest) < wanted:
        raise ConfigError(
            f"--protocol {name} needs {wanted:,} subjects to pretrain on beside {n_test:,} that "
            f"are held out, {wanted + n_test:,} in all: the store has {len(rest) + n_test:,}. "
            "Preprocess the others, or leave --protocol out."
        )
    return wanted


def labels_of(name: str | None, asked: int | None) -> int:
    """Return how many labelled subjects are trained on (0: all), where so many were asked for.

    Raises ConfigError where the protocol says another number.
    """
    if name is None:
        return 10 if asked is None else asked
    own = PROTOCOLS[name].labelled
    if PROTOCOLS[name].fixed_labels and asked not in (None, own):
        raise ConfigError(
            f"--protocol {name} is on {own} labelled subjects, not {asked}: leave out --subjects."
        )
    return own if asked is None else asked


def _blocks(names: list[str], n: int) -> list[list[str]]:
    """Return n consecutive parts, the first ones larger by one where it does not divide."""
    short, longer = divmod(len(names), n)
    ends = [k * short + min(k, longer) for k in range(n + 1)]
    return [names[start:stop] for start, stop in pairwise(ends)]
