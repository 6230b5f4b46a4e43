"""A network of timm as a segmenter of parts: its last map at an output stride of 8, and one layer.

The stand-in for DeepLab on a ResNet-50 (Choudhury et al. 2021; SCOPS): the backbone's last stages
are dilated in place of strided. *Differs from DeepLab v2* in its head, one 1 x 1 convolution where
that has four dilated ones added up.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partsig.core.normalise import widened
from partsig.errors import CheckpointError, ConfigError
from partsig.interop.timm_encoder import NEEDED, fetched
from partsig.interop.timm_sources import without_classifier
from partsig.interop.weights import fill_strictly, read_weights, state_under

STRIDE = 8
PRETRAINED = "pretrained"  # in place of a file of weights: timm fetches its own


class TimmSegmenter(nn.Module):
    """Parts of images (B, C, H, W), 0 to 255, as logits (B, K, H / 8, W / 8)."""

    def __init__(
        self, model: str, channels: int, parts: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.backbone = _created(model)
        self.head = nn.Conv2d(int(self.backbone.num_features), parts, 1)
        for name, values in (("mean", mean), ("std", std)):
            shaped = torch.tensor(values).view(-1, 1, 1)
            self.register_buffer(name, shaped, persistent=False)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        x = widened(x)
        if self.channels == 1:
            x = x.expand(-1, 3, -1, -1)
        return self.head(self.backbone.forward_features((x / 255 - self.mean) / self.std))


def open_segmenter(
    name: str, weights: str | None, parts: int, channels: int
) -> tuple[TimmSegmenter, dict[str, Any]]:
    """Return a segmenter, and what a run tells of it for :func:`build_segmenter`.

    ``weights``: a file with the backbone's (timm's names, which are torchvision's for a ResNet),
    pretrained, or None: drawn at random by torch's own generator. Raises ConfigError for a network
    that there is not, or that cannot be dilated, and for weights that are not its own.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(NEEDED) from None
    told = timm.get_pretrained_cfg(name) if _is_known(name) else None
    if told is None:
        raise ConfigError(
            f"objective.segmenter={name}: it can be maps, or a network of timm such as resnet50."
        )
    if channels not in (1, 3):
        raise ConfigError(f"objective.segmenter={name} takes images of 3 channels or 1.")
    facts = {
        "model": name,
        "channels": channels,
        "parts": parts,
        "mean": list(told.mean),
        "std": list(told.std),
    }
    made = build_segmenter(facts)
    if weights == PRETRAINED:
        state = fetched(name, f"objective.segmenter={name}").state_dict()
        fill_strictly(made.backbone, state, "it")
    elif weights is not None:
        file = Path(weights)
        if not file.is_file():
            raise ConfigError(f"objective.segmenter_weights {file}: there is no such file.")
        state = state_under(read_weights(file), ("model", "state_dict"), file)
        state = without_classifier(state, told.classifier)
        fill_strictly(made.backbone, state, f"objective.segmenter_weights {file}")
    return made, facts


def build_segmenter(facts: Mapping[str, Any]) -> TimmSegmenter:
    """Return a segmenter without its weights; raise CheckpointError for facts that are damaged."""
    try:
        mean, std = (tuple(float(v) for v in facts[key]) for key in ("mean", "std"))
        parts, channels, model = int(facts["parts"]), int(facts["channels"]), str(facts["model"])
        if not _is_known(model) or not 2 <= parts <= 256 or channels not in (1, 3):
            raise ValueError(f"{model}, {parts} parts, {channels} channels")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError("mean or std")
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"what is told of the segmenter is damaged ({reason}).") from None
    return TimmSegmenter(model, channels, parts, mean, std)


def _is_known(name: str) -> bool:
    import timm

    base = name.partition(".")[0]
    return base in timm.list_models(base)


def _created(name: str) -> nn.Module:
    import timm

    try:
        base = name.partition(".")[0]
        return timm.create_model(base, pretrained=False, num_classes=0, output_stride=STRIDE)
    except (TypeError, NotImplementedError, AssertionError, ValueError):
        raise ConfigError(
            f"objective.segmenter={name} cannot be given an output stride of {STRIDE}; a ResNet or "
            "an EfficientNet can."
        ) from None
