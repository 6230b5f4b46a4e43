"""What decides a run on images."""

from dataclasses import dataclass, field
from typing import Annotated

from partsig.core.settings import EncoderConfig
from partsig.data.images.settings import AugmentConfig
from partsig.errors import ConfigError, check_range
from partsig.runs.settings import FinetuneRecipe, PretrainRecipe, Shape
from partsig.tasks.settings import SegmentationConfig
from partsig.train.settings import FitConfig

ENCODER = EncoderConfig(width=384, depth=12, heads=6)


def check_multiple(size: int, patch_px: int) -> None:
    """Raise ConfigError unless patches cover an image of this size, both in pixels."""
    if size % patch_px:
        raise ConfigError(f"size is {size}; it must be a multiple of patch_px ({patch_px}).")


@dataclass(frozen=True, kw_only=True)
class ImagePretrainConfig(PretrainRecipe):
    """Everything that decides a run on images; the defaults are the paper's CIFAR experiment.

    ViT-S/4 at 32² (METHOD: width 384, depth 12, 6 heads). What is not of images alone is
    :class:`PretrainRecipe`'s.
    """

    size: Annotated[int, "pixels of a side of an image; a multiple of patch_px"] = 32
    patch_px: Annotated[int, "pixels of a side of a patch"] = 4
    encoder: EncoderConfig = field(default_factory=lambda: ENCODER)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("patch_px", self.patch_px, 1)
        check_range("size", self.size, self.patch_px)
        check_multiple(self.size, self.patch_px)

    @property
    def two_views(self) -> bool:
        """Whether a window is two views of an image, side by side, which are compared."""
        return bool(getattr(self.objective, "context", 0))

    def extents(self, samples_per_unit: float) -> tuple[Shape, Shape]:
        window = (self.size, self.size * (2 if self.two_views else 1))
        return window, (self.patch_px, self.patch_px)


@dataclass(frozen=True, kw_only=True)
class ImageFinetuneConfig(FinetuneRecipe):
    """Everything that decides a fine-tuning run on images; the defaults train without tricks.

    DeiT's recipe, which the paper fine-tunes with, is the configuration ``image-finetune``. What is
    not of images alone is :class:`FinetuneRecipe`'s.
    """

    size: Annotated[
        int,
        "pixels of a side; 0 is what the store holds (larger stored images are cropped at the "
        "centre where nothing is learned)",
    ] = 0
    patch_px: Annotated[
        int,
        "pixels of a side of a patch, --from scratch only; a pretrained run brings its own, and "
        "only that may be repeated here",
    ] = 4
    repeats: Annotated[
        int,
        "copies of an image in a batch, each augmented anew, so that an epoch sees fewer images "
        "(arXiv 1901.09335; DeiT: 3)",
    ] = 1
    encoder: Annotated[EncoderConfig, "--from scratch only"] = field(
        default_factory=lambda: ENCODER
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    segmentation: Annotated[SegmentationConfig, "of tasks that give each pixel a class"] = field(
        default_factory=SegmentationConfig
    )
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=400, batch_size=256))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("size", self.size, 0)
        for name in ("patch_px", "repeats"):
            check_range(name, getattr(self, name), 1)

    def extents(self, samples_per_unit: float, unit_s: float | None) -> tuple[Shape, Shape]:
        return (self.size, self.size), (self.patch_px, self.patch_px)

    def patch_of(self, pretrained: ImagePretrainConfig) -> dict[str, object]:
        return {"patch_px": pretrained.patch_px}

    def patch_from(self, patch: Shape, samples_per_unit: float) -> dict[str, object]:
        return {"patch_px": patch[0]}
