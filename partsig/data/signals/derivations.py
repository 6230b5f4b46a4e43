"""Montages: what a channel is made of, as weights of electrodes, and how a file's channels make it.

A channel of a file is one electrode against another or against a common reference: ``C4-M1``, or
``C4`` as in ``C4-REF``. A channel that is asked for is a sum of electrodes whose weights come to
zero, so that any common reference falls out: ``C4-M1``, ``C4-(M1+M2)/2``, ``C4-average``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The electrodes of the 10-10 system, without ear lobes and mastoids: those of an average reference.
SCALP = re.compile(r"^(FP|AF|F|FT|FC|C|T|TP|CP|P|PO|O|I)(Z|[0-9]|10)$")
# Over fewer electrodes an average is mostly the channel itself.
LEAST_AVERAGE = 4
AVERAGES = ("AV", "AVG", "AVERAGE", "CAR")
# References that say no more than that they are common to all channels of a recording.
COMMON = ("", "REF", "RAW")
MEAN = re.compile(r"^([^-()+/ ]{1,40}) ?- ?\( ?([^-()+/ ]{1,40}) ?\+ ?([^-()+/ ]{1,40}) ?\) ?/ ?2$")
# AASM manual: each side against the mastoid of the other, both eyes against the right one.
CONTRALATERAL = (
    *("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1"),
    *("E1-M2", "E2-M2"),
)

Weights = dict[str, float]


@dataclass(frozen=True)
class Plain:
    """A file's channel: its electrode, and what it was recorded against ("" where untold)."""

    active: str
    reference: str

    @property
    def is_common(self) -> bool:
        """Whether the reference is no electrode of which a channel could be asked for."""
        return self.reference in COMMON


def plain_of(electrodes: str, reference: str) -> Plain:
    """Return a channel in parts, from what :func:`.channels.plain_name` made of its label.

    >>> plain_of("C4-M1", ""), plain_of("C4", "REF")
    (Plain(active='C4', reference='M1'), Plain(active='C4', reference='REF'))
    """
    active, dash, second = electrodes.partition("-")
    return Plain(active, second if dash else reference)


def is_average(reference: str) -> bool:
    """Tell whether a reference's name is one of the average's."""
    return reference in AVERAGES


def alike(asked: str, own: str) -> bool:
    """Tell whether a file's reference may be the one that is asked for; unnamed ones fit any.

    An average fits an average alone: it can be made where it is not there.

    >>> alike("REF", ""), alike("LE", "AVG"), alike("AVERAGE", "REF"), alike("CAR", "AVG")
    (True, False, False, True)
    """
    if is_average(asked) or (is_average(own) and asked not in COMMON):
        return is_average(asked) and is_average(own)
    return asked in COMMON or own in COMMON or asked == own


def weights_of(electrodes: str) -> Weights | None:
    """Return the electrodes' weights in a derivation, None where it is none.

    >>> weights_of("C4-M1"), weights_of("C4-(M1+M2)/2"), weights_of("C4")
    ({'C4': 1.0, 'M1': -1.0}, {'C4': 1.0, 'M1': -0.5, 'M2': -0.5}, None)
    """
    mean = MEAN.match(electrodes)
    if mean:
        first, *others = mean.groups()
        weights = {first: 1.0} | dict.fromkeys(others, -0.5)
    else:
        first, dash, second = electrodes.partition("-")
        weights = {first: 1.0, second: -1.0} if dash else {}
    return weights if len(weights) > 1 and all(weights) and not sum(weights.values()) else None


def ways(weights: Weights, plain: Sequence[Plain | None]) -> list[dict[int, float]]:
    """Return how channels of a file, by row, make a sum of electrodes: all ways of the best kind.

    All electrodes are taken against one and the same reference: one that is common to the
    recording, else an electrode (``C4-M2`` and ``M1-M2`` make ``C4-M1``).
    """
    references = dict.fromkeys(p.reference for p in plain if p)
    references |= dict.fromkeys(p.active for p in plain if p and not p.is_common)
    by_kind: dict[bool, list[dict[int, float]]] = {True: [], False: []}
    for reference in references:
        choices: list[dict[int, float]] = [{}]
        for electrode, weight in weights.items():
            if electrode == reference:
                continue
            rows = _against(electrode, reference, plain)
            choices = [made | {row: weight * sign} for made in choices for row, sign in rows]
        found = by_kind[reference in COMMON or is_average(reference)]
        found += [made for made in choices if made and made not in found]
    return by_kind[True] or by_kind[False]


def _against(electrode: str, reference: str, plain: Sequence[Plain | None]) -> list:
    """Return (row, sign) of the channels that are an electrode against a reference."""
    as_it_is = [(i, 1.0) for i, p in enumerate(plain) if p == Plain(electrode, reference)]
    if as_it_is or reference in COMMON:
        return as_it_is
    return [(i, -1.0) for i, p in enumerate(plain) if p == Plain(reference, electrode)]


def average_of(active: str, plain: Sequence[Plain | None]) -> tuple[list[Weights], list[str]]:
    """Return the weights of an electrode against the average, by reference, and its electrodes.

    No weights where the electrode is not there, or there are less than four of one reference;
    then the electrodes are the most that there are.
    """
    of: dict[str, list[str]] = {}
    for p in plain:
        if p and SCALP.match(p.active):
            of.setdefault(p.reference, []).append(p.active)
    sets = [sorted(set(names)) for names in of.values() if active in names]
    enough = [names for names in sets if len(names) >= LEAST_AVERAGE]
    most = max(sets, key=len, default=[])
    weights = [
        {name: (name == active) - 1 / len(names) for name in sorted(names, key=active.__ne__)}
        for names in enough
    ]
    return weights, most


def told(channel: str, made: Mapping[int, float], labels: Sequence[str]) -> str:
    """Return what a channel is made of, in the file's own labels.

    >>> told("C4-(M1+M2)/2", {0: 1.0, 1: -0.5, 2: -0.5}, ["C4", "A1", "A2"])
    'C4-(M1+M2)/2 = C4 - 0.5 A1 - 0.5 A2'
    """
    text = ""
    for row, weight in made.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):.3g} "
        sign = " - " if weight < 0 else " + " if text else ""
        text += f"{sign}{size}{labels[row].strip()}"
    return f"{channel} = {text.strip()}"
