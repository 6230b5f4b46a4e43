"""``torchvision:vgg19`` with a file of its weights: VGG's maps after every ReLU, not learning.

What part discovery and SCOPS look through (relu3_2 and relu5_4 of VGG19 are its blocks 5 and 15,
counted from 0); timm's VGG gives maps before each pooling only. ``vgg19@SIZE`` resizes images to
SIZE pixels a side; without it they are taken as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.frozen_encoder import Encoded, FrozenEncoder
from partsig.core.normalise import widened
from partsig.errors import CheckpointError, ConfigError, check_option
from partsig.interop.timm_sources import split_size
from partsig.interop.weights import file_sha256, fill_strictly, read_weights, state_under
from partsig.runs.encoder_sources import OpenedEncoder

NEEDED = "torchvision is needed: pip install 'partsig[images]'."
# Files as torchvision publishes them; the weights' licence is not told there.
FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}
LARGEST = 4096
# torchvision.transforms, ImageNet.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class VggConfig:
    """Which VGG, for images of ``size`` pixels a side (0: as they come)."""

    model: str
    size: int
    width: int = 512
    depth: int = 0


class VggEncoder(FrozenEncoder):
    """The convolutions of a VGG; its blocks are its ReLUs. Images are of 3 channels, or of 1."""

    rank = 2
    channels = (3, 1)

    def __init__(self, config: VggConfig) -> None:
        super().__init__()
        try:
            from torchvision import models
        except ImportError:
            raise ConfigError(NEEDED) from None
        # Without its classifier, which has most of its weights.
        self.features = getattr(models, config.model)(weights=None).features
        widths = [layer.out_channels for layer in self.features if isinstance(layer, nn.Conv2d)]
        self.tap_widths = tuple(widths)
        self.pooled_width = widths[-1]
        self.config = VggConfig(model=config.model, size=config.size, depth=len(widths))
        for name, values in (("mean", MEAN), ("std", STD)):
            shaped = torch.tensor(values).view(-1, 1, 1)
            self.register_buffer(name, shaped, persistent=False)

    def encode(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        self.check(taps, project)
        if norm:
            raise ConfigError(f"{self.config.model} has no last norm; leave norm out.")
        x = widened(x)
        size = self.config.size
        if size and tuple(x.shape[2:]) != (size, size):
            x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
        x = (x.expand(-1, 3, -1, -1) / 255 - self.mean) / self.std
        after: list[Tensor] = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                after.append(x)
        last = after[-1]
        return Encoded(
            pooled=last.mean((2, 3)),
            map=last,
            cls=None,
            maps=tuple(after[tap] for tap in taps),
            prefix=(None,) * len(taps),
        )


def open_torchvision(text: str, weights: Path | None) -> OpenedEncoder:
    """Return a VGG with the weights of a file as torchvision publishes it.

    Raises ConfigError for another name, without a file, and for weights that are not its own.
    """
    name, size = split_size(text, "torchvision")
    check_option("--from torchvision", name, FILES)
    if weights is None:
        raise ConfigError(
            f"torchvision:{name} needs its file of weights, such as {FILES[name]}: pass --weights "
            "FILE, or --set objective.phi_weights=FILE."
        )
    encoder = build({"builder": "torchvision", "model": name, "size": size})
    theirs = state_under(read_weights(weights), ("model", "state_dict"), weights)
    state = {
        key.removeprefix("features."): value
        for key, value in theirs.items()
        if not key.startswith("classifier.")
    }
    fill_strictly(encoder.features, state, f"the weights {weights}")
    return OpenedEncoder(
        encoder=encoder.eval().requires_grad_(False),
        method=f"torchvision:{text}",
        facts={"builder": "torchvision", "model": name, "size": size},
        licence=None,
        sha256=file_sha256(weights),
    )


def build(facts: Mapping[str, Any]) -> VggEncoder:
    """Return a VGG without its weights; raise CheckpointError for facts that are damaged."""
    name, size = facts.get("model"), facts.get("size")
    if name not in FILES or not isinstance(size, int) or not 0 <= size <= LARGEST:
        raise CheckpointError(f"what is told of the encoder is damaged ({name!r}, {size!r}).")
    return VggEncoder(VggConfig(model=name, size=size))
