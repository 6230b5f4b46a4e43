"""What benchmarks/gpu.py stands on: its clock, its one file of results, the limits of its folder.

Standard library only: whatever else a machine lacks, these must work, for they write down what
failed.
"""

import gzip
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RESULTS = "gpu.json"
MOST_FILES, MOST_BYTES = 8, 15 * 2**20


class OutOfTime(BaseException):
    """The time of a phase, or of a part of it, is over. No Exception: nothing may swallow it."""


class Asked(BaseException):
    """A signal asked the whole campaign to stop."""


class Clock:
    """When what must end.

    ``soft`` is where the last phase is stopped, ``hard`` where a thread ends the process, if it is
    stuck in a call that no signal can reach; both lie before the end of the ``minutes``.
    """

    AGAIN_S = 5.0  # the alarm rings again, should a library have swallowed the first

    def __init__(self, minutes: float, began: float) -> None:
        self.began = began
        whole = 60 * minutes
        self.soft = began + whole - min(15.0, 0.06 * whole)
        self.hard = began + whole - min(5.0, 0.02 * whole)
        self.until = self.soft

    def left(self) -> float:
        """Return the seconds that are left of what is being done."""
        return self.until - time.monotonic()

    @contextmanager
    def phase(self, seconds: float) -> Iterator[None]:
        """Raise OutOfTime inside after so many seconds, or at the soft end; Asked after SIGTERM."""
        self.until = min(self.soft, time.monotonic() + seconds)
        try:
            self._arm()
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.until = self.soft

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Within a phase: raise OutOfTime after so many seconds, if the phase lasts as long."""
        outer = self.until
        self.until = min(outer, time.monotonic() + seconds)
        try:
            self._arm()
            yield
        finally:
            self.until = outer
            self._arm()

    def _arm(self) -> None:
        # Anew each time: the training loop and torch's launcher put handlers of their own there.
        signal.signal(signal.SIGALRM, self._late)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 1e-3), self.AGAIN_S)

    def _late(self, *_: object) -> None:
        if self.left() <= 0:
            raise OutOfTime

    @staticmethod
    def _asked(number: int, _frame: object) -> None:
        raise Asked(signal.Signals(number).name)


class Record:
    """The results, written whole after every change."""

    def __init__(self, folder: Path, facts: dict) -> None:
        self.path, self.content = folder / RESULTS, facts | {"phases": {}}
        self._lock = threading.RLock()
        self.write()

    def phase(self, name: str, **facts: object) -> None:
        """Note facts of a phase."""
        with self._lock:
            self.content["phases"].setdefault(name, {}).update(plain(facts))
        self.write()

    def put(self, phase: str, name: str, value: object) -> None:
        """Note a result of a phase."""
        with self._lock:
            self.content["phases"][phase].setdefault("results", {})[name] = plain(value)
        self.write()

    def write(self) -> None:
        """Write everything: the file is the old one or the new one, never a part of one."""
        # A thread that found the lock taken for so long writes what there is.
        got = self._lock.acquire(timeout=2.0)
        temporary = self.path.with_name(f".{RESULTS}.{threading.get_ident()}.tmp")
        try:
            self.content["seconds"] = round(time.monotonic() - BEGAN, 2)
            text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
            if got:
                self._lock.release()


BEGAN = time.monotonic()


def plain(value: object) -> object:
    """Return a value as JSON can hold it: six digits, null for what is not finite.

    >>> plain({"a": (1 / 3, float("nan"))})
    {'a': [0.333333, None]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy or torch
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class Folder:
    """Where the results go: flat, at most eight files of at most 15 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for left in path.glob(f".{RESULTS}.*.tmp"):
            left.unlink(missing_ok=True)

    def place(self, name: str, content: bytes) -> str:
        """Write a file beside the results if it fits; return what became of it."""
        others = [file for file in self.path.iterdir() if file.name not in (name, RESULTS)]
        if len(content) > MOST_BYTES:
            return f"left out: {len(content):,} bytes, more than {MOST_BYTES:,}"
        if len(others) + 2 > MOST_FILES:
            return f"left out: there are {len(others) + 1} files already"
        temporary = self.path / f".{RESULTS}.{name}.tmp"
        try:
            temporary.write_bytes(content)
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)
        return f"{name}: {len(content):,} bytes"

    def place_packed(self, name: str, path: Path) -> str:
        """Write a file gzip-compressed if it fits; return what became of it."""
        return self.place(f"{name}.gz", gzip.compress(path.read_bytes(), 6))


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What a phase is given: where it computes, what it learns from, where it writes."""

    device: str  # cuda or cpu
    dry: bool  # tiny, on the CPU
    data: Path | None  # what gpu_pack.py made
    work: Path  # a temporary folder
    folder: Folder
    clock: Clock
    record: Record
    phase: str

    def put(self, name: str, value: object) -> None:
        """Note a result of this phase."""
        self.record.put(self.phase, name, value)

    def attempt(self, name: str, work: Callable[[], object], seconds: float = math.inf) -> object:
        """Note what ``work`` returns; or its traceback, and go on; or that it took too long.

        Returns None where it failed.
        """
        began = time.monotonic()
        try:
            with self.clock.limit(seconds) if math.isfinite(seconds) else _always():
                found = work()
        except OutOfTime:
            self.put(name, {"out_of_time": f"after {time.monotonic() - began:.1f} s"})
            if self.clock.left() <= 0:
                raise
            return None
        except Exception:  # noqa: BLE001 (whatever it is, it is written down)
            self.put(name, {"traceback": traceback.format_exc()})
            traceback.print_exc()
            return None
        self.put(name, found)
        print(f"{self.phase}: {name}: {json.dumps(plain(found))[:400]}", flush=True)
        return found


@contextmanager
def _always() -> Iterator[None]:
    yield


def failures(content: object, path: str = "") -> list[str]:
    """Return where in the results something failed, ran out of time, or missed its tolerance.

    >>> failures({"a": {"traceback": "…"}, "b": [{"within": False}], "c": {"within": True}})
    ['a: traceback', 'b.0: within']
    """
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        return []
    here = [key for key in ("traceback", "out_of_time") if key in content]
    here += ["within"] if content.get("within") is False else []
    return [f"{path}: {key}".lstrip(": ") for key in here] + [
        line
        for key, value in content.items()
        for line in failures(value, f"{path}.{key}".lstrip("."))
    ]


def watch(clock: Clock, record: Record) -> threading.Event:
    """End the process at the hard end, from a thread, its results written; unless told it is over.

    Code 3. Set the event that is returned when nothing is left to be watched.
    """
    over = threading.Event()

    def wait() -> None:
        if over.wait(max(clock.hard - time.monotonic(), 0)):
            return
        with suppress(Exception):
            record.content["ended"] = "by the watchdog: a call did not return in time"
            record.write()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(3)

    threading.Thread(target=wait, name="watchdog", daemon=True).start()
    return over
