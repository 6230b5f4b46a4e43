"""Augmentations of images, by torchvision; every draw depends on (seed, epoch, place) alone."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

from partsig.contracts import Windows
from partsig.data.images.settings import AugmentConfig
from partsig.data.images.windows import OverWindows
from partsig.errors import ConfigError
from partsig.seeds import Stream, seed_of


class Augmented(OverWindows):
    """Images (C, H, W) uint8 of any windows, augmented."""

    def __init__(self, windows: Windows, config: AugmentConfig, size: int, seed: int) -> None:
        super().__init__(windows)
        self.seed = seed
        self._change = transform(config, size)

    @property
    def changes(self) -> bool:
        """Whether anything is done to the images at all."""
        return self._change is not None

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return images first…first+count-1 of an epoch, (count, C, size, size) uint8."""
        images = self.windows.batch(epoch, first, count)
        if self._change is None:
            return images
        images = torch.from_numpy(images)
        return self._changed(images, epoch, first).numpy()

    def _changed(self, images: torch.Tensor, epoch: int, first: int) -> torch.Tensor:
        return augmented(images, self._change, self.seed, epoch, first)


class TwoViews(Augmented):
    """Two views of every image, changed apart, side by side: (C, size, 2 · size) uint8.

    Raises ConfigError where nothing changes an image: its views would be one.
    """

    def __init__(self, windows: Windows, config: AugmentConfig, size: int, seed: int) -> None:
        super().__init__(windows, config, size, seed)
        if not self.changes:
            raise ConfigError(
                "objective.context compares two views of an image, and nothing makes them differ: "
                "pass --set augment.crop=resized, and more of augment.…, see partsig config."
            )

    def _changed(self, images: torch.Tensor, epoch: int, first: int) -> torch.Tensor:
        views = [
            augmented(images, self._change, self.seed, epoch, first, view) for view in range(2)
        ]
        return torch.cat(views, dim=-1)


def augmented(
    images: torch.Tensor, change: Callable, seed: int, epoch: int, first: int = 0, view: int = 0
) -> torch.Tensor:
    """Return images (B, C, H, W) uint8 changed one by one.

    Image i's draws depend on seed, epoch, ``first + i`` and ``view`` alone, however a batch is cut.
    """
    changed = []
    with torch.random.fork_rng(devices=[]):
        for place, image in enumerate(images, first):
            counts = (epoch, place, view) if view else (epoch, place)
            # torch.manual_seed asks every other device, too, which is longer than a crop takes.
            torch.default_generator.manual_seed(seed_of(Stream.AUGMENTATION, seed, *counts))
            changed.append(change(image))
    return torch.stack(changed)


def transform(config: AugmentConfig, size: int) -> Callable | None:
    """Return what changes one image (C, H, W) uint8 to ``size``; None where nothing is changed.

    Raises ConfigError where torchvision is not installed.
    """
    if config == AugmentConfig(area=config.area):
        return None
    v2 = _torchvision()
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
        steps.append(RandAugment(config.randaugment))
    if config.jitter or config.hue:
        steps.append(v2.ColorJitter(config.jitter, config.jitter, config.jitter, config.hue))
    if config.grey:
        steps.append(v2.RandomGrayscale(config.grey))
    if config.blur:
        kernel = max(size // 10, 1) | 1  # odd; SimCLR's, a tenth of the side
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, (0.1, 2.0))], config.blur))
    if config.erase:
        steps.append(Erasing(config.erase))
    return v2.Compose(steps)


def _torchvision() -> ModuleType:
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise ConfigError("augment.… needs torchvision: pip install 'partsig[images]'.") from None
    return v2


class RandAugment:
    """RandAugment with a noisy magnitude, see :class:`AugmentConfig`."""

    GREY = 116  # what is moved in from outside: about the mean of natural images

    def __init__(self, magnitude: float) -> None:
        v2 = _torchvision()
        self.magnitude = magnitude
        linear = v2.InterpolationMode.BILINEAR
        self.at = [
            v2.RandAugment(num_ops=1, magnitude=step, interpolation=linear, fill=self.GREY)
            for step in range(31)  # torchvision's magnitudes, to whose 30 ours of 10 is equal
        ]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image (C, H, W) uint8 changed by none, one or two operations."""
        for _ in range(2):
            if torch.rand(()) < 0.5:
                drawn = self.magnitude + 0.5 * torch.randn(()).item()
                image = self.at[round(3 * min(max(drawn, 0.0), 10.0))](image)
        return image


class Erasing:
    """Random erasing by noise like the image, see :class:`AugmentConfig`."""

    def __init__(self, chance: float) -> None:
        self.box = _torchvision().RandomErasing(chance)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image (C, H, W) uint8, a box of it replaced or none."""
        kept = self.box(torch.ones(1, *image.shape[1:])) > 0
        if kept.all():
            return image
        spread, mean = torch.std_mean(image.float(), dim=(1, 2), keepdim=True)
        noise = (mean + spread * torch.randn(image.shape)).round().clamp(0, 255)
        return torch.where(kept, image, noise.to(image.dtype))
