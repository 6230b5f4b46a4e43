"""What a recording's header lists, before anything of it is read: which channels are signals.

A reader that can tell has ``list_channels(header)``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from partsig.data.foreign import name_of
from partsig.data.guard import guarded
from partsig.data.signals import derivations, units
from partsig.data.signals.channels import DERIVED, resolve, sounds_like_signal
from partsig.data.signals.recordings import MOST_HZ, ReadConfig
from partsig.errors import ConfigError, DataError
from partsig.text import shown

WORD = "contralateral"
LEAST_HZ = 16.0  # what is slower is no EEG, EOG or EMG
LISTED = "channels:"  # how a note that lists them begins
SHOWN = 40  # channels that are listed one by one
LONGEST = 60  # characters of a label in such a list


@dataclass(frozen=True)
class Listed:
    """A channel as a header has it: label, unit, and rate in Hz."""

    label: str
    unit: str
    sfreq: float

    def __str__(self) -> str:
        unit = f"{self.unit.strip()}, " if self.unit.strip() else "no unit, "
        return f"{shown(self.label.strip(), LONGEST)} ({shown(unit, LONGEST)}{self.sfreq:g} Hz)"


def of(psg: Any) -> list[Listed]:
    """Return the channels of an open recording."""
    return [Listed(*told) for told in zip(psg.labels, psg.units, psg.sfreqs, strict=True)]


def told(listed: Sequence[Listed]) -> str:
    """Return a list of channels as text."""
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return (", ".join(map(str, listed[:SHOWN])) or "none") + more


def is_signal(channel: Listed, settings: ReadConfig) -> bool:
    """Tell whether a channel looks like EEG, EOG or EMG, by its label, unit and rate.

    >>> is_signal(Listed("EEG Fpz-Cz", "uV", 100.0), ReadConfig())
    True
    >>> is_signal(Listed("SaO2", "%", 1.0), ReadConfig())
    False
    """
    unit, _ = units.stated(settings, channel.label, channel.unit)
    if unit.lower() not in units.UNITS or not LEAST_HZ <= channel.sfreq <= MOST_HZ:
        return False
    return sounds_like_signal(channel.label)


def all_signals(name: str, listed: Sequence[Listed], settings: ReadConfig) -> ReadConfig:
    """Return settings that read every channel that looks like EEG, EOG or EMG, by its label.

    Of several of one name each has its number. Raises DataError where there is none.
    """
    labels = [channel.label.strip() for channel in listed]
    chosen, aliases = [], dict(settings.aliases)
    for i, channel in enumerate(listed):
        if labels[i] and is_signal(channel, settings):
            label = labels[i]
            if labels.count(label) > 1:
                label = f"{label}#{labels[: i + 1].count(label)}"
                aliases[label] = (label,)
            chosen.append(label)
    if not chosen:
        raise DataError(
            f"{name}: no channel looks like EEG, EOG or EMG; it has {told(listed)}. Name some with "
            "--set channels=[…], and their unit, where none is told, with --set unit=uV."
        )
    return replace(settings, channels=tuple(chosen), aliases=aliases)


def expanded(name: str, labels: Sequence[str], settings: ReadConfig) -> ReadConfig:
    """Return settings in which ``contralateral`` is replaced by what a file has of it.

    Raises DataError where that is nothing, and where a channel could be made in several ways.
    """
    channels = settings.channels or ()
    if WORD not in channels:
        return settings
    there = tuple(sources(name, labels, settings))
    if not there:
        raise DataError(
            f"{name}: no {WORD} channel is there or can be made, such as "
            f"{', '.join(derivations.CONTRALATERAL[:4])}; it has {', '.join(labels) or 'none'}."
        )
    return replace(settings, channels=_with(channels, there))


def sources(name: str, labels: Sequence[str], settings: ReadConfig) -> dict[str, str]:
    """Return which contralateral channels a file has or makes, and of which of its labels.

    >>> sources("n", ["EEG C4-A1", "E2", "A2", "C3-T9"], ReadConfig())
    {'C4-M1': 'EEG C4-A1', 'E2-M2': 'E2 - A2'}
    """
    there = {}
    for channel in derivations.CONTRALATERAL:
        lenient = replace(settings, channels=(channel,), missing="fill")
        try:
            found = resolve(name, labels, (channel,), lenient)
        except DataError as error:
            if "none of the channels" not in str(error):
                raise
            continue
        weights = [1.0] if found.mix is None else found.mix[0]
        made = dict(zip(found.rows, weights, strict=True))
        there[channel] = derivations.told("", made, labels).removeprefix(" = ")
    return there


def made_told(notes: Sequence[str]) -> list[str]:
    """Return a line on each way in which recordings' channels were made, the commonest three."""
    each = (note for text in notes for note in text.split("; ") if note.startswith(DERIVED))
    return [f"{note} (in {n:,} recordings)" for note, n in Counter(each).most_common(3)]


