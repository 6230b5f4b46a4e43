"""Where an encoder may come from: a run, scratch, or a source by name (``timm:NAME``).

A source gives encoders of partsig's own class, which can be trained on, or such as are used as they
are (:class:`~partsig.core.frozen_encoder.FrozenEncoder`), or both.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsig import registries, regular
from partsig.errors import CheckpointError, ConfigError, nearest
from partsig.places import place_name
from partsig.runs.settings import SCRATCH, Shape

if TYPE_CHECKING:
    from torch import Tensor

    from partsig.core.encoder import Encoder
    from partsig.core.frozen_encoder import FrozenEncoder

# What opens an encoder of this kind of name: called with the rest of the name, a file of weights or
# None, and the extent and the number of channels of the windows to come; it returns a
# ForeignEncoder, of other channels where it cannot help it: that is refused afterwards.
SOURCES = {"timm": "partsig.interop.vit:open_timm"}
# What opens an encoder that is used as it is: called with the rest of the name and a file of
# weights or None, it returns an OpenedEncoder.
FROZEN_SOURCES = {
    "timm": "partsig.interop.timm_sources:open_timm",
    "official": "partsig.interop.official:open_official",
    "packaged": "partsig.interop.packaged:open_packaged",
    "torchvision": "partsig.interop.torchvision_encoder:open_torchvision",
}
# What builds such an encoder without weights, from what a run tells of it: by its ``builder``.
BUILDERS = {
    "timm": "partsig.interop.timm_encoder:build",
    "torchvision": "partsig.interop.torchvision_encoder:build",
    "run": "partsig.runs.perceiving:build_run",
}
# What a run, or an exported folder, tells of such an encoder by: OpenedEncoder.facts.
FROZEN = "frozen_encoder"
FROZEN_GROUP = "frozen_encoders"  # the entry points of plug-ins that offer such


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignEncoder:
    """An encoder that no run of ours has trained, for windows of any extent (*L).

    ``code`` (N + 1, E) are its position codes for the windows asked for, the last [CLS]'s; None
    where it has none. ``method`` is what it is called in a table; ``licence`` its weights', as
    whoever made them tells it, and ``sha256`` theirs, where they came from no file.
    """

    encoder: "Encoder"
    patch: Shape
    n_channels: int
    code: "Tensor | None"
    method: str
    licence: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedEncoder:
    """An encoder that is used as it is, with what is told of its weights.

    ``method`` is what it is called in a table. ``facts`` are plain values that a ``builder`` of
    :data:`BUILDERS`, which they name, builds it from without weights. ``licence`` is the weights',
    ``sha256`` that of their file, or of themselves.
    """

    encoder: "FrozenEncoder"
    method: str
    facts: Mapping[str, Any]
    licence: str | None
    sha256: str


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

    @property
    def is_used_as_it_is(self) -> bool:
        """Whether its source gives encoders that do not learn."""
        return self.source in _offered(FROZEN_SOURCES, FROZEN_GROUP)

    @property
    def can_be_trained(self) -> bool:
        """Whether its source gives encoders of partsig's own class."""
        return self.source in _offered(SOURCES, "encoders")

    def open_frozen(self) -> OpenedEncoder:
        """Return a source's encoder as it is; :func:`partsig.runs.frozen.open_frozen` any."""
        opened = registries.load("--from", self.source, FROZEN_SOURCES, FROZEN_GROUP)
        return opened(self.name, self.weights)


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


def rebuild(facts: Mapping[str, Any], n_channels: int) -> "FrozenEncoder":
    """Return an encoder without its weights, from what an :class:`OpenedEncoder` told of it.

    Raises CheckpointError where that is damaged, or of another number of channels, ConfigError for
    a builder that there is not.
    """
    name = facts.get("builder") if isinstance(facts, Mapping) else None
    if not isinstance(name, str):
        raise CheckpointError("what is told of the encoder names no builder: it is damaged.")
    encoder = registries.load("builder", name, BUILDERS, "encoder_builders")(facts)
    if n_channels not in encoder.channels:
        raise CheckpointError(
            f"what is told of the encoder is damaged: it takes "
            f"{' or '.join(map(str, encoder.channels))} channels, not {n_channels}."
        )
    return encoder


def names() -> list[str]:
    """Return what sources there are, with those of plug-ins."""
    return list(
        dict.fromkeys(
            [*_offered(SOURCES, "encoders"), *_offered(FROZEN_SOURCES, FROZEN_GROUP)],
        )
    )


def _offered(own: Mapping[str, str], group: str) -> list[str]:
    return [*own, *registries.plugged(group, own)]


def _there_are() -> str:
    return " or ".join(f"{source}:NAME" for source in names())
