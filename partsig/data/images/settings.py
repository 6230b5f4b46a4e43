"""How images are stored, and changed in training: settings, which need no torch."""

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


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessConfig:
    """What a store of images holds.

    The short side of an image becomes ``size`` and the centre is kept, by Pillow's bicubic filter
    (antialiased; JPEG is decoded at 1/2, 1/4 or 1/8 while twice the size remains). With
    ``val_role`` test the images of a folder ``val`` are kept for the end, as ImageNet's 50,000 are
    usually reported, and ``val_share`` of training validates.

    Part data sets (:mod:`~partsig.data.images.part_datasets`) can be cut: a whole image is treated
    as above; an object, or a part told by its mask, is the square about the middle of its box, as
    long as its longer side and ``margin`` of that on each side; a part told by a keypoint is a
    square about it by ``patch_rule``. What lies outside of the image is black, and 255 in masks.
    """

    size: Annotated[
        int | None,
        "pixels of a side; null: 224 for files (112 where cut is parts), 32 for cifar10 and "
        "cifar100, 8 for digits",
    ] = None
    grey: Annotated[bool, "store the luma (ITU-R BT.601) in place of red, green and blue"] = False
    val_share: Annotated[
        float,
        "share of the training images held out for validation, by the hash of their names, where "
        "the source has no validation images",
    ] = 0.05
    val_role: Annotated[Literal["val", "test"], "what the images of a folder val are for"] = "val"
    classes: Annotated[
        tuple[str, ...], "part data sets: species, breeds or categories that are taken; [] is all"
    ] = ()
    cut: Annotated[
        Literal["image", "object", "parts"],
        "part data sets: image, whole ones; object, a square about each object; parts, a square "
        "about each part, the label being the part's name",
    ] = "image"
    margin: Annotated[
        float, "part data sets: what is added on each side, as a share of a box's longer side"
    ] = 0.05
    parts: Annotated[
        tuple[str, ...],
        "part data sets, cut=parts: which are cut out; [] is the published selection, or all where "
        "there is none",
    ] = ()
    patch_rule: Annotated[
        Literal["code", "paper"],
        "cut=parts by keypoints: side of the square; code, half the distance to the nearest chosen "
        "keypoint (taken from 40 to 2000 px), which published numbers were made with; paper, that "
        "distance (from 20 to 1000 px)",
    ] = "code"
    paint: Annotated[
        Literal["in_order", "reversed"],
        "pascal-part: which of overlapping parts is seen in masks; in_order, the later in the file "
        "(eyes on the head); reversed, the earlier (the head hides them), as part discovery "
        "published it",
    ] = "in_order"
    background: Annotated[
        Literal["ignored", "class"],
        "part data sets: pixels of no part in masks; ignored (255), as published, or a last class",
    ] = "ignored"
    least_area: Annotated[
        float, "pascal-part, cut=object: share of the image that an object's box covers at least"
    ] = 0.0
    least_area_test: Annotated[
        float | None, "the same of test images; null is least_area (part discovery: 0.1 and 0.2)"
    ] = None
    disputed: Annotated[
        Literal["ignored", "background"],
        "cub200: pixels that some of five people called bird, not all; ignored (255), or "
        "background, as part discovery has it",
    ] = "ignored"

    def __post_init__(self) -> None:
        if self.size is not None:
            check_range("size", self.size, 1, 4096)
        check_range("val_share", self.val_share, 0.0, 0.9)
        check_range("margin", self.margin, 0.0, 2.0)
        check_range("least_area", self.least_area, 0.0, 1.0)
        if self.least_area_test is not None:
            check_range("least_area_test", self.least_area_test, 0.0, 1.0)
