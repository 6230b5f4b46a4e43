"""How images are changed in training: settings, which need no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from partsig.errors import check_range


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How an image is changed each time it is seen.

    *Differs from DeiT*, whose operations of RandAugment are timm's: none inverts, posterising
    leaves 4 bits or more, what moves is interpolated linearly. Each of the two operations is done
    with a chance of a half, the magnitude drawn with an SD of 0.5, as in DeiT; the noise of
    ``erase`` is DeiT's standard normal one once the image is normalised.
    """

    crop: Annotated[
        Literal["none", "pad", "resized"],
        "none, what the store holds; pad, a random crop after padding by an eighth (CIFAR's: 4 of "
        "32); resized, a random part, resized (Inception's)",
    ] = "none"
    area: Annotated[float, "least share of an image that crop=resized takes"] = 0.08
    flip: Annotated[float, "chance of a left-right mirror image"] = 0.0
    randaugment: Annotated[
        float, "magnitude of RandAugment (Cubuk et al. 2020), as DeiT has it; 0 is off"
    ] = 0.0
    jitter: Annotated[
        float, "strength of changes of brightness, contrast and saturation; 0 is off"
    ] = 0.0
    hue: Annotated[float, "strength of changes of hue, in turns of the colour circle"] = 0.0
    grey: Annotated[float, "chance that an image of three channels loses its colour"] = 0.0
    blur: Annotated[
        float, "chance that an image is blurred, by a Gaussian of a tenth of a side at most"
    ] = 0.0
    erase: Annotated[
        float,
        "chance that a box is replaced by noise of the image's mean and SD (Zhong et al. 2020)",
    ] = 0.0

    def __post_init__(self) -> None:
        check_range("augment.area", self.area, 0.01, 1.0)
        check_range("augment.flip", self.flip, 0.0, 1.0)
        check_range("augment.randaugment", self.randaugment, 0.0, 10.0)
        check_range("augment.jitter", self.jitter, 0.0, 1.0)
        check_range("augment.hue", self.hue, 0.0, 0.5)
        check_range("augment.grey", self.grey, 0.0, 1.0)
        check_range("augment.blur", self.blur, 0.0, 1.0)
        check_range("augment.erase", self.erase, 0.0, 1.0)
