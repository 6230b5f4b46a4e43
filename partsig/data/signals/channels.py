"""Finds the channels that are asked for among a file's labels: names, aliases, derivations."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsig import commands
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import DataError

# What devices write before a name, and after it for "against the recording's own reference".
KIND = re.compile(r"^(EEG|EOG|EMG|ECG|EKG|PSG|POL|SLEEP)[ _.:-]+(?=.)")
REFERENCE = re.compile(r"(?<![ -])[ -]++(REF|LER?|CLE|RAW|AVG?|CAR)[0-9]?$")
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
        (r"CHIN|EMG", r"CHIN|MENT|EMG"),
        (r"ECG|EKG", r"ECG|EKG"),
    )
)
# Between two electrodes; not within a run of blanks, which would be gone through from each of them.
DASH = re.compile(r"(?<! ) *+[-:/_–−] *+")
BLANKS = re.compile(r"\s+")
# One of several channels of one name, by its number.
NUMBERED = re.compile(r"\A([^#]{1,200})#([0-9]{1,4})")
# Characters of a label that are looked at; EDF has 16, and no format's names are much longer.
LONGEST_LABEL = 200
RUN_ON = re.compile(r"^(FP[12Z]|[FCPOT][0-9Z]|E[12])([AM][12])$")


class MissingChannelsError(DataError):
    """Channels are not there; ``channels`` says which, ``labels`` what the file has instead."""

    def __init__(self, name: str, channels: Sequence[str], labels: Sequence[str]) -> None:
        self.name, self.channels, self.labels = name, tuple(channels), tuple(labels)
        what = "channel" if len(channels) == 1 else "channels"
        super().__init__(
            f"{name}: {what} {', '.join(map(repr, channels))} not found; it has "
            f"{', '.join(labels) or 'none'}. Pass --set channels=[…] with names from this list, or "
            f"--set {shlex.quote(self.aliases)} if that is another name of the very same."
        )

    @property
    def aliases(self) -> str:
        """The setting that would name the missing channels, with the likeliest names there.

        It is not yet quoted for a shell.
        """
        likely = {c: [nearest(c, self.labels) or "NAME"] for c in self.channels}
        return commands.setting("aliases", likely)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Which rows of a file are read, and how channels are made of them; see Recording."""

    rows: tuple[int, ...]
    mix: np.ndarray | None
    filled: tuple[str, ...]


def plain_name(label: str) -> tuple[str, str]:
    """Return a label's electrodes in one spelling, and the common reference it names (or "").

    >>> plain_name("EEG C4-A1"), plain_name("c4a1"), plain_name("EEG C4-REF"), plain_name("O2:M1")
    (('C4-M1', ''), ('C4-M1', ''), ('C4', 'REF'), ('O2-M1', ''))
    """
    if len(label) > LONGEST_LABEL:
        return label, ""
    text = BLANKS.sub(" ", label.strip().upper())
    text = KIND.sub("", text.replace("(", " ").replace(")", " ").strip()).strip()
    named = REFERENCE.search(text)
    reference = named[1] if named else ""
    text = REFERENCE.sub("", text)
    text = DASH.sub("-", text)
    run_on = RUN_ON.match(text)
    if run_on:
        text = f"{run_on[1]}-{run_on[2]}"
    return "-".join(SAME.get(part, part) for part in text.split("-")), reference


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


def resolve(
    name: str, labels: Sequence[str], channels: Sequence[str], settings: ReadConfig
) -> Resolved:
    """Return which of a file's ``labels`` make the wanted ``channels``.

    In this order: the very name; one of ``settings.aliases``; the same electrodes in another
    spelling (``EEG C4-A1`` for ``C4-M1``); the difference of two channels that share a reference
    (``C4`` and ``M1``, or ``C4-REF`` and ``A1-REF``).

    Raises MissingChannelsError when some are missing (unless they may be filled), DataError when
    more than one fits.
    """
    plain = [plain_name(label) for label in labels]
    terms: list[tuple[int, int | None] | None] = []
    for channel in channels:
        terms.append(_find(name, labels, plain, channel, settings))
    missing = [c for c, term in zip(channels, terms, strict=True) if term is None]
    if missing and settings.missing == "refuse":
        raise MissingChannelsError(name, missing, labels)
    if not any(terms):
        raise DataError(
            f"{name}: none of the channels {', '.join(channels)} is there; it has "
            f"{', '.join(labels) or 'none'}."
        )
    rows = tuple(dict.fromkeys(i for term in terms if term for i in term if i is not None))
    filled = tuple(c for c, term in zip(channels, terms, strict=True) if term is None)
    if rows == tuple(term[0] if term and term[1] is None else -1 for term in terms):
        return Resolved(rows=rows, mix=None, filled=())
    mix = np.zeros((len(channels), len(rows)))
    for c, term in enumerate(terms):
        if term is not None:
            mix[c, rows.index(term[0])] += 1.0
            if term[1] is not None:
                mix[c, rows.index(term[1])] -= 1.0
    return Resolved(rows=rows, mix=mix, filled=filled)


def _find(
    name: str,
    labels: Sequence[str],
    plain: Sequence[tuple[str, str]],
    channel: str,
    settings: ReadConfig,
) -> tuple[int, int | None] | None:
    aliases = settings.aliases.get(channel, ())
    for alias in aliases:  # "C4-M1#2" is the second that is called so
        numbered = NUMBERED.fullmatch(alias)
        same = [i for i, label in enumerate(labels) if numbered and label.strip() == numbered[1]]
        if numbered and 0 < int(numbered[2]) <= len(same):
            return same[int(numbered[2]) - 1], None
    for wanted in (channel, *aliases):
        same = [i for i, label in enumerate(labels) if label.strip() == wanted]
        if same:
            return _only(name, labels, same, channel), None
    electrodes, _ = plain_name(channel)
    same = [i for i, (text, _) in enumerate(plain) if text == electrodes]
    if same:
        return _only(name, labels, same, channel), None
    active, dash, reference = electrodes.partition("-")
    if not dash:
        return None
    ends = [[i for i, (text, _) in enumerate(plain) if text == end] for end in (active, reference)]
    if not all(ends):
        return None
    pairs = [(a, b) for a in ends[0] for b in ends[1] if plain[a][1] == plain[b][1]]
    if len(pairs) > 1:
        raise DataError(
            f"{name}: channel {channel!r} could be made in {len(pairs)} ways, from "
            + " or ".join(f"{labels[a]!r} and {labels[b]!r}" for a, b in pairs)
            + "; name channels that are there, with --set channels=[…]."
        )
    return pairs[0] if pairs else None


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
