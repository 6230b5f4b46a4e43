"""What runs in the processes that parse files by MNE: a server that forks one reader a recording.

MNE parses what strangers have written, and believes its lengths. A reader has so much memory and so
much time, opens regular files for reading and nothing else, and ends with its recording. It answers
in JSON and raw numbers; nothing it says is unpickled. :mod:`.mne_process` is the other end.
"""

import json
import math
import os
import re
import resource
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from partsig.data.signals.readers import mne_checks

if TYPE_CHECKING:
    import mne

# What MNE puts before the text of a BrainVision marker.
PREFIX = re.compile(r"^Comment/")
READERS = {".fif": "read_raw_fif", ".vhdr": "read_raw_brainvision", ".set": "read_raw_eeglab"}
# More than any device writes, and what is told of one recording at most.
MOST_CHANNELS, MOST_MARKS, LONGEST_TEXT = 4096, 1_000_000, 1000
LONGEST_UNIT = 20
LENGTH = 8  # bytes of the length that goes before each message, big-endian
# What a reader has no business with, by the names of Python's own audit events.
REFUSED = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.remove")
REFUSED += (
    "os.posix_spawn",
    "os.fork",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "pty.spawn",
)
REFUSED += ("os.symlink", "os.truncate", "os.chmod", "os.chown", "ctypes.dlopen")


# The word that asks a server for the memory of its readers, in place of one that brings a socket.
MEMORY_ASKED = b"?"


class TooManyError(Exception):
    """A file tells more than is taken from it."""


class Most:
    """The greatest memory of the readers that have ended since it was last told."""

    def __init__(self) -> None:
        self.kilobytes = 0

    def bury(self, *_: object) -> None:
        """Take note of the readers that have ended: by themselves, or by their limits."""
        with suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                self.kilobytes = max(self.kilobytes, ended[2].ru_maxrss)

    def told(self) -> dict[str, int]:
        """Return it, in kilobytes, and what the server itself has."""
        # Not its rusage, in which is what the process that started it had.
        own = 0
        with suppress(FileNotFoundError), open("/proc/self/statm") as file:  # of Linux
            own = int(file.read().split()[1]) * resource.getpagesize() // 1024
        most, self.kilobytes = self.kilobytes, 0
        return {"readers": most, "server": own}


def describe(raw: "mne.io.BaseRaw") -> dict:
    """Return what an ``mne.io.Raw`` says of itself, as JSON can hold it.

    Onsets count from the first sample. Raises TooManyError for more channels or annotations than
    any recording has.
    """
    # In MNE the date is that of sample 0, from which a cropped recording's first sample and all
    # onsets are counted, with a date or without.
    start, zero = raw.info["meas_date"], raw.first_time
    if start is not None and start.timestamp() == 0:
        start = None  # where nobody set a clock: no time of day is to be told from it
    if len(raw.ch_names) > MOST_CHANNELS or len(raw.annotations) > MOST_MARKS:
        raise TooManyError(f"{len(raw.ch_names)} channels, {len(raw.annotations)} annotations")
    told = raw.annotations
    marks = [
        [float(onset) - zero, float(length), PREFIX.sub("", str(text[: LONGEST_TEXT + 8]))]
        for onset, length, text in zip(told.onset, told.duration, told.description, strict=True)
    ]
    # As the file has them; MNE converts to volts. EEGLAB has µV, FIF volts.
    usual = "uV" if type(raw).__name__ == "RawEEGLAB" else "V"
    units = getattr(raw, "_orig_units", None) or {}
    begins = None if start is None else start.replace(tzinfo=None) + timedelta(seconds=zero)
    return {
        "labels": list(raw.ch_names),
        "units": [str(units.get(name) or usual)[:LONGEST_UNIT] for name in raw.ch_names],
        "sfreq": float(raw.info["sfreq"]),
        "n_times": int(raw.n_times),
        "start": begins and begins.isoformat(),
        "marks": marks,
        "files": [str(name) for name in raw.filenames or () if name],
    }


