"""Where an encoder may come from: a run, scratch, or a source by name (``timm:NAME``)."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from partsig import registries, regular
from partsig.errors import ConfigError, nearest
from partsig.places import place_name
from partsig.runs.settings import SCRATCH, Shape

if TYPE_CHECKING:
    from torch import Tensor

    from partsig.core.encoder import Encoder

# What opens an encoder of this kind of name: called with the rest of the name, a file of weights or
# None, and the extent and the number of channels of the windows to come; it returns a
# ForeignEncoder, of other channels where it cannot help it: that is refused afterwards.
SOURCES = {"timm": "partsig.interop.vit:open_timm"}


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignEncoder:
    """An encoder that no run of ours has trained, for windows of any extent (*L).

    ``code`` (N + 1, E) are its position codes for the windows asked for, the last [CLS]'s; None
    where it has none. ``method`` is what it is called in a table.
    """

    encoder: "Encoder"
    patch: Shape
    n_channels: int
    code: "Tensor | None"
    method: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What ``--from`` names: a run's ``path``, or a ``source`` and a ``name`` in it, or neither.

    ``weights`` is the file that a source's weights are read from, where one was given.
    """

    path: Path | None = None
    source: str = ""
    name: str = ""
    weights: Path | None = None

    def __str__(self) -> str:
        if self.source:
            return f"{self.source}:{self.name}"
        return SCRATCH if self.path is None else str(self.path)

    @property
    def label(self) -> str:
        """What runs that start from it are called after; empty from scratch."""
        return self.name if self.source else "" if self.path is None else self.path.name

    @property
    def told(self) -> str:
        """What is told of it in what is passed on: a run by its name, not where it lies."""
        return str(self) if self.path is None else place_name(self.path)

    def facts(self) -> dict[str, str]:
        """Return what a run remembers of the weights, besides their name: the file's hash."""
        if self.weights is None:
            return {}
        with regular.open_bytes(self.weights) as handle:
            return {"weights_sha256": hashlib.file_digest(handle, "sha256").hexdigest()}

    def open(self, window: Shape, n_channels: int) -> ForeignEncoder:
        """Return a source's encoder for windows of this extent and so many channels."""
        opened = registries.load("--from", self.source, SOURCES, "encoders")
        return opened(self.name, self.weights, window, n_channels)


def parse(text: str | Path, weights: str | Path | None = None) -> Origin:
    """Return what ``--from`` names; raise ConfigError for a source that there is not.

    >>> str(parse("scratch")), str(parse("timm:vit_tiny_patch16_224")), str(parse("runs/a"))
    ('scratch', 'timm:vit_tiny_patch16_224', 'runs/a')
    """
    text = str(text)
    source, colon, _ = text.partition(":")
    known = bool(colon) and source in names()
    origin = recall(text)
    if weights is not None and not known:
        raise ConfigError(f"--weights is for an encoder of {_there_are()}, not for --from {text}.")
    if text == SCRATCH:
        return origin
    if origin.source:
        file = None if weights is None else Path(weights)
        if file is not None and not file.is_file():
            raise ConfigError(f"--weights {file}: there is no such file.")
        return replace(origin, weights=file)
    if known:
        raise ConfigError(f"--from {text}: the name is missing, such as {_there_are()}.")
    if colon and not Path(text).exists() and source.isidentifier() and len(source) > 1:
        close = nearest(source, names())
        told = f"nearest is {close}:…; " if close else ""
        raise ConfigError(
            f"--from {text}: there is no such source; {told}it can be a pretraining run, "
            f"{SCRATCH}, or {_there_are()}."
        )
    return origin


def recall(text: str | None) -> Origin:
    """Return what a run says that it started from (None: scratch); a folder may be gone since.

    >>> recall("timm:vit_tiny_patch16_224").name, recall("runs/a").path.name, recall(None).path
    ('vit_tiny_patch16_224', 'a', None)
    """
    if text in (None, SCRATCH):
        return Origin()
    source, _, name = text.partition(":")
    if name and source in names():
        return Origin(source=source, name=name)
    return Origin(path=Path(text))


def names() -> list[str]:
    """Return what sources there are, with those of plug-ins."""
    return [*SOURCES, *registries.plugged("encoders", SOURCES)]


def _there_are() -> str:
    return " or ".join(f"{source}:NAME" for source in names())
