"""What a run writes while it goes: metrics.jsonl, TensorBoard, one progress bar."""

import json
import os
from pathlib import Path

from partsig.files import write_text
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
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close())
        from torch.utils.tensorboard import SummaryWriter  # slow to load: where it is used

        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
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
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._board.add_scalar(key, value, step)
        self._bar.set_postfix(
            {key: f"{values[key]:.3g}" for key in shown if key in values}, refresh=False
        )

    def close(self) -> None:
        """Flush and close everything."""
        if self.active:
            self._bar.close()
            self._file.close()
            self._board.close()


def _whole_lines(path: Path) -> list[str]:
    """Return the complete lines; a line cut by a kill is left out."""
    text = path.read_text(encoding="utf-8")
    return text.split("\n")[:-1]


def last_step(run: Path) -> int | None:
    """Return the step of the last whole line of a run's metrics.jsonl; None where there is none."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    with open(path, "rb") as handle:
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
