"""Checkpoints: whole or absent, read without executing anything, refused when they do not fit."""

import errno
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from partsig.errors import CheckpointError
from partsig.files import atomic, check_no_link

FORMAT = 1
FOLDER = "checkpoints"
# Where torch's errors come from when a file could not be written.
WRITER = ("inline_container", "iostream", "PytorchStreamWriter")


def save(path: Path, content: dict) -> None:
    """Write a checkpoint atomically: tensors, numbers, texts, lists and dicts of them."""
    if path.parent.name == FOLDER:
        check_no_link(path.parent)
    # Through a file object: torch calls an archive after a path, and this one names the machine.
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        try:
            torch.save({"format": FORMAT, **content}, handle)
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
    return run / FOLDER / f"step-{step:09d}.pt"


def newest_first(run: Path) -> list[Path]:
    """Return a run's checkpoints, that of the latest step first."""
    return sorted((run / FOLDER).glob("step-*.pt"), reverse=True)


def newest(run: Path) -> Path | None:
    """Return a run's checkpoint of the latest step, or None."""
    return next(iter(newest_first(run)), None)


def prune(run: Path, keep: int, step: int) -> None:
    """Remove all but the ``keep`` newest checkpoints of a run that is at ``step``.

    One of a later step is of a course that was left, since something of it was lost.
    """
    check_no_link(run / FOLDER)
    at = path_of(run, step)
    there = newest_first(run)
    own = [path for path in there if path <= at]
    for path in {*there} - {*own[:keep]}:
        path.unlink(missing_ok=True)


def check_unpacked(file: Path | BinaryIO, size: int) -> None:
    """Raise CheckpointError for what is no zip archive, or one that unpacks to more than it is.

    torch and skops store members as they are; compressed ones could fill the memory.
    """
    name = file if isinstance(file, Path) else "an archive in a checkpoint"
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
    except Exception as error:  # noqa: BLE001 (what zipfile cannot read, torch shall not either)
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"{name} cannot be read ({reason[:120]}): it is damaged or no checkpoint. Delete it to "
            "go on from the checkpoint before it, or the whole run to start again."
        ) from None
    if unpacked > size:
        raise CheckpointError(
            f"{name} holds {size:,} bytes that unpack to {unpacked:,}: partsig writes none such."
        )
    # What a packed member says of its size need not be so.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(f"{name} has packed members: partsig writes none such.")


def check_weights(state: object, where: Path) -> None:
    """Raise CheckpointError unless ``state`` is finite real tensors by name (extra state apart)."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{where} holds no weights by name.")
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and (
            value.is_complex() or (value.is_floating_point() and not value.isfinite().all())
        ):
            raise CheckpointError(f"{where}: weights {name[:80]!r} are not finite real numbers.")


def load(path: Path, kind: str | None = None) -> dict:
    """Return a checkpoint's content, tensors on the CPU.

    Raises CheckpointError when it is missing, unreadable, of another format, or not of ``kind``.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}.")
    check_unpacked(path, path.stat().st_size)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch's restricted reader raises many kinds)
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
    for part in ("model", "average"):
        if part in content:
            check_weights(content[part], path)
    return content
