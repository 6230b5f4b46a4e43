"""Finds the channels that are asked for among a file's labels: names, aliases, derivations."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsig import commands
from partsig.data.signals import derivations
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

# What devices write before a name, and after it for "against the recording's own reference".
KIND = re.compile(r"^(EEG|EOG|EMG|ECG|EKG|PSG|POL|SLEEP)[ _.:-]+(?=.)")
REFERENCE = re.compile(r"(?<![ -])[ -]++(REF|LER?|CLE|RAW|AVERAGE|AVG?|CAR)[0-9]?$")
# Ear lobes and mastoids are used for one another in sleep (AASM manual); T3 … T6 are the old names
# of four electrodes (ACNS guideline 2).
SAME = {"A1": "M1", "A2": "M2", "T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
# Of several in a text the first alone is gone on from.
FIRST_EOG = "^(?:(?!EOG).)*+EOG"
# What else the left eye, the right eye, the chin and the heart may be called, likelier names first.
PARTS = tuple(
    (re.compile(own), re.compile(other, re.IGNORECASE))
    for own, other in (
        (r"^(E1|LOC|EOG)", rf"\bE1|LOC|EOG[ (]*+(1|L)|{FIRST_EOG}.*(1|left)"),
        (r"^(E2|ROC|EOG)", rf"\bE2|ROC|EOG[ (]*+(2|R)|{FIRST_EOG}.*(2|right)"),
        (r"CHIN|EMG", r"CHIN|MENT"),
        (r"CHIN|EMG", r"^(?!.*(LEG|TIB|ARM)).*EMG"),
        (r"ECG|EKG", r"ECG|EKG"),
    )
)
# Between two electrodes; not within a run of blanks, which would be gone through from each of them.
DASH = re.compile(r"(?<! ) *+[-:/_–−] *+")
BLANKS = re.compile(r"\s+")
# One of several channels of one name, by its number.
NUMBERED = re.compile(r"\A([^#]{1,200})#([0-9]{1,4})")
# How a note on channels begins that are made of several.
DERIVED = "derived:"
# Characters of a label that are looked at; EDF has 16, and no format's names are much longer.
LONGEST_LABEL = 200
# What tells the two electrodes of a pair apart: EMG1 and EMG2, "Chin L" and "Chin R".
SIDE = re.compile(r"([0-9]|(?<![A-Z])[LR]|LEFT|RIGHT)(?![A-Z0-9])")
# What EEG, EOG and EMG are called, apart from electrodes; and what is none, whatever else it says.
SIGNAL = re.compile(
    r"EEG|EOG|EMG|\b(E[12]|LOC|ROC|CHIN|(SUB)?MENT(AL|IS)?|LEG|TIB(IALIS)?|LAT|RAT)(?![A-Z])", re.I
)
NO_SIGNAL = re.compile(
    r"ECG|EKG|RESP|FLOW|THOR|ABD|CHEST|SNOR|PRESS|SAO2|SPO2|PULSE|PLETH|POS", re.I
)
MASTOIDS = ("M1", "M2")
RUN_ON = re.compile(r"^(FP[12Z]|[FCPOT][0-9Z]|E[12])([AM][12])$")


class MissingChannelsError(DataError):
    """Channels are not there; ``channels`` says which, ``labels`` what the file has instead."""

    def __init__(self, name: str, channels: Sequence[str], labels: Sequence[str]) -> None:
        self.name, self.channels, self.labels = name, tuple(channels), tuple(labels)
        what = "channel" if len(channels) == 1 else "channels"
        advice = (
            f". Pass --set channels=[…] with names from this list, or --set "
            f"{shlex.quote(self.aliases)} if that is another name of the very same."
        )
        super().__init__(
            f"{name}: {what} {', '.join(map(repr, channels))} not found; it has "
            f"{', '.join(labels) or 'none'}{self.no_signal or advice}"
        )

    @property
    def no_signal(self) -> str:
        """How the sentence ends where no label sounds like a signal, "" where one does."""
        if any(sounds_like_signal(label) for label in self.labels):
            return ""
        return (
            ", none of which sounds like EEG, EOG or EMG: if one is all the same, pass "
            f"--set {shlex.quote(self.aliases)}; else name the recording that has them."
        )

    @property
    def aliases(self) -> str:
        """The setting that would name the missing channels, with the likeliest names there.

        It is not yet quoted for a shell.
        """
        likely = {c: [likeliest(c, self.labels) or "NAME"] for c in self.channels}
        return commands.setting("aliases", likely)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Which rows of a file are read, and how channels are made of them; see Recording."""

    rows: tuple[int, ...]
    mix: np.ndarray | None
    filled: tuple[str, ...]
    notes: tuple[str, ...] = ()


