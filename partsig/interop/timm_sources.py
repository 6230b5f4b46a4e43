"""``--from timm:NAME`` as an encoder that does not learn; and what every source of timm's shares.

NAME@SIZE gives it images of SIZE pixels a side instead of those that it was trained with.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from partsig.errors import ConfigError
from partsig.interop.timm_encoder import (
    INTERPOLATIONS,
    NEEDED,
    TimmEncoder,
    TimmEncoderConfig,
    facts_of,
    fetched,
    fit_size,
)
from partsig.interop.weights import (
    file_sha256,
    fill_strictly,
    read_weights,
    state_sha256,
    state_under,
)
from partsig.runs.encoder_sources import OpenedEncoder

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

SIZED = re.compile(r"(?P<name>[^@]+)(?:@(?P<size>\d{1,4}))?")


def split_size(text: str, source: str) -> tuple[str, int]:
    """Return NAME and SIZE (0 where there is none) of ``NAME@SIZE``; raise ConfigError for less.

    >>> split_size("convnext_atto@96", "timm"), split_size("convnext_atto", "timm")
    (('convnext_atto', 96), ('convnext_atto', 0))
    """
    match = SIZED.fullmatch(text)
    size = None if match is None else int(match["size"] or 0)
    if size is None or (match["size"] and not size):
        raise ConfigError(
            f"--from {source}:{text}: it is a name, or NAME@SIZE, such as "
            f"{source}:{text.partition('@')[0] or 'NAME'}@224."
        )
    return match["name"], size


def open_timm(text: str, weights: Path | None) -> OpenedEncoder:
    """Return an encoder of timm by its name, as its makers use it.

    ``weights`` is a file with its state dict (.pt, .pth, .safetensors), with or without its
    classifier; without one, timm's own cache, or what it fetches.

    Raises ConfigError for an unknown name, weights that are not of it, and what gives no maps.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(NEEDED) from None
    name, size = split_size(text, "timm")
    base, _, tag = name.partition(".")
    if base not in timm.list_models(base):
        near = difflib.get_close_matches(name, timm.list_models(f"{base[:3]}*"), n=1)
        told = f"; nearest is {near[0]!r}" if near else ""
        raise ConfigError(f"--from timm:{text}: timm has no such model{told}.")
    try:
        told = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # a tag that is none
        told = None
    if told is None:
        raise ConfigError(f"--from timm:{text}: timm has no weights {tag or base!r} for {base}.")
    encoder = TimmEncoder(config_of(name, told))  # what cannot be used is told before weights are
    if weights is None:
        state = fetched(name, f"timm:{text}").state_dict()
    else:
        state = without_classifier(
            state_under(read_weights(weights), ("model", "state_dict"), weights), told.classifier
        )
    fill_strictly(encoder.model, state, "it" if weights is None else f"--weights {weights}")
    return opened(
        encoder,
        size,
        method=f"timm:{text}",
        # Of a file that came under no tag, nobody knows whose weights they are.
        licence=told.license if weights is None or tag else None,
        sha256=state_sha256(state) if weights is None else file_sha256(weights),
    )


def config_of(name: str, told: "PretrainedCfg") -> TimmEncoderConfig:
    """Return what timm's model of this name is given, as it tells of its weights."""
    return TimmEncoderConfig(
        model=name,
        arguments={},
        size=told.input_size[1],
        mean=tuple(told.mean),
        std=tuple(told.std),
        interpolation=known_filter(told.interpolation),
    )


def known_filter(name: str) -> str:
    """Return how images are resized; timm's other filters, of a few models, are taken as bicubic.

    >>> known_filter("bilinear"), known_filter("random")
    ('bilinear', 'bicubic')
    """
    return name if name in INTERPOLATIONS else "bicubic"


def without_classifier(
    state: Mapping[str, Tensor], classifier: str | tuple[str, ...] | None
) -> dict[str, Tensor]:
    """Return weights without those of the layer, or layers, that timm calls the classifier."""
    layers = (classifier,) if isinstance(classifier, str) else classifier or ()
    heads = tuple(f"{layer}." for layer in layers)
    return {key: value for key, value in state.items() if not key.startswith(heads)}


def opened(
    encoder: TimmEncoder, size: int, *, method: str, licence: str | None, sha256: str
) -> OpenedEncoder:
    """Return an encoder that has its weights, for images of ``size`` pixels (0: its own)."""
    if size:
        fit_size(encoder.model, size)
        encoder.config = replace(encoder.config, size=size)
    check_works(encoder, method)
    return OpenedEncoder(
        encoder=encoder.eval().requires_grad_(False),
        method=method,
        facts=facts_of(encoder),
        licence=licence,
        sha256=sha256,
    )


@torch.inference_mode()
def check_works(encoder: TimmEncoder, method: str) -> None:
    """Raise ConfigError unless an encoder makes of one grey image what it says that it makes."""
    shape, channels = encoder.config, encoder.channels[0]
    grey = torch.full((1, channels, shape.size, shape.size), 128.0)
    try:
        made = encoder.eval().encode(grey, taps=(0, shape.depth - 1))
    except (AssertionError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--from {method} cannot be used at {shape.size} pixels ({reason})."
        ) from None
    widths = (made.pooled.shape[1], made.map.shape[1], *(one.shape[1] for one in made.maps))
    own = (encoder.pooled_width, shape.width, encoder.tap_widths[0], encoder.tap_widths[-1])
    if widths != own or not all(torch.isfinite(one).all() for one in (made.pooled, made.map)):
        raise ConfigError(
            f"--from {method} makes vectors and maps of widths {widths}, not {own}, or numbers "
            "that are not finite: it cannot be used."
        )