def describe_annotations(told: "mne.Annotations") -> dict:
    """Return annotations, and the time that they count from, as JSON can hold it."""
    if len(told) > MOST_MARKS:
        raise TooManyError(f"{len(told)} annotations")
    start = told.orig_time
    marks = [
        [float(onset), float(length), str(text[:LONGEST_TEXT])]
        for onset, length, text in zip(told.onset, told.duration, told.description, strict=True)
    ]
    return {"marks": marks, "start": start and start.replace(tzinfo=None).isoformat()}


def send(channel: socket.socket, message: Mapping[str, object]) -> None:
    """Send a message as JSON, its length before it."""
    data = json.dumps(message).encode()
    channel.sendall(len(data).to_bytes(LENGTH, "big") + data)


def serve(channel: socket.socket) -> None:
    """Fork a reader for each socket that comes in, until the other end is closed."""
    from mne.io import read_raw_brainvision, read_raw_eeglab, read_raw_fif  # noqa: F401
    from scipy.io import loadmat  # noqa: F401  (all of them are loaded once, before the forks)

    channel.send(b"1")  # it is ready
    most = Most()
    signal.signal(signal.SIGCHLD, most.bury)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end closes the socket
    while True:
        word, numbers, _, _ = socket.recv_fds(channel, 1, 1)
        if not word:
            return
        if word == MEMORY_ASKED:
            send(channel, most.told())
            continue
        if not os.fork():
            code = 1
            try:
                channel.close()
                _answer(socket.socket(fileno=numbers[0]))
                code = 0
            finally:
                os._exit(code)
        for number in numbers:
            os.close(number)


def _answer(channel: socket.socket) -> None:
    """Open the recording that is asked for, and send stretches of it until nobody asks."""
    with channel, channel.makefile("rb") as asked:
        request = json.loads(asked.readline())
        _limit(request["memory"], request["seconds"])
        sys.addaudithook(_guard)
        try:
            from mne import io, read_annotations

            if request["what"] == "annotations":
                told = read_annotations(request["path"])
                send(channel, describe_annotations(told))
                return
            # Not MNE's own choice among all readers, which loads every one of them.
            read = getattr(io, READERS[os.path.splitext(request["path"])[1].lower()])
            raw, notes = mne_checks.read_checked(read, request["path"])
            answer = describe(raw) | {"notes": notes}
        except BaseException as error:  # noqa: BLE001  (told at the other end)
            send(channel, _refusal(error))
            return
        send(channel, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for line in asked:
            picks, start, stop, seconds = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                held = raw.get_data(picks=picks, start=start, stop=stop, verbose="error")
                data = memoryview(held.astype("<f8", order="C", copy=False)).cast("B")
            except BaseException as error:  # noqa: BLE001
                send(channel, _refusal(error))
                return
            send(channel, {"bytes": len(data)})
            channel.sendall(data)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _refusal(error: BaseException) -> dict[str, object]:
    """Return what is said of an error: its kind, its first line, where it came from."""
    lines = str(error).strip().split("\n")
    kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    trace = "" if kind == "MemoryError" else "".join(traceback.format_exception(error))[-20_000:]
    return {"error": kind, "told": lines[0][:LONGEST_TEXT], "trace": trace}


def _limit(memory: int, seconds: float) -> None:
    """Let this process have so many bytes more than it has, no file to write, so much time."""
    with suppress(FileNotFoundError), open("/proc/self/statm") as file:  # of Linux
        held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The system ends the process, whatever it is in the middle of.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _guard(event: str, arguments: tuple) -> None:
    """Refuse what a reader has no business with."""
    if event == "open":
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError("a recording's reader may not write files")
        if isinstance(path, str | bytes | os.PathLike):
            try:
                mode = os.stat(path).st_mode
            except (OSError, ValueError):
                return  # opening it tells
            if not stat.S_ISREG(mode):
                raise PermissionError(f"{os.path.basename(os.fsdecode(path))} is no regular file")
    elif event in REFUSED:
        raise PermissionError(f"a recording's reader may not do this ({event})")


def is_number(value: object) -> bool:
    """Tell whether a value from JSON is a finite number."""
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and math.isfinite(value)
