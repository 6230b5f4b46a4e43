"""Augmentations of images, by torchvision; every draw depends on (seed, epoch, place) alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How an image is changed each time it is seen.

    crop: none, what the store holds; pad, a random crop after padding by an eighth (CIFAR's usual:
        4 of 32); or resized, a random part of ``area`` (least share), resized (Inception's).
    flip: chance of a left-right mirror image.
    randaugment: magnitude of RandAugment (Cubuk et al. 2020; two operations); 0 is off.
    jitter: strength of brightness, contrast and saturation; 0 is off.
    erase: chance that a box is erased (Zhong et al. 2020).
    """

    crop: Literal["none", "pad", "resized"] = "none"
    area: float = 0.08
    flip: float = 0.0
    randaugment: int = 0
    jitter: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        check_range("augment.area", self.area, 0.01, 1.0)
        check_range("augment.flip", self.flip, 0.0, 1.0)
        check_range("augment.randaugment", self.randaugment, 0, 30)
        check_range("augment.jitter", self.jitter, 0.0, 1.0)
        check_range("augment.erase", self.erase, 0.0, 1.0)


class Windows(Protocol):
    """What is pretrained on: a fixed number of windows an epoch, drawn by (seed, epoch)."""

    per_epoch: int

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, *L)."""

    def suspects(self, epoch: int, first: int, count: int) -> str:
        """Say what lies behind a batch whose loss is not finite."""


class Augmented:
    """Images (C, H, W) uint8 of any windows, augmented."""

    def __init__(self, windows: Windows, config: AugmentConfig, size: int, seed: int) -> None:
        self.windows, self.seed = windows, seed
        self._change = transform(config, size)

    @property
    def changes(self) -> bool:
        """Whether anything is done to the images at all."""
        return self._change is not None

    @property
    def per_epoch(self) -> int:
        return self.windows.per_epoch

    @per_epoch.setter
    def per_epoch(self, number: int) -> None:
        self.windows.per_epoch = number

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return images first…first+count-1 of an epoch, (count, C, size, size) uint8."""
        images = self.windows.batch(epoch, first, count)
        if self._change is None:
            return images
        images = torch.from_numpy(images)
        return augmented(images, self._change, [self.seed, epoch], first).numpy()

    def suspects(self, epoch: int, first: int, count: int) -> str:
        """Say what lies behind a batch whose loss is not finite."""
        return self.windows.suspects(epoch, first, count)


def augmented(
    images: torch.Tensor, change: Callable, seeds: list[int], first: int = 0
) -> torch.Tensor:
    """Return images (B, C, H, W) uint8 changed one by one, the draws told by ``seeds``.

    Image i's draws depend on ``seeds`` and ``first + i`` alone, however a batch is cut.
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        for place, image in enumerate(images, first):
            drawn = np.random.SeedSequence([*seeds, place, 34]).generate_state(1, np.uint64)
            torch.manual_seed(int(drawn[0] >> 1))
            found.append(change(image))
    return torch.stack(found)


def transform(config: AugmentConfig, size: int) -> Callable | None:
    """Return what changes one image (C, H, W) uint8 to ``size``; None where nothing is changed.

    Raises ConfigError where torchvision is not installed.
    """
    if config == AugmentConfig(area=config.area):
        return None
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise ConfigError("augment.… needs torchvision: pip install 'partsig[images]'.") from None
    steps: list[Callable] = []
    if config.crop == "pad":
        steps.append(v2.RandomCrop(size, padding=size // 8))
    elif config.crop == "resized":
        steps.append(
            v2.RandomResizedCrop(
                size,
                scale=(config.area, 1.0),
                interpolation=v2.InterpolationMode.BICUBIC,
                antialias=True,
            )
        )
    if config.flip:
        steps.append(v2.RandomHorizontalFlip(config.flip))
    if config.randaugment:
        steps.append(v2.RandAugment(num_ops=2, magnitude=config.randaugment))
    if config.jitter:
        steps.append(v2.ColorJitter(config.jitter, config.jitter, config.jitter))
    if config.erase:
        steps.append(v2.RandomErasing(config.erase))
    return v2.Compose(steps)
