"""What a run writes while it goes: metrics.jsonl, TensorBoard, one progress bar."""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from partsig import regular
from partsig.errors import DataError
from partsig.files import appended, write_text
from partsig.progress import bar

TAIL = 1 << 16  # bytes: more than any line has


class Journal:
    """Metrics of one run. After a resume at ``step``, lines of later steps are dropped.

    Only the main process of a distributed run has ``active`` set; the others write nothing.
    """

    def __init__(self, run: Path, step: int, total: int, label: str, active: bool = True) -> None:
        self.active = active
        if not active:
            return
        run.mkdir(parents=True, exist_ok=True)
        self._path = run / "metrics.jsonl"
        if self._path.is_file():
            kept = [line for line in _whole_lines(self._path) if json.loads(line)["step"] <= step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._board = Board(run / "tensorboard", step)
        with appended(self._path):
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (see close())
        self._bar = bar(unit="step", desc=label, total=total, initial=step)

    def advance(self) -> None:
        """Move the progress bar by one step."""
        if self.active:
            self._bar.update()

    def write(self, step: int, epoch: int, values: dict[str, float], shown: tuple = ()) -> None:
        """Record values at a step; those named in ``shown`` appear beside the bar."""
        if not self.active:
            return
        line = {"step": step, "epoch": epoch}
        line |= {key: round(value, 7) for key, value in values.items()}
        with appended(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._board.write(step, values)
        self._bar.set_postfix(
            {key: f"{values[key]:.3g}" for key in shown if key in values}, refresh=False
        )

    def close(self) -> None:
        """Flush and close everything."""
        if self.active:
            self._bar.close()
            # All was flushed as it was written: what is left is what could not be, and was told.
            with suppress(OSError):
                self._file.close()
            self._board.close()


class Board:
    """Scalars of one run for TensorBoard, in an event file of its own; later steps are purged.

    Written at once, by the thread that asks: TensorBoard's own writer has a thread, whose error on
    a full disk would reach nobody but standard error.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Slow to load: where it is used.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        with appended(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "wb")  # noqa: SIM115 (see close())
        self._records = RecordWriter(self._file)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        try:
            self._write(self._event(file_version="brain.Event:2"))
            self._write(self._event(step=step + 1, session_log=start))
        except DataError:
            self.close()
            raise

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step."""
        told = [self._summary.Value(tag=key, simple_value=v) for key, v in values.items()]
        self._write(self._event(step=step, summary=self._summary(value=told)))

    def _write(self, event: object) -> None:
        event.wall_time = time.time()
        with appended(self._path):
            self._records.write(event.SerializeToString())
            self._records.flush()

    def close(self) -> None:
        """Close the file; what could not be written has been told."""
        with suppress(OSError):
            self._file.close()


def _whole_lines(path: Path) -> list[str]:
    """Return the complete lines; a line cut by a kill is left out."""
    text = regular.read_text(path)
    return text.split("\n")[:-1]


def last_step(run: Path) -> int | None:
    """Return the step of the last whole line of a run's metrics.jsonl; None where there is none."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    with regular.open_bytes(path) as handle:
        handle.seek(max(handle.seek(0, os.SEEK_END) - TAIL, 0))
        lines = handle.read().split(b"\n")[:-1]
    try:
        return int(json.loads(lines[-1])["step"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def read_metrics(run: Path) -> list[dict]:
    """Return the lines of a run's metrics.jsonl.

    Each holds ``step``, ``epoch`` and the values written at that step.
    """
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in _whole_lines(path)] if path.is_file() else []
