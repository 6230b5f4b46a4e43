"""Which channels of a raw recording an audit measures, where nobody has named any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from partsig.data.foreign import name_of
from partsig.data.guard import guarded
from partsig.data.signals import inventory
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.data.signals.readers.guarded import read_recording
from partsig.data.signals.recordings import ReadConfig, Recording
from partsig.errors import ConfigError, DataError

Read = Callable[[Path, ReadConfig], Recording]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A recording with what was selected of it.

    ``listed`` is the list of all channels of the file, "" where channels were named; ``unread``
    says why a channel that was selected cannot be read.
    """

    recording: Recording
    listed: str = ""
    unread: dict[str, str] = field(default_factory=dict)


def with_usual(reader: ModuleType, settings: ReadConfig) -> ReadConfig:
    """Return settings with a source's usual channels where none are named.

    None stay none for a source of recordings of any make (``ANY_CHANNELS``). Raises ConfigError
    for epochs of another length than an audit's.
    """
    if settings.epoch_s != EPOCH_S:
        raise ConfigError(f"an audit judges {EPOCH_S:g}-s epochs: leave out epoch_s.")
    if settings.channels is None and getattr(reader, "ANY_CHANNELS", False):
        return settings
    return replace(settings, channels=settings.channels or reader.CHANNELS)


def selecting(reader: ModuleType, settings: ReadConfig) -> Callable[[Path], Selected]:
    """Return what reads a recording: the named channels, else all that look like signals."""
    if settings.channels is None:
        return partial(_all, reader=reader, settings=settings)
    return partial(_named, read=reader.read_recording, settings=settings)


def _named(header: Path, read: Read, settings: ReadConfig) -> Selected:
    return Selected(recording=read_recording(read, header, settings))


def _all(header: Path, reader: ModuleType, settings: ReadConfig) -> Selected:
    """Return all signals of a recording; one that cannot be read does not cost the others."""
    with guarded(name_of(header)):
        listed = reader.list_channels(header)
        wanted = inventory.all_signals(name_of(header), listed, settings)
    try:
        recording, unread = read_recording(reader.read_recording, header, wanted), {}
    except DataError as error:
        unread = _unreadable(reader.read_recording, header, wanted)
        left = tuple(channel for channel in wanted.channels if channel not in unread)
        if not left or not unread:
            raise error from None  # it is not for one channel alone
        wanted = replace(wanted, channels=left)
        recording = read_recording(reader.read_recording, header, wanted)
    return Selected(recording=recording, listed=_told(listed, settings), unread=unread)


def _unreadable(read: Read, header: Path, wanted: ReadConfig) -> dict[str, str]:
    """Return the channels that cannot be read by themselves, and why."""
    unread = {}
    for channel in wanted.channels:
        try:
            read_recording(read, header, replace(wanted, channels=(channel,)))
        except DataError as error:
            unread[channel] = str(error)
    return unread


def _told(listed: Sequence[inventory.Listed], settings: ReadConfig) -> str:
    """Return which of a file's channels are measured, and which are not."""
    taken = [one for one in listed if inventory.is_signal(one, settings)]
    others = [one for one in listed if one not in taken]
    left = f"; not measured: {inventory.told(others)}" if others else ""
    return f"measured: {inventory.told(taken)}{left}"
