"""Recordings that MNE parses, in processes of their own: see :mod:`.mne_child`.

One server is started with the first such recording, 0.6 s, and forks a reader for each.
"""

import atexit
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from partsig.data.foreign import check_regular
from partsig.data.guard import LONGEST_REASON, show_traceback
from partsig.data.signals.readers import mne_child
from partsig.data.signals.readers.edf_header import LONGEST_S
from partsig.errors import DataError
from partsig.text import LONGEST_VALUE, shown

# What a reader may take beside what the interpreter with MNE has, and what a file's bytes become
# when they are all parsed: EEGLAB's are held in memory by MNE, as float64.
MEMORY, TIMES_THE_FILE = 2**31, 8
# How long opening a file, or reading a stretch of it, may take: more for more bytes.
SECONDS, BYTES_PER_S, GRACE_S = 20.0, 10_000_000, 10.0
START_S = 120.0  # a server loads MNE
# Samples per byte of the files that may be claimed: two bytes each, and gaps of ten times that.
SAMPLES_PER_BYTE = 5
LONGEST_ANSWER = 2**28
CODE = "import sys; sys.path[:] = sys.argv[1:]; import socket; "
CODE += f"from {mne_child.__name__} import serve; serve(socket.socket(fileno=0))"


@dataclass(frozen=True, kw_only=True, eq=False)
class MneFile:
    """A recording that a process of its own has opened; what it says was checked."""

    path: Path
    labels: tuple[str, ...]
    units: tuple[str, ...]
    sfreq: float
    n_times: int
    start: datetime | None
    marks: tuple[tuple[float, float, str], ...]
    notes: tuple[str, ...]
    seconds: float
    channel: socket.socket = field(repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, picks: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Return channels (C, T) float64 in volts; raise DataError where they cannot be read."""
        held = np.empty((len(picks), stop - start), "<f8")
        with self.lock:
            _ask(self.channel, [list(picks), start, stop, self.seconds])
            answer = _receive(self.path, self.channel, self.seconds)
            if answer.get("bytes") != held.nbytes:
                raise _odd(self.path)
            view = memoryview(held).cast("B") if held.nbytes else memoryview(b"")
            _fill(self.path, self.channel, view, self.seconds)
        return held


def open_mne(path: Path) -> MneFile:
    """Open a FIF, BrainVision or EEGLAB file in a process of its own.

    Raises DataError, one sentence, where it is damaged, takes too much memory or time, or MNE is
    not installed.
    """
    # An EEGLAB file may hold all samples itself.
    held = TIMES_THE_FILE * check_regular(path).st_size * (path.suffix.lower() == ".set")
    answer, channel, seconds = _begin(path, MEMORY + held, "recording")
    try:
        return _checked(path, answer, channel, MEMORY + held, seconds)
    except BaseException:
        channel.close()
        raise


def read_annotations(path: Path) -> tuple[list[tuple[float, float, str]], datetime | None]:
    """Return (onset s, duration s, text) of annotations that MNE saved, and what they count from.

    None where that is the recording's first sample. Raises what :func:`open_mne` raises.
    """
    answer, channel, _ = _begin(path, MEMORY, "annotations")
    channel.close()
    marks, start = answer.get("marks"), answer.get("start")
    if not _are_marks(marks):
        raise _odd(path)
    try:
        begins = None if start is None else datetime.fromisoformat(start)
    except (TypeError, ValueError):
        raise _odd(path) from None
    return [(float(onset), float(length), text) for onset, length, text in marks], begins


def _begin(path: Path, memory: int, what: str) -> tuple[dict, socket.socket, float]:
    """Return what a new process says of a file, its socket, and the seconds that it has."""
    if importlib.util.find_spec("mne") is None:
        raise DataError(
            f"{path.name}: reading {path.suffix} files needs MNE: pip install 'partsig[mne]'."
        )
    seconds = SECONDS + check_regular(path).st_size / BYTES_PER_S
    ours, theirs = socket.socketpair()
    with theirs:
        _hand_over(path, theirs)
    request = {"path": os.path.abspath(path), "memory": memory, "seconds": seconds, "what": what}
    try:
        _ask(ours, request)
        return _receive(path, ours, seconds), ours, seconds
    except BaseException:
        ours.close()
        raise


def _are_marks(marks: object) -> bool:
    return (
        isinstance(marks, list)
        and len(marks) <= mne_child.MOST_MARKS
        and all(isinstance(mark, list) and len(mark) == 3 for mark in marks)
        and all(mne_child.is_number(number) for mark in marks for number in mark[:2])
        and all(isinstance(mark[2], str) for mark in marks)
    )


def _checked(
    path: Path, answer: dict, channel: socket.socket, memory: int, seconds: float
) -> MneFile:
    """Return an opened file; raise DataError where what is said of it cannot be."""
    labels, sfreq, n_times = (answer.get(key) for key in ("labels", "sfreq", "n_times"))
    marks, start, files = (answer.get(key) for key in ("marks", "start", "files"))
    notes, units = answer.get("notes", []), answer.get("units")
    if not (
        isinstance(labels, list)
        and len(labels) <= mne_child.MOST_CHANNELS
        and all(isinstance(label, str) for label in labels)
        and isinstance(units, list)
        and len(units) == len(labels)
        and all(isinstance(unit, str) for unit in units)
        and mne_child.is_number(sfreq)
        and mne_child.is_number(n_times)
        and _are_marks(marks)
        and isinstance(files, list)
        and all(isinstance(name, str) for name in files)
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
    ):
        raise _odd(path)
    if not sfreq > 0 or not 0 <= n_times / sfreq <= LONGEST_S:
        raise DataError(f"{path.name}: {n_times} samples at {sfreq:g} Hz; the header is damaged.")
    for name in files:  # what a header names elsewhere is no part of a recording
        if os.path.dirname(os.path.abspath(name)) != os.path.dirname(os.path.abspath(path)):
            raise DataError(
                f"{path.name} names samples in another folder ({shown(name, LONGEST_VALUE)}); only "
                "files beside it are read: put them there, and their bare names into it."
            )
    n_bytes = sum(check_regular(name).st_size for name in {str(path), *files})
    if n_times * len(labels) > max(SAMPLES_PER_BYTE * n_bytes, memory // 8):
        raise DataError(
            f"{path.name}: the header tells of {n_times} samples of {len(labels)} channels, and "
            f"there are {n_bytes:,} bytes; the file is damaged."
        )
    try:
        begins = None if start is None else datetime.fromisoformat(start)
    except (TypeError, ValueError):
        raise _odd(path) from None
    file = MneFile(
        path=path,
        labels=tuple(labels),
        units=tuple(units),
        sfreq=float(sfreq),
        n_times=int(n_times),
        start=begins,
        marks=tuple((float(onset), float(length), text) for onset, length, text in marks),
        notes=tuple(notes),
        seconds=seconds,
        channel=channel,
    )
    weakref.finalize(file, channel.close)  # with it, its reader ends
    return file


def _ask(channel: socket.socket, request: object) -> None:
    with suppress(OSError):  # a process that has ended says why when it is listened to
        channel.sendall(json.dumps(request).encode() + b"\n")


def _receive(path: Path, channel: socket.socket, seconds: float) -> dict:
    """Return what a reader says; raise DataError for a refusal, and where there is no answer."""
    begun = time.monotonic()
    head = bytearray(mne_child.LENGTH)
    _fill(path, channel, memoryview(head), seconds, begun)
    length = int.from_bytes(head, "big")
    if length > LONGEST_ANSWER:
        raise _odd(path)
    data = bytearray(length)
    _fill(path, channel, memoryview(data), seconds, begun)
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise _odd(path) from None
    if not isinstance(answer, dict):
        raise _odd(path)
    if "error" not in answer:
        return answer
    kind, told = (shown(answer.get(key, ""), LONGEST_REASON) for key in ("error", "told"))
    show_traceback(path.name, str(answer.get("trace", "")))
    if kind == "MemoryError":
        raise DataError(
            f"{path.name} takes more memory to be parsed by MNE than a reader may have; export "
            "it as EDF or BDF, or copy it again if it is damaged."
        )
    raise DataError(f"{path.name} cannot be read by MNE ({kind}: {told.rstrip('.')}).")


def _fill(
    path: Path,
    channel: socket.socket,
    left: memoryview,
    seconds: float,
    begun: float | None = None,
) -> None:
    """Receive so many bytes; raise DataError where the reader ends, or takes too long."""
    begun = time.monotonic() if begun is None else begun
    while left:
        channel.settimeout(max(begun + seconds + GRACE_S - time.monotonic(), 0.01))
        try:
            n = channel.recv_into(left)
        except TimeoutError:
            n = 0
        except OSError:
            n = 0
        if n == 0 and time.monotonic() - begun >= seconds:
            raise DataError(
                f"{path.name}: MNE took more than {seconds:.0f} s to read it; export it as EDF or "
                "BDF, or copy it again if it is damaged."
            )
        if n == 0:
            raise DataError(
                f"{path.name}: the process in which MNE read it ended without an answer; the file "
                "is damaged, or memory is short."
            )
        left = left[n:]


def _odd(path: Path) -> DataError:
    return DataError(f"{path.name}: what MNE says of it makes no sense; the file is damaged.")


class _Server:
    """The process that forks readers, of this process alone."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.channel, theirs = socket.socketpair()
        # One thread: forks are safe, and address space is not spent on buffers.
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-c", CODE, *sys.path],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | threads,
            )
        self.channel.settimeout(START_S)
        try:
            ready = self.channel.recv(1)
        except OSError:
            ready = b""
        if not ready:
            self.process.kill()
            self.close()
            raise DataError("MNE cannot be loaded; install it again: pip install 'partsig[mne]'.")

    def alive(self) -> bool:
        """Tell whether it is of this process and runs."""
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        """End it: it ends when its socket is closed."""
        self.channel.close()
        if self.owner == os.getpid():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)


_server: _Server | None = None
_starting = threading.Lock()


def _hand_over(path: Path, channel: socket.socket) -> None:
    """Give the server the other end of a recording's socket; start it if there is none."""
    global _server
    with _starting:
        for _ in range(2):
            if _server is None or not _server.alive():
                if _server is not None:
                    _server.close()
                _server = _Server()
            try:
                socket.send_fds(_server.channel, [b"1"], [channel.fileno()])
                return
            except OSError:
                _server.close()
                _server = None
    raise DataError(f"{path.name}: no process can be started to read it by MNE.")


def memory_of_readers() -> dict[str, int]:
    """Return the greatest resident memory of the ``readers`` that ended since this was last asked.

    In kilobytes, with what the ``server`` has from which they are forked; 0 where there is none.
    """
    with _starting:
        if _server is None or not _server.alive():
            return {"readers": 0, "server": 0}
        _server.channel.sendall(mne_child.MEMORY_ASKED)
        return _receive(Path("MNE"), _server.channel, START_S)


@atexit.register
def _close() -> None:
    if _server is not None:
        _server.close()
