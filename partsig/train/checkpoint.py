"""Checkpoints: whole or absent, read without executing anything, refused when they do not fit."""

import errno
import os
import pickle
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from partsig.errors import CheckpointError
from partsig.files import atomic

FORMAT = 1
# Where torch's errors come from when a file could not be written.
WRITER = ("inline_container", "iostream", "PytorchStreamWriter")


def save(path: Path, content: dict) -> None:
    """Write a checkpoint atomically: tensors, numbers, texts, lists and dicts of them."""
    with atomic(path) as temporary:
        try:
            torch.save({"format": FORMAT, **content}, temporary)
        except RuntimeError as error:
            # torch's writer does not hand on what the system said, and it says no more than this.
            if not any(name in str(error) for name in WRITER):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def path_of(run: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies.

    >>> path_of(Path("run"), 12).as_posix()
    'run/checkpoints/step-000000012.pt'
    """
    return run / "checkpoints" / f"step-{step:09d}.pt"


def newest_first(run: Path) -> list[Path]:
    """Return a run's checkpoints, that of the latest step first."""
    return sorted((run / "checkpoints").glob("step-*.pt"), reverse=True)


def newest(run: Path) -> Path | None:
    """Return a run's checkpoint of the latest step, or None."""
    return next(iter(newest_first(run)), None)


def prune(run: Path, keep: int, step: int) -> None:
    """Remove all but the ``keep`` newest checkpoints of a run that is at ``step``.

    One of a later step is of a course that was left, since something of it was lost.
    """
    at = path_of(run, step)
    own = [path for path in newest_first(run) if path <= at]
    for path in {*newest_first(run)} - {*own[:keep]}:
        path.unlink(missing_ok=True)


def check_unpacked(file: Path | BinaryIO, size: int) -> None:
    """Raise CheckpointError for a zip archive whose members are larger than the file itself.

    torch and skops store members as they are; compressed ones could fill the memory.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return  # whoever reads it says what is wrong with it
    if unpacked > size:
        name = file if isinstance(file, Path) else "an archive in a checkpoint"
        raise CheckpointError(
            f"{name} holds {size:,} bytes that unpack to {unpacked:,}: partsig writes none such."
        )


def load(path: Path, kind: str | None = None) -> dict:
    """Return a checkpoint's content, tensors on the CPU.

    Raises CheckpointError when it is missing, unreadable, of another format, or not of ``kind``.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}.")
    check_unpacked(path, path.stat().st_size)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read ({reason[:120]}): it is damaged or no checkpoint. Delete it to "
            "go on from the checkpoint before it, or the whole run to start again."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path} has format {got}; this partsig reads format {FORMAT}.")
    if kind is not None and content.get("kind") != kind:
        raise CheckpointError(f"{path} is a {content.get('kind')} checkpoint, not of {kind}.")
    return content