def _with(channels: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Return channels with the word replaced, none twice."""
    spread = [one for channel in channels for one in (there if channel == WORD else (channel,))]
    return tuple(dict.fromkeys(spread))


def of_all(
    reader: ModuleType, headers: Sequence, settings: ReadConfig, *, here: bool
) -> tuple[ReadConfig, list[str]]:
    """Return settings with ``contralateral`` as all recordings have it, and what to say of it.

    That are the channels that every one has, or with ``missing=fill`` any. Those that cannot be
    read do not count. Raises ConfigError where the source tells no channels, or the files are not
    ``here``; DataError where nothing is left.
    """
    if WORD not in (settings.channels or ()):
        return settings, []
    if not here or not hasattr(reader, "list_channels"):
        why = "are not on this machine" if not here else "do not tell their channels"
        raise ConfigError(
            f"channels={WORD} looks into every header first, and these recordings {why}: name the "
            f"channels, such as --set 'channels=[{', '.join(derivations.CONTRALATERAL[:4])}]'."
        )
    made: list[dict[str, str]] = []
    reasons = []
    for header in headers:
        try:
            with guarded(name_of(header)):
                labels = [channel.label for channel in reader.list_channels(header)]
                made.append(sources(name_of(header), labels, settings))
        except DataError as error:
            reasons.append(str(error))  # told where it is read
    if not made and reasons:
        raise DataError(f"none of the {len(reasons)} recordings tells its channels: {reasons[0]}")
    return agreed(made, settings)


def agreed(made: Sequence[dict[str, str]], settings: ReadConfig) -> tuple[ReadConfig, list[str]]:
    """Return settings with what several recordings have in common of ``contralateral``, and notes.

    ``made`` is what :func:`sources` found in each. Raises DataError where that is nothing.
    """
    counts = Counter(channel for one in made for channel in one)
    least = 1 if settings.missing == "fill" else len(made)
    there = [channel for channel in derivations.CONTRALATERAL if counts[channel] >= max(least, 1)]
    if not there:
        some = ", ".join(f"{channel} in {counts[channel]:,}" for channel in counts)
        fill = ", or keep what some have with --set missing=fill" if some else ""
        raise DataError(
            f"no {WORD} channel is in all {len(made):,} recordings ({some or 'none in any'}): name "
            f"channels with --set channels=[…]{fill}."
        )
    notes = []
    for channel in there:
        ways = Counter(one[channel] for one in made if channel in one)
        of = ", ".join(f"{text} in {n:,}" for text, n in ways.most_common(5))
        notes.append(f"{WORD}: {channel} is {of} of {len(made):,} recordings")
    left = [f"{channel} (in {counts[channel]:,})" for channel in counts if channel not in there]
    if left:
        notes.append(f"{WORD}: not in every recording and left out: {', '.join(left)}")
    return replace(settings, channels=_with(settings.channels, there)), notes