def plain_name(label: str) -> tuple[str, str]:
    """Return a label's electrodes in one spelling, and the common reference it names (or "").

    >>> plain_name("EEG C4-A1"), plain_name("c4a1"), plain_name("EEG C4-REF"), plain_name("O2:M1")
    (('C4-M1', ''), ('C4-M1', ''), ('C4', 'REF'), ('O2-M1', ''))
    >>> plain_name("EEG C4-(A2+A1)/2")
    ('C4-(M1+M2)/2', '')
    """
    if len(label) > LONGEST_LABEL:
        return label, ""
    text = BLANKS.sub(" ", label.strip().upper())
    mean = derivations.MEAN.match(KIND.sub("", text).strip())
    if mean:
        active, *both = (SAME.get(part, part) for part in mean.groups())
        return f"{active}-({'+'.join(sorted(both))})/2", ""
    text = KIND.sub("", text.replace("(", " ").replace(")", " ").strip()).strip()
    named = REFERENCE.search(text)
    reference = named[1] if named else ""
    text = REFERENCE.sub("", text)
    text = DASH.sub("-", text)
    run_on = RUN_ON.match(text)
    if run_on:
        text = f"{run_on[1]}-{run_on[2]}"
    return "-".join(SAME.get(part, part) for part in text.split("-")), reference


def sounds_like_signal(label: str) -> bool:
    """Tell whether a label may be that of EEG, EOG or EMG.

    >>> [sounds_like_signal(label) for label in ("EEG4", "Chin1", "c4a1", "SaO2", "ECG II", "Rate")]
    [True, True, True, False, False, False]
    """
    if len(label) > LONGEST_LABEL:
        return False
    first = plain_name(label)[0].partition("-")[0]
    named = derivations.SCALP.match(first) or first in MASTOIDS or SIGNAL.search(label.strip())
    return bool(named) and not NO_SIGNAL.search(label)


def nearest(channel: str, labels: Sequence[str]) -> str:
    """Return the label most like a channel: the same electrode, else the same part, else "".

    >>> nearest("C4-M1", ["EEG C4-A2", "EEG C3-A2", "ECG"]), nearest("C4-M1", ["SaO2"])
    ('EEG C4-A2', '')
    >>> nearest("E1-M2", ["EEG C4", "EMG EMG1", "EOG Left"]), nearest("Chin1-Chin2", ["EMG1"])
    ('EOG Left', 'EMG1')
    """
    active = plain_name(channel)[0].partition("-")[0]
    for label in labels:
        if plain_name(label)[0].partition("-")[0] == active:
            return label
    likely = [other for own, other in PARTS if own.search(active)]
    short = [label for label in labels if len(label) <= LONGEST_LABEL]
    return next((label for way in likely for label in short if way.search(label)), "")


def likeliest(channel: str, labels: Sequence[str]) -> str:
    """Return the label, or the difference of two, that a channel most likely is, else "".

    One electrode is no answer for a pair where the other, or a mastoid, lies beside it.

    >>> likeliest("Chin1-Chin2", ["EMG1", "EMG2"]), likeliest("E1-M2", ["EOG Left", "A1"])
    ('EMG1-EMG2', 'EOG Left-A1')
    """
    first = nearest(channel, labels)
    asked, (own, against) = plain_name(channel)[0], plain_name(first)
    if not first or "-" not in asked or "-" in own or against not in derivations.COMMON:
        return first
    single = [label for label in labels if "-" not in plain_name(label)[0] and label != first]
    stem = SIDE.sub("", own)
    pair = [label for label in single if stem != own and SIDE.sub("", plain_name(label)[0]) == stem]
    if asked.partition("-")[2] in MASTOIDS:  # both eyes are no pair
        pair = [label for label in single if plain_name(label)[0] in MASTOIDS]
    return f"{first.strip()}-{pair[0].strip()}" if pair else first


def resolve(
    name: str, labels: Sequence[str], channels: Sequence[str], settings: ReadConfig
) -> Resolved:
    """Return which of a file's ``labels`` make the wanted ``channels``.

    In this order: the very name; one of ``settings.aliases``, a label or the difference of two; the
    same electrodes in another spelling (``EEG C4-A1`` for ``C4-M1``); the sum of channels that
    share a reference (``C4`` and ``M1``, or ``C4-M2`` and ``M1-M2``), which is told in ``notes``.

    Raises MissingChannelsError when some are missing (unless they may be filled), DataError when
    more than one fits.
    """
    plain = [plain_name(label) for label in labels]
    terms = [_find(name, labels, plain, channel, settings) for channel in channels]
    missing = [c for c, term in zip(channels, terms, strict=True) if term is None]
    if missing and settings.missing == "refuse":
        raise MissingChannelsError(name, missing, labels)
    if not any(terms):
        raise DataError(
            f"{name}: none of the channels {', '.join(channels)} is there; it has "
            f"{', '.join(labels) or 'none'}."
        )
    rows = tuple(dict.fromkeys(i for term in terms if term for i in term))
    filled = tuple(c for c, term in zip(channels, terms, strict=True) if term is None)
    made = [
        derivations.told(channel, term, _names(labels))
        for channel, term in zip(channels, terms, strict=True)
        if term is not None and list(term.values()) != [1.0]
    ]
    notes = (f"{DERIVED} {', '.join(made)}",) if made else ()
    if len(rows) == len(terms) and terms == [{row: 1.0} for row in rows]:
        return Resolved(rows=rows, mix=None, filled=())
    mix = np.zeros((len(channels), len(rows)))
    for c, term in enumerate(terms):
        for row, weight in (term or {}).items():
            mix[c, rows.index(row)] = weight
    return Resolved(rows=rows, mix=mix, filled=filled, notes=notes)


