"""What a finished run has kept of its training: the last checkpoint, and the chosen weights.

A checkpoint may be lost, or one of an earlier step or epoch be put in its place. Whoever reads a
run's weights reads them here, where they are held against what the run says of itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from partsig.errors import CheckpointError
from partsig.files import can_be_written, locked
from partsig.runs.run import Run
from partsig.train import checkpoint
from partsig.train.journal import last_step
from partsig.train.kept import BEST


class LostError(CheckpointError):
    """A finished run has lost the weights that it ended with; its own command makes them again."""


def finished_step(run: Run) -> int | None:
    """Return the step that a finished run ended at; None where neither it nor its journal tells."""
    told = run.facts.get("steps")
    return told if isinstance(told, int) else last_step(run.path)


def last_file(path: Path) -> Path:
    """Return a run's newest checkpoint; raise LostError where it has none."""
    file = checkpoint.newest(path)
    if file is None:
        raise LostError(
            f"{path} has lost its checkpoints: run the same `partsig pretrain` command again, "
            "which trains it anew."
        )
    return file


def last_state(run: Run) -> dict:
    """Return the checkpoint that a finished pretraining run ended with.

    Raises LostError where it is lost, or the newest one is of another step.
    """
    file, wanted = last_file(run.path), finished_step(run)
    content = checkpoint.load(file, "pretrain")
    if wanted is not None and content.get("step") != wanted:
        raise LostError(
            f"{run.path} was trained to step {wanted:,}, but its newest checkpoint, {file.name}, "
            f"is of step {content.get('step')}: run the same `partsig pretrain` command again, "
            "which continues it from there."
        )
    return content


def chosen_file(path: Path) -> Path:
    """Return where a run's chosen weights are; raise LostError where they are not."""
    file = path / BEST
    if not file.is_file():
        raise LostError(
            f"no checkpoint at {file}: run the same `partsig finetune` command again, which makes "
            "it anew."
        )
    return file


def chosen_state(run: Run) -> dict:
    """Return the checkpoint of the epoch that a finished fine-tuning run has chosen.

    Raises LostError where it is lost, or is of another epoch than the run says.
    """
    file = chosen_file(run.path)
    content = checkpoint.load(file, "finetune")
    theirs = content.get("best")
    theirs = theirs if isinstance(theirs, Mapping) else {}
    wanted = run.facts.get("chosen_epoch", 0)
    scores = [v for k, v in run.facts.items() if k.startswith("val_") and isinstance(v, float)]
    same = theirs.get("epoch") == wanted
    if not same or (scores and repr(theirs.get("value")) not in map(repr, scores)):  # of nan, too
        raise LostError(
            f"{run.path} chose epoch {wanted} ({_told(scores)} on validation), but {file.name} is "
            f"of epoch {theirs.get('epoch')} ({_told([theirs.get('value')])}): run the same "
            "`partsig finetune` command again, which makes it anew."
        )
    return content


def _told(scores: list) -> str:
    return ", ".join(f"{v:.3f}" if isinstance(v, float) else str(v)[:20] for v in scores)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a run, to go on with it; one that is over, in a folder to be read only, needs no lock.

    Raises BusyError where another call trains the same run.
    """
    if can_be_written(path) or not is_over(path):
        with locked(path):
            yield
    else:
        yield


def is_over(path: Path) -> bool:
    """Tell whether there is a finished run at this place that has kept what it ended with.

    A checkpoint that cannot be read raises CheckpointError.
    """
    if not (path / "run.json").is_file():
        return False
    run = Run.read(path)
    if not run.is_finished:
        return False
    try:
        last_state(run) if run.kind == "pretrain" else chosen_state(run)
    except LostError:
        return False
    return True