def _find(
    name: str,
    labels: Sequence[str],
    plain: Sequence[tuple[str, str]],
    channel: str,
    settings: ReadConfig,
) -> dict[int, float] | None:
    """Return the weights of a file's rows in a channel, None where it cannot be made."""
    aliases = settings.aliases.get(channel, ())
    for alias in aliases:
        row = _numbered(alias, labels)
        if row is not None:
            return {row: 1.0}
    for wanted in (channel, *aliases):
        same = [i for i, label in enumerate(labels) if label.strip() == wanted]
        if same:
            return {_only(name, labels, same, channel): 1.0}
    for alias in aliases:
        made = _difference(name, labels, alias, channel) or _made(name, labels, plain, alias)
        if made:
            return made
    electrodes, reference = plain_name(channel)
    same = [
        i
        for i, (text, own) in enumerate(plain)
        if text == electrodes and derivations.alike(reference, own)
    ]
    if same:
        return {_only(name, labels, same, channel): 1.0}
    return _made(name, labels, plain, channel)


def _numbered(label: str, labels: Sequence[str]) -> int | None:
    """Return the row of "C4-M1#2", the second that is called so; None where there is none."""
    numbered = NUMBERED.fullmatch(label)
    same = [i for i, one in enumerate(labels) if numbered and one.strip() == numbered[1]]
    if numbered and 0 < int(numbered[2]) <= len(same):
        return same[int(numbered[2]) - 1]
    return None


def _difference(
    name: str, labels: Sequence[str], alias: str, channel: str
) -> dict[int, float] | None:
    """Return the difference of two labels as they stand in the file, None where it is none."""
    for dash in re.finditer("-", alias[: 2 * LONGEST_LABEL]):
        rows = []
        for end in (alias[: dash.start()].strip(), alias[dash.end() :].strip()):
            row = _numbered(end, labels)
            same = [i for i, label in enumerate(labels) if label.strip() == end]
            if row is None and same:
                row = _only(name, labels, same, channel)
            rows.append(row)
        if None not in rows and rows[0] != rows[1]:
            return {rows[0]: 1.0, rows[1]: -1.0}
    return None


def _made(
    name: str, labels: Sequence[str], plain: Sequence[tuple[str, str]], channel: str
) -> dict[int, float] | None:
    """Return the sum of channels that a derivation is, None where it cannot be made."""
    electrodes, reference = plain_name(channel)
    parts = [derivations.plain_of(*one) for one in plain]
    if derivations.is_average(reference) and "-" not in electrodes:
        averages, most = derivations.average_of(electrodes, parts)
        if not averages and most:
            raise DataError(
                f"{name}: {channel!r} needs at least {derivations.LEAST_AVERAGE} scalp electrodes "
                f"of one reference; there are {', '.join(most)}."
            )
    else:
        weights = derivations.weights_of(electrodes)
        averages = [weights] if weights else []
    found = [made for weights in averages for made in derivations.ways(weights, parts)]
    if len(found) > 1:
        names, advice = _names(labels), "; name channels that are there, with --set channels=[…]."
        if sorted(found[0].values()) == [-1.0, 1.0]:
            rows = sorted(found[0], key=found[0].get, reverse=True)
            alias = "-".join(names[row] for row in rows)
            advice = f"; say which, with {commands.option('aliases', {channel: [alias]})} or so."
        raise DataError(
            f"{name}: channel {channel!r} could be made in {len(found)} ways, from "
            + " or ".join(" and ".join(repr(names[row]) for row in made) for made in found[:4])
            + advice
        )
    return found[0] if found else None


def _names(labels: Sequence[str]) -> list[str]:
    """Return labels as aliases name them: by number where there are several of one name."""
    names = [label.strip() for label in labels]
    numbered = enumerate(names)
    return [f"{n}#{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in numbered]


def _only(name: str, labels: Sequence[str], same: list[int], channel: str) -> int:
    if len(same) > 1 and len({labels[i].strip() for i in same}) == 1:
        label = labels[same[0]].strip()
        raise DataError(
            f"{name}: {len(same)} channels are called {label!r}; choose the first or another by "
            f"its number, with --set 'aliases={{{channel}: [\"{label}#1\"]}}'."
        )
    if len(same) > 1:
        raise DataError(
            f"{name}: channel {channel!r} could be {' or '.join(repr(labels[i]) for i in same)}; "
            f"choose by {commands.option('aliases', {channel: [labels[same[0]]]})}."
        )
    return same[0]
